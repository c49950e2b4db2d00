"""Knows the idioms people write: a `with` block, and a handle for a notebook or a prompt.
Must not know how sessions are kept (tracker) or when a process ends (exits): it asks both.
"""

from __future__ import annotations

import threading
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import _exits
from ._aio import actor, outcome
from ._closing import CloseResult
from ._host import host
from ._session import BBRESession
from ._settings import Settings
from ._tracker import tracker
from ._where import opened_at
from .errors import MisuseError
from .guard.keeper import Asking

if TYPE_CHECKING:
    from ._client import BBREClient

__tracebackhide__ = True  # a failing test shows its own lines; pytest --full-trace shows ours


class managed_session:
    """A session for the length of a block, closed at its end, whatever ends it. For `with` and for `async with`.

    If the block fails, the session is closed first, and the block's error is what the caller sees; a close that
    fails as well is a note on it. If only closing fails, that is raised; the session stays tracked and is tried
    again when the process ends.

    Args:
        mode: "passive" or "adaptive".
        sensibility: "low", "medium" or "high".
        timeout: seconds until the service ends the session by itself.
        slot_timeout: seconds to wait for one of the account's slots; 0 fails at once, math.inf waits for ever.
        evictable: whether the session may be closed for somebody else while it is idle.
        evict: "idle" closes the longest idle session of those, where there is no slot.
        settings: everything at once, in place of the environment.
        client: an existing client to use, with its settings.

    Raises:
        SettingsError: a value is not allowed.
        MisuseError: it is in use already: make a new one for each block, thread and task.
        SlotTimeoutError: no slot came free in time; it is a SessionLimitReachedError.
        BBREError: anything else that kept the session from being created, by its class.
    """

    def __init__(
        self,
        *,
        mode: str | None = None,
        sensibility: str | None = None,
        timeout: float | None = None,
        slot_timeout: float | None = None,
        evictable: bool | None = None,
        evict: str | None = None,
        settings: Settings | None = None,
        client: BBREClient | None = None,
    ) -> None:
        self._options = {"mode": mode, "sensibility": sensibility, "timeout": timeout}
        self._guarding = {"slot_timeout": slot_timeout, "evictable": evictable, "evict": evict}
        self._scoped = True
        self._settings = settings
        self._client = client
        self._session: BBRESession | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> BBRESession:
        session = self._intend()
        try:
            self._start(session)
            session.opening.result()
        except BaseException:
            self._give_up(session)
            raise
        return session

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave().__exit__(kind, error, traceback)

    async def __aenter__(self) -> BBRESession:
        session = self._intend()
        try:
            self._start(session)
            await outcome(session.opening)
        except BaseException:
            self._give_up(session)
            raise
        return session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._leave().__aexit__(kind, error, traceback)

    def _intend(self) -> BBRESession:
        with self._lock:
            if self._session is not None:
                raise MisuseError("This managed_session is in use already. Make a new one for each block and thread.")
            session = self._session = tracker.intend()
        return session

    def _leave(self) -> BBRESession:
        session, self._session = self._session, None
        if session is None:
            raise MisuseError("This managed_session is not in use.")
        return session

    def _give_up(self, session: BBRESession) -> None:
        self._session = None
        tracker.abandon(session)

    def _start(self, session: BBRESession) -> None:
        """Settings are settled on the caller's thread, so that a bad one is told before anything begins."""
        given = self._client
        settings = given.settings if given is not None else self._settings or (host.settings or Settings.resolve)()
        settings.override(**self._options, **self._guarding)
        _exits.arm()
        client = partial(tracker.client, settings) if given is None else lambda: given
        asking = Asking(actor(), opened_at(), self._scoped)
        tracker.start(session, client, self._options, settings.exit_timeout, asking, self._guarding)


def open_session(**options: Any) -> BBRESession:
    """A session that stays open until `close()`, for notebooks and prompts; at the latest it is closed at exit.

    Args:
        options: as `managed_session` takes them.

    Raises:
        ShuttingDownError: in an exit hook, where nobody would close it.
        BBREError: as `managed_session` does.
    """
    _exits.refuse_if_nobody_closes()
    opening = managed_session(**options)
    opening._scoped = False  # whoever has the handle may close it
    return opening.__enter__()


def tracked_sessions() -> list[BBRESession]:
    """The open sessions of this process, in the order of their opening."""
    return tracker.sessions()


def close_all_sessions(timeout: float | None = None) -> list[CloseResult]:
    """Closes every session of this process, all at the same time; every attempt ends, and none raises.

    Args:
        timeout: seconds after which what is still under way counts as failed; None waits for all.

    Returns:
        One result per session, last opened first. What failed stays tracked.
    """
    return tracker.close_all(timeout)
