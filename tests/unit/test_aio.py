"""_aio.py, and what is async elsewhere: asyncio, trio and anyio wait for threads without holding up their loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

import anyio
import pytest
import trio
from _scripted import CUT, LIMIT, Arrived, Scripted, fails, held, result

from pytest_bbre import BBREClient, errors, managed_session
from pytest_bbre._aio import outcome, outcome_despite_cancelling, to_thread
from pytest_bbre._tracker import tracker

TARGET = "http://target.example/"
Main = Callable[[], Awaitable[Any]]
LOOPS: dict[str, Callable[[Main], Any]] = {
    "asyncio": lambda main: asyncio.run(main()),  # type: ignore[arg-type]
    "trio": lambda main: trio.run(main),  # type: ignore[arg-type]
    "anyio on asyncio": lambda main: anyio.run(main, backend="asyncio"),
    "anyio on trio": lambda main: anyio.run(main, backend="trio"),
}


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Main], Any]:
    """Runs a coroutine function, within a time limit. anyio's own helpers work under each of the loops."""

    def runner(main: Main) -> Any:
        async def limited() -> Any:
            with anyio.fail_after(LIMIT):
                return await main()

        return LOOPS[request.param](limited)

    return runner


async def until(condition: Callable[[], Any]) -> None:
    """Lets others work until it holds; only a loop that is free gets here more than once."""
    while not condition():
        await anyio.sleep(0.002)


async def turns() -> None:
    """Lets the loop do all that is ready, and what comes of it."""
    for _ in range(10):
        await anyio.sleep(0)


class Awaited(Future[Any]):
    """A future that tells when somebody begins to wait for it, as asyncio does by a callback and trio on a thread."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_for = threading.Event()

    def result(self, timeout: float | None = None) -> Any:
        self.waited_for.set()
        return super().result(timeout)

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        super().add_done_callback(fn)
        self.waited_for.set()

    def settle_when_waited_for(self, settle: Callable[[], None]) -> None:
        """Settles it from a thread, during the wait."""
        threading.Thread(target=lambda: self.waited_for.wait(LIMIT) and settle(), daemon=True).start()


@pytest.mark.parametrize("wait", [outcome, outcome_despite_cancelling])
def test_the_outcome_of_a_future(run: Callable[[Main], Any], wait: Callable[[Future[Any]], Awaitable[Any]]):
    """Its result is returned, its failure raised, whether it is settled before or during the wait."""

    async def main() -> None:
        done: Future[int] = Future()
        done.set_result(1)
        assert await wait(done) == 1
        failed: Future[int] = Future()
        failed.set_exception(ZeroDivisionError("x"))
        with pytest.raises(ZeroDivisionError):
            await wait(failed)
        late = Awaited()
        late.settle_when_waited_for(lambda: late.set_result(2))
        assert await wait(late) == 2

    run(main)


def test_to_thread(run: Callable[[Main], Any]):
    """Result and failure come back; context variables go along."""
    variable = contextvars.ContextVar("variable", default="unset")

    async def main() -> None:
        variable.set("here")
        assert await to_thread(lambda: (variable.get(), threading.current_thread() is threading.main_thread())) == (
            "here",
            False,
        )
        with pytest.raises(ZeroDivisionError):
            await to_thread(lambda: 1 // 0)

    run(main)


def test_many_calls_wait_at_the_same_time(run: Callable[[Main], Any]):
    """Thirty requests are under way at once; none waits for a pool's free thread."""
    barrier = threading.Barrier(30)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(30):
                group.start_soon(to_thread, lambda: barrier.wait(LIMIT))

    run(main)


def test_cancelling_stops_waiting_for_a_thread_at_once(run: Callable[[Main], Any]):
    """The call itself goes on to its end."""
    release, ended = threading.Event(), threading.Event()

    def call() -> None:
        release.wait(LIMIT)
        ended.set()

    async def main() -> None:
        for wait in (lambda: to_thread(call), lambda: outcome(Future())):
            with anyio.move_on_after(0.02) as scope:
                await wait()
            assert scope.cancelled_caught
            assert not ended.is_set()
        release.set()

    run(main)
    assert ended.wait(LIMIT)


def test_cancelling_does_not_stop_waiting_for_a_close(run: Callable[[Main], Any]):
    """The future is waited for to its end, and the cancelling goes on afterwards."""
    closing = Awaited()
    after: list[bool] = []

    async def main() -> None:
        async with anyio.create_task_group() as group:

            async def close() -> None:
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    try:
                        await outcome_despite_cancelling(closing)
                        await anyio.sleep(0)  # trio tells of the cancelling at the next stop
                    finally:
                        after.append(closing.done())
                assert scope.cancelled_caught

            group.start_soon(close)
            await until(closing.waited_for.is_set)
            await turns()  # the cancelling has reached the task by now
            assert after == []
            closing.set_result(1)

    run(main)
    assert after == [True]


