"""guard/reaper.py against the embedded engine: what dead owners left is closed, and nothing else."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from _reaping import ACCOUNT, LIMIT, ME, Guard, judge, now

from pytest_bbre.engine import Engine
from pytest_bbre.errors import LedgerError
from pytest_bbre.guard import verdicts
from pytest_bbre.guard.door import Door, Service
from pytest_bbre.guard.leases import CLOSING, FAILED, MARGIN, Lease, Moment, Waiting, Wanted
from pytest_bbre.guard.post import Post
from pytest_bbre.guard.reaper import AT_ONCE, Reaper, sweep_lapsed
from pytest_bbre.guard.verdicts import CLOSE, END, FASTEST, LEAVE, LOOK, SLOWEST, delay, verdict

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the guard is proven on POSIX systems")


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Guard]:
    """An account on an engine of its own."""
    with Engine(in_process=True, max_sessions=100) as engine:
        made = Guard(tmp_path / "state", engine)
        yield made
        made.close()


def on_threads(*calls: Callable[[], Any]) -> list[Any]:
    """The calls, at the same time; what each returned."""
    results: list[Any] = [None] * len(calls)

    def one(index: int) -> None:
        results[index] = calls[index]()

    threads = [threading.Thread(target=one, args=(index,), daemon=True) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive(), "a call hangs"
    return results


# Whose.


def test_only_sessions_of_dead_owners_are_closed(guard: Guard):
    """Of an alive, a dead and an unknown owner's session the dead one's is closed, and its lease ends."""
    kept = {guard.session("alive").id, guard.session("unknown").id}
    dead = guard.session("dead").id
    report = guard.reaper.sweep()
    assert (report.closed, report.failed, report.left, report.next_due) == ([dead], [], 0, None)
    assert guard.active() == kept == set(guard.leases())


@pytest.mark.parametrize("holder", ["alive", "unknown"])
def test_a_session_that_two_leases_name_is_not_closed_for_the_dead_one(guard: Guard, holder: str):
    """One of them may be forged: whoever is not dead keeps it. When that one has gone, it is closed."""
    kept = guard.session(holder)
    forged = guard.lease("dead")
    assert guard.ledger.opened(forged.key, kept.id, kept.engine, 300.0, now())
    report = guard.reaper.sweep()
    assert (report.closed, report.left, guard.active()) == ([], 0, {kept.id})
    assert "another process holds a session of that id" in guard.reaper.plan()[-1].reason
    guard.ledger.end(next(lease.key for lease in guard.ledger.leases() if lease.key != forged.key))
    assert guard.reaper.sweep().closed == [kept.id]


def test_a_session_in_any_state_is_closed(guard: Guard):
    """Held, being closed, or not closed by its owner before it died: all of a dead owner's are closed."""
    held, closing, failed = (guard.session("dead") for _ in range(3))
    guard.ledger.closing(guard.leases()[closing.id].key)
    guard.ledger.failed(guard.leases()[failed.id].key, "SERVICE_ERROR", now())
    guard.sweep_until(lambda: not guard.leases())
    assert guard.active() == set()
    assert guard.engine.totals()["closed"] == len([held, closing, failed])


def test_a_session_that_is_no_more_ends_its_lease(guard: Guard):
    """Closed already, or not known to the service: both hold no slot."""
    closed = guard.session("dead")
    guard.client.close_session(closed.id)
    forgotten = guard.lease("dead")
    guard.ledger.opened(forgotten.key, "session_forgotten", None, 300.0, now())
    assert set(guard.reaper.sweep().closed) == {closed.id, "session_forgotten"}
    assert guard.leases() == {}


def test_the_next_in_the_queue_is_woken(guard: Guard):
    """After each end, the process whose turn it is hears of it."""
    guard.session("dead")
    waiting = guard.ledger.take(Wanted(ACCOUNT, "alive"), 1, now())
    assert isinstance(waiting, Waiting)
    guard.reaper.sweep()
    assert guard.woken == ["alive"]


