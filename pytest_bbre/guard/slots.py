"""Knows how a slot is waited for: first come first served, among all processes of the ledger, with a limit of time.
Must not know what a slot is used for, nor the words in which people are told of the waiting.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Final

from ..errors import LedgerError, ShuttingDownError
from . import owners
from .circle import find_circle, newest
from .door import Closed
from .evict import Eviction, idle_in
from .leases import Lease, Ledger, Moment, Waiting, Wanted, moment
from .line import LOOK_AGAIN, Line
from .owners import ALIVE, DEAD
from .verdicts import Judge, cached
from .wake import Bell

__tracebackhide__ = True  # a failing test shows its own lines; pytest --full-trace shows ours

UNHEARD: Final = 0.1  # seconds between two looks where no FIFO can wake anybody; our choice
TELL_AFTER: Final = 2.0  # seconds of waiting until people are told
SURE_AFTER: Final = 0.2  # seconds that a circle has to last: somebody in it may be about to give up; our choice
PAUSES: Final = (0.2, 0.4, 0.8, 1.6, 3.2, 5.0)  # seconds until the service is asked again after it had no slot
LONGEST_PAUSE: Final = 30.0  # seconds, whatever the service asks for; our choice
PATIENT: Final = 2  # refusals until a session is evicted for one that the service has no slot for; it may count late


class Place:
    """One place in the queue of an account, and then a slot. For one thread, which it blocks.

    Args:
        ledger: shared by all processes.
        wanted: the session to open.
        limit: how many slots the account has.
        slot_timeout: seconds from now until it gives up; None for never; 0 for at once.
        evict_after: seconds that a session of somebody else has to be idle to be closed for this one; None for never.
        bell: where this process is woken; `poke` it to have `cancelled` asked at once.
        close: closes a session that was evicted, and tells what became of it.
        reap: closes what dead owners left. It is called on a thread of its own.
        wake: wakes a process that waits, as `str(Owner)`.
        tell: shows a line to the person who runs this program.
        cancelled: gives a reason why nobody wants the slot any more; None as long as somebody does.
        judge: tells whether an owner is alive.
        line: of all that wait in this process for this account.

    Attributes:
        lease: what was taken; there is none before `wait` has returned.
    """

    lease: Lease

    def __init__(
        self,
        ledger: Ledger,
        wanted: Wanted,
        *,
        limit: int,
        slot_timeout: float | None,
        evict_after: float | None,
        bell: Bell,
        close: Callable[[Lease], Closed],
        reap: Callable[[], object],
        wake: Callable[[str | None], object],
        tell: Callable[[str], object],
        cancelled: Callable[[], str | None],
        judge: Judge = owners.judge,
        line: Line | None = None,
    ) -> None:
        self._ledger = ledger
        self._wanted = wanted
        self._limit = limit
        self._slot_timeout = slot_timeout
        self._evict_after = evict_after
        self._bell = bell
        self._reap = reap
        self._wake = wake
        self._tell = tell
        self._cancelled = cancelled
        self._judge = judge
        self._line = line or Line()
        self._eviction = Eviction(ledger, wanted.account, wanted.owner, close=close, wake=wake, now=_now)
        self._since = time.monotonic()
        self._ticket: int | None = None
        self._told = False
        self._refusals = 0
        self._refusal: BaseException | None = None
        self._suspected: tuple[object, float] | None = None

    # Waiting.

    def wait(self) -> Lease:
        """Waits for a slot and takes it.

        Raises:
            LedgerError: the ledger can't be used.
            SlotTimeoutError: no slot came free in time; SlotCircleError: none ever will.
            ShuttingDownError: `cancelled` gave a reason.
        """
        try:
            while True:
                heard, evicting = self._bell.count, self._eviction.under_way
                found = self._ledger.take(self._wanted, self._limit, _now(), self._ticket)
                if isinstance(found, Lease):
                    return self._granted(found)
                self._line.change(self._ticket, found.ticket)
                self._ticket = found.ticket
                self._look_around(found, evicting)
                self._rest(heard, self._until_next_look(found))
        finally:
            self._give_up()

    def refused(self, error: BaseException) -> Lease:
        """The service had no slot, though the ledger had one: others use the account, or it counts late. Waits, with
        the same place in the queue and within the same limit of time.

        Raises:
            SessionLimitReachedError: `error` itself, where the ledger can't be used; else as `wait`.
        """
        pause = max(PAUSES[min(self._refusals, len(PAUSES) - 1)], getattr(error, "retry_after", None) or 0.0)
        self._refusals += 1
        self._refusal = error
        try:
            self._ticket = self._ledger.refuse(self.lease.key, min(pause, LONGEST_PAUSE), _now())
            self._line.change(None, self._ticket)
            return self.wait()
        except LedgerError:
            raise error from None

    def _granted(self, lease: Lease) -> Lease:
        self.lease = lease
        self._line.change(self._ticket, None)
        self._ticket = None
        with contextlib.suppress(LedgerError):  # the others look again by themselves
            self._wake_next()
        return lease

    def _wake_next(self) -> None:
        """Slots may come free at the same time, and one wake-up stand for several: who got one tells the next."""
        queue = self._ledger.queue(self._wanted.account)
        if not queue:
            return
        now = _now()
        held = sum(lease.holds_slot(now) for lease in self._ledger.leases(self._wanted.account))
        if held < self._limit:
            self._wake(queue[0].owner)

    def _give_up(self) -> None:
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            self._line.change(ticket, None)
            self._line.withdraw(self._ledger, ticket, self._wake)

    # Between two looks.

    def _rest(self, heard: int, until: float) -> None:
        """Returns when there may be something new: for who is first in this process, at each wake-up."""
        while (left := until - time.monotonic()) > 0:
            count = self._bell.wait(heard, left)
            self._heed()
            if count != heard and self._line.is_first(self._ticket):
                return
            heard = count

    def _heed(self) -> None:
        reason = self._cancelled()
        if reason:
            raise ShuttingDownError(f"No session is opened any more: {reason}.")

    def _left(self) -> float:
        """Seconds until it gives up."""
        if self._slot_timeout is None:
            return float("inf")
        return self._slot_timeout - (time.monotonic() - self._since)

    def _until_next_look(self, found: Waiting) -> float:
        """The time, by time.monotonic, at which to look again if nobody rings before."""
        waited = time.monotonic() - self._since
        pauses = [LOOK_AGAIN if self._bell.fileno() is not None else UNHEARD, found.paused, self._left()]
        if not self._told:
            pauses.append(TELL_AFTER - waited)
        if self._suspected is not None:
            pauses.append(SURE_AFTER)
        if self._evict_after is not None and found.position == 1:
            pauses.append(idle_in(found, self._evict_after, _now()) or LOOK_AGAIN)
        return time.monotonic() + min(pause for pause in pauses if pause > 0)

    # Looking around.

    def _look_around(self, found: Waiting, evicting: bool) -> None:
        self._heed()
        judge = cached(self._judge)
        self._see_the_dead(found, judge)
        self._see_a_circle(found, judge)
        if self._evict(found) or evicting:
            return
        if self._left() <= 0:
            from .waiting import timed_out

            error = timed_out(found, self._limit, self._slot_timeout or 0.0, self._labels(), judge, _now())
            raise error from self._refusal
        if not self._told and time.monotonic() - self._since >= TELL_AFTER:
            self._told = True
            if self._line.may_tell():
                from .waiting import progress

                self._tell(progress(found, self._limit, self._labels()))

    def _see_the_dead(self, found: Waiting, judge: Judge) -> None:
        """A dead process holds its slot, and its place before others in the queue, until it is reaped."""
        if not self._line.may_reap():
            return
        ahead = {ticket.owner for ticket in found.queue if ticket.number < found.ticket}
        if any(judge(owner).state == DEAD for owner in ahead | {lease.wanted.owner for lease in found.holders}):
            self._line.reap(self._reap)

    def _see_a_circle(self, found: Waiting, judge: Judge) -> None:
        """Who closed a circle, and nobody else in it, is told: it closes what it holds, and the others go on."""
        members = find_circle(found, self._limit, lambda owner: judge(owner).state == ALIVE)
        if members is None or newest(members) != found.ticket:
            self._suspected = None
            return
        seen = {(member.lease.key, member.ticket.number) for member in members}
        if self._suspected is None or self._suspected[0] != seen:
            self._suspected = seen, time.monotonic()
        elif time.monotonic() - self._suspected[1] >= SURE_AFTER:
            from .waiting import circled

            raise circled(members, self._labels(), judge, _now())

    def _evict(self, found: Waiting) -> bool:
        """Whether a session is being closed for this one, which is next."""
        full = len(found.holders) >= self._limit or self._refusals > PATIENT
        if self._evict_after is None or found.position > 1 or not full:
            return False
        from .waiting import newcomer

        def by() -> str:
            return newcomer(self._wanted.owner, self._wanted.place, self._labels())

        return self._eviction.start(by, self._evict_after)

    def _labels(self) -> dict[str, str]:
        return {one.owner: one.label for one in self._ledger.enrolled(self._wanted.account)}


def _now() -> Moment:
    return moment(owners.boot_id())
