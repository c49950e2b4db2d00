"""Knows which listed session may be whose: what one look at the account's list and at the ledger after it tells.
Must not know how either was read, nor change anything. All times are ages at that look, so no clock has to be right.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .. import _wire
from .door import Listing
from .leases import FAILED, Lease, Moment

GRACE: Final = 1.0  # seconds on top of the patience of a create's asker, for the way to the service; our choice


class Sight(NamedTuple):
    """One look.

    Attributes:
        listing: the account's active sessions.
        asked, seen: this machine's time before and after they were listed.
        leases: the account's, read after that.
        missing: leases from before this may be missing in the ledger; None if none is.
    """

    listing: Listing
    asked: Moment
    seen: Moment
    leases: list[Lease]
    missing: Moment | None = None

    def unknown(self) -> list[_wire.SessionInfo]:
        """The sessions that are in no lease."""
        known = {lease.session_id for lease in self.leases}
        return [one for one in self.listing.sessions if one.id not in known]

    def age(self, session: _wire.SessionInfo) -> float | None:
        """Seconds since a session was created, by the service's clock; None if it does not tell."""
        told = self.listing.uncertainty < float("inf") and session.created_at is not None
        if not told or session.created_at is None:
            return None
        return self.seen.wall + self.listing.offset - session.created_at.timestamp()

    def is_of(self, session: _wire.SessionInfo, lease: Lease, *, late: bool) -> bool | None:
        """Whether a session may be what a lost create has opened; None where the service tells too little.

        Args:
            session: the session.
            lease: of the create.
            late: also if it was created after any answer was due: a service that stood still does then what it was
                asked before.
        """
        if session.mode not in (None, lease.wanted.mode):
            return False
        age, off = self.age(session), self.listing.uncertainty
        if age is None:
            return None
        if age > self.seen.since(lease.opened) + off:
            return False
        if not late and age < self.seen.since(self._given_up(lease)) - lease.wanted.patience - off:
            return False
        if session.mode is None:
            return None
        if self.missing is not None and age > self.seen.since(self.missing) - lease.wanted.patience - off:
            return None
        return True

    def may_own(self, rival: Lease, session: _wire.SessionInfo, first_seen: Moment) -> bool:
        """Whether a session may be what somebody else is just opening.

        Args:
            rival: the lease of that.
            session: the session.
            first_seen: when it was seen first. A lease that was written later is not its own.
        """
        if session.mode not in (None, rival.wanted.mode):
            return False
        if rival.opened.boot != first_seen.boot:  # another machine's, whose clock we do not know
            return True
        if first_seen.since(rival.opened) < 0:
            return False
        age = self.age(session)
        return age is None or age <= self.seen.since(rival.opened) + self.listing.uncertainty

    def is_over(self, lease: Lease) -> bool:
        """Whether the create can't be in flight any more at the time the sessions were listed."""
        return self.asked.since(self._given_up(lease)) > lease.wanted.patience + GRACE

    def _given_up(self, lease: Lease) -> Moment:
        """When it was known that nobody waits for the answer any more. The create had left by then, if ever: maybe
        long after its lease was written, if its process was stopped in between.
        """
        return lease.tried if lease.state == FAILED and lease.tried is not None else self.seen

    def clock_was_set(self, tolerance: float) -> bool:
        """Whether this machine's clock was set while the sessions were listed, so that their ages are wrong."""
        by_wall, by_steady = self.seen.wall - self.asked.wall, self.seen.steady - self.asked.steady
        return abs(by_wall - by_steady) > tolerance
