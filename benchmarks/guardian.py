"""Knows what the guardian costs, and how fast it is: from SIGKILL to a free slot, its start, memory, idle time."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from pytest_bbre import BBREClient, Settings

from ._measure import goal, interleave, table
from ._service import service

IDLE = 10.0  # seconds over which an idle guardian's processor time is counted
HOLDS = """
import sys, time
from pytest_bbre import managed_session
import pytest_bbre._client
started = time.perf_counter()
with managed_session():
    print(time.perf_counter() - started, flush=True)
    sys.stdin.read()
"""


class Holder:
    """A process that holds a session."""

    def __init__(self, environment: Mapping[str, str], guard: bool = True) -> None:
        env = {**os.environ, **environment, "BBRE_GUARD": "1" if guard else "0"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([sys.executable, "-c", HOLDS], env=env, text=True, **pipes)
        assert self.process.stdout is not None
        self.opening = float(self.process.stdout.readline())
        while _state(self.process.pid) != "S":  # a signal in the instant before it blocks waits for the block's end
            time.sleep(0.001)

    def end(self, signum: int) -> None:
        """Ends it by a signal."""
        self.process.send_signal(signum)
        self.process.communicate()


def main() -> None:
    """Measures and prints."""
    with service() as environment:
        client = BBREClient(settings=Settings.resolve(environ=environment))

        def until_free() -> None:
            while any(True for _ in client.list_sessions("active")):
                time.sleep(0.001)

        def ended_by(signum: int) -> float:
            holder = Holder(environment)
            started = time.perf_counter()
            holder.process.send_signal(signum)
            until_free()
            spent = time.perf_counter() - started
            holder.end(signum)
            return spent

        def opened(guard: bool) -> float:
            holder = Holder(environment, guard)
            holder.process.communicate("")
            time.sleep(0.3)  # its guardian ends, so that the next one has to be started
            return holder.opening

        found = interleave(
            {"SIGTERM, closed by the process": lambda: ended_by(signal.SIGTERM),
             "SIGKILL, closed by the guardian": lambda: ended_by(signal.SIGKILL)}, rounds=12, limit=25.0,
        )  # fmt: skip
        table("From the signal to the free slot", found, base="SIGTERM, closed by the process")
        goal("SIGKILL to free slot, the slowest", max(found["SIGKILL, closed by the guardian"]), 1.0, "s")
        first = interleave({"without": lambda: opened(False), "with": lambda: opened(True)}, rounds=8, limit=25.0)
        table("A process's first session, without and with a guardian to start", first, base="without")
        _resident(environment)
        client.close()


def _resident(environment: Mapping[str, str]) -> None:
    holder = Holder(environment)
    (log,) = Path(environment["BBRE_STATE_DIR"]).glob("guardian-*.log")
    pid = re.findall(r"\[(\d+)\] guards", log.read_text())[-1]
    before = _ticks(pid)
    time.sleep(IDLE)
    used = (_ticks(pid) - before) / os.sysconf("SC_CLK_TCK") / IDLE * 100
    guardian, owner = _megabytes(pid), _megabytes(str(holder.process.pid))
    print("\nThe guardian of one process\n")
    print(f"  memory {guardian:.1f} MB, {guardian / owner:.2f} of its owner's ({owner:.1f} MB)")
    goal("resident memory", guardian, 25.0, "MB")
    goal("processor time when idle", used, 0.2, "% of a core")
    holder.end(signal.SIGTERM)


def _megabytes(pid: str) -> float:
    return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0]) / 1024


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def _ticks(pid: str) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


if __name__ == "__main__":
    main()
