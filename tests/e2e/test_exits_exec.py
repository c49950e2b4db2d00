"""A process that becomes another program: os.execv and its siblings run no exit hook."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from _process import Starter
    from conftest import Service

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows starts a second process instead")

NEXT = "[sys.executable, '-c', 'import sys; print(\"next\"); sys.exit(4)']"
CALLS = {
    "execv": f"os.execv(sys.executable, {NEXT})",
    "execve": f"os.execve(sys.executable, {NEXT}, dict(os.environ))",
    "execvp": f"os.execvp(sys.executable, {NEXT})",
    "execlp": "os.execlp(sys.executable, sys.executable, '-c', 'print(\"next\"); raise SystemExit(4)')",
    "in the block": f"with managed_session(): os.execv(sys.executable, {NEXT})",
    "on a thread": f"t = threading.Thread(target=os.execv, args=(sys.executable, {NEXT})); t.start(); t.join()",
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_process_that_becomes_another_closes_first(start: Starter, service: Service, call: str) -> None:
    """Before another program takes the process over, its sessions are closed; that program is not disturbed."""
    ended = start(f"open_session(); {call}" if not call.startswith("with") else f"open_session()\n{call}").end()
    service.check(opened=2 if call.startswith("with") else 1)
    assert (ended.status, ended.said, ended.err) == (4, ["next"], "")


def test_exec_that_fails_leaves_a_process_that_works(start: Starter, service: Service) -> None:
    """Where the other program can't be started, this one goes on: its sessions are closed, new ones can be opened."""
    ended = start(
        """
        session = open_session()
        try:
            os.execvp("no-such-program-anywhere", ["no-such-program-anywhere"])
        except FileNotFoundError:
            say(session.state.value)
        say(open_session().status().status)
        """
    ).end()
    service.check(opened=2)
    assert (ended.status, ended.said, ended.err) == (0, ["closed", "active"], "")


def test_next_program_inherits_no_descriptor(start: Starter, service: Service) -> None:
    """Neither the watched pipes nor connections to the service stay open in the program that takes over."""
    look = "import os; print(sorted(os.listdir('/proc/self/fd')))"
    plain = start.command(sys.executable, "-c", look).end()
    if plain.status:
        pytest.skip("there is no /proc here")
    after = start(f"open_session(); os.execv(sys.executable, [sys.executable, '-c', {look!r}])").end()
    service.check(opened=1)
    assert after.said == plain.said


def test_child_program_of_a_fork_between(start: Starter, service: Service) -> None:
    """subprocess, with and without a preexec_fn, is no end of this process: its sessions stay."""
    ended = start(
        """
        import subprocess

        session = open_session()
        subprocess.run([sys.executable, "-c", ""], check=True)
        subprocess.run([sys.executable, "-c", ""], check=True, preexec_fn=lambda: None)
        os.waitpid(os.posix_spawn(sys.executable, [sys.executable, "-c", ""], dict(os.environ)), 0)
        os.system("exit 0")
        say(session.status().status)
        """
    ).end()
    service.check(opened=1)
    assert (ended.status, ended.said) == (0, ["active"])
