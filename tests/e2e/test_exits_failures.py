"""Closings at the end that fail, hang or have to hurry: what is told, and what is not waited for."""

from __future__ import annotations

import itertools
import re
import shlex
import signal
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from _process import LIMIT
from _scripted import CUT, HEALTHY, KEY, SESSION, Arrived, Scripted, fails, reply

from pytest_bbre import _wire
from pytest_bbre._workers import _MOST as AT_ONCE

if TYPE_CHECKING:
    from _process import Ended, Starter
    from conftest import Service

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals between processes")
FOR_EVER = 10 * LIMIT  # a hang that no test lives to see the end of


def run_told_command(start: Starter, ended: Ended) -> Ended:
    """Runs the command that a process told on stderr, word by word, as from a prompt."""
    (command,) = (line.partition(": ")[2] for line in ended.err.splitlines() if ": bbre " in line)
    return start.tool(*shlex.split(command)).end()


@pytest.mark.parametrize("fault", ["hang", "fail", "cut", "garbage"])
def test_what_could_not_be_closed_is_told_with_the_command(start: Starter, service: Service, fault: str) -> None:
    """Sessions left open at exit are named on stderr, with a command that closes them; the exit status stays."""
    seconds = (FOR_EVER,) if fault == "hang" else ()
    getattr(service.faults, fault)("close", *seconds, times=None)
    ended = start("say(open_session().id, open_session().id); sys.exit(3)", BBRE_EXIT_TIMEOUT="1").end()
    ids = ended.out.split()
    assert ended.status == 3
    assert "2 of 2 sessions could not be closed" in ended.err
    assert f"Close them with: bbre close {ids[1]} {ids[0]}" in ended.err  # last opened first
    assert sorted(service.active()) == sorted(ids)
    service.faults.clear()
    assert run_told_command(start, ended).status == 0
    service.check(opened=2)


@posix
@pytest.mark.parametrize("where", ["open_session()", "t = threading.Thread(target=open_session); t.start(); t.join()"])
def test_time_limit_after_a_signal(start: Starter, service: Service, where: str) -> None:
    """Closes that hang hold a signalled process up for the time limit only; it tells, and dies of the signal."""
    service.faults.hang("close", FOR_EVER, times=None)
    process = start(f"{where}\nrest()", BBRE_EXIT_TIMEOUT="0.5")
    process.wait_for()
    process.send(signal.SIGTERM)
    ended = process.end()
    assert ended.status == -signal.SIGTERM
    service.faults.clear()
    assert run_told_command(start, ended).status == 0
    service.check(opened=1)


def test_one_that_fails_does_not_keep_the_others(start: Starter, service: Service) -> None:
    """Every attempt is made to its end: of five sessions whose one close fails, four are closed, one is told."""
    service.faults.fail("close", times=1)
    ended = start("for _ in range(5): open_session()", BBRE_RETRIES="0").end()
    assert "1 of 5 sessions could not be closed" in ended.err
    assert len(service.active()) == 1
    assert run_told_command(start, ended).status == 0
    service.check(opened=5)


@pytest.mark.parametrize("fault", ["fail", "cut", "lose_answer", "half_answer"])
def test_failure_that_passes_is_not_told(start: Starter, service: Service, fault: str) -> None:
    """A close that fails once, or whose answer is lost, is repeated; if that helps, nobody hears of it."""
    getattr(service.faults, fault)("close")
    ended = start("open_session()").end()
    service.check(opened=1)
    assert (ended.status, ended.err, service.calls("close")) == (0, "", 2)


@posix
def test_create_that_is_never_answered(start: Starter, service: Service) -> None:
    """A session that was asked for, and not answered, can't be named: what is told is how to look for it."""
    service.faults.hang("create", FOR_EVER)
    process = start("open_session(timeout=60)", BBRE_EXIT_TIMEOUT="0.5")
    service.wait_for("create")
    process.send(signal.SIGTERM)
    ended = process.end()
    assert ended.status == -signal.SIGTERM
    assert "a session whose id is not known" in ended.err
    told = run_told_command(start, ended).out
    assert told.startswith("Left over: their processes have died.")
    assert re.search(r"^- +opening ", told, re.MULTILINE)
    assert service.active() == []
    service.check(opened=0)


def test_answer_to_a_create_lost_at_the_end(start: Starter, service: Service) -> None:
    """Where the answer to a create is lost, its session is found again and closed, since the account is this one's."""
    service.faults.lose_answer("create")
    ended = start("open_session()").end()
    assert ended.status == 1
    assert "LostAnswerError" in ended.err
    assert "found and closed" in ended.err
    service.check(opened=1)


