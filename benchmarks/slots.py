"""Knows how well ten slots are used when sixteen processes want them, and for how long one lies idle between two.

Each process opens a session, holds it for 200 ms and closes it, again and again. The hand-over is from the moment that
the ledger heard of the end of one session to the moment that the next one has the slot. The base is what a process
pays that has a slot for itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

from pytest_bbre import BBREClient
from pytest_bbre.engine import Engine
from pytest_bbre.guard import owners, wake
from pytest_bbre.guard.door import Door, Service
from pytest_bbre.guard.leases import Lease, Moment, Wanted, moment
from pytest_bbre.guard.ledger import SqliteLedger
from pytest_bbre.guard.slots import Place

from ._measure import goal

SLOTS = 10
PROCESSES = 16
HOLDING = 0.2  # seconds
SECONDS = 12.0  # that each part is measured for
RAMP = 2.0  # seconds after the start and before the end that do not count
ACCOUNT = "account"


class Stay(NamedTuple):
    """One session's time in a slot, by the clock that all processes share."""

    asked: float
    taken: float
    freed: float
    waited: bool


def main() -> None:
    """Measures and prints."""
    if len(sys.argv) > 1:
        work(sys.argv[1], float(sys.argv[2]))
        return
    alone, shared = measure(1), measure(PROCESSES)
    print(f"\n{PROCESSES} processes on {SLOTS} slots, each held for {HOLDING * 1000:g} ms ({SECONDS:g} s)\n")
    base = median(stay.taken - stay.asked for stay in alone)
    handed = hand_overs(shared)
    low, middle, high = quantiles(handed, n=4)
    print(f"  {'':34}  {'median':>10}  {'middle half':>20}  {'ratio':>7}")
    print(f"  {'taking a free slot, alone':34}  {base * 1000:7.2f} ms  {'':20}  {1:7.2f}")
    between = f"{low * 1000:.2f} to {high * 1000:.2f}"
    print(f"  {'hand-over to who waits':34}  {middle * 1000:7.2f} ms  {between:>20}  {middle / base:7.2f}")
    print(f"  sessions: {len(shared)}, of which {sum(stay.waited for stay in shared)} waited for their slot")
    goal("hand-over at the median", middle * 1000, 50.0, "ms")
    used = use(shared)
    print(f"  goal: use of the slots {used:.3f}, at least 0.95: {'met' if used >= 0.95 else 'MISSED'}")


def measure(processes: int) -> list[Stay]:
    """Runs the processes at once; gives each session's time in its slot."""
    with tempfile.TemporaryDirectory() as folder, Engine(max_sessions=SLOTS) as engine:
        environment = {**os.environ, **engine.environ()}
        command = [sys.executable, "-m", "benchmarks.slots", str(Path(folder) / "state" / "ledger.db"), str(SECONDS)]
        started = [subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=environment) for _ in range(processes)]
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        lines = [line.split() for process in started for line in process.communicate()[0].splitlines()]
        calls, totals = engine.calls("create"), engine.totals()
    assert all(process.returncode == 0 for process in started)
    assert (calls, totals["active"]) == (totals["opened"], 0), "the service refused a session, or one is left"
    return [Stay(*map(float, line[:3]), waited=line[3] == "True") for line in lines]


def hand_overs(stays: list[Stay]) -> list[float]:
    """Seconds between each end of a session and the next beginning of one that waited for it: in the order of both."""
    freed = sorted(stay.freed for stay in stays)
    taken = sorted(stay.taken for stay in stays)
    waited = {stay.taken for stay in stays if stay.waited}
    # The first SLOTS sessions found free slots; each after them follows an end.
    pairs = zip(freed, taken[SLOTS:], strict=False)
    return [after - before for before, after in pairs if after in waited]


def use(stays: list[Stay]) -> float:
    """Which part of the slots' time was used while all processes wanted one."""
    begin = min(stay.asked for stay in stays) + RAMP
    end = begin + SECONDS - 2 * RAMP
    held = sum(max(min(stay.freed, end) - max(stay.taken, begin), 0.0) for stay in stays)
    return held / (SLOTS * (end - begin))


def work(path: str, seconds: float) -> None:
    """What one process does; it prints one line for each session."""
    ledger = SqliteLedger(path)
    me = str(owners.here())
    bell = wake.Bell(ledger.folder, wake.bell_of(me))

    def ring(owner: str | None) -> None:
        if owner is not None:
            wake.ring(ledger.folder, wake.bell_of(owner))

    stays: list[Stay] = []
    with BBREClient() as client:
        door = Door(Service(client.settings.base_url, client.settings.api_key))

        def place() -> Place:
            return Place(
                ledger,
                Wanted(ACCOUNT, me),
                limit=SLOTS,
                slot_timeout=None,
                evict_after=None,
                bell=bell,
                close=lambda lease: door.close(str(lease.session_id), lease.engine),
                reap=lambda: None,
                wake=ring,
                tell=lambda line: None,
                cancelled=lambda: None,
            )

        print("ready", flush=True)
        sys.stdin.readline()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            stays.append(live(ledger, client, place(), ring))
    bell.close()
    for stay in stays:
        print(*stay)


def live(ledger: SqliteLedger, client: BBREClient, place: Place, ring: object) -> Stay:
    """A session from its asking to its end."""
    assert callable(ring)
    asked = now()
    lease: Lease = place.wait()
    taken = now()
    info = client.create_session()
    ledger.opened(lease.key, info.id, info.engine, 300.0, now())
    time.sleep(HOLDING)
    ledger.closing(lease.key)
    client.close_session(info.id)
    following = ledger.end(lease.key)
    freed = now()
    ring(following)
    return Stay(asked.steady, taken.steady, freed.steady, waited=lease.opened.steady - asked.steady > 0.02)


def now() -> Moment:
    """The time."""
    return moment(owners.boot_id())


if __name__ == "__main__":
    main()
