"""Ends of programs whose sessions belong to other threads than the main one."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest
from _process import LIMIT

if TYPE_CHECKING:
    from _process import Starter
    from conftest import Service

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals between processes")
TERM, HUP, INT = signal.SIGTERM, getattr(signal, "SIGHUP", 0), signal.SIGINT

JOINED = """
def work():
    open_session()
    rest()

thread = threading.Thread(target=work, daemon=DAEMON)
thread.start()
thread.join()
"""
JOINED_DAEMON = JOINED.replace("DAEMON", "True")


@posix
@pytest.mark.parametrize("signum", [TERM, HUP])
@pytest.mark.parametrize("daemon", [True, False], ids=["daemon", "no daemon"])
def test_first_session_on_a_thread(start: Starter, service: Service, signum: int, daemon: bool) -> None:
    """A program whose first session was opened off the main thread is answered for, too, while that one waits."""
    process = start(JOINED.replace("DAEMON", str(daemon)))
    process.wait_for()
    process.send(signum)
    ended = process.end()
    service.check(opened=1)
    assert (ended.status, ended.err) == (-signum, "")


@posix
@pytest.mark.usefixtures("unmeasured")
def test_first_session_on_a_thread_with_the_main_thread_in_c_code(start: Starter, service: Service) -> None:
    """There the main thread is not needed at all: it may be in a long call into C that lets others run."""
    process = start(
        """
        import hashlib

        thread = threading.Thread(target=open_session)
        thread.start()
        thread.join()
        say("ready")
        hashlib.pbkdf2_hmac("sha256", b"", b"", 100_000_000)  # half a minute, at least
        say("back")
        """
    )
    process.wait_for()
    process.send(TERM)
    ended = process.end()
    service.check(opened=1)
    assert (ended.status, ended.said, ended.err) == (-TERM, ["ready"], "")


@posix
@pytest.mark.parametrize("action", ["sys.exit(5)", "os._exit(5)"])
def test_earlier_handler_with_the_first_session_on_a_thread(start: Starter, service: Service, action: str) -> None:
    """A handler that the main thread set before runs there, after the sessions were closed."""
    process = start(f"signal.signal(signal.SIGTERM, lambda *_: (say('handler'), {action}))\n" + JOINED_DAEMON)
    process.wait_for()
    process.send(TERM)
    ended = process.end()
    service.check(opened=1)
    assert (ended.status, ended.said, ended.err) == (5, ["ready", "handler"], "")


@posix
def test_process_that_lives_on_after_a_signal_answered_off_the_main_thread(start: Starter, service: Service) -> None:
    """Sessions can be opened again, on any thread, and a further signal closes those."""
    process = start(
        """
        came = threading.Semaphore(0)
        signal.signal(signal.SIGTERM, lambda *_: came.release())

        def work():
            session = open_session()
            say(session.id)
            say("open")

        for word in ("ready", "again", "last"):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            say(word)
            while not came.acquire(timeout=0.05):
                pass
        """
    )
    for word in ("ready", "again", "last"):
        process.wait_for(word)
        process.send(TERM)
    ended = process.end()
    service.check(opened=3)
    assert (ended.status, ended.err) == (0, "")


@posix
def test_second_signal_with_the_first_session_on_a_thread(start: Starter, service: Service) -> None:
    """While closes hang, a second SIGTERM ends the process at once here, too."""
    service.faults.hang("close", 10 * LIMIT, times=None)
    process = start(JOINED_DAEMON, BBRE_EXIT_TIMEOUT=str(10 * LIMIT))
    process.wait_for()
    process.send(TERM)
    service.wait_for("close")  # sent after the time in which a second one would be the same
    process.send(TERM)
    assert process.end().status == -TERM
    (left,) = service.active()
    service.faults.clear()
    assert start.tool("bbre", "close", left).end().status == 0
    service.check(opened=1)


POOL = """
    from concurrent.futures import ThreadPoolExecutor

    opened = threading.Semaphore(0)
    stop = threading.Event()

    def work(number):
        with managed_session():
            opened.release()
            stop.wait(20)

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(work, number) for number in range(8)]
        for _ in futures:
            opened.acquire()
        try:
            say("ready")
            time.sleep(60)
        finally:
            stop.set()
    """


@posix
@pytest.mark.parametrize("signum", [TERM, INT])
def test_pool_of_threads_each_with_a_session(start: Starter, service: Service, signum: int) -> None:
    """A thread pool full of managed sessions ends with nothing open on SIGTERM and on Ctrl-C."""
    process = start(POOL)
    process.wait_for()
    process.send(signum)
    ended = process.end()
    service.check(opened=8)
    assert ended.status == -signum


@posix
def test_threads_that_go_on_opening_sessions_during_the_end(start: Starter, service: Service) -> None:
    """Sessions that threads ask for while the process is ending are refused, or closed with the others."""
    process = start(
        """
        def work():
            while True:
                with managed_session():
                    opened.release()

        opened = threading.Semaphore(0)
        open_session()
        for _ in range(4):
            threading.Thread(target=work, daemon=True).start()
        for _ in range(20):
            opened.acquire()
        rest()
        """
    )
    process.wait_for()
    process.send(TERM)
    ended = process.end()
    assert service.active() == []
    assert ended.status == -TERM


def test_daemon_threads_that_go_on_opening_sessions_at_exit(start: Starter, service: Service) -> None:
    """The same at a program's own end, where the interpreter freezes such threads wherever they are."""
    ended = start(
        """
        def work():
            while True:
                with managed_session():
                    opened.release()

        opened = threading.Semaphore(0)
        for _ in range(4):
            threading.Thread(target=work, daemon=True).start()
        for _ in range(20):
            opened.acquire()
        """
    ).end()
    assert service.active() == []
    assert ended.status == 0


def test_first_session_on_a_thread_that_outlives_the_main_thread(start: Starter, service: Service) -> None:
    """A program whose main thread has ended already can open its first session, and it is closed at exit."""
    ended = start(
        """
        def work():
            threading.main_thread().join()
            say(open_session().status().status)

        threading.Thread(target=work).start()
        """
    ).end()
    service.check(opened=1)
    assert (ended.status, ended.said, ended.err) == (0, ["active"], "")


def test_session_closed_by_a_thread_while_the_process_ends(start: Starter, service: Service) -> None:
    """A close that a daemon thread has under way at exit is waited for, and not sent twice."""
    service.faults.delay("close", 0.4)
    process = start(
        """
        session = open_session()
        threading.Thread(target=session.close, daemon=True).start()
        while session._closing is None:
            time.sleep(0.001)
        """
    )
    ended = process.end()
    service.check(opened=1)
    assert (ended.status, service.calls("close")) == (0, 1)
