"""Knows how a process dies: this way, at this moment. Run as a script: `_victim.py WAY MOMENT`.
Must not know who looks at what it leaves. It says "dying PID" when it is about to: that is whose session it is.

It is a file of tests, too: for pytest-xdist, whose worker or controller dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time

from pytest_bbre import open_session
from pytest_bbre._tracker import tracker
from pytest_bbre._transport import Transport
from pytest_bbre.guard import owners
from pytest_bbre.guard.place import open_ledger

ENDPOINTS = {"before create": "create", "create in flight": "create", "create answered": "create"}
ENDPOINTS |= {"request in flight": "request", "close in flight": "close"}
NOW = threading.Event()  # the moment has come
TOLD = 9  # the descriptor of the controller to which its worker says that it dies
PYTEST = ["-q", "-c", os.devnull, "-p", "no:cacheprovider", "--import-mode=importlib"]


def guardian() -> int:
    """The process id of the guardian that serves."""
    ledger = open_ledger(os.environ["BBRE_STATE_DIR"], print)
    (account,) = {one.account for one in ledger.enrolled()}
    serving = ledger.guardian(account)
    ledger.close()
    return owners.Owner.parse(str(serving)).pid


def send(signum: int) -> None:
    os.kill(os.getpid(), signum)
    time.sleep(5)


def out_of_memory() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    bytearray(1 << 32)


def exit_in_a_thread() -> None:
    thread = threading.Thread(target=sys.exit)
    thread.start()
    thread.join()


def exit_with_a_hanging_thread() -> None:
    threading.Thread(target=time.sleep, args=(600,)).start()
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGKILL)).start()  # whoever waits for it loses patience
    sys.exit(0)


def a_forked_child_is_killed() -> None:
    child = os.fork()
    if not child:
        open_session()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def killed_with_a_forked_child_alive() -> None:
    if not os.fork():
        os.closerange(0, 3)  # whoever reads what this process wrote sees its end
        time.sleep(3)
        os._exit(0)
    send(signal.SIGKILL)


def guardian_first() -> None:
    os.kill(guardian(), signal.SIGKILL)
    time.sleep(0.5)  # it is replaced
    send(signal.SIGKILL)


def both_at_once() -> None:
    serving = guardian()
    for thread in threading.enumerate():
        if thread.name == "bbre-guardian-watch":  # it would start another, were this process to live on
            break
    command = f"kill -9 {serving} {os.getpid()}"
    subprocess.Popen(["/bin/sh", "-c", command])
    time.sleep(5)


def all_of_the_session() -> None:
    if not os.fork():
        os.setpgid(0, 0)  # a group of its own in the session of its parent, as a shell's job is
        open_session()
        os.kill(os.getppid(), signal.SIGCONT)
        time.sleep(600)
    signal.sigtimedwait([signal.SIGCONT], 20)
    others = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _session_of(pid) == os.getsid(0)]
    for pid in sorted(others, key=lambda pid: pid == os.getpid()):
        os.kill(pid, signal.SIGKILL)


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def a_test_that_takes_too_long() -> None:
    import pytest

    pytest.main([*PYTEST, "--timeout=0.2", "--timeout-method=thread", f"{__file__}::test_sleeps"])


def test_sleeps() -> None:
    time.sleep(600)


def test_dies_with_its_worker_or_controller() -> None:
    way, moment = json.loads(os.environ["BBRE_VICTIM"])
    wait_at(moment)
    controller = os.getppid()
    with open(f"/proc/{controller}/fd/{TOLD}", "wb", buffering=0) as told:
        told.write(f"dying {os.getpid()}\n".encode())
    os.kill({"xdist worker killed": os.getpid(), "xdist controller killed": controller}[way], signal.SIGKILL)
    time.sleep(600)


def become_a_controller(way: str, moment: str) -> None:
    os.environ["BBRE_VICTIM"] = json.dumps([way, moment])
    os.dup2(1, TOLD)  # what pytest has to say is not for whoever waits for one word
    os.dup2(2, 1)
    command = [sys.executable, "-m", "pytest", *PYTEST, "-n1", "--max-worker-restart=0"]
    os.execv(sys.executable, [*command, f"{__file__}::test_dies_with_its_worker_or_controller"])


def crash() -> None:
    ctypes.string_at(0)


def fail() -> None:
    raise RuntimeError("uncaught")


WAYS = {
    "SIGKILL": lambda: send(signal.SIGKILL),
    "SIGKILL of the group": lambda: os.killpg(0, signal.SIGKILL),
    "os._exit": lambda: os._exit(3),
    "segmentation fault": crash,
    "abort": os.abort,
    "SIGTERM": lambda: send(signal.SIGTERM),
    "SIGHUP": lambda: send(signal.SIGHUP),
    "SIGINT": lambda: send(signal.SIGINT),
    "SIGQUIT": lambda: send(signal.SIGQUIT),
    "SIGXCPU": lambda: send(signal.SIGXCPU),
    "memory limit": out_of_memory,
    "exec": lambda: os.execv("/bin/sleep", ["sleep", "3"]),
    "uncaught error": fail,
    "sys.exit in a thread": exit_in_a_thread,
    "exit with a hanging thread": exit_with_a_hanging_thread,
    "forked child killed": a_forked_child_is_killed,
    "killed, forked child alive": killed_with_a_forked_child_alive,
    "whole login session": all_of_the_session,
    "pytest-timeout's thread": a_test_that_takes_too_long,
    "guardian first": guardian_first,
    "guardian at the same instant": both_at_once,
}

WITH_XDIST = ("xdist worker killed", "xdist controller killed")


def wait_at(moment: str) -> None:
    """Has the process arrive at the moment: from then on a thread of the core stays there."""
    original = Transport.post

    def post(self: Transport, path: str, *args: object, **options: object) -> object:
        if not path.endswith(f"/{ENDPOINTS.get(moment)}"):
            return original(self, path, *args, **options)  # type: ignore[arg-type]
        if moment == "before create":
            NOW.set()
            time.sleep(600)
        threading.Timer(0.05, NOW.set).start() if "flight" in moment else None
        answer = original(self, path, *args, **options)  # type: ignore[arg-type]
        if moment == "create answered":
            NOW.set()
            time.sleep(600)
        return answer

    Transport.post = post  # type: ignore[assignment, method-assign]

    def work() -> None:
        with contextlib.suppress(Exception):
            session = open_session(slot_timeout=20)
            if moment == "held":
                NOW.set()
            elif moment == "request in flight":
                session.get("http://127.0.0.1:9/")
            elif moment == "close in flight":
                session.close()

    threading.Thread(target=work, daemon=True).start()
    if not NOW.wait(20):
        sys.exit("the moment never came")


def main() -> None:
    """Dies."""
    way, moment = sys.argv[1:]
    if way in WITH_XDIST:
        become_a_controller(way, moment)
    if way == "whole login session":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCONT])
    if moment.startswith(("before", "create")) and way.startswith("guardian"):
        open_session()  # so that there is a guardian to kill
    wait_at(moment)
    os.write(1, f"dying {os.getpid()}\n".encode())
    WAYS[way]()
    assert tracker is not None


if __name__ == "__main__":
    main()
