"""guard/lost.py and guard/sight.py against the embedded engine: sessions whose id nobody knows."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from _reaping import ACCOUNT, LIMIT, Guard, now

from pytest_bbre import SessionInfo
from pytest_bbre.engine import Engine
from pytest_bbre.errors import LedgerError, LostAnswerError
from pytest_bbre.guard.door import Listing
from pytest_bbre.guard.leases import FAILED, OPENING, Lease, Moment, Wanted
from pytest_bbre.guard.sight import GRACE, Sight

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the guard is proven on POSIX systems")

SHORT = {"patience": 0.2}  # seconds that the asker of a create waits for its answer


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Guard]:
    """An account on an engine of its own."""
    with Engine(in_process=True, max_sessions=100) as engine:
        made = Guard(tmp_path / "state", engine)
        yield made
        made.close()


def lose(guard: Guard, owner: str = "dead", **wanted: Any) -> str:
    """A lease and the session that was created for it, whose id its owner never got to know."""
    guard.lease(owner, **{"exclusive": True, **wanted})
    return guard.unknown_session(mode=wanted.get("mode", "passive"))


# What is closed.


def test_a_lost_session_is_found_and_closed(guard: Guard):
    """Where everybody uses this ledger, a session that nobody else can have opened is the lost one."""
    kept = {guard.session("alive").id, guard.session("unknown").id}
    lost = lose(guard)
    report = guard.reaper.sweep()
    assert (report.closed, report.left) == ([lost], 0)
    assert guard.active() == kept == set(guard.leases())


def test_one_that_appears_later_is_found_too(guard: Guard):
    """The owner dies while its create is in flight: the account is looked at until it can't be any more."""
    lease = guard.lease("dead", exclusive=True)
    report = guard.reaper.sweep()
    assert (report.left, guard.leases()[None].state) == (1, FAILED)
    assert report.next_due is not None
    assert report.next_due < 1.0
    lost = guard.unknown_session()
    reports = guard.sweep_until(lambda: not guard.leases())
    assert [one for each in reports for one in each.closed] == [lost]
    assert lease.key not in {one.key for one in guard.ledger.leases()}
    assert guard.active() == set()


def test_its_slot_is_free_as_soon_as_nothing_is_seen(guard: Guard):
    """It is looked for still, and whoever waits for a slot is woken and gets it."""
    guard.lease("dead", exclusive=True)
    waiting = guard.ledger.take(Wanted(ACCOUNT, "alive"), 1, now())
    guard.reaper.sweep()
    assert guard.woken == ["alive"]
    assert isinstance(guard.ledger.take(Wanted(ACCOUNT, "alive"), 1, now(), waiting.ticket), Lease)  # type: ignore


def test_a_lease_whose_create_never_arrived_ends(guard: Guard):
    """When no answer can come any more and nothing was seen."""
    guard.lease("dead", exclusive=True, **SHORT)
    guard.sweep_until(lambda: not guard.leases())
    assert guard.engine.calls("close") == 0
    assert guard.engine.calls("list") > 2


def test_several_are_closed_together(guard: Guard):
    """As many as were lost."""
    lost = {lose(guard, f"dead-{number}") for number in range(6)}
    reports = guard.sweep_until(lambda: not guard.leases())
    assert {one for each in reports for one in each.closed} == lost
    assert guard.active() == set()


def test_one_that_was_begun_and_left_by_a_dead_reaper_is_closed(guard: Guard):
    """The claim of a reaper that died counts for nothing."""
    lost = lose(guard)
    assert guard.ledger.claim(guard.leases()[None], "dead-reaper", now())
    assert guard.reaper.sweep().closed == [lost]


def test_one_that_a_living_reaper_looks_for_is_left_to_it(guard: Guard):
    """Two reapers do not close twice."""
    lost = lose(guard)
    assert guard.ledger.claim(guard.leases()[None], "alive-reaper-2", now())
    assert guard.reaper.sweep().closed == []
    assert guard.active() == {lost}


