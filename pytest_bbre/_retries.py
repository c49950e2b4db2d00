"""Knows which failures are worth another try, how long to wait before it, and when to give up.
Must not know what is being tried; whoever calls it vouches that repeating is safe.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from ._settings import Settings
from .errors import (
    BBREError,
    ConnectionFailedError,
    ConnectionLostError,
    InvalidAnswerError,
    RateLimitError,
    ServiceError,
    TimedOutError,
)

__tracebackhide__ = True  # a failing test shows its own lines; pytest --full-trace shows ours

T = TypeVar("T")

_PASSING = (ServiceError, RateLimitError, ConnectionFailedError, ConnectionLostError, TimedOutError)


def repeat(call: Callable[[], T], settings: Settings, *, deadline: float | None = None) -> T:
    """Calls until it succeeds, its failure is final, or the limits of `settings` are reached.

    Args:
        call: must be safe to repeat.
        settings: retries, retry_min, retry_max and retry_total are used.
        deadline: a time.monotonic() after which nothing is repeated, if nearer than retry_total.

    Raises:
        BBREError: the last failure.
    """
    give_up = time.monotonic() + settings.retry_total
    if deadline is not None:
        give_up = min(give_up, deadline)
    attempt = 0
    while True:
        try:
            return call()
        except BBREError as error:
            pause = _pause(error, settings)
            if not _is_passing(error) or attempt >= settings.retries or time.monotonic() + pause > give_up:
                raise
        attempt += 1
        time.sleep(pause)


def _is_passing(error: BBREError) -> bool:
    if isinstance(error, InvalidAnswerError):  # a gateway's page, or an answer cut in the middle
        return error.status is None or error.status >= 500
    return isinstance(error, _PASSING)


def _pause(error: BBREError, settings: Settings) -> float:
    """A random delay, so that many clients don't come back at the same moment; the service's own wish comes first."""
    jittered = random.uniform(settings.retry_min, settings.retry_max)
    return jittered if error.retry_after is None else error.retry_after
