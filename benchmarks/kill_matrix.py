"""Knows the kill matrix: each way to die, at each moment of a session; what is left, and for how long."""

from __future__ import annotations

import argparse
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from pytest_bbre import BBREClient, Settings
from pytest_bbre.engine import Engine

from . import _victim

MOMENTS = ("before create", "create in flight", "create answered", "held", "request in flight", "close in flight")
VICTIM = str(Path(_victim.__file__))
LIMIT = 20.0  # seconds for anything
# In these a child opens a session itself, which the other moments would stop.
ONLY_HELD = ("forked child killed", "whole login session")
SLOW = ("pytest-timeout's thread",)  # pytest has to be loaded between the moment and the death
BY_THE_NEXT = ("guardian at the same instant",)  # nobody is left to close: the next process does
NEIGHBOUR = """
import sys
from pytest_bbre import open_session
session = open_session()
print(session.id, flush=True)
for line in sys.stdin:
    print(session.status().status, flush=True)
"""
NEXT = "from pytest_bbre import open_session; open_session().close()"


class Found(NamedTuple):
    """What one death left. `seconds` from the death to none; None if any was left."""

    way: str
    moment: str
    seconds: float | None
    neighbour: bool


class Scene:
    """An engine with a ledger, a living neighbour, and victims one after another."""

    def __init__(self, engine: Engine, folder: str, python: str) -> None:
        self.engine = engine
        self.refused = 0  # creates that came to nothing
        self.python = python
        quick = {
            "BBRE_RETRY_MIN": "0.1",
            "BBRE_RETRY_MAX": "0.2",
            "BBRE_CONNECT_TIMEOUT": "2",
            "BBRE_READ_TIMEOUT": "2",
        }
        quick |= {"BBRE_EXIT_TIMEOUT": "2"}  # at some moments a thread of the core is kept for ever
        self.environment = {**os.environ, **engine.environ(), **quick, "BBRE_STATE_DIR": folder}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.neighbour = subprocess.Popen([python, "-c", NEIGHBOUR], env=self.environment, text=True, **pipes)
        assert self.neighbour.stdout is not None
        self.kept = self.neighbour.stdout.readline().strip()

    def left(self) -> int:
        """Active sessions but the neighbour's."""
        return sum(one.id != self.kept for one in self.engine.sessions())

    def dies(self, way: str, moment: str) -> Found:
        """One death."""
        if "flight" in moment:
            seconds = 2.0 if way in SLOW else 1.0
            self.engine.faults.delay(_victim.ENDPOINTS[moment], seconds=seconds, times=1)
        command = [self.python, VICTIM, way, moment]
        victim = subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        assert victim.stdout is not None
        said = victim.stdout.readline().split()
        if way != "exec":  # that one lives on, and holds nothing
            _wait_for_end(int(said[1]))
        died = time.monotonic()
        if moment == "create in flight":
            died = self._wait_for_creates()
        if way in BY_THE_NEXT:
            subprocess.run([self.python, "-c", NEXT], env=self.environment, check=True, timeout=LIMIT)
        while self.left() and time.monotonic() - died < LIMIT:
            time.sleep(0.005)
        seconds = None if self.left() or said[:1] != [b"dying"] else time.monotonic() - died
        if way == "exec":
            victim.kill()
        victim.communicate()
        self.engine.faults.clear()
        return Found(way, moment, seconds, self.is_well())

    def _wait_for_creates(self) -> float:
        """Waits until the service has done what it was asked for: only then there is a session. Gives that time."""
        give_up = time.monotonic() + LIMIT
        while self.engine.calls("create") > self.engine.totals()["opened"] + self.refused:
            if time.monotonic() > give_up:  # the connection was cut before all of the request was there
                self.refused += 1
            time.sleep(0.002)
        return time.monotonic()

    def is_well(self) -> bool:
        """Whether the neighbour lives, and its session with it."""
        assert self.neighbour.stdin is not None
        assert self.neighbour.stdout is not None
        print(file=self.neighbour.stdin, flush=True)
        return self.neighbour.stdout.readline() == "active\n"

    def end(self) -> None:
        """The neighbour ends as it should."""
        self.neighbour.communicate()


def _wait_for_end(pid: int) -> None:
    """Waits until a process has ended, whoever's child it is; it may have ended by now."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([watched], [], [], LIMIT)
    os.close(watched)


def run(python: str, ways: list[str], moments: list[str]) -> list[Found]:
    """All of it on one Python, told as it goes."""
    found = []
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder, Engine() as engine:
        scene = Scene(engine, folder, python)
        for way in ways:
            for moment in moments if way not in ONLY_HELD else ["held"]:
                one = scene.dies(way, moment)
                found.append(one)
                told = "LEFT" if one.seconds is None else f"{one.seconds * 1000:7.0f} ms"
                print(
                    f"  {way:30} {moment:20} {told:>10}   neighbour {'well' if one.neighbour else 'HARMED'}", flush=True
                )
        scene.end()
        with BBREClient(settings=Settings.resolve(environ=engine.environ())) as client:
            client.close_sessions(list(client.list_sessions("active")))
    return found


def main() -> None:
    """Runs and prints; exit status 1 if anything was left or harmed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", nargs="*", default=[sys.executable], help="interpreters with the package installed")
    parser.add_argument("--ways", nargs="*", default=[*_victim.WAYS, *_victim.WITH_XDIST], metavar="WAY")
    parser.add_argument("--moments", nargs="*", default=list(MOMENTS), metavar="MOMENT")
    given = parser.parse_args()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    bad = 0
    for python in given.python:
        print(f"\n{python}\n")
        found = run(python, given.ways, given.moments)
        times = [one.seconds for one in found if one.seconds is not None]
        failed = [one for one in found if one.seconds is None or not one.neighbour]
        bad += len(failed)
        if times:
            print(f"\n  {len(found)} deaths: median {median(times) * 1000:.0f} ms, slowest {max(times):.2f} s")
        print(f"  left or harmed: {len(failed)}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