def test_a_cancelled_wait_for_a_failing_close_is_still_a_cancelled_one(run: Callable[[Main], Any]):
    """The failure is not lost in a complaint of the loop's; the task is cancelled as was asked for."""
    closing = Awaited()
    closing.set_running_or_notify_cancel()

    async def main() -> None:
        with anyio.CancelScope() as scope:
            closing.settle_when_waited_for(lambda: closing.set_exception(ValueError("failed")))
            scope.cancel()
            try:
                await outcome_despite_cancelling(closing)
            except ValueError:  # trio gives the failure, and cancels at the next stop
                await anyio.sleep(0)
        assert scope.cancelled_caught

    run(main)


# Sessions.


def test_a_request_does_not_block_the_loop(run: Callable[[Main], Any], client: BBREClient, service: Scripted):
    """Another task goes on while a request waits: the service answers only when that task says so."""
    release = threading.Event()

    def late(arrived: Arrived) -> bytes:
        assert release.wait(LIMIT)
        return result(body="late")

    service.answer("request", late)

    async def main() -> None:
        async with managed_session(client=client) as session, anyio.create_task_group() as group:

            async def other() -> None:
                await until(lambda: service.calls("request"))
                release.set()

            group.start_soon(other)
            assert (await session.aget(TARGET)).text == "late"

    run(main)


@pytest.mark.parametrize("endpoint", ["create", "close"])
def test_opening_and_closing_do_not_block_the_loop(
    run: Callable[[Main], Any], client: BBREClient, service: Scripted, endpoint: str
):
    """Another task goes on while the service takes its time to open and to close."""
    release = threading.Event()

    def late(arrived: Arrived) -> Any:
        assert release.wait(LIMIT)
        return fails("SESSION_NOT_FOUND") if endpoint == "close" else CUT

    service.answer(endpoint, late)

    async def work() -> None:
        with contextlib.nullcontext() if endpoint == "close" else pytest.raises(errors.LostAnswerError):
            async with managed_session(client=client):
                pass

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(work)
            await until(lambda: service.calls(endpoint))
            release.set()

    run(main)
    assert tracker.is_idle()


def test_many_sessions_are_open_at_the_same_time(run: Callable[[Main], Any], engine: Any, default_settings: Any):
    """Ten tasks have a session each; the engine sees all ten, and none afterwards."""

    async def main() -> None:
        ready: list[str] = []

        async def work() -> None:
            async with managed_session() as session:
                ready.append(session.id)
                await until(lambda: len(ready) >= 10)
                if session.id == ready[0]:
                    assert len(await to_thread(engine.sessions)) == 10
                    ready.append("seen")
                await until(lambda: len(ready) == 11)

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(work)

    run(main)
    assert engine.sessions() == []


@pytest.mark.parametrize("stage", ["create", "block", "request", "close"])
def test_cancelling_closes_the_session(run: Callable[[Main], Any], engine: Any, default_settings: Any, stage: str):
    """While it is being created, in the block, in a request, and while it is being closed: 0 active at the engine."""
    reached = threading.Event()
    if stage != "block":
        engine.faults.delay(stage, 0.1)

    async def work() -> None:
        async with managed_session() as session:
            if stage == "request":
                await session.aget(TARGET)
            reached.set()
            if stage == "block":
                await anyio.sleep_forever()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(work)
            if stage == "block":
                await until(reached.is_set)
            else:
                await anyio.to_thread.run_sync(engine.wait_for, stage)
            group.cancel_scope.cancel()

    run(main)
    engine.wait_for("close")
    if stage == "create":  # nobody waits for this one: it is closed as soon as its creation is answered
        waited = threading.Event()
        for _ in range(500):
            if not engine.sessions() and tracker.is_idle():
                break
            waited.wait(0.01)
    assert engine.sessions() == []
    assert tracker.is_idle()


@pytest.mark.parametrize("stage", ["create", "block", "close"])
def test_cancelling_an_asyncio_task(engine: Any, default_settings: Any, stage: str):
    """Task.cancel, more than once and at any moment, ends as cancelled, and leaves nothing open."""
    engine.faults.delay("create" if stage == "create" else "close", 0.1)

    async def work(reached: asyncio.Event) -> None:
        async with managed_session():
            reached.set()
            if stage == "block":
                await asyncio.sleep(LIMIT)

    async def main() -> None:
        reached = asyncio.Event()
        task = asyncio.create_task(work(reached))
        if stage == "block":
            await asyncio.wait_for(reached.wait(), LIMIT)
        else:
            await asyncio.to_thread(engine.wait_for, stage)
        task.cancel()
        if stage == "block":
            await asyncio.to_thread(engine.wait_for, "close")  # where the second one meets it
        await turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(task), LIMIT)

    asyncio.run(main())
    engine.wait_for("close")
    tracker.close_all(LIMIT)
    assert engine.sessions() == []


def test_a_loop_that_ends_with_a_request_under_way_is_not_held_up(client: BBREClient, service: Scripted):
    """asyncio.run returns although a request of an abandoned task still waits for its answer."""
    release = threading.Event()
    service.answer("request", held(release))

    async def main() -> None:
        async with managed_session(client=client) as session:
            task = asyncio.create_task(session.aget(TARGET))
            await until(lambda: service.calls("request"))
            task.cancel()

    asyncio.run(main())
    assert not release.is_set()
    release.set()
