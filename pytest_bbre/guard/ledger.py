"""Knows SQL: how leases, tickets, processes and guardians are kept in one SQLite file. All SQL on them is here.
Must not know where the file lies (place), how it is opened or mended (database), nor judge owners.

Columns are always named, and changes of the schema only add: an older version works on a newer file.
"""

from __future__ import annotations

import functools
import math
import os
import sqlite3
from collections.abc import Callable, Collection
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from .._facts import MAX_TIMEOUT
from . import files
from .database import DamagedError, Database
from .leases import (
    CLOSING,
    FAILED,
    OPEN,
    OPENING,
    Enrolled,
    Eviction,
    Lease,
    Ledger,
    Moment,
    Ticket,
    Waiting,
    Wanted,
    moment,
)
from .owners import boot_id
from .rows import (
    EVICTION,
    LEASE,
    PROCESS,
    TICKET,
    TICKET_AND_SLOTS,
    from_lease,
    to_enrolled,
    to_eviction,
    to_leases,
    to_tickets,
    written,
)

P = ParamSpec("P")
R = TypeVar("R")

# One script per version of the schema. A file of version n gets those after it. Never change one that was released.
MIGRATIONS: Final = (
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL);
    CREATE TABLE processes (
        account TEXT NOT NULL, owner TEXT NOT NULL, label TEXT NOT NULL,
        wall REAL NOT NULL, steady REAL NOT NULL, boot TEXT NOT NULL,
        PRIMARY KEY (account, owner)
    );
    CREATE TABLE leases (
        key TEXT PRIMARY KEY, number INTEGER NOT NULL, account TEXT NOT NULL, owner TEXT NOT NULL, actor TEXT NOT NULL,
        mode TEXT NOT NULL, sensibility TEXT NOT NULL, timeout REAL NOT NULL, patience REAL NOT NULL,
        place TEXT NOT NULL, exclusive INTEGER NOT NULL,
        state TEXT NOT NULL, session_id TEXT, engine TEXT,
        boot TEXT NOT NULL, opened_wall REAL NOT NULL, opened_steady REAL NOT NULL,
        used_wall REAL NOT NULL, used_steady REAL NOT NULL,
        reaper TEXT, tries INTEGER NOT NULL DEFAULT 0, tried_wall REAL, tried_steady REAL, tried_boot TEXT, reason TEXT
    );
    CREATE INDEX leases_of_account ON leases (account, number);
    CREATE TABLE guardians (account TEXT PRIMARY KEY, owner TEXT NOT NULL);
    """,
    """
    ALTER TABLE leases ADD COLUMN scoped INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE leases ADD COLUMN evictable INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE leases ADD COLUMN busy INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE leases ADD COLUMN evicted_by TEXT;
    CREATE TABLE tickets (
        number INTEGER PRIMARY KEY AUTOINCREMENT, account TEXT NOT NULL, owner TEXT NOT NULL, actor TEXT NOT NULL,
        place TEXT NOT NULL, wall REAL NOT NULL, steady REAL NOT NULL, boot TEXT NOT NULL, slots INTEGER NOT NULL
    );
    CREATE INDEX tickets_of_account ON tickets (account, number);
    CREATE TABLE pauses (account TEXT PRIMARY KEY, steady REAL NOT NULL, boot TEXT NOT NULL);
    CREATE TABLE evictions (
        key TEXT PRIMARY KEY, session_id TEXT NOT NULL, owner TEXT NOT NULL, account TEXT NOT NULL, by TEXT NOT NULL,
        wall REAL NOT NULL, steady REAL NOT NULL, boot TEXT NOT NULL
    );
    """,
    """
    ALTER TABLE guardians ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
    """,
)

NO_LIMIT: Final = 2**31  # slots, of a ticket that has not told its limit yet

# What this version uses. A file that says it has the version, and has not these, is not ours.
_COLUMNS: Final = {
    "meta": "name, value",
    "processes": PROCESS,
    "leases": LEASE,
    "guardians": "account, owner, version",
    "tickets": TICKET_AND_SLOTS,
    "pauses": "account, steady, boot",
    "evictions": f"key, owner, account, {EVICTION}",
}


def _writes(
    method: Callable[Concatenate[SqliteLedger, sqlite3.Connection, P], R],
) -> Callable[Concatenate[SqliteLedger, P], R]:
    """A method that is one transaction. It is run again from its beginning, if SQLite asks for that."""

    def run(self: SqliteLedger, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._database.write(lambda db: method(self, db, *args, **kwargs))

    functools.update_wrapper(run, method)
    return run


class SqliteLedger(Ledger):
    """The ledger of a user's machine.

    Args:
        path: the file, by an absolute path; made if it is missing.
        tell: shows a line to the person who runs this program, when a damaged ledger was set aside.

    Raises:
        LedgerError: it can't be opened.
    """

    def __init__(self, path: str, tell: Callable[[str], None] = lambda line: None) -> None:
        self.path = path
        self.folder = os.path.dirname(path)
        self._known_salt: bytes | None = None
        self._database = Database(path, tell, self._prepare)
        self.changes()  # opens it

    @property
    def generation(self) -> int:
        """As the interface says."""
        return self._database.generation

    def _prepare(self, db: sqlite3.Connection) -> bytes:
        name, self.made, self.follows = _prepare(db, after=self._known_salt is not None or files.has_salt(self.folder))
        self.salt = self._known_salt = files.read_salt(self.folder, self._known_salt)
        return name

    def _read(self, sql: str, values: Any = ()) -> list[Any]:
        return self._database.read(lambda db: db.execute(sql, values).fetchall())

    def _write(self, sql: str, values: Any = ()) -> int:
        return self._database.write(lambda db: db.execute(sql, values).rowcount)

    def close(self) -> None:
        """As the interface says."""
        self._database.close()

    def leave(self) -> None:
        """As the interface says."""
        self._database.leave()

    def changes(self) -> int:
        """As the interface says."""
        version = int(self._read("PRAGMA data_version")[0][0])  # of one connection: it begins anew with each
        return self._database.opened << 32 | version

    # Processes.

    def enrol(self, account: str, owner: str, label: str, now: Moment) -> None:
        """As the interface says."""
        sql = f"INSERT OR IGNORE INTO processes ({PROCESS}) VALUES (?, ?, ?, ?, ?, ?)"
        self._write(sql, (account, owner, written(label), *now))

    @_writes
    def dismiss(self, db: sqlite3.Connection, account: str, owner: str) -> None:
        """As the interface says."""
        for table in ("processes", "tickets", "evictions"):
            db.execute(f"DELETE FROM {table} WHERE account = ? AND owner = ?", (account, owner))

    def enrolled(self, account: str | None = None) -> list[Enrolled]:
        """As the interface says."""
        sql = f"SELECT {PROCESS} FROM processes WHERE account = ? OR ? IS NULL ORDER BY wall, owner"
        return to_enrolled(self._read(sql, (account, account)))

    # Slots.

    @_writes
    def take(
        self, db: sqlite3.Connection, wanted: Wanted, limit: int, now: Moment, ticket: int | None = None
    ) -> Lease | Waiting:
        """As the interface says."""
        number = _ticket(db, wanted, limit, now, ticket)
        sql = f"SELECT {LEASE} FROM leases WHERE account = ? ORDER BY number, key"
        holders = [lease for lease in to_leases(db.execute(sql, (wanted.account,))) if lease.holds_slot(now)]
        paused = _paused(db, wanted.account, now)
        ahead = _limits_ahead(db, wanted.account, number)
        if not paused and _would_hold(len(holders), ahead) < limit:
            db.execute("DELETE FROM tickets WHERE number = ?", (number,))
            lease = Lease(os.urandom(16).hex(), number, wanted, OPENING, None, None, now, now)
            _insert(db, lease)
            return lease
        return Waiting(number, len(ahead) + 1, holders, _queue(db, wanted.account), paused)

    @_writes
    def refuse(self, db: sqlite3.Connection, key: str, pause: float, now: Moment) -> int:
        """As the interface says."""
        sql = "SELECT number, account, owner, actor, place FROM leases WHERE key = ?"
        row = db.execute(sql, (key,)).fetchone()
        if row is None:
            return -1
        db.execute("DELETE FROM leases WHERE key = ?", (key,))
        marks = "?, ?, ?, ?, ?, ?, ?, ?, ?"
        db.execute(f"INSERT OR IGNORE INTO tickets ({TICKET_AND_SLOTS}) VALUES ({marks})", (*row, *now, NO_LIMIT))
        until = now.steady + max(pause, _paused(db, row[1], now))
        sql = """INSERT INTO pauses (account, steady, boot) VALUES (?, ?, ?)
            ON CONFLICT (account) DO UPDATE SET steady = excluded.steady, boot = excluded.boot"""
        db.execute(sql, (row[1], until, now.boot))
        return int(row[0])

    @_writes
    def withdraw(self, db: sqlite3.Connection, ticket: int) -> str | None:
        """As the interface says."""
        row = db.execute("SELECT account FROM tickets WHERE number = ?", (ticket,)).fetchone()
        db.execute("DELETE FROM tickets WHERE number = ?", (ticket,))
        return _next(db, row[0]) if row else None

    def queue(self, account: str) -> list[Ticket]:
        """As the interface says."""
        return self._database.read(lambda db: _queue(db, account))

    # One lease.

    def opened(self, key: str, session_id: str, engine: str | None, timeout: float, now: Moment) -> bool:
        """As the interface says."""
        sql = f"""UPDATE leases SET state = '{OPEN}', session_id = ?, engine = ?, timeout = ?, opened_wall = ?,
            opened_steady = ?, used_wall = ?, used_steady = ?, boot = ?, reason = NULL WHERE key = ?"""
        times = (now.wall, now.steady, now.wall, now.steady, now.boot)
        life = timeout if math.isfinite(timeout) else MAX_TIMEOUT  # a service may say anything
        return self._write(sql, (session_id, engine, life, *times, key)) > 0

    @_writes
    def adopt(self, db: sqlite3.Connection, lease: Lease) -> None:
        """As the interface says."""
        db.execute("DELETE FROM leases WHERE key = ? AND reaper IS NULL", (lease.key,))
        _insert(db, lease)
        # Numbers of tickets go on after those of the earlier ledger, so that none stands for two.
        db.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'tickets'", (lease.number,))
        sql = """INSERT INTO sqlite_sequence (name, seq) SELECT 'tickets', ?
            WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'tickets')"""
        db.execute(sql, (lease.number,))

    def touch(self, key: str, now: Moment) -> None:
        """As the interface says."""
        self._write("UPDATE leases SET used_wall = ?, used_steady = ? WHERE key = ?", (now.wall, now.steady, key))

    @_writes
    def begin_use(self, db: sqlite3.Connection, key: str, now: Moment) -> Eviction | None:
        """As the interface says."""
        row = db.execute(f"SELECT {EVICTION} FROM evictions WHERE key = ?", (key,)).fetchone()
        if row is not None:
            return to_eviction(row)
        sql = "UPDATE leases SET busy = busy + 1, used_wall = ?, used_steady = ? WHERE key = ?"
        db.execute(sql, (now.wall, now.steady, key))
        return None

    def end_use(self, key: str, now: Moment) -> None:
        """As the interface says."""
        sql = "UPDATE leases SET busy = max(busy - 1, 0), used_wall = ?, used_steady = ? WHERE key = ?"
        self._write(sql, (now.wall, now.steady, key))

    def closing(self, key: str) -> None:
        """As the interface says."""
        self._write(f"UPDATE leases SET state = '{CLOSING}' WHERE key = ?", (key,))

    def failed(self, key: str, reason: str, now: Moment) -> None:
        """As the interface says."""
        sql = f"""UPDATE leases SET state = '{FAILED}', reason = ?, tries = tries + 1, tried_wall = ?,
            tried_steady = ?, tried_boot = ? WHERE key = ? AND reaper IS NULL"""
        self._write(sql, (written(reason), *now, key))

    @_writes
    def end(self, db: sqlite3.Connection, key: str) -> str | None:
        """As the interface says."""
        row = db.execute("SELECT account FROM leases WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        db.execute("DELETE FROM leases WHERE key = ?", (key,))
        db.execute("DELETE FROM pauses WHERE account = ?", row)
        return _next(db, row[0])

    @_writes
    def disown(self, db: sqlite3.Connection, account: str, owner: str, heir: str) -> None:
        """As the interface says."""
        db.execute("UPDATE leases SET owner = ? WHERE account = ? AND owner = ?", (heir, account, owner))
        for table in ("processes", "tickets", "evictions"):
            db.execute(f"DELETE FROM {table} WHERE account = ? AND owner = ?", (account, owner))

    def leases(self, account: str | None = None) -> list[Lease]:
        """As the interface says."""
        sql = f"SELECT {LEASE} FROM leases WHERE account = ? OR ? IS NULL ORDER BY number, key"
        return to_leases(self._read(sql, (account, account)))

    # Reaping.

    def claim(self, seen: Lease, reaper: str, now: Moment) -> bool:
        """As the interface says."""
        sql = f"""UPDATE leases SET reaper = ?, tries = tries + 1, tried_wall = ?, tried_steady = ?, tried_boot = ?,
            state = CASE WHEN session_id IS NULL THEN state ELSE '{CLOSING}' END
            WHERE key = ? AND owner = ? AND state = ? AND reaper IS ? AND tries = ? AND used_steady = ?
            AND session_id IS ?"""
        same = (seen.key, seen.wanted.owner, seen.state, seen.reaper, seen.tries, seen.used.steady, seen.session_id)
        return self._write(sql, (reaper, *now, *same)) > 0

    def unclaim(self, key: str, reaper: str, reason: str, now: Moment) -> None:
        """As the interface says."""
        sql = f"""UPDATE leases SET reaper = NULL, state = '{FAILED}', reason = ?, tried_wall = ?, tried_steady = ?,
            tried_boot = ? WHERE key = ? AND reaper = ?"""
        self._write(sql, (written(reason), *now, key, reaper))

    @_writes
    def evict(
        self, db: sqlite3.Connection, account: str, by: str, reaper: str, min_idle: float, now: Moment
    ) -> Lease | None:
        """As the interface says."""
        # No session lives for longer than MAX_TIMEOUT without being used, so that nobody asks after an older eviction.
        sql = "DELETE FROM evictions WHERE account = ? AND (boot != ? OR steady < ?)"
        db.execute(sql, (account, now.boot, now.steady - MAX_TIMEOUT))
        sql = f"""SELECT {LEASE} FROM leases WHERE account = ? AND evictable AND state = '{OPEN}' AND busy = 0
            AND session_id IS NOT NULL AND reaper IS NULL AND boot = ? AND ? - used_steady >= ? ORDER BY used_steady"""
        found = to_leases(db.execute(sql, (account, now.boot, now.steady, min_idle)))
        if not found:
            return None
        lease = found[0]._replace(state=CLOSING, evicted_by=written(by), reaper=reaper)
        sql = f"UPDATE leases SET state = '{CLOSING}', evicted_by = ?, reaper = ? WHERE key = ?"
        db.execute(sql, (lease.evicted_by, reaper, lease.key))
        sql = f"INSERT OR REPLACE INTO evictions ({_COLUMNS['evictions']}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        db.execute(sql, (lease.key, lease.wanted.owner, account, lease.session_id, lease.evicted_by, *now))
        return lease

    # Guardians.

    def guardian(self, account: str) -> str | None:
        """As the interface says."""
        rows = self._read("SELECT owner FROM guardians WHERE account = ?", (account,))
        return str(rows[0][0]) if rows else None

    def guardian_version(self, account: str) -> int:
        """As the interface says."""
        rows = self._read("SELECT version FROM guardians WHERE account = ?", (account,))
        return rows[0][0] if rows and isinstance(rows[0][0], int) else 0

    @_writes
    def serve(self, db: sqlite3.Connection, account: str, me: str, seen: str | None, version: int = 0) -> bool:
        """As the interface says."""
        row = db.execute("SELECT owner FROM guardians WHERE account = ?", (account,)).fetchone()
        if (row[0] if row else None) != seen:
            return False
        sql = """INSERT INTO guardians (account, owner, version) VALUES (?, ?, ?)
            ON CONFLICT (account) DO UPDATE SET owner = excluded.owner, version = excluded.version"""
        db.execute(sql, (account, me, version))
        return True

    @_writes
    def retire(self, db: sqlite3.Connection, account: str, me: str, ignoring: Collection[str] = ()) -> bool:
        """As the interface says."""
        serving = db.execute("SELECT 1 FROM guardians WHERE account = ? AND owner = ?", (account, me)).fetchone()
        if serving is None:
            return True
        ignored = set(ignoring)
        owners = {
            row[0]
            for table in ("processes", "tickets")
            for row in db.execute(f"SELECT owner FROM {table} WHERE account = ?", (account,))
        }
        leases = db.execute("SELECT key, owner FROM leases WHERE account = ?", (account,))
        if owners - ignored or any(ignored.isdisjoint(row) for row in leases):
            return False
        db.execute("DELETE FROM guardians WHERE account = ?", (account,))
        return True


def _prepare(db: sqlite3.Connection, *, after: bool) -> tuple[bytes, Moment, bool]:
    """Brings the schema up to date, and gives the ledger's name, when it was made, and whether it took another's place:
    as it does if it is made `after` one. A newer file is left as it is.
    """
    version = _one(db, "PRAGMA user_version")
    if version < 0 or (version == 0 and _one(db, "SELECT count(*) FROM sqlite_master")):
        raise DamagedError("not a database of pytest-bbre")
    for script in MIGRATIONS[version:]:
        for statement in script.split(";"):
            db.execute(statement)
    if version < len(MIGRATIONS):
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    for table, columns in _COLUMNS.items():
        db.execute(f"SELECT {columns} FROM {table} LIMIT 0")
    now = moment(boot_id())
    for name, value in (
        ("name", os.urandom(16)),
        ("made", f"{now.wall} {now.steady} {now.boot}"),
        ("follows", int(after and version == 0)),
    ):
        db.execute("INSERT OR IGNORE INTO meta (name, value) VALUES (?, ?)", (name, value))
    sql = "SELECT value FROM meta WHERE name = ?"
    try:
        wall, steady, boot = str(_one(db, sql, "made")).split(" ")
        return bytes(_one(db, sql, "name")), Moment(float(wall), float(steady), boot), bool(_one(db, sql, "follows"))
    except (TypeError, ValueError) as error:
        raise DamagedError(f"malformed: {error}") from error


def _one(db: sqlite3.Connection, sql: str, *values: Any) -> Any:
    return db.execute(sql, values).fetchone()[0]


def _ticket(db: sqlite3.Connection, wanted: Wanted, limit: int, now: Moment, ticket: int | None) -> int:
    """The asker's own ticket if it is still there, else a new one."""
    sql = "UPDATE tickets SET slots = ? WHERE number = ? AND owner = ? AND account = ?"
    if ticket is not None and db.execute(sql, (limit, ticket, wanted.owner, wanted.account)).rowcount:
        return ticket
    sql = f"INSERT INTO tickets ({TICKET_AND_SLOTS}) VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)"
    people = (written(wanted.actor), written(wanted.place))
    made = db.execute(sql, (wanted.account, wanted.owner, *people, *now, limit)).lastrowid
    assert made is not None
    return made


