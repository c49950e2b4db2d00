"""Programs that answer signals themselves: before us, after us, and so that they live on."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from _process import Process, Starter
    from conftest import Service

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals between processes")

TERM = signal.SIGTERM


def terminated(process: Process) -> Process:
    """The process, after a SIGTERM that it got when it was ready."""
    process.wait_for()
    process.send(TERM)
    return process


def test_earlier_handler_still_runs(start: Starter, service: Service) -> None:
    """A handler that was there before ours runs once, after the closing, and decides how the program ends."""
    source = """
        def handler(signum, frame):
            say("handler", signum, session.state.value)
            sys.exit(5)

        signal.signal(signal.SIGTERM, handler)
        session = open_session()
        rest()
        """
    ended = terminated(start(source)).end()
    service.check(opened=1)
    assert (ended.status, ended.said, ended.err) == (5, ["ready", f"handler {TERM.value} closed"], "")


def test_earlier_handler_may_leave_without_goodbye(start: Starter, service: Service) -> None:
    """Even a handler that calls os._exit leaves no session."""
    source = "signal.signal(signal.SIGTERM, lambda *_: os._exit(6)); open_session(); rest()"
    ended = terminated(start(source)).end()
    service.check(opened=1)
    assert ended.status == 6


LIVE_ON = """
    came = threading.Semaphore(0)
    signal.signal(signal.SIGTERM, lambda *_: came.release())
    for word in ("ready", "again", "last"):
        session = open_session()
        say(word)
        assert came.acquire(timeout=20)
        say(session.state.value)
    """


def test_process_that_lives_on_can_open_sessions_again(start: Starter, service: Service) -> None:
    """Where an earlier handler lets the program go on, it can open sessions, and the next signal closes those."""
    process = start(LIVE_ON)
    for word in ("ready", "again", "last"):
        process.wait_for(word)
        process.send(TERM)
    ended = process.end()
    service.check(opened=3)
    assert (ended.status, ended.err) == (0, "")
    assert ended.said == ["ready", "closed", "again", "closed", "last", "closed"]


def test_session_opened_by_the_handler_is_closed_by_the_next_signal(start: Starter, service: Service) -> None:
    """A handler may itself open the next session: it is not refused, and a further signal closes that one, too."""
    source = """
        def handler(signum, frame):
            if len(opened) == 3:
                sys.exit(5)
            opened.append(open_session())
            say(f"again{len(opened)}")

        signal.signal(signal.SIGTERM, handler)
        opened = [open_session()]
        say("ready")
        while True:
            time.sleep(0.01)
        """
    process = start(source)
    for word in ("ready", "again2", "again3"):
        process.wait_for(word)
        assert len(service.active()) == 1
        process.send(TERM)
    ended = process.end()
    service.check(opened=3)
    assert (ended.status, ended.err) == (5, "")


def test_handler_of_the_program_set_later_gets_the_signal(start: Starter, service: Service) -> None:
    """A handler set after the first session takes our place; what it ends by sys.exit is closed at exit."""
    source = "open_session(); signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); rest()"
    ended = terminated(start(source)).end()
    service.check(opened=1)
    assert (ended.status, ended.err) == (7, "")


def test_next_session_answers_again_where_a_handler_was_set_in_between(start: Starter, service: Service) -> None:
    """With each session we see that our handler is still there; one that was set in between becomes the earlier one."""
    source = """
        open_session()
        signal.signal(signal.SIGTERM, lambda *_: (say("handler"), os._exit(8)))
        open_session()
        rest()
        """
    ended = terminated(start(source)).end()
    service.check(opened=2)
    assert (ended.status, ended.said) == (8, ["ready", "handler"])


def test_handler_that_calls_the_one_before_it(start: Starter, service: Service) -> None:
    """A handler set after ours that passes the signal on, as is good manners, ends the process by the signal."""
    source = """
        open_session()
        ours = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, lambda *given: (say("handler"), ours(*given)))
        open_session()
        rest()
        """
    ended = terminated(start(source)).end()
    service.check(opened=2)
    assert (ended.status, ended.said[:2], ended.err) == (-TERM, ["ready", "handler"], "")


def test_default_action_put_back_by_somebody_is_replaced_again(start: Starter, service: Service) -> None:
    """After a library put the default action back, the next session is answered for like the first."""
    source = """
        open_session()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        open_session()
        rest()
        """
    ended = terminated(start(source)).end()
    service.check(opened=2)
    assert (ended.status, ended.err) == (-TERM, "")


def test_signal_ignored_later_stays_ignored(start: Starter, service: Service) -> None:
    """A program that decides to ignore a signal is not overruled by its next session."""
    source = """
        open_session()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        session = open_session()
        os.kill(os.getpid(), signal.SIGTERM)
        say(session.status().status)
        """
    ended = start(source).end()
    service.check(opened=2)
    assert (ended.status, ended.said, ended.err) == (0, ["active"], "")


def test_many_sessions_lay_one_handler(start: Starter, service: Service) -> None:
    """The handler, the exit hook and the watching threads are registered once, however many sessions there are."""
    source = """
        open_session().close()
        handler, hooks = signal.getsignal(signal.SIGTERM), atexit._ncallbacks()
        names = sorted(thread.name for thread in threading.enumerate() if "signal" in thread.name)
        for _ in range(20):
            open_session().close()
        assert signal.getsignal(signal.SIGTERM) == handler
        assert atexit._ncallbacks() == hooks
        assert sorted(thread.name for thread in threading.enumerate() if "signal" in thread.name) == names
        """
    ended = start(source).end()
    service.check(opened=21)
    assert (ended.status, ended.err) == (0, "")