def test_a_dead_process_gives_its_place_in_the_queue_up(guard: Guard):
    """It is dismissed, though its session can't be closed yet, and whoever was behind it is woken."""
    guard.session("dead")
    guard.ledger.enrol(ACCOUNT, "dead", "program", now())
    for owner in ("dead", "alive"):
        guard.ledger.take(Wanted(ACCOUNT, owner), 1, now())
    guard.engine.faults.fail("close")
    guard.reaper.sweep()
    assert [ticket.owner for ticket in guard.ledger.queue(ACCOUNT)] == ["alive"]
    assert "alive" in guard.woken


def test_only_dead_processes_without_leases_are_forgotten(guard: Guard):
    """Of enrolled processes the alive, the unknown, and the dead with a lease stay."""
    for owner in ("alive", "unknown", "dead-1", "dead-2"):
        guard.ledger.enrol(ACCOUNT, owner, "program", now())
    guard.session("dead-2")
    guard.engine.faults.fail("close")
    guard.reaper.sweep()
    assert {one.owner for one in guard.ledger.enrolled(ACCOUNT)} == {"alive", "unknown", "dead-2"}
    guard.sweep_until(lambda: not guard.leases())
    assert {one.owner for one in guard.ledger.enrolled(ACCOUNT)} == {"alive", "unknown"}


def test_other_accounts_are_left_alone(guard: Guard):
    """Nobody has their key: a sweep closes the leases of its own account only."""
    lease = guard.lease("dead", account="another")
    guard.reaper.sweep()
    assert guard.ledger.leases("another") == [lease]


def test_a_plan_says_why_and_changes_nothing(guard: Guard):
    """For each lease: what may be done, and the proof of death or the reason to leave it."""
    for owner in ("alive", "dead", "unknown"):
        guard.session(owner)
    guard.lease("dead")
    before = guard.ledger.leases(ACCOUNT)
    cases = guard.reaper.plan()
    assert [(case.verdict, case.reason, case.may_be_closed) for case in cases] == [
        (LEAVE, "alive is alive", False),
        (CLOSE, "dead is dead", True),
        (LEAVE, "unknown is on another machine", False),
        (LOOK, "dead is dead", True),
    ]
    assert guard.ledger.leases(ACCOUNT) == before
    assert len(guard.active()) == 3


# Two reapers.


def test_two_reapers_close_each_session_once(guard: Guard):
    """Reapers that sweep at the same time share the work: no session is asked to be closed twice."""
    ids = {guard.session("dead").id for _ in range(20)}
    guard.engine.faults.delay("close", seconds=0.05, times=None)
    reapers = [guard.another(f"alive-{number}") for number in range(4)]
    reports = on_threads(*(reaper.sweep for reaper in reapers))
    assert sorted(one for report in reports for one in report.closed) == sorted(ids)
    assert guard.engine.calls("close") == len(ids)
    assert guard.leases() == {}


def test_a_slow_reaper_keeps_its_lease_while_it_lives(guard: Guard):
    """What another living process is closing is left to it; when that is dead, the next sweep closes it at once."""
    info = guard.session("dead")
    assert guard.ledger.claim(guard.leases()[info.id], "alive-other", now())
    report = guard.reaper.sweep()
    assert (report.closed, report.left) == ([], 1)
    assert report.next_due is not None
    assert guard.active() == {info.id}
    key = guard.leases()[info.id].key
    guard.ledger.unclaim(key, "alive-other", "tried", Moment(0.0, 0.0, "boot"))
    assert guard.ledger.claim(guard.leases()[info.id], "dead-other", now())
    assert guard.reaper.sweep().closed == [info.id]


def test_an_evicted_session_is_closed_if_its_evictor_dies(guard: Guard):
    """Its owner lives, and was promised that it is gone."""
    info = guard.session("alive", evictable=True)
    guard.ledger.evict(ACCOUNT, "somebody", "alive-evictor", 0.0, now())
    assert guard.reaper.sweep().closed == []
    guard.ledger.unclaim(guard.leases()[info.id].key, "alive-evictor", "SERVICE_ERROR", Moment(0.0, 0.0, "boot"))
    assert guard.reaper.sweep().closed == [info.id]


def test_an_evictor_that_is_dead_leaves_its_work_to_the_next(guard: Guard):
    """As above, with the claim still there."""
    info = guard.session("alive", evictable=True)
    guard.ledger.evict(ACCOUNT, "somebody", "dead-evictor", 0.0, now())
    assert guard.reaper.sweep().closed == [info.id]


