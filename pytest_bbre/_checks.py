"""Knows what each setting may be, and the words in which another value is refused.
Must not know where a value came from, or what it is used for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from . import _facts
from ._facts import EMBEDDED, variable
from ._secret import Secret
from .errors import SettingsError

T = TypeVar("T")


def _refuse(name: str, value: object, allowed: str) -> SettingsError:
    return SettingsError(f"{name} is {value!r}; allowed is {allowed}. Set it by argument or {variable(name)}.")


def _api_key(name: str, value: object) -> Secret | None:
    """Refuses what the vendor's advice names: stray spaces and line breaks. The message never shows the key."""
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        found = "empty" if value == "" else f"a {type(value).__name__}"
        raise SettingsError(f"api_key is {found}; allowed is the text of a key. Set {variable(name)}.")
    if value != value.strip() or not value.isprintable() or " " in value or not value.isascii():
        raise SettingsError(
            "api_key has spaces, line breaks or other characters that no key has, often from copying it out of a "
            f"file or a page. Remove them from {variable(name)}."
        )
    return Secret(value)


def _base_url(name: str, value: object) -> str:
    """An http(s) address without a trailing slash, or the word embedded."""
    allowed = f"an address such as {_facts.DEFAULT_BASE_URL}, or the word {EMBEDDED!r}"
    if not isinstance(value, str):
        raise _refuse(name, value, allowed)
    value = value.strip()
    if value == EMBEDDED:
        return value
    try:
        parts = urlsplit(value)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    else:
        if parts.username or parts.password:  # not shown: it is a secret
            raise SettingsError(f"base_url carries a user name or password; allowed is {allowed}.")
        valid = valid and not parts.query and not parts.fragment and not any(c.isspace() for c in value)
    if not valid:
        raise _refuse(name, value, allowed)
    return value.rstrip("/")


def _one_of(*allowed: str) -> Callable[[str, object], str]:
    def check(name: str, value: object) -> str:
        if isinstance(value, str) and value in allowed:
            return value
        raise _refuse(name, value, " or ".join(map(repr, allowed)))

    return check


def _seconds(most: float, *, zero: bool = False) -> Callable[[str, object], float]:
    def check(name: str, value: object) -> float:
        allowed = f"a number of seconds, {'0 or more' if zero else 'more than 0'} and at most {most:g}"
        try:
            number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
        except (ValueError, OverflowError):
            number = None
        # "not (... <= most)" also refuses NaN.
        if number is None or not (0 <= number <= most) or (number == 0 and not zero):
            raise _refuse(name, value, allowed)
        return number

    return check


def _count(most: int) -> Callable[[str, object], int]:
    def check(name: str, value: object) -> int:
        try:
            number = int(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
        except ValueError:
            number = None
        if number is None or not 0 <= number <= most:
            raise _refuse(name, value, f"a whole number from 0 to {most}")
        return number

    return check


_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _yes_or_no(name: str, value: object) -> bool:
    found = _WORDS.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise _refuse(name, value, "yes or no: True or False, 1 or 0")
    return found


def _perhaps(check: Callable[[str, object], T]) -> Callable[[str, object], T | None]:
    """Also allows None, which the environment writes as the word none."""

    def checked(name: str, value: object) -> T | None:
        return None if value is None or (isinstance(value, str) and value.lower() == "none") else check(name, value)

    return checked


def _patience(name: str, value: object) -> float | None:
    """Seconds to wait for a slot; infinity, None and the word none are for ever."""
    if value is None or value == float("inf") or (isinstance(value, str) and value.lower() in ("none", "inf")):
        return None
    try:
        return _seconds(_facts.MAX_TIMEOUT, zero=True)(name, value)
    except SettingsError as error:
        raise SettingsError(f"{error.message} None waits for ever.") from None


def _slots(name: str, value: object) -> int:
    number = _count(1_000_000)(name, value)
    if number < 1:
        raise _refuse(name, value, "a whole number from 1 to 1000000")
    return number


def _folder(name: str, value: object) -> str:
    """A path; what lies there is looked at when it is used."""
    if not isinstance(value, str | os.PathLike) or not (path := os.fspath(value)) or not isinstance(path, str):
        raise _refuse(name, value, "the path of a folder")
    if "\0" in path:
        raise _refuse(name, value, "the path of a folder, without null characters")
    return os.path.abspath(os.path.expanduser(path))


_HOUR = 3600.0
CHECKS: Mapping[str, Callable[[str, object], Any]] = {
    "api_key": _api_key,
    "base_url": _base_url,
    "mode": _one_of(*_facts.MODES),
    "sensibility": _one_of(*_facts.SENSIBILITIES),
    "timeout": _seconds(_facts.MAX_TIMEOUT),
    "connect_timeout": _seconds(_HOUR),
    "read_timeout": _seconds(_HOUR),
    "request_timeout": _seconds(_HOUR),
    "retries": _count(20),
    "retry_min": _seconds(_HOUR, zero=True),
    "retry_max": _seconds(_HOUR, zero=True),
    "retry_total": _seconds(_HOUR, zero=True),
    "exit_timeout": _seconds(_HOUR, zero=True),
    "guard": _yes_or_no,
    "max_sessions": _slots,
    "slot_timeout": _patience,
    "account_scope": _one_of("shared", "exclusive"),
    "state_dir": _perhaps(_folder),
    "evictable": _yes_or_no,
    "evict": _perhaps(_one_of("idle")),
    "evict_after": _seconds(_facts.MAX_TIMEOUT, zero=True),
}
