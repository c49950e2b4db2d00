"""How a slot is waited for: by threads on a real ledger, each in the name of a process of its own."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_bbre.errors import (
    LedgerError,
    SessionLimitReachedError,
    ShuttingDownError,
    SlotCircleError,
    SlotTimeoutError,
)
from pytest_bbre.guard import slots
from pytest_bbre.guard.door import CLOSED, FAILED, Closed
from pytest_bbre.guard.leases import Lease, Moment, Wanted, moment
from pytest_bbre.guard.ledger import SqliteLedger
from pytest_bbre.guard.line import Line
from pytest_bbre.guard.owners import ALIVE, DEAD, Judgement, boot_id
from pytest_bbre.guard.slots import Place
from pytest_bbre.guard.wake import Bell, bell_of, ring

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the guard is proven on POSIX systems")

LIMIT = 20.0  # seconds that any wait may take
ACCOUNT = "account"


def now() -> Moment:
    """The time."""
    return moment(boot_id())


def judge(owner: str) -> Judgement:
    """An owner's name says whether it lives."""
    state = DEAD if owner.startswith("dead") else ALIVE
    return Judgement(state, f"{owner} is {state}")


class Waiter:
    """Somebody who waits on a thread of its own."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.result: Any = None
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        try:
            self.result = self.place.wait()
        except BaseException as error:
            self.result = error

    def end(self) -> Any:
        """What came of it."""
        self._thread.join(LIMIT)
        assert not self._thread.is_alive(), "it waits for ever"
        return self.result


class Office:
    """One account of a ledger. Each owner has a bell, as if it were a process."""

    def __init__(self, folder: Path) -> None:
        self.ledger = SqliteLedger(str(folder / "ledger.db"))
        self.bells: dict[str, Bell] = {}
        self.told: queue.Queue[str] = queue.Queue()
        self.reaped = 0

    def bell(self, owner: str) -> Bell:
        """Where an owner listens."""
        if owner not in self.bells:
            self.bells[owner] = Bell(self.ledger.folder, bell_of(owner))
        return self.bells[owner]

    def wake(self, owner: str | None) -> None:
        """Wakes an owner."""
        if owner is not None:
            ring(self.ledger.folder, bell_of(owner))

    def reap(self) -> None:
        """Ends what the dead left, as a reaper does after it has closed their sessions."""
        self.reaped += 1
        for ticket in self.ledger.queue(ACCOUNT):
            if judge(ticket.owner).state == DEAD:
                self.ledger.dismiss(ACCOUNT, ticket.owner)
        for lease in self.ledger.leases(ACCOUNT):
            if judge(lease.wanted.owner).state == DEAD:
                self.end(lease)
        self.wake(next((one.owner for one in self.ledger.queue(ACCOUNT)), None))

    def place(self, owner: str, actor: str = "main", *, scoped: bool = False, **options: Any) -> Place:
        """A place in the queue, with one slot in all."""
        wanted = Wanted(ACCOUNT, owner, actor, place=f"{owner}.py:1", scoped=scoped)
        defaults = {
            "limit": 1,
            "slot_timeout": None,
            "evict_after": None,
            "bell": self.bell(owner),
            "close": lambda lease: Closed(CLOSED),
            "reap": self.reap,
            "wake": self.wake,
            "tell": self.told.put,
            "cancelled": lambda: None,
            "judge": judge,
        }
        return Place(self.ledger, wanted, **{**defaults, **options})

    def wait(self, owner: str, actor: str = "main", *, queued: bool = True, **options: Any) -> Waiter:
        """Somebody who waits; returns when it is in the queue."""
        waiter = Waiter(self.place(owner, actor, **options))
        if queued:
            self.until(lambda: waiter.result is not None or (owner, actor) in self.queue())
        return waiter

    def queue(self) -> list[tuple[str, str]]:
        """Who waits."""
        return [(ticket.owner, ticket.actor) for ticket in self.ledger.queue(ACCOUNT)]

    def hold(self, owner: str, actor: str = "main", limit: int = 1000, **wanted: Any) -> Lease:
        """A session that is open."""
        asked = Wanted(ACCOUNT, owner, actor, place=f"{owner}.py:1", **wanted)
        lease = self.ledger.take(asked, limit, now())
        assert isinstance(lease, Lease)
        assert self.ledger.opened(lease.key, f"session-{owner}-{actor}", None, 300.0, now())
        return lease

    def end(self, lease: Lease) -> None:
        """Its session was closed."""
        self.wake(self.ledger.end(lease.key))

    def until(self, done: Callable[[], bool]) -> None:
        """Waits for something that the ledger tells."""
        give_up = time.monotonic() + LIMIT
        while not done():
            assert time.monotonic() < give_up
            time.sleep(0.005)


@pytest.fixture(autouse=True)
def _only_by_wake_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks again without a reason, so that no wake-up that is missing goes unseen."""
    monkeypatch.setattr(slots, "LOOK_AGAIN", 10 * LIMIT)
    monkeypatch.setattr(slots, "TELL_AFTER", 10 * LIMIT)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """An account that nobody has used yet."""
    made = Office(tmp_path)
    yield made
    for bell in made.bells.values():
        bell.close()
    made.ledger.close()


