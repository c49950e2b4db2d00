"""The guardian among forgeries: a ledger that somebody has written into, and peers at its bell that mean it no good.

Whoever can do this is the user, or has the user's rights. It must do no harm to sessions of others all the same.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from _guardians import Guardians, freed, until
from _process import Start

from pytest_bbre import BBREClient
from pytest_bbre.guard import wake

if TYPE_CHECKING:
    from conftest import Service

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes by /proc")

HELD = "session = open_session(); say('held', session.id); rest()"
SQL = "x'; DROP TABLE leases; DELETE FROM processes; --"


def dead(owner: str) -> str:
    """An owner that is proven dead: the very process of another, but started at another time."""
    return owner.rpartition("/")[0] + "/1"


def forge(guardians: Guardians, *session_ids: object, **values: object) -> None:
    """Writes leases of a dead owner, as copies of the one that is there."""
    lease = guardians.ledger.leases()[0]
    with closing(sqlite3.connect(guardians.folder / "ledger.db", timeout=20)) as db, db:
        db.row_factory = sqlite3.Row
        row = dict(db.execute("SELECT * FROM leases").fetchone())
        for number, session_id in enumerate(session_ids):
            key = f"forged-{number}-{len(values)}"
            row |= {"key": key, "number": 0, "session_id": session_id, "owner": dead(lease.wanted.owner), **values}
            marks = ", ".join("?" * len(row))
            db.execute(f"INSERT INTO leases ({', '.join(row)}) VALUES ({marks})", list(row.values()))


@pytest.fixture
def other(service: Service) -> Iterator[BBREClient]:
    """Another account of the same service."""
    with BBREClient(str(service.engine.add_account()), service.engine.base_url) as client:
        yield client


def test_forged_leases_harm_nobody(start: Start, service: Service, guardians: Guardians, other: BBREClient) -> None:
    """Ids of another account's and of a living process's session, paths, SQL, control characters, other types, huge
    texts: nobody loses a session, the guardian lives, and closes what is left when its owner dies.
    """
    theirs = other.create_session()
    process = start(HELD)
    kept = process.wait_for("held")
    guardian = guardians.one()
    odd = [
        "../../etc/passwd",
        "file:///etc/passwd",
        SQL,
        "\x00\x1b[2J\r\nx-api-key: y",
        "",
        7,
        1.5,
        b"\xff",
        "y" * 5_000_000,
    ]
    forge(guardians, theirs.id, kept, *odd)
    forge(guardians, "x", place=SQL, mode=b"\x00", reason="z" * 5_000_000)
    forge(guardians, "x", timeout=1e308, engine=SQL, state="nowhere", tries=-(2**62))
    with closing(sqlite3.connect(guardians.folder / "ledger.db", timeout=20)) as db, db:
        for owner in ("", SQL, "a/b/c/1/2", "../..", "o" * 5_000_000, b"\xff"):
            account = guardians.ledger.enrolled()[0].account
            db.execute("INSERT INTO processes VALUES (?, ?, ?, 0.0, 0.0, '')", (account, owner, SQL))
    closes = service.calls("close")
    wake.ring(str(guardians.folder), wake.guardian_bell(guardians.ledger.enrolled()[0].account))
    until(lambda: service.calls("close") > closes, "the guardian has looked")
    neighbour = start(HELD)
    second = neighbour.wait_for("held")
    assert other.session_status(theirs.id).is_active
    assert set(service.active()) == {theirs.id, kept, second}
    assert guardians.pids() == [guardian]
    process.send(signal.SIGKILL)
    until(lambda: set(service.active()) == {theirs.id, second}, "the dead owner's session is closed")
    neighbour.send(signal.SIGKILL)
    until(lambda: set(service.active()) == {theirs.id}, "the neighbour's, too")
    other.close_session(theirs)
    assert not (guardians.folder / "etc").exists()


def test_a_dead_guardian_takes_nobody_s_place(start: Start, service: Service, guardians: Guardians) -> None:
    """The one that serves stays, whatever the ledger says: its owner may be about to die, and start no other."""
    process = start(HELD)
    process.wait_for("held")
    first = guardians.one()
    (lease,) = guardians.ledger.leases()
    serving = guardians.ledger.guardian(lease.wanted.account)
    assert guardians.ledger.serve(lease.wanted.account, dead(lease.wanted.owner), serving)
    process.send(signal.SIGKILL)
    freed(service)
    assert guardians.pids() in ([first], [])
    guardians.gone()


@pytest.mark.parametrize("peer", ["flood", "symlink", "file", "folder", "gone"])
def test_a_hostile_bell_keeps_nobody_from_reaping(
    start: Start, service: Service, guardians: Guardians, tmp_path: Path, peer: str
) -> None:
    """Its FIFO is written to without end, or replaced: nothing is read from it, no other file is touched, and what a
    dead owner leaves is closed.
    """
    process = start(HELD)
    process.wait_for("held")
    guardians.one()
    bell = guardians.folder / wake.guardian_bell(guardians.ledger.enrolled()[0].account)
    other = tmp_path / "other"
    other.write_text("as it was")
    done = threading.Event()
    writer = threading.Thread(target=_flood, args=(bell, done), daemon=True)
    if peer == "flood":
        writer.start()
    else:
        bell.unlink()
    if peer == "symlink":
        bell.symlink_to(other)
    elif peer == "file":
        bell.write_text("")
    elif peer == "folder":
        bell.mkdir()
    process.send(signal.SIGKILL)
    freed(service)
    done.set()
    guardians.gone()
    assert other.read_text() == "as it was"
    if peer == "file":
        assert bell.read_text() == ""


def _flood(bell: Path, done: threading.Event) -> None:
    """Rings with as much as the pipe takes, for as long as somebody listens."""
    try:
        end = os.open(bell, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        return
    while not done.is_set():
        try:
            os.write(end, b"\xff" * 65536)
        except BlockingIOError:
            done.wait(0.0001)
    os.close(end)


def test_who_listens_at_the_bell_hears_nothing(start: Start, service: Service, guardians: Guardians) -> None:
    """A ring is one byte that tells nothing; the key and the ids go nowhere near it."""
    process = start(HELD)
    process.wait_for("held")
    guardians.one()
    bell = guardians.folder / wake.guardian_bell(guardians.ledger.enrolled()[0].account)
    with closing(_Spy(bell)) as spy:
        process.send(signal.SIGKILL)
        freed(service)
        guardians.gone()
        assert set(spy.heard()) <= set(b"!")


class _Spy:
    """Reads from a FIFO beside its owner."""

    def __init__(self, path: Path) -> None:
        self._end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def heard(self) -> bytes:
        try:
            return os.read(self._end, 65536)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        os.close(self._end)
