"""What every ledger does, whatever it keeps its leases in: guard/leases.py's interface, by one suite."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from _scripted import LIMIT

from pytest_bbre.guard.leases import (
    CLOSING,
    FAILED,
    MARGIN,
    OPEN,
    OPENING,
    Lease,
    Ledger,
    Moment,
    Waiting,
    Wanted,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the guard is proven on POSIX systems")

OPENERS = {
    # kind: Python that opens the ledger of the folder sys.argv[1] as `ledger`
    "sqlite": """
from pytest_bbre.guard.ledger import SqliteLedger
ledger = SqliteLedger(sys.argv[1] + "/state/ledger.db")
""",
}

# What every process of these tests begins with; `steady` is a clock that all of them share.
PROLOGUE = """
import os, sys, time
from pytest_bbre.guard.leases import *
OPENER
me = sys.argv[2]
folder = sys.argv[1]
until = time.monotonic() + 60


def now():
    assert time.monotonic() < until, "it takes too long"
    return Moment(time.time(), time.monotonic(), "boot")


def take(wanted, limit):
    got = ledger.take(wanted, limit, now())
    while isinstance(got, Waiting):
        time.sleep(0.001)  # a ledger tells nobody of news: that is done by others
        got = ledger.take(wanted, limit, now(), got.ticket)
    return got


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())


say("ready")
sys.stdin.readline()  # all begin at once
"""


class Place(NamedTuple):
    """One ledger, which is opened as often as a test wants."""

    kind: str
    folder: Path

    def open(self) -> Ledger:
        """The ledger, as another process would have it."""
        names: dict[str, Any] = {"sys": type("sys", (), {"argv": ["", str(self.folder)]})}
        exec(OPENERS[self.kind], names)
        return names["ledger"]  # type: ignore[no-any-return]


@pytest.fixture(params=OPENERS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty ledger."""
    return Place(request.param, tmp_path)


@pytest.fixture
def ledger(place: Place) -> Iterator[Ledger]:
    """An empty ledger, open."""
    opened = place.open()
    yield opened
    opened.close()


@pytest.fixture
def other(place: Place, ledger: Ledger) -> Iterator[Ledger]:
    """The same ledger, opened once more."""
    opened = place.open()
    yield opened
    opened.close()


Run = Callable[..., list[list[str]]]


@pytest.fixture
def start(place: Place) -> Iterator[Callable[[str, str], subprocess.Popen[str]]]:
    """Starts Python in another process that has the same ledger as `ledger`; it waits until it is told to go."""
    started: list[subprocess.Popen[str]] = []

    def begin(source: str, name: str) -> subprocess.Popen[str]:
        program = PROLOGUE.replace("OPENER", OPENERS[place.kind]) + textwrap.dedent(source)
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(place.folder), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def run(start: Callable[[str, str], subprocess.Popen[str]]) -> Run:
    """Runs Python in several processes at once; gives the lines that each said."""

    def all_at_once(*sources: str) -> list[list[str]]:
        processes = [start(source, f"process-{number}") for number, source in enumerate(sources)]
        for process in processes:
            go(process, wait=True)
        for process in processes:
            go(process)
        found = []
        for process in processes:
            out, _ = process.communicate(timeout=3 * LIMIT)
            assert process.returncode == 0
            found.append(out.splitlines())
        return found

    return all_at_once


def go(process: subprocess.Popen[str], *, wait: bool = False) -> None:
    """Waits until a process is ready, or tells it to go."""
    assert process.stdin is not None
    assert process.stdout is not None
    if wait:
        assert process.stdout.readline() == "ready\n"
    else:
        process.stdin.write("go\n")
        process.stdin.flush()


def at(steady: float = 100.0, boot: str = "boot", wall: float | None = None) -> Moment:
    """A moment."""
    return Moment(1_000_000 + steady if wall is None else wall, steady, boot)


WANTED = Wanted("account", "owner", "actor", "adaptive", "high", 60.0, 40.0, "test_x.py::test_y", True, True, True)
OTHER = WANTED._replace(account="another account")


def taken(ledger: Ledger, wanted: Wanted = WANTED, limit: int = 10, now: Moment | None = None) -> Lease:
    """A lease that is opening."""
    got = ledger.take(wanted, limit, now or at())
    assert isinstance(got, Lease)
    return got


def waiting(ledger: Ledger, wanted: Wanted = WANTED, limit: int = 1, now: Moment | None = None) -> Waiting:
    """A place in the queue."""
    got = ledger.take(wanted, limit, now or at())
    assert isinstance(got, Waiting)
    return got