class TestWaiting:
    def test_a_free_slot_is_taken(self, office):
        """Nobody waits where a slot is free."""
        lease = office.place("a").wait()
        assert office.ledger.leases(ACCOUNT) == [lease]
        assert office.ledger.queue(ACCOUNT) == []

    def test_first_come_first_served(self, office):
        """Each slot that comes free goes to who waits for longest."""
        lease = office.hold("first")
        waiters = [office.wait(f"owner-{number}") for number in range(5)]
        for waiter in waiters:
            assert [one.result for one in waiters[waiters.index(waiter) :]] == [None] * (5 - waiters.index(waiter))
            office.end(lease)
            lease = waiter.end()
            assert isinstance(lease, Lease)

    def test_slots_that_come_free_at_once_are_all_used(self, office):
        """One wake-up that stands for three slots fills all three, though only the first in the queue was rung."""
        leases = [office.hold(f"holder-{number}") for number in range(3)]
        waiters = [office.wait(f"owner-{number}", limit=3) for number in range(4)]
        owner = [office.ledger.end(lease.key) for lease in leases][-1]
        office.wake(owner)
        assert all(isinstance(one.end(), Lease) for one in waiters[:3])
        assert waiters[3].result is None
        office.end(waiters[0].result)
        assert isinstance(waiters[3].end(), Lease)

    def test_many_threads_of_one_process(self, office):
        """Threads that share a bell are served one after the other, and in their order."""
        line, order = Line(), []
        lease = office.hold("holder")
        waiters = [office.wait("owner", f"thread-{number}", line=line) for number in range(20)]
        for waiter in waiters:
            office.end(lease)
            lease = waiter.end()
            order.append(lease.wanted.actor)
        assert order == [f"thread-{number}" for number in range(20)]

    def test_without_bells(self, office, monkeypatch):
        """Where nobody can be woken a slot is found all the same."""
        monkeypatch.delattr("os.mkfifo")
        lease = office.hold("holder")
        waiter = office.wait("owner")
        assert office.bell("owner").fileno() is None
        office.end(lease)
        assert isinstance(waiter.end(), Lease)

    def test_a_dead_holder_is_reaped(self, office):
        """A slot that a dead process holds is freed by whoever waits for it."""
        office.hold("dead")
        assert isinstance(office.place("owner").wait(), Lease)
        assert office.reaped

    def test_a_dead_one_ahead_is_reaped(self, office):
        """A dead process in the queue holds nobody up."""
        lease = office.hold("holder")
        office.ledger.take(Wanted(ACCOUNT, "dead"), 1, now())
        waiter = office.wait("owner")
        office.end(lease)  # whose wake-up goes to the dead one, if it was not reaped by then
        assert isinstance(waiter.end(), Lease)

    def test_the_living_are_not_reaped(self, office):
        """Nobody reaps as long as all that hold and wait are alive."""
        office.hold("holder")
        assert isinstance(office.wait("owner", slot_timeout=0.1, queued=False).end(), SlotTimeoutError)
        assert office.reaped == 0


class TestLine:
    def test_only_the_first_looks(self):
        """Of those who wait in one process the one with the earliest ticket is first, and after it the next."""
        line = Line()
        for ticket in (7, 5, 9):
            line.change(None, ticket)
        before = [line.is_first(ticket) for ticket in (5, 7, 9)]
        line.change(5, 11)
        assert (before, [line.is_first(ticket) for ticket in (7, 9, 11)]) == (
            [True, False, False],
            [True, False, False],
        )


