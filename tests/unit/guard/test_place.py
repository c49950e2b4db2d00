"""guard/place.py and guard/files.py: where the ledger lies, and who may have made it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_bbre.errors import LedgerError
from pytest_bbre.guard import place
from pytest_bbre.guard.place import default_folders, network_file_system, open_ledger

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the guard is proven on POSIX systems")

AS_ROOT = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:25 / /home rw,relatime - nfs4 server:/home rw
31 30 0:26 / /home/me/local rw - xfs /dev/vdb rw
32 22 0:27 / /mnt/two\\040words rw - cifs //server/share rw
33 22 0:28 / /over rw - ext4 /dev/vdc rw
34 22 0:29 / /over rw shared:7 master:1 - fuse.sshfs me@server:/ rw
a line that is none
"""


class Told(list[str]):
    """What was shown to people."""

    __call__ = list.append


@pytest.fixture
def told() -> Told:
    """What was shown to people."""
    return Told()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folders: the platform's place, a runtime folder, and one for temporary files."""
    for name, folder in (("XDG_STATE_HOME", "state"), ("XDG_RUNTIME_DIR", "run"), ("TMPDIR", "tmp")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr("platformdirs.user_state_dir", lambda *_, **__: str(tmp_path / "state" / "pytest-bbre"))
    (tmp_path / "run").mkdir(0o700)
    (tmp_path / "tmp").mkdir()
    return tmp_path


def folder_of(state_dir: str | None, told: Told) -> str:
    """Where a ledger is when it is opened."""
    ledger = open_ledger(state_dir, told)
    ledger.close()
    return ledger.folder


def mode(path: str | Path) -> int:
    """The permissions of a file or folder."""
    return stat.S_IMODE(os.lstat(path).st_mode)


def test_the_platform_s_place_is_the_default(home: Path, told: Told):
    """Nothing is said, and the folders above are made."""
    assert folder_of(None, told) == str(home / "state" / "pytest-bbre")
    assert told == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the place of Linux")
def test_the_platform_s_place_on_linux(monkeypatch: pytest.MonkeyPatch):
    """It is what platformdirs and the XDG standard say."""
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere/state")
    assert default_folders()[0] == "/somewhere/state/pytest-bbre"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_folder_and_files_are_their_user_s_alone(tmp_path: Path, told: Told, umask: int):
    """Whatever the umask is."""
    before = os.umask(umask)
    try:
        ledger = open_ledger(str(tmp_path / "ledger"), told)
    finally:
        os.umask(before)
    assert mode(ledger.folder) == 0o700
    found = {name: mode(tmp_path / "ledger" / name) & 0o077 for name in os.listdir(ledger.folder)}
    assert {"ledger.db", "ledger.db-wal", "salt"} <= set(found)
    assert set(found.values()) == {0}
    assert mode(ledger.path) == 0o600
    ledger.close()


def test_an_asked_folder_becomes_absolute(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch):
    """The process may change its folder later, and the guardian has another one."""
    monkeypatch.chdir(tmp_path)
    assert folder_of("a/b", told) == str(tmp_path / "a" / "b")


def test_an_asked_folder_may_be_below_the_home(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch):
    """As people write it, also where no shell puts the home's name in."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder_of("~/ledger", told) == str(tmp_path / "ledger")


def test_a_link_is_refused_as_folder(tmp_path: Path, told: Told):
    """The message names it and says why."""
    (tmp_path / "real").mkdir(0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(LedgerError, match=r"link is a link.*BBRE_STATE_DIR"):
        open_ledger(str(tmp_path / "link"), told)
    assert os.listdir(tmp_path / "real") == []


@pytest.mark.parametrize("target", ["a file", "nothing"])
def test_a_link_is_refused_as_file(tmp_path: Path, told: Told, target: str):
    """What it leads to is neither changed nor made."""
    victim = tmp_path / "victim"
    if target == "a file":
        victim.write_text("precious")
    folder = tmp_path / "ledger"
    folder.mkdir(0o700)
    (folder / "ledger.db").symlink_to(victim)
    with pytest.raises(LedgerError, match=r"ledger\.db is a link"):
        open_ledger(str(folder), told)
    assert victim.read_text() == "precious" if target == "a file" else not victim.exists()


def test_a_link_is_refused_as_lock(tmp_path: Path, told: Told):
    """Nothing is made where it leads to."""
    folder = tmp_path / "ledger"
    folder.mkdir(0o700)
    (folder / "ledger.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(LedgerError, match=r"ledger\.lock"):
        open_ledger(str(folder), told)
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize("permissions", [0o770, 0o777, 0o702])
def test_what_others_can_write_to_is_refused(tmp_path: Path, told: Told, permissions: int):
    """A folder or a file; the message says what to run."""
    folder = tmp_path / "ledger"
    folder.mkdir()
    folder.chmod(permissions)
    with pytest.raises(LedgerError, match="chmod go-w"):
        open_ledger(str(folder), told)
    folder.chmod(0o700)
    open_ledger(str(folder), told).close()
    (folder / "ledger.db").chmod(permissions & 0o666)
    with pytest.raises(LedgerError, match="chmod go-w"):
        open_ledger(str(folder), told)


@AS_ROOT
@pytest.mark.parametrize("what", ["folder", "file"])
def test_another_user_s_is_refused(tmp_path: Path, told: Told, what: str):
    """Whatever its permissions are."""
    folder = tmp_path / "ledger"
    open_ledger(str(folder), told).close()
    os.chown(folder if what == "folder" else folder / "ledger.db", 12345, 12345)
    with pytest.raises(LedgerError, match="belongs to another user"):
        open_ledger(str(folder), told)


@pytest.mark.parametrize("what", ["folder", "file"])
def test_something_else_is_refused(tmp_path: Path, told: Told, what: str):
    """A file where a folder should be, and the other way round."""
    folder = tmp_path / "ledger"
    if what == "folder":
        folder.touch(0o600)
    else:
        folder.mkdir(0o700)
        (folder / "ledger.db").mkdir()
    with pytest.raises(LedgerError, match="is not a"):
        open_ledger(str(folder), told)


def test_an_asked_folder_has_no_substitute(home: Path, told: Told):
    """Who asks for one wants to know that it can't be used."""
    (home / "file").touch()
    with pytest.raises(LedgerError, match="file"):
        open_ledger(str(home / "file" / "ledger"), told)
    assert told == []
    assert os.listdir(home / "run") == []


def test_the_next_place_is_used_and_said(home: Path, told: Told):
    """In one line that says where and why; the next process finds the same, and so it stays."""
    (home / "state").touch()  # no folder can be made below a file, not even by root
    expected = str(home / "run" / "pytest-bbre")
    assert folder_of(None, told) == expected
    assert len(told) == 1
    assert expected in told[0]
    assert str(home / "state") in told[0]
    (home / "state").unlink()
    assert folder_of(None, told) == expected
    assert "begun there earlier" in told[1]


def test_the_last_place_is_the_folder_for_temporary_files(home: Path, told: Told, monkeypatch: pytest.MonkeyPatch):
    """Where there is no runtime folder, or it can't be used."""
    (home / "state").touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    expected = str(home / "tmp" / f"pytest-bbre-{os.geteuid()}")
    assert folder_of(None, told) == expected


def test_no_place_at_all_is_an_error(home: Path, told: Told, monkeypatch: pytest.MonkeyPatch):
    """That names each of them."""
    (home / "file").touch()
    monkeypatch.setattr(place, "default_folders", lambda: [str(home / "file" / "a"), str(home / "file" / "b")])
    with pytest.raises(LedgerError, match=r"file/a.*file/b"):
        open_ledger(None, told)


def test_a_place_that_may_be_somebody_else_s_has_no_substitute(home: Path, told: Told):
    """An attacker can't make us go elsewhere."""
    (home / "state").mkdir()
    (home / "state" / "pytest-bbre").symlink_to(home / "run")
    with pytest.raises(LedgerError, match="is a link"):
        open_ledger(None, told)
    assert os.listdir(home / "run") == []


def test_a_prepared_folder_of_somebody_else_attracts_nobody(home: Path, told: Told):
    """A ledger in the folder for temporary files counts only if nobody else can write to it."""
    trap = home / "tmp" / f"pytest-bbre-{os.geteuid()}"
    trap.mkdir()
    trap.chmod(0o777)
    (trap / "ledger.db").touch()
    assert folder_of(None, told) == str(home / "state" / "pytest-bbre")
    assert told == []


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("/var/tmp", None),
        ("/home/me/.local/state", "nfs4"),
        ("/home", "nfs4"),
        ("/homes", None),
        ("/home/me/local/state", None),
        ("/mnt/two words/x", "cifs"),
        ("/over/x", "fuse.sshfs"),
    ],
)
def test_a_network_file_system_is_known(tmp_path: Path, folder: str, expected: str | None):
    """By the mount that the folder would be on: the innermost, and of two at one point the later one."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert network_file_system(folder, str(mounts)) == expected


def test_without_a_list_of_mounts_nothing_is_known(tmp_path: Path):
    """As on other systems than Linux."""
    assert network_file_system("/home", str(tmp_path / "none")) is None


def test_a_network_file_system_is_not_used(home: Path, told: Told, monkeypatch: pytest.MonkeyPatch):
    """The default goes elsewhere and says so; an asked folder is refused."""
    mounts = home / "mountinfo"
    mounts.write_text(f"1 0 0:1 / {home}/state rw - nfs server:/ rw\n")
    (home / "state").mkdir()
    monkeypatch.setattr(network_file_system, "__defaults__", (str(mounts),))
    assert folder_of(None, told) == str(home / "run" / "pytest-bbre")
    assert "nfs" in told[0]
    with pytest.raises(LedgerError, match=r"network file system \(nfs\)"):
        open_ledger(str(home / "state" / "x"), told)


def test_a_relative_link_above_the_folder_is_followed(tmp_path: Path, told: Told):
    """Only the folder itself must be real: homes are often reached by a link."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert folder_of(str(tmp_path / "link" / "ledger"), told) == str(tmp_path / "link" / "ledger")


def test_the_database_file_is_opened_by_sqlite_alone(tmp_path: Path):
    """Closing any other descriptor of it would drop SQLite's locks."""
    script = """
import os, sys
seen = []
sys.addaudithook(lambda event, args: seen.append(args[0]) if event == "open" else None)
from pytest_bbre.guard.ledger import SqliteLedger
ledger = SqliteLedger(sys.argv[1] + "/state/ledger.db")
ledger.close()
ledger.leases()
print([path for path in seen if "ledger.db" in str(path)])
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_guardian_s_part_is_the_standard_library_s(tmp_path: Path):
    """Opening a ledger by its path loads no other package."""
    script = """
import sys
before = set(sys.modules)  # a virtual environment may load something by itself
from pytest_bbre.guard.ledger import SqliteLedger
SqliteLedger(sys.argv[1] + "/state/ledger.db")
found = set(sys.modules) - before
print(sorted({name.split(".")[0] for name in found} - set(sys.stdlib_module_names)))
print(sorted(found & {"logging", "dataclasses", "platformdirs", "asyncio"}))
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "['pytest_bbre']\n[]\n"
