"""Knows the soak: many processes, an engine that fails, processes and guardians that are killed; what is true after it.

Every choice is made from the seed. How processes interleave is not: a seed repeats the choices alone.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from pytest_bbre import errors
from pytest_bbre.engine import Engine
from pytest_bbre.guard.ledger import SqliteLedger

TIMEOUTS = {"BBRE_RETRY_MIN": "0.05", "BBRE_RETRY_MAX": "0.2", "BBRE_CONNECT_TIMEOUT": "2", "BBRE_READ_TIMEOUT": "3"}
MISHAPS = ("kill", "kill", "kill", "kill", "kill", "kill", "term", "term", "guardian", "guardian")
MISHAPS += ("engine", "engine", "restart", "crash")
SETTLED_IN = 60.0  # seconds for what is left to be closed, after the last fault
NEXT = "from pytest_bbre import open_session; open_session(slot_timeout=60).close()"
WORKER = """
import os, random, sys, time
from pytest_bbre import errors, managed_session
from pytest_bbre._tracker import tracker
choices = random.Random(int(sys.argv[1]))
passing = (errors.TransportError, errors.ServiceError, errors.InvalidAnswerError)

def say(word):
    os.write(1, (word + "\\n").encode())

while True:
    try:
        with managed_session(slot_timeout=60, timeout=120) as session:
            for _ in range(choices.randrange(3)):
                time.sleep(choices.random() * 0.02)
                try:
                    status = session.status().status
                except errors.SessionNotFoundError:
                    status = "gone"
                except passing:
                    continue
                if status != "active" and tracker.ending is None:  # else it is this process that closes it
                    say(f"HARMED {session.id} {status} {session._info.engine}")
        say("round")
    except errors.SessionLimitReachedError as error:
        say("LIMIT " + type(error).__name__)
    except passing:
        say("round")
    except errors.ShuttingDownError:  # it was told to end
        time.sleep(30)
"""


class Crowd:
    """The worker processes, and what they said."""

    def __init__(self, environment: dict[str, str], choices: random.Random, gone: set[str]) -> None:
        self._environment = environment
        self._choices = choices
        self._gone = gone  # engines that were killed, and took their sessions with them
        self._lock = threading.Lock()
        self.rounds = 0
        self.bad: list[str] = []
        self._listeners: list[threading.Thread] = []
        self.processes: list[subprocess.Popen[str]] = []

    def add(self) -> None:
        """One more."""
        command = [sys.executable, "-c", WORKER, str(self._choices.randrange(1 << 30))]
        process = subprocess.Popen(command, env=self._environment, stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        self._listeners.append(threading.Thread(target=self._listen, args=(process,), daemon=True))
        self._listeners[-1].start()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process:  # its end is waited for
            for line in process.stdout:
                with self._lock:
                    if line == "round\n":
                        self.rounds += 1
                    elif not line.startswith("HARMED") or line.split()[-1] not in self._gone:
                        self.bad.append(line.strip())

    def kill(self, signum: int) -> None:
        """Ends one by a signal, and replaces it."""
        process = self.processes.pop(self._choices.randrange(len(self.processes)))
        process.send_signal(signum)
        self.add()

    def crash(self, folder: str) -> None:
        """All of them and the guardian, at one instant: the ledger's file is as it lay on the disk then."""
        everybody = [process.pid for process in self.processes] + guardians(folder)
        for pid in everybody:
            _send(pid, signal.SIGSTOP)
        everybody += guardians(folder)  # one that was just starting
        ledger = Path(folder) / "ledger.db"
        found = {name: path.read_bytes() for name in ("", "-wal") if (path := Path(f"{ledger}{name}")).exists()}
        for pid in everybody:
            _send(pid, signal.SIGKILL)
        for process in self.processes:
            process.wait()
        for name in ("", "-wal", "-shm"):
            Path(f"{ledger}{name}").unlink(missing_ok=True)
        for name, content in found.items():
            Path(f"{ledger}{name}").write_bytes(content)
            Path(f"{ledger}{name}").chmod(0o600)
        self.processes, before = [], self.processes
        for _ in before:
            self.add()

    def end(self) -> None:
        """All of them, half of them without a goodbye."""
        for number, process in enumerate(self.processes):
            process.send_signal(signal.SIGKILL if number % 2 else signal.SIGTERM)
        for listener in self._listeners:
            listener.join(30)


def guardians(folder: str) -> list[int]:
    """The process ids of the guardians that serve with this ledger."""
    said = "".join(path.read_text() for path in Path(folder).glob("guardian-*.log*"))
    found = {int(pid) for pid in re.findall(r"\[(\d+)\] guards", said)}
    return [pid for pid in found if _comm(pid) == "bbre-guardian\n"]


