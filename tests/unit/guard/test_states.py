"""guard/reaper.py, guard/lost.py and the ledger together, against a model of the service, in any order of events.

The ledger is the real one. Processes are names; each reaper runs on a thread of its own and stops before every call
of the ledger and of the service, so that others act in between, and so that it can die there.
"""

from __future__ import annotations

import atexit
import itertools
import math
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule

from pytest_bbre import SessionInfo
from pytest_bbre.errors import ConnectionLostError, ServiceError
from pytest_bbre.guard.door import CLOSED, ENDED, FAILED, GONE, Closed, Listing, Service
from pytest_bbre.guard.leases import OPENING, Lease, Moment, Wanted
from pytest_bbre.guard.ledger import SqliteLedger
from pytest_bbre.guard.owners import ALIVE, DEAD, UNKNOWN, Judgement
from pytest_bbre.guard.post import UnreachedError
from pytest_bbre.guard.reaper import Reaper, Report, sweep_lapsed

LIMIT = 6  # sessions of the account
PATIENCE = 40.0  # seconds for which the asker of a create waits, and for which it may be in flight
TIMEOUT = 10_000.0  # seconds: sessions do not end by themselves while the machine runs, so that reaping has to do it
MODES = ("passive", "adaptive")
_accounts = itertools.count()


class Died(BaseException):
    """What a process meets when it is killed."""


@dataclass
class Opening:
    """One session, from the wish for it to its end, as the process that opens it goes along."""

    owner: str
    mode: str
    lease: Lease
    stage: str = "leased"  # sent, answered, refused, open, closing, over, lost
    sent: float | None = None
    session: str | None = None
    evicted: bool = False


@dataclass
class Remote:
    """A session on the service."""

    opening: Opening | None  # None: of another machine
    mode: str
    created: float
    instance: str
    active: bool = True


class World:
    """The machine's clocks, its processes, and the service."""

    def __init__(self, exclusive: bool, offset: float, tells_time: bool) -> None:
        self.exclusive = exclusive
        self.offset = offset
        self.tells_time = tells_time
        self.steady = 1000.0
        self.wall = 1_700_000_000.0
        self.server = 1_700_000_000.0 + offset
        self.states: dict[str, str] = {}  # of the processes
        self.sessions: dict[str, Remote] = {}
        self.instance = "engine-0"
        self.up = True
        self.failures: list[str] = []
        self.numbers = itertools.count()
        self.harmed: list[str] = []

    def now(self) -> Moment:
        return Moment(self.wall, self.steady, "boot")

    def advance(self, seconds: float) -> None:
        self.steady += seconds
        self.wall += seconds
        self.server += seconds

    def judge(self, owner: str) -> Judgement:
        return Judgement(UNKNOWN if owner.startswith("far") else self.states[owner], "as the test has it")

    # The service.

    def active(self) -> dict[str, Remote]:
        return {key: one for key, one in self.sessions.items() if one.active}

    def create(self, opening: Opening | None, mode: str) -> str | None:
        if len(self.active()) >= LIMIT:
            return None
        name = f"session-{next(self.numbers)}"
        self.sessions[name] = Remote(opening, mode, self.server, self.instance)
        return name

    def close(self, name: str) -> bool:
        one = self.sessions.get(name)
        was_active = one is not None and one.active
        if one is not None:
            one.active = False
        return was_active


