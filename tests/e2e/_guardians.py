"""Guardians as the tests see them: by their logs and by /proc; and how to wait for what comes of them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from _process import LIMIT

from pytest_bbre.guard.ledger import SqliteLedger

if TYPE_CHECKING:
    from conftest import Service


def until(done: Callable[[], object], what: str) -> None:
    """Waits until something is so, looking every 10 ms."""
    give_up = time.monotonic() + LIMIT
    while not done():
        assert time.monotonic() < give_up, f"never: {what}"
        time.sleep(0.01)


class Guardians:
    """The guardians of one ledger, asked from the ledger and from /proc."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ledger: SqliteLedger | None = None

    @property
    def ledger(self) -> SqliteLedger:
        """The test's own look at it."""
        if self._ledger is None:
            self._ledger = SqliteLedger(str(self.folder / "ledger.db"))
        return self._ledger

    def pids(self) -> list[int]:
        """Processes that guard with this ledger, by what their logs say, which still are guardians."""
        said = "".join(path.read_text() for path in self.folder.glob("guardian-*.log*"))
        found = {int(pid) for pid in re.findall(r"\[(\d+)\] guards", said)}
        return sorted(pid for pid in found if _is_guardian(pid))

    def one(self) -> int:
        """The only one, as soon as there is exactly one."""
        until(lambda: len(self.pids()) == 1, "exactly one guardian")
        return self.pids()[0]

    def gone(self) -> None:
        """Waits until there is none."""
        until(lambda: not self.pids(), "no guardian any more")

    def close(self) -> None:
        """Lets go of the ledger."""
        if self._ledger is not None:
            self._ledger.close()


def _is_guardian(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        return Path(f"/proc/{pid}/comm").read_text() == "bbre-guardian\n" and ") Z " not in stat
    except OSError:
        return False


def freed(service: Service) -> None:
    """Waits until the service has no active session."""
    until(lambda: not service.active(), "nothing is active")
