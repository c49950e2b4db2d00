"""Knows the endpoints over HTTP: who asks, what is asked, and that every answer is one of BBRE's, errors too.
Must not know how sessions are kept or how a web request is sent.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from .. import _wire
from .accounts import Account, Accounts
from .adaptive import Adaptive, AdaptiveContext
from .arrivals import Arrivals
from .faults import DONE_FIRST, Fault, FaultBook
from .fields import Fields
from .passive import Context, Passive, new_context, new_profile
from .refused import Refused, invalid
from .store import Store
from .targets import read_proxy, read_target

MAX_REQUEST: Final = 2 * _wire.MAX_BODY  # bytes: base64 makes a body a third larger, and the fields come on top
INSTANCE_HEADER: Final = "x-bbre-engine"
_MOST_LISTED: Final = 1000  # records a page
_ENDPOINT_OF: Final = {path: name for name, path in _wire.PATHS.items()}
_GARBAGE: Final = b"<!doctype html><title>502 Bad Gateway</title><h1>Bad Gateway</h1>"
_log = logging.getLogger(__name__)

Handler = Callable[[Account, Fields], Awaitable[_wire.Json]]
Asked = tuple[Account, Fields] | Refused
Control = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Api:
    """Answers every request of one engine.

    Args:
        modes: the modes this engine has; creating in another is refused.
        control: answers the paths that begin with /_engine/.
    """

    def __init__(
        self,
        *,
        instance: str,
        accounts: Accounts,
        store: Store,
        passive: Passive,
        adaptive: Adaptive,
        faults: FaultBook,
        arrivals: Arrivals,
        latency: Mapping[str, float],
        modes: tuple[str, ...],
        control: Control,
        changed: Callable[[], None],
    ) -> None:
        self._instance = instance
        self._accounts = accounts
        self._store = store
        self._passive = passive
        self._adaptive = adaptive
        self._faults = faults
        self._arrivals = arrivals
        self._latency = latency
        self._modes = modes
        self._control = control
        self._changed = changed
        self._headers = {INSTANCE_HEADER: instance}
        self._handlers: dict[str, Handler] = {
            "create": self._create,
            "request": self._request,
            "status": self._status,
            "close": self._close,
            "list": self._list,
        }

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request, one answer."""
        endpoint = _ENDPOINT_OF.get(request.path)
        if endpoint is None:
            if request.path.startswith("/_engine/"):
                return await self._control(request)
            return self._refuse(Refused("VALIDATION_ERROR", f"There is no endpoint {request.path}.", status=404))
        if request.method != "POST":
            words = f"{request.path} is asked by POST, not {request.method}."
            return self._refuse(Refused("VALIDATION_ERROR", words, status=405, headers={"Allow": "POST"}))
        # Read before any delay: what has arrived is done, though its asker may die meanwhile.
        asked = await self._read(request)
        self._arrivals.count(endpoint)
        delay, fault = self._faults.take(endpoint)
        if delay := delay + self._latency.get(endpoint, 0.0):
            await asyncio.sleep(delay)
        if fault is None:
            return await self._work(endpoint, asked)
        return await self._meet(fault, endpoint, asked, request)

    async def _read(self, request: web.BaseRequest) -> Asked:
        """Who asks, and what for; or why that is refused."""
        try:
            account = self._accounts.authenticate(_key(request))
            return account, Fields(await read_object(request))
        except Refused as refused:
            return refused
        except Exception:
            return self._failed("reading a request")

    def _failed(self, what: str) -> Refused:
        """A bug of ours is answered as the service answers its own."""
        _log.exception("%s failed", what)
        return Refused("SERVICE_ERROR")

    async def _meet(self, fault: Fault, endpoint: str, asked: Asked, request: web.BaseRequest) -> web.StreamResponse:
        """Carries a fault out."""
        if fault.kind == "hang":
            await asyncio.sleep(fault.seconds)
        if fault.kind == "fail":
            extra = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
            return self._refuse(Refused(fault.code, fault.message, headers=extra))
        if fault.kind == "garbage":
            return web.Response(body=_GARBAGE, content_type="text/html", headers=self._headers)
        answer = await self._work(endpoint, asked) if fault.kind in DONE_FIRST else web.Response()
        if fault.kind == "half_answer":
            return await _half(answer, request)
        if request.transport is not None:
            request.transport.abort()
        return answer

    async def _work(self, endpoint: str, asked: Asked) -> web.Response:
        """Does what an endpoint is for."""
        try:
            if isinstance(asked, Refused):
                return self._refuse(asked)
            account, fields = asked
            answer = await self._handlers[endpoint](account, fields)
        except Refused as refused:
            return self._refuse(refused)
        except Exception:
            return self._refuse(self._failed(endpoint))
        return respond(200, answer, self._headers)

    def _refuse(self, refused: Refused) -> web.Response:
        return refusal(refused, self._headers)

    async def _create(self, account: Account, fields: Fields) -> _wire.Json:
        mode = fields.choice("mode", _wire.MODES, _wire.DEFAULT_MODE) or ""
        if mode not in self._modes:
            raise invalid(f"mode is {mode!r}; this engine runs {' and '.join(self._modes)} sessions only.")
        sensibility = fields.choice("sensibility", _wire.SENSIBILITIES, _wire.DEFAULT_SENSIBILITY) or ""
        timeout = fields.seconds("timeout", _wire.DEFAULT_TIMEOUT, _wire.MAX_TIMEOUT)
        self._store.check_room(account.id)  # before a browser's context is made
        context, profile = await self._context(mode, sensibility, read_proxy(fields))
        try:
            session = self._store.create(
                account.id, mode=mode, sensibility=sensibility, timeout=timeout, profile=profile, context=context
            )
        except Refused:
            self._adaptive.ended(context)
            raise
        self._changed()
        return _wire.success(top={"session": session.info().to_json(), "engine": {"instance": self._instance}})

    async def _context(self, mode: str, sensibility: str, proxy: str | None) -> tuple[Context, dict[str, Any]]:
        if mode == "adaptive":
            return await self._adaptive.open(sensibility, proxy)
        profile = new_profile()
        return new_context(profile, proxy), profile

    async def _request(self, account: Account, fields: Fields) -> _wire.Json:
        session_id = fields.session_id()
        target = read_target(fields)
        session = self._store.get(account.id, session_id)
        session.check_active()
        context: Context = session.context
        if target.proxy is None and context.proxy is not None:
            target = replace(target, proxy=context.proxy)
        answer = await self._send(context, target)
        self._store.get(account.id, session_id).check_active()  # it may have ended meanwhile, and its answer with it
        session.request_count += 1
        return _wire.success(data={"task": {"status": "completed", "result": answer.to_json()}})

    async def _send(self, context: Context, target: _wire.TargetRequest) -> _wire.TargetAnswer:
        if isinstance(context, AdaptiveContext):
            return await self._adaptive.send(context, target)
        if target.wait_for or target.screenshot:
            name = "waitFor" if target.wait_for else "screenshot"
            raise invalid(f"{name} needs a page, and this session is passive; allowed in an adaptive one.")
        return await self._passive.send(context, target)

    async def _status(self, account: Account, fields: Fields) -> _wire.Json:
        session = self._store.get(account.id, fields.session_id())
        return _wire.success(data={"session": session.info().to_json()})

    async def _close(self, account: Account, fields: Fields) -> _wire.Json:
        session_id = fields.session_id()
        context = self._store.get(account.id, session_id).context
        session = self._store.close(account.id, session_id)
        await self._adaptive.gone(context)
        return _wire.success(data={"session": {"id": session.id, "status": "closed"}})

    async def _list(self, account: Account, fields: Fields) -> _wire.Json:
        status = fields.choice("status", _wire.STATUSES)
        limit = fields.whole("limit", _wire.PAGE_SIZE, 1, _MOST_LISTED)
        offset = fields.whole("offset", 0, 0, 10**9)
        found, total = self._store.page(account.id, status, limit, offset)
        records = [session.info().to_json() for session in found]
        return _wire.success(data={"sessions": records, "total": total, "limit": limit, "offset": offset})


