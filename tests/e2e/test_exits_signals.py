"""Signals that end a program whose sessions were opened on its main thread."""

from __future__ import annotations

import shutil
import signal
import sys
from typing import TYPE_CHECKING

import pytest
from _process import LIMIT

if TYPE_CHECKING:
    from _process import Starter
    from conftest import Service

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals between processes")

FOR_EVER = 10 * LIMIT  # seconds: a test that waits for it fails
TERM, HUP, INT = signal.SIGTERM, getattr(signal, "SIGHUP", 0), signal.SIGINT


@pytest.mark.parametrize("signum", [TERM, HUP])
@pytest.mark.parametrize(
    "source",
    ["open_session(); open_session(); rest()", "with managed_session(), managed_session(): rest()"],
    ids=["handles", "blocks"],
)
def test_signal_that_ends_a_process_closes_first(start: Starter, service: Service, source: str, signum: int) -> None:
    """SIGTERM and SIGHUP close all sessions, and the parent sees that the process died of the signal."""
    process = start(source)
    process.wait_for()
    process.send(signum)
    ended = process.end()
    service.check(opened=2)
    assert (ended.status, ended.err) == (-signum, "")


def test_ctrl_c_is_pythons_own(start: Starter, service: Service) -> None:
    """Ctrl-C is a KeyboardInterrupt with its traceback and its exit status, and nothing stays open."""
    process = start("open_session()\nwith managed_session(): rest()")
    process.wait_for()
    process.send(INT)
    ended = process.end()
    service.check(opened=2)
    assert ended.status == -INT
    assert ended.err.rstrip().endswith("KeyboardInterrupt")


def test_ctrl_c_where_it_is_deadly_closes_too(start: Starter, service: Service) -> None:
    """A program that gave SIGINT its default action back dies of it, with its sessions closed."""
    process = start("signal.signal(signal.SIGINT, signal.SIG_DFL); open_session(); rest()")
    process.wait_for()
    process.send(INT)
    ended = process.end()
    service.check(opened=1)
    assert (ended.status, ended.err) == (-INT, "")


def test_ctrl_c_handled_by_the_program_closes_nothing(start: Starter, service: Service) -> None:
    """A program, or a notebook, for which Ctrl-C is an interruption goes on with the sessions that it has."""
    process = start(
        """
        session = open_session()
        try:
            rest()
        except KeyboardInterrupt:
            say(session.status().status)
        """
    )
    process.wait_for()
    process.send(INT)
    ended = process.end()
    service.check(opened=1)
    assert (ended.status, ended.said) == (0, ["ready", "active"])


@pytest.mark.parametrize("signum", [TERM, INT])
@pytest.mark.parametrize("source", ["open_session()", "with managed_session(): pass"], ids=["handle", "block"])
def test_signal_during_create(start: Starter, service: Service, source: str, signum: int) -> None:
    """A session whose creation is under way when the signal comes is closed as soon as it is there."""
    service.faults.delay("create", 0.4)
    process = start(source)
    service.wait_for("create")
    process.send(signum)
    ended = process.end()
    service.check(opened=1)
    assert ended.status == -signum


@pytest.mark.parametrize("signum", [TERM, INT])
def test_signal_during_close(start: Starter, service: Service, signum: int) -> None:
    """A close under way when the signal comes is finished, and not sent twice."""
    service.faults.delay("close", 0.4)
    process = start("with managed_session(): pass\nrest()")
    service.wait_for("close")
    process.send(signum)
    ended = process.end()
    service.check(opened=1)
    assert ended.status == -signum
    assert service.calls("close") == 1


def test_signal_while_the_program_ends_by_itself(start: Starter, service: Service) -> None:
    """A SIGTERM during the closing at exit lets it be finished; the process then dies of the signal."""
    service.faults.delay("close", 0.4)
    process = start("open_session()")
    service.wait_for("close")
    process.send(TERM)
    ended = process.end()
    service.check(opened=1)
    assert (ended.status, ended.err) == (-TERM, "")


@pytest.mark.usefixtures("unmeasured")
def test_second_signal_ends_at_once(start: Starter, service: Service) -> None:
    """While closes hang, a second SIGTERM ends the process without waiting for them."""
    service.faults.hang("close", FOR_EVER, times=None)
    process = start(
        """
        open_session()
        say("ready")
        while signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            time.sleep(0.01)
        rest("back")
        """,
        BBRE_EXIT_TIMEOUT=str(FOR_EVER),
    )
    process.wait_for()
    process.send(TERM)
    service.wait_for("close")
    process.wait_for("back")
    process.send(TERM)
    assert process.end().status == -TERM
    (left,) = service.active()
    service.faults.clear()
    assert start.tool("bbre", "close", left).end().status == 0
    service.check(opened=1)


