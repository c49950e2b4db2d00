"""Processes that share the slots of one account, against an engine that would refuse an eleventh session."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from _process import LIMIT, Process, Starter

from pytest_bbre import BBREClient
from pytest_bbre.engine import Engine
from pytest_bbre.guard.ledger import SqliteLedger

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the guard is proven on POSIX systems")

# What every process begins with: the parts of the guard that take part in waiting, and a client.
PROLOGUE = """
from pytest_bbre import BBREClient, errors
from pytest_bbre.guard import owners, wake
from pytest_bbre.guard.door import Door, Service
from pytest_bbre.guard.leases import Wanted, moment
from pytest_bbre.guard.ledger import SqliteLedger
from pytest_bbre.guard.reaper import Reaper
from pytest_bbre.guard.slots import Place

ME = str(owners.here())
client = BBREClient()
door = Door(Service(client.settings.base_url, client.settings.api_key, retry_min=0, retry_max=0))
ledger = SqliteLedger(os.environ["LEDGER"])
bell = wake.Bell(ledger.folder, wake.bell_of(ME))


def now():
    return moment(owners.boot_id())


def ring(owner):
    if owner is not None:
        wake.ring(ledger.folder, wake.bell_of(owner))


reaper = Reaper(ledger, "account", door, ME, wake=ring)


class Session:
    def __init__(self, limit=10, scoped=False, place="", slot_timeout=60.0):
        wanted = Wanted("account", ME, "main", scoped=scoped, place=place)
        close = lambda lease: door.close(lease.session_id, lease.engine)
        self.place = Place(
            ledger, wanted, limit=limit, slot_timeout=slot_timeout, evict_after=None, bell=bell, close=close,
            reap=reaper.sweep, wake=ring, tell=lambda line: say("told", line), cancelled=lambda: None,
        )
        self.lease = self.place.wait()
        self.refusals = 0
        while True:
            try:
                info = client.create_session()
                break
            except errors.SessionLimitReachedError as error:
                self.refusals += 1
                self.lease = self.place.refused(error)
        self.id = info.id
        ledger.opened(self.lease.key, info.id, info.engine, 300.0, now())

    def close(self):
        ledger.closing(self.lease.key)
        client.close_session(self.id)
        ring(ledger.end(self.lease.key))


say("ready")
while not os.path.exists(os.environ["GO"]):
    time.sleep(0.01)
"""


class Office:
    """An engine with ten slots, a ledger, and processes that share both."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self.engine = engine
        self._go = folder / "go"
        path = str(folder / "state" / "ledger.db")
        self.ledger = SqliteLedger(path)
        environment = {**engine.environ(), "LEDGER": path, "GO": str(self._go)}
        self.starter = Starter(folder, environment)

    def start(self, source: str, count: int = 1) -> list[Process]:
        """Starts processes that wait until all of them are there."""
        script = self.starter.script(PROLOGUE + source)
        processes = [self.starter.command(sys.executable, str(script), NUMBER=str(one)) for one in range(count)]
        for process in processes:
            process.wait_for("ready")
        self._go.touch()
        return processes

    def active(self) -> set[str]:
        """The sessions that the engine has."""
        return {one.id for one in self.engine.sessions()}

    def until(self, done: Callable[[], bool]) -> None:
        """Waits for something that the ledger or the engine tells."""
        give_up = time.monotonic() + LIMIT
        while not done():
            assert time.monotonic() < give_up
            time.sleep(0.01)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """Ten slots for all; nothing is left of them at the end."""
    with Engine(max_sessions=10) as engine:
        made = Office(tmp_path, engine)
        yield made
        made.starter.kill_all()
        made.ledger.close()


HOLD = """
session = Session(limit=LIMIT)
say("got", session.id)
rest("holding")
"""
USE = """
session = Session(limit=LIMIT)
say("got", session.id)
session.close()
"""


def test_sixteen_processes_on_ten_slots(office):
    """160 sessions of sixteen processes are opened without one refusal, and nobody is overtaken by more than there are
    slots.
    """
    source = """
for _ in range(10):
    session = Session()
    say("lease", session.lease.number, session.lease.opened.steady)
    time.sleep(0.02)
    session.close()
"""
    ended = [process.end() for process in office.start(source, 16)]
    assert [one.status for one in ended] == [0] * 16, [one.err for one in ended]
    totals = office.engine.totals()
    # The engine refuses an eleventh session. It refused none: as many were opened as were asked for.
    assert (office.engine.calls("create"), totals["opened"], totals["closed"], totals["active"]) == (160, 160, 160, 0)
    assert office.ledger.leases() == office.ledger.queue("account") == []
    told = [line.split() for one in ended for line in one.said if line.startswith("lease")]
    grants = [int(number) for _, number, at in sorted(told, key=lambda one: float(one[2]))]
    assert len(set(grants)) == 160
    for index, number in enumerate(grants):
        assert sum(later < number for later in grants[index + 1 :]) < 10