def opened(ledger: Ledger, wanted: Wanted = WANTED, session_id: str = "s-1", now: Moment | None = None) -> Lease:
    """A lease that is open."""
    lease = taken(ledger, wanted, 1000, now)
    assert ledger.opened(lease.key, session_id, None, wanted.timeout, now or at())
    return the(ledger, lease.key)


def the(ledger: Ledger, key: str) -> Lease:
    """A lease as it is now."""
    return next(lease for lease in ledger.leases() if lease.key == key)


class TestProcesses:
    """enrol, dismiss, enrolled."""

    def test_a_process_is_enrolled_once_for_an_account(self, ledger: Ledger, other: Ledger):
        """A second time changes nothing, and everybody sees it."""
        ledger.enrol("account", "me", "program", at(1))
        ledger.enrol("account", "me", "another name", at(2))
        ledger.enrol("another account", "me", "program", at(3))
        assert [(one.owner, one.label, one.since) for one in other.enrolled("account")] == [("me", "program", at(1))]
        assert len(other.enrolled()) == 2

    def test_dismissing_forgets_the_process_and_its_tickets(self, ledger: Ledger):
        """Its leases stay, and so does all that is others'."""
        ledger.enrol("account", "owner", "", at())
        ledger.enrol("account", "neighbour", "", at())
        lease = taken(ledger)
        waiting(ledger)
        mine = waiting(ledger, WANTED._replace(owner="neighbour"))
        ledger.dismiss("account", "owner")
        assert [one.owner for one in ledger.enrolled()] == ["neighbour"]
        assert [ticket.number for ticket in ledger.queue("account")] == [mine.ticket]
        assert [one.key for one in ledger.leases()] == [lease.key]

    def test_dismissing_from_one_account_leaves_the_others(self, ledger: Ledger):
        """A process may use two accounts."""
        ledger.enrol("account", "owner", "", at())
        ledger.enrol("another account", "owner", "", at())
        ledger.dismiss("account", "owner")
        assert [one.account for one in ledger.enrolled()] == ["another account"]


