"""Knows every session that this process holds, from the intent to open it until the service said that it is closed.
Must not know why sessions are opened, nor the moments at which a process ends.

`tracker` is the one mutable global of the core. Importing this module starts nothing and loads no network code.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

from ._closing import CloseResult
from ._embedded import address, after_fork
from ._facts import EMBEDDED
from ._host import host
from ._opening import create, is_opened, result_of, take_slot
from ._session import BBRESession, SessionState
from ._settings import Settings
from ._where import program
from ._workers import Workers, wait_for
from .errors import LostAnswerError, SessionLimitReachedError, ShuttingDownError
from .guard.keeper import Asking, Keeper, print_line

if TYPE_CHECKING:
    from ._client import BBREClient
    from .guard.hold import Hold

__tracebackhide__ = True  # a failing test shows its own lines; pytest --full-trace shows ours

DEFAULT_EXIT_TIMEOUT = Settings.exit_timeout
MOST_OPENING = 256  # threads that create sessions or wait for a slot; who comes later waits for one of them


class Tracker:
    """All sessions of one process.

    Creating and closing run on worker threads, never on the caller's: whatever interrupts the caller (Ctrl-C, a
    signal, a cancelled task), the answer to a create is received and its session is closed.

    Attributes:
        ending: why no session may be opened any more; None while any may.
        opened, closed: how many sessions came to be, and how many of them hold no slot any more.
        lost: how many creates had no answer; each of them may have left a session that nobody knows the id of.
        keeper: this process's part of the guard: slots, leases, the guardian.
    """

    def __init__(self) -> None:
        self._begin()

    def forget_all(self) -> None:
        """Starts anew without closing anything: what a fork's child does, whose sessions are its parent's."""
        after_fork()
        self.keeper.after_fork()
        self._begin()

    def _begin(self) -> None:
        self.keeper = Keeper(program, lambda line: (host.tell or print_line)(line))
        self.ending: str | None = None
        self.opened = 0
        self.closed = 0
        self.lost = 0
        self._lock = threading.Lock()
        self._workers = Workers()  # they close, and always get on with it
        self._openers = Workers(most=MOST_OPENING)  # they may have to wait for a slot
        self._openings = 0
        self._sessions: dict[BBRESession, float] = {}  # in the order of their opening; each with its exit timeout
        self._clients: dict[Settings, BBREClient] = {}
        self._clients_lock = threading.Lock()

    # Opening.

    def intend(self) -> BBRESession:
        """A handle for a session yet to be asked for. Nothing happens until `start`."""
        return BBRESession(self._workers.submit, self._ended)

    def start(
        self,
        session: BBRESession,
        client: Callable[[], BBREClient],
        options: Mapping[str, Any],
        exit_timeout: float = DEFAULT_EXIT_TIMEOUT,
        asking: Asking | None = None,
        guarding: Mapping[str, Any] | None = None,
    ) -> None:
        """Begins to create a session; its `opening` future settles when it is open or could not be opened.

        All bookkeeping is done on the worker: handing the call over is one step, so that an interruption of the
        caller can only come before it, when nothing has been asked for, or after it, when `abandon` will be heeded.

        Args:
            session: from `intend`. Whoever gives up waiting for it must call `abandon`.
            client: gives the client to use, on the worker thread.
            options: of `BBREClient.create_session`.
            exit_timeout: seconds for opening and closing it, if the process ends meanwhile.
            asking: who wants it; without it no slot is taken, and only this process knows of it.
            guarding: further settings of this session, about its slot.
        """
        self._workers.reserve(len(self._sessions) + 1)
        with self._lock:
            self._openings += 1
            openings = self._openings
        self._openers.reserve(openings)

        def cancelled() -> str | None:
            return self.ending or ("nobody waits for the session any more" if session.abandoned else None)

        take = partial(take_slot, self.keeper, asking, {**options, **(guarding or {})}, cancelled)
        self._openers.submit(partial(self._open_now, session, client, take, options, exit_timeout), session.opening)

    def _open_now(
        self,
        session: BBRESession,
        client: Callable[[], BBREClient],
        take: Callable[[BBREClient], Hold | None],
        options: Mapping[str, Any],
        exit_timeout: float,
    ) -> BBRESession:
        try:
            with self._lock:
                if self.ending is not None:
                    raise ShuttingDownError(f"No session can be opened any more: {self.ending}.")
                self._sessions[session] = exit_timeout
            connected = client()
            hold = take(connected)
            asked_at, info = create(connected, hold, options)
        except BaseException as error:
            self._never_came_to_be(session, error)
            raise
        finally:
            with self._lock:
                self._openings -= 1
        with self._lock:
            session._opened(connected, info, asked_at, hold)
            self.opened += 1
            abandoned = session.abandoned
        if hold is not None:
            hold.opened(info.id, info.engine, info.timeout)
        if abandoned or session.abandoned:
            session._close_here()
        return session

    def _never_came_to_be(self, session: BBRESession, error: BaseException) -> None:
        session._never_opened()
        with self._lock:
            self._sessions.pop(session, None)
            self.lost += isinstance(error, LostAnswerError)
            if isinstance(error, SessionLimitReachedError):
                error.held = sum(1 for one in self._sessions if one.state is SessionState.OPEN)

    def abandon(self, session: BBRESession) -> None:
        """Says that nobody waits for this session any more: it is closed as soon as it can be."""
        with self._lock:
            session.abandoned = True
            is_open = session.state is SessionState.OPEN
        if is_open:
            session._start_closing()
        else:
            self.keeper.poke()

    def client(self, settings: Settings) -> BBREClient:
        """The client for these settings; one for all sessions, so that connections are shared."""
        from ._client import BBREClient  # here, since requests takes 0.2 s to load: paid with the first session

        with self._clients_lock:
            if settings.base_url == EMBEDDED:  # asked each time: an engine that died is replaced
                settings = address(settings)
            if settings not in self._clients:
                self._clients[settings] = BBREClient(settings=settings)
            return self._clients[settings]

    # Looking.

    def sessions(self) -> list[BBRESession]:
        """The sessions that are open, in the order of their opening."""
        with self._lock:
            return [session for session in self._sessions if session.state is SessionState.OPEN]

    def is_idle(self) -> bool:
        """Whether there is nothing to close, nor anything being opened."""
        return not self._sessions

    @property
    def exit_timeout(self) -> float:
        """Seconds for closing everything at the end: the longest that any session's settings allow."""
        with self._lock:
            return max(self._sessions.values(), default=DEFAULT_EXIT_TIMEOUT)

    # Closing.

    def held(self) -> list[BBRESession]:
        """The sessions that are open or being opened, in the order of their opening."""
        with self._lock:
            return list(self._sessions)

    def close_all(self, timeout: float | None = None, *, spare: Collection[BBRESession] = ()) -> list[CloseResult]:
        """Closes all sessions at the same time, last opened first, those still being opened included.

        Args:
            timeout: seconds after which the result of what is still under way is "failed"; None waits for all.
            spare: sessions to leave as they are.

        Returns:
            One result per session that came to be, last opened first. None of them raises.
        """
        with self._lock:
            held = [session for session in self._sessions if session not in spare]
            for session in held:
                session.abandoned = True
        if any(session.state is SessionState.OPENING for session in held):
            self.keeper.poke()
        return self.close(held, timeout)

    def leave(self) -> None:
        """The process ends, and everything has been closed that could be."""
        self.keeper.leave()

    def close(self, sessions: Sequence[BBRESession], timeout: float | None = None) -> list[CloseResult]:
        """As `close_all`, for some of the sessions."""
        deadline = None if timeout is None else time.monotonic() + timeout
        # One that is still being opened closes itself, having been abandoned.
        under_way: list[tuple[BBRESession, Future[Any]]] = [
            (session, session.opening if session.state is SessionState.OPENING else session._start_closing(deadline))
            for session in reversed(sessions)
        ]
        wait_for([future for _, future in under_way], deadline)
        # One that was opened meanwhile, and that somebody else was faster in closing, is waited for as well.
        under_way = [
            (
                session,
                session._start_closing(deadline)
                if session.state is SessionState.OPEN and is_opened(future)
                else future,
            )
            for session, future in under_way
        ]
        wait_for([future for _, future in under_way], deadline)
        results = [result_of(session, future, timeout) for session, future in under_way]
        return [result for result in results if result is not None]

    def _ended(self, session: BBRESession) -> None:
        with self._lock:
            if session in self._sessions:
                del self._sessions[session]
                self.closed += 1


tracker = Tracker()
