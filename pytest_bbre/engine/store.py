"""Knows the sessions of every account: how many may be active, when each expires, and what became of it.
Must not know HTTP, nor what is done in a session. Nothing here awaits, so each method is one step for everybody else.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from .. import _wire
from .refused import Refused

KEPT_RECORDS: Final = 1000  # sessions that have ended, for each account: a long run must not fill the memory

Clock = Callable[[], float]


@dataclass(eq=False)
class Session:
    """One session. `deadline` is on the store's clock; `context` is whatever its requests need, gone at its end."""

    id: str
    account: str
    mode: str
    sensibility: str
    timeout: float
    created_at: datetime
    deadline: float
    profile: dict[str, Any]
    context: Any
    status: str = "active"
    closed_at: datetime | None = None
    request_count: int = 0
    total_charged: float = 0.0

    def info(self) -> _wire.SessionInfo:
        """What is told about it."""
        return _wire.SessionInfo(
            id=self.id,
            mode=self.mode,
            sensibility=self.sensibility,
            timeout=self.timeout,
            status=self.status,
            created_at=self.created_at,
            expires_at=self.created_at + timedelta(seconds=self.timeout),
            closed_at=self.closed_at,
            profile=self.profile,
            request_count=self.request_count,
            total_charged=self.total_charged,
        )

    def check_active(self) -> None:
        """Refuses what only an active session can do."""
        if self.status != "active":
            raise Refused("SESSION_EXPIRED" if self.status == "expired" else "SESSION_CLOSED")


@dataclass
class _Shelf:
    """One account's sessions, oldest first; the ids of those that have ended, in the order of their end."""

    records: dict[str, Session] = field(default_factory=dict)
    ended: deque[str] = field(default_factory=deque)

    @property
    def active(self) -> int:
        return len(self.records) - len(self.ended)


class Store:
    """Sessions by account.

    Args:
        max_sessions: how many may be active, for each account.
        clock: seconds that only go forward; decides about expiry, so that a change of the machine's time can't.
        now: the time of day, for what is told.
        kept: how many ended sessions of an account are remembered.
        ended: called with the context of each session that has ended.
    """

    def __init__(
        self,
        max_sessions: int = _wire.MAX_SESSIONS,
        *,
        clock: Clock = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        kept: int = KEPT_RECORDS,
        ended: Callable[[Any], object] = lambda context: None,
    ) -> None:
        self.max_sessions = max_sessions
        self.clock = clock
        self._now = now
        self._kept = kept
        self._ended = ended
        self._shelves: dict[str, _Shelf] = {}
        self._active: dict[str, Session] = {}
        self.totals = {"opened": 0, "closed": 0, "expired": 0}

    def create(
        self, account: str, *, mode: str, sensibility: str, timeout: float, profile: dict[str, Any], context: Any
    ) -> Session:
        """Takes a slot and opens a session.

        Raises:
            Refused: all slots of the account are taken.
        """
        self.check_room(account)
        shelf = self._shelves.setdefault(account, _Shelf())
        session = Session(
            id="session_" + secrets.token_hex(16),
            account=account,
            mode=mode,
            sensibility=sensibility,
            timeout=timeout,
            created_at=self._now(),
            deadline=self.clock() + timeout,
            profile=profile,
            context=context,
        )
        shelf.records[session.id] = self._active[session.id] = session
        self.totals["opened"] += 1
        return session

    def check_room(self, account: str) -> None:
        """Refuses what needs a slot where there is none.

        Raises:
            Refused: all slots of the account are taken.
        """
        self.expire_due()
        active = self._shelves.get(account, _Shelf()).active
        if active >= self.max_sessions:
            raise Refused(
                "SESSION_LIMIT_REACHED",
                hint=f"This account has {active} active sessions, of {self.max_sessions} allowed."
                " Close one, or wait until one expires",
            )

    def get(self, account: str, session_id: str) -> Session:
        """A session of the account, expired by now if its time has passed.

        Raises:
            Refused: the account has none of that id.
        """
        shelf = self._shelves.get(account)
        session = shelf.records.get(session_id) if shelf else None
        if session is None:
            raise Refused("SESSION_NOT_FOUND")
        if session.status == "active" and session.deadline <= self.clock():
            self._finish(session, "expired")
        return session

    def close(self, account: str, session_id: str) -> Session:
        """Ends a session and frees its slot.

        Raises:
            Refused: not found, or ended before. An expired one holds no slot, so it counts as closed.
        """
        session = self.get(account, session_id)
        if session.status != "active":
            raise Refused("SESSION_CLOSED")
        self._finish(session, "closed")
        return session

    def page(self, account: str, status: str | None, limit: int, offset: int) -> tuple[list[Session], int]:
        """The account's sessions, newest first: one page, and how many there are in all."""
        self.expire_due()
        shelf = self._shelves.get(account, _Shelf())
        found = [one for one in reversed(shelf.records.values()) if status in (None, one.status)]
        return found[offset : offset + limit], len(found)

    def everything(self, status: str | None = None) -> Iterator[Session]:
        """The sessions of all accounts, oldest first within an account."""
        self.expire_due()
        shelves: Iterable[_Shelf] = self._shelves.values()
        return (one for shelf in shelves for one in shelf.records.values() if status in (None, one.status))

    def active_count(self) -> int:
        """How many sessions are active, over all accounts."""
        self.expire_due()
        return len(self._active)

    def expire_due(self) -> None:
        """Ends every session whose time has passed."""
        now = self.clock()
        for session in [one for one in self._active.values() if one.deadline <= now]:
            self._finish(session, "expired")

    def end_mode(self, mode: str) -> None:
        """Ends all sessions of a mode: what they ran in has gone. They count as closed."""
        for session in [one for one in self._active.values() if one.mode == mode]:
            self._finish(session, "closed")

    def next_deadline(self) -> float | None:
        """When the next session expires, on the store's clock."""
        return min((one.deadline for one in self._active.values()), default=None)

    def _finish(self, session: Session, status: str) -> None:
        session.status = status
        session.closed_at = self._now() if status == "closed" else None
        context, session.context = session.context, None
        self._ended(context)
        del self._active[session.id]
        self.totals[status] += 1
        shelf = self._shelves[session.account]
        shelf.ended.append(session.id)
        while len(shelf.ended) > self._kept:
            del shelf.records[shelf.ended.popleft()]