class TestSlots:
    """take, refuse, withdraw, queue."""

    def test_a_lease_has_all_that_was_wanted(self, ledger: Ledger, other: Ledger):
        """It is written as opening, without an id, and everybody sees the same."""
        lease = taken(ledger, now=at(5))
        assert lease == Lease(lease.key, lease.number, WANTED, OPENING, None, None, at(5), at(5))
        assert other.leases("account") == [lease]
        assert other.leases("another account") == []

    def test_no_more_leases_than_the_limit(self, ledger: Ledger):
        """The next one waits, and is told who holds the slots and who else waits."""
        leases = [taken(ledger, limit=3) for _ in range(3)]
        first = waiting(ledger, limit=3, now=at(7))
        second = waiting(ledger, WANTED._replace(owner="another", actor="a", place="p"), limit=3, now=at(8))
        assert (first.position, second.position) == (1, 2)
        assert second.holders == leases
        assert [ticket.number for ticket in second.queue] == [first.ticket, second.ticket]
        assert second.queue[1][1:] == ("account", "another", "a", "p", at(8))
        assert second.paused == 0
        assert ledger.queue("account") == second.queue

    def test_accounts_do_not_share_slots(self, ledger: Ledger):
        """Another account's leases and queue do not count."""
        taken(ledger, limit=1)
        waiting(ledger)
        assert taken(ledger, OTHER, limit=1)
        assert ledger.queue("another account") == []

    def test_the_first_to_come_is_the_first_to_be_served(self, ledger: Ledger):
        """A free slot is kept for who waits for longer, whoever asks first."""
        lease = taken(ledger, limit=1)
        first, second = waiting(ledger), waiting(ledger)
        ledger.end(lease.key)
        assert isinstance(ledger.take(WANTED, 1, at(), second.ticket), Waiting)
        assert isinstance(ledger.take(WANTED, 1, at()), Waiting)
        got = ledger.take(WANTED, 1, at(), first.ticket)
        assert isinstance(got, Lease)
        assert got.number == first.ticket

    def test_two_free_slots_are_enough_for_the_second_in_the_queue(self, ledger: Ledger):
        """It need not wait until the first has come for its own."""
        leases = [taken(ledger, limit=2) for _ in range(2)]
        waiting(ledger, limit=2)
        second = waiting(ledger, limit=2)
        for lease in leases:
            ledger.end(lease.key)
        assert isinstance(ledger.take(WANTED, 2, at(), second.ticket), Lease)

    def test_a_lower_limit_does_not_hold_up_a_higher_one(self, ledger: Ledger):
        """Who wants fewer slots to be used in all waits by itself."""
        taken(ledger, limit=3)
        modest = waiting(ledger, limit=1)
        lease = taken(ledger, limit=3)
        assert isinstance(ledger.take(WANTED, 1, at(), modest.ticket), Waiting)
        third = taken(ledger, limit=3)
        ledger.end(lease.key)
        ledger.end(third.key)
        assert isinstance(ledger.take(WANTED, 2, at(), modest.ticket), Lease)

    def test_a_raised_limit_counts_at_once(self, ledger: Ledger):
        """The last limit that a waiter came with is what it waits with."""
        taken(ledger, limit=1)
        first = waiting(ledger)
        second = waiting(ledger)
        assert isinstance(ledger.take(WANTED, 2, at(), second.ticket), Lease)  # the first wants one at most
        assert isinstance(ledger.take(WANTED, 3, at(), first.ticket), Lease)

    def test_a_ticket_is_its_owner_s(self, ledger: Ledger):
        """Somebody else who comes with its number gets another one; so does who comes for another account."""
        taken(ledger, limit=1)
        taken(ledger, OTHER, limit=1)
        mine = waiting(ledger)
        for wanted in (WANTED._replace(owner="another"), OTHER):
            got = ledger.take(wanted, 1, at(), mine.ticket)
            assert isinstance(got, Waiting)
            assert got.ticket > mine.ticket

    def test_coming_again_keeps_the_number(self, ledger: Ledger):
        """A waiter asks as often as it likes."""
        taken(ledger, limit=1)
        first = waiting(ledger)
        again = ledger.take(WANTED, 1, at(), first.ticket)
        assert isinstance(again, Waiting)
        assert again.ticket == first.ticket
        assert len(again.queue) == 1

    def test_a_withdrawn_ticket_gets_a_new_number(self, ledger: Ledger):
        """No number is ever given twice."""
        taken(ledger, limit=1)
        first = waiting(ledger)
        assert ledger.withdraw(first.ticket) is None
        again = ledger.take(WANTED, 1, at(), first.ticket)
        assert isinstance(again, Waiting)
        assert again.ticket > first.ticket

    def test_withdrawing_tells_who_is_next(self, ledger: Ledger):
        """So that it can be woken; a ticket that is not there tells nobody."""
        taken(ledger, limit=1)
        first = waiting(ledger)
        waiting(ledger, WANTED._replace(owner="next"))
        assert ledger.withdraw(first.ticket) == "next"
        assert ledger.withdraw(first.ticket) is None

    @pytest.mark.parametrize(
        ("state", "life"),
        [(OPENING, WANTED.timeout + WANTED.patience + MARGIN), (OPEN, WANTED.timeout + MARGIN)],
    )
    def test_a_lapsed_lease_takes_no_slot(self, ledger: Ledger, state: str, life: float):
        """The service has ended its session by itself; the lease is still there."""
        lease = taken(ledger, now=at(0)) if state == OPENING else opened(ledger, now=at(0))
        assert not the(ledger, lease.key).is_lapsed(at(life))
        waiting(ledger, now=at(life))
        ledger.dismiss("account", "owner")
        assert the(ledger, lease.key).is_lapsed(at(life + 1))
        taken(ledger, limit=1, now=at(life + 1))
        assert len(ledger.leases()) == 2

    def test_use_prolongs_a_lease(self, ledger: Ledger):
        """Its session's timeout begins anew with each request."""
        lease = opened(ledger, now=at(0))
        ledger.touch(lease.key, at(1000))
        assert the(ledger, lease.key).used == at(1000)
        assert the(ledger, lease.key).opened == at(0)
        waiting(ledger, now=at(1000 + WANTED.timeout))

    def test_a_clock_that_is_set_changes_nothing(self, ledger: Ledger):
        """Within a boot only the steady clock counts; after another boot there is only the wall clock."""
        opened(ledger, now=at(0, wall=1_000_000))
        waiting(ledger, now=at(1, wall=9_000_000))
        ledger.dismiss("account", "owner")
        waiting(ledger, now=at(0, "next boot", wall=1_000_030))
        ledger.dismiss("account", "owner")
        taken(ledger, limit=1, now=at(0, "next boot", wall=1_000_071))

    def test_only_a_failed_lease_without_an_id_takes_no_slot(self, ledger: Ledger):
        """It is not known to exist; one with an id is, and so is one that is being closed."""
        lost, unclosed, closing = taken(ledger), opened(ledger), opened(ledger)
        ledger.failed(lost.key, "no answer", at())
        ledger.failed(unclosed.key, "no answer", at())
        ledger.closing(closing.key)
        assert [one.key for one in waiting(ledger, limit=2).holders] == [unclosed.key, closing.key]

    def test_a_refused_lease_becomes_the_first_ticket_again(self, ledger: Ledger):
        """It keeps its number, and its place before those who came later."""
        lease = taken(ledger, limit=1)
        later = waiting(ledger)
        assert ledger.refuse(lease.key, 1.0, at(0)) == lease.number
        assert ledger.leases() == []
        assert [ticket.number for ticket in ledger.queue("account")] == [lease.number, later.ticket]
        assert ledger.queue("account")[0][1:5] == ("account", "owner", "actor", "test_x.py::test_y")

    def test_a_refusal_pauses_the_account(self, ledger: Ledger):
        """Nobody of it is given a slot until the pause is over; other accounts are."""
        lease = taken(ledger)
        number = ledger.refuse(lease.key, 2.0, at(0))
        got = ledger.take(WANTED, 10, at(0.5), number)
        assert isinstance(got, Waiting)
        assert got.paused == 1.5
        taken(ledger, OTHER)
        assert isinstance(ledger.take(WANTED, 10, at(2.0), number), Lease)

    def test_a_shorter_pause_does_not_end_a_longer_one(self, ledger: Ledger):
        """The service has been heard twice."""
        first, second = taken(ledger), taken(ledger)
        ledger.refuse(first.key, 5.0, at(0))
        ledger.refuse(second.key, 1.0, at(0))
        assert waiting(ledger, limit=10, now=at(2)).paused == 3.0

    def test_a_freed_slot_ends_the_pause(self, ledger: Ledger):
        """It is known that there is one now."""
        held, refused = opened(ledger), taken(ledger)
        number = ledger.refuse(refused.key, 60.0, at(0))
        ledger.end(held.key)
        assert isinstance(ledger.take(WANTED, 10, at(1), number), Lease)

    def test_a_pause_does_not_outlast_the_boot(self, ledger: Ledger):
        """Its clock is gone."""
        ledger.refuse(taken(ledger).key, 60.0, at(0))
        ledger.dismiss("account", "owner")
        taken(ledger, now=at(0, "next boot"))

    def test_refusing_a_lease_that_is_gone_gives_no_ticket(self, ledger: Ledger):
        """What is given gets a new number when it is shown."""
        assert ledger.refuse("unknown", 60.0, at()) == -1
        assert isinstance(ledger.take(WANTED, 1, at(), -1), Lease)