def test_sessions_are_closed_at_the_same_time(guard: Guard):
    """Ten closes are under way together: all arrive while none has been answered."""
    ids = {guard.session("dead").id for _ in range(AT_ONCE)}
    guard.engine.faults.hang("close", seconds=LIMIT, times=AT_ONCE)
    assert guard.reaper.sweep(within=0.0).closed == []
    guard.engine.wait_for("close", AT_ONCE, LIMIT)
    assert guard.active() == ids


def test_a_service_that_stands_still_does_not_hold_up_who_sweeps(guard: Guard):
    """A sweep returns after `within`; what it began is finished later, and told in a later report."""
    slow = guard.session("dead")
    guard.engine.faults.hang("close", seconds=1.0)
    report = guard.reaper.sweep(within=0.0)
    assert (report.closed, report.failed, report.left) == ([], [], 1)
    other = guard.session("dead")
    report = guard.reaper.sweep(within=LIMIT)
    assert other.id in report.closed
    reports = [report, *guard.sweep_until(lambda: not guard.leases())]
    assert {one for each in reports for one in each.closed} == {slow.id, other.id}
    assert guard.active() == set()


def test_a_second_sweep_of_the_same_reaper_does_not_wait(guard: Guard):
    """Many threads may ask for a sweep; those that come during one return at once."""
    guard.session("dead")
    guard.engine.faults.hang("close", seconds=LIMIT)
    thread = threading.Thread(target=guard.reaper.sweep, daemon=True)
    thread.start()
    guard.engine.wait_for("close", 1, LIMIT)
    assert guard.reaper.sweep().closed == []
    assert thread.is_alive()
    guard.engine.stop()
    thread.join(LIMIT)
    assert not thread.is_alive()


# Failures.

