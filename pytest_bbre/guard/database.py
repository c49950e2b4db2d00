"""Knows SQLite as a file that processes share: opened and checked, tried again, set aside if damaged, left at a fork.
Must not know what is in the tables: their SQL is all in ledger. Here is only what SQLite itself is told.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable
from typing import Final, TypeVar

from ..errors import LedgerError
from . import files

T = TypeVar("T")
Body = Callable[[sqlite3.Connection], T]

BUSY: Final = 30.0  # seconds a transaction waits for others; each takes well under a millisecond
SLICE: Final = 1.0  # seconds of it that SQLite waits in one go: Python sees a signal only in between
FORK_WAIT: Final = 2.0  # seconds a fork waits for the transaction of another thread
LARGEST: Final = 64 * 1024 * 1024  # bytes of a file that can be a ledger's: a thousand leases are under one; our choice

# SQLite's own words (sqlite3ErrStr), since Python 3.10 does not tell its error codes.
_BUSY: Final = ("is locked", "locking protocol")
_DAMAGED: Final = ("malformed", "not a database", "unsupported file format", "no such table", "no such column")
_UNUSABLE: Final = {
    "is full": "the disk is full",
    "readonly": "it is read-only",
    "disk I/O error": "the disk failed",
    "unable to open": "it can't be opened",
    "WAL": "its file system can't share it between processes",
}


class DamagedError(sqlite3.DatabaseError):
    """The file is no ledger, or not any more."""


class Database:
    """One file, as this process and its forks use it. Safe to use from many threads.

    Args:
        path: an absolute one; made if it is missing.
        tell: shows a line to the person who runs this program.
        prepare: brings a file that was just opened up to date, in a transaction, and gives the name that it was made
            with.

    Attributes:
        generation: goes up whenever the file is another one than before: set aside, deleted and made anew, or put in
            its place by somebody, such as an older copy of it.
        opened: how often the file was opened.
    """

    def __init__(self, path: str, tell: Callable[[str], None], prepare: Body[bytes]) -> None:
        self.path = path
        self.folder = os.path.dirname(path)
        self.generation = 0
        self.opened = 0
        self._left = False
        self._name: bytes | None = None
        self._identity: files.Identity | None = None
        self._tell = tell
        self._lines: list[str] = []
        self._prepare = prepare
        self._parts: dict[int, _Part] = {}  # by process: that of a fork's parent is neither used nor closed, ever
        _watch_forks(self)

    def write(self, body: Body[T]) -> T:
        """Runs a transaction. It may be run again, from its beginning, if it could not be finished.

        Raises:
            LedgerError: it can't be done; nothing of it was.
        """
        return self._run(lambda db: _transaction(db, body))

    def read(self, body: Body[T]) -> T:
        """Runs one statement that changes nothing.

        Raises:
            LedgerError: it can't be done.
        """
        return self._run(body)

    def close(self) -> None:
        """Lets go of the file. The next call opens it again."""
        part = self._part()
        with part.lock:
            part.drop()

    def leave(self) -> None:
        """As `close`, for good: whoever comes later opens the file for one call, and closes it again."""
        self._left = True
        self.close()

    def _run(self, body: Body[T]) -> T:
        part = self._part()
        try:
            with part.lock:
                try:
                    return self._insist(part, body)
                finally:
                    if self._left:
                        part.drop()
        finally:
            while self._lines:  # without the lock: whoever is told may ask the ledger
                self._tell(self._lines.pop(0))

    def _insist(self, part: _Part, body: Body[T]) -> T:
        until = time.monotonic() + BUSY
        mended = False
        while True:
            try:
                return body(self._connection(part))
            except sqlite3.Error as error:
                if _says(error, _BUSY) and time.monotonic() < until:
                    time.sleep(0.001)
                    continue
                damaged = part.identity
                part.drop()  # whatever state SQLite is in now, the next call begins afresh
                if mended or not _is_damage(error):
                    raise _translated(error, self.path) from error
                mended = True
                self._replace(damaged, error)
            except (ValueError, OverflowError) as error:  # what SQLite can't hold, or what nobody here has written
                raise LedgerError(f"The ledger {self.path} can't take or give a value: {error}.") from error

    # Opening.

    def _part(self) -> _Part:
        pid = os.getpid()
        return self._parts.get(pid) or self._parts.setdefault(pid, _Part())

    def _connection(self, part: _Part) -> sqlite3.Connection:
        if part.db is not None and files.identity(self.path) == part.identity:
            return part.db
        part.drop()
        files.secure_folder(self.folder)
        with files.opening(self.folder, BUSY):
            try:
                part.db, name = self._open(part)
            except DamagedError as error:
                self._set_aside(error)
                part.db, name = self._open(part)
        self.opened += 1
        known = self._name, self._identity
        self._name, self._identity = name, part.identity
        if known not in ((None, None), (self._name, self._identity)):
            self.generation += 1
        return part.db

    def _open(self, part: _Part) -> tuple[sqlite3.Connection, bytes]:
        files.secure_database(self.path)
        part.identity = files.identity(self.path)
        db = sqlite3.connect(self.path, timeout=SLICE, isolation_level=None, check_same_thread=False)
        try:
            _set_up(db, self.path)
            return db, _transaction(db, self._prepare)
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):
                db.close()
            if isinstance(error, sqlite3.Error) and _is_damage(error):
                raise DamagedError(str(error)) from error
            raise

    def _replace(self, damaged: files.Identity | None, error: sqlite3.Error) -> None:
        """Sets the damaged file aside, unless another process has done so."""
        with files.opening(self.folder, BUSY):
            if files.identity(self.path) == damaged:
                self._set_aside(error)

    def _set_aside(self, error: sqlite3.Error) -> None:
        name = files.set_aside(self.path)
        self._lines.append(
            f"bbre: the ledger of sessions, {self.path}, was damaged ({error}). It is kept as {name}, and a new one "
            "was begun. `bbre sessions` shows sessions that the new one does not know of."
        )


class _Part:
    """What belongs to one process alone."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.db: sqlite3.Connection | None = None
        self.identity: files.Identity | None = None

    def drop(self) -> None:
        """Closes the connection, if there is one."""
        db, self.db = self.db, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()


