"""guard/database.py: a damaged or vanished ledger, forks, and a disk that fails."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from _scripted import LIMIT

from pytest_bbre.errors import LedgerError
from pytest_bbre.guard import database, files
from pytest_bbre.guard.leases import Lease, Moment, Wanted
from pytest_bbre.guard.ledger import SqliteLedger

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the guard is proven on POSIX systems")

NOW = Moment(1_000_000.0, 100.0, "boot")
WANTED = Wanted("account", "owner")

PROLOGUE = """
import os, sys, threading, time, warnings
from pytest_bbre.errors import LedgerError
from pytest_bbre.guard.leases import *
from pytest_bbre.guard.ledger import SqliteLedger
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads: that is what is tried
path = sys.argv[1]
now = Moment(1_000_000.0, 100.0, "boot")
told = []


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())


"""


class Told(list[str]):
    """What was shown to people."""

    __call__ = list.append


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Whatever ledger a test has opened is closed after it: Python 3.13 warns of connections that are not."""
    yield
    for one in list(database._databases):
        one.close()


@pytest.fixture
def told() -> Told:
    """What was shown to people."""
    return Told()


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where a ledger is to be."""
    return str(tmp_path / "state" / "ledger.db")


@pytest.fixture
def ledger(path: str, told: Told) -> Iterator[SqliteLedger]:
    """A new ledger with one lease in it."""
    opened = SqliteLedger(path, told)
    take(opened)
    yield opened
    opened.close()


def take(ledger: SqliteLedger) -> Lease:
    """A lease."""
    got = ledger.take(WANTED, 1000, NOW)
    assert isinstance(got, Lease)
    return got


def python(source: str, *args: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Runs Python in another process: files are changed there, since closing them here would drop SQLite's locks."""
    program = PROLOGUE + textwrap.dedent(source)
    command = [*options.pop("before", []), sys.executable, "-c", program, *args]  # type: ignore[misc]
    return subprocess.run(command, capture_output=True, text=True, timeout=3 * LIMIT, check=True)


def connection(ledger: SqliteLedger) -> sqlite3.Connection:
    """What the ledger talks to SQLite with."""
    found = ledger._database._parts[os.getpid()].db
    assert found is not None
    return found


def set_aside(path: str) -> list[str]:
    """The ledgers that were set aside beside one, without their logs."""
    names = os.listdir(os.path.dirname(path))
    return sorted(name for name in names if "damaged" in name and not name.endswith(("-wal", "-shm")))


def foreign(path: str) -> None:
    """A database of something else."""
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE leases (something)")
    db.close()


def negative(path: str) -> None:
    """A version that there never is."""
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = -1")
    db.close()


def without_table(path: str) -> None:
    """A ledger that lacks what its version has."""
    SqliteLedger(path).close()
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE tickets")
    db.close()


def cut(path: str) -> None:
    """The first pages of a ledger."""
    ledger = SqliteLedger(path)
    for _ in range(200):
        take(ledger)
    ledger.close()
    os.truncate(path, 3 * 4096)


def huge(path: str) -> None:
    """Larger than any ledger; it takes no room on the disk."""
    SqliteLedger(path).close()
    os.truncate(path, database.LARGEST + 4096)


def meta_forged(path: str) -> None:
    """Its own facts are not what they were."""
    SqliteLedger(path).close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value = 'soon' WHERE name = 'made'")
    db.close()


DAMAGES: dict[str, Callable[[str], object]] = {
    "garbage": lambda path: Path(path).write_bytes(b"garbage " * 1000),
    "foreign": foreign,
    "negative version": negative,
    "without a table": without_table,
    "cut": cut,
    "huge": huge,
    "forged facts": meta_forged,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_ledger_is_set_aside_when_it_is_opened(path: str, told: Told, damage: str):
    """Not deleted: its bytes are kept. It is said once, and a new one works."""
    os.mkdir(os.path.dirname(path), 0o700)
    DAMAGES[damage](path)
    before = os.stat(path)
    os.chmod(path, 0o600)
    ledger = SqliteLedger(path, told)
    take(ledger)
    assert len(ledger.leases()) == 1
    kept = set_aside(path)
    assert len(kept) == 1
    after = os.stat(os.path.join(ledger.folder, kept[0]))
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)
    assert len(told) == 1
    assert kept[0] in told[0]
    ledger.close()
    SqliteLedger(path, told).close()
    assert len(told) == 1


def test_an_empty_file_is_a_new_ledger(path: str, told: Told):
    """Somebody may have died while making it."""
    os.mkdir(os.path.dirname(path), 0o700)
    Path(path).touch(0o600)
    take(SqliteLedger(path, told))
    assert told == []


