"""Knows how a test runs a script as a process of its own: start, lines it says, signals, how it ended.
Must not know what the script does. Every wait has a limit, and nothing that was started outlives its test.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import textwrap
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

LIMIT = 30.0  # seconds that any wait may take; far more than a loaded machine needs

PROLOGUE = """\
import atexit, os, signal, sys, threading, time, warnings
from pytest_bbre import close_all_sessions, managed_session, open_session

# Python 3.12 and later warn of a fork beside threads, which is what some of these scripts are about.
warnings.filterwarnings("ignore", "This process", DeprecationWarning)


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # in one piece, whoever else writes


def rest(word="ready"):
    '''Says that it waits for its end, which is to come from outside.'''
    say(word)
    for _ in range(600):  # in slices: Python sees a signal that comes just before a sleep begins only when it is over
        time.sleep(0.1)
    os._exit(99)


"""


@dataclass(frozen=True)
class Ended:
    """How a process ended: its status as its parent sees it (negative for a signal), and all that it wrote."""

    status: int
    out: str
    err: str

    @property
    def said(self) -> list[str]:
        """The lines of its output."""
        return self.out.splitlines()


class _Lines:
    """Reads a stream to its end on a thread, and lets others wait for a line."""

    def __init__(self, stream: IO[str]) -> None:
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()
        stream.close()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def wait_for(self, word: str) -> str | None:
        """What follows the word in the first line that begins with it; None if no such line came."""

        def found() -> str | None:
            return next((line for line in self.lines if line.split()[:1] == [word]), None)

        with self._news:
            self._news.wait_for(lambda: found() is not None or self._ended, LIMIT)
            line = found()
        return None if line is None else line.strip()[len(word) :].strip()

    def all(self) -> str:
        """Everything, when the stream has ended."""
        self._thread.join(LIMIT)
        return "".join(self.lines)


class Process:
    """A script that runs. Its process group is its own, so that what it leaves behind can be ended with it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self._process = subprocess.Popen(
            command,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._out, self._err = _Lines(self._process.stdout), _Lines(self._process.stderr)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_for(self, word: str = "ready") -> str:
        """Waits until it has said a line that begins with this word, and gives the rest of that line."""
        rest = self._out.wait_for(word)
        if rest is None:
            self.kill()
            raise AssertionError(f"It never said {word!r}.\n{self._out.all()}\n{self._err.all()}")
        return rest

    def send(self, signum: int) -> None:
        """Sends a signal to it alone, not to what it started."""
        self._process.send_signal(signum)

    def send_to_group(self, signum: int) -> None:
        """Sends a signal to it and to all that it started, as a terminal does."""
        os.killpg(self._process.pid, signum)

    def status(self) -> int:
        """Waits until it has ended by itself; processes that it forked may live on."""
        try:
            return self._process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"It did not end.\n{self._out.all()}\n{self._err.all()}") from None

    def end(self) -> Ended:
        """Waits until it has ended by itself, and with it all that it forked."""
        return Ended(self.status(), self._out.all(), self._err.all())

    def written(self) -> list[str]:
        """All that it wrote, when it has ended."""
        return [self._out.all(), self._err.all()]

    def kill(self) -> None:
        """Ends it and whatever is left of its process group, by force."""
        if sys.platform == "win32":
            self._process.kill()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(LIMIT)


class Starter:
    """Starts scripts in one folder, with one environment; `kill_all` at the end of the test."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("BBRE_")},
            **environment,
        }
        self._started: list[Process] = []

    def script(self, source: str, name: str = "program.py") -> Path:
        """Writes a script to disk, after the names that every script has. One that is being read stays what it is."""
        path, new = self.folder / name, self.folder / f"{name}.new"
        new.write_text(PROLOGUE + textwrap.dedent(source), encoding="utf-8")
        return new.replace(path)

    def command(self, *command: str, **environment: str) -> Process:
        """Starts any command, with further variables in its environment."""
        process = Process(command, {**self.environment, **environment}, self.folder)
        self._started.append(process)
        return process

    def __call__(self, source: str, **environment: str) -> Process:
        """Starts a script."""
        return self.command(sys.executable, str(self.script(source)), **environment)

    def tool(self, *words: str) -> Process:
        """Starts a command that was installed beside this Python, as from a prompt."""
        folder = sysconfig.get_path("scripts")
        return self.command(str(shutil.which(words[0], path=folder)), *words[1:])

    def written(self) -> list[str]:
        """All that the processes wrote, when all have ended."""
        return [written for process in self._started for written in process.written()]

    def kill_all(self) -> None:
        """Ends what is still there."""
        for process in self._started:
            process.kill()


Start = Callable[..., Process]
