"""Knows how to wait for a thread from asyncio or trio without holding up the event loop.
Must not know what the threads do.

Both loops are asked directly. anyio would do the same for us, but it brings a pytest plugin that costs every pytest
run of everyone who installs this package about 0.1 s (docs/decisions/0003-async-without-anyio.md).
"""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from ._workers import settle

T = TypeVar("T")


async def to_thread(call: Callable[[], T]) -> T:
    """Runs a blocking call on a thread. Cancelling stops the waiting at once; the call itself goes on to its end."""
    trio = _trio()
    if trio is not None:
        result: T = await trio.to_thread.run_sync(call, abandon_on_cancel=True)
        return result
    # A thread per call, since asyncio's own pool has only six on two cores, and waits for them when the loop ends.
    future: Future[T] = Future()
    run = partial(contextvars.copy_context().run, call)
    threading.Thread(target=settle, args=(future, run), name="bbre-request", daemon=True).start()
    return await outcome(future)


async def outcome(future: Future[T]) -> T:
    """Waits for a future that a thread will settle. Cancelling stops the waiting at once."""
    trio = _trio()
    if trio is not None:
        result: T = await trio.to_thread.run_sync(future.result, abandon_on_cancel=True)
        return result
    import asyncio  # here, as below: it takes 50 ms to load, and who runs under it has done so

    return await asyncio.shield(asyncio.wrap_future(future))


async def outcome_despite_cancelling(future: Future[T]) -> T:
    """Waits for a future to its end even while the task is being cancelled; the cancelling goes on afterwards."""
    trio = _trio()
    if trio is not None:
        with trio.CancelScope(shield=True):
            result: T = await trio.to_thread.run_sync(future.result)
        return result
    import asyncio

    waiting = asyncio.wrap_future(future)
    cancelled: asyncio.CancelledError | None = None
    while not waiting.done():
        try:
            await asyncio.wait([waiting])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        waiting.exception()  # looked at, so that asyncio does not complain about it
        raise cancelled
    return waiting.result()


def actor() -> str:
    """Names what runs here: the task of asyncio or trio, or the thread."""
    trio = _trio()
    if trio is not None:
        return f"task {id(trio.lowlevel.current_task())}"
    asyncio = sys.modules.get("asyncio")
    try:
        task = asyncio.current_task() if asyncio else None
    except RuntimeError:  # no loop runs on this thread
        task = None
    return f"thread {threading.get_ident()}" if task is None else f"task {id(task)}"


def _trio() -> Any:
    """The trio module if this task runs under trio. It is never imported here: who runs under it has done so."""
    trio = sys.modules.get("trio")
    if trio is None:
        return None
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return None
    return trio