class TestLeases:
    """opened, adopt, touch, begin_use, end_use, closing, failed, end, leases."""

    def test_opened_notes_what_the_service_said(self, ledger: Ledger):
        """Its id, the engine's instance and the timeout that really holds; the session's life begins then."""
        lease = taken(ledger, now=at(1))
        assert ledger.opened(lease.key, "s-1", "engine-1", 77.0, at(2))
        changed = lease.wanted._replace(timeout=77.0)
        expected = lease._replace(
            state=OPEN, session_id="s-1", engine="engine-1", wanted=changed, opened=at(2), used=at(2)
        )
        assert the(ledger, lease.key) == expected

    def test_opened_says_if_the_lease_is_gone(self, ledger: Ledger):
        """Nothing is written then."""
        lease = taken(ledger)
        ledger.end(lease.key)
        assert not ledger.opened(lease.key, "s-1", None, 60.0, at())
        assert ledger.leases() == []

    def test_what_is_disowned_is_the_heir_s(self, ledger: Ledger):
        """Its leases have another owner, and nothing else about them has changed; nobody else's leases have."""
        mine, other = taken(ledger), taken(ledger, WANTED._replace(owner="other"))
        ledger.enrol(WANTED.account, WANTED.owner, "program", at())
        ledger.disown(WANTED.account, WANTED.owner, "heir")
        assert the(ledger, mine.key) == mine._replace(wanted=mine.wanted._replace(owner="heir"))
        assert the(ledger, other.key) == other
        assert ledger.enrolled(WANTED.account) == []

    def test_an_adopted_lease_is_as_it_was(self, ledger: Ledger):
        """Each of its values comes back. It takes the place of an older entry, unless somebody is closing that."""
        wanted = WANTED._replace(scoped=False, evictable=False)
        full = Lease(
            *("key", 50, wanted, FAILED, "s-1", "engine", at(1), at(2), 3, "reaper", "somebody", 4, at(5), "a reason"),
        )
        ledger.adopt(full._replace(state=OPENING, number=7, session_id=None, reaper=None))
        ledger.adopt(full)
        ledger.adopt(full._replace(state=OPEN, number=8))
        assert ledger.leases() == [full]

    def test_numbers_go_on_after_an_adopted_one(self, ledger: Ledger):
        """So that no ticket has the number of a lease that may become a ticket again."""
        ledger.adopt(Lease("key", 50, WANTED, OPENING, None, None, at(), at()))
        assert taken(ledger).number > 50
        ledger.adopt(Lease("another", 20, WANTED, OPENING, None, None, at(), at()))
        assert taken(ledger).number > 51
        ledger.adopt(Lease("a third", 200, WANTED, OPENING, None, None, at(), at()))
        assert taken(ledger).number > 200

    def test_failing_keeps_the_lease_and_its_reason(self, ledger: Ledger):
        """The number of attempts goes up."""
        lease = opened(ledger)
        ledger.failed(lease.key, "no route", at(5))
        ledger.failed(lease.key, "no answer", at(6))
        found = the(ledger, lease.key)
        assert (found.state, found.reason, found.tries, found.tried) == (FAILED, "no answer", 2, at(6))
        assert found.session_id == "s-1"

    def test_a_late_answer_makes_a_failed_lease_open(self, ledger: Ledger):
        """Its reason is forgotten."""
        lease = taken(ledger)
        ledger.failed(lease.key, "no answer", at(5))
        assert ledger.opened(lease.key, "s-1", None, 60.0, at(6))
        assert (the(ledger, lease.key).state, the(ledger, lease.key).reason) == (OPEN, None)

    def test_ending_removes_the_lease_and_tells_who_is_next(self, ledger: Ledger):
        """Only of its own account; a second time does nothing."""
        lease = taken(ledger, limit=1)
        taken(ledger, OTHER, limit=1)
        waiting(ledger, OTHER)
        waiting(ledger, WANTED._replace(owner="next"))
        waiting(ledger, WANTED._replace(owner="after"))
        assert ledger.end(lease.key) == "next"
        assert ledger.end(lease.key) is None
        assert [one.wanted.account for one in ledger.leases()] == ["another account"]

    def test_leases_come_oldest_first(self, ledger: Ledger):
        """By the number of their tickets."""
        keys = [taken(ledger).key for _ in range(5)]
        assert [one.key for one in ledger.leases("account")] == keys

    def test_text_for_people_may_be_anything(self, ledger: Ledger):
        """Control characters, half characters of odd file names, quotes and endless texts do no harm."""
        odd = "\0\x1b[2J'; DROP TABLE leases; --\udcff" + "x" * 1_000_000
        ledger.enrol("account", "owner", odd, at())
        lease = taken(ledger, WANTED._replace(place=odd, actor=odd))
        ledger.failed(lease.key, odd, at())
        assert waiting(ledger, WANTED._replace(place=odd, actor=odd), limit=0).position == 1
        assert the(ledger, lease.key).wanted.place.startswith("\0\x1b[2J'; DROP TABLE leases; --")
        assert len(str(the(ledger, lease.key))) < 100_000
        assert len(ledger.enrolled()) == 1