def test_what_a_vanished_ledger_knew_is_left_to_people(guard: Guard):
    """The new ledger took the old one's place. An older session in no lease may be a living owner's, who has not
    written its lease again yet: it is told, and not closed. What was lost since then is closed.
    """
    kept = guard.session("alive").id
    os.unlink(guard.ledger.path)
    assert guard.ledger.leases() == []
    guard.lease("dead", exclusive=True, patience=30.0)
    report = guard.reaper.sweep()
    assert (report.closed, [one.session_id for one in report.lost]) == ([], [kept])
    assert kept in guard.active()


def test_a_close_that_fails_is_tried_again(guard: Guard):
    """The lease stays, with the reason."""
    lost = lose(guard)
    guard.engine.faults.fail("close", times=2)
    report = guard.reaper.sweep()
    assert [one.session_id for one in report.failed] == [lost]
    assert "SERVICE_ERROR" in str(guard.leases()[None].reason)
    guard.sweep_until(lambda: not guard.leases())
    assert guard.active() == set()


@pytest.mark.parametrize("fault", ["fail", "cut", "garbage", "lose_answer"])
def test_a_listing_that_fails_is_tried_again(guard: Guard, fault: str):
    """Nothing is concluded from a list that could not be read."""
    lost = lose(guard, **SHORT)
    getattr(guard.engine.faults, fault)("list", times=2)
    report = guard.reaper.sweep()
    assert (report.closed, report.left, guard.active()) == ([], 1, {lost})
    assert guard.leases()[None].state == OPENING
    guard.sweep_until(lambda: not guard.leases())
    assert guard.active() == set()


def test_a_command_may_vouch_for_the_account(guard: Guard):
    """`exclusive` overrides what the leases say."""
    lost = lose(guard, exclusive=False)
    assert guard.another(exclusive=False).sweep().closed == []
    assert guard.another(exclusive=True).sweep().closed == [lost]


# What is not.


def test_in_a_shared_account_it_is_told_and_never_closed(guard: Guard):
    """Another machine may own it: the report has its id, its age and the command; the slot is free here."""
    lost = lose(guard, exclusive=False)
    for _ in range(3):
        report = guard.reaper.sweep()
    report = guard.another().sweep()
    assert (report.closed, report.left) == ([], 1)
    assert [(one.session_id, one.command) for one in report.lost] == [(lost, f"bbre close {lost}")]
    assert report.lost[0].age is not None
    assert guard.active() == {lost}
    lease = guard.leases()[None]
    assert (lease.state, lost in str(lease.reason)) == (FAILED, True)
    changes = guard.ledger.changes()
    assert guard.another().sweep().lost[0].session_id == lost
    assert guard.ledger.changes() == changes  # nothing new is nothing to write


def test_it_is_forgotten_when_somebody_has_closed_it(guard: Guard):
    """A person runs the command: then nothing is there to be told, and the lease ends."""
    lost = lose(guard, exclusive=False, **SHORT)
    assert guard.reaper.sweep().lost[0].session_id == lost
    guard.client.close_session(lost)
    guard.sweep_until(lambda: not guard.leases(), guard.another())


def test_a_session_of_another_mode_is_none_of_its(guard: Guard):
    """A lost adaptive session is not looked for among passive ones."""
    guard.lease("dead", exclusive=True, mode="adaptive", **SHORT)
    other = guard.unknown_session()
    reports = guard.sweep_until(lambda: not guard.leases())
    assert guard.active() == {other}
    assert not any(report.lost for report in reports)


def test_an_older_session_is_none_of_its(guard: Guard):
    """What was there before the lease was written can't be its own."""
    older = guard.unknown_session()
    later = now()
    later = later._replace(wall=later.wall + 60.0, steady=later.steady + 60.0)
    guard.lease("dead", exclusive=True, at=later, **SHORT)
    sight = Sight(guard.door.active(), later, later, guard.ledger.leases(ACCOUNT))
    # The session is one minute older than the lease, by a clock that agrees with the service's.
    sight = sight._replace(listing=sight.listing._replace(offset=0.0))
    assert sight.is_of(sight.listing.sessions[0], guard.leases()[None], late=True) is False
    assert guard.active() == {older}


