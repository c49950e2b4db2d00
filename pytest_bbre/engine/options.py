"""Knows everything an engine can be told, checks it, and carries it to the process that runs the engine.
Must not know how any of it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .. import _wire
from .._child import new_key, new_token
from .._secret import Secret
from ..errors import SettingsError
from .faults import Fault, check_latency

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
STATES: Final = ("active", "suspended", "inactive")  # of an account
MODES: Final = _wire.MODES
ApiKeys = Iterable[str] | Mapping[str, str]


@dataclass(frozen=True)
class Options:
    """An engine's options, checked.

    Attributes:
        accounts: states (active, suspended, inactive) by API key.
        control_token: what the control endpoints ask for.
        max_sessions: how many sessions of one account may be active.
        latency: seconds by endpoint.
        faults: those that wait from the start.
        host: a loopback address to listen on.
        port: 0 for any free one.
        modes: the session modes that can be created.
    """

    accounts: dict[str, str]
    control_token: Secret
    max_sessions: int = _wire.MAX_SESSIONS
    latency: dict[str, float] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    host: str = "127.0.0.1"
    port: int = 0
    modes: tuple[str, ...] = MODES

    @property
    def api_key(self) -> Secret:
        """The first key of an active account; the first of all, if none is active."""
        active = [key for key, state in self.accounts.items() if state == "active"]
        return Secret(next(iter(active or self.accounts)))

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "api_key": self.api_key,
            "accounts": self.accounts,
            "control_token": self.control_token,
            "max_sessions": self.max_sessions,
            "latency": self.latency,
            "faults": [fault.to_json() for fault in self.faults],
            "host": self.host,
            "port": self.port,
            "modes": list(self.modes),
        }


def make_options(
    *,
    max_sessions: int = _wire.MAX_SESSIONS,
    api_keys: ApiKeys | None = None,
    latency: Mapping[str, float] | None = None,
    faults: Iterable[Fault | str | Mapping[str, Any]] = (),
    host: str = "127.0.0.1",
    port: int = 0,
    modes: Iterable[str] = MODES,
    control_token: str | None = None,
) -> Options:
    """Options from what a person writes; see `Options`.

    Args:
        api_keys: keys of active accounts, or states by key; None makes one new key.
        faults: as Fault, as text (``close:fail:times=2``) or as an object.

    Raises:
        SettingsError: one of them can't be used; the message names it and what is allowed.
    """
    if isinstance(max_sessions, bool) or not isinstance(max_sessions, int) or max_sessions < 1:
        raise SettingsError(f"max_sessions is {max_sessions!r}; allowed is a whole number from 1.")
    if host not in LOOPBACK:
        raise SettingsError(
            f"host is {host!r}; the engine listens on this machine alone, so allowed are {', '.join(LOOPBACK)}."
        )
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise SettingsError(f"port is {port!r}; allowed is a whole number from 0 (any free one) to 65535.")
    chosen = tuple(modes)
    if not chosen or any(mode not in MODES for mode in chosen):
        raise SettingsError(f"modes are {chosen!r}; this engine has: {', '.join(MODES)}.")
    return Options(
        accounts=_accounts(api_keys),
        control_token=Secret(control_token or new_token()),
        max_sessions=max_sessions,
        latency=check_latency(latency),
        faults=tuple(_fault(one) for one in faults),
        host=host,
        port=port,
        modes=chosen,
    )


def from_json(plain: Mapping[str, Any]) -> Options:
    """Options from plain values, of which any but the key and the token may be missing."""
    given = dict(plain)
    key = given.pop("api_key")
    return make_options(api_keys=given.pop("accounts", [key]), **given)


def _accounts(api_keys: ApiKeys | None) -> dict[str, str]:
    """States by key; the keys hide themselves in a repr."""
    if api_keys is None:
        return {new_key(): "active"}
    if isinstance(api_keys, str):
        raise SettingsError("api_keys is one text; give a list of keys, or a mapping of keys to states.")
    states = dict(api_keys) if isinstance(api_keys, Mapping) else dict.fromkeys(api_keys, "active")
    if not states:
        raise SettingsError("api_keys is empty; give at least one key, or None for a new one.")
    return {Secret(check_key(key)): check_state(state) for key, state in states.items()}


def _fault(one: Fault | str | Mapping[str, Any]) -> Fault:
    if isinstance(one, Fault):
        return one
    return Fault.parse(one) if isinstance(one, str) else Fault.from_json(one)


def check_state(state: str) -> str:
    """The state, if an account can have it.

    Raises:
        SettingsError: it can't.
    """
    if state not in STATES:
        raise SettingsError(f"An account's state is {state!r}; allowed are {', '.join(STATES)}.")
    return state


def check_key(key: str) -> str:
    """The key, if it can be sent in a header as it is.

    Raises:
        SettingsError: it can't; the message does not show it.
    """
    if not isinstance(key, str) or not key or not key.isascii() or not key.isprintable() or " " in key:
        raise SettingsError("An engine's API key is a text of printable ASCII characters without spaces.")
    return key