class TestReaping:
    """claim, unclaim."""

    def test_one_of_two_reapers_gets_a_lease(self, ledger: Ledger, other: Ledger):
        """It is closing then, in the reaper's name."""
        seen = opened(ledger)
        assert ledger.claim(seen, "reaper", at(9))
        assert not other.claim(seen, "another", at(9))
        found = the(ledger, seen.key)
        assert (found.state, found.reaper, found.tries, found.tried) == (CLOSING, "reaper", 1, at(9))

    @pytest.mark.parametrize("change", ["opened", "touched", "closing", "failed", "ended", "claimed", "tried"])
    def test_a_lease_that_changed_is_not_claimed(self, ledger: Ledger, change: str):
        """What was judged is not what is there."""
        seen = taken(ledger) if change == "opened" else opened(ledger)
        changes: dict[str, Callable[[], object]] = {
            "opened": lambda: ledger.opened(seen.key, "s-1", None, 60.0, at()),
            "touched": lambda: ledger.touch(seen.key, at(101)),
            "closing": lambda: ledger.closing(seen.key),
            "failed": lambda: ledger.failed(seen.key, "", at()),
            "ended": lambda: ledger.end(seen.key),
            "claimed": lambda: ledger.claim(seen, "another", at()),
            "tried": lambda: (ledger.failed(seen.key, "", at()), ledger.opened(seen.key, "s-1", None, 60.0, at())),
        }
        changes[change]()
        assert not ledger.claim(seen, "reaper", at())

    def test_a_claimed_lease_can_be_taken_over_by_who_has_seen_that(self, ledger: Ledger):
        """The first reaper may have died."""
        seen = opened(ledger)
        ledger.claim(seen, "reaper", at())
        assert ledger.claim(the(ledger, seen.key), "another", at())
        assert the(ledger, seen.key).reaper == "another"

    def test_a_lease_without_an_id_stays_as_it_is(self, ledger: Ledger):
        """There is nothing to close yet."""
        opening, lost = taken(ledger), taken(ledger)
        ledger.failed(lost.key, "no answer", at())
        for key, state in ((opening.key, OPENING), (lost.key, FAILED)):
            assert ledger.claim(the(ledger, key), "reaper", at())
            assert the(ledger, key).state == state

    def test_a_failed_attempt_gives_the_lease_back(self, ledger: Ledger):
        """With its reason, to be claimed again."""
        seen = opened(ledger)
        ledger.claim(seen, "reaper", at())
        ledger.unclaim(seen.key, "reaper", "no route", at(12))
        found = the(ledger, seen.key)
        assert (found.state, found.reaper, found.reason, found.tried) == (FAILED, None, "no route", at(12))
        assert ledger.claim(found, "another", at())

    def test_only_its_reaper_gives_a_lease_back(self, ledger: Ledger):
        """Not its owner, nor another reaper."""
        seen = opened(ledger)
        ledger.claim(seen, "reaper", at())
        ledger.unclaim(seen.key, "another", "no route", at())
        ledger.failed(seen.key, "no route", at())
        found = the(ledger, seen.key)
        assert (found.state, found.reaper, found.reason) == (CLOSING, "reaper", None)


