"""guard/ledger.py and guard/rows.py: content that nobody here has written, and versions side by side."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_bbre.errors import LedgerError
from pytest_bbre.guard import database
from pytest_bbre.guard import ledger as module
from pytest_bbre.guard.leases import OPEN, Lease, Moment, Waiting, Wanted
from pytest_bbre.guard.ledger import MIGRATIONS, SqliteLedger

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the guard is proven on POSIX systems")

NOW = Moment(1_000_000.0, 100.0, "boot")
LATER = Moment(1_000_010.0, 110.0, "boot")  # no pause lasts until then
WANTED = Wanted("account", "owner", evictable=True)
ODD = {
    "NULL": None,
    "bytes": b"\xff\xfe\x00",
    "not UTF-8": "CAST(x'ff41' AS TEXT)",
    "huge": "zeroblob(3000000)",
    "huge text": "replace(hex(zeroblob(300000)), '0', 'x')",
    "SQL": "'); DROP TABLE leases; --",
    "path": "../../../../etc/passwd",
    "control": "\x00\x1b[2J\r\n",
    "infinite": 9e999,
    "minus infinite": -9e999,
    "negative": -(2**63),
    "great": 2**63 - 1,
    "empty": "",
    "fraction": 0.5,
}
EXPRESSIONS = ("not UTF-8", "huge", "huge text")
TABLES = {
    "leases": module._COLUMNS["leases"],
    **{name: module._COLUMNS[name] for name in ("processes", "guardians", "tickets", "pauses", "evictions")},
}


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Whatever ledger a test has opened is closed after it: Python 3.13 warns of connections that are not."""
    yield
    for one in list(database._databases):
        one.close()


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where a ledger is to be."""
    return str(tmp_path / "state" / "ledger.db")


@pytest.fixture
def ledger(path: str) -> Iterator[SqliteLedger]:
    """A ledger with a row in each of its tables."""
    opened = SqliteLedger(path)
    opened.enrol("account", "owner", "program", NOW)
    opened.serve("account", "guardian", None)
    for number in range(2):
        lease = take(opened)
        opened.opened(lease.key, f"s-{number}", None, 300.0, NOW)
    opened.refuse(take(opened).key, 0.001, NOW)
    assert opened.evict("account", "by", "reaper", 0.0, NOW) is not None
    yield opened
    opened.close()


def take(ledger: SqliteLedger) -> Lease:
    """A lease."""
    got = ledger.take(WANTED, 1000, LATER)
    assert isinstance(got, Lease)
    return got


def everything(ledger: SqliteLedger, seen: Lease) -> dict[str, Callable[[], object]]:
    """A call of every method but `close`, in an order in which none takes the ground from under the next."""
    key = seen.key
    return {
        "changes": ledger.changes,
        "enrol": lambda: ledger.enrol("account", "me", "", NOW),
        "enrolled": ledger.enrolled,
        "leases": ledger.leases,
        "queue": lambda: ledger.queue("account"),
        "take": lambda: ledger.take(WANTED, 3, NOW),
        "take with a ticket": lambda: ledger.take(WANTED, 3, NOW, 3),
        "withdraw": lambda: ledger.withdraw(77),
        "opened": lambda: ledger.opened("unknown", "s", None, 1.0, NOW),
        "adopt": lambda: ledger.adopt(seen),
        "touch": lambda: ledger.touch(key, NOW),
        "begin_use": lambda: ledger.begin_use(key, NOW),
        "end_use": lambda: ledger.end_use(key, NOW),
        "claim": lambda: ledger.claim(seen, "reaper", NOW),
        "unclaim": lambda: ledger.unclaim("unknown", "reaper", "", NOW),
        "evict": lambda: ledger.evict("another", "by", "reaper", 0.0, NOW),
        "guardian": lambda: ledger.guardian("account"),
        "guardian_version": lambda: ledger.guardian_version("account"),
        "serve": lambda: ledger.serve("account", "me", "nobody"),
        "retire": lambda: ledger.retire("account", "me"),
        "refuse": lambda: ledger.refuse("unknown", 1.0, NOW),
        "closing": lambda: ledger.closing("unknown"),
        "failed": lambda: ledger.failed("unknown", "", NOW),
        "end": lambda: ledger.end("unknown"),
        "dismiss": lambda: ledger.dismiss("account", "nobody"),
    }


def loosened(path: str, table: str, columns: str) -> None:
    """A table that takes any value: as whoever forges it would make it."""
    with sqlite3.connect(path) as db:
        db.execute(f"ALTER TABLE {table} RENAME TO old")
        db.execute(f"CREATE TABLE {table} ({columns})")
        db.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM old")
        db.execute("DROP TABLE old")
    db.close()


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("table", TABLES)
def test_a_forged_row_does_no_harm(path: str, ledger: SqliteLedger, table: str, odd: str):
    """Whichever of its values is forged: no method raises anything but LedgerError, and the row is left alone."""
    good = next(lease for lease in ledger.leases() if lease.state == OPEN)
    columns = TABLES[table].split(", ")
    loosened(path, table, TABLES[table])
    for column in columns:
        value = ODD[odd] if odd in EXPRESSIONS else "?"
        mark = str(value)
        others = ", ".join(mark if name == column else name for name in columns)
        db = sqlite3.connect(path)
        with db:
            before = db.execute(f"SELECT max(rowid), count(*) FROM {table}").fetchone()
            values = () if odd in EXPRESSIONS else (ODD[odd],)
            # A copy of a row with one value forged, and another key or number where those are not what is forged.
            db.execute(f"INSERT INTO {table} ({', '.join(columns)}) SELECT {others} FROM {table} LIMIT 1", values)
            forged = db.execute(f"SELECT max(rowid) FROM {table}").fetchone()[0]
            if table in ("leases", "evictions") and column != "key":
                db.execute(f"UPDATE {table} SET key = 'forged' WHERE rowid = ?", (forged,))
        assert forged > before[0]
        for call in everything(ledger, good).values():
            try:
                call()
            except LedgerError:
                continue
        assert good.key in {lease.key for lease in ledger.leases()}
        with db:
            assert db.execute(f"SELECT count(*) FROM {table} WHERE rowid = ?", (forged,)).fetchone() == (1,)
            db.execute(f"DELETE FROM {table} WHERE rowid = ?", (forged,))
            for name in ("leases", "tickets"):  # what the calls themselves have written
                db.execute(f"DELETE FROM {name} WHERE owner = 'owner' AND place = '' AND {name}.rowid > 1000")
        db.close()
    assert ledger.generation == 0


@pytest.mark.parametrize("column", ["state", "number", "timeout", "used_steady", "place", "scoped", "opened_wall"])
def test_a_row_that_is_no_lease_is_skipped(path: str, ledger: SqliteLedger, column: str):
    """It takes no slot either, since nobody could free it."""
    loosened(path, "leases", TABLES["leases"])
    count = len(ledger.leases())
    with sqlite3.connect(path) as db:
        columns = TABLES["leases"].split(", ")
        others = ", ".join("NULL" if name == column else "'k'" if name == "key" else name for name in columns)
        db.execute(f"INSERT INTO leases ({', '.join(columns)}) SELECT {others} FROM leases LIMIT 1")
    db.close()
    assert len(ledger.leases()) == count
    ledger.dismiss("account", "owner")
    got = ledger.take(WANTED, count + 1, LATER)
    assert isinstance(got, Lease)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("timeout", value) for value in (float("nan"), float("inf"), 2**70, "soon")],
        *[("mode", value) for value in (None, 5, "\udcff", "x" * 100_000)],
    ],
)
def test_values_that_can_not_be_kept_are_an_error_of_the_ledger(ledger: SqliteLedger, field: str, value: object):
    """Nothing is written then, and the ledger goes on."""
    before = ledger.leases()
    wanted = WANTED._replace(**{field: value})
    with pytest.raises(LedgerError):
        ledger.take(wanted, 1000, LATER)
    assert ledger.leases() == before
    take(ledger)


def test_an_endless_timeout_is_a_day(ledger: SqliteLedger):
    """A service may say anything, and its lease must stay readable: no session lives for longer."""
    lease = take(ledger)
    assert ledger.opened(lease.key, "s-9", None, float("inf"), LATER)
    assert ledger.leases()[-1].wanted.timeout == 86_400


# Versions.


def raw(path: str, script: str) -> None:
    """Runs SQL on the file beside the ledger."""
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    db = sqlite3.connect(path)
    db.executescript(script)
    db.close()
    os.chmod(path, 0o600)


def test_a_file_of_the_first_version_is_brought_up_to_date(path: str):
    """Its leases are there, with the defaults of what is new, and all works."""
    raw(
        path,
        f"""{MIGRATIONS[0]} PRAGMA user_version = 1;
        INSERT INTO leases (key, number, account, owner, actor, mode, sensibility, timeout, patience, place, exclusive,
            state, session_id, boot, opened_wall, opened_steady, used_wall, used_steady)
            VALUES ('key', 7, 'account', 'owner', 'actor', 'passive', 'low', 60.0, 40.0, 'place', 1,
            'open', 's-1', 'boot', 1.0, 2.0, 3.0, 4.0);
        INSERT INTO processes VALUES ('account', 'owner', 'program', 1.0, 2.0, 'boot');
        INSERT INTO guardians VALUES ('account', 'guardian');""",
    )
    ledger = SqliteLedger(path)
    wanted = Wanted("account", "owner", "actor", "passive", "low", 60.0, 40.0, "place", exclusive=True)
    assert ledger.leases() == [
        Lease("key", 7, wanted, OPEN, "s-1", None, Moment(1.0, 2.0, "boot"), Moment(3.0, 4.0, "boot"))
    ]
    assert [one.owner for one in ledger.enrolled()] == ["owner"]
    assert ledger.guardian("account") == "guardian"
    assert isinstance(ledger.take(WANTED, 0, NOW), Waiting)
    ledger.end("key")
    ledger.close()


NEWER = """
    ALTER TABLE leases ADD COLUMN later TEXT NOT NULL DEFAULT 'default';
    ALTER TABLE tickets ADD COLUMN later TEXT NOT NULL DEFAULT 'default';
    ALTER TABLE processes ADD COLUMN later TEXT NOT NULL DEFAULT 'default';
    ALTER TABLE guardians ADD COLUMN later TEXT NOT NULL DEFAULT 'default';
    ALTER TABLE pauses ADD COLUMN later TEXT NOT NULL DEFAULT 'default';
    ALTER TABLE evictions ADD COLUMN later TEXT NOT NULL DEFAULT 'default';
    CREATE TABLE later (key TEXT)
