"""Knows what those share who wait for slots of one account in one process: who is first, and what was done for all.
Must not know how they wait.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from ..errors import LedgerError
from .leases import Ledger

LOOK_AGAIN: Final = 1.0  # seconds: should a wake-up be lost, this is what it costs; and how often the dead are reaped
TELL_AGAIN: Final = 10.0  # seconds between two lines of progress of one process, however many wait in it; our choice
LONGEST: Final = 60.0  # seconds between two tries to tell the ledger something


class Line:
    """The waiting ones of one process. Only the first looks at the ledger when the process is woken: a slot that the
    first can't have is none for those behind it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tickets: set[int] = set()
        self._told = self._reaped = float("-inf")
        self._reaper: threading.Thread | None = None

    def change(self, old: int | None, new: int | None) -> None:
        """One of them has another ticket than before; None for no ticket."""
        with self._lock:
            if old is not None:
                self._tickets.discard(old)
            if new is not None:
                self._tickets.add(new)

    def is_first(self, ticket: int | None) -> bool:
        """Whether nobody here has an earlier ticket."""
        with self._lock:
            return ticket is None or min(self._tickets, default=ticket) >= ticket

    def may_tell(self) -> bool:
        """Whether people have not been told for a while. Who asks tells them."""
        with self._lock:
            if time.monotonic() - self._told < TELL_AGAIN:
                return False
            self._told = time.monotonic()
            return True

    def may_reap(self) -> bool:
        """Whether it is time to look for dead owners. Who asks does so."""
        with self._lock:
            if time.monotonic() - self._reaped < LOOK_AGAIN:
                return False
            self._reaped = time.monotonic()
            return True

    def reap(self, reap: Callable[[], object]) -> None:
        """Reaps on a thread of its own, so that the waiting ones stay awake. One such thread at a time."""
        with self._lock:
            if self._reaper is None or not self._reaper.is_alive():
                self._reaper = _start(reap)

    def withdraw(self, ledger: Ledger, ticket: int, wake: Callable[[str | None], object]) -> None:
        """Gives a ticket up; if the ledger fails just now, then later: a ticket that is left behind would keep others
        waiting for as long as this process lives.
        """

        def again() -> None:
            pause = LOOK_AGAIN
            while not _is_withdrawn(ledger, ticket, wake):
                time.sleep(pause)
                pause = min(pause * 2, LONGEST)

        if not _is_withdrawn(ledger, ticket, wake):
            _start(again)


def _is_withdrawn(ledger: Ledger, ticket: int, wake: Callable[[str | None], object]) -> bool:
    try:
        wake(ledger.withdraw(ticket))
    except LedgerError:
        return False
    return True


def _start(work: Callable[[], object]) -> threading.Thread | None:
    try:
        thread = threading.Thread(target=work, name="bbre-slots", daemon=True)
        thread.start()
    except RuntimeError:  # no thread can be started, as the interpreter is ending: others reap what is left
        return None
    return thread