def _limits_ahead(db: sqlite3.Connection, account: str, number: int) -> list[int]:
    """How many slots each of those who wait for longer allows, the next one first."""
    sql = "SELECT slots FROM tickets WHERE account = ? AND number < ? ORDER BY number"
    return [row[0] if isinstance(row[0], int) else NO_LIMIT for row in db.execute(sql, (account, number))]


def _would_hold(held: int, limits: list[int]) -> int:
    """How many slots are taken when each of these has been given one, if its limit allows that."""
    for limit in limits:
        held += held < limit
    return held


def _queue(db: sqlite3.Connection, account: str) -> list[Ticket]:
    return to_tickets(db.execute(f"SELECT {TICKET} FROM tickets WHERE account = ? ORDER BY number", (account,)))


def _next(db: sqlite3.Connection, account: str) -> str | None:
    sql = "SELECT owner FROM tickets WHERE account = ? ORDER BY number LIMIT 1"
    row = db.execute(sql, (account,)).fetchone()
    return str(row[0]) if row else None


def _paused(db: sqlite3.Connection, account: str, now: Moment) -> float:
    row = db.execute("SELECT steady, boot FROM pauses WHERE account = ?", (account,)).fetchone()
    if row is None or row[1] != now.boot or not isinstance(row[0], float):
        return 0.0
    return max(row[0] - now.steady, 0.0)


def _insert(db: sqlite3.Connection, lease: Lease) -> None:
    values = from_lease(lease)
    if not to_leases([values]):
        raise ValueError("nobody could read that lease")
    marks = ", ".join("?" * len(values))
    db.execute(f"INSERT OR IGNORE INTO leases ({LEASE}) VALUES ({marks})", values)