class TestGivingUp:
    def test_at_once(self, office):
        """With a time limit of 0 nobody waits, and no place in the queue is left behind."""
        office.hold("holder")
        with pytest.raises(SlotTimeoutError, match="at once"):
            office.place("owner", slot_timeout=0).wait()
        assert office.ledger.queue(ACCOUNT) == []

    def test_the_error_says_who_holds_what_and_what_to_do(self, office):
        """The error names each holder, where it opened its session, the place in the queue, and four remedies."""
        office.ledger.enrol(ACCOUNT, "holder-1", "shop.py", now())
        for number in range(2):
            office.hold(f"holder-{number}")
        office.ledger.take(Wanted(ACCOUNT, "another"), 2, now())
        with pytest.raises(SlotTimeoutError) as caught:
            office.place("owner", slot_timeout=0.05, limit=2).wait()
        assert len(caught.value.holders) == 2
        assert "session-holder-1-main" in caught.value.holders[1]
        assert "shop.py" in caught.value.holders[1]
        assert "holder-1.py:1" in caught.value.holders[1]
        text = str(caught.value)
        assert all(line in text for line in caught.value.holders)
        assert "within 0.05 s (place 2 of 2 in the queue)" in text
        for remedy in ("BBRE_SLOT_TIMEOUT", "bbre sessions", "bbre reap", "BBRE_MAX_SESSIONS"):
            assert remedy in text

    def test_cancelled(self, office):
        """Who is cancelled stops as soon as the bell is poked, says why, and leaves the queue."""
        office.hold("holder")
        reason: list[str] = []
        waiter = office.wait("owner", cancelled=lambda: reason[0] if reason else None)
        reason.append("the process is ending")
        office.bell("owner").poke()
        error = waiter.end()
        assert isinstance(error, ShuttingDownError)
        assert "the process is ending" in str(error)
        assert office.ledger.queue(ACCOUNT) == []

    def test_cancelled_takes_no_slot(self, office):
        """A slot that comes free for somebody who was cancelled goes to the next."""
        lease = office.hold("holder")
        reason: list[str] = []
        first = office.wait("first", cancelled=lambda: reason[0] if reason else None)
        second = office.wait("second")
        reason.append("nobody waits for it")
        office.end(lease)
        assert isinstance(first.end(), ShuttingDownError)
        assert second.end().wanted.owner == "second"

    def test_a_failing_ledger_is_told_later(self, office, monkeypatch):
        """A place in the queue that can't be given up just now is given up as soon as the ledger works again."""
        office.hold("holder")
        place, failing = office.place("owner", slot_timeout=0), [True]
        withdraw = office.ledger.withdraw

        def fails_once(ticket: int) -> str | None:
            if failing:
                failing.clear()
                raise LedgerError("The disk is full.")
            return withdraw(ticket)

        monkeypatch.setattr(office.ledger, "withdraw", fails_once)
        with pytest.raises(SlotTimeoutError):
            place.wait()
        office.until(lambda: office.ledger.queue(ACCOUNT) == [])

    def test_a_ledger_that_fails_while_waiting(self, office, monkeypatch):
        """The ledger's own error is raised where it can't be asked any more, and the place is given up."""
        office.hold("holder")
        waiter = office.wait("owner")

        def fails(*args: Any) -> Any:
            raise LedgerError("The disk is full.")

        monkeypatch.setattr(office.ledger, "take", fails)
        ring(office.ledger.folder, bell_of("owner"))
        assert isinstance(waiter.end(), LedgerError)
        assert office.ledger.queue(ACCOUNT) == []


