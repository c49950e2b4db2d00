"""Knows how to read one field of a foreign answer: a field of an unexpected type is no field.
Must not know what the fields are for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any


def pick(record: Mapping[str, Any], *names: str) -> Any:
    """The first of these fields that is there and not null."""
    return next((record[name] for name in names if record.get(name) is not None), None)


def text(value: Any) -> str | None:
    """A string, or None."""
    return value if isinstance(value, str) else None


def number(value: Any) -> float | None:
    """A finite number, or None; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # an integer too large for any use of it
        return None


def whole(value: Any) -> int | None:
    """A whole number, or None."""
    found = number(value)
    return int(found) if found is not None and found == int(found) else None


def write_time(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC, ending in Z (chosen)."""
    return None if moment is None else moment.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")


def read_time(value: Any) -> datetime | None:
    """ISO 8601, or seconds or milliseconds since 1970; anything else is no time."""
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
            return moment.astimezone(timezone.utc) if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        found = number(value)
        if found is None:
            return None
        return datetime.fromtimestamp(found / 1000 if found > 1e11 else found, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None