class ModelDoor:
    """The way to the service, for one process."""

    service = Service("http://127.0.0.1:1", "key", retry_min=2.0, retry_max=2.0)

    def __init__(self, world: World, pause: Callable[[], None], harms: Callable[[Remote], bool]) -> None:
        self.world = world
        self.pause = pause
        self.harms = harms
        self.engine: str | None = None

    def close(self, session_id: str, engine: str | None = None, *, within: float | None = None) -> Closed:
        self.pause()
        world = self.world
        if not world.up:
            return Closed(GONE if engine else FAILED, "refused")
        fault = world.failures.pop(0) if world.failures else ""
        if fault == "fail":
            return Closed(FAILED, "SERVICE_ERROR")
        self.engine = world.instance
        if engine not in (None, world.instance):
            return Closed(GONE)
        remote = world.sessions.get(session_id)
        if remote is not None and remote.active and self.harms(remote):
            world.harmed.append(session_id)
        was_active = world.close(session_id)
        if fault == "lose":
            return Closed(FAILED, "the connection was lost")
        return Closed(CLOSED if was_active else ENDED)

    def active(self, *, within: float | None = None) -> Listing:
        self.pause()
        world = self.world
        if not world.up:
            error = UnreachedError("refused")
            error.refused_here = True
            raise error
        if world.failures:
            raise {"fail": ServiceError, "lose": ConnectionLostError}[world.failures.pop(0)]("as the test has it")
        self.engine = world.instance
        sessions = [
            SessionInfo(
                name,
                mode=one.mode,
                status="active",
                created_at=datetime.fromtimestamp(one.created, timezone.utc) if world.tells_time else None,
            )
            for name, one in reversed(world.active().items())
        ]
        return Listing(sessions, math.floor(world.server) + 0.5 - world.wall, 1.0, world.instance)


class Stopping:
    """A ledger that stops before each call."""

    def __init__(self, ledger: SqliteLedger, pause: Callable[[], None]) -> None:
        self._ledger = ledger
        self._pause = pause

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._ledger, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._pause()
            return found(*args, **kwargs)

        return call


