"""_workers.py: calls on daemon threads that exist before they are needed."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from concurrent.futures import Future

import pytest
from _scripted import LIMIT

from pytest_bbre._workers import Workers, run_all, settle, wait_for


def test_a_call_runs_on_a_daemon_thread():
    """Not on the caller's, and not on one that would hold up the process's end."""
    workers = Workers()
    thread = workers.submit(threading.current_thread).result(LIMIT)
    workers.dismiss()
    assert thread is not threading.current_thread()
    assert thread.daemon


def test_a_failure_is_the_future_s():
    """Whatever the call raises, interruptions too; the thread lives on."""
    workers = Workers()
    for kind in (ValueError, KeyboardInterrupt, SystemExit):

        def fail(kind: type[BaseException] = kind) -> None:
            raise kind

        assert isinstance(workers.submit(fail).exception(LIMIT), kind)
    assert workers.submit(lambda: 1).result(LIMIT) == 1
    workers.dismiss()


def test_as_many_calls_run_at_once_as_were_reserved():
    """No call waits for another one's end."""
    workers = Workers()
    workers.reserve(10)
    barrier = threading.Barrier(10)
    futures = [workers.submit(lambda: barrier.wait(LIMIT)) for _ in range(10)]
    assert sorted(future.result(LIMIT) for future in futures) == list(range(10))
    workers.dismiss()


def test_threads_are_not_without_limit():
    """Reserving a thousand starts 32; the rest queue."""
    workers = Workers()
    workers.reserve(1000)
    assert workers._threads == 32
    done = [workers.submit(lambda: True) for _ in range(100)]
    assert all(future.result(LIMIT) for future in done)
    workers.dismiss()


def test_a_call_can_not_be_cancelled():
    """What was handed over is done: a close must not be lost."""
    workers = Workers()
    release = threading.Event()
    future = workers.submit(lambda: release.wait(LIMIT))
    assert not future.cancel()
    release.set()
    assert future.result(LIMIT)
    workers.dismiss()


def test_without_any_thread_the_call_runs_at_once_here(monkeypatch: pytest.MonkeyPatch):
    """Where the interpreter starts no thread any more, the work is done all the same."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert Workers().submit(threading.current_thread).result(0) is threading.current_thread()


def test_threads_that_could_be_started_do_the_work_of_all(monkeypatch: pytest.MonkeyPatch):
    """One thread from before serves, though more were reserved."""
    workers = Workers()
    workers.reserve(1)
    monkeypatch.setattr(threading.Thread, "start", lambda thread: (_ for _ in ()).throw(RuntimeError()))
    workers.reserve(5)
    assert [workers.submit(lambda n=n: n).result(LIMIT) for n in range(5)] == list(range(5))
    workers.dismiss()


def test_dismissed_threads_end_after_their_work():
    """What was submitted before is done; then no thread is left."""
    workers = Workers()
    workers.reserve(3)
    threads = {workers.submit(threading.current_thread).result(LIMIT) for _ in range(3)}
    release = threading.Event()
    last = [workers.submit(lambda: release.wait(LIMIT)) for _ in range(6)]
    workers.dismiss()
    release.set()
    assert all(future.result(LIMIT) for future in last)
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()


def test_a_finished_call_is_not_kept():
    """A waiting thread keeps nothing of its last call alive."""

    class Thing:
        pass

    workers = Workers()
    thing = Thing()
    gone = weakref.ref(thing)
    workers.submit(lambda thing=thing: None).result(LIMIT)
    workers.submit(lambda: None).result(LIMIT)  # the first call's thread has gone back to waiting
    del thing
    gc.collect()
    assert gone() is None
    workers.dismiss()


def test_settle_puts_the_outcome_into_the_future():
    """Result or failure."""
    good: Future[int] = Future()
    bad: Future[int] = Future()
    settle(good, lambda: 1)
    settle(bad, lambda: 1 // 0)
    assert good.result(0) == 1
    assert isinstance(bad.exception(0), ZeroDivisionError)


def test_run_all_runs_at_the_same_time_and_keeps_the_order():
    """No call waits for another, and results stand where their calls stood."""
    barrier = threading.Barrier(8)

    def call(number: int) -> int:
        barrier.wait(LIMIT)
        return number

    assert run_all([lambda n=n: call(n) for n in range(8)]) == list(range(8))
    assert run_all([]) == []


def test_run_all_lets_every_call_end_before_it_fails():
    """One failure does not leave others half done."""
    ended = []
    failed = threading.Event()

    def late() -> None:
        assert failed.wait(LIMIT)
        ended.append(1)

    def fail() -> None:
        failed.set()
        raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        run_all([fail, late, late])
    assert ended == [1, 1]


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What interrupts the next waits, one each."""
    from pytest_bbre import _workers

    waiting: list[BaseException] = []
    wait = _workers.wait

    def interrupted(*arguments: object) -> object:
        if waiting:
            raise waiting.pop(0)
        return wait(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(_workers, "wait", interrupted)
    return waiting


def test_an_interruption_is_raised_after_everything_has_ended(interrupt: list[BaseException]):
    """The first Ctrl-C does not end the waiting."""
    future: Future[int] = Future()
    threading.Timer(0.05, future.set_result, [1]).start()
    interrupt.append(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        wait_for([future])
    assert future.done()


def test_a_second_interruption_ends_the_waiting(interrupt: list[BaseException]):
    """The person means it."""
    future: Future[int] = Future()
    interrupt += [KeyboardInterrupt("first"), KeyboardInterrupt("second")]
    with pytest.raises(KeyboardInterrupt, match="second"):
        wait_for([future])
    assert not future.done()


def test_waiting_ends_with_its_deadline():
    """What is not done by then is left."""
    future: Future[int] = Future()
    wait_for([future], time.monotonic() - 1)
    wait_for([future], time.monotonic() + 0.01)
    assert not future.done()