class TestEviction:
    """begin_use, end_use, evict."""

    def evict(self, ledger: Ledger, now: Moment, min_idle: float = 10.0) -> Lease | None:
        """Somebody needs a slot."""
        return ledger.evict("account", "somebody", "reaper", min_idle, now)

    def test_the_longest_idle_session_is_evicted(self, ledger: Ledger):
        """It is claimed: closing, for whom, and by whom."""
        fresh, idle = opened(ledger, now=at(50)), opened(ledger, session_id="s-2", now=at(40))
        got = self.evict(ledger, at(70))
        assert got == idle._replace(state=CLOSING, evicted_by="somebody", reaper="reaper")
        assert got == the(ledger, idle.key)
        assert the(ledger, fresh.key) == fresh

    def test_what_must_not_be_evicted_is_not(self, ledger: Ledger):
        """Not idle for long enough; not evictable; busy; not open; of another account or boot."""
        opened(ledger, now=at(91))
        opened(ledger, WANTED._replace(evictable=False), now=at(0))
        taken(ledger, now=at(0))
        opened(ledger, OTHER, now=at(0))
        opened(ledger, now=at(0, "earlier boot"))
        busy, closing, failed = (opened(ledger, now=at(0)) for _ in range(3))
        ledger.begin_use(busy.key, at(0))
        ledger.closing(closing.key)
        ledger.failed(failed.key, "", at())
        before = ledger.leases()
        assert self.evict(ledger, at(100)) is None
        assert ledger.leases() == before

    def test_a_session_can_be_evicted_after_its_last_request(self, ledger: Ledger):
        """Not while one of several is in flight; its idle time begins with the end of the last."""
        lease = opened(ledger, now=at(0))
        assert ledger.begin_use(lease.key, at(1)) is None
        assert ledger.begin_use(lease.key, at(2)) is None
        ledger.end_use(lease.key, at(20))
        assert self.evict(ledger, at(50)) is None
        ledger.end_use(lease.key, at(45))
        assert self.evict(ledger, at(50)) is None
        assert self.evict(ledger, at(55)) is not None

    def test_ends_without_a_beginning_do_no_harm(self, ledger: Ledger):
        """The next request is protected all the same."""
        lease = opened(ledger, now=at(0))
        ledger.end_use(lease.key, at(1))
        ledger.begin_use(lease.key, at(2))
        assert the(ledger, lease.key).busy == 1
        assert self.evict(ledger, at(50)) is None

    def test_the_owner_learns_of_it_with_every_request(self, ledger: Ledger, other: Ledger):
        """By whom and when, also when the lease is gone; until it leaves."""
        lease = opened(ledger, now=at(0))
        self.evict(ledger, at(50))
        for _ in range(2):
            told = other.begin_use(lease.key, at(60))
            assert told == ("s-1", "somebody", at(50))
            other.end(lease.key)
        ledger.dismiss("account", "owner")
        assert ledger.begin_use(lease.key, at(60)) is None

    def test_a_request_through_an_unknown_lease_goes_on(self, ledger: Ledger):
        """There was no eviction."""
        assert ledger.begin_use("unknown", at()) is None

    def test_evictions_are_not_kept_for_ever(self, ledger: Ledger):
        """One that is older than any session can be is forgotten with the next one."""
        old = opened(ledger, now=at(0))
        self.evict(ledger, at(50))
        ledger.end(old.key)
        opened(ledger, now=at(50 + 86_401 - 20))
        assert ledger.begin_use(old.key, at(50)) is not None
        assert self.evict(ledger, at(50 + 86_401)) is not None
        assert ledger.begin_use(old.key, at(50)) is None


