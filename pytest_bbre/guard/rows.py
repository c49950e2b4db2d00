"""Knows how a lease and a ticket lie in a row: the order of their columns, and which values can be one.
Must not know SQL beyond the names of columns. What nobody here has written is no lease: it is skipped, never removed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

from .leases import CLOSING, FAILED, OPEN, OPENING, Enrolled, Eviction, Lease, Moment, Ticket, Wanted

LONGEST: Final = 4096  # characters of a text for people; what is longer is cut when it is written; our choice
READABLE: Final = 65_536  # characters of any text that is read; what is longer nobody here has written; our choice

WANTED: Final = ", ".join(Wanted._fields)
LEASE: Final = (
    "key, number, state, session_id, engine, boot, opened_wall, opened_steady, used_wall, used_steady, busy, reaper, "
    f"evicted_by, tries, tried_wall, tried_steady, tried_boot, reason, {WANTED}"
)
TICKET: Final = "number, account, owner, actor, place, wall, steady, boot"
EVICTION: Final = "session_id, by, wall, steady, boot"
PROCESS: Final = "account, owner, label, wall, steady, boot"
TICKET_AND_SLOTS: Final = f"{TICKET}, slots"

_STATES: Final = (OPENING, OPEN, CLOSING, FAILED)


def written(text: str) -> str:
    """A text for people as the ledger can hold it: not endless, and without half characters as of odd file names."""
    return text[:LONGEST].encode("utf-8", "replace").decode()


def from_lease(lease: Lease) -> tuple[Any, ...]:
    """The values of the columns LEASE."""
    tried = lease.tried or (None, None, None)
    wanted = lease.wanted._replace(actor=written(lease.wanted.actor), place=written(lease.wanted.place))
    return (
        *(lease.key, lease.number, lease.state, lease.session_id, lease.engine),
        *(lease.opened.boot, *lease.opened[:2], *lease.used[:2], lease.busy, lease.reaper),
        *(lease.evicted_by, lease.tries, *tried, None if lease.reason is None else written(lease.reason), *wanted),
    )


def to_leases(rows: Iterable[Any]) -> list[Lease]:
    """The leases among rows of the columns LEASE."""
    found = []
    for row in rows:
        try:
            found.append(_to_lease(row))
        except (TypeError, ValueError):
            continue
    return found


def to_tickets(rows: Iterable[Any]) -> list[Ticket]:
    """The tickets among rows that begin with the columns TICKET."""
    found = []
    for row in rows:
        try:
            account, owner, actor, place = map(_text, row[1:5])
            since = Moment(_number(row[5]), _number(row[6]), _text(row[7]))
            found.append(Ticket(_whole(row[0]), account, owner, actor, place, since))
        except (TypeError, ValueError):
            continue
    return found


def to_enrolled(rows: Iterable[Any]) -> list[Enrolled]:
    """The processes among rows of the columns PROCESS."""
    found = []
    for row in rows:
        try:
            account, owner, label = map(_text, row[:3])
            found.append(Enrolled(account, owner, label, Moment(_number(row[3]), _number(row[4]), _text(row[5]))))
        except (TypeError, ValueError):
            continue
    return found


def to_eviction(row: Any) -> Eviction:
    """What a row of the columns EVICTION says.

    Raises:
        ValueError: nobody here has written it.
    """
    return Eviction(_text(row[0]), _text(row[1]), Moment(_number(row[2]), _number(row[3]), _text(row[4])))


def _to_lease(row: Any) -> Lease:
    key, number, state, session_id, engine, boot = row[:6]
    busy, reaper, evicted_by, tries, *tried, reason = row[10:18]
    times = [_number(value) for value in row[6:10]]
    if state not in _STATES:
        raise ValueError(state)
    return Lease(
        key=_text(key),
        number=_whole(number),
        wanted=_to_wanted(row[18:]),
        state=state,
        session_id=_text_or_none(session_id),
        engine=_text_or_none(engine),
        opened=Moment(times[0], times[1], _text(boot)),
        used=Moment(times[2], times[3], boot),
        busy=_whole(busy),
        reaper=_text_or_none(reaper),
        evicted_by=_text_or_none(evicted_by),
        tries=_whole(tries),
        tried=None if tried[2] is None else Moment(_number(tried[0]), _number(tried[1]), _text(tried[2])),
        reason=_text_or_none(reason),
    )


def _to_wanted(values: Any) -> Wanted:
    account, owner, actor, mode, sensibility, timeout, patience, place, *flags = values
    return Wanted(
        account=_text(account),
        owner=_text(owner),
        actor=_text(actor),
        mode=_text(mode),
        sensibility=_text(sensibility),
        timeout=_number(timeout),
        patience=_number(patience),
        place=_text(place),
        scoped=bool(_whole(flags[0])),
        evictable=bool(_whole(flags[1])),
        exclusive=bool(_whole(flags[2])),
    )


def _text(value: Any) -> str:
    if isinstance(value, str) and len(value) <= READABLE:
        return value
    raise ValueError("no text, or too long")


def _text_or_none(value: Any) -> str | None:
    return None if value is None else _text(value)


def _number(value: Any) -> float:
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    raise ValueError("no finite number")


def _whole(value: Any) -> int:
    if isinstance(value, int):
        return value
    raise ValueError("no whole number")
