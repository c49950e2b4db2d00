"""Knows how to check one field of a request: a refusal names the field, its value and what is allowed.
Must not know which fields an endpoint has.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from .refused import Refused, invalid

_SHOWN = 80  # characters of a value that an error repeats


def shown(value: Any) -> str:
    """A value as an error repeats it."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


class Fields:
    """The fields of one request. A field that is null is one that is missing; unknown fields are left alone."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self.body = body

    def session_id(self) -> str:
        """The session's id, required."""
        found = self.body.get("sessionId")
        if found is None or found == "":
            raise Refused("SESSION_ID_REQUIRED")
        if not isinstance(found, str):
            raise invalid(f"sessionId is {shown(found)}; allowed is a text.")
        return found

    def text(self, name: str, default: str | None = None) -> str | None:
        """A text."""
        found = self.body.get(name)
        if found is None:
            return default
        if not isinstance(found, str):
            raise invalid(f"{name} is {shown(found)}; allowed is a text.")
        return found

    def choice(self, name: str, allowed: Collection[str], default: str | None = None) -> str | None:
        """One of some words."""
        found = self.body.get(name)
        if found is None:
            return default
        if not isinstance(found, str) or found not in allowed:
            raise invalid(f"{name} is {shown(found)}; allowed are {', '.join(allowed)}.")
        return found

    def seconds(self, name: str, default: float, most: float) -> float:
        """A number of seconds, more than 0."""
        found = self.body.get(name)
        if found is None:
            return default
        if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found <= most:
            raise invalid(f"{name} is {shown(found)}; allowed is a number of seconds more than 0, at most {most:g}.")
        return float(found)

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number."""
        found = self.body.get(name)
        if found is None:
            return default
        if isinstance(found, bool) or not isinstance(found, int | float) or not least <= found <= most:
            raise invalid(f"{name} is {shown(found)}; allowed is a whole number from {least} to {most}.")
        if not math.isfinite(found) or found != int(found):
            raise invalid(f"{name} is {shown(found)}; allowed is a whole number from {least} to {most}.")
        return int(found)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        found = self.body.get(name)
        if found is None:
            return default
        if not isinstance(found, bool):
            raise invalid(f"{name} is {shown(found)}; allowed are true and false.")
        return found

    def mapping(self, name: str) -> dict[str, Any]:
        """An object; its values are not repeated in errors, since they may be secrets."""
        found = self.body.get(name)
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise invalid(f"{name} is a {type(found).__name__}; allowed is an object.")
        return found
