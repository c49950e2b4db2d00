"""Knows how a session is told: in the answers to create, status and close, and in a listing.
Must not know the requests that travel through a session.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

from ..errors import InvalidAnswerError
from .envelope import Json, payload
from .fields import number, pick, read_time, text, whole, write_time


@dataclass(frozen=True)
class SessionInfo:
    """What the service says about one session. Times are aware UTC datetimes, `timeout` is in seconds.

    Only `id` is stated for every answer; the rest is None or empty where the service left it out. `engine` is the
    instance of the embedded engine that created it; None from the service, and in every other answer.
    """

    id: str
    mode: str | None = None
    sensibility: str | None = None
    timeout: float | None = None
    status: str | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    closed_at: datetime | None = None
    profile: Mapping[str, Any] = field(default_factory=dict)
    request_count: int | None = None
    total_charged: float | None = None
    engine: str | None = None

    @property
    def is_active(self) -> bool:
        """Whether it held a slot when the service told of it."""
        return self.status == "active"

    def to_json(self) -> Json:
        """The record as the engine sends it."""
        record = {
            "id": self.id,
            "mode": self.mode,
            "sensibility": self.sensibility,
            "timeout": self.timeout,
            "status": self.status,
            "createdAt": write_time(self.created_at),
            "expiresAt": write_time(self.expires_at),
            "closedAt": write_time(self.closed_at),
            "profile": dict(self.profile),
            "requestCount": self.request_count,
            "totalCharged": self.total_charged,
        }
        return {name: value for name, value in record.items() if value is not None}

    @classmethod
    def from_json(cls, record: Any) -> SessionInfo:
        """Reads a record.

        Raises:
            InvalidAnswerError: it is no object, or has no id.
        """
        session_id = pick(record, "id", "sessionId", "session_id") if isinstance(record, dict) else None
        if not isinstance(session_id, str) or not session_id:
            raise InvalidAnswerError("The answer names no session id.")
        profile = pick(record, "profile", "browserProfile", "fingerprint")
        return cls(
            id=session_id,
            mode=text(pick(record, "mode")),
            sensibility=text(pick(record, "sensibility", "sensitivity")),
            timeout=number(pick(record, "timeout", "timeoutSeconds")),
            status=text(pick(record, "status", "state")),
            created_at=read_time(pick(record, "createdAt", "created_at", "created")),
            expires_at=read_time(pick(record, "expiresAt", "expires_at", "expires")),
            closed_at=read_time(pick(record, "closedAt", "closed_at")),
            profile=profile if isinstance(profile, dict) else {},
            request_count=whole(pick(record, "requestCount", "request_count", "requests")),
            total_charged=number(pick(record, "totalCharged", "total_charged", "charged")),
        )


def read_session(answer: Any) -> SessionInfo:
    """The session in an answer to create, status or close: ``session`` at the top, under ``data``, or bare."""
    body = payload(answer)
    session = body.get("session")
    info = SessionInfo.from_json(session if isinstance(session, dict) else body)
    engine = body.get("engine")
    return replace(info, engine=text(engine.get("instance"))) if isinstance(engine, dict) else info


class Page(NamedTuple):
    """One page of a listing; `total` is None where the service does not tell."""

    sessions: list[SessionInfo]
    total: int | None


def read_page(answer: Any) -> Page:
    """One page of /account/sessions."""
    body = payload(answer)
    records = pick(body, "sessions", "items", "results")
    if records is None and isinstance(answer.get("data"), list):
        records = answer["data"]
    if not isinstance(records, list):
        raise InvalidAnswerError("The answer to listing sessions has no list of sessions.")
    return Page([SessionInfo.from_json(record) for record in records], whole(pick(body, "total", "totalCount")))