def test_answer_to_a_create_lost_on_a_shared_account(start: Starter, service: Service) -> None:
    """Where others may use the account, it is left to a person, with its id and the command that closes it."""
    service.faults.lose_answer("create")
    ended = start("open_session()", BBRE_ACCOUNT_SCOPE="shared").end()
    assert ended.status == 1
    (lost,) = service.active()
    assert f"bbre close {lost}" in ended.err
    assert lost in start.tool("bbre", "sessions").end().out
    assert start.tool("bbre", "close", lost).end().status == 0
    service.check(opened=1)


@pytest.mark.parametrize("stderr", ["sys.stderr.close()", "sys.stderr = None", "os.close(2)"])
def test_nobody_to_tell(start: Starter, service: Service, stderr: str) -> None:
    """A program that closed its stderr ends with its own status, with failed closes as without."""
    service.faults.fail("close", times=1)
    ended = start(f"open_session(); {stderr}; sys.exit(3)", BBRE_RETRIES="0").end()
    (left,) = service.active()
    assert start.tool("bbre", "close", left).end().status == 0
    service.check(opened=1)
    assert ended.status == 3


def test_service_that_is_gone(start: Starter) -> None:
    """A service that can't be reached at exit is told like any failure, and doesn't hold the process up."""
    with Scripted() as server:
        server.always("status", lambda arrived: (server.__exit__(), CUT)[1])
        source = """
            session = open_session()
            try:
                session.status()
            finally:
                say(session.id)
            """
        ended = start(source, BBRE_BASE_URL=server.base_url, BBRE_API_KEY=KEY, BBRE_RETRIES="0").end()
    assert ended.status == 1
    assert "1 of 1 sessions could not be closed" in ended.err
    assert f"bbre close {SESSION}" in ended.err


SESSIONS = """
    for _ in range({count}):
        open_session()
    {end}
    """
ENDS = [
    "sys.exit(3)",
    pytest.param("os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", marks=posix),
]


class Counted:
    """A service whose creates are numbered, and whose closes wait for each other."""

    def __init__(self, server: Scripted, together: int) -> None:
        self._numbers = itertools.count(1)
        self._closes = itertools.count(1)
        self._together = together
        self._barrier = threading.Barrier(together)
        server.always("create", self._create)
        server.always("close", self._close)

    def _create(self, arrived: Arrived) -> bytes:
        return reply(_wire.success(top={"session": {"id": str(next(self._numbers))}}))

    def _close(self, arrived: Arrived) -> bytes:
        if next(self._closes) <= self._together:
            try:
                self._barrier.wait(LIMIT / 2)
            except threading.BrokenBarrierError:
                return fails("SERVICE_ERROR")
        return HEALTHY["close"]


@pytest.mark.parametrize("end", ENDS, ids=["exit", "SIGTERM"])
def test_sessions_are_closed_at_the_same_time(start: Starter, end: str) -> None:
    """Ten closes are all under way at once: here none is answered before all ten have arrived."""
    with Scripted() as server:
        Counted(server, 10)
        environment = {"BBRE_BASE_URL": server.base_url, "BBRE_API_KEY": KEY, "BBRE_RETRIES": "0"}
        ended = start(SESSIONS.format(count=10, end=end), **environment, BBRE_EXIT_TIMEOUT=str(LIMIT)).end()
        assert ended.err == ""
        assert len({one.json["sessionId"] for one in server.calls("close")}) == 10


@pytest.mark.parametrize("end", ENDS, ids=["exit", "SIGTERM"])
def test_last_opened_is_closed_first(start: Starter, end: str) -> None:
    """With more sessions than can be closed at once, those opened last go first."""
    with Scripted() as server:
        Counted(server, AT_ONCE)
        environment = {"BBRE_BASE_URL": server.base_url, "BBRE_API_KEY": KEY, "BBRE_RETRIES": "0"}
        count = AT_ONCE + 8
        ended = start(SESSIONS.format(count=count, end=end), **environment, BBRE_EXIT_TIMEOUT=str(LIMIT)).end()
        assert ended.err == ""
        order = [int(one.json["sessionId"]) for one in server.calls("close")]
        assert sorted(order[:AT_ONCE]) == list(range(9, count + 1))
        assert sorted(order[AT_ONCE:]) == list(range(1, 9))