class Actor:
    """Something that runs on a thread of its own, from one `pause` to the next, as it is told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.done = False
        self.error: BaseException | None = None
        self._dying = False
        self._go = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)

    def start(self, body: Callable[[], Any]) -> None:
        self._thread = threading.Thread(target=self._run, args=(body,), daemon=True)
        self._thread.start()

    def pause(self) -> None:
        if not self._dying:
            self._stopped.release()
            self._go.acquire()
        if self._dying:
            raise Died

    def step(self) -> None:
        self._go.release()
        self._stopped.acquire()
        if self.error is not None:
            raise self.error

    def die(self) -> None:
        self._dying = True
        self._go.release()
        self._thread.join()
        self.done = True

    def _run(self, body: Callable[[], Any]) -> None:
        self._go.acquire()
        try:
            if not self._dying:
                body()
        except Died:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self.done = True
            self._stopped.release()


class Ledgers:
    """One ledger for all examples, each with an account of its own: making one takes longer than an example."""

    ledger: SqliteLedger | None = None

    @classmethod
    def get(cls) -> SqliteLedger:
        if cls.ledger is None:
            folder = tempfile.mkdtemp(prefix="bbre-states-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            cls.ledger = SqliteLedger(os.path.join(folder, "state", "ledger.db"))
        return cls.ledger


class Guarded(RuleBasedStateMachine):
    """No session of a living owner is ever closed by others, and none of a dead owner is left open or forgotten."""

    owners = Bundle("owners")
    openings = Bundle("openings")
    actors = Bundle("actors")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledgers.get()
        self.account = f"account-{next(_accounts)}"
        self.names = itertools.count()
        self.running: list[Actor] = []
        self.all: list[Opening] = []

    @initialize(
        target=owners,
        exclusive=st.booleans(),
        offset=st.sampled_from([0.0, 0.3, -7200.5, 3600.25]),
        tells_time=st.just(True),
    )
    def begin(self, exclusive: bool, offset: float, tells_time: bool) -> Any:
        self.world = World(exclusive, offset, tells_time)
        return multiple(*(self.process(far) for far in (False, False, True)))

    # Processes.

    @rule(target=owners)
    def one_more(self) -> str:
        return self.process(False)

    def process(self, far: bool) -> str:
        name = f"{'far' if far else 'here'}-{next(self.names)}"
        self.world.states[name] = ALIVE
        self.ledger.enrol(self.account, name, "program", self.world.now())
        return name

    @rule(owner=owners)
    def dies(self, owner: str) -> None:
        self.world.states[owner] = DEAD
        for actor in self.running:
            if actor.name == owner and not actor.done:
                actor.die()

    def lives(self, opening: Opening, *stages: str) -> bool:
        return self.world.states[opening.owner] == ALIVE and opening.stage in stages

    # Sessions.

    @rule(target=openings, owner=owners, mode=st.sampled_from(MODES), evictable=st.booleans(), steps=st.integers(0, 4))
    def opens(self, owner: str, mode: str, evictable: bool, steps: int) -> Opening | None:
        opening = self.take(owner, mode, evictable)
        if opening is not None:
            self.goes_on(opening, steps)
        return opening

    @rule(target=openings, mode=st.sampled_from(MODES), steps=st.integers(1, 3))
    def opens_and_dies(self, mode: str, steps: int) -> Opening | None:
        """A process of its own: before its create arrives, before the answer does, or with an open session."""
        owner = self.process(False)
        opening = self.opens(owner, mode, False, steps)
        self.dies(owner)
        return opening

    @rule(opening=openings, steps=st.integers(1, 3))
    def goes_on(self, opening: Opening | None, steps: int) -> None:
        """What its process does next if all goes well, and the service with it."""
        nexts: dict[str, Callable[[Opening], None]] = {
            "leased": self.create_leaves,
            "sent": self.create_arrives,
            "answered": self.answer_arrives,
            "refused": self.answer_arrives,
            "open": self.begins_to_close,
            "closing": self.closes,
            "closed": self.ends_the_lease,
        }
        for _ in range(steps):
            if opening is not None and self.lives(opening, *nexts):
                nexts[opening.stage](opening)

    def take(self, owner: str, mode: str, evictable: bool) -> Opening | None:
        if self.world.states[owner] != ALIVE:
            return None
        wanted = Wanted(
            self.account,
            owner,
            mode=mode,
            timeout=TIMEOUT,
            patience=PATIENCE,
            evictable=evictable,
            exclusive=self.world.exclusive,
        )
        got = self.ledger.take(wanted, LIMIT, self.world.now())
        if not isinstance(got, Lease):
            self.ledger.withdraw(got.ticket)
            return None
        self.all.append(Opening(owner, mode, got))
        return self.all[-1]

    def create_leaves(self, opening: Opening | None) -> None:
        if opening and self.world.up and self.lives(opening, "leased"):
            opening.stage, opening.sent = "sent", self.world.steady

    @rule(opening=openings)
    def create_arrives(self, opening: Opening | None) -> None:
        """Whether or not anybody still waits for the answer."""
        if opening is None or opening.sent is None:
            return
        in_time, opening.sent = self.world.steady - opening.sent <= PATIENCE, None
        if not in_time:
            return
        opening.session = self.world.create(opening, opening.mode)
        if opening.stage == "sent":
            opening.stage = "answered" if opening.session else "refused"

    def answer_arrives(self, opening: Opening | None) -> None:
        if opening and self.lives(opening, "answered"):
            opening.stage = "open"
            instance = self.world.sessions[str(opening.session)].instance
            key, now = opening.lease.key, self.world.now()
            assert self.ledger.opened(key, str(opening.session), instance, TIMEOUT, now), "its lease was taken away"
        elif opening and self.lives(opening, "refused"):
            opening.stage = "over"
            self.ledger.withdraw(self.ledger.refuse(opening.lease.key, 1.0, self.world.now()))

    @rule(opening=openings, settles=st.booleans())
    def answer_is_lost(self, opening: Opening | None, settles: bool) -> None:
        """Its asker tells the ledger, and looks for the session; it will not use it, whatever comes."""
        if opening and self.lives(opening, "sent", "answered", "refused"):
            opening.stage = "lost"
            self.ledger.failed(opening.lease.key, "no answer", self.world.now())
            if settles:
                self.acts(opening.owner, lambda reaper: reaper.settle_lost(opening.lease.key, 3.0))

    @rule(opening=openings)
    def uses(self, opening: Opening | None) -> None:
        if opening and self.lives(opening, "open"):
            self.ledger.touch(opening.lease.key, self.world.now())

    def begins_to_close(self, opening: Opening | None) -> None:
        if opening and self.lives(opening, "open"):
            opening.stage = "closing"
            self.ledger.closing(opening.lease.key)

    def closes(self, opening: Opening | None) -> None:
        if opening and self.lives(opening, "closing"):
            opening.stage = "closed"
            self.world.close(str(opening.session))

    @rule(opening=openings)
    def close_fails(self, opening: Opening | None) -> None:
        if opening and self.lives(opening, "closing"):
            opening.stage = "open"
            self.ledger.failed(opening.lease.key, "SERVICE_ERROR", self.world.now())

    def ends_the_lease(self, opening: Opening | None) -> None:
        if opening and self.lives(opening, "closed"):
            opening.stage = "over"
            self.ledger.end(opening.lease.key)

    @rule(owner=owners)
    def evicts(self, owner: str) -> None:
        """For a newcomer, who dies or closes it in the next steps."""
        if self.world.states[owner] != ALIVE or owner.startswith("far"):
            return
        lease = self.ledger.evict(self.account, owner, owner, 5.0, self.world.now())
        if lease is None:
            return
        evicted = next(one for one in self.all if one.lease.key == lease.key)
        evicted.evicted, evicted.stage = True, "over"
        actor = Actor(owner)
        door = ModelDoor(self.world, actor.pause, lambda remote: False)
        ledger: Any = Stopping(self.ledger, actor.pause)

        def close() -> None:
            if door.close(str(lease.session_id), lease.engine).holds_no_slot:
                ledger.end(lease.key)
            else:
                ledger.unclaim(lease.key, owner, "SERVICE_ERROR", self.world.now())

        self.running.append(actor)
        actor.start(close)

    # Reapers.

    def acts(self, name: str, what: Callable[[Reaper], object]) -> Actor:
        actor = Actor(name)
        reaper = self.reaper(name, actor.pause)
        self.running.append(actor)
        actor.start(lambda: what(reaper))
        return actor

    def reaper(self, name: str, pause: Callable[[], None]) -> Reaper:
        world = self.world

        def sleep(seconds: float) -> None:
            pause()
            world.advance(seconds)

        door: Any = ModelDoor(world, pause, self.harms)
        ledger: Any = Stopping(self.ledger, pause)
        return Reaper(ledger, self.account, door, name, judge=world.judge, now=world.now, at_once=1, sleep=sleep)

    def harms(self, remote: Remote) -> bool:
        """Whether somebody may use the session still, or is just about to."""
        opening = remote.opening
        if opening is None:
            return True
        if opening.owner.startswith("far"):
            return opening.stage != "lost" and not opening.evicted
        return self.world.states[opening.owner] == ALIVE and opening.stage != "lost" and not opening.evicted

    @rule(target=actors)
    def reaper_starts(self) -> Actor:
        name = f"here-{next(self.names)}"
        self.world.states[name] = ALIVE

        def sweeps(reaper: Reaper) -> None:
            for _ in range(4):
                reaper.sweep()

        return self.acts(name, sweeps)

    @rule(steps=st.sampled_from([1, 1, 2, 3, 5, 8, 20]), which=st.integers(0, 9))
    def something_acts(self, steps: int, which: int) -> None:
        going = [actor for actor in self.running if not actor.done]
        for _ in range(steps):
            if going and not going[which % len(going)].done:
                going[which % len(going)].step()

    @rule(times=st.integers(1, 3))
    def all_is_swept(self, times: int) -> None:
        """By a reaper that is not interrupted."""
        name = self.process(False)
        reaper = self.reaper(name, lambda: None)
        for _ in range(times):
            due = reaper.sweep().next_due
            self.world.advance(min(due or 0.1, 2.0))
        self.world.states[name] = DEAD

    @rule(actor=actors)
    def reaper_dies(self, actor: Actor) -> None:
        self.world.states[actor.name] = DEAD
        if not actor.done:
            actor.die()

    @rule()
    def lapsed_are_swept(self) -> None:
        sweep_lapsed(self.ledger, self.world.judge, self.world.now(), self.account)

    # The world.

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.0, 2.5, 10.0, 45.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(seconds=st.sampled_from([-86_400.0, -5.0, 5.0, 3600.0, 1e8]))
    def clock_is_set(self, seconds: float) -> None:
        self.world.wall += seconds

    @rule(faults=st.lists(st.sampled_from(["fail", "lose"]), max_size=3))
    def service_fails(self, faults: list[str]) -> None:
        self.world.failures = list(faults)

    @rule(restarts=st.booleans())
    def engine_stops(self, restarts: bool) -> None:
        if self.world.up:
            self.world.up = False
            for one in self.world.sessions.values():
                one.active = False
            for opening in self.all:
                opening.sent = None
            if restarts:
                self.engine_starts()

    @rule()
    def engine_starts(self) -> None:
        if not self.world.up:
            self.world.up, self.world.instance = True, f"engine-{next(self.names)}"

    @precondition(lambda self: not self.world.exclusive)
    @rule(mode=st.sampled_from(MODES))
    def another_machine_opens(self, mode: str) -> None:
        if self.world.up:
            self.world.create(None, mode)

    # What always holds.

    @invariant()
    def nobody_is_harmed(self) -> None:
        assert not self.world.harmed, "a session was closed that somebody uses"

    @invariant()
    def slots_are_not_exceeded(self) -> None:
        now = self.world.now()
        holding = [lease for lease in self.ledger.leases(self.account) if lease.holds_slot(now)]
        assert len(holding) <= LIMIT, "more slots were given away than there are"

    @invariant()
    def nothing_is_forgotten(self) -> None:
        """Each active session is known to somebody who will close it: by id, or as lost."""
        leases = self.ledger.leases(self.account)
        known = {lease.session_id for lease in leases}
        keys = {lease.key for lease in leases if lease.session_id is None}
        for name, one in self.world.active().items():
            if one.opening is not None and name not in known:
                assert keys, f"{name} is forgotten"  # any of them: which one is its own cannot be known

    # The end of all.

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        for actor in self.running:
            if not actor.done:
                actor.die()
        for name in world.states:
            world.states[name] = DEAD
        world.failures.clear()
        world.up = True
        for opening in self.all:
            self.create_arrives(opening)
        reports = self.sweeps_until_nothing_is_due()
        self.nobody_is_harmed()
        far = {one.lease.key for one in self.all if one.owner.startswith("far")}
        theirs = {name for name, one in world.active().items() if one.opening is None or one.opening.lease.key in far}
        leases = {lease.key: lease for lease in self.ledger.leases(self.account)}
        left = {key: lease for key, lease in leases.items() if key not in far}
        stays_open = set(world.active()) - theirs
        told = {one.session_id for report in reports for one in report.lost}
        assert stays_open <= told, "somebody should have been told"
        assert all(lease.session_id is None for lease in left.values()), f"left in the ledger: {left}"
        # Only the owner knows whether a session that is just being opened from elsewhere is not the one that is lost.
        doubtful = any(key in far and lease.state == OPENING for key, lease in leases.items())
        if world.exclusive and not doubtful:
            assert not stays_open, f"left open: {stays_open}"
            assert not left, f"left in the ledger: {left}"
        world.advance(2 * TIMEOUT)
        self.sweeps_until_nothing_is_due()
        assert not {lease.key for lease in self.ledger.leases(self.account)} - far
        assert not [one for one in self.ledger.enrolled(self.account) if not one.owner.startswith("far")]

    def sweeps_until_nothing_is_due(self) -> list[Report]:
        name = f"here-{next(self.names)}"
        self.world.states[name] = ALIVE
        reaper = self.reaper(name, lambda: None)
        reports: list[Report] = []
        until = self.world.steady + 20 * PATIENCE
        while self.world.steady < until:
            reports.append(reaper.sweep())
            due = reports[-1].next_due
            if due is None:
                break
            self.world.advance(max(due, 0.01))
        return reports


TestGuarded = Guarded.TestCase
TestGuarded.settings = settings(
    max_examples=int(os.environ.get("STATES_EXAMPLES", "80")),
    stateful_step_count=int(os.environ.get("STATES_STEPS", "40")),
    derandomize="STATES_EXAMPLES" not in os.environ,
    deadline=None,
    database=None,
    phases=[phase for phase in Phase if "STATES_FAST" not in os.environ or phase is not Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