def test_who_is_just_opening_is_waited_for(guard: Guard):
    """A living process has the session's id, and has not written it down yet: it is not closed, then nor later."""
    guard.lease("dead", exclusive=True, **SHORT)
    rival = guard.lease("alive", exclusive=True)
    info = guard.client.create_session()
    for _ in range(3):
        report = guard.reaper.sweep()
        assert (report.closed, report.lost, guard.active()) == ([], [], {info.id})
    guard.ledger.opened(rival.key, info.id, info.engine, 300.0, now())
    guard.sweep_until(lambda: None not in guard.leases())
    assert guard.active() == {info.id}


def test_who_began_later_is_not_waited_for(guard: Guard):
    """A session that was seen before a lease was written is not that one's: it is closed though somebody is opening."""
    lost = lose(guard)
    rival = guard.lease("alive", exclusive=True)
    assert guard.reaper.sweep().closed == []
    guard.ledger.end(rival.key)
    guard.lease("alive", exclusive=True)
    guard.sweep_until(lambda: lost not in guard.active())
    assert [lease.wanted.owner for lease in guard.ledger.leases(ACCOUNT)] == ["alive"]


def test_who_may_be_opening_elsewhere_is_a_doubt(guard: Guard):
    """Of a process in another container nobody here knows what it does: told, and not closed."""
    lost = lose(guard)
    guard.lease("unknown", exclusive=True, at=now()._replace(steady=now().steady - 1.0))
    report = guard.reaper.sweep()
    assert (report.closed, [one.session_id for one in report.lost]) == ([], [lost])
    assert guard.active() == {lost}


def test_a_clock_that_is_set_meanwhile_proves_nothing(guard: Guard):
    """Ages would be wrong: nothing is closed at that look, and it is looked again."""
    lost = lose(guard)
    jumps = iter([0.0, 0.0, 3600.0])

    def jumping() -> Moment:
        at = now()
        return at._replace(wall=at.wall + next(jumps, 3600.0))

    reaper = guard.another(now=jumping)
    trouble = reaper._search.look().trouble if next(jumps) == 0.0 else None
    assert trouble == "this machine's clock was set"
    assert guard.active() == {lost}


# Engines.


def test_a_lost_session_of_an_engine_that_is_gone_is_gone(tmp_path: Path):
    """Where an engine answered before, nobody waits for it: the lease ends with it."""
    with Engine() as engine:
        guard = Guard(tmp_path / "state", engine)
        guard.session("alive")
        lose(guard)
        os.kill(engine.pid, signal.SIGKILL)
        guard.sweep_until(lambda: None not in guard.leases())
        guard.close()


def test_a_create_that_an_engine_does_after_it_stood_still_is_found(tmp_path: Path):
    """The engine is stopped for longer than the asker's patience, and then does what it was asked."""
    with Engine() as engine:
        guard = Guard(tmp_path / "state", engine, connect_timeout=0.3, read_timeout=0.3)
        guard.lease("dead", exclusive=True, **SHORT)
        os.kill(engine.pid, signal.SIGSTOP)
        try:
            creating = threading.Thread(target=guard.client.create_session, daemon=True)
            creating.start()
            for _ in range(3):
                assert guard.reaper.sweep().left == 1
        finally:
            os.kill(engine.pid, signal.SIGCONT)
        creating.join(LIMIT)
        guard.sweep_until(lambda: not guard.leases())
        assert (engine.totals()["opened"], guard.active()) == (1, set())
        guard.close()


# For a living client.


def lost_answer(guard: Guard, fault: str = "lose_answer", **wanted: Any) -> Lease:
    """What a living client does whose create has no answer."""
    lease = guard.lease("alive", **{"exclusive": True, **wanted})
    getattr(guard.engine.faults, fault)("create")
    with pytest.raises(LostAnswerError):
        guard.client.create_session()
    guard.ledger.failed(lease.key, "no answer", now())
    return lease


@pytest.mark.parametrize("fault", ["lose_answer", "half_answer"])
def test_a_living_client_closes_what_it_lost(guard: Guard, fault: str):
    """It adopts nothing; the words tell what was done."""
    lease = lost_answer(guard, fault)
    lost = guard.active().pop()
    found = guard.reaper.settle_lost(lease.key, LIMIT)
    assert (found.closed, found.suspects) == ([lost], [])
    assert found.text == f"Its session was found and closed: {lost}."
    assert (guard.active(), guard.leases()) == (set(), {})


