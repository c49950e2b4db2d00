"""guardian.py, log.py and the reading of a task, in this process: what a guardian does, and when it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from _scripted import LIMIT

from pytest_bbre import BBREClient, Settings
from pytest_bbre.engine import Engine
from pytest_bbre.errors import LedgerError
from pytest_bbre.guard import __main__ as entry
from pytest_bbre.guard import guardian as module
from pytest_bbre.guard import owners, wake
from pytest_bbre.guard.door import Door, Service
from pytest_bbre.guard.guardian import Guardian
from pytest_bbre.guard.leases import Lease, Wanted, moment
from pytest_bbre.guard.ledger import SqliteLedger
from pytest_bbre.guard.log import LARGEST, Log, path_of
from pytest_bbre.guard.reaper import Reaper

ACCOUNT = "account"
ELSEWHERE = "another machine/boot/pid/1/1"


class Owned:
    """A real process that owns leases."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        here, started = owners.here(), owners._started(self.process.pid)
        assert started is not None
        self.text = str(here._replace(pid=self.process.pid, started=started))

    def kill(self) -> None:
        """Ends it, at once."""
        self.process.kill()
        self.process.wait(LIMIT)
        if self.process.stdin is not None:
            self.process.stdin.close()


class World:
    """A ledger, a service, and guardians of one account."""

    def __init__(self, folder: str, settings: Settings) -> None:
        self.folder = folder
        self.ledger = SqliteLedger(os.path.join(folder, "ledger.db"))
        self.its_own = SqliteLedger(self.ledger.path)  # the guardian's: as in a process of its own
        self.lines: list[str] = []
        self.service = Service(settings.base_url, settings.api_key, retry_min=0.0, retry_max=0.0)
        self.client = BBREClient(settings=settings)
        self._threads: list[threading.Thread] = []

    def guardian(self, me: str | None = None) -> Guardian:
        """One that has not claimed the account yet."""
        me = me or str(owners.here())
        reaper = Reaper(self.its_own, ACCOUNT, Door(self.service), me)
        return Guardian(self.its_own, self.folder, ACCOUNT, me, reaper, self.lines.append)

    def start(self, guardian: Guardian) -> threading.Thread:
        """Has it guard."""
        assert guardian.claim()
        thread = threading.Thread(target=guardian.run, daemon=True)
        thread.start()
        self._threads.append(thread)
        return thread

    def lease(self, owner: str) -> Lease:
        """An open session of a process."""
        now = moment(owners.boot_id())
        self.ledger.enrol(ACCOUNT, owner, "test", now)
        taken = self.ledger.take(Wanted(ACCOUNT, owner), 10, now)
        assert isinstance(taken, Lease)
        info = self.client.create_session()
        self.ledger.opened(taken.key, info.id, info.engine, 300.0, now)
        return taken

    def end(self) -> None:
        """Nothing runs any more."""
        for thread in self._threads:
            thread.join(LIMIT)
            assert not thread.is_alive(), self.lines
        self.client.close_sessions(list(self.client.list_sessions("active")))
        self.client.close()
        self.ledger.close()
        self.its_own.close()


@pytest.fixture
def world(tmp_path: Path, settings: Settings) -> Iterator[World]:
    """With a folder of the test's own."""
    made = World(str(tmp_path), settings)
    yield made
    made.end()


@pytest.fixture
def process() -> Iterator[Owned]:
    """A process that owns leases."""
    made = Owned()
    yield made
    made.kill()


def until(done: Callable[[], object]) -> None:
    give_up = time.monotonic() + LIMIT
    while not done():
        assert time.monotonic() < give_up
        time.sleep(0.005)


@pytest.mark.parametrize("pidfd", [True, False])
def test_it_closes_what_a_dead_process_left(
    world: World, engine: Engine, process: Owned, monkeypatch: pytest.MonkeyPatch, pidfd: bool
):
    """With an event for the death, and without one; then nothing is left to guard, and it ends."""
    if not pidfd:
        monkeypatch.setattr(owners, "watch", lambda owner: None)
    world.lease(process.text)
    guarding = world.start(world.guardian())
    assert len(engine.sessions()) == 1
    process.kill()
    guarding.join(LIMIT)
    assert engine.sessions() == []
    assert (world.ledger.leases(), world.ledger.enrolled(), world.ledger.guardian(ACCOUNT)) == ([], [], None)
    assert any(line.startswith("closed session_") for line in world.lines)


def test_it_stays_for_as_long_as_a_process_lives(world: World, engine: Engine, process: Owned):
    """Also for one that holds nothing just now; and it hears of the one that comes later."""
    world.ledger.enrol(ACCOUNT, process.text, "test", moment(owners.boot_id()))
    guarding = world.start(world.guardian())
    later = Owned()
    world.lease(later.text)
    wake.ring(world.folder, wake.guardian_bell(ACCOUNT))
    later.kill()
    until(lambda: not engine.sessions())
    assert guarding.is_alive()
    process.kill()
    guarding.join(LIMIT)
    assert not guarding.is_alive()


