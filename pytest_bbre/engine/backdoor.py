"""Knows the control endpoints, /_engine/...: the truth about sessions, faults to make, events to wait for.
Must not know the API's own endpoints. Only who holds the control token is answered; it is made anew each start.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from .. import _wire
from ..errors import SettingsError
from .accounts import Accounts
from .app import read_object, refusal, respond
from .arrivals import Arrivals
from .control import PREFIX, TOKEN_HEADER
from .faults import Fault, FaultBook
from .fields import Fields
from .refused import Refused
from .store import Store

LONGEST_WAIT: Final = 30.0  # seconds one call waits; who wants more asks again


class Backdoor:
    """Answers the control endpoints of one engine."""

    def __init__(
        self, token: str, instance: str, accounts: Accounts, store: Store, faults: FaultBook, arrivals: Arrivals
    ) -> None:
        self._token = token.encode()
        self._instance = instance
        self._accounts = accounts
        self._store = store
        self._faults = faults
        self._arrivals = arrivals
        self._handlers: dict[str, Callable[[Fields], Awaitable[Any]]] = {
            "info": self._info,
            "sessions": self._sessions,
            "calls": self._calls,
            "wait": self._wait,
            "fault": self._fault,
            "clear": self._clear,
            "account": self._account,
        }

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request, one answer."""
        try:
            given = request.headers.get(TOKEN_HEADER, "").encode("utf-8", "surrogateescape")
            handler = self._handlers.get(request.path.removeprefix(PREFIX))
            if not hmac.compare_digest(given, self._token):
                raise Refused("INVALID_API_KEY", "The control token is missing or wrong.")
            if handler is None or request.method != "POST":
                raise Refused("VALIDATION_ERROR", f"There is no control endpoint {request.path}.", status=404)
            answer = await handler(Fields(await read_object(request)))
        except Refused as refused:
            return refusal(refused, {})
        except SettingsError as error:
            return refusal(Refused("VALIDATION_ERROR", error.message), {})
        return respond(200, _wire.success(data=answer), {})

    async def _info(self, _: Fields) -> Any:
        totals = {**self._store.totals, "active": self._store.active_count()}
        return {"instance": self._instance, "max_sessions": self._store.max_sessions, "totals": totals}

    async def _sessions(self, fields: Fields) -> Any:
        found = self._store.everything(fields.choice("status", _wire.STATUSES))
        return {"sessions": [session.info().to_json() for session in found]}

    async def _calls(self, _: Fields) -> Any:
        return {"calls": self._arrivals.counts}

    async def _wait(self, fields: Fields) -> Any:
        endpoint = fields.choice("endpoint", _wire.ENDPOINTS) or "create"
        seconds = fields.seconds("seconds", LONGEST_WAIT, LONGEST_WAIT)
        arrived = await self._arrivals.wait(endpoint, fields.whole("count", 1, 0, 10**9), seconds)
        return {"arrived": arrived, "calls": self._arrivals.counts}

    async def _fault(self, fields: Fields) -> Any:
        self._faults.add(Fault.from_json(fields.body))
        return {}

    async def _clear(self, _: Fields) -> Any:
        self._faults.clear()
        return {}

    async def _account(self, fields: Fields) -> Any:
        state = fields.text("state", "active") or ""
        return {"key": self._accounts.add(state, fields.text("key"))}