@pytest.mark.parametrize("where", ["open_session()", "t = threading.Thread(target=open_session); t.start(); t.join()"])
def test_signal_sent_twice_is_one(start: Starter, service: Service, where: str) -> None:
    """`timeout`, and others who signal a process and then its group, mean one signal: the closing is not cut short."""
    service.faults.delay("close", 0.4)
    process = start(f"{where}\nrest()")
    process.wait_for()
    for _ in range(3):
        process.send(TERM)
    ended = process.end()
    service.check(opened=1)
    assert (ended.status, ended.err) == (-TERM, "")


@pytest.mark.parametrize(("first", "second"), [(TERM, HUP), (TERM, INT), (HUP, TERM), (INT, TERM)])
def test_two_signals_leave_nothing(start: Starter, service: Service, first: int, second: int) -> None:
    """Another signal while all is being closed ends the process by one of the two."""
    service.faults.delay("close", 0.4)
    process = start("open_session(); rest()")
    process.wait_for()
    process.send(first)
    service.wait_for("close")
    process.send(second)
    ended = process.end()
    service.check(opened=1)
    assert ended.status in (-first, -second)


def test_bare_except_can_not_swallow_the_signal(start: Starter, service: Service) -> None:
    """User code that catches everything, for ever, is ended by SIGTERM like any other."""
    process = start(
        """
        session = open_session()
        say("ready")
        while True:
            try:
                time.sleep(0.01)
            except:
                pass
        """
    )
    process.wait_for()
    process.send(TERM)
    ended = process.end()
    service.check(opened=1)
    assert (ended.status, ended.err) == (-TERM, "")


SLOW_C = {
    # Holds the interpreter: nothing else runs meanwhile.
    "a sum": "sum(range(30_000_000))",
    "a number's digits": "getattr(sys, 'set_int_max_str_digits', print)(0); str(3**400_000)",
    # Looks for signals by itself.
    "a regular expression": "import re; re.match('(a|aa)+$', 'a' * 30 + 'b')",
    # Lets other threads run.
    "a hash": "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 2_000_000)",
}


@pytest.mark.parametrize("work", SLOW_C.values(), ids=SLOW_C)
def test_signal_while_the_main_thread_is_in_c_code(start: Starter, service: Service, work: str) -> None:
    """A signal that comes during a long call into C is answered when that call returns at the latest."""
    process = start(f"open_session(); say('ready'); {work}\nrest('back')")
    process.wait_for()
    process.send(TERM)
    ended = process.end()
    service.check(opened=1)
    assert (ended.status, ended.err) == (-TERM, "")


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("signum", [TERM, HUP])
def test_inherited_ignore_stays(start: Starter, service: Service, signum: int) -> None:
    """A program started with a signal ignored, as by nohup, goes on with its sessions."""
    path = start.script(
        """
        session = open_session()
        os.kill(os.getpid(), int(sys.argv[1]))
        say(session.status().status)
        """
    )
    name = signal.Signals(signum).name[3:]
    shell = f'trap "" {name}; exec "$0" "$@"'
    ended = start.command("/bin/sh", "-c", shell, sys.executable, str(path), str(int(signum))).end()
    service.check(opened=1)
    assert (ended.status, ended.said, ended.err) == (0, ["active"], "")


def test_background_job_of_a_shell_ignores_ctrl_c(start: Starter, service: Service) -> None:
    """A shell starts its background jobs with SIGINT ignored; a session does not change that."""
    path = start.script("session = open_session(); os.kill(os.getpid(), signal.SIGINT); say(session.status().status)")
    ended = start.command("/bin/sh", "-c", '"$0" "$@" & wait $!', sys.executable, str(path)).end()
    service.check(opened=1)
    assert (ended.status, ended.said, ended.err) == (0, ["active"], "")


def test_child_processes_inherit_no_handling(start: Starter, service: Service) -> None:
    """A child that the program starts gets its signals as ever: neither blocked nor ignored."""
    ended = start(
        """
        import subprocess
        open_session()
        child = subprocess.Popen([sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"], stdout=-1)
        child.stdout.readline()
        child.terminate()
        say(child.wait(20))
        """
    ).end()
    service.check(opened=1)
    assert (ended.said, ended.err) == ([str(-TERM)], "")


@pytest.mark.skipif(shutil.which("timeout") is None, reason="there is no command `timeout` here")
def test_timeout_of_a_parent_is_seen_as_such(start: Starter, service: Service) -> None:
    """`timeout 1 python ...`, as in a CI's step, ends the program in good order."""
    path = start.script("open_session(); os.kill(os.getppid(), signal.SIGALRM); rest()")  # SIGALRM: its time is over
    ended = start.command("timeout", "60", sys.executable, str(path)).end()
    service.check(opened=1)
    assert (ended.status, ended.err) == (124, "")