def test_logs_without_a_database_are_not_played(path: str, told: Told):
    """They belong to a ledger that is gone; they are kept aside."""
    first = SqliteLedger(path)
    take(first)
    for log in ("-wal", "-shm"):
        shutil.copy(path + log, path + log + ".copy")
    first.close()
    os.unlink(path)
    for log in ("-wal", "-shm"):
        os.rename(path + log + ".copy", path + log)
    second = SqliteLedger(path, told)
    assert second.leases() == []
    assert [name for name in os.listdir(second.folder) if name.endswith("-1-wal")]
    second.close()


def test_processes_that_find_damage_at_once_end_with_one_ledger(path: str, told: Told):
    """One of them sets it aside, and all that they write is in the new one."""
    os.mkdir(os.path.dirname(path), 0o700)
    DAMAGES["garbage"](path)
    os.chmod(path, 0o600)
    program = PROLOGUE + textwrap.dedent(
        """
        say("ready")
        sys.stdin.readline()
        ledger = SqliteLedger(path, told.append)
        ledger.enrol("account", sys.argv[2], "", now)
        say(len(told))
        """
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, path, str(number)], stdin=-1, stdout=-1, text=True)
        for number in range(6)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    outs = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        outs.append(process.communicate(timeout=LIMIT)[0])
    assert sorted(outs) == ["0\n"] * 5 + ["1\n"]
    assert len(set_aside(path)) == 1
    ledger = SqliteLedger(path, told)
    assert {one.owner for one in ledger.enrolled()} == set("012345")
    ledger.close()


