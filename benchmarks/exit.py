"""Knows how much longer a process takes to end that leaves ten open sessions to its exit.

The engine takes 500 ms for each close. Only the end is timed: from the child's last line to its death.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from functools import partial

from pytest_bbre.engine import Engine

from ._measure import difference, goal, interleave, table

SESSIONS = 10
LATENCY = 0.5  # seconds
PATIENCE = 30.0  # seconds for a child to end
CHILD = """
import sys
from pytest_bbre import managed_session, open_session
with managed_session():
    pass
for _ in range(int(sys.argv[1])):
    open_session()
print("done", flush=True)
"""


def time_to_end(environ: dict[str, str], sessions: int) -> float:
    """Runs a child that opens so many sessions and closes none. Seconds from its last line to its end.

    The end is seen by the end of its output: waiting with a time limit only looks every 50 ms.
    """
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(sessions)], env=environ, stdout=subprocess.PIPE, text=True
    ) as child:
        watchdog = threading.Timer(PATIENCE, child.kill)
        watchdog.start()
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "done\n"
            started = time.perf_counter()
            assert child.stdout.read() == ""
            spent = time.perf_counter() - started
        finally:
            watchdog.cancel()
        assert child.wait(PATIENCE) == 0
    return spent


def main() -> None:
    """Measures and prints."""
    with Engine(latency={"close": LATENCY}) as engine:
        environ = {**os.environ, **engine.environ()}
        left = f"{SESSIONS} sessions left open"
        cases = {"none left open": partial(time_to_end, environ, 0), left: partial(time_to_end, environ, SESSIONS)}
        found = interleave(cases, rounds=10)
        assert not engine.sessions("active")
    table(f"The end of a process, {LATENCY * 1000:g} ms for each close", found, base="none left open")
    more, error = difference(found, left, "none left open")
    goal("longer by", more, 1.0, "s", error=error)


if __name__ == "__main__":
    main()
