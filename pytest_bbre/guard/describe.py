"""Knows how leases, owners and durations are told to people, in plain text and on one line.
Must not know who is told. What comes from a ledger may be forged: nothing of it reaches a terminal as it is.
"""

from __future__ import annotations

from typing import Final

from .leases import Lease, Moment
from .owners import ALIVE, Judgement, Owner

LONGEST: Final = 200  # characters of one thing that is told; our choice
_UNITS: Final = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"))


def printable(text: str) -> str:
    """Text on one line, without control characters, else as it is."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def safe(text: object) -> str:
    """Text on one line, without control characters, and not for ever."""
    shown = printable(str(text)[: LONGEST * 2])
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 3] + "..."


def age(seconds: float) -> str:
    """A duration in one unit: "41 s", "3 min", "2 h", "4 d"."""
    if not seconds < float("inf"):  # infinite, or no number
        return "?"
    for size, name in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{max(seconds, 0.0):.0f} s"


def owner(text: str, label: str = "") -> str:
    """A process, as `str(Owner)`, with its program's name."""
    try:
        pid = f"process {Owner.parse(text).pid}"
    except ValueError:
        pid = "an unknown process"
    return f"{safe(label)}, {pid}" if label else pid


def session(lease: Lease) -> str:
    """Its id, or why there is none."""
    if lease.session_id is not None:
        return safe(lease.session_id)
    return "a session that is being opened" if lease.state == "opening" else "a session whose id nobody knows"


def holder(lease: Lease, judgement: Judgement, now: Moment, label: str = "") -> str:
    """One line on who holds a slot, since when, and where it was opened."""
    since, idle = age(now.since(lease.opened)), age(now.since(lease.used))
    what = f"{session(lease)} ({safe(lease.wanted.mode)}, open for {since}, idle {idle})"
    where = f", at {safe(lease.wanted.place)}" if lease.wanted.place else ""
    doubt = "" if judgement.state == ALIVE else f" [{judgement.state}: {safe(judgement.reason)}]"
    return f"{what}: {owner(lease.wanted.owner, label)}{where}{doubt}"
