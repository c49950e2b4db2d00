"""Knows how a program asks an engine for the truth, and for faults: by the control endpoints, on plain http.client.
Must not know the client under test, nor who started the engine. Light: it imports neither aiohttp nor requests.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from .. import _wire
from .._secret import Secret
from ..errors import EngineError, SettingsError
from .faults import Fault, FaultMethods

PREFIX: Final = "/_engine/"
TOKEN_HEADER: Final = "x-engine-token"
_PATIENCE: Final = 10.0  # seconds for an answer, on top of what was asked to wait
_SLICE: Final = 20.0  # seconds one call waits for an event


class Faults(FaultMethods):
    """The faults of a running engine."""

    def __init__(self, control: EngineControl) -> None:
        self._control = control

    def add(self, fault: Fault) -> None:
        """Asks for a fault."""
        self._control.call("fault", fault.to_json())

    def clear(self) -> None:
        """Forgets every fault that was asked for; those being met go on."""
        self._control.call("clear")


class EngineControl:
    """A running engine, seen from any process that was told its parts.

    Args:
        base_url: its address.
        api_key: the key of its first account; repr hides it.
        control_token: what its control endpoints ask for; repr hides it.
        instance: the id of this one engine, if known.
    """

    def __init__(self, base_url: str, api_key: str, control_token: str, instance: str | None = None) -> None:
        self._parts: dict[str, Any] = {
            "base_url": base_url,
            "api_key": Secret(api_key),
            "control_token": Secret(control_token),
            "instance": instance,
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self.base_url}>"

    def parts(self) -> dict[str, str | None]:
        """What another process needs to make the same control; the key and the token are secrets."""
        self._check()
        return dict(self._parts)

    @classmethod
    def from_parts(cls, parts: Mapping[str, str | None]) -> EngineControl:
        """A control for the engine that `parts` came from."""
        return EngineControl(
            str(parts["base_url"]), str(parts["api_key"]), str(parts["control_token"]), parts.get("instance")
        )

    def _check(self) -> None:
        """Hook for an engine that may not be running."""

    @property
    def base_url(self) -> str:
        """The engine's address."""
        self._check()
        return str(self._parts["base_url"])

    @property
    def api_key(self) -> Secret:
        """The key of its first account; repr hides it."""
        self._check()
        return Secret(self._parts["api_key"])

    @property
    def instance(self) -> str:
        """The id of this one engine; a later engine on the same port has another."""
        self._check()
        if self._parts["instance"] is None:
            self._parts["instance"] = self.call("info")["instance"]
        return str(self._parts["instance"])

    @property
    def max_sessions(self) -> int:
        """How many sessions of one account may be active."""
        return int(self.call("info")["max_sessions"])

    @property
    def faults(self) -> Faults:
        """Faults to make: ``engine.faults.fail("close", times=2)``."""
        return Faults(self)

    def environ(self) -> dict[str, str]:
        """The environment variables with which a client finds this engine. The key among them is a real one."""
        return {
            "BBRE_BASE_URL": self.base_url,
            "BBRE_API_KEY": self.api_key,
            "BBRE_ACCOUNT_SCOPE": "exclusive",  # nobody else opens sessions on an account that this engine made
            "BBRE_MAX_SESSIONS": str(self.max_sessions),
        }

    def sessions(self, status: str | None = "active") -> list[_wire.SessionInfo]:
        """The engine's sessions, of all accounts; None for those of every status. Not by way of the API.

        Raises:
            EngineError: the engine does not answer, or knows no such status.
        """
        found = self.call("sessions", {"status": status})["sessions"]
        return [_wire.SessionInfo.from_json(record) for record in found]

    def totals(self) -> dict[str, int]:
        """How many sessions were opened, closed and expired since the start, and how many are active now."""
        return dict(self.call("info")["totals"])

    def calls(self, endpoint: str | None = None) -> Any:
        """How many requests of an endpoint have arrived since the start; of each endpoint, where none is named."""
        counts = dict(self.call("calls")["calls"])
        return counts if endpoint is None else counts[_known(endpoint)]

    def wait_for(self, endpoint: str, count: int = 1, timeout: float = 10.0) -> None:
        """Waits until `count` requests of an endpoint have arrived, counted from the engine's start.

        Raises:
            TimeoutError: fewer have after `timeout` seconds.
        """
        give_up = time.monotonic() + timeout
        while True:
            seconds = min(max(give_up - time.monotonic(), 0.001), _SLICE)
            told = self.call("wait", {"endpoint": _known(endpoint), "count": count, "seconds": seconds}, seconds)
            if told["arrived"]:
                return
            if time.monotonic() >= give_up:
                raise TimeoutError(
                    f"After {timeout:g} s {told['calls'][endpoint]} requests of {endpoint} had arrived, not {count}."
                )

    def add_account(self, state: str = "active", key: str | None = None) -> Secret:
        """Adds an account, or changes the state of one.

        Args:
            state: active, suspended or inactive.
            key: its API key; a new one is made where None.

        Returns:
            The account's key; repr hides it.
        """
        return Secret(self.call("account", {"state": state, "key": key})["key"])

    def call(self, name: str, body: Mapping[str, Any] | None = None, waiting: float = 0.0) -> dict[str, Any]:
        """One call of a control endpoint.

        Raises:
            EngineError: the engine does not answer, or not as an engine does.
            SettingsError: it refuses what was asked for.
        """
        self._check()
        answer = self._ask(name, json.dumps(body or {}), _PATIENCE + waiting)
        failed = _wire.read_failure(answer)
        if failed is not None and failed.code == "VALIDATION_ERROR":
            raise SettingsError(failed.message)
        if failed is not None or not isinstance(answer, dict):
            raise EngineError(f"The engine at {self.base_url} did not answer {name!r}: {failed or 'no JSON object'}.")
        return dict(answer["data"])

    def _ask(self, name: str, body: str, patience: float) -> Any:
        from http.client import HTTPConnection, HTTPException  # on first use: it takes longer than all the rest

        place = urlsplit(self.base_url)
        connection = HTTPConnection(place.hostname or "", place.port, timeout=patience)
        headers = {TOKEN_HEADER: self._parts["control_token"], "Content-Type": "application/json"}  # hidden in locals
        try:
            connection.request("POST", PREFIX + name, body, headers)
            return json.loads(connection.getresponse().read())
        except (OSError, HTTPException, ValueError) as error:
            raise EngineError(f"The engine at {self.base_url} does not answer: {error!r}.") from None
        finally:
            connection.close()


def _known(endpoint: str) -> str:
    if endpoint not in _wire.ENDPOINTS:
        raise SettingsError(f"endpoint is {endpoint!r}; allowed are {', '.join(_wire.ENDPOINTS)}.")
    return endpoint