FAULTS: dict[str, dict[str, Any]] = {
    "fail": {},
    "cut": {},
    "garbage": {},
    "lose_answer": {},
    "half_answer": {},
    "hang": {"seconds": 0.1},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failed_close_is_tried_again_until_it_succeeds(guard: Guard, fault: str):
    """The lease stays with the reason, and ends when the service has said so."""
    info = guard.session("dead")
    getattr(guard.engine.faults, fault)("close", times=2, **FAULTS[fault])
    report = guard.reaper.sweep()
    lease = guard.leases()[info.id]
    assert (lease.state, lease.reaper, lease.tries) == (FAILED, None, 1)
    assert [one.session_id for one in report.failed] == [info.id]
    assert lease.reason == report.failed[0].reason != ""
    assert report.next_due is not None
    assert 0 < report.next_due <= SLOWEST
    guard.sweep_until(lambda: not guard.leases())
    assert guard.active() == set()


def test_delays_grow_up_to_a_minute():
    """The first is the vendor's 2 to 5 seconds, then twice as much each time; every reaper finds the same."""
    delays = [delay("key", tries, (2.0, 5.0)) for tries in range(1, 30)]
    assert 2.0 <= delays[0] <= 5.0
    assert delays[-1] == SLOWEST
    assert all(earlier <= later for earlier, later in itertools.pairwise(delays))
    assert delay("key", 1, (0.0, 0.0)) == FASTEST
    assert len({delay(str(number), 1, (2.0, 5.0)) for number in range(20)}) > 10


def test_nothing_is_tried_before_it_is_due(guard: Guard, tmp_path: Path):
    """A second sweep right after a failure asks nothing, and tells when it will."""
    guard.service = guard.service._replace(retry_min=60.0, retry_max=60.0)
    reaper = guard.another()
    guard.session("dead")
    guard.engine.faults.fail("close")
    reaper.sweep()
    assert 0 < (reaper.sweep().next_due or 0.0) <= 60.0
    assert guard.engine.calls("close") == 1


def test_a_refused_key_is_tried_slowly(guard: Guard):
    """Suspended accounts are asked once a minute, and the lease says why."""
    info = guard.session("dead")
    guard.engine.add_account("suspended", str(guard.engine.api_key))
    report = guard.reaper.sweep()
    assert "ACCOUNT_SUSPENDED" in report.failed[0].reason
    assert SLOWEST - LIMIT < (report.next_due or 0.0) <= SLOWEST
    guard.engine.add_account("active", str(guard.engine.api_key))
    later = now()._replace(steady=now().steady + SLOWEST)
    assert guard.another(now=lambda: later).sweep().closed == [info.id]


def test_a_lapsed_lease_ends_without_asking(guard: Guard):
    """The service has ended the session by itself; that needs no call."""
    past = now()._replace(steady=now().steady - 301.0 - MARGIN)
    lapsed, alive = guard.session("dead", at=past), guard.session("alive", at=past)
    report = guard.reaper.sweep()
    assert (report.gone, set(guard.leases())) == ([lapsed.id], {alive.id})
    assert guard.engine.calls("close") == 0


def test_lapsed_leases_of_any_account_are_removed(guard: Guard):
    """That needs no key; those of others than the dead stay, and so does what has not lapsed."""
    past = now()._replace(steady=now().steady - 400.0 - MARGIN)
    gone = guard.lease("dead", at=past, account="another")
    kept = [guard.lease(owner, at=past, account="another") for owner in ("alive", "unknown")]
    kept.append(guard.lease("dead", account="another"))
    guard.ledger.enrol("a third", "dead", "program", now())
    assert sweep_lapsed(guard.ledger, judge, now()) == 1
    assert {lease.key for lease in guard.ledger.leases()} == {lease.key for lease in kept}
    assert gone.key not in {lease.key for lease in kept}
    assert guard.ledger.enrolled("a third") == []


def test_an_attempt_that_the_ledger_can_not_note_is_not_forgotten(guard: Guard, monkeypatch: pytest.MonkeyPatch):
    """The disk is full when a close succeeded: the next sweep ends the lease, without closing a second time."""
    guard.session("dead")

    def full(key: str) -> str | None:
        raise LedgerError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(guard.ledger, "end", full)
        with pytest.raises(LedgerError):
            guard.reaper.sweep()
    assert [lease.state for lease in guard.leases().values()] == [CLOSING]
    guard.reaper.sweep()
    assert guard.leases() == {}
    assert guard.engine.calls("close") == 1


def test_what_was_claimed_before_the_ledger_failed_is_closed(guard: Guard, monkeypatch: pytest.MonkeyPatch):
    """A claim that nobody acts on would keep every other reaper away."""
    ids = [guard.session("dead").id for _ in range(3)]
    real, calls = guard.ledger.claim, iter(range(10))

    def claim(seen: Lease, reaper: str, at: Moment) -> bool:
        if next(calls) == 1:
            raise LedgerError("the disk is full")
        return real(seen, reaper, at)

    monkeypatch.setattr(guard.ledger, "claim", claim)
    with pytest.raises(LedgerError):
        guard.reaper.sweep()
    assert guard.active() == set(ids[1:])
    assert guard.reaper.sweep().left == 0
    assert guard.active() == set()


def test_a_bug_in_a_close_does_not_keep_the_lease(guard: Guard, monkeypatch: pytest.MonkeyPatch):
    """Whatever is raised, the claim is given back, and the reason quotes nothing."""
    info = guard.session("dead")
    monkeypatch.setattr(Post, "_read", lambda *args: 1 / 0)
    guard.reaper.sweep()
    assert guard.leases()[info.id].reason == "the guard failed with ZeroDivisionError"


# Engines that are gone. These run as processes of their own.


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Guard]]:
    """Starts an engine as a process, and an account on it."""
    started: list[Any] = []

    def begin(**options: Any) -> Guard:
        engine = Engine(**options).start()
        guard = Guard(tmp_path / "state", engine)
        started.append(guard.close)
        return guard

    yield begin
    for end in started:
        end()


def test_an_engine_that_was_killed_took_its_sessions_with_it(start: Callable[..., Guard]):
    """Its leases end at the next sweep."""
    guard = start()
    infos = [guard.session("dead") for _ in range(3)]
    os.kill(guard.engine.pid, signal.SIGKILL)
    reports = guard.sweep_until(lambda: not guard.leases())  # it may take a moment to die
    assert {one for report in reports for one in report.gone} == {info.id for info in infos}
    assert all(not report.closed for report in reports)