def test_a_living_client_of_a_shared_account_is_told(guard: Guard):
    """With id, age and the command, at once."""
    lease = lost_answer(guard, exclusive=False)
    lost = guard.active().pop()
    found = guard.reaper.settle_lost(lease.key, LIMIT)
    assert (found.closed, [one.session_id for one in found.suspects]) == ([], [lost])
    assert f"{lost} (" in found.text
    assert f"bbre close {lost}" in found.text
    assert guard.active() == {lost}


def test_a_living_client_is_told_that_nothing_was_found(guard: Guard):
    """After its patience, or when no session can come any more; a guardian looks on."""
    lease = lost_answer(guard, "cut")
    found = guard.reaper.settle_lost(lease.key, 0.3)
    assert (found.closed, found.suspects) == ([], [])
    assert found.text == "The account shows no session of it so far; it is looked for again later."
    assert set(guard.leases()) == {None}
    lease = lost_answer(guard, "cut", **SHORT)
    assert guard.reaper.settle_lost(lease.key, LIMIT).text == "The account shows no session of it."


def test_a_living_client_is_told_why_nothing_could_be_seen(guard: Guard):
    """A service that can't be asked now says nothing about the session."""
    lease = lost_answer(guard)
    guard.engine.faults.fail("list", times=None)
    assert "SERVICE_ERROR" in guard.reaper.settle_lost(lease.key, 0.1).text or "Service error" in str(
        guard.reaper.settle_lost(lease.key, 0.1).text
    )


def test_a_living_client_is_told_that_closing_failed(guard: Guard):
    """The session is named, and tried again by others."""
    lease = lost_answer(guard)
    guard.engine.faults.fail("close", times=None)
    lost = guard.active().pop()
    text = guard.reaper.settle_lost(lease.key, 0.01).text
    assert f"Its session, {lost}, could not be closed yet" in text


def test_a_living_client_does_not_wait_for_a_service_that_stands_still(guard: Guard):
    """Its patience is for all of it, another thread's look that hangs included."""
    lease = lost_answer(guard)
    guard.engine.faults.hang("list", seconds=LIMIT, times=2)
    sweeping = threading.Thread(target=guard.reaper.sweep, daemon=True)
    sweeping.start()
    guard.engine.wait_for("list", 1, LIMIT)
    assert "another look is under way" in guard.reaper.settle_lost(lease.key, 0.2).text
    assert "did not answer in time" in guard.another().settle_lost(lease.key, 0.2).text
    guard.engine.stop()
    sweeping.join(LIMIT)
    assert not sweeping.is_alive()


def test_the_engine_of_a_living_client_is_gone(tmp_path: Path):
    """Then so is its session."""
    with Engine(in_process=True) as engine:
        guard = Guard(tmp_path / "state", engine)
        guard.session("alive")
        lease = lost_answer(guard)
    assert guard.reaper.settle_lost(lease.key, LIMIT).text.startswith("The engine does not run any more")
    guard.close()


def test_trouble_with_the_ledger_is_raised(guard: Guard, monkeypatch: pytest.MonkeyPatch):
    """The caller tells it; the lease is looked for again."""
    lease = lost_answer(guard)

    def full(*args: object) -> bool:
        raise LedgerError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(guard.ledger, "leases", full)
        with pytest.raises(LedgerError):
            guard.reaper.settle_lost(lease.key, 0.1)
    assert guard.reaper.settle_lost(lease.key, LIMIT).closed


# A ledger that does not know all.


def test_unknown_sessions_are_those_in_no_lease(guard: Guard):
    """After a ledger was set aside they are told, and closed by nobody."""
    guard.session("alive")
    unknown = guard.unknown_session()
    assert [one.id for one in guard.reaper.unknown()] == [unknown]
    guard.reaper.sweep()
    assert unknown in guard.active()


def test_a_session_that_is_just_being_opened_is_not_unknown(guard: Guard):
    """Its owner is about to write its id down."""
    lease = guard.lease("alive")
    info = guard.client.create_session()
    assert guard.reaper.unknown() == []
    guard.ledger.end(lease.key)
    assert [one.id for one in guard.reaper.unknown()] == [info.id]


