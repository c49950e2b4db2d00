"""Knows the words in which people are told that somebody waits for a slot, and why none came free.
Must not know how slots are waited for, nor when anybody is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

from ..errors import SlotCircleError, SlotTimeoutError
from . import describe
from .circle import Member
from .leases import Lease, Moment, Ticket, Waiting
from .verdicts import Judge

E = TypeVar("E", bound=SlotTimeoutError)

__tracebackhide__ = True  # a failing test shows its own lines; pytest --full-trace shows ours

MOST_LINES: Final = 20  # leases that a message lists; our choice
MOST_NAMES: Final = 3  # processes that a line of progress names; our choice
REMEDY: Final = (
    "Wait for longer with BBRE_SLOT_TIMEOUT (slot_timeout=), see all sessions with `bbre sessions`, close what dead"
    " processes left with `bbre reap`, or raise BBRE_MAX_SESSIONS if the account has more slots."
)
WAY_OUT: Final = (
    "Close the session you hold before you open another, use one session for both, run fewer workers at once (-n), or"
    " raise BBRE_MAX_SESSIONS if the account has more slots."
)


def progress(found: Waiting, limit: int, labels: Mapping[str, str]) -> str:
    """One line for who has been waiting for a while.

    Args:
        found: what the ledger answered last.
        limit: how many slots the account has.
        labels: what the programs are called, by `str(Owner)`.
    """
    place = f"{found.position} of {len(found.queue)} in the queue"
    if len(found.holders) < limit and found.paused:
        return f"bbre: waiting for a slot ({place}): the service has none; others use the account, too."
    held = Counter(lease.wanted.owner for lease in found.holders)
    shown = [
        describe.owner(owner, labels.get(owner, "")) + (f" ({count})" if count > 1 else "")
        for owner, count in held.most_common(MOST_NAMES)
    ]
    more = f" and {len(held) - len(shown)} more" if len(held) > len(shown) else ""
    return f"bbre: waiting for one of {limit} slots ({place}), held by {', '.join(shown)}{more}."


def timed_out(
    found: Waiting, limit: int, seconds: float, labels: Mapping[str, str], judge: Judge, now: Moment
) -> SlotTimeoutError:
    """The error of who has waited for long enough.

    Args:
        found: what the ledger answered last.
        limit: how many slots the account has.
        seconds: how long it was waited for.
        labels: what the programs are called, by `str(Owner)`.
        judge: tells whether an owner is alive.
        now: the time.
    """
    lines = tuple(describe.holder(one, judge(one.wanted.owner), now, _label(one, labels)) for one in found.holders)
    waited = f"within {seconds:g} s" if seconds else "at once, as slot_timeout=0 asks for"
    text = f"No slot came free {waited} (place {found.position} of {len(found.queue)} in the queue)."
    if found.paused:
        text += " The service says that it has none (SESSION_LIMIT_REACHED)."
        if len(lines) < limit:
            text += f" Only {len(lines)} of {limit} are known here: others use the account, too."
    return _filled(SlotTimeoutError(_text(f"{text} Who holds them:" if lines else text, lines, REMEDY)), lines)


def circled(members: Sequence[Member], labels: Mapping[str, str], judge: Judge, now: Moment) -> SlotCircleError:
    """The error of who closed a circle.

    Args:
        members: of it.
        labels: what the programs are called, by `str(Owner)`.
        judge: tells whether an owner is alive.
        now: the time.
    """
    lines = tuple(
        f"{describe.holder(one.lease, judge(one.lease.wanted.owner), now, _label(one.lease, labels))};"
        f" waits for another {_place(one.ticket)}"
        for one in members
    )
    text = (
        f"All {len(members)} slots are held by those who wait for another one, so that none would ever come free."
        " Who holds them, and waits:"
    )
    return _filled(SlotCircleError(_text(text, lines, WAY_OUT)), lines)


def newcomer(owner: str, place: str, labels: Mapping[str, str]) -> str:
    """For whom a session is closed: what its owner is told."""
    return describe.owner(owner, labels.get(owner, "")) + (f", at {describe.safe(place)}" if place else "")


def _text(text: str, lines: tuple[str, ...], remedy: str) -> str:
    shown = [f"  - {line}" for line in lines[:MOST_LINES]]
    if len(lines) > MOST_LINES:
        shown.append(f"  - and {len(lines) - MOST_LINES} more")
    return "\n".join([text, *shown, remedy])


def _filled(error: E, lines: tuple[str, ...]) -> E:
    error.holders = lines
    return error


def _label(lease: Lease, labels: Mapping[str, str]) -> str:
    return labels.get(lease.wanted.owner, "")


def _place(ticket: Ticket) -> str:
    return f"at {describe.safe(ticket.place)}" if ticket.place else "elsewhere"
