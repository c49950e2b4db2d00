"""Knows the ledger's files: who may have made them, how they are made, set aside and told apart; and its salt.
Must not know what is in the ledger, nor which folder is chosen (place). There is no SQL here.

The database file is never opened here: closing it would drop the locks that SQLite holds on it in this process.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from collections.abc import Iterator
from typing import Final

from ..errors import LedgerError

if sys.platform != "win32":
    import fcntl

DATABASE: Final = "ledger.db"
LOCK: Final = "ledger.lock"  # held while the database is opened, made or set aside; it is never removed
SALT: Final = "salt"
SALT_SIZE: Final = 16  # bytes; our choice, as a UUID has
WRITABLE: Final = stat.S_IWGRP | stat.S_IWOTH

Identity = tuple[int, int]  # device and inode: whether a path still leads to the same file


class RefusedError(LedgerError):
    """A file or folder may be under somebody else's control. There is no way round it."""


class UnusableError(LedgerError):
    """No ledger can be kept at this place, by no fault of anybody's; another place may do."""


def secure_folder(folder: str) -> None:
    """Makes the folder, for its user alone, or checks the one that is there.

    Raises:
        RefusedError: somebody else could write to it.
        UnusableError: it can't be made.
    """
    with _unusable(folder):
        try:
            found = os.lstat(folder)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(folder), exist_ok=True)
            with contextlib.suppress(FileExistsError):  # another process was faster
                os.mkdir(folder, 0o700)
                os.chmod(folder, 0o700)  # whatever the umask is
            found = os.lstat(folder)
        _check(folder, found, stat.S_ISDIR(found.st_mode), "folder")


def secure_database(path: str) -> None:
    """Makes an empty database file, for its user alone, or checks the one that is there.

    Raises:
        RefusedError: somebody else could write to it.
        UnusableError: it can't be made.
    """
    with _unusable(path):
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            _set_aside_logs(path, _free_name(os.path.dirname(path)))  # SQLite would play them into the new file
            _make_empty(path)
            found = os.lstat(path)
        _check(path, found, stat.S_ISREG(found.st_mode), "file")
        if stat.S_IMODE(found.st_mode) & 0o077:
            os.chmod(path, 0o600)


def is_mine(folder: str) -> bool:
    """Whether a folder is there, and nobody else can write to it."""
    try:
        secure = os.lstat(folder)
        _check(folder, secure, stat.S_ISDIR(secure.st_mode), "folder")
    except (OSError, LedgerError):
        return False
    return True


def identity(path: str) -> Identity | None:
    """Tells the file at a path from every other one that exists; None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def set_aside(path: str) -> str:
    """Renames a damaged database and its logs. Only under `opening`.

    Returns:
        Where it is now.

    Raises:
        UnusableError: it can't be renamed.
    """
    name = _free_name(os.path.dirname(path))
    with _unusable(path):
        os.rename(path, name)  # first: whoever dies now leaves logs without a database, which are never played
        _set_aside_logs(path, name)
    return name


@contextlib.contextmanager
def opening(folder: str, limit: float) -> Iterator[None]:
    """Held while the database is opened, made or set aside, so that no two processes do so at once.

    Args:
        folder: of the ledger.
        limit: seconds to wait for others.

    Raises:
        LedgerError: another process has held it for too long.
        UnusableError: there can be no such file.
    """
    if sys.platform == "win32":  # an open file can't be renamed there, so that nobody sets one aside under others
        yield
        return
    path = os.path.join(folder, LOCK)
    with _unusable(path):
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        os.fchmod(lock, 0o600)  # whatever the umask is
    try:
        _lock(lock, path, limit)
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # closing is not enough: a child that is forked now has a copy
    finally:
        os.close(lock)


def read_salt(folder: str, known: bytes | None) -> bytes:
    """The salt of a folder. It is a file of its own, so that accounts keep their names when the database is lost.

    Args:
        folder: of the ledger.
        known: the salt this process has used so far, which is put there if there is none.

    Raises:
        UnusableError: it can't be read or made.
    """
    path = os.path.join(folder, SALT)
    with _unusable(path):
        salt = _read(path)
        if salt is None:
            made = os.path.join(folder, f"{SALT}.{os.getpid()}-{os.urandom(4).hex()}")
            _write(made, known or os.urandom(SALT_SIZE))
            try:
                with contextlib.suppress(FileExistsError):  # another process was faster
                    os.link(made, path)  # in one piece, and never over another's
            finally:
                os.unlink(made)
            salt = _read(path)
    if salt is None or len(salt) != SALT_SIZE:
        raise UnusableError(f"{path} is not the {SALT_SIZE} bytes it was made with. Remove it when no test runs.")
    return salt


def has_salt(folder: str) -> bool:
    """Whether there was a ledger in the folder before: the salt outlives it."""
    return os.path.lexists(os.path.join(folder, SALT))


@contextlib.contextmanager
def _unusable(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnusableError(f"The ledger can't be kept at {path}: {error.strerror or error}.") from error


def _check(path: str, found: os.stat_result, is_kind: bool, kind: str) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise RefusedError(f"{path} is a link, and may lead to what others can write to. Put a real {kind} there.")
    if not is_kind:
        raise RefusedError(f"{path} is not a {kind}. Move it away.")
    if hasattr(os, "geteuid"):
        if found.st_uid != os.geteuid():
            raise RefusedError(f"{path} belongs to another user (uid {found.st_uid}, and this is {os.geteuid()}).")
        if found.st_mode & WRITABLE:
            raise RefusedError(f"{path} can be written by others. Run: chmod go-w '{path}'")


def _make_empty(path: str) -> None:
    with contextlib.suppress(FileExistsError):
        if hasattr(os, "mknod") and os.path.isdir("/proc/self"):  # elsewhere it is for root alone
            os.mknod(path, 0o600 | stat.S_IFREG)
        else:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        os.chmod(path, 0o600)  # whatever the umask is


def _free_name(folder: str) -> str:
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    number = 1
    while any(os.path.lexists(os.path.join(folder, f"ledger.damaged-{when}-{number}{log}")) for log in ("", "-wal")):
        number += 1
    return os.path.join(folder, f"ledger.damaged-{when}-{number}")


def _set_aside_logs(path: str, name: str) -> None:
    for log in ("-wal", "-shm", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            os.rename(path + log, name + log)


def _lock(lock: int, path: str, limit: float) -> None:
    until = time.monotonic() + limit
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                text = f"Another process has been opening the ledger for {limit:g} s, and holds {path}."
                raise LedgerError(text) from None
            time.sleep(0.005)  # it is held for some milliseconds, once for each process
        except OSError as error:
            raise UnusableError(f"{path} can't be locked: {error.strerror}.") from error


def _read(path: str) -> bytes | None:
    try:
        opened = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        return None
    try:
        return os.read(opened, SALT_SIZE + 1)
    finally:
        os.close(opened)


def _write(path: str, content: bytes) -> None:
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(opened, content)
        if hasattr(os, "fchmod"):
            os.fchmod(opened, 0o600)  # whatever the umask is
    finally:
        os.close(opened)
