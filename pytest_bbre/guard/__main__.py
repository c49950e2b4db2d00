"""Knows how a guardian becomes a process of its own: detached, with its task read from a pipe. Then it guards.
Must not know what guarding is. Run as a file, with `-I -S`: it sees the standard library and this package alone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import partial
from typing import Any, Final

LONGEST: Final = 64 * 1024  # bytes of a task
PROTOCOL: Final = 1  # of the task's fields


def main() -> int:
    """Reads the task, detaches, answers when it guards, and guards."""
    if "pytest_bbre" not in sys.modules:  # the package's folder comes last: nothing in it hides the standard library
        sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    try:
        task = read_task(sys.stdin.fileno())
    except ValueError as error:
        answer(1, {"error": f"its task can't be read: {error}"})
        return 2
    if hasattr(os, "fork") and os.fork():
        os._exit(0)  # whoever started it has no child that would have to be waited for
    _detach()
    status = _guard(task)
    return status


def read_task(source: int) -> dict[str, Any]:
    """One line of JSON, and then the end.

    Raises:
        ValueError: it is something else. The message holds nothing of it.
    """
    data = b""
    while more := os.read(source, LONGEST):
        data += more
        if len(data) > LONGEST:
            raise ValueError("it is too long")
    try:
        task = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("it is no JSON") from None
    if not isinstance(task, dict) or task.get("protocol") != PROTOCOL:
        raise ValueError("it is of another version")
    fields = {"path": str, "account": str, "base_url": str, "api_key": str, "times": list}
    if any(not isinstance(task.get(name), kind) for name, kind in fields.items()):
        raise ValueError("a field is missing")
    return task


def answer(target: int, words: dict[str, Any]) -> None:
    """One line for whoever started it; who has ended meanwhile hears nothing."""
    try:
        os.write(target, json.dumps(words).encode() + b"\n")
    except OSError:
        return


def _detach() -> None:
    os.chdir("/")
    os.umask(0o077)
    for name in ("SIGINT", "SIGHUP", "SIGPIPE", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTSTP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    try:
        with open("/proc/self/comm", "w") as file:  # what `ps` and `top` show in short
            file.write("bbre-guardian")
    except OSError:
        return


def _silence() -> None:
    """Nobody hears this process from now on, and it holds nothing of others'."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    if nothing > 2:
        os.close(nothing)


def _guard(task: dict[str, Any]) -> int:
    from pytest_bbre._secret import Secret
    from pytest_bbre.errors import LedgerError
    from pytest_bbre.guard import owners, wake
    from pytest_bbre.guard.door import Door, Service
    from pytest_bbre.guard.guardian import Guardian
    from pytest_bbre.guard.ledger import SqliteLedger
    from pytest_bbre.guard.log import Log, path_of
    from pytest_bbre.guard.reaper import Reaper

    service = Service(task["base_url"], Secret(task.pop("api_key")), *task["times"])
    folder, account, me = os.path.dirname(task["path"]), task["account"], str(owners.here())
    log = Log(path_of(folder, account), str(service.api_key))

    try:
        ledger = SqliteLedger(task["path"], log)
        reaper = Reaper(ledger, account, Door(service), me, wake=partial(wake.ring_owner, folder))
        guardian = Guardian(ledger, folder, account, me, reaper, log)
        if not guardian.claim():
            answer(1, {"serving": False})
            return 0
    except LedgerError as error:
        log(f"it did not start: {error}")
        answer(1, {"error": str(error)})
        return 1
    signal.signal(signal.SIGTERM, guardian.stop)
    log(f"guards {service.base_url}")
    answer(1, {"serving": True})
    _silence()
    try:
        guardian.run()
    except Exception as error:  # told without its frames: they hold the key
        log(f"it failed: {type(error).__name__}")
        return 1
    log("nothing is left to guard" if not guardian.stopping else "it was told to stop")
    return 0


if __name__ == "__main__":
    os._exit(main())  # without the interpreter's own end: there is nothing to tidy up, and no thread to wait for
