"""Knows one remote session from the moment it is asked for until it is closed, and sends requests through it.
Must not know which other sessions there are, nor when the process ends.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from enum import Enum
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ._aio import outcome_despite_cancelling, to_thread
from ._closing import CloseOutcome, CloseResult
from ._verbs import Verbs
from ._wire import SessionInfo
from ._workers import settle
from .errors import (
    BBREError,
    MisuseError,
    SessionClosedError,
    SessionEvictedError,
    SessionExpiredError,
    SessionNotFoundError,
    UseAfterCloseError,
    WrongProcessError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests

    from ._client import BBREClient
    from .guard.hold import Hold

__tracebackhide__ = True  # a failing test shows its own lines; pytest --full-trace shows ours


class SessionState(Enum):
    """The three states of a handle. It only ever moves down this list."""

    OPENING = "opening"  #: Asked for; the service has not answered yet, so there may or may not be a session.
    OPEN = "open"  #: The service gave an id; requests can be sent, and a slot is held.
    CLOSED = "closed"  #: The service said that the session holds no slot, or it never came to be.


class BBRESession(Verbs):
    """The handle on one remote session. `managed_session` and its siblings make it; nobody else should.

    Safe to use from many threads. A request is sent as requests.request would send it, and answered with a real
    requests.Response. Each method has an async twin whose name begins with "a".
    """

    def __init__(
        self,
        submit: Callable[[Callable[[], CloseResult]], Future[CloseResult]],
        on_closed: Callable[[BBRESession], None],
    ) -> None:
        self._submit = submit
        self._on_closed = on_closed
        self._lock = threading.RLock()  # a close may run on the thread that asks for it: see Workers.submit
        self._state = SessionState.OPENING
        self._pid = os.getpid()
        self._client: BBREClient | None = None
        self._hold: Hold | None = None  # its lease; None where there is no ledger
        self._info: SessionInfo | None = None
        self.last_screenshot: bytes | None = None  #: the last page that was pictured, as PNG
        self._ends = float("inf")
        self._closing: Future[CloseResult] | None = None
        self.opening: Future[BBRESession] = Future()  # settles when it is open, or could not be opened
        self.abandoned = False  # nobody waits for it any more: the tracker closes it once it is open

    def __repr__(self) -> str:
        if self._info is None:
            return f"<BBRESession {self._state.value}>"
        return f"<BBRESession {self._info.id} {self._state.value} {self._info.mode}>"

    # What it is.

    @property
    def _known(self) -> SessionInfo:
        if self._info is None:
            raise MisuseError("The session has no id: the service has not answered its creation.")
        return self._info

    @property
    def id(self) -> str:
        """The service's id, opaque and exactly as returned."""
        return self._known.id

    @property
    def mode(self) -> str | None:
        """Either "passive" or "adaptive"."""
        return self._known.mode

    @property
    def sensibility(self) -> str | None:
        """Either "low", "medium" or "high"."""
        return self._known.sensibility

    @property
    def timeout(self) -> float | None:
        """Seconds from its creation until the service ends the session by itself."""
        return self._known.timeout

    @property
    def created_at(self) -> datetime | None:
        """When it was created, by the service's clock."""
        return self._known.created_at

    @property
    def expires_at(self) -> datetime | None:
        """When it ends by itself, by the service's clock; None where the service did not tell."""
        return self._known.expires_at

    @property
    def profile(self) -> Mapping[str, Any]:
        """The browser profile the service gave to the session; empty where it did not tell."""
        return self._known.profile

    @property
    def state(self) -> SessionState:
        """Opening, open or closed, as far as this handle knows; `status` asks the service."""
        return self._state

    @property
    def is_active(self) -> bool:
        """Whether requests can be sent. It is open, and its timeout has not passed by this machine's steady clock."""
        return self._state is SessionState.OPEN and time.monotonic() < self._ends

    def status(self) -> SessionInfo:
        """What the service knows of the session. Works after closing, too.

        Raises:
            SessionNotFoundError: the service has removed the record.
            BBREError: anything else, by its class.
        """
        return self._connected.session_status(self.id)

    @property
    def _connected(self) -> BBREClient:
        if self._client is None:
            raise MisuseError("The session has no id: the service has not answered its creation.")
        return self._client

    # What the tracker tells it.

    def _opened(self, client: BBREClient, info: SessionInfo, asked_at: float, hold: Hold | None = None) -> None:
        """Opening becomes open: the service gave an id. Expiry counts from before the asking: never too late."""
        with self._lock:
            self._client = client
            self._info = info
            self._hold = hold
            if info.timeout is not None:
                self._ends = asked_at + info.timeout
            self._state = SessionState.OPEN

    def _never_opened(self) -> None:
        """Opening becomes closed: there is no session."""
        with self._lock:
            self._state = SessionState.CLOSED

    # Closing.

    def close(self) -> CloseResult:
        """Closes the session. A second close does nothing, and says so; two at once do one.

        Returns:
            CLOSED, ALREADY_CLOSED or NOT_FOUND: in each the session holds no slot any more.

        Raises:
            ServiceError, TransportError: after all repetitions; the session stays tracked, to be tried again.
            WrongProcessError: in a forked child, whose parent's session it is.
        """
        return self._start_closing().result()

    def _start_closing(self, deadline: float | None = None) -> Future[CloseResult]:
        """Open becomes closed, on another thread: an interrupted wait does not interrupt the closing."""
        if self._is_foreign():
            raise WrongProcessError(f"{self!r} belongs to process {self._pid}.", session_id=self.id)
        with self._lock:
            if self._state is SessionState.CLOSED:
                done: Future[CloseResult] = Future()
                done.set_result(CloseResult(self._info.id if self._info else "", CloseOutcome.ALREADY_CLOSED))
                return done
            if self._closing is not None:
                return self._closing
            closing = self._submit(partial(self._close_now, deadline))
            if not closing.done():  # else it ran right here, and is over: the next attempt is a new one
                self._closing = closing
            return closing

    def _close_here(self) -> None:
        """As `_start_closing`, on this thread: a worker must not wait for a second one.

        Raises:
            BBREError: it failed; the session stays open.
        """
        with self._lock:
            if self._state is SessionState.CLOSED or self._closing is not None:
                return
            self._closing = Future()
        closing = self._closing
        settle(closing, self._close_now)
        closing.result()

    def _close_now(self, deadline: float | None = None) -> CloseResult:
        if self._hold is not None:
            self._hold.closing()
        try:
            result = self._connected.close_session(self.id, deadline=deadline)
        except BaseException as error:
            with self._lock:
                self._closing = None  # the next attempt is a new one
            if self._hold is not None:
                self._hold.failed(str(error))
            raise
        with self._lock:
            self._state = SessionState.CLOSED
        if self._hold is not None:
            self._hold.closed()
        self._on_closed(self)
        return result

    def _is_foreign(self) -> bool:
        """Whether this is the copy that a fork left in a child."""
        return self._pid != os.getpid()

    def __enter__(self) -> BBRESession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes; a failure to close is noted on the block's error, and raised only if there is none."""
        if self._is_foreign():
            return
        try:
            self.close()
        except BBREError as failed:
            if error is None:
                raise
            note_failed_close(error, failed)

    async def __aenter__(self) -> BBRESession:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """As `__exit__`; also while the task is being cancelled."""
        if self._is_foreign():
            return
        try:
            await self.aclose()
        except BBREError as failed:
            if error is None:
                raise
            note_failed_close(error, failed)

    async def aclose(self) -> CloseResult:
        """`close` without holding up the event loop. A cancelled task still waits for it."""
        return await outcome_despite_cancelling(self._start_closing())

    async def astatus(self) -> SessionInfo:
        """`status` without holding up the event loop."""
        return await to_thread(self.status)

    # Requests.

    def request(self, method: str, url: str, *positional: Any, **options: Any) -> requests.Response:
        """Sends a web request through the session.

        Args:
            method, url, positional, options: as requests.Session.request takes them; files, stream, cert and hooks are
                refused. `idempotent=True` says that the target may get it twice: then passing failures are repeated.
                In adaptive sessions of the embedded engine: `wait_for`, a selector, "text=..." or "networkidle", is
                waited for before the page is told; `screenshot=True` keeps a picture as `last_screenshot`.

        Raises:
            UseAfterCloseError: the session is not open.
            InvalidURLError, UnsupportedOptionError: before anything is sent.
            SessionExpiredError: the session's own timeout has passed.
            SessionEvictedError: it was idle and evictable, and was closed for somebody else.
            TargetError: the session is well, the target did not answer.
            BBREError: anything else, by its class.
        """
        if self._state is not SessionState.OPEN:
            raise UseAfterCloseError(f"{method.upper()} {url}: the session is {self._state.value}.", session_id=self.id)
        self._refuse_if_evicted()
        try:
            response = self._connected.request(self._info or self.id, method, url, *positional, **options)
            page = getattr(response, "bbre_page", None)
            if page is not None and page.screenshot is not None:
                self.last_screenshot = page.screenshot
            return response
        except (SessionClosedError, SessionExpiredError, SessionNotFoundError):
            self._ends = 0.0  # it is of no use any more; only its close says that it holds no slot
            raise
        finally:
            if self._hold is not None:
                self._hold.end_use()

    def _refuse_if_evicted(self) -> None:
        evicted = self._hold.begin_use() if self._hold is not None else None
        if evicted is not None:
            self._ends = 0.0
            raise SessionEvictedError(
                f"The session was closed for {evicted.by} at {datetime.fromtimestamp(evicted.at.wall):%H:%M:%S}, "
                "since it was idle and opened as evictable.",
                session_id=self.id,
            )


def note_failed_close(error: BaseException, failed: BaseException) -> None:
    """Adds to an error that closing failed, too. The error stays what it is: it came first."""
    note = f"Closing the session failed, too, and will be tried again when the process ends: {failed}"
    if hasattr(error, "add_note"):
        error.add_note(note)
    else:  # Python 3.10 knows no notes, but pytest shows them
        error.__notes__ = [*getattr(error, "__notes__", []), note]