class TestRefusals:
    def test_waits_and_tries_again(self, office):
        """A slot that the service did not have is asked for again, by the same ticket, without an error."""
        place = office.place("owner", limit=3)
        first = place.wait()
        second = place.refused(SessionLimitReachedError("no slot"))
        assert second.number == first.number
        assert second.key != first.key
        assert office.ledger.leases(ACCOUNT) == [second]

    def test_nobody_else_is_sent_to_the_service_meanwhile(self, office):
        """While the service has no slot, others wait behind who was refused, and are served after it."""
        place = office.place("owner", limit=3)
        place.wait()
        refused = threading.Thread(target=place.refused, args=(SessionLimitReachedError("no slot"),), daemon=True)
        refused.start()
        office.until(lambda: len(office.ledger.queue(ACCOUNT)) == 1)
        later = office.place("later", limit=3).wait()
        refused.join(LIMIT)
        assert [lease.key for lease in office.ledger.leases(ACCOUNT)] == [place.lease.key, later.key]

    def test_the_limit_counts_from_the_beginning(self, office):
        """Refusals do not give more time; the error names the service's word as its cause."""
        place = office.place("owner", limit=3, slot_timeout=0.5)
        place.wait()
        refusal = SessionLimitReachedError("no slot")
        refusals = 0
        with pytest.raises(SlotTimeoutError, match="others use the account") as caught:  # noqa: PT012
            while True:
                refusals += 1
                assert refusals < 10
                place.refused(refusal)
        assert caught.value.__cause__ is refusal
        assert office.ledger.queue(ACCOUNT) == office.ledger.leases(ACCOUNT) == []

    def test_a_ledger_that_fails(self, office, monkeypatch):
        """Where the ledger can't be used the service's own word is raised."""
        place = office.place("owner", limit=3)
        place.wait()

        def fails(*args: Any) -> Any:
            raise LedgerError("The disk is full.")

        monkeypatch.setattr(office.ledger, "refuse", fails)
        refusal = SessionLimitReachedError("no slot")
        with pytest.raises(SessionLimitReachedError) as caught:
            place.refused(refusal)
        assert caught.value is refusal


class TestCircles:
    def test_the_last_one_is_told_and_the_others_go_on(self, office):
        """Of three that hold a slot and want another, exactly the one that closed the circle gets an error; when it
        has closed what it holds, the others are served.
        """
        held = {name: office.hold(name, scoped=True) for name in "abc"}
        waiters = {name: office.wait(name, scoped=True, limit=3) for name in "abc"}
        error = waiters["c"].end()
        assert isinstance(error, SlotCircleError)
        assert [name in line for name, line in zip("abc", error.holders, strict=True)] == [True] * 3
        assert all(f"waits for another at {name}.py:1" in str(error) for name in "abc")
        assert waiters["a"].result is waiters["b"].result is None
        office.end(held["c"])
        office.end(waiters["a"].end())
        assert isinstance(waiters["b"].end(), Lease)

    def test_a_circle_that_closes_later(self, office):
        """A slot that somebody else held, and that goes to one of those who wait, may close the circle."""
        office.hold("a", scoped=True)
        other = office.hold("other")
        first = office.wait("b", scoped=True, limit=2)
        second = office.wait("a", scoped=True, limit=2)
        office.end(other)
        lease = first.end()
        office.ledger.opened(lease.key, "session-b", None, 300.0, now())
        third = office.wait("b", scoped=True, limit=2)
        assert isinstance(third.end(), SlotCircleError)
        assert second.result is None
        office.end(lease)
        assert isinstance(second.end(), Lease)

    def test_only_the_newest_is_told(self, office):
        """Who did not close the circle gets no error about it, though it sees it, and the newest does nothing."""
        office.hold("a", scoped=True)
        office.hold("b", scoped=True)
        older = office.wait("a", scoped=True, limit=2, slot_timeout=1.0)
        office.ledger.take(Wanted(ACCOUNT, "b", "main", scoped=True), 2, now())
        for _ in range(3):
            ring(office.ledger.folder, bell_of("a"))
            threading.Event().wait(slots.SURE_AFTER)  # as long as a circle has to last
        assert type(older.end()) is SlotTimeoutError

    def test_alone(self, office):
        """A thread that holds the only slot and wants another is told so."""
        office.hold("a", scoped=True)
        assert isinstance(office.wait("a", scoped=True).end(), SlotCircleError)

    def test_another_thread_may_close(self, office):
        """A slot held by a thread that does not wait is no part of a circle: it is waited for."""
        lease = office.hold("a", "thread-1", scoped=True)
        waiter = office.wait("a", "thread-2", scoped=True)
        office.end(lease)
        assert isinstance(waiter.end(), Lease)


class TestProgress:
    @pytest.fixture(autouse=True)
    def _soon(self, _only_by_wake_ups: None, monkeypatch: pytest.MonkeyPatch) -> None:
        """People are told after less than two seconds."""
        monkeypatch.setattr(slots, "TELL_AFTER", 0.3)

    def test_one_line_after_a_while(self, office):
        """People are told once who holds the slots and which place in the queue they have."""
        office.ledger.enrol(ACCOUNT, "holder", "shop.py", now())
        lease = office.hold("holder")
        waiter = office.wait("owner")
        line = office.told.get(timeout=LIMIT)
        assert line.startswith("bbre: waiting for one of 1 slots (1 of 1 in the queue), held by shop.py")
        office.end(lease)
        waiter.end()
        assert office.told.empty()

    def test_one_line_for_all_threads(self, office):
        """However many threads of a process wait, people are told once."""
        line = Line()
        lease = office.hold("holder")
        waiters = [office.wait("owner", f"thread-{number}", line=line, slot_timeout=1.5) for number in range(4)]
        assert all(isinstance(one.end(), SlotTimeoutError) for one in waiters)
        office.end(lease)
        assert office.told.qsize() == 1


