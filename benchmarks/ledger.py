"""Knows what a transaction of the ledger takes: of one process, and of sixteen that share it.

Each process goes through the life of a session again and again: with a little time to think between two transactions,
as programs have it, and without, which is more than any program asks for.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from statistics import median, quantiles

from pytest_bbre.guard.leases import Lease, Moment, Wanted
from pytest_bbre.guard.ledger import SqliteLedger

from ._measure import goal

PROCESSES = 16
THINKING = (
    0.05  # seconds between two transactions of one process, at the mean: a request through a session takes longer
)
SECONDS = 4.0  # that each part is measured for


def main() -> None:
    """Measures and prints."""
    if len(sys.argv) > 1:
        work(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
        return
    alone = measure(1, THINKING)
    found = {f"{PROCESSES} processes": measure(PROCESSES, THINKING), "without thinking": measure(PROCESSES, 0.0)}
    print(f"\nA transaction of the ledger ({SECONDS:g} s each; thinking for {THINKING * 1000:g} ms between two)\n")
    print(f"  {'':12}  {'1 process':^21}", *(f"{title:^29}" for title in found), sep="  ")
    print(
        f"  {'':12}  {'median':>10} {'p99':>10}", *(f"{'median':>10} {'p99':>10} {'ratio':>7}" for _ in found), sep="  "
    )
    for name in [*alone, "all"]:
        base = values(alone, name)
        columns = [f"  {name:12}  {shown(base)}"]
        for many in found.values():
            columns.append(f"{shown(values(many, name))} {median(values(many, name)) / median(base):7.2f}")
        print(*columns, sep="  ")
    for title, one in found.items():
        print(f"  {title}: {len(values(one, 'all')) / SECONDS:.0f} transactions a second")
    shared = values(found[f"{PROCESSES} processes"], "all")
    goal(f"median with {PROCESSES} processes", median(shared) * 1000, 1.0, "ms")
    opened = sorted(opening() for _ in range(20))
    print(f"  opening an existing ledger: {median(opened) * 1000:.2f} ms")


def values(found: dict[str, list[float]], name: str) -> list[float]:
    """The seconds of one kind of transaction, or of all."""
    return [one for many in found.values() for one in many] if name == "all" else found[name]


def shown(seconds: list[float]) -> str:
    """Median and 99th percentile."""
    return f"{median(seconds) * 1000:7.3f} ms {quantiles(seconds, n=100)[-1] * 1000:7.2f} ms"


def measure(processes: int, thinking: float) -> dict[str, list[float]]:
    """Runs the processes at once; gives the seconds of each kind of transaction."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.ledger", folder, str(thinking), str(SECONDS)]
        started = [subprocess.Popen(command, stdin=-1, stdout=-1, text=True) for _ in range(processes)]
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        found: dict[str, list[float]] = {}
        for process in started:
            for line in process.communicate()[0].splitlines():
                name, *seconds = line.split()
                found.setdefault(name, []).extend(map(float, seconds))
    return found


def opening() -> float:
    """Opens a ledger that another process uses."""
    with tempfile.TemporaryDirectory() as folder:
        first = SqliteLedger(f"{folder}/ledger/ledger.db")
        started = time.perf_counter()
        second = SqliteLedger(first.path)
        spent = time.perf_counter() - started
        second.close()
        first.close()
    return spent


def work(folder: str, thinking: float, seconds: float) -> None:
    """What one process does; it prints the seconds of each kind of transaction."""
    ledger = SqliteLedger(f"{folder}/ledger/ledger.db")
    wanted = Wanted("account", str(os.getpid()), evictable=True)
    found: dict[str, list[float]] = {}

    def timed(name: str, call: Callable[[], object]) -> object:
        if thinking:
            time.sleep(random.uniform(0, 2 * thinking))
        started = time.perf_counter()
        result = call()
        found.setdefault(name, []).append(time.perf_counter() - started)
        return result

    print("ready", flush=True)
    sys.stdin.readline()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for _ in life(ledger, wanted, timed):
            if time.monotonic() > until:
                break
    for name, many in found.items():
        print(name, *many)


def life(ledger: SqliteLedger, wanted: Wanted, timed: Callable[[str, Callable[[], object]], object]) -> Iterator[None]:
    """A session from its opening to its end, step by step."""
    lease = timed("take", lambda: ledger.take(wanted, 10, now()))
    yield
    if not isinstance(lease, Lease):
        timed("withdraw", lambda: ledger.withdraw(lease.ticket))  # type: ignore[attr-defined]
        return
    try:
        timed("opened", lambda: ledger.opened(lease.key, "session_0123456789", None, 300.0, now()))
        yield
        for _ in range(3):
            timed("begin_use", lambda: ledger.begin_use(lease.key, now()))
            yield
            timed("end_use", lambda: ledger.end_use(lease.key, now()))
            yield
        timed("leases", ledger.leases)
        yield
        timed("changes", ledger.changes)
        yield
        timed("closing", lambda: ledger.closing(lease.key))
        yield
    finally:
        timed("end", lambda: ledger.end(lease.key))


def now() -> Moment:
    """The time."""
    return Moment(time.time(), time.monotonic(), "boot")


if __name__ == "__main__":
    main()