def _key(request: web.BaseRequest) -> str | None:
    return next((value for name in _wire.KEY_HEADERS if (value := request.headers.get(name))), None)


async def read_object(request: web.BaseRequest) -> dict[str, Any]:
    """The JSON object of a request; no body is an empty one.

    Raises:
        Refused: it is too large, or no JSON object.
    """
    chunks, size = [], 0
    try:
        async for chunk in request.content.iter_any():
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_REQUEST:
                words = f"The request is larger than {MAX_REQUEST} bytes."
                raise Refused("VALIDATION_ERROR", words, status=413, headers={"Connection": "close"})
    except (web.RequestPayloadError, HttpProcessingError) as error:
        raise invalid(f"The request's body can't be read: {error}.") from None
    try:
        body = json.loads(b"".join(chunks) or b"{}")
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise invalid(f"The request's body is no JSON: {error}.") from None
    if not isinstance(body, dict):
        raise invalid(f"The request's body is a JSON {type(body).__name__}; allowed is an object.")
    return body


def respond(status: int, answer: _wire.Json, headers: Mapping[str, str]) -> web.Response:
    """An answer in JSON."""
    body = json.dumps(answer).encode()
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def refusal(refused: Refused, headers: Mapping[str, str]) -> web.Response:
    """A refusal in JSON."""
    status, answer = _wire.failure(refused.code, refused.message, hint=refused.hint)
    return respond(refused.status or status, answer, {**headers, **refused.headers})


async def _half(answer: web.Response, request: web.BaseRequest) -> web.StreamResponse:
    """Sends half of an answer that says it is whole, and cuts the connection."""
    body = answer.body if isinstance(answer.body, bytes) else b""
    half = web.StreamResponse(status=answer.status, headers={**answer.headers, "Content-Length": str(len(body))})
    await half.prepare(request)
    await half.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return half
