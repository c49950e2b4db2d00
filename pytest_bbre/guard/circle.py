"""Knows when everybody who holds a slot waits for another one, so that no slot will ever come free.
Must not know how slots are waited for, nor what is done about a circle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .leases import OPEN, Lease, Ticket, Waiting


class Member(NamedTuple):
    """One slot of a circle: the lease that holds it, and where its holder waits."""

    lease: Lease
    ticket: Ticket


def find_circle(found: Waiting, limit: int, is_alive: Callable[[str], bool]) -> list[Member] | None:
    """The members of a circle, oldest lease first; None as long as any slot may come free by itself.

    A slot may come free if its holder does not wait, or need not wait in order to close; if the holder is dead, and
    will be reaped; if the session may be evicted, or is being opened, closed or reaped at the time.

    Args:
        found: what the ledger answered.
        limit: how many slots the account has.
        is_alive: whether a process, as `str(Owner)`, is known to live.
    """
    if found.paused or not found.holders or len(found.holders) < limit:
        return None
    waiting = {(ticket.owner, ticket.actor): ticket for ticket in found.queue}
    members = []
    for lease in found.holders:
        ticket = waiting.get((lease.wanted.owner, lease.wanted.actor))
        if ticket is None or not _is_held(lease):
            return None
        members.append(Member(lease, ticket))
    if not all(is_alive(owner) for owner in {member.ticket.owner for member in members}):
        return None
    return members


def _is_held(lease: Lease) -> bool:
    """Whether only the end of its holder's block or fixture will close the session."""
    held = lease.state == OPEN and lease.reaper is None and lease.evicted_by is None
    return held and lease.wanted.scoped and not lease.wanted.evictable


def newest(members: list[Member]) -> int:
    """The ticket of the one that closed the circle."""
    return max(member.ticket.number for member in members)
