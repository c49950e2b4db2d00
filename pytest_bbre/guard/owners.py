"""Knows whether the process that holds a lease is still alive: that very process, not another with its number.
Must not know leases or what is done about the dead. In doubt it says "unknown", and nobody reaps.

Linux is read from /proc and pidfd; other systems are asked through psutil (by design only, see the README).
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from functools import lru_cache
from typing import Any, Final, NamedTuple

ALIVE: Final = "alive"
DEAD: Final = "dead"
UNKNOWN: Final = "unknown"

_LONGEST: Final = 1000  # characters of an owner; a longer text is none of ours
_NEVER: Final = 2**62  # ticks: a start that no process has
_ENDED: Final = (b"Z", b"X", b"x")  # states in /proc of what has ended and is still listed


class Owner(NamedTuple):
    """A process, told apart from every other one of any machine at any time. A program that it becomes by exec is
    the same process; the core closes its sessions before that.

    Attributes:
        host: the machine: its id and its name.
        boot: which boot of it; empty on systems that don't tell.
        namespace: which namespaces of pids and of time; a pid and a start mean nothing in another one.
        pid: its number.
        started: when it started, in raw ticks since the boot: a number that comes back has another. -1 if unknown.
    """

    host: str
    boot: str
    namespace: str
    pid: int
    started: int

    def __str__(self) -> str:
        return "/".join(str(part).replace("/", "_") for part in self)

    @classmethod
    def parse(cls, text: str) -> Owner:
        """Reads what `str` wrote.

        Raises:
            ValueError: it is something else.
        """
        if len(text) > _LONGEST:
            raise ValueError("too long")
        host, boot, namespace, pid, started = text.split("/")
        if not (pid.isascii() and pid.isdigit() and 0 < int(pid) < 2**31):
            raise ValueError("no process has such a number")
        return cls(host, boot, namespace, int(pid), int(started))


class Judgement(NamedTuple):
    """ALIVE, DEAD or UNKNOWN, and why, in words for people."""

    state: str
    reason: str


def boot_id() -> str:
    """Names this boot of this machine."""
    return _machine()[1]


def here() -> Owner:
    """This process."""
    return _here(os.getpid())


@lru_cache(maxsize=1)
def _here(pid: int) -> Owner:
    started = _started(pid)
    host, boot, namespaces = (part.replace("/", "_") for part in _machine())
    return Owner(host, boot, namespaces, pid, -1 if started is None else started)


def nobody() -> str:
    """This process as one that has ended, as `str(Owner)`: the heir of what it leaves when it becomes another program,
    which has its number and its start.
    """
    return str(here()._replace(started=_NEVER))


def judge(owner: str) -> Judgement:
    """Whether a process, as `str(Owner)`, is alive. Only what is proven dead is DEAD."""
    try:
        one = Owner.parse(owner)
    except ValueError:
        return Judgement(UNKNOWN, "its owner is not written as owners are")
    mine = here()
    if one.host != mine.host:
        return Judgement(UNKNOWN, f"its owner is on another machine, {one.host}")
    if _is_linux() and not (one.boot and mine.boot):
        return Judgement(UNKNOWN, "this system does not tell when it was started")
    if one.boot != mine.boot:
        return Judgement(DEAD, "the machine has been started anew since")
    if one.namespace != mine.namespace:
        return Judgement(UNKNOWN, f"its owner is in another container, as process {one.pid} there")
    if one.started < 0:
        return Judgement(UNKNOWN, "its owner could not tell when it started")
    return _judge_by_proc(one) if _is_linux() else _judge_by_psutil(one)


def watch(owner: str) -> int | None:
    """A file descriptor that becomes readable when the process ends; None where there can be none, or it has ended.

    The caller closes it.
    """
    if not hasattr(os, "pidfd_open") or judge(owner).state != ALIVE:
        return None
    try:
        watched = os.pidfd_open(Owner.parse(owner).pid)
    except OSError:
        return None
    if judge(owner).state == ALIVE:  # else the number may have been given to another in between
        return watched
    os.close(watched)
    return None


# Linux.


def _judge_by_proc(one: Owner) -> Judgement:
    try:
        fields = _stat(f"/proc/{one.pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return _judge_missing(one.pid)
    except (OSError, ValueError, IndexError) as error:
        return Judgement(UNKNOWN, f"process {one.pid} can't be looked at: {error}")
    if int(fields[19]) != one.started:
        return Judgement(DEAD, f"process {one.pid} is another one by now")
    if fields[0] in _ENDED and not _has_living_threads(one.pid):
        return Judgement(DEAD, f"process {one.pid} has ended, and its parent has not heard of it yet")
    return Judgement(ALIVE, f"process {one.pid} is running")


def _judge_missing(pid: int) -> Judgement:
    """/proc may hide a process, or not be there at all: the kernel is asked as well."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return Judgement(DEAD, f"there is no process {pid} any more")
    except OSError:
        pass
    return Judgement(UNKNOWN, f"process {pid} can't be looked at")


def _has_living_threads(pid: int) -> bool:
    """A process whose first thread has ended looks like one that has ended, while its other threads run."""
    try:
        return any(
            _stat(f"/proc/{pid}/task/{thread}/stat")[0] not in _ENDED for thread in os.listdir(f"/proc/{pid}/task")
        )
    except (OSError, ValueError, IndexError):
        return False


def _stat(path: str) -> list[bytes]:
    """The fields after the program's name, which may hold spaces and parentheses itself; the state is the first."""
    with open(path, "rb") as file:
        stat = file.read()
    return stat[stat.rindex(b")") + 2 :].split()


def _started(pid: int) -> int | None:
    try:
        return int(_stat(f"/proc/{pid}/stat")[19]) if _is_linux() else _created(pid)
    except Exception:  # psutil's own errors among them
        return None


def _is_linux() -> bool:
    return sys.platform.startswith("linux")


@lru_cache(maxsize=1)
def _machine() -> tuple[str, str, str]:
    host = f"{_text('/etc/machine-id')}-{socket.gethostname() if not hasattr(os, 'uname') else os.uname().nodename}"
    return host, _text("/proc/sys/kernel/random/boot_id"), _namespaces()


def _namespaces() -> str:
    found = []
    for kind in ("pid", "time"):  # a kernel may know none of time
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/ns/{kind}"))
    return " ".join(found) or sys.platform


def _text(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


# Other systems.


def _judge_by_psutil(one: Owner) -> Judgement:
    psutil = _psutil()
    try:
        if _created(one.pid) != one.started:
            return Judgement(DEAD, f"process {one.pid} is another one by now")
        if psutil.Process(one.pid).status() == psutil.STATUS_ZOMBIE:
            return Judgement(DEAD, f"process {one.pid} has ended, and its parent has not heard of it yet")
    except psutil.NoSuchProcess:
        return Judgement(DEAD, f"there is no process {one.pid} any more")
    except psutil.Error as error:
        return Judgement(UNKNOWN, f"process {one.pid} can't be looked at: {error}")
    return Judgement(ALIVE, f"process {one.pid} is running")


def _created(pid: int) -> int:
    """When a process was started, in microseconds: the kernel noted it once, so a clock that is set changes nothing."""
    return int(_psutil().Process(pid).create_time() * 1_000_000)


def _psutil() -> Any:
    import psutil  # type: ignore[import-untyped]  # never on Linux, whose guardian has the standard library alone

    return psutil