def test_processes_that_make_a_ledger_at_once_share_it(tmp_path: Path):
    """None is told that it is busy, and all have one salt."""
    program = PROLOGUE + textwrap.dedent(
        """
        say("ready")
        sys.stdin.readline()
        for number in range(10):
            ledger = SqliteLedger(f"{path}/{number}/ledger.db", told.append)
            ledger.enrol("account", sys.argv[2], "", now)
            say(ledger.salt.hex(), *told)
        """
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path), str(number)], stdin=-1, stdout=-1, text=True)
        for number in range(6)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outs = {process.communicate(timeout=LIMIT)[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 6
    assert len(outs) == 1
    assert len(set(outs.pop().split())) == 10


@pytest.mark.parametrize("gone", ["set aside", "deleted", "folder deleted", "logs deleted too"])
def test_a_ledger_that_is_another_one_is_noticed(path: str, ledger: SqliteLedger, told: Told, gone: str):
    """With the next call, whatever it is: it goes to the new one, and the generation goes up once."""
    held = ledger.leases()[0]
    if gone == "set aside":
        python("from pytest_bbre.guard import files; files.set_aside(path); SqliteLedger(path)", path)
    elif gone == "deleted":
        os.unlink(path)
    elif gone == "logs deleted too":
        for log in ("", "-wal", "-shm"):
            os.unlink(path + log)
    else:
        shutil.rmtree(os.path.dirname(path))
    assert (ledger.generation, ledger.follows) == (0, False)
    assert ledger.leases() == []
    assert (ledger.generation, ledger.follows) == (1, True)
    ledger.adopt(held)
    second = SqliteLedger(path)
    assert (second.leases(), second.follows) == ([held], True)
    assert ledger.generation == 1
    assert told == []  # who set it aside says so
    second.close()


def test_an_older_copy_in_its_place_is_noticed(path: str, ledger: SqliteLedger, tmp_path: Path):
    """As a backup is: what it does not know, or knows of earlier, its owners write again."""
    (first,) = ledger.leases()
    logs = [name for name in ("", "-wal") if os.path.exists(path + name)]
    for name in logs:
        shutil.copy(path + name, f"{tmp_path}/copy{name}")
    assert ledger.opened(first.key, "session_1", None, 300.0, NOW)
    held = [ledger.leases()[0], take(ledger)]
    os.unlink(path + "-shm")
    for name in logs:
        os.replace(f"{tmp_path}/copy{name}", path + name)
    assert (ledger.leases(), ledger.generation) == ([first], 1)
    for lease in held:
        ledger.adopt(lease)
    assert (ledger.leases(), ledger.generation) == (held, 1)


def test_accounts_keep_their_names_in_a_new_ledger(path: str, ledger: SqliteLedger):
    """The salt outlives the database, and where the whole folder went, whoever comes first puts its own back."""
    salt = ledger.salt
    os.unlink(path)
    ledger.leases()
    assert ledger.salt == salt
    shutil.rmtree(os.path.dirname(path))
    ledger.leases()
    second = SqliteLedger(path)
    assert second.salt == ledger.salt == salt
    second.close()


def test_a_salt_of_another_size_is_refused(path: str):
    """Accounts would get other names, and nobody would find their leases."""
    SqliteLedger(path).close()
    Path(path).with_name("salt").write_bytes(b"short")
    with pytest.raises(LedgerError, match="salt"):
        SqliteLedger(path)


def test_a_new_ledger_says_when_it_was_made(path: str, ledger: SqliteLedger):
    """Leases from before may be missing in it."""
    before = ledger.made
    os.unlink(path)
    ledger.leases()
    assert ledger.made.since(before) > 0


def test_damage_in_the_middle_of_work_is_mended(path: str, told: Told):
    """The call that meets it is made again on the new ledger, which it says; nobody sees an error."""
    ledger = SqliteLedger(path, told)
    for _ in range(200):
        take(ledger)
    ledger.close()
    assert len(ledger.leases()) == 200
    python("with open(path, 'r+b') as file: file.seek(2 * 4096); file.write(b'x' * 4096 * 20)", path)
    connection(ledger).execute("PRAGMA shrink_memory")
    assert ledger.leases() == []
    assert ledger.generation == 1
    assert len(set_aside(path)) == len(told) == 1
    take(ledger)
    ledger.close()


def test_a_new_ledger_is_not_set_aside_for_the_old_one_s_damage(path: str, ledger: SqliteLedger, told: Told):
    """Two processes may find the damage, and one of them comes when the other has begun a new ledger."""
    damaged = files.identity(path)
    os.rename(path, path + ".set-aside")  # what the other process has done meanwhile
    second = SqliteLedger(path)
    held = take(second)
    ledger._database._replace(damaged, sqlite3.DatabaseError("malformed"))
    assert ledger.leases() == [held]
    assert told == set_aside(path) == []
    second.close()


def test_a_table_that_vanished_is_mended(path: str, ledger: SqliteLedger, told: Told):
    """It is damage like any other."""
    python("import sqlite3; sqlite3.connect(path).execute('DROP TABLE leases')", path)
    take(ledger)
    assert len(ledger.leases()) == 1
    assert ledger.generation == len(told) == 1


def test_two_ledgers_of_one_process_do_not_free_each_other_s_locks(
    path: str, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
):
    """While one is in a transaction, opening and closing another leaves it locked for other processes."""
    script = """
    import sqlite3
    try:
        sqlite3.connect(path, timeout=0).execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        say(error)
    """
    connection(ledger).execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(database, "BUSY", 0.1)
    monkeypatch.setattr(database, "SLICE", 0.1)
    with pytest.raises(LedgerError, match="busy"):
        SqliteLedger(path)
    assert "locked" in python(script, path).stdout
    connection(ledger).execute("ROLLBACK")
    assert python(script, path).stdout == ""


# Forks.


def test_a_forked_child_has_a_connection_of_its_own(path: str):
    """It inherits no descriptor of the database, and both go on to write."""
    done = python(
        """
        ledger = SqliteLedger(path)
        ledger.enrol("account", "parent", "", now)
        if not os.fork():
            names = [os.readlink(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")
                     if os.path.exists(f"/proc/self/fd/{number}")]
            say("inherited", [name for name in names if "ledger" in name])
            ledger.enrol("account", "child", "", now)
            sys.exit()
        ledger.enrol("account", "parent again", "", now)
        os.wait()
        say(sorted(one.owner for one in ledger.enrolled()), ledger.generation)
        """,
        path,
    )
    assert sorted(done.stdout.splitlines()) == ["['child', 'parent', 'parent again'] 0", "inherited []"]


def test_forks_in_the_middle_of_work_do_no_harm(path: str):
    """Forty children are forked while other threads write; all that anybody wrote is there."""
    done = python(
        """
        ledger = SqliteLedger(path, told.append)
        stop = threading.Event()
        written = [0, 0]

        def work(index):
            while not stop.is_set():
                ledger.enrol("account", f"thread-{index}-{written[index]}", "", now)
                written[index] += 1

        threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
        for thread in threads:
            thread.start()
        for number in range(40):
            child = os.fork()
            if not child:
                ledger.enrol("account", f"child-{number}", "", now)
                if number % 2:
                    sys.exit()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        stop.set()
        for thread in threads:
            thread.join()
        expected = {f"child-{number}" for number in range(40)}
        expected |= {f"thread-{index}-{number}" for index in range(2) for number in range(written[index])}
        say({one.owner for one in ledger.enrolled()} == expected, ledger.generation, told)
        """,
        path,
    )
    assert done.stdout == "True 0 []\n"


def test_a_child_of_a_fork_that_python_does_not_see_has_a_connection_of_its_own(path: str):
    """It neither uses nor closes its parent's."""
    done = python(
        """
        import ctypes
        ledger = SqliteLedger(path)
        ledger.enrol("account", "parent", "", now)
        if not ctypes.CDLL(None).fork():
            ledger.enrol("account", "child", "", now)
            parents = ledger._database._parts[os.getppid()].db
            say(parents is not ledger._database._parts[os.getpid()].db, parents is not None)
            os._exit(0)
        os.wait()
        ledger.enrol("account", "parent again", "", now)
        say(len(ledger.enrolled()))
        """,
        path,
    )
    assert done.stdout.splitlines() == ["True True", "3"]


# What fails.


def test_busy_is_told_in_words_for_people(path: str, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch):
    """After the whole time that it waits; and when the other is done, all goes on."""
    monkeypatch.setattr(database, "BUSY", 0.2)
    monkeypatch.setattr(database, "SLICE", 0.1)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    ledger.close()
    for _ in range(2):
        with pytest.raises(LedgerError, match=r"busy for 0\.2 s") as raised:
            take(ledger)
        assert "is locked" not in str(raised.value)
    holder.execute("ROLLBACK")
    holder.close()
    take(ledger)


def test_a_full_disk_is_told_and_passes(ledger: SqliteLedger):
    """The transaction leaves nothing; with room again the ledger works."""
    ledger.close()
    ledger.leases()
    db = connection(ledger)
    db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises(LedgerError, match="the disk is full"):
        list(map(take, [ledger] * 1000))
    count = len(ledger.leases())
    take(ledger)
    assert len(ledger.leases()) == count + 1


def test_a_file_that_may_not_grow_is_told_and_passes(path: str):
    """As by a quota: SQLite sees a failing disk."""
    done = python(
        """
        import resource
        ledger = SqliteLedger(path)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
        kept = 0
        try:
            while kept < 10_000:
                ledger.enrol("account", f"owner-{kept}", "x" * 1000, now)
                kept += 1
        except LedgerError as error:
            say(type(error.__cause__).__name__, error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        ledger.enrol("account", "last", "", now)
        say(len(ledger.enrolled()) - kept)
        """,
        path,
    )
    said = done.stdout.splitlines()
    assert said[0].startswith("OperationalError The ledger")
    assert said[1] == "1"


FILE_SYSTEM = """
import subprocess
os.makedirs(path, exist_ok=True)
if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", path], capture_output=True).returncode:
    say("not permitted")
    sys.exit()
ledger = SqliteLedger(path + "/state/ledger.db", told.append)
got = ledger.take(Wanted("account", "owner"), 1000, now)


def attempt():
    try:
        for number in range(100):
            ledger.enrol("account", f"owner-{number}", "x" * 4000, now)
        say("no error")
    except LedgerError as error:
        say(error)


"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="it needs a file system of its own")
@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_a_real_file_system_that_fails(tmp_path: Path, trouble: str):
    """It is full, or became read-only: an error that says so; afterwards the ledger works, with all that was in it."""
    make = {
        "full": 'open(path + "/x", "wb").truncate(0)\ntry:\n    open(path + "/x", "wb", 0).write(bytes(4 << 20))\n'
        'except OSError:\n    pass\nwith open(path + "/x", "ab", 0) as file:\n    try:\n'
        "        while file.write(bytes(4096)): pass\n    except OSError:\n        pass\n",
        "read-only": 'ledger.close()\nassert not subprocess.call(["mount", "-o", "remount,ro", path])\n',
    }
    mend = {
        "full": 'os.unlink(path + "/x")\n',
        "read-only": 'assert not subprocess.call(["mount", "-o", "remount,rw", path])\n',
    }
    source = (
        FILE_SYSTEM + make[trouble] + "attempt()\n" + mend[trouble] + "attempt()\nsay(len(ledger.leases()), told)\n"
    )
    try:
        done = python(source, str(tmp_path / "mounted"), before=["unshare", "--mount"])
    except subprocess.CalledProcessError as error:
        if "unshare" in error.stderr:
            pytest.skip("a file system of its own is not permitted")
        raise
    if "not permitted" in done.stdout:
        pytest.skip("a file system of its own is not permitted")
    said = done.stdout.splitlines()
    assert ("full" if trouble == "full" else "ead-only") in said[0]
    assert said[1:] == ["no error", "1 []"]


def test_an_interrupt_leaves_nothing_half_done(ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch):
    """The transaction is rolled back, and the next one works."""
    from pytest_bbre.guard import ledger as module

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_insert", interrupted)
        with pytest.raises(KeyboardInterrupt):
            take(ledger)
    assert ledger.queue("account") == []
    take(ledger)
