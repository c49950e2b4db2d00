"""Knows how an attempt to close a session can end.
Must not know how closing is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class CloseOutcome(Enum):
    """How an attempt to close ended. Only FAILED may leave a slot taken."""

    CLOSED = "closed"
    ALREADY_CLOSED = "already closed"
    NOT_FOUND = "not found"
    FAILED = "failed"


@dataclass(frozen=True)
class CloseResult:
    """What became of closing one session. `error` says why, where it failed.

    `session_id` is None for a session that was asked for, and whose id the service has not told.
    """

    session_id: str | None
    outcome: CloseOutcome
    error: BaseException | None = None

    @property
    def success(self) -> bool:
        """Whether the session holds no slot any more; so it is also when it was closed before, or is unknown."""
        return self.outcome is not CloseOutcome.FAILED

    def __bool__(self) -> bool:
        return self.success

    def __str__(self) -> str:
        told = f"{self.session_id or 'a session whose id is not known'}: {self.outcome.value}"
        return told if self.error is None else f"{told}: {self.error}"


def advice(failed: Sequence[CloseResult]) -> str:
    """The command that closes what could not be closed."""
    ids = [result.session_id for result in failed if result.session_id is not None]
    if not ids:
        return "See what is left with: bbre sessions"
    return f"Close {'it' if len(ids) == 1 else 'them'} with: bbre close {' '.join(ids)}"
