"""Scripts that set BBRE_BASE_URL=embedded: their engine is a child process, and ends when they do."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from _process import LIMIT, Starter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from _process import Process

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals between processes")


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Starter]:
    """Starts scripts that find no service, and are told to bring their own engine."""
    starter = Starter(tmp_path, {"BBRE_BASE_URL": "embedded"})
    yield starter
    starter.kill_all()


class Engine:
    """The engine of a script, seen from outside: by its process alone."""

    def __init__(self, process: Process) -> None:
        (pid,) = process.wait_for("engines").split()
        self._process = psutil.Process(int(pid))
        assert "_boot.py" in " ".join(self._process.cmdline())
        self._handle = os.pidfd_open(int(pid)) if hasattr(os, "pidfd_open") else None

    def is_gone(self) -> bool:
        """Waits for its end; one that nobody has collected yet counts as ended."""
        if self._handle is not None:
            ended, _, _ = select.select([self._handle], [], [], LIMIT)
            os.close(self._handle)
            return bool(ended)
        give_up = time.monotonic() + LIMIT
        while self._runs() and time.monotonic() < give_up:
            time.sleep(0.05)  # there is no event to wait for, where it is not our child
        return not self._runs()

    def _runs(self) -> bool:
        try:
            return self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


BEGIN = """
import psutil

def engines():
    say("engines", *(child.pid for child in psutil.Process().children()))

session = open_session()
engines()
session.status()
"""
# How it ends by itself, or by which signal, and the status that its parent sees.
ENDINGS = {
    "the last line": ("", 0, 0),
    "an error": ("1 / 0", 0, 1),
    "os._exit": ("os._exit(3)", 0, 3),
    "Ctrl-C": ("rest()", signal.SIGINT, -signal.SIGINT),
    "SIGTERM": ("rest()", signal.SIGTERM, -signal.SIGTERM),
    "SIGKILL": ("rest()", getattr(signal, "SIGKILL", 0), -getattr(signal, "SIGKILL", 0)),
}


@pytest.mark.parametrize(
    ("end", "signum", "status"),
    [pytest.param(*values, id=name, marks=[posix] if values[1] else []) for name, values in ENDINGS.items()],
)
def test_engine_ends_with_its_owner(embedded: Starter, end: str, signum: int, status: int) -> None:
    """However the script ends, its engine is gone soon after; until then its sessions could still be closed."""
    process = embedded(BEGIN + end)
    engine = Engine(process)
    if signum:
        process.wait_for()
        process.send(signum)
    ended = process.end()
    assert ended.status == status
    assert "could not be closed" not in ended.err
    assert engine.is_gone()


@posix
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_the_group_spares_the_engine(embedded: Starter, signum: int) -> None:
    """A signal to the whole group, as by a terminal, leaves the engine there until the sessions are closed."""
    process = embedded(BEGIN + "rest()")
    engine = Engine(process)
    process.wait_for()
    process.send_to_group(signum)
    ended = process.end()
    assert ended.status == -signum
    assert "could not be closed" not in ended.err
    assert engine.is_gone()


@posix
@pytest.mark.parametrize("signum", [signal.SIGTERM, getattr(signal, "SIGKILL", 0)])
def test_engine_ends_though_a_forked_child_of_its_owner_lives_on(embedded: Starter, signum: int) -> None:
    """A forked child holds copies of all that the owner held open; the engine ends with its owner nevertheless."""
    process = embedded(BEGIN + "if os.fork() == 0: rest('child')\nrest('parent')")
    engine = Engine(process)
    process.wait_for("child")
    process.wait_for("parent")
    process.send(signum)
    assert process.status() == -signum
    assert engine.is_gone()


@posix
def test_engine_ends_when_its_owner_becomes_another_program(embedded: Starter) -> None:
    """After os.execv the owner's process id lives on, and the engine does not."""
    later = "[sys.executable, '-c', 'import time; print(\"next\", flush=True); time.sleep(60)']"
    process = embedded(BEGIN + f"os.execv(sys.executable, {later})")
    engine = Engine(process)
    process.wait_for("next")
    assert engine.is_gone()


@posix
def test_forked_child_uses_its_parents_engine(embedded: Starter) -> None:
    """A forked child opens its sessions in the engine that is there, and its end does not end that engine."""
    process = embedded(
        BEGIN
        + """
if os.fork() == 0:
    own = open_session()
    engines()
    sys.exit(0)
say(os.waitstatus_to_exitcode(os.wait()[1]))
say(session.status().status)
"""
    )
    engine = Engine(process)
    ended = process.end()
    assert ended.said[1:] == ["engines", "0", "active"]
    assert (ended.status, ended.err) == (0, "")
    assert engine.is_gone()


def test_second_use_shares_the_engine(embedded: Starter) -> None:
    """All sessions and clients of a process, on any thread, use one engine."""
    ended = embedded(
        """
        import psutil
        from pytest_bbre import BBREClient

        def work():
            with managed_session() as session:
                ids.append(session.id)
                barrier.wait(20)

        ids, barrier = [], threading.Barrier(5)
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        barrier.wait(20)
        with BBREClient(base_url="embedded") as client:
            say(len(ids), len(psutil.Process().children()))
        for thread in threads:
            thread.join()
        """
    ).end()
    assert (ended.status, ended.said, ended.err) == (0, ["4 1"], "")


def test_engine_that_died_is_replaced(embedded: Starter) -> None:
    """When the engine's process was ended by somebody, the next session starts a new one."""
    ended = embedded(
        """
        import psutil

        with managed_session():
            (first,) = psutil.Process().children()
        first.kill()
        first.wait(20)
        with managed_session() as session:
            (second,) = psutil.Process().children()
            say(first.pid != second.pid, session.status().status)
        """
    ).end()
    assert (ended.status, ended.said, ended.err) == (0, ["True active"], "")


WITHOUT_AIOHTTP = """
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == "aiohttp" else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
open_session()
"""


def test_missing_extra_is_told_with_the_line_that_installs_it(embedded: Starter) -> None:
    """Without aiohttp the error is one of its own, and says what to install."""
    ended = embedded(WITHOUT_AIOHTTP).end()
    assert ended.status == 1
    assert "EngineExtraMissingError" in ended.err.splitlines()[-1]
    assert "pip install 'pytest-bbre[engine]'" in ended.err


def test_without_key_and_address_both_ways_are_named(tmp_path: Path) -> None:
    """A script gets the embedded engine only by asking: the error names the key and the word."""
    ended = Starter(tmp_path, {})("open_session()").end()
    assert ended.status == 1
    assert "BBRE_API_KEY" in ended.err
    assert "BBRE_BASE_URL=embedded" in ended.err