class TestGuardians:
    """guardian, serve, retire."""

    def test_one_of_two_serves(self, ledger: Ledger, other: Ledger):
        """The one that saw what is still there."""
        assert (ledger.guardian("account"), ledger.guardian_version("account")) == (None, 0)
        assert ledger.serve("account", "first", None, 7)
        assert (other.guardian_version("account"), other.guardian_version("another account")) == (7, 0)
        assert not other.serve("account", "second", None)
        assert other.guardian("account") == "first"
        assert other.serve("account", "second", "first")
        assert ledger.guardian("account") == "second"
        assert ledger.guardian("another account") is None

    def test_it_retires_when_nothing_is_left(self, ledger: Ledger):
        """No process, no ticket and no lease of its account; others' do not count."""
        ledger.serve("account", "guardian", None)
        ledger.enrol("another account", "owner", "", at())
        taken(ledger, OTHER)
        assert ledger.retire("account", "guardian")
        assert ledger.guardian("account") is None

    @pytest.mark.parametrize("left", ["process", "ticket", "lease"])
    def test_it_stays_while_something_is_left(self, ledger: Ledger, left: str):
        """And retires if it ignores just that: by the lease's key, or by the owner."""
        ledger.serve("account", "guardian", None)
        ignoring = ["owner"]
        if left == "process":
            ledger.enrol("account", "owner", "", at())
        elif left == "ticket":
            waiting(ledger, limit=0)
        else:
            ignoring = [taken(ledger).key]
        assert not ledger.retire("account", "guardian", ["something else"])
        assert ledger.guardian("account") == "guardian"
        assert ledger.retire("account", "guardian", ignoring)

    def test_the_leases_of_an_ignored_owner_are_ignored(self, ledger: Ledger):
        """A guardian does not wait for owners that it can't judge."""
        ledger.serve("account", "guardian", None)
        taken(ledger)
        assert ledger.retire("account", "guardian", ["owner"])

    def test_who_does_not_serve_may_go(self, ledger: Ledger):
        """And leaves the other one in its place."""
        ledger.enrol("account", "owner", "", at())
        ledger.serve("account", "another", None)
        assert ledger.retire("account", "guardian")
        assert ledger.guardian("account") == "another"


class TestItself:
    """salt, made, changes, generation, close."""

    def test_everybody_has_the_same_salt(self, ledger: Ledger, other: Ledger):
        """It is 16 random bytes, and accounts are hashed alike."""
        assert ledger.salt == other.salt
        assert len(ledger.salt) == 16
        assert len(set(ledger.salt)) > 1

    def test_everybody_knows_when_it_was_made(self, ledger: Ledger, other: Ledger):
        """It stays the moment of the first opening."""
        assert ledger.made == other.made

    def test_changes_tells_of_others_writes(self, ledger: Ledger, other: Ledger):
        """And stays as it is while nobody writes."""
        before = ledger.changes()
        assert ledger.changes() == before
        for write in (
            lambda: other.enrol("account", "owner", "", at()),
            lambda: taken(other),
            lambda: other.dismiss("account", "owner"),
        ):
            write()
            after = ledger.changes()
            assert after != before
            assert ledger.changes() == after
            before = after

    @pytest.mark.parametrize("how", ["close", "leave"])
    def test_a_closed_ledger_can_be_used_again(self, ledger: Ledger, how: str):
        """What comes late is not lost, and nothing was replaced."""
        lease = taken(ledger)
        getattr(ledger, how)()
        getattr(ledger, how)()
        ledger.end(lease.key)
        assert ledger.leases() == []
        assert ledger.generation == 0

    def test_threads_may_share_it(self, ledger: Ledger, on_threads: Callable[..., list[Any]]):
        """Eight take and end leases at once, and never have more than they may."""

        def many() -> bool:
            for _ in range(25):
                got = ledger.take(WANTED, 3, at())
                if isinstance(got, Lease):
                    assert sum(lease.holds_slot(at()) for lease in ledger.leases()) <= 3
                    ledger.end(got.key)
                else:
                    ledger.withdraw(got.ticket)
            return True

        assert on_threads(many) == [True] * 8
        assert ledger.leases() == []
        assert ledger.queue("account") == []