def _transaction(db: sqlite3.Connection, body: Body[T]) -> T:
    try:
        db.execute("BEGIN IMMEDIATE")
        result = body(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
        raise
    return result


def _set_up(db: sqlite3.Connection, path: str) -> None:
    if os.stat(path).st_size > LARGEST:
        raise DamagedError(f"it is larger than {LARGEST >> 20} MiB")
    db.text_factory = _text
    if db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise sqlite3.OperationalError("no WAL")
    db.execute("PRAGMA synchronous = NORMAL")  # in WAL mode: never damaged, at most the last moments are lost
    db.execute("PRAGMA trusted_schema = OFF")
    found = db.execute("PRAGMA quick_check(1)").fetchone()[0]  # 0.2 ms for a ledger in use
    if found != "ok":
        raise DamagedError(f"malformed: {found}")


def _text(found: bytes) -> str:
    """Text that is not UTF-8 is nobody's of ours, and must not keep the rest from being read."""
    return found.decode("utf-8", "replace")


def _says(error: sqlite3.Error, words: tuple[str, ...]) -> bool:
    return any(word in str(error) for word in words)


def _is_damage(error: sqlite3.Error) -> bool:
    return isinstance(error, DamagedError) or _says(error, _DAMAGED)


def _translated(error: sqlite3.Error, path: str) -> LedgerError:
    if _says(error, _BUSY):
        return LedgerError(f"Other processes have kept the ledger {path} busy for {BUSY:g} s.")
    for word, reason in _UNUSABLE.items():
        if word in str(error):
            return files.UnusableError(f"The ledger {path} can't be used: {reason}.")
    return LedgerError(f"The ledger {path} failed: {error}.")


# Forks. SQLite's locks belong to a process, and what it remembers of them would be wrong in a child, even for a
# connection of the child's own to the same file. So every connection is closed before a fork, and opened when needed.

_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_locked: list[threading.Lock] = []
_watching = False
_registering = threading.Lock()


def _watch_forks(database: Database) -> None:
    global _watching
    with _registering:
        _databases.add(database)
        if not _watching and hasattr(os, "register_at_fork"):
            _watching = True
            os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)


def _before_fork() -> None:
    _registering.acquire()
    for database in list(_databases):
        part = database._part()
        if part.lock.acquire(timeout=FORK_WAIT):
            _locked.append(part.lock)
            part.drop()


def _after_fork() -> None:
    while _locked:
        _locked.pop().release()
    _registering.release()


def _after_fork_in_child() -> None:
    _locked.clear()
    _registering.release()
