"""Knows the two steps of opening a session, its slot and its create, and how to read what became of an opening.
Must not know which sessions there are: the tracker does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from ._child import ends_with_us
from ._closing import CloseOutcome, CloseResult
from ._session import BBRESession
from .errors import CloseTimedOutError, LostAnswerError, SessionLimitReachedError

if TYPE_CHECKING:
    from ._client import BBREClient
    from ._wire import SessionInfo
    from .guard.hold import Hold
    from .guard.keeper import Asking, Keeper

__tracebackhide__ = True  # a failing test shows its own lines; pytest --full-trace shows ours


def take_slot(
    keeper: Keeper,
    asking: Asking | None,
    chosen: Mapping[str, Any],
    cancelled: Callable[[], str | None],
    client: BBREClient,
) -> Hold | None:
    """Waits for a slot and takes it, before the create leaves. None if nobody asks, or there is no ledger.

    Raises:
        SlotTimeoutError: no slot came free in time, or ever will.
        ShuttingDownError: `cancelled` gave a reason.
    """
    if asking is None:
        return None
    settings = client.settings.override(**chosen)
    return keeper.acquire(settings, asking, own_engine=ends_with_us(settings.base_url), cancelled=cancelled)


def create(client: BBREClient, hold: Hold | None, options: Mapping[str, Any]) -> tuple[float, SessionInfo]:
    """Creates the session for a lease: when it was asked for, and what came.

    Raises:
        BBREError: there is none, or (LostAnswerError) nobody knows.
    """
    while True:
        asked_at = time.monotonic()
        try:
            return asked_at, client.create_session(**options)
        except SessionLimitReachedError as error:
            if hold is None:
                raise
            hold.refused(error)
        except LostAnswerError as error:
            if hold is not None and (known := hold.lost(error.message)):
                error.message = f"{error.message} {known}"
            raise
        except BaseException:
            if hold is not None:
                hold.never()
            raise


def is_opened(future: Future[Any]) -> bool:
    return future.done() and future.exception() is None and isinstance(future.result(), BBRESession)


def result_of(session: BBRESession, future: Future[Any], timeout: float | None) -> CloseResult | None:
    """What became of closing one session; None if it never came to be."""
    known = session._info.id if session._info else None
    if not future.done():
        return CloseResult(known, CloseOutcome.FAILED, CloseTimedOutError(f"Not closed within {timeout:g} s."))
    error = future.exception()
    if error is not None:
        came_to_be = known is not None or isinstance(error, LostAnswerError)
        return CloseResult(known, CloseOutcome.FAILED, error) if came_to_be else None
    ended = future.result()  # a handle, where it was the opening that ended, and the closing with it
    return ended if isinstance(ended, CloseResult) else CloseResult(known, CloseOutcome.CLOSED)
