"""Ends of programs that run an event loop: asyncio and trio."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from _process import Process, Starter
    from conftest import Service

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals between processes")

TERM, INT = signal.SIGTERM, signal.SIGINT


def sent(process: Process, signum: int) -> Process:
    """The process, after a signal that it got when it was ready."""
    process.wait_for()
    process.send(signum)
    return process


ASYNCIO = """
    import asyncio

    async def main():
        async with managed_session(), managed_session():
            say("ready")
            await asyncio.sleep(60)

    asyncio.run(main())
    """
TRIO = """
    import trio

    async def main():
        async with managed_session(), managed_session():
            say("ready")
            await trio.sleep(60)

    trio.run(main)
    """


@pytest.mark.parametrize("signum", [TERM, INT])
@pytest.mark.parametrize("source", [ASYNCIO, TRIO], ids=["asyncio", "trio"])
def test_loop_without_a_handler(start: Starter, service: Service, source: str, signum: int) -> None:
    """A program in an event loop ends of SIGTERM as others do; on Ctrl-C its blocks are left by cancelling."""
    ended = sent(start(source), signum).end()
    service.check(opened=2)
    assert ended.status == -signum
    assert ("KeyboardInterrupt" in ended.err) == (signum == INT)


OWN_HANDLER = """
    import asyncio

    async def main():
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        {before}
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        {after}
        say("ready")
        await stop.wait()
        say("stopping")
        await asyncio.sleep(0)
        say("stopped")

    asyncio.run(main())
    """


@pytest.mark.parametrize("when", ["before", "after"])
def test_handler_of_the_loop_decides(start: Starter, service: Service, when: str) -> None:
    """A loop that has its own handler is told by it as ever, goes on to its own good end, and nothing stays open."""
    lines = {"before": "", "after": "", when: "session = await asyncio.to_thread(open_session); open_session()"}
    ended = sent(start(OWN_HANDLER.format(**lines)), TERM).end()
    service.check(opened=2)
    assert (ended.status, ended.said, ended.err) == (0, ["ready", "stopping", "stopped"], "")


def test_loop_with_a_handler_can_open_sessions_after_the_signal(start: Starter, service: Service) -> None:
    """A loop whose handler means no end can go on: sessions opened after the signal work and are closed."""
    source = """
        import asyncio
        from pytest_bbre.errors import ShuttingDownError

        async def main():
            came = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, came.set)
            first = open_session()
            say("ready")
            await came.wait()
            while first.is_active:  # the handler and the closing run at the same time
                await asyncio.sleep(0.01)
            status = None
            while status is None:
                try:
                    async with managed_session() as session:
                        status = (await session.astatus()).status
                except ShuttingDownError:  # the closing is not quite over
                    await asyncio.sleep(0.01)
            say(status)

        asyncio.run(main())
        """
    ended = sent(start(source), TERM).end()
    service.check(opened=2)
    assert (ended.status, ended.said, ended.err) == (0, ["ready", "active"], "")


def test_program_after_its_loop(start: Starter, service: Service) -> None:
    """A loop that ended took its handler away; the next session is answered for again."""
    source = """
        import asyncio

        async def main():
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)

        open_session()
        asyncio.run(main())
        open_session()
        rest()
        """
    ended = sent(start(source), TERM).end()
    service.check(opened=2)
    assert (ended.status, ended.err) == (-TERM, "")


def test_loop_stays_whole(start: Starter, service: Service) -> None:
    """Sessions leave a loop's own means alone: signal handlers, the wake-up descriptor, child processes, debug mode."""
    source = """
        import asyncio

        async def main():
            loop, came = asyncio.get_running_loop(), asyncio.Event()
            loop.add_signal_handler(signal.SIGUSR1, came.set)
            descriptor = signal.set_wakeup_fd(-1)
            signal.set_wakeup_fd(descriptor)
            async with managed_session() as session:
                assert signal.set_wakeup_fd(descriptor) == descriptor
                child = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(3)")
                assert await child.wait() == 3
                os.kill(os.getpid(), signal.SIGUSR1)
                await asyncio.wait_for(came.wait(), 20)
            say(session.state.value)

        asyncio.run(main(), debug=True)
        """
    ended = start(source).end()
    service.check(opened=1)
    assert (ended.status, ended.said) == (0, ["closed"])
    assert "Error" not in ended.err
    assert "never retrieved" not in ended.err


@pytest.mark.parametrize("module", ["asyncio", "trio"])
def test_loop_signalled_while_it_opens(start: Starter, service: Service, module: str) -> None:
    """Ctrl-C while an async block is being entered: the session that the service then makes is closed."""
    service.faults.delay("create", 0.4)
    process = start(
        f"""
        import {module}

        async def main():
            async with managed_session():
                pass

        {module}.run(main{"()" if module == "asyncio" else ""})
        """
    )
    service.wait_for("create")
    process.send(INT)
    ended = process.end()
    service.check(opened=1)
    assert ended.status == -INT


def test_task_left_behind_by_its_loop(start: Starter, service: Service) -> None:
    """An async block that a loop is stopped in, and never goes on with, is closed at exit."""
    source = """
        import asyncio

        async def work():
            async with managed_session():
                loop.stop()
                await asyncio.sleep(60)

        loop = asyncio.new_event_loop()
        task = loop.create_task(work())
        loop.run_forever()
        say("stopped")
        """
    ended = start(source).end()
    service.check(opened=1)
    assert (ended.status, ended.said) == (0, ["stopped"])


def test_trios_own_receiver_of_signals(start: Starter, service: Service) -> None:
    """trio.open_signal_receiver gets the signal in our place, and gives the place back afterwards."""
    source = """
        import trio

        async def main():
            with trio.open_signal_receiver(signal.SIGTERM) as signals:
                os.kill(os.getpid(), signal.SIGTERM)
                async for signum in signals:
                    say("received", session.is_active)
                    break

        session = open_session()
        trio.run(main)
        rest()
        """
    ended = sent(start(source), TERM).end()
    service.check(opened=1)
    assert (ended.status, ended.said, ended.err) == (-TERM, ["received True", "ready"], "")