def _send(pid: int, signum: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signum)


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


class Service:
    """An engine that is started again, at the same address and with the same key, after it was killed."""

    def __init__(self) -> None:
        self.gone: set[str] = set()
        self.opened = 0
        self.engine = Engine(max_sessions=10).start()

    def close(self) -> None:
        """Ends it."""
        self.engine.stop()

    def restart(self) -> None:
        """Kills it, with all its sessions."""
        before = self.engine
        self.opened += before.totals()["opened"]
        port, key = urlsplit(before.base_url).port or 0, str(before.api_key)
        self.gone.add(before.instance)
        os.kill(before.pid, signal.SIGKILL)
        before.stop()
        self.engine = Engine(max_sessions=10, port=port, api_keys=[key]).start()


def disturb(choices: random.Random, service: Service, crowd: Crowd, folder: str) -> str:
    """One mishap; what it was."""
    engine = service.engine
    what = choices.choice([*MISHAPS, *(["fault"] * 12)])
    if what == "kill":
        crowd.kill(signal.SIGKILL)
    elif what == "term":
        crowd.kill(signal.SIGTERM)
    elif what == "guardian":
        for pid in guardians(folder):
            _send(pid, signal.SIGKILL)
    elif what == "restart":
        service.restart()
    elif what == "crash":
        crowd.crash(folder)
    elif what == "engine":
        os.kill(engine.pid, signal.SIGSTOP)
        time.sleep(choices.random())
        os.kill(engine.pid, signal.SIGCONT)
    else:
        endpoint = choices.choice(["create", "close", "list", "status"])
        kind = choices.choice(["fail", "lose_answer", "cut", "garbage", "half_answer"])
        getattr(engine.faults, kind)(endpoint, times=choices.randrange(1, 4))
        what = f"{endpoint} {kind}"
    return what


def settle(engine: Engine, folder: str, environment: dict[str, str]) -> list[str]:
    """Waits until nothing is left; what is left after all."""
    subprocess.run([sys.executable, "-c", NEXT], env=environment, check=True, timeout=120)
    ledger = SqliteLedger(str(Path(folder) / "ledger.db"))
    give_up = time.monotonic() + SETTLED_IN
    while (engine.sessions() or ledger.leases() or guardians(folder)) and time.monotonic() < give_up:
        time.sleep(0.05)
    left = [f"active: {one.id}" for one in engine.sessions()] + [f"lease: {one}" for one in ledger.leases()]
    ledger.close()
    return left + [f"guardian: {pid}" for pid in guardians(folder)]


def main() -> None:
    """Runs and prints; exit status 1 if anything was lost, left or harmed."""
    sys.exit(1 if run(_given()) else 0)


def _given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000, help="sessions that come to their end")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=14)
    parser.add_argument("--seconds", type=float, default=600.0, help="at most, whatever the rounds")
    return parser.parse_args()


def run(given: argparse.Namespace) -> list[str]:
    """All of it; what is wrong after it."""
    choices = random.Random(given.seed)
    mishaps: dict[str, int] = {}
    service = Service()
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder, closing(service):
        environment = {**os.environ, **service.engine.environ(), **TIMEOUTS, "BBRE_STATE_DIR": folder}
        crowd = Crowd(environment, choices, service.gone)
        started, most = time.monotonic(), 0
        for _ in range(given.processes):
            crowd.add()
        while crowd.rounds < given.rounds and time.monotonic() - started < given.seconds:
            what = disturb(choices, service, crowd, folder)
            mishaps[what] = mishaps.get(what, 0) + 1
            time.sleep(choices.random() * 0.4)
            try:
                most = max(most, len(service.engine.sessions()))
            except errors.EngineError as error:
                crowd.bad.append(str(error))
        engine = service.engine
        engine.faults.clear()
        crowd.end()
        left = settle(engine, folder, environment)
        print(
            f"\nseed {given.seed}: {crowd.rounds} rounds in {time.monotonic() - started:.0f} s; at most {most} active"
        )
        print(
            f"  opened {service.opened + engine.totals()['opened']}; mishaps: "
            + ", ".join(f"{k} {v}" for k, v in sorted(mishaps.items()))
        )
        print(f"  left: {len(left)}; harmed or refused: {len(crowd.bad)}")
        wrong = [*left, *crowd.bad, *([f"{most} active at once"] if most > 10 else [])]
        for line in wrong[:20]:
            print(f"    {line}")
        return wrong


if __name__ == "__main__":
    main()