def test_an_engine_on_the_same_port_is_another_one(start: Callable[..., Guard]):
    """Leases of the first end; the second's sessions are closed as any."""
    guard = start()
    key, port = str(guard.engine.api_key), int(guard.engine.base_url.rpartition(":")[2])
    first = guard.session("dead")
    guard.engine.stop()
    other = start(port=port, api_keys=[key])
    second, kept = other.session("dead"), other.session("alive")
    report = other.reaper.sweep()
    assert (report.gone, report.closed) == ([first.id], [second.id])
    assert other.active() == {kept.id}


def test_an_engine_that_is_stopped_is_not_gone(start: Callable[..., Guard]):
    """A stopped process answers nothing: its leases stay, and are closed when it goes on."""
    guard = start()
    guard.service = guard.service._replace(connect_timeout=0.2, read_timeout=0.2)
    reaper = guard.another()
    info = guard.session("dead")
    os.kill(guard.engine.pid, signal.SIGSTOP)
    try:
        report = reaper.sweep()
    finally:
        os.kill(guard.engine.pid, signal.SIGCONT)
    assert [one.session_id for one in report.failed] == [info.id]
    assert set(guard.leases()) == {info.id}
    guard.sweep_until(lambda: not guard.leases())
    assert guard.active() == set()


# Real owners.


def test_the_sessions_of_a_killed_process_are_closed_and_those_of_a_stopped_one_are_not(guard: Guard):
    """With real processes and the real judge."""
    from pytest_bbre.guard import owners

    code = "from pytest_bbre.guard import owners; print(owners.here(), flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = [subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) for _ in range(2)]
    try:
        names = [process.stdout.readline().strip() for process in processes if process.stdout is not None]
        killed, stopped = (guard.session(name) for name in names)
        reaper = guard.another(str(owners.here()), judge=owners.judge)
        assert reaper.sweep().closed == []
        processes[0].kill()
        processes[1].send_signal(signal.SIGSTOP)
        processes[0].wait(LIMIT)
        assert reaper.sweep().closed == [killed.id]
        assert guard.active() == {stopped.id}
    finally:
        for process in processes:
            process.kill()
            process.communicate(timeout=LIMIT)


def test_a_reaper_that_is_killed_leaves_nothing_that_the_next_can_not_close(guard: Guard, tmp_path: Path):
    """A process is killed while its closes are under way; another takes all of them over."""
    from pytest_bbre.guard import owners

    ids = {guard.session("dead").id for _ in range(5)}
    guard.engine.faults.hang("close", seconds=LIMIT, times=5)
    code = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parents[2])]!r}
from _reaping import *
from pytest_bbre.guard import owners
ledger = SqliteLedger({guard.ledger.path!r})
door = Door(Service({guard.engine.base_url!r}, sys.stdin.readline().strip()))
Reaper(ledger, ACCOUNT, door, str(owners.here()), judge=judge, now=now).sweep()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        process.stdin.write(str(guard.engine.api_key) + "\n")
        process.stdin.flush()
        guard.engine.wait_for("close", 5, LIMIT)
        process.kill()
    assert all(lease.reaper for lease in guard.leases().values())
    real = owners.judge
    reaper = guard.another(judge=lambda owner: judge(owner) if owner.startswith(("dead", "alive")) else real(owner))
    assert set(reaper.sweep().closed) == ids
    assert guard.active() == set()


# Rules.


def lease(**fields: Any) -> Lease:
    """A lease of a dead owner, open since the moment 0."""
    start = Moment(1000.0, 0.0, "boot")
    return Lease("key", 1, Wanted(ACCOUNT, "dead"), "open", "s", None, start, start)._replace(**fields)


