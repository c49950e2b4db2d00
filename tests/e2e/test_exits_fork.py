"""Forks: the child holds a copy of everything, and must neither close its parent's sessions nor leak its own."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from _process import Starter
    from conftest import Service

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")

TERM = signal.SIGTERM

# In each the child does something, while the parent holds a session, and then the parent uses it.
PARENT = """
    session = open_session()
    child = os.fork()
    if child == 0:
        {child}
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    say("child", status)
    say(session.status().status)
    session.close()
    """

CHILDREN = {
    "sys.exit": ("sys.exit(0)", 0, 1),
    "sys.exit in the parent's block": ("with session: sys.exit(3)", 3, 1),
    "an error in the parent's block": ("with session: 1 / 0", 1, 1),
    "os._exit": ("os._exit(0)", 0, 1),
    "asking to close all": ("assert close_all_sessions() == []; sys.exit(0)", 0, 1),
    "a session of its own": ("open_session(); sys.exit(0)", 0, 2),
    "a block of its own": ("with managed_session(): sys.exit(0)", 0, 2),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", -TERM, 1),
    "SIGTERM with its own session": ("open_session(); os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", -TERM, 2),
    "a fork of its own": ("open_session(); os.fork() and os.wait(); sys.exit(0)", 0, 2),
    "another program": ("os.execv(sys.executable, [sys.executable, '-c', 'raise SystemExit(4)'])", 4, 1),
    "another program, from its own session": (
        "open_session(); os.execv(sys.executable, [sys.executable, '-c', 'raise SystemExit(4)'])",
        4,
        2,
    ),
}


@pytest.mark.parametrize(("child", "status", "opened"), CHILDREN.values(), ids=CHILDREN)
def test_forked_child_leaves_its_parents_session_alone(
    start: Starter, service: Service, child: str, status: int, opened: int
) -> None:
    """Whatever a forked child does and however it ends, its parent's session works on, and its own are closed."""
    ended = start(PARENT.format(child=child)).end()
    service.check(opened=opened)
    assert (ended.status, ended.said) == (0, [f"child {status}", "active"])


def test_child_refuses_its_parents_session(start: Starter, service: Service) -> None:
    """A handle that came by a fork can't be closed in the child: the error says whose it is."""
    ended = start(
        """
        from pytest_bbre.errors import WrongProcessError

        session = open_session()
        child = os.fork()
        if child == 0:
            try:
                session.close()
            except WrongProcessError as error:
                say(error)
            sys.exit(0)
        os.waitpid(child, 0)
        say(session.status().status)
        """
    ).end()
    service.check(opened=1)
    assert len(ended.said) == 2
    assert "belongs to process" in ended.said[0]
    assert ended.said[1] == "active"


def test_signal_to_the_child_alone(start: Starter, service: Service) -> None:
    """A SIGTERM to a forked child closes that child's sessions and none of its parent's."""
    process = start(
        """
        session = open_session()
        child = os.fork()
        own = open_session()
        if child == 0:
            rest("child")
        say("parent", child)
        os.waitpid(child, 0)
        say(session.status().status, own.status().status)
        """
    )
    process.wait_for("child")
    os.kill(int(process.wait_for("parent")), TERM)
    ended = process.end()
    service.check(opened=3)
    assert (ended.status, ended.said[-1], ended.err) == (0, "active active", "")


def test_signal_to_the_parent_alone(start: Starter, service: Service) -> None:
    """A SIGTERM to a process closes its sessions and none of those that its forked child opened."""
    process = start(
        """
        open_session()
        until, go = os.pipe()
        child = os.fork()
        if child == 0:
            own = open_session()
            say("child")
            os.close(go)
            os.read(until, 1)  # its end is the parent's end
            say("active", own.status().status)
            sys.exit(0)
        rest("parent")
        """
    )
    process.wait_for("parent")
    process.wait_for("child")
    process.send(TERM)
    assert process.status() == -TERM
    assert process.wait_for("active") == "active"
    process.end()
    service.check(opened=2)


def test_fork_while_other_threads_open_and_close(start: Starter, service: Service) -> None:
    """A fork in the middle of other threads' work leaves the child with no lock that nobody will release."""
    ended = start(
        """
        stop = threading.Event()

        def work():
            while not stop.is_set():
                with managed_session():
                    pass

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        open_session()
        for _ in range(8):
            child = os.fork()
            if child == 0:
                signal.alarm(20)  # so that a child that hangs is seen as such
                with managed_session() as session:
                    session.status()
                sys.exit(0)
            say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        stop.set()
        """
    ).end()
    assert service.active() == []
    assert (ended.status, ended.said) == (0, ["0"] * 8)


def test_fork_on_a_thread_with_the_first_session(start: Starter, service: Service) -> None:
    """Where the signals are answered without the main thread, a forked child is freed of that, too."""
    ended = start(
        """
        def work():
            session = open_session()
            child = os.fork()
            if child == 0:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(60)
            say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            say(session.status().status)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        """
    ).end()
    service.check(opened=1)
    assert (ended.status, ended.said) == (0, [str(-TERM), "active"])