class TestEviction:
    def test_the_longest_idle_session_makes_room(self, office):
        """An evictable session that is idle for long enough is closed for who is next; its owner is told for whom."""
        lease = office.hold("holder", evictable=True)
        closed: list[Lease] = []

        def close(one: Lease) -> Closed:
            closed.append(one)
            return Closed(CLOSED)

        taken = office.place("owner", evict_after=0.05, slot_timeout=LIMIT, close=close).wait()
        assert [one.key for one in closed] == [lease.key]
        assert office.ledger.leases(ACCOUNT) == [taken]
        told = office.ledger.begin_use(lease.key, now())
        assert told is not None
        assert "owner.py:1" in told.by

    def test_at_once(self, office):
        """Who does not want to wait at all waits for the session to be closed that was evicted for it."""
        office.hold("holder", evictable=True)
        assert isinstance(office.place("owner", evict_after=0.0, slot_timeout=0).wait(), Lease)

    @pytest.mark.parametrize("kind", ["not evictable", "busy", "not idle", "not asked for"])
    def test_what_must_not_be_closed(self, office, kind):
        """Only evictable sessions that are idle for long enough are closed, and only for who asks for that."""
        lease = office.hold("holder", evictable=kind != "not evictable")
        if kind == "busy":
            assert office.ledger.begin_use(lease.key, now()) is None
        after = {"not idle": 3600.0, "not asked for": None}.get(kind, 0.0)
        with pytest.raises(SlotTimeoutError):
            office.place("owner", evict_after=after, slot_timeout=0.1).wait()
        assert [one.key for one in office.ledger.leases(ACCOUNT)] == [lease.key]
        assert office.ledger.begin_use(lease.key, now()) is None

    def test_only_for_who_is_next(self, office):
        """Nobody is evicted for somebody who would not get the slot."""
        lease = office.hold("holder", evictable=True)
        office.ledger.take(Wanted(ACCOUNT, "first"), 1, now())
        with pytest.raises(SlotTimeoutError):
            office.place("owner", evict_after=0.0, slot_timeout=0.1).wait()
        assert [one.key for one in office.ledger.leases(ACCOUNT)] == [lease.key]

    @pytest.mark.parametrize("how", ["fails", "raises"])
    def test_a_close_that_fails_keeps_its_lease(self, office, how):
        """A session that could not be closed is still in the ledger, with the reason, for a reaper; no second one is
        closed in its place.
        """
        lease = office.hold("holder", evictable=True)
        other = office.hold("other", evictable=True)

        def close(one: Lease) -> Closed:
            if how == "raises":
                raise RuntimeError("a bug")
            return Closed(FAILED, "the service is away")

        with pytest.raises(SlotTimeoutError):
            office.place("owner", evict_after=0.0, slot_timeout=0.5, close=close, limit=2).wait()
        failed, kept = office.ledger.leases(ACCOUNT)
        assert (failed.key, failed.state, failed.reaper, failed.session_id) == (
            lease.key,
            "failed",
            None,
            "session-holder-main",
        )
        assert failed.reason == ("the service is away" if how == "fails" else "the guard failed with RuntimeError")
        assert (kept.key, kept.state) == (other.key, "open")

    def test_who_waits_stays_awake(self, office):
        """Somebody who is cancelled while a session is being closed for it stops at once, and the close is finished."""
        lease = office.hold("holder", evictable=True)
        began, go_on = threading.Event(), threading.Event()

        def close(one: Lease) -> Closed:
            began.set()
            go_on.wait(LIMIT)
            return Closed(CLOSED)

        waiter = office.wait(
            "owner", evict_after=0.0, close=close, cancelled=lambda: "nobody wants it" if began.is_set() else None
        )
        assert began.wait(LIMIT)
        office.bell("owner").poke()
        assert isinstance(waiter.end(), ShuttingDownError)
        assert [one.key for one in office.ledger.leases(ACCOUNT)] == [lease.key]
        go_on.set()
        office.until(lambda: office.ledger.leases(ACCOUNT) == [])