def test_only_one_serves(world: World, process: Owned):
    """One that lives goes first; one that is dead does not."""
    first, second = world.guardian(process.text), world.guardian()
    assert first.claim()
    assert not second.claim()
    process.kill()
    assert second.claim()
    second._leave()
    first._leave()


def test_it_ends_where_another_serves(world: World, process: Owned):
    """The ledger says who serves; whoever it does not name has nothing to do."""
    world.ledger.enrol(ACCOUNT, process.text, "test", moment(owners.boot_id()))
    guarding = world.start(world.guardian())
    assert world.ledger.serve(ACCOUNT, process.text, str(owners.here()))
    wake.ring(world.folder, wake.guardian_bell(ACCOUNT))
    guarding.join(LIMIT)
    assert not guarding.is_alive()
    assert world.ledger.guardian(ACCOUNT) == process.text


def test_it_ends_when_told(world: World, engine: Engine, process: Owned):
    """It leaves what lives alone."""
    world.lease(process.text)
    guardian = world.guardian()
    guarding = world.start(guardian)
    guardian.stop()
    guarding.join(LIMIT)
    assert not guarding.is_alive()
    assert len(engine.sessions()) == 1


def test_what_can_not_be_judged_keeps_no_guardian(world: World, engine: Engine):
    """A process of another machine is not reaped, and not waited for."""
    world.lease(ELSEWHERE)
    guarding = world.start(world.guardian())
    guarding.join(LIMIT)
    assert not guarding.is_alive()
    assert len(engine.sessions()) == len(world.ledger.leases()) == 1


def test_a_ledger_that_fails_for_a_while(world: World, engine: Engine, process: Owned, monkeypatch: pytest.MonkeyPatch):
    """It is tried again, and nothing is forgotten."""
    monkeypatch.setattr(module, "AFTER_TROUBLE", (0.01,))
    world.lease(process.text)
    failing = iter(range(3))

    def guardian_of(account: str) -> str | None:
        if next(failing, None) is not None:
            raise LedgerError("the disk is full")
        return SqliteLedger.guardian(world.its_own, account)

    guardian = world.guardian()
    assert guardian.claim()
    monkeypatch.setattr(world.its_own, "guardian", guardian_of)
    process.kill()
    guardian.run()
    assert engine.sessions() == []
    assert sum("the disk is full" in line for line in world.lines) == 3


def test_a_ledger_that_fails_for_good(world: World, monkeypatch: pytest.MonkeyPatch):
    """It gives up: the next process that opens a session starts another."""
    monkeypatch.setattr(module, "AFTER_TROUBLE", (0.001,))
    guardian = world.guardian()
    assert guardian.claim()

    def broken(account: str) -> str | None:
        raise LedgerError("it is gone")

    monkeypatch.setattr(world.its_own, "guardian", broken)
    guardian.run()
    assert len(world.lines) == module.MOST_TROUBLE + 1


# The log.


def test_the_log_is_small_and_private(tmp_path: Path):
    """It and the one before it are all there is, whatever is told; only its user reads it; the secret is in neither."""
    log = Log(path_of(str(tmp_path), "0123456789abcdef"), "s3cret")
    assert os.path.basename(log.path) == "guardian-01234567.log"
    for number in range(3000):
        log(f"line {number} with s3cret\nand \x1b[31m")
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["guardian-01234567.log", "guardian-01234567.log.1"]
    for file in files:
        assert file.stat().st_size <= LARGEST + 200
        assert file.stat().st_mode & 0o077 == 0
        assert b"s3cret" not in file.read_bytes()
        assert b"\x1b" not in file.read_bytes()
    assert "line 2999 with *** and" in files[0].read_text()


def test_the_log_follows_no_link(tmp_path: Path):
    """What a link leads to is not written to; nor does a log that can't be written stop anything."""
    (tmp_path / "target").write_text("")
    os.symlink(tmp_path / "target", tmp_path / "log")
    Log(str(tmp_path / "log"), "")("line")
    Log(str(tmp_path / "no folder" / "log"), "")("line")
    assert (tmp_path / "target").read_text() == ""


# The task.


def read(data: bytes) -> dict[str, Any]:
    out, into = os.pipe()
    writing = threading.Thread(target=lambda: (os.write(into, data), os.close(into)))
    writing.start()
    try:
        return entry.read_task(out)
    finally:
        os.close(out)
        writing.join(LIMIT)


TASK = {"protocol": 1, "path": "/p", "account": "a", "base_url": "http://b", "api_key": "k", "times": [1, 2, 3, 4]}


def test_a_task_is_read():
    """One JSON object with all its fields."""
    assert read(json.dumps(TASK).encode()) == TASK


@pytest.mark.parametrize("name", TASK)
def test_a_task_that_lacks_a_field_is_refused(name: str):
    """The message holds nothing of it."""
    with pytest.raises(ValueError, match=r"^(a field is missing|it is of another version)$"):
        read(json.dumps({field: value for field, value in TASK.items() if field != name}).encode())


def test_an_answer_that_nobody_hears_is_no_error():
    """Whoever started the guardian may have died meanwhile."""
    out, into = os.pipe()
    os.close(out)
    entry.answer(into, {"serving": True})
    os.close(into)
