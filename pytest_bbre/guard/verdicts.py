"""Knows which leases may be reaped, why, and when: the rules, as functions of a lease, a judge and the time.
Must not know how a session is closed, nor change anything.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Container, Iterable
from typing import Final, NamedTuple

from .leases import FAILED, Lease, Moment
from .owners import ALIVE, DEAD, Judgement

Judge = Callable[[str], Judgement]

LEAVE: Final = "leave"  # it is somebody's, or may be
CLOSE: Final = "close"  # its owner is dead, or it was taken away for somebody else
LOOK: Final = "look"  # nobody knows its id: look for it in the account's list
END: Final = "end"  # the service has ended the session by itself

FASTEST: Final = 0.1  # seconds between two tries at least, whatever is set; our choice
SLOWEST: Final = 60.0  # seconds between two tries at most; our choice
KEY_REFUSED: Final = "the key is not accepted: "  # what the reason of a lease begins with, then


class Case(NamedTuple):
    """A lease, what a reaper may do about it, and why, in words for people.

    Attributes:
        lease: as it was read.
        verdict: LEAVE, CLOSE, LOOK or END.
        reason: the proof that its owner is dead, or why it is left alone.
        due: seconds until it may be tried; 0.0 for now. For LEAVE: until it should be looked at again; None: never.
    """

    lease: Lease
    verdict: str
    reason: str
    due: float | None = 0.0

    @property
    def may_be_closed(self) -> bool:
        """Whether a reaper may close it."""
        return self.verdict != LEAVE


def cached(judge: Judge) -> Judge:
    """A judge that says of each owner what it said first: for one look at a whole ledger."""
    known: dict[str, Judgement] = {}

    def ask(owner: str) -> Judgement:
        if owner not in known:
            known[owner] = judge(owner)
        return known[owner]

    return ask


def in_use(leases: Iterable[Lease], judge: Judge) -> frozenset[str]:
    """The sessions that somebody holds who is not proven dead. Two leases of one session are nothing that we write, so
    one of them may be forged, or of a ledger from before.
    """
    held = (lease for lease in leases if lease.session_id is not None and judge(lease.wanted.owner).state != DEAD)
    return frozenset(str(lease.session_id) for lease in held)


def verdict(
    lease: Lease, judge: Judge, now: Moment, retry: tuple[float, float], used: Container[str] = frozenset()
) -> Case:
    """What may be done about a lease.

    Args:
        lease: the lease.
        judge: tells whether an owner is alive.
        now: the time.
        retry: seconds between which the first delay before another try lies.
        used: the sessions that are `in_use`.
    """
    if lease.reaper is not None and judge(lease.reaper).state != DEAD:
        return Case(lease, LEAVE, "another process is closing it", 1.0)
    owner = judge(lease.wanted.owner)
    lost = lease.session_id is None
    if lost and lease.state == FAILED and owner.state == ALIVE:
        reason = "the answer to its create was lost, and its owner does not know its id"
    elif not lost and lease.evicted_by is not None:
        reason = f"it was taken away for {lease.evicted_by}"
    elif owner.state != DEAD:
        return Case(lease, LEAVE, owner.reason, None)
    elif not lost and lease.session_id in used:
        return Case(lease, LEAVE, f"{owner.reason}, but another process holds a session of that id", None)
    else:
        reason = owner.reason
    if lease.is_lapsed(now):
        return Case(lease, END, f"{reason}; the session's own timeout has passed")
    return Case(lease, LOOK if lost else CLOSE, reason, 0.0 if lost else _due(lease, now, retry))


def _due(lease: Lease, now: Moment, retry: tuple[float, float]) -> float:
    if lease.tried is None or lease.tries == 0 or lease.reaper is not None:  # a try that its reaper's death cut short
        return 0.0
    passed = now.since(lease.tried)
    wait = SLOWEST if (lease.reason or "").startswith(KEY_REFUSED) else delay(lease.key, lease.tries, retry)
    return max(wait - passed, 0.0) if passed >= 0 else 0.0


def delay(key: str, tries: int, retry: tuple[float, float]) -> float:
    """Seconds after so many tries until the next: twice as many each time, up to SLOWEST."""
    share = zlib.crc32(key.encode()) / 2**32  # not all at the same moment, and each reaper finds the same
    first = max(retry[0] + share * (retry[1] - retry[0]), FASTEST)
    return min(first * 2.0 ** min(tries - 1, 16), SLOWEST)