@pytest.mark.parametrize(
    ("fields", "seconds", "expected"),
    [
        ({}, 1.0, CLOSE),
        ({"wanted": Wanted(ACCOUNT, "alive")}, 10_000.0, LEAVE),
        ({"wanted": Wanted(ACCOUNT, "unknown")}, 10_000.0, LEAVE),
        ({"state": "failed"}, 1.0, CLOSE),
        ({"state": "failed", "wanted": Wanted(ACCOUNT, "alive")}, 10_000.0, LEAVE),
        ({"reaper": "alive"}, 10_000.0, LEAVE),
        ({"reaper": "unknown"}, 10_000.0, LEAVE),
        ({"reaper": "dead"}, 1.0, CLOSE),
        ({"reaper": "dead", "wanted": Wanted(ACCOUNT, "alive")}, 1.0, LEAVE),
        ({"evicted_by": "x", "wanted": Wanted(ACCOUNT, "alive")}, 1.0, CLOSE),
        ({"evicted_by": "x", "reaper": "alive", "wanted": Wanted(ACCOUNT, "alive")}, 1.0, LEAVE),
        ({"state": "opening", "session_id": None}, 1.0, LOOK),
        ({"state": "opening", "session_id": None, "wanted": Wanted(ACCOUNT, "alive")}, 10_000.0, LEAVE),
        ({"state": "opening", "session_id": None, "wanted": Wanted(ACCOUNT, "unknown")}, 10_000.0, LEAVE),
        ({"state": "failed", "session_id": None, "wanted": Wanted(ACCOUNT, "alive")}, 1.0, LOOK),
        ({"state": "failed", "session_id": None, "wanted": Wanted(ACCOUNT, "unknown")}, 1.0, LEAVE),
        ({"state": "failed", "session_id": None, "wanted": Wanted(ACCOUNT, "alive")}, 10_000.0, END),
        ({}, 10_000.0, END),
    ],
)
def test_verdicts(fields: dict[str, Any], seconds: float, expected: str):
    """Each state of a lease with each kind of owner has one verdict; a living owner's is closed only when evicted."""
    at = Moment(1000.0 + seconds, seconds, "boot")
    assert verdict(lease(**fields), judge, at, (2.0, 5.0)).verdict == expected


def test_a_clock_that_was_set_back_delays_nothing():
    """A try that seems to lie in the future, after a reboot, is due."""
    tried = lease(state="failed", tries=5, tried=Moment(9000.0, 1.0, "boot before"))
    assert verdict(tried, judge, Moment(1001.0, 1.0, "boot"), (2.0, 5.0)).due == 0.0


def test_a_judge_is_asked_once_for_each_owner():
    """In one look at a ledger."""
    asked: list[str] = []
    ask = verdicts.cached(lambda owner: (asked.append(owner), judge(owner))[1])
    assert [ask("dead").state, ask("dead").state, ask("alive").state] == ["dead", "dead", "alive"]
    assert asked == ["dead", "alive"]


def test_the_key_is_nowhere_in_the_ledger(guard: Guard):
    """Reasons of failures, in an account whose service echoes what it was sent, hold no key."""
    key = str(guard.engine.api_key)
    guard.session("dead")
    guard.engine.faults.fail("close", message=f"not with {key}")
    guard.reaper.sweep()
    assert "***" in str(next(iter(guard.leases().values())).reason)
    guard.ledger.close()
    for path in Path(guard.ledger.folder).iterdir():
        assert key.encode() not in path.read_bytes()
    with sqlite3.connect(guard.ledger.path) as db:
        assert key not in "".join(db.iterdump())
    db.close()


def test_nothing_is_done_without_a_lease(guard: Guard):
    """An empty ledger needs no call of the service: a reaper may sweep often."""
    session = guard.unknown_session()
    assert guard.reaper.sweep() == ([], [], [], [], 0, None)
    assert guard.engine.calls("list") == guard.engine.calls("close") == 0
    assert guard.active() == {session}


def test_defaults_judge_real_owners(guard: Guard):
    """A reaper that is given nothing but its necessities leaves this very process's session alone."""
    from pytest_bbre.guard import owners

    info = guard.client.create_session()
    lease = guard.ledger.take(Wanted(ACCOUNT, str(owners.here())), 10, now())
    assert isinstance(lease, Lease)
    guard.ledger.opened(lease.key, info.id, info.engine, 300.0, now())
    door = Door(Service(guard.engine.base_url, guard.engine.api_key))
    assert Reaper(guard.ledger, ACCOUNT, door, ME).sweep().closed == []
    assert guard.active() == {info.id}