def test_a_waiter_that_is_killed_gives_its_place_up(office):
    """Who waits behind a process that was killed gets the next slot."""
    (holder,) = office.start(HOLD.replace("LIMIT", "1"))
    first_id = holder.wait_for("got")
    (killed,) = office.start(USE.replace("LIMIT", "1"))
    office.until(lambda: len(office.ledger.queue("account")) == 1)
    (waiter,) = office.start(USE.replace("LIMIT", "1"))
    office.until(lambda: len(office.ledger.queue("account")) == 2)
    killed.send(signal.SIGKILL)
    killed.status()
    with BBREClient(str(office.engine.api_key), office.engine.base_url) as client:
        client.close_session(first_id)
    office.ledger.end(office.ledger.leases()[0].key)  # whose wake-up would have been for the killed one
    assert waiter.wait_for("got") != first_id
    assert waiter.end().status == 0
    assert office.ledger.queue("account") == []


def test_a_holder_that_is_killed_makes_room(office):
    """The slot of a killed process is freed by who waits for it; a living neighbour keeps its own."""
    dead, living = office.start(HOLD.replace("LIMIT", "2"), 2)
    lost, kept = dead.wait_for("got"), living.wait_for("got")
    (waiter,) = office.start(HOLD.replace("LIMIT", "2"))
    office.until(lambda: len(office.ledger.queue("account")) == 1)
    assert office.active() == {lost, kept}
    dead.send(signal.SIGKILL)
    assert dead.status() == -signal.SIGKILL
    assert office.active() <= {lost, kept, waiter.wait_for("got")}
    assert office.active() == {kept, waiter.wait_for("got")}


def test_a_stopped_holder_keeps_its_slot(office):
    """A process that is only stopped is not robbed of its session: who waits for it gets an error that names it."""
    (holder,) = office.start(HOLD.replace("LIMIT", "1"))
    kept = holder.wait_for("got")
    holder.send(signal.SIGSTOP)
    source = """
try:
    Session(limit=1, slot_timeout=1.5)
except errors.SlotTimeoutError as error:
    say("error", error.holders[0])
"""
    (waiter,) = office.start(source)
    assert f"process {holder.pid}" in waiter.wait_for("error")
    assert office.active() == {kept}
    holder.send(signal.SIGCONT)


def test_a_circle_of_ten_processes(office):
    """Ten processes that each hold a session and want another: one is told who holds what and where, closes its own,
    and all others go on.
    """
    source = """
number = os.environ["NUMBER"]
first = Session(scoped=True, place=f"test_shop.py::test_{number} (setup)")
while sum(lease.state == "open" for lease in ledger.leases()) < 10 and not ledger.queue("account"):
    time.sleep(0.01)
try:
    Session(scoped=True, place=f"test_shop.py::test_{number} (call)", slot_timeout=None).close()
    say("served")
except errors.SlotCircleError as error:
    say("circle", sum(f"test_{one} (setup)" in str(error) for one in range(10)),
        sum(f"waits for another at test_shop.py::test_{one} (call)" in str(error) for one in range(10)))
first.close()
"""
    ended = [process.end() for process in office.start(source, 10)]
    assert [one.status for one in ended] == [0] * 10, [one.err for one in ended]
    said = sorted(line for one in ended for line in one.said if line.split()[0] in ("served", "circle"))
    assert said == ["circle 10 10", *["served"] * 9]
    assert (office.active(), office.ledger.leases()) == (set(), [])


def test_others_use_the_account_too(office):
    """Slots that outsiders hold are no error: who is refused by the service waits until one of them comes free."""
    with BBREClient(str(office.engine.api_key), office.engine.base_url) as outsider:
        outside = [outsider.create_session().id for _ in range(10)]
        processes = office.start(
            """
session = Session()
say("refusals", session.refusals)
session.close()
""",
            2,
        )
        refused = office.engine.calls("create")
        office.until(lambda: office.engine.calls("create") >= refused + 2)
        outsider.close_session(outside[0])
        ended = [process.end() for process in processes]
        assert [one.status for one in ended] == [0, 0], [one.err for one in ended]
        assert office.active() == set(outside[1:])
        outsider.close_sessions(outside[1:])
    assert office.ledger.leases() == office.ledger.queue("account") == []