# Ages.

START = Moment(1_700_000_000.0, 100.0, "boot")


def seen(seconds: float, wall: float = 0.0) -> Moment:
    """So many seconds after the start, by a wall clock that was set meanwhile."""
    return Moment(START.wall + seconds + wall, START.steady + seconds, START.boot)


def a_lease(**fields: Any) -> Lease:
    """A lease that was written at the start."""
    wanted = Wanted(ACCOUNT, "dead", patience=40.0)
    return Lease("key", 1, wanted, OPENING, None, None, START, START)._replace(**fields)


def sight(
    at: float, offset: float = 0.0, wall: float = 0.0, uncertainty: float = 1.0, missing: Moment | None = None
) -> Sight:
    """A look so many seconds after the start."""
    return Sight(Listing([], offset - wall, uncertainty, None), seen(at, wall), seen(at, wall), [], missing)


def session(created: float | None, offset: float = 0.0, mode: str | None = "passive") -> SessionInfo:
    """A session that was created so many seconds after the start, by a service's clock that is so far ahead."""
    told = None if created is None else datetime.fromtimestamp(START.wall + created + offset, timezone.utc)
    return SessionInfo("s", mode=mode, created_at=told)


@pytest.mark.parametrize("wall", [0.0, -86_400.0, 86_400.0])
@pytest.mark.parametrize("offset", [0.0, -7200.0, 7200.0])
@pytest.mark.parametrize(
    ("created", "late", "expected"),
    [
        (-2.0, True, False),
        (-0.5, True, True),
        (0.5, False, True),
        (40.0, False, True),
        (50.0, False, True),
        (53.0, False, False),
        (53.0, True, True),
    ],
)
def test_the_window_is_in_the_services_time(wall: float, offset: float, created: float, late: bool, expected: bool):
    """From the lease's writing until its create's answer was due, however either clock is and was set."""
    given_up = a_lease(state=FAILED, tried=seen(11.0))
    look = sight(60.0, offset, wall)
    assert look.is_of(session(created, offset), given_up, late=late) is expected


@pytest.mark.parametrize(
    ("info", "uncertainty"),
    [(session(None), 1.0), (session(1.0, mode=None), 1.0), (session(1.0), float("inf"))],
)
def test_a_service_that_tells_too_little_leaves_a_doubt(info: SessionInfo, uncertainty: float):
    """Without the time or the mode nobody knows whose it is."""
    assert sight(5.0, uncertainty=uncertainty).is_of(info, a_lease(), late=True) is None


def test_a_ledger_that_was_begun_anew_leaves_a_doubt():
    """A living owner may not have written down yet what it held, or was just opening, when it was."""
    look = sight(100.0, missing=seen(10.0))
    assert look.is_of(session(45.0), a_lease(), late=True) is None
    assert look.is_of(session(52.0), a_lease(), late=True) is True


def test_a_create_is_in_flight_for_as_long_as_its_answer_may_come():
    """Counted from when its owner's end was noted, since it may have left long after the lease was written."""
    noted = a_lease(state=FAILED, tried=seen(1000.0))
    assert not sight(1040.0).is_over(noted)
    assert sight(1040.5 + GRACE).is_over(noted)
    assert not sight(1040.5).is_over(a_lease())


@pytest.mark.parametrize(
    ("rival", "created", "expected"),
    [
        (a_lease(), 5.0, True),
        (a_lease(), -2.0, False),
        (a_lease(), None, True),
        (a_lease(wanted=Wanted(ACCOUNT, "alive", mode="adaptive")), 5.0, False),
        (a_lease(opened=seen(9.0)), 5.0, False),
        (a_lease(opened=seen(6.0)), 2.0, False),
        (a_lease(opened=seen(9.0)._replace(boot="another machine's")), 5.0, True),
    ],
)
def test_who_may_own_a_session_is_told_by_when_it_began(rival: Lease, created: float | None, expected: bool):
    """A lease that was written after the session was seen, or created, is not its own; on a doubt it may be."""
    assert sight(10.0).may_own(rival, session(created), first_seen=seen(7.0)) is expected
