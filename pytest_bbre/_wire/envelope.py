"""Knows what every answer has in common: success, service, error, and where the payload sits.
Must not know what the payload means.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .._facts import FAILURES, HINTS, SERVICE
from ..errors import InvalidAnswerError

Json = dict[str, Any]


class Failure(NamedTuple):
    """A failure as the service tells it."""

    code: str
    message: str
    hint: str | None = None


def success(*, top: Json | None = None, data: Json | None = None) -> Json:
    """A success answer; `top` goes to the top level (create), `data` under ``data`` (everything else)."""
    answer: Json = {"success": True, "service": SERVICE, **(top or {})}
    if data is not None:
        answer["data"] = data
    return answer


def failure(code: str, message: str | None = None, *, hint: str | None = None) -> tuple[int, Json]:
    """The HTTP status and the body of a failure; message and hint default to the code's own."""
    status, default = FAILURES.get(code, (500, code))
    error: Json = {"code": code, "message": message or default}
    if hint := hint or HINTS.get(code):
        error["details"] = {"hint": hint}
    return status, {"success": False, "service": SERVICE, "error": error}


def read_failure(answer: Any) -> Failure | None:
    """The failure in an answer; None if the answer is none. A bare string under ``error`` is read as its code."""
    if not isinstance(answer, dict):
        return None
    error = answer.get("error")
    if answer.get("success") is True or (error is None and "success" not in answer):
        return None
    if not isinstance(error, dict):
        return Failure(str(error or "UNKNOWN"), str(answer.get("message") or "The service gave no reason."))
    details = error.get("details")
    hint = details.get("hint") if isinstance(details, dict) else None
    code = str(error.get("code") or "UNKNOWN")
    return Failure(code, str(error.get("message") or code), None if hint is None else str(hint))


def payload(answer: Any) -> Json:
    """What an answer carries, wherever it carries it: under ``data`` or at the top level (both are stated)."""
    if not isinstance(answer, dict):
        raise InvalidAnswerError(f"The answer is a JSON {type(answer).__name__}, not an object.")
    data = answer.get("data")
    return {**answer, **data} if isinstance(data, dict) else answer