"""


def test_an_older_version_works_on_a_newer_file(path: str, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch):
    """Also while it has it open. It never lowers the file's version, and leaves what it does not know as it is."""
    with monkeypatch.context() as later:
        later.setattr(module, "MIGRATIONS", (*MIGRATIONS, NEWER))
        newer = SqliteLedger(path)
    db = sqlite3.connect(path, isolation_level=None)
    for table in TABLES:
        db.execute(f"UPDATE {table} SET later = 'set'")
    older = SqliteLedger(path)
    for one in (ledger, older, newer):
        seen = next(lease for lease in one.leases() if lease.state == OPEN)
        for call in everything(one, seen).values():
            call()
        one.unclaim(seen.key, "reaper", "", NOW)
        one.opened(seen.key, "s-1", None, 300.0, NOW)
        one.refuse(take(one).key, 0.001, NOW)
        one.serve("account", "another", one.guardian("account"))
    assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)
    for table in ("leases", "processes", "guardians", "pauses", "evictions"):
        assert db.execute(f"SELECT count(*) FROM {table} WHERE later = 'set'").fetchone()[0], table
    assert {one.generation for one in (ledger, older, newer)} == {0}
    for one in (older, newer):
        one.close()
    db.close()


def test_a_file_whose_upgrade_was_cut_short_is_as_before(path: str, monkeypatch: pytest.MonkeyPatch):
    """A migration happens as a whole or not at all."""
    SqliteLedger(path).close()
    with monkeypatch.context() as later:
        later.setattr(module, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE later (key TEXT); CREATE TABLE nonsense"))
        with pytest.raises(LedgerError):
            SqliteLedger(path)
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    assert db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'later'").fetchone() == (0,)
    db.close()
    ledger = SqliteLedger(path)
    take(ledger)
    ledger.close()
