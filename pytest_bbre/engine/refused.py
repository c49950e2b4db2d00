"""Knows how a room of the engine says no: with a code of the wire contract.
Must not know how a refusal is answered.
"""

from __future__ import annotations


class Refused(Exception):
    """What was asked for is answered with this code, and with the code's own words where none are given."""

    def __init__(
        self,
        code: str,
        message: str | None = None,
        *,
        hint: str | None = None,
        status: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message or code)
        self.code = code
        self.message = message
        self.hint = hint
        self.status = status
        self.headers = headers or {}


def invalid(message: str) -> Refused:
    """A field of the request can't be used; the message names it, its value and what is allowed."""
    return Refused("VALIDATION_ERROR", message)
