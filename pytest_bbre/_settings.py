"""Knows every setting: its name, its environment variable, its default, and which layer wins.
Must not know pytest, the network, or what a setting is used for.

Argument over (pytest's command line over) environment over (pytest's ini over) default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from . import _facts
from ._checks import CHECKS
from ._facts import variable
from ._secret import Secret
from .errors import SettingsError


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
        guard: whether a guardian process closes what this one leaves behind (BBRE_GUARD: 1 or 0).
        max_sessions: slots of the account, shared by all processes here (BBRE_MAX_SESSIONS). Default 10: the vendor's.
        slot_timeout: seconds to wait for a slot (BBRE_SLOT_TIMEOUT); 0 fails at once, None ("none") waits for ever.
        account_scope: "exclusive" says that whoever uses the account does so from this machine, by this package;
            "shared", the default, that others may (BBRE_ACCOUNT_SCOPE).
        state_dir: folder of the ledger (BBRE_STATE_DIR); None for the platform's place for such files.
        evictable: whether a session may be closed for somebody else while it is idle (BBRE_EVICTABLE: 1 or 0).
        evict: "idle" closes the longest idle of such sessions when there is no slot (BBRE_EVICT); None waits.
        evict_after: seconds a session must have been idle for that (BBRE_EVICT_AFTER).
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
    guard: bool = True
    max_sessions: int = _facts.MAX_SESSIONS
    slot_timeout: float | None = 120.0
    account_scope: str = "shared"
    state_dir: str | None = None
    evictable: bool = False
    evict: str | None = None
    evict_after: float = 60.0

    def __post_init__(self) -> None:
        for item in fields(self):
            check = CHECKS[item.name]
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
