"""Knows the service's endpoints: one method each, what may be repeated, and what counts as closed.
Must not know who opened a session, nor remember any.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

import requests

from . import _wire
from ._closing import CloseOutcome, CloseResult
from ._embedded import address
from ._facts import EMBEDDED
from ._host import host
from ._prepare import by_name, prepare, refuse_extensions
from ._response import build
from ._retries import repeat
from ._secret import Secret
from ._settings import Settings
from ._transport import Transport
from ._wire import SessionInfo
from ._workers import run_all
from .errors import (
    BBREError,
    CloseTimedOutError,
    ConnectionLostError,
    InvalidAnswerError,
    LostAnswerError,
    SessionClosedError,
    SessionIdRequiredError,
    SessionNotFoundError,
    SettingsError,
    TimedOutError,
)

__tracebackhide__ = True  # a failing test shows its own lines; pytest --full-trace shows ours

T = TypeVar("T")


class BBREClient:
    """A client of the BBRE service. It keeps no record of sessions: who opens one here must close it.

    Safe to use from many threads. Connections are pooled; every call has a connect and a read timeout.

    Args:
        api_key: the account's key; BBRE_API_KEY by default.
        base_url: the service's address, or "embedded"; BBRE_BASE_URL by default.
        timeout: seconds to reach the service and to wait for its answer, one number for both or a pair.
        settings: everything at once, in place of the environment.
        options: any other field of `Settings`, for example retries=0.

    Raises:
        SettingsError: a value is not allowed.
        ApiKeyRequiredError: there is no key.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        timeout: float | tuple[float, float] | None = None,
        settings: Settings | None = None,
        **options: Any,
    ) -> None:
        api_key = Secret(api_key) if isinstance(api_key, str) else api_key
        if timeout is not None:
            pair = timeout if isinstance(timeout, tuple) else (timeout, timeout)
            if len(pair) != 2:
                raise SettingsError(f"timeout is {timeout!r}; allowed is a number of seconds, or a pair of them.")
            options = {"connect_timeout": pair[0], "read_timeout": pair[1], **options}
        if settings is None and api_key is None and base_url is None and host.settings is not None:
            settings = host.settings()  # in a pytest run: where its sessions go
        arguments = {"api_key": api_key, "base_url": base_url, **options}
        resolved = Settings.resolve(arguments) if settings is None else settings.override(**arguments)
        self.settings = address(resolved) if resolved.base_url == EMBEDDED else resolved
        self._transport = Transport(self.settings)

    def __repr__(self) -> str:
        settings = getattr(self, "settings", None)  # a report may show a client whose making failed
        return f"<BBREClient for {settings.base_url}>" if settings else "<BBREClient>"

    def __enter__(self) -> BBREClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drops the pooled connections. It closes no session."""
        self._transport.close()

    def create_session(
        self, mode: str | None = None, sensibility: str | None = None, timeout: float | None = None
    ) -> SessionInfo:
        """Creates a session. Never sent twice: after a lost answer the first may exist.

        Args:
            mode, sensibility, timeout: as in `Settings`, whose values are the default; `timeout` in seconds.

        Raises:
            SessionLimitReachedError: the account has all its sessions in use.
            LostAnswerError: it was sent, and no answer came.
            BBREError: anything else, by its class.
        """
        chosen = self.settings.override(mode=mode, sensibility=sensibility, timeout=timeout)
        asked = {"mode": chosen.mode, "sensibility": chosen.sensibility, "timeout": _plain(chosen.timeout)}
        try:
            info = self._post("create", asked, _wire.read_session)
        except (ConnectionLostError, TimedOutError, InvalidAnswerError) as error:
            if isinstance(error, InvalidAnswerError) and error.status is not None and error.status < 500:
                raise  # whole, and not BBRE's
            raise LostAnswerError(f"The answer to creating a session was lost: {error.message}") from error
        return SessionInfo(**{**asked, "status": "active", **_known(info)})

    def request(
        self,
        session_id: str | SessionInfo,
        method: str,
        url: str,
        *positional: Any,
        idempotent: bool = False,
        **options: Any,
    ) -> requests.Response:
        """Sends a web request through a session.

        Args:
            session_id: the session.
            method, url, positional, options: as requests.Session.request takes them; files, stream, cert and hooks are
                refused. `wait_for` and `screenshot` are for adaptive sessions of the embedded engine, given as the
                SessionInfo that creating them has told.
            idempotent: True says that it does no harm when the target gets it twice: then passing failures are
                repeated.

        Raises:
            InvalidURLError, UnsupportedOptionError: before anything is sent.
            TargetError: the session is well, the target did not answer.
            BBREError: anything else, by its class.
        """
        known = _id(session_id)
        named = by_name(positional, options)
        refuse_extensions(named, embedded=getattr(session_id, "engine", None) is not None)
        prepared, asked = prepare(method, url, **named)
        patience = self.settings.request_timeout if asked.timeout is None else asked.timeout
        body = {"timeout": _plain(patience), **asked.to_json(known)}
        started = time.monotonic()
        answer = self._post("request", body, _wire.read_result, safe=idempotent, extra=patience, session_id=known)
        return build(prepared, answer, time.monotonic() - started)

    def session_status(self, session_id: str | SessionInfo) -> SessionInfo:
        """What the service knows of a session: its `status` is active, expired or closed.

        Raises:
            SessionNotFoundError: no such session in this account.
            BBREError: anything else, by its class.
        """
        known = _id(session_id)
        return self._post("status", {"sessionId": known}, _wire.read_session, safe=True, session_id=known)

    def close_session(self, session_id: str | SessionInfo, *, deadline: float | None = None) -> CloseResult:
        """Closes a session; one that was closed before, or is unknown, counts as closed.

        Args:
            session_id: the session.
            deadline: a time.monotonic() by which to give up.

        Raises:
            ServiceError, TransportError: after all repetitions; the session may still be active. CloseTimedOutError
                where it was the deadline that ended the wait.
            BBREError: anything else, by its class.
        """
        known = _id(session_id)
        try:
            self._post("close", {"sessionId": known}, dict, safe=True, deadline=deadline, session_id=known)
        except SessionClosedError:
            return CloseResult(known, CloseOutcome.ALREADY_CLOSED)
        except SessionNotFoundError:
            return CloseResult(known, CloseOutcome.NOT_FOUND)
        except TimedOutError as error:
            if deadline is None or time.monotonic() < deadline:
                raise
            raise CloseTimedOutError("Not closed in time: no answer came.", session_id=known) from error
        return CloseResult(known, CloseOutcome.CLOSED)

    def close_sessions(
        self, session_ids: Iterable[str | SessionInfo], *, done: Callable[[CloseResult], object] | None = None
    ) -> list[CloseResult]:
        """Closes many sessions at the same time. Every attempt ends; one result per id, in order; none raises.

        Args:
            session_ids: which.
            done: called with each result as soon as it is there, from another thread.
        """
        ids = [session_ids] if isinstance(session_ids, str | SessionInfo) else session_ids

        def close(one: str | SessionInfo) -> CloseResult:
            result = self._close_quietly(one)
            if done is not None:
                done(result)
            return result

        return run_all([partial(close, one) for one in ids])

    def list_sessions(self, status: str | None = None, *, page_size: int = _wire.PAGE_SIZE) -> Iterator[SessionInfo]:
        """The account's sessions, newest first, page by page as they are asked for.

        Args:
            status: "active", "expired" or "closed"; all by default.
            page_size: records fetched at a time.

        Raises:
            BBREError: by its class, while iterating.
        """
        seen: set[str] = set()  # a session opened meanwhile shifts the pages; nothing is told twice
        offset = 0
        while True:
            asked = {"limit": page_size, "offset": offset} | ({"status": status} if status else {})
            page = self._post("list", asked, _wire.read_page, safe=True)
            fresh = [one for one in page.sessions if one.id not in seen]
            seen.update(one.id for one in fresh)
            yield from fresh
            offset += len(page.sessions)
            if not fresh or len(page.sessions) < page_size or (page.total is not None and offset >= page.total):
                return

    def _close_quietly(self, session: str | SessionInfo) -> CloseResult:
        try:
            return self.close_session(session)
        except Exception as error:
            return CloseResult(str(getattr(session, "id", session)), CloseOutcome.FAILED, error)

    def _post(
        self,
        endpoint: str,
        body: _wire.Json,
        read: Callable[[_wire.Json], T],
        *,
        safe: bool = False,
        extra: float = 0.0,
        deadline: float | None = None,
        session_id: str | None = None,
    ) -> T:
        """One call, repeated only if that is `safe`; `extra` seconds are added to the read timeout."""

        def once() -> T:
            timeout = self.settings.read_timeout + extra
            if deadline is not None:
                timeout = max(min(timeout, deadline - time.monotonic()), 0.05)
            answer: T = self._transport.post(_wire.PATHS[endpoint], body, timeout=timeout, read=read)
            return answer

        try:
            return repeat(once, self.settings, deadline=deadline) if safe else once()
        except BBREError as error:
            error.session_id = error.session_id or session_id
            raise


def _id(session: str | SessionInfo) -> str:
    """A session's id, as given: it is opaque."""
    known = getattr(session, "id", session)
    if not isinstance(known, str) or not known:
        raise SessionIdRequiredError(f"{session!r} is no session id.", code="SESSION_ID_REQUIRED")
    return known


def _known(info: SessionInfo) -> dict[str, Any]:
    """What the service told, for laying over what was asked for."""
    return {name: value for name, value in vars(info).items() if value not in (None, {})}


def _plain(seconds: float) -> float:
    """300 rather than 300.0, as in the vendor's examples."""
    return int(seconds) if seconds == int(seconds) else seconds
