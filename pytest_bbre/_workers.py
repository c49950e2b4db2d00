"""Knows how to run calls on daemon threads that exist before they are needed, so that they still run in atexit.
Must not know what the calls do.

Why not ThreadPoolExecutor: it takes no work in atexit callbacks ("cannot schedule new futures after interpreter
shutdown"), and Python 3.12.0 and 3.12.1 start no thread there. Daemon threads that were started earlier run on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from queue import SimpleQueue
from typing import Any, Final, TypeVar

__tracebackhide__ = True  # a failing test shows its own lines; pytest --full-trace shows ours

T = TypeVar("T")
_MOST: Final = 32  # threads: three times an account's ten sessions, so that no account's exit has to queue


class Workers:
    """Daemon threads that wait for calls. `reserve` adds threads; they stay until `dismiss` or the process's end.

    Args:
        most: how many threads there may be.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0

    def reserve(self, count: int) -> None:
        """Sees to it that `count` calls can run at once, as far as threads can still be started."""
        with self._lock:
            while self._threads < min(count, self._most):
                try:
                    threading.Thread(target=self._work, name="bbre-worker", daemon=True).start()
                except RuntimeError:  # the interpreter is ending: those that run must do
                    return
                self._threads += 1

    def submit(self, call: Callable[[], T], future: Future[T] | None = None) -> Future[T]:
        """Runs a call as soon as a thread is free; on this thread, where none could ever be started."""
        self.reserve(1)
        future = Future() if future is None else future
        future.set_running_or_notify_cancel()  # so that nobody's cancel() can lose the call
        if self._threads:
            self._calls.put(lambda: settle(future, call))
        else:
            settle(future, call)
        return future

    def dismiss(self) -> None:
        """Lets every thread end after the calls that were submitted before."""
        with self._lock:
            for _ in range(self._threads):
                self._calls.put(None)
            self._threads = 0

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            del call  # or the last call's objects would live until the next one


def settle(future: Future[T], call: Callable[[], T]) -> None:
    """Runs a call and puts what became of it into a future."""
    try:
        result = call()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


def run_all(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Runs calls at the same time; their results in order. Every call ends, whatever interrupts the waiting.

    Raises:
        BaseException: the first failure among the calls, or what interrupted the waiting, after all have ended.
    """
    workers = Workers()
    try:
        workers.reserve(len(calls))
        futures = [workers.submit(call) for call in calls]
        wait_for(futures)
    finally:
        workers.dismiss()
    return [future.result() for future in futures]


def wait_for(futures: Sequence[Future[Any]], deadline: float | None = None) -> None:
    """Waits until all have ended, or until `deadline` (a time.monotonic()).

    An interruption (Ctrl-C, or whatever a signal handler raises) does not end the waiting: it is raised when that is
    over. A second one is raised at once: the person means it.
    """
    interruption: BaseException | None = None
    while True:
        try:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            wait(futures, left)
            break
        except BaseException as error:
            if interruption is not None:
                raise
            interruption = error
    if interruption is not None:
        raise interruption