class TestManyProcesses:
    """What holds while several processes are at it."""

    def test_never_more_than_the_limit(self, run: Run, place: Place, ledger: Ledger):
        """Six processes share two slots, and files that they make while they hold one are never more than two."""
        (place.folder / "held").mkdir()
        source = """
            for number in range(25):
                lease = take(Wanted("account", me), 2)
                path = f"{folder}/held/{me}-{number}"
                open(path, "x").close()
                if len(os.listdir(f"{folder}/held")) > 2:
                    say("too many")
                os.unlink(path)
                ledger.end(lease.key)
        """
        assert run(*[source] * 6) == [[]] * 6
        assert ledger.leases() == []
        assert ledger.queue("account") == []

    def test_first_come_first_served(self, run: Run, place: Place, ledger: Ledger):
        """With one slot for five processes, slots are given in the order of the numbers."""
        source = """
            for number in range(20):
                lease = take(Wanted("account", me), 1)
                with open(f"{folder}/order", "a") as file:  # by whoever has the only slot
                    file.write(f"{lease.number}\\n")
                ledger.end(lease.key)
        """
        run(*[source] * 5)
        order = [int(line) for line in (place.folder / "order").read_text().splitlines()]
        assert len(order) == 100
        assert order == sorted(order)

    def test_each_lease_is_claimed_once(self, run: Run, ledger: Ledger):
        """Of four reapers that see the same leases."""
        keys = {opened(ledger, session_id=f"s-{number}").key for number in range(30)}
        source = """
            for lease in ledger.leases():
                if lease.reaper is None and ledger.claim(lease, me, now()):
                    say(lease.key)
        """
        claimed = [key for keys in run(*[source] * 4) for key in keys]
        assert sorted(claimed) == sorted(keys)

    def test_one_guardian_at_a_time(self, run: Run, ledger: Ledger):
        """Of four that saw the same one before them, one serves."""
        source = """
            say(ledger.serve("account", me, None))
        """
        assert sorted(lines[0] for lines in run(*[source] * 4)) == ["False", "False", "False", "True"]

    def test_no_session_is_evicted_while_it_is_used(self, run: Run, ledger: Ledger, place: Place):
        """A request that has begun ends before the eviction, and none begins after it."""
        user = """
            evicted = 0
            while evicted < 20:
                lease = take(Wanted("account", me, evictable=True), 10)
                ledger.opened(lease.key, "s-1", None, 60.0, now())
                while ledger.begin_use(lease.key, now()) is None:
                    open(f"{folder}/used-{lease.key}", "x").close()
                    os.unlink(f"{folder}/used-{lease.key}")
                    ledger.end_use(lease.key, now())
                evicted += 1
            say("evicted", evicted)
            open(f"{folder}/done", "x").close()
        """
        evictor = """
            while not os.path.exists(f"{folder}/done"):
                lease = ledger.evict("account", me, me, 0.0, now())
                if lease is not None:
                    if os.path.exists(f"{folder}/used-{lease.key}"):
                        say("in use")
                    ledger.end(lease.key)
        """
        assert run(user, evictor) == [["evicted 20"], []]

    def test_who_is_killed_at_any_moment_leaves_a_true_ledger(
        self, start: Callable[[str, str], subprocess.Popen[str]], ledger: Ledger
    ):
        """What a killed process was told is done is there, and nothing is half done."""
        source = """
            for number in range(1_000_000):
                lease = take(Wanted("account", me), 1000)
                say("took", lease.key)
                ledger.opened(lease.key, f"s-{number}", None, 60.0, now())
                if number % 2:
                    say("ends", lease.key)
                    ledger.end(lease.key)
        """
        for number in range(8):
            process = start(source, f"process-{number}")
            go(process, wait=True)
            go(process)
            assert process.stdout is not None
            said = [process.stdout.readline() for _ in range(5 + 7 * number)]
            process.send_signal(signal.SIGKILL)
            said += process.stdout.readlines()
            words = [line.split() for line in said]
            # A line may have been cut by the kill.
            took = {line[1] for line in words if line[:1] == ["took"] and len(line[1:]) == 1 and len(line[1]) == 32}
            ends = {line[1] for line in words if line[:1] == ["ends"] and len(line[1:]) == 1}
            mine = [lease for lease in ledger.leases() if lease.wanted.owner == f"process-{number}"]
            assert took - ends <= {lease.key for lease in mine}
            assert len(mine) <= len(took - ends) + 2  # one taken that it could not tell of, one that it could not end
            assert all((lease.session_id is None) == (lease.state == OPENING) for lease in mine)
            assert isinstance(ledger.take(WANTED, 100_000, at()), Lease)  # nothing is locked
