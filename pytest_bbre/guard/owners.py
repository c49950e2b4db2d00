"""Knows whether the process that holds a lease is still alive: that very process, not another with its number.
Must not know leases or what is done about the dead. In doubt it says "unknown", and nobody reaps.

Linux is read from /proc and pidfd; other systems are asked through psutil.
"""

from __future__ import annotations

import os
import platform
import sys
from functools import lru_cache
from typing import Final, NamedTuple

ALIVE: Final = "alive"
DEAD: Final = "dead"
UNKNOWN: Final = "unknown"


class Owner(NamedTuple):
    """A process, told apart from every other one of any machine at any time.

    Attributes:
        host: the machine: its id and its name.
        boot: which boot of it.
        namespace: which pid namespace; a pid means nothing in another one.
        pid: its number.
        started: when it started, in raw ticks since the boot: a number that comes back has another.
    """

    host: str
    boot: str
    namespace: str
    pid: int
    started: int

    def __str__(self) -> str:
        return "/".join(map(str, self))

    @classmethod
    def parse(cls, text: str) -> Owner:
        """Reads what `str` wrote.

        Raises:
            ValueError: it is something else.
        """
        host, boot, namespace, pid, started = text.split("/")
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
    return Owner(*_machine(), pid, -1 if started is None else started)


def judge(owner: str) -> Judgement:
    """Whether a process, as `str(Owner)`, is alive. Only what is proven dead is DEAD."""
    try:
        one = Owner.parse(owner)
    except ValueError:
        return Judgement(UNKNOWN, "its owner is not written as owners are")
    host, boot, namespace = _machine()
    if one.host != host:
        return Judgement(UNKNOWN, f"its owner is on another machine, {one.host}")
    if one.boot != boot:
        return Judgement(DEAD, "the machine has been started anew since")
    if one.namespace != namespace:
        return Judgement(UNKNOWN, f"its owner is in another container, as process {one.pid} there")
    if one.started < 0:
        return Judgement(UNKNOWN, "its owner could not tell when it started")
    return _judge_here(one)


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


def _judge_here(one: Owner) -> Judgement:
    try:
        with open(f"/proc/{one.pid}/stat", "rb") as file:
            stat = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return Judgement(DEAD, f"there is no process {one.pid} any more")
    except OSError as error:
        return Judgement(UNKNOWN, f"process {one.pid} can't be looked at: {error.strerror}")
    fields = stat[stat.rindex(b")") + 2 :].split()
    if int(fields[19]) != one.started:
        return Judgement(DEAD, f"process {one.pid} is another one by now")
    if fields[0] in (b"Z", b"X", b"x"):
        return Judgement(DEAD, f"process {one.pid} has ended, and its parent has not heard of it yet")
    return Judgement(ALIVE, f"process {one.pid} is running")


def _started(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
        return int(stat[stat.rindex(b")") + 2 :].split()[19])
    except (OSError, ValueError, IndexError):
        return None


@lru_cache(maxsize=1)
def _machine() -> tuple[str, str, str]:
    return f"{_text('/etc/machine-id')}-{platform.node()}", _text("/proc/sys/kernel/random/boot_id"), _namespace()


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid").replace("/", "")
    except OSError:
        return sys.platform


def _text(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""
