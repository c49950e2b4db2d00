"""Knows how a session is found whose id nobody knows: its create was sent, and the answer was lost or its asker died.
Must not know leases of sessions whose ids are known. Whatever is not certain is told to people, never closed.

The account's list is the witness. It is read first, and the ledger after it: a session in the list that is in no
lease then can only be a lost one, or be of somebody who is just opening it; that one is waited for.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple

from .. import _wire
from ..errors import BBREError, LedgerError
from .claims import Claims
from .crew import Crew
from .door import CLOSED, GONE, Door
from .findings import Found, Looked, Suspect, words
from .leases import OPENING, Lease, Ledger, Moment
from .owners import ALIVE, UNKNOWN
from .post import UnreachedError
from .sight import Sight
from .verdicts import LOOK, Judge, cached, delay, verdict

INTERVALS: Final = (0.1, 0.2, 0.5, 1.0, 2.0)  # seconds until the next look, while a create may be in flight
AFTERWARDS: Final = 30.0  # seconds, when it can't be any more, and only a person may close what was found; our choice
SAME_CLOCK: Final = 0.2  # seconds by which the clocks of a moment may run apart during a look; our choice
QUIET_LOOKS: Final = 2  # looks without a trace after which there is no session: one may have overtaken the create
UNKNOWN_ID: Final = "nobody knows its id, and the account shows no such session so far"


class _Looks(NamedTuple):
    """How often a lost lease was looked for, when (on the steady clock) it is due again, and looks without a trace."""

    times: int = 0
    due: float = 0.0
    quiet: int = 0


class _Rivals(NamedTuple):
    """Leases of those who may be just opening a session, without having noted its id yet.

    Attributes:
        here: of living processes, which will note it soon.
        far: of processes that nobody here can judge, which may never.
    """

    here: list[Lease]
    far: list[Lease]


class Search:
    """Looks for the lost sessions of one account. Safe to use from many threads; one look is taken at a time.

    Args:
        ledger, account, door, judge, wake, now, exclusive, at_once, sleep: as for `Reaper`.
        claims: what this process has claimed.
    """

    def __init__(
        self,
        ledger: Ledger,
        account: str,
        door: Door,
        claims: Claims,
        *,
        judge: Judge,
        wake: Callable[[str | None], object],
        now: Callable[[], Moment],
        exclusive: bool | None,
        at_once: int,
        sleep: Callable[[float], object],
    ) -> None:
        self._ledger = ledger
        self._account = account
        self._door = door
        self._claims = claims
        self._judge = judge
        self._wake = wake
        self._now = now
        self._exclusive = exclusive
        self._retry = door.service.retry_min, door.service.retry_max
        self._sleep = sleep
        self._crew = Crew(at_once, "bbre-lost")
        self._lock = threading.Lock()
        self._looks: dict[str, _Looks] = {}
        self._first_seen: dict[str, Moment] = {}  # by session id

    def due(self, key: str, now: Moment) -> float:
        """Seconds until a lost lease should be looked for again."""
        return max(self._looks.get(key, _Looks()).due - now.steady, 0.0)

    # Seeing.

    def look(self, within: float | None = None) -> Looked:
        """Looks for all lost sessions, and closes those that may be closed.

        Args:
            within: seconds for each call of the service, if fewer than its time limits allow.

        Raises:
            LedgerError: the ledger can't be used.
        """
        if not self._lock.acquire(timeout=-1 if within is None else within):
            return Looked(trouble="another look is under way.")
        try:
            return self._look(within)
        finally:
            self._lock.release()

    def _look(self, within: float | None) -> Looked:
        try:
            sight = self._see(within)
        except BBREError as error:
            if isinstance(error, LedgerError):
                raise
            return self._unseen(error)
        lost, rivals = self._sorted(sight.leases)
        self._looks = {lease.key: self._looks.get(lease.key, _Looks()) for lease in lost}
        if sight.clock_was_set(SAME_CLOCK):
            return self._later(lost, "this machine's clock was set")
        return self._match(sight, lost, rivals, within)

    def unknown(self) -> list[_wire.SessionInfo]:
        """As `Reaper.unknown`."""
        with self._lock:
            sight = self._see(None)
            _, rivals = self._sorted(sight.leases)
            return [one for one in sight.unknown() if not self._has_rival(sight, one, rivals.here)]

    def _see(self, within: float | None) -> Sight:
        asked = self._now()
        listing = self._door.active(within=within)
        seen = self._now()
        missing = self._ledger.made if self._ledger.follows else None
        sight = Sight(listing, asked, seen, self._ledger.leases(self._account), missing)
        self._first_seen = {one.id: self._first_seen.get(one.id, seen) for one in sight.unknown()}
        return sight

    def _sorted(self, leases: Iterable[Lease]) -> tuple[list[Lease], _Rivals]:
        """The lost ones that are ours to look for, oldest first; and those of sessions that are just being opened."""
        judge, now = cached(self._judge), self._now()
        lost = [lease for lease in leases if verdict(lease, judge, now, self._retry).verdict == LOOK]
        opening = [(lease, judge(lease.wanted.owner).state) for lease in leases if lease.state == OPENING]
        here = [lease for lease, owner in opening if owner == ALIVE]
        far = [lease for lease, owner in opening if owner == UNKNOWN and not lease.is_lapsed(now)]
        return lost, _Rivals(here, far)

    def _has_rival(self, sight: Sight, session: _wire.SessionInfo, rivals: Iterable[Lease]) -> bool:
        return any(sight.may_own(rival, session, self._first_seen[session.id]) for rival in rivals)

    def _unseen(self, error: BBREError) -> Looked:
        leases = self._ledger.leases(self._account)
        lost, _ = self._sorted(leases)
        is_engine = self._door.engine is not None or any(lease.engine for lease in leases)
        if isinstance(error, UnreachedError) and error.refused_here and is_engine:
            for lease in lost:  # it took its sessions with it, those that nobody knew included
                if self._claims.take(lease):
                    self._claims.end(lease.key)
            return Looked(gone=True)
        return self._later(lost, error.message)

    def _later(self, lost: list[Lease], trouble: str) -> Looked:
        for lease in lost:
            count = self._looks.get(lease.key, _Looks()).times + 1
            self._set_due(lease, delay(lease.key, count, self._retry))
        return Looked(trouble=trouble)

    def _set_due(self, lease: Lease, seconds: float, quiet: int = 0) -> None:
        count = self._looks.get(lease.key, _Looks()).times + 1
        self._looks[lease.key] = _Looks(count, self._now().steady + seconds, quiet)

    # Deciding.

    def _match(self, sight: Sight, lost: list[Lease], rivals: _Rivals, within: float | None) -> Looked:
        mine: dict[str, list[_wire.SessionInfo]] = defaultdict(list)  # what is to be closed, by lease
        theirs: dict[str, list[Suspect]] = defaultdict(list)  # what only a person may close
        undecided: set[str] = set()  # leases whose session it is, unless it is a rival's
        for session in sight.unknown():
            may_be = [(lease, sight.is_of(session, lease, late=self._is_exclusive(lease))) for lease in lost]
            possible = [lease for lease, is_of in may_be if is_of is not False]
            certain = [lease for lease, is_of in may_be if is_of and self._is_exclusive(lease)]
            if possible and self._has_rival(sight, session, rivals.here):
                undecided.update(lease.key for lease in possible)
            elif certain and not self._has_rival(sight, session, rivals.far):
                free = [lease for lease in certain if lease.key not in mine]
                mine[(free or certain)[0].key].append(session)
            else:
                for lease in possible:
                    theirs[lease.key].append(_suspect(sight, session))
        for lease in lost:
            if lease.key not in mine:
                self._not_closed(sight, lease, theirs.get(lease.key, []), lease.key in undecided)
        suspects = tuple((key, one) for key, some in theirs.items() for one in some)
        return self._close([lease for lease in lost if lease.key in mine], mine, sight, within)._replace(
            suspects=suspects
        )

    def _is_exclusive(self, lease: Lease) -> bool:
        return lease.wanted.exclusive if self._exclusive is None else self._exclusive

    def _not_closed(self, sight: Sight, lease: Lease, suspects: list[Suspect], undecided: bool) -> None:
        looks = self._looks[lease.key]
        interval = INTERVALS[min(looks.times, len(INTERVALS) - 1)]
        if undecided:
            self._set_due(lease, interval)
            return
        if suspects:
            ids = " or ".join(one.session_id for one in suspects)
            self._mark(lease, f"its session may be {ids}, or that may be somebody else's")
            self._set_due(lease, AFTERWARDS if sight.is_over(lease) else interval)
            return
        quiet = looks.quiet + 1 if sight.is_over(lease) else 0
        if quiet < QUIET_LOOKS:
            self._mark(lease, UNKNOWN_ID)
            self._set_due(lease, interval if quiet == 0 else INTERVALS[0], quiet)
        elif self._claims.take(lease):
            self._claims.end(lease.key)

    def _mark(self, lease: Lease, reason: str) -> None:
        """Notes what is known. A lease that FAILED without an id holds no slot: that is free from then on."""
        was_opening = lease.state == OPENING
        if (was_opening or lease.reason != reason) and self._claims.take(lease):
            self._claims.give_back(lease.key, reason)
            queue = self._ledger.queue(self._account) if was_opening else []
            if queue:
                self._wake(queue[0].owner)

    # Closing.

    def _close(
        self,
        leases: list[Lease],
        sessions: dict[str, list[_wire.SessionInfo]],
        sight: Sight,
        within: float | None,
    ) -> Looked:
        closed: list[str] = []
        failed: list[tuple[str, str]] = []

        def close(lease: Lease) -> None:
            outcomes = {
                one.id: self._door.close(one.id, sight.listing.engine, within=within) for one in sessions[lease.key]
            }
            mine = [one for one, outcome in outcomes.items() if outcome.outcome in (CLOSED, GONE)]
            closed.extend(mine)
            reasons = [(one, outcome.reason) for one, outcome in outcomes.items() if not outcome.holds_no_slot]
            failed.extend(reasons)
            if not reasons and mine:
                self._claims.end(lease.key)
                return
            # None of them failed, and none was there any more: somebody was faster, and they were not its own.
            reason = f"its session, {reasons[0][0]}, could not be closed: {reasons[0][1]}" if reasons else UNKNOWN_ID
            self._claims.give_back(lease.key, reason)
            count = self._looks[lease.key].times + 1
            self._set_due(lease, delay(lease.key, count, self._retry) if reasons else INTERVALS[0])

        self._crew.run([partial(close, lease) for lease in leases if self._claims.take(lease)])
        return Looked(tuple(closed), failed=tuple(failed))

    # For a living client.

    def settle(self, key: str, patience: float) -> Found:
        """As `Reaper.settle_lost`."""
        give_up = self._now().steady + patience
        closed: tuple[str, ...] = ()
        while True:
            looked = self.look(within=max(give_up - self._now().steady, INTERVALS[0]))
            closed += looked.closed
            suspects = [one for lease, one in looked.suspects if lease == key]
            now = self._now()
            left = any(lease.key == key for lease in self._ledger.leases(self._account))
            pause = max(self.due(key, now), INTERVALS[0])
            if not left or suspects or now.steady + pause > give_up:
                return Found(list(closed), suspects, words(closed, suspects, looked, left))
            self._sleep(pause)


def _suspect(sight: Sight, session: _wire.SessionInfo) -> Suspect:
    return Suspect(session.id, sight.age(session), f"bbre close {session.id}")
