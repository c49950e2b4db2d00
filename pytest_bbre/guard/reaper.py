"""Knows how what dead owners left is closed: claimed, closed at the same time, ended, or tried again later.
Must not know the rules by which a lease may be touched (verdicts), nor how lost creates are found (lost).

The ledger is the only state: a reaper may die between any two steps, and another goes on where it stopped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from .. import _wire
from ..errors import LedgerError
from . import owners
from .claims import Claims
from .crew import Crew, Job
from .door import CLOSED, ENDED, GONE, REFUSED, Closed, Door
from .findings import Found, Looked, Suspect
from .leases import Lease, Ledger, Moment, moment
from .lost import Search
from .owners import DEAD
from .verdicts import END, KEY_REFUSED, LEAVE, LOOK, Case, Judge, cached, in_use, verdict

AT_ONCE: Final = 10  # sessions closed at the same time: as many as an account has


class Failed(NamedTuple):
    """A session that could not be closed, and why."""

    session_id: str
    reason: str


class Report(NamedTuple):
    """What a sweep has done.

    Attributes:
        closed: ids of sessions that hold no slot any more, lost ones that were found included.
        failed: what could not be closed, and will be tried again.
        gone: ids of sessions that ended with their engine, or by their own timeout.
        lost: sessions that may be those of lost creates, and that only a person may close.
        left: leases that may be reaped and still are there.
        next_due: seconds until there is something to do again; None if never.
    """

    closed: list[str]
    failed: list[Failed]
    gone: list[str]
    lost: list[Suspect]
    left: int
    next_due: float | None


class Reaper:
    """Closes what dead owners of one account left. Safe to use from many threads; one sweep runs at a time.

    Args:
        ledger: where the leases are.
        account: the account's name in it.
        door: the way to the service.
        me: this process, as `str(Owner)`.
        judge: tells whether an owner is alive.
        wake: called with whoever is next for a slot, after each lease that ended.
        now: the time.
        exclusive: whether everybody who uses the account uses this ledger; None for what each lease says.
        at_once: sessions closed at the same time; with 1, on the thread that sweeps.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        ledger: Ledger,
        account: str,
        door: Door,
        me: str,
        *,
        judge: Judge = owners.judge,
        wake: Callable[[str | None], object] = lambda owner: None,
        now: Callable[[], Moment] = lambda: moment(owners.boot_id()),
        exclusive: bool | None = None,
        at_once: int = AT_ONCE,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._ledger = ledger
        self._account = account
        self._door = door
        self._judge = judge
        self._wake = wake
        self._now = now
        self._retry = door.service.retry_min, door.service.retry_max
        self._claims = Claims(ledger, me, wake, now)
        self._search = Search(
            ledger,
            account,
            door,
            self._claims,
            judge=judge,
            wake=wake,
            now=now,
            exclusive=exclusive,
            at_once=at_once,
            sleep=sleep,
        )
        self._crew = Crew(at_once, "bbre-reaper")
        self._sweeping = threading.Lock()
        self._lock = threading.Lock()
        self._closed: list[tuple[Lease, Closed]] = []
        self._looked: list[Looked] = []
        self._looking = False

    # Looking.

    def plan(self) -> list[Case]:
        """What may be done about each lease of the account, and why. Changes nothing."""
        judge, now = cached(self._judge), self._now()
        leases = self._ledger.leases(self._account)
        used = in_use(leases, judge)
        cases = [verdict(lease, judge, now, self._retry, used) for lease in leases]
        return [
            case._replace(due=self._search.due(case.lease.key, now)) if case.verdict == LOOK else case for case in cases
        ]

    def unknown(self) -> list[_wire.SessionInfo]:
        """Active sessions of the account that are in no lease, and that nobody here is just opening.

        Raises:
            BBREError: they could not be listed.
        """
        return self._search.unknown()

    def settle_lost(self, key: str, patience: float) -> Found:
        """Looks for the session of a create whose answer was lost, for its living owner.

        Args:
            key: of its lease, which its owner has told the ledger to have failed.
            patience: seconds for all of it.
        """
        return self._search.settle(key, patience)

    # Sweeping.

    def sweep(self, within: float | None = None) -> Report:
        """Closes what may be closed and is due. A second call during the first does nothing.

        Args:
            within: seconds to wait for the service; what takes longer goes on, and is in a later report.

        Raises:
            LedgerError: the ledger can't be used. What was closed is written there as soon as it can be.
        """
        if not self._sweeping.acquire(blocking=False):
            return Report([], [], [], [], 0, 1.0)
        try:
            return self._sweep(within)
        finally:
            self._sweeping.release()

    def _sweep(self, within: float | None) -> Report:
        self._claims.write_again()
        self._dismiss()  # first: a dead process in the queue keeps everybody behind it waiting
        jobs: list[Job] = []
        try:
            due = [case for case in self.plan() if case.verdict != LEAVE and not case.due]
            for case in due:
                if case.verdict != LOOK and self._claims.take(case.lease):
                    jobs.append(partial(self._end if case.verdict == END else self._close, case.lease))
            if any(case.verdict == LOOK for case in due) and not self._looking:
                self._looking = True
                jobs.append(self._look)
        except LedgerError as error:  # what has been claimed by now is closed all the same
            self._claims.note(error)
        self._crew.run(jobs, within)
        if jobs:
            self._dismiss()
        self._claims.raise_trouble()
        return self._report()

    def _end(self, lease: Lease) -> None:
        self._finish(lease, Closed(GONE))

    def _close(self, lease: Lease) -> None:
        closed = self._door.close(str(lease.session_id), lease.engine)
        if closed.outcome == REFUSED:
            closed = closed._replace(reason=KEY_REFUSED + closed.reason)
        self._finish(lease, closed)

    def _finish(self, lease: Lease, closed: Closed) -> None:
        with self._lock:
            self._closed.append((lease, closed))
        if closed.holds_no_slot:
            self._claims.end(lease.key)
        else:
            self._claims.give_back(lease.key, closed.reason)

    def _look(self) -> None:
        try:
            looked = self._search.look()
            with self._lock:
                self._looked.append(looked)
        except LedgerError as error:
            self._claims.note(error)
        finally:
            self._looking = False

    def _dismiss(self) -> None:
        """Forgets dead processes that left nothing, and all dead ones that wait in the queue."""
        judge = cached(self._judge)
        waiting = {ticket.owner for ticket in self._ledger.queue(self._account)}
        enrolled = {one.owner for one in self._ledger.enrolled(self._account)}
        dead = {owner for owner in waiting | enrolled if judge(owner).state == DEAD}
        if not dead:
            return
        holding = {lease.wanted.owner for lease in self._ledger.leases(self._account)}
        for owner in sorted(dead):
            if owner in waiting or owner not in holding:
                self._ledger.dismiss(self._account, owner)
        queue = self._ledger.queue(self._account) if dead & waiting else []
        if queue:
            self._wake(queue[0].owner)

    def _report(self) -> Report:
        with self._lock:
            closed, self._closed = self._closed, []
            looked, self._looked = self._looked, []
        left = [case for case in self.plan() if case.due is not None]
        ended = [(str(lease.session_id), one) for lease, one in closed if lease.session_id is not None]
        suspects = {one.session_id: one for look in looked for _, one in look.suspects}
        return Report(
            closed=[one for one, outcome in ended if outcome.outcome in (CLOSED, ENDED)]
            + [one for look in looked for one in look.closed],
            failed=[Failed(one, outcome.reason) for one, outcome in ended if not outcome.holds_no_slot]
            + [Failed(one, reason) for look in looked for one, reason in look.failed],
            gone=[one for one, outcome in ended if outcome.outcome == GONE],
            lost=list(suspects.values()),
            left=len(left),
            next_due=min((case.due for case in left if case.due is not None), default=None),
        )


def sweep_lapsed(
    ledger: Ledger, judge: Judge = owners.judge, now: Moment | None = None, account: str | None = None
) -> int:
    """Removes leases of dead owners whose sessions have ended by their own timeouts: of any account, since that
    needs no key; and forgets dead processes that left nothing.

    Args:
        ledger: where the leases are.
        judge: tells whether an owner is alive.
        now: the time; None for this very moment.
        account: only this one's; None for all.

    Returns:
        How many leases.
    """
    judge, at = cached(judge), now or moment(owners.boot_id())
    removed, holding = 0, set()
    for lease in ledger.leases(account):
        case = verdict(lease, judge, at, (0.0, 0.0))
        if case.verdict == END and judge(lease.wanted.owner).state == DEAD:
            ledger.end(lease.key)
            removed += 1
        else:
            holding.add((lease.wanted.account, lease.wanted.owner))
    for one in ledger.enrolled(account):
        if (one.account, one.owner) not in holding and judge(one.owner).state == DEAD:
            ledger.dismiss(one.account, one.owner)
    return removed
