"""Knows every setting: its name, its environment variable, its default, what is allowed, and which layer wins.
Must not know pytest, the network, or what a setting is used for.

Argument over (pytest's command line over) environment over (pytest's ini over) default.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final
from urllib.parse import urlsplit

from . import _facts
from ._facts import variable
from ._secret import Secret
from .errors import SettingsError

EMBEDDED: Final = "embedded"  # as base_url: start the embedded engine as a child process


@dataclass(frozen=True, repr=False)
class Settings:
    """Everything that can be set, checked; make one with `Settings.resolve`.

    Attributes:
        api_key: the account's key (BBRE_API_KEY). Never shown by repr.
        base_url: the service's address (BBRE_BASE_URL), or "embedded".
        mode: "passive" or "adaptive" (BBRE_MODE). Default passive: the lighter one.
        sensibility: "low", "medium" or "high" (BBRE_SENSIBILITY). Default medium: the vendor's examples.
        timeout: seconds until the service ends a session by itself (BBRE_TIMEOUT). Default 300: the vendor's examples.
        connect_timeout: seconds to reach the service (BBRE_CONNECT_TIMEOUT).
        read_timeout: seconds to wait for the service's answer, on top of the target's own time (BBRE_READ_TIMEOUT).
        request_timeout: seconds for a target to answer, where a request names none (BBRE_REQUEST_TIMEOUT).
        retries: how often a call that is safe to repeat is repeated (BBRE_RETRIES).
        retry_min: least delay before a repetition, in seconds (BBRE_RETRY_MIN). Default 2: the vendor asks for 2 to 5.
        retry_max: greatest delay, in seconds (BBRE_RETRY_MAX). Default 5.
        retry_total: seconds after which nothing is repeated any more (BBRE_RETRY_TOTAL).
        exit_timeout: seconds for closing everything when the process ends (BBRE_EXIT_TIMEOUT).
    """

    api_key: str | None = None
    base_url: str = _facts.DEFAULT_BASE_URL
    mode: str = _facts.DEFAULT_MODE
    sensibility: str = _facts.DEFAULT_SENSIBILITY
    timeout: float = _facts.DEFAULT_TIMEOUT
    connect_timeout: float = 10.0
    read_timeout: float = 30.0
    request_timeout: float = _facts.DEFAULT_REQUEST_TIMEOUT
    retries: int = 3
    retry_min: float = 2.0
    retry_max: float = 5.0
    retry_total: float = 30.0
    exit_timeout: float = 10.0

    def __post_init__(self) -> None:
        for item in fields(self):
            check = _CHECKS[item.name]
            object.__setattr__(self, item.name, check(item.name, getattr(self, item.name)))
        if self.retry_max < self.retry_min:
            raise SettingsError(
                f"retry_max is {self.retry_max:g}, less than retry_min ({self.retry_min:g}). "
                "Raise BBRE_RETRY_MAX or lower BBRE_RETRY_MIN."
            )

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{item.name}={Secret() if item.name == 'api_key' and self.api_key else getattr(self, item.name)!r}"
            for item in fields(self)
        )
        return f"Settings({shown})"

    @classmethod
    def resolve(
        cls,
        arguments: Mapping[str, Any] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        ini: Mapping[str, Any] | None = None,
    ) -> Settings:
        """Settles each setting by the first layer that has it: `arguments`, environment, `ini`, default.

        Args:
            arguments: by field name; None stands for "not given".
            environ: the environment; the process's own by default. An empty variable is "not given".
            ini: by field name, the weakest layer above the defaults.

        Raises:
            SettingsError: a value is not allowed; it names the setting, the value and what is allowed.
        """
        given = _strongest(arguments, environ, ini)
        arguments = environ = ini = None  # they hold the key, and a traceback may be shown with locals
        _refuse_unknown(given)
        return cls(**given)

    def override(self, **changes: Any) -> Settings:
        """A copy with these fields changed; None stands for "not given".

        Raises:
            SettingsError: a value is not allowed.
        """
        _refuse_unknown(changes)
        return replace(self, **{name: value for name, value in changes.items() if value is not None})


def _refuse_unknown(given: Mapping[str, Any]) -> None:
    known = [item.name for item in fields(Settings)]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise SettingsError(f"{', '.join(unknown)}: no such setting. There are {', '.join(known)}.")


def _strongest(
    arguments: Mapping[str, Any] | None, environ: Mapping[str, str] | None, ini: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Each setting from the first layer that has it. Nothing is checked here, so that no error comes out of here."""
    environ = os.environ if environ is None else environ
    given = {name: value for name, value in (ini or {}).items() if value is not None}
    given |= {item.name: value for item in fields(Settings) if (value := environ.get(variable(item.name)))}
    given |= {name: value for name, value in (arguments or {}).items() if value is not None}
    if isinstance(given.get("api_key"), str):
        given["api_key"] = Secret(given["api_key"])
    return given


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


_HOUR = 3600.0
_CHECKS: Mapping[str, Callable[[str, object], Any]] = {
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
}
