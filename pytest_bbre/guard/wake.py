"""Knows how one process wakes another: a FIFO for each listener, in the ledger's folder. That tells nothing else.
Must not know why anybody is woken. Where there are no FIFOs a listener finds out by itself, when its wait ends.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import select
import stat
import threading
import time
from collections.abc import Collection
from typing import Final

PREFIX: Final = "bell-"
ABANDONED: Final = 60.0  # seconds: a bell that is being made, and still has no listener, has lost its maker; our choice
_READ: Final = 65536  # bytes: a full pipe, as Linux makes them
_READS: Final = 16  # at most: somebody who writes without end keeps nobody here; Linux' largest pipe is 16 times that


def bell_of(owner: str) -> str:
    """The name of the bell of a process, as `str(Owner)`; a hash, since the text may be forged."""
    return PREFIX + hashlib.blake2b(owner.encode("utf-8", "replace"), digest_size=16).hexdigest()


def guardian_bell(account: str) -> str:
    """The name of the bell of an account's guardian."""
    return bell_of(f"guardian {account}")


def ring(folder: str, name: str) -> bool:
    """Wakes whoever listens. Never blocks and never raises; False if nobody listens."""
    path = os.path.join(folder, name)
    ends: list[int] = []
    try:
        ends.append(_open(path, os.O_WRONLY))  # fails where nobody listens
        if not _is_bell(os.fstat(ends[0])):
            return False
        ends.append(_open(path, os.O_RDONLY))  # a listener who leaves just now would make of the next step a SIGPIPE
        if not os.path.samestat(*map(os.fstat, ends)):  # it has left, and another has come
            return False
        os.write(ends[0], b"!")
        return True
    except BlockingIOError:  # full: it has been rung, and not been heard yet
        return True
    except (OSError, ValueError, AttributeError):
        return False
    finally:
        for end in ends:
            os.close(end)


def ring_owner(folder: str, owner: str | None) -> None:
    """Wakes a process that waits, as `str(Owner)`, if there is one."""
    if owner is not None:
        ring(folder, bell_of(owner))


def remove_stale(folder: str, in_use: Collection[str] = ()) -> int:
    """Removes the bells at which nobody listens any more, since their processes died. Never raises.

    Args:
        folder: of the ledger.
        in_use: names of bells to leave as they are.

    Returns:
        How many.
    """
    removed = 0
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if name.startswith(PREFIX) and name not in in_use and _is_stale(os.path.join(folder, name)):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(folder, name))
                    removed += 1
    return removed


def _is_stale(path: str) -> bool:
    """A bell gets its name when its listener is there already; only one that is being made may have none yet."""
    try:
        found = os.lstat(path)
        if not _is_bell(found) or ("." in os.path.basename(path) and time.time() - found.st_ctime < ABANDONED):
            return False
        os.close(_open(path, os.O_WRONLY))
    except OSError as error:
        return error.errno == errno.ENXIO
    except AttributeError:
        pass
    return False


def _is_bell(found: os.stat_result) -> bool:
    return stat.S_ISFIFO(found.st_mode) and found.st_uid == os.geteuid()


def _open(path: str, way: int) -> int:
    return os.open(path, way | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY)


class Bell:
    """Where a process listens. Many threads may `wait` at once; or one polls `fileno` by itself, and drains it.

    A bell of the same name that is made later takes its place.

    Args:
        folder: of the ledger.
        name: from `bell_of` or `guardian_bell`.

    Attributes:
        count: how often it was rung or poked, as far as it was heard.
    """

    def __init__(self, folder: str, name: str) -> None:
        self._path = os.path.join(folder, name)
        self._pid = os.getpid()
        self._news = threading.Condition()
        self._listening = False
        self._ends = self._make()
        self.count = 0

    def _make(self) -> tuple[int, int] | None:
        """Keeps an end for writing as well, or the reading end would be at its end whenever nobody rings."""
        new = f"{self._path}.{os.urandom(8).hex()}"
        ends: list[int] = []
        try:
            os.mkfifo(new, 0o600)
            os.chmod(new, 0o600)  # whatever the umask is
            ends += [_open(new, os.O_RDONLY), _open(new, os.O_WRONLY)]
            os.rename(new, self._path)  # now, with a listener
            return ends[0], ends[1]
        except (OSError, AttributeError):  # no FIFOs here: every wait takes its whole time
            for end in ends:
                os.close(end)
            with contextlib.suppress(OSError):
                os.unlink(new)
            return None

    def fileno(self) -> int | None:
        """For poll; None where there are no FIFOs, or after `close`."""
        return self._ends[0] if self._ends else None

    def drain(self) -> None:
        """Forgets what was rung; for who uses `fileno`."""
        with contextlib.suppress(OSError):
            for _ in range(_READS):
                if self._ends is None or len(os.read(self._ends[0], _READ)) < _READ:
                    return

    def wait(self, heard: int, timeout: float) -> int:
        """Waits until `count` is another number than `heard`, or the time is up.

        Args:
            heard: the count when the waiting one last looked around.
            timeout: seconds.

        Returns:
            The count now.
        """
        with self._news:
            self._listen()
            self._news.wait_for(lambda: self.count != heard, max(timeout, 0.0))
            return self.count

    def poke(self) -> None:
        """Wakes the threads of this process that wait here."""
        with self._news:
            self.count += 1
            self._news.notify_all()

    def _listen(self) -> None:
        if self._listening or self._ends is None:
            return
        thread = threading.Thread(target=self._hear, args=self._ends, name="bbre-bell", daemon=True)
        with contextlib.suppress(RuntimeError):  # no thread can be started, as the interpreter is ending
            thread.start()
            self._listening = True

    def _hear(self, reading: int, writing: int) -> None:
        """From its start on, both ends are this thread's to close, so that nobody closes them while it looks."""
        poll = select.poll()  # select takes no descriptor above 1023
        poll.register(reading, select.POLLIN)
        while self._ends is not None:
            poll.poll()
            with contextlib.suppress(OSError):
                os.read(reading, _READ)
            self.poke()
        os.close(reading)
        os.close(writing)

    def close(self) -> None:
        """Nobody listens any more: the FIFO goes. Those who still wait do so until their time is up."""
        if self._pid != os.getpid():
            self.after_fork()
            return
        with self._news:
            ends, self._ends = self._ends, None
        if ends is None:
            return
        with contextlib.suppress(OSError):
            if os.path.samestat(os.lstat(self._path), os.fstat(ends[0])):  # else another has taken its place
                os.unlink(self._path)
        if self._listening:
            with contextlib.suppress(OSError):
                os.write(ends[1], b"!")  # the thread sees that it is over; if the pipe is full it will, too
        else:
            os.close(ends[0])
            os.close(ends[1])

    def after_fork(self) -> None:
        """In a fork's child: the bell is the parent's. Its thread is not here, and a lock may be held for ever."""
        self._news = threading.Condition()
        self._listening = False
        ends, self._ends = self._ends, None
        for end in ends or ():
            os.close(end)
