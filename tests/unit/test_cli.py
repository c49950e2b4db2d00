"""cli.py: what the command `bbre` prints, and its exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import pytest
from _scripted import KEY, Scripted, fails, reply
from click.testing import CliRunner, Result

from pytest_bbre import BBREClient, managed_session
from pytest_bbre.cli import main
from pytest_bbre.errors import SessionClosedError
from pytest_bbre.guard import owners
from pytest_bbre.guard.place import open_ledger


@pytest.fixture
def bbre(monkeypatch: pytest.MonkeyPatch):
    """Runs the command; repetitions don't wait."""
    monkeypatch.setenv("BBRE_RETRY_MIN", "0")
    monkeypatch.setenv("BBRE_RETRY_MAX", "0")
    monkeypatch.setenv("BBRE_RETRIES", "1")

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments)

    return run


@pytest.fixture
def account(engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BBREClient:
    """The engine's account, which the environment names, with a ledger of its own."""
    for name, value in engine.environ().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BBRE_STATE_DIR", str(tmp_path / "state"))
    client = BBREClient()
    yield client
    client.close_sessions(engine.sessions())


@pytest.fixture
def scripted(service: Scripted, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """A scripted service that the environment names."""
    monkeypatch.setenv("BBRE_API_KEY", KEY)
    monkeypatch.setenv("BBRE_BASE_URL", service.base_url)
    return service


def test_the_command_is_installed():
    """pyproject.toml gives it its name."""
    (script,) = entry_points(group="console_scripts", name="bbre")
    assert script.load() is main


def test_help_tells_the_commands(bbre):
    """-h and --help, with the variables that name the account."""
    for option in ("-h", "--help"):
        told = bbre(option)
        assert told.exit_code == 0
        for word in ("BBRE_API_KEY", "BBRE_BASE_URL", "sessions", "close", "version"):
            assert word in told.output


def test_the_version(bbre):
    """The distribution's."""
    assert bbre("version").output.strip() == version("pytest-bbre")


def test_no_sessions(bbre, account: BBREClient):
    """Said in words, not by an empty table."""
    assert bbre("sessions").output == "No active sessions.\n"
    assert bbre("sessions", "--all").output == "No sessions.\n"


def test_sessions_are_listed_newest_first(bbre, account: BBREClient):
    """With their whole ids, so that they can be copied, and what helps to choose one to close."""
    first, second = account.create_session(), account.create_session(timeout=60)
    gone = account.create_session()
    account.close_session(gone)
    title, head, *lines = bbre("sessions").output.splitlines()
    assert title == "Unknown: in no ledger of this machine. Close one with: bbre close ID"
    assert head.split() == ["ID", "STATE", "MODE", "AGE", "IDLE", "LEFT", "REQUESTS"]
    assert [line.split()[0] for line in lines[:2]] == [second.id, first.id]
    assert lines[0].split()[1:3] == ["active", "passive"]
    assert lines[0].split()[-1] == "0"
    assert lines[2:] == ["", "2 of 10 slots in use."]
    every = bbre("sessions", "--all").output
    assert re.search(rf"^{gone.id} +closed +passive +0 *$", every, re.MULTILINE)


def test_sessions_of_a_service_that_tells_little(bbre, scripted: Scripted):
    """What is not told is a question mark, never an error."""
    scripted.answer("list", reply({"data": {"sessions": [{"id": "session_x"}]}}))
    told = bbre("sessions")
    assert told.exit_code == 0
    assert told.output.splitlines()[2].split() == ["session_x", *"??????"]


def test_ids_are_told_exactly_as_they_are(bbre, scripted: Scripted):
    """An id is opaque: brackets and colons in it are no markup, and it is never shortened."""
    odd = ["[bold]x[/bold]", ":smile:", "session_" + "x" * 120]
    scripted.answer("list", reply({"data": {"sessions": [{"id": one} for one in odd]}}))
    lines = bbre("sessions").output.splitlines()
    assert [line.split()[0] for line in lines[2:-2]] == odd


def test_closing(bbre, account: BBREClient, engine: Any):
    """Several at once; closed and unknown ones count as closed."""
    made = [account.create_session().id for _ in range(3)]
    account.close_session(made[1])
    told = bbre("close", *made, "session_unknown")
    assert told.exit_code == 0
    assert told.output.splitlines() == [
        f"{made[0]}: closed",
        f"{made[1]}: already closed",
        f"{made[2]}: closed",
        "session_unknown: not found",
    ]
    assert engine.sessions() == []


def test_a_close_that_fails(bbre, scripted: Scripted):
    """Each attempt ends; what failed is told on stderr, and the exit code is 1."""
    scripted.always(
        "close",
        lambda arrived: fails("SERVICE_ERROR") if arrived.json["sessionId"] == "bad" else fails("SESSION_CLOSED"),
    )
    told = bbre("close", "bad", "good")
    assert told.exit_code == 1
    assert told.stdout == "good: already closed\n"
    assert "bad: failed: SERVICE_ERROR (500)" in told.stderr


def test_closing_nothing_is_a_mistake(bbre):
    """The usage is told, with exit code 2."""
    told = bbre("close")
    assert told.exit_code == 2
    assert "ID..." in told.output


@pytest.mark.parametrize("command", [["sessions"], ["close", "x"], ["reap"]])
def test_without_a_key_the_remedy_is_told(bbre, command: list[str]):
    """In one line, without a traceback, with exit code 1; the remedy is one that the command takes."""
    told = bbre(*command)
    assert told.exit_code == 1
    assert told.output.startswith("Error: No API key is set. Set BBRE_API_KEY")
    assert "embedded" not in told.output
    assert len(told.output.splitlines()) == 1


@pytest.mark.parametrize("command", [["sessions"], ["close", "x"]])
def test_an_embedded_engine_can_not_be_asked_from_here(bbre, monkeypatch: pytest.MonkeyPatch, command: list[str]):
    """A new engine of the command's own would know nothing: that is told, and none is started."""
    monkeypatch.setenv("BBRE_BASE_URL", "embedded")
    told = bbre(*command)
    assert told.exit_code == 1
    assert "belongs to the process that started it" in told.stderr


def test_a_bad_setting_is_told(bbre, monkeypatch: pytest.MonkeyPatch):
    """With its name, value, and what is allowed."""
    monkeypatch.setenv("BBRE_API_KEY", KEY)
    monkeypatch.setenv("BBRE_BASE_URL", "example.org")
    told = bbre("sessions")
    assert told.exit_code == 1
    assert "base_url is 'example.org'" in told.output


def test_a_refusal_of_the_service_is_told_without_the_key(bbre, scripted: Scripted):
    """A wrong key: the remedy, and not the key."""
    scripted.answer(
        "list", reply({"success": False, "error": {"code": "INVALID_API_KEY", "message": f"No {KEY}"}}, 403)
    )
    told = bbre("sessions")
    assert told.exit_code == 1
    assert "INVALID_API_KEY (403)" in told.output
    assert KEY not in told.output


DIES = "import os; from pytest_bbre import open_session; open_session(); os.kill(os.getpid(), 9)"


@pytest.fixture
def left(account: BBREClient, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of a session that a killed process left, with no guardian beside it."""
    monkeypatch.setenv("BBRE_GUARD", "0")
    assert subprocess.run([sys.executable, "-c", DIES], check=False).returncode == -9
    (session,) = account.list_sessions("active")
    return session.id


def test_reaping_tells_the_proof_of_death(bbre, account: BBREClient, left: str):
    """Said, and done only where it is not a trial: the session is closed, and nothing is left to reap."""
    told = bbre("reap", "--dry-run")
    assert told.exit_code == 0
    assert re.search(rf"^{left}: there is no process \d+ any more; to be closed$", told.output, re.MULTILINE)
    assert [one.id for one in account.list_sessions("active")] == [left]
    told = bbre("reap", "--yes")
    assert (told.exit_code, list(account.list_sessions("active"))) == (0, [])
    assert f"{left}: closed" in told.output
    assert bbre("reap").output == "Nothing to reap.\n"


def test_reaping_asks_first(bbre, account: BBREClient, left: str):
    """Without an answer nothing is closed."""
    told = bbre("reap")
    assert told.exit_code == 1
    assert "Close 1?" in told.output
    assert [one.id for one in account.list_sessions("active")] == [left]


def test_a_failed_reaping_is_told(bbre, account: BBREClient, engine: Any, left: str):
    """With its reason, and exit code 1; it can be done again."""
    engine.faults.fail("close", times=1)
    told = bbre("reap", "--yes")
    assert told.exit_code == 1
    assert f"{left}: failed: SERVICE_ERROR" in told.output
    with closing(open_ledger(os.environ["BBRE_STATE_DIR"], print)) as ledger:
        assert [lease.session_id for lease in ledger.leases()] == [left]


def test_what_is_in_use_is_left_alone(bbre, account: BBREClient):
    """A living process's session is shown, and not closed."""
    with managed_session() as session:
        told = bbre("reap", "--yes")
        assert told.output == f"{session.id}: process {os.getpid()} is running; left alone\nNothing to reap.\n"
        assert session.is_active
        assert session.status().is_active


# Whose they are.


@pytest.fixture
def kept(account: BBREClient) -> Any:
    """A session of this very process."""
    with managed_session() as session:
        yield session


@pytest.fixture
def dead(account: BBREClient, kept: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Two sessions that a killed process left; of the second the ledger says that another machine holds it."""
    monkeypatch.setenv("BBRE_GUARD", "0")
    code = DIES.replace(
        "open_session();", "left, far = open_session(), open_session(); print(left.id, far.id, flush=1);"
    )
    left, far = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout.split()
    owner = str(owners.here()._replace(host="build-17"))
    with closing(sqlite3.connect(Path(os.environ["BBRE_STATE_DIR"]) / "ledger.db")) as db, db:
        db.execute("UPDATE leases SET owner = ? WHERE session_id = ?", (owner, far))
    return left, far


def test_sessions_are_told_by_whose_they_are(bbre, account: BBREClient, kept: Any, dead: tuple[str, str]):
    """The living's, the dead's, others', and what no ledger knows; for programs, too."""
    left, far = dead
    stray = account.create_session().id
    told = bbre("sessions")
    assert [line.split(":")[0] for line in told.output.splitlines() if ": " in line and line[0].isupper()] == [
        "Mine",
        "Left over",
        "Others'",
        "Unknown",
    ]
    assert f"process {os.getpid()}" in told.output
    found = json.loads(bbre("sessions", "--json").output)
    rows = {row["id"]: row for row in found["sessions"]}
    assert {name: row["group"] for name, row in rows.items()} == {
        kept.id: "mine",
        left: "left_over",
        far: "others",
        stray: "unknown",
    }
    assert "test_sessions_are_told_by_whose_they_are" in rows[kept.id]["place"]
    assert rows[kept.id]["state"] == "open"
    assert rows[stray]["mode"] == "passive"
    assert rows[stray]["owner"] is None
    assert rows[far]["reason"] == "its owner is on another machine, build-17"
    assert 0 <= rows[kept.id]["idle"] <= rows[kept.id]["age"] < 300
    assert 0 < rows[kept.id]["left"] <= 300
    assert found["slots"] == {"in_use": 4, "limit": 10, "waiting": 0}


def test_sessions_that_ended_are_told_for_programs(bbre, account: BBREClient):
    """With --all; else there are none."""
    gone = account.create_session()
    account.close_session(gone)
    assert json.loads(bbre("sessions", "--json").output) == {
        "sessions": [],
        "ended": [],
        "slots": {"in_use": 0, "limit": 10, "waiting": 0},
    }
    (ended,) = json.loads(bbre("sessions", "--all", "--json").output)["ended"]
    assert (ended["id"], ended["status"]) == (gone.id, "closed")


def test_closing_all_mine_asks_and_names_who_lives(bbre, account: BBREClient, kept: Any, dead: tuple[str, str]):
    """And closes what was opened here alone: neither another machine's nor what no ledger knows."""
    left, far = dead
    stray = account.create_session().id
    told = bbre("close", "--all-mine")
    assert told.exit_code == 1
    assert f"process {os.getpid()} is running" in told.output
    assert "Close 2? [y/N]" in told.output
    assert len(list(account.list_sessions("active"))) == 4
    told = bbre("close", "--all-mine", "--yes")
    assert told.exit_code == 0
    assert sorted(told.output.splitlines()) == sorted([f"{kept.id}: closed", f"{left}: closed"])
    assert {one.id for one in account.list_sessions("active")} == {far, stray}
    with pytest.raises(SessionClosedError):
        kept.get("http://127.0.0.1:9/")


def test_what_was_closed_is_out_of_the_ledger(bbre, account: BBREClient, kept: Any, dead: tuple[str, str]):
    """Its slot is free at once, though its owner has not noticed."""
    assert bbre("close", kept.id, *dead).exit_code == 0
    with closing(open_ledger(os.environ["BBRE_STATE_DIR"], print)) as ledger:
        assert ledger.leases() == []
    assert json.loads(bbre("sessions", "--json").output)["slots"]["in_use"] == 0


def test_nothing_to_close(bbre, account: BBREClient):
    """Said, and no mistake."""
    stray = account.create_session().id
    told = bbre("close", "--all-mine")
    assert (told.exit_code, told.output) == (0, "Nothing to close.\n")
    assert [one.id for one in account.list_sessions("active")] == [stray]


def test_ids_and_all_mine_exclude_each_other(bbre):
    """The usage is told."""
    assert bbre("close", "x", "--all-mine").exit_code == 2


def test_without_a_ledger_the_list_is_shown(bbre, account: BBREClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And why nobody knows whose the sessions are; closing works, and reaping does not."""
    monkeypatch.setenv("BBRE_STATE_DIR", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    stray = account.create_session().id
    told = bbre("sessions")
    assert told.exit_code == 0
    assert "can't be told without it" in told.stderr
    assert stray in told.stdout
    assert bbre("reap").exit_code == 1
    assert f"{stray}: closed" in bbre("close", stray).stdout


def test_ids_are_completed(account: BBREClient, kept: Any):
    """By what a shell calls; nothing is said where they can't be had."""
    line = {"_BBRE_COMPLETE": "bash_complete", "COMP_WORDS": "bbre close session_", "COMP_CWORD": "2"}
    command = [sys.executable, "-c", "from pytest_bbre.cli import main; main(prog_name='bbre')"]
    told = subprocess.run(command, env={**os.environ, **line}, capture_output=True, text=True, check=False)
    assert told.stdout == f"plain,{kept.id}\n"
    unreachable = {**os.environ, **line, "BBRE_BASE_URL": "http://127.0.0.1:9"}
    told = subprocess.run(command, env=unreachable, capture_output=True, text=True, check=False)
    assert (told.stdout, told.stderr) == ("\n", "")


def in_a_terminal(columns: int, *arguments: str) -> str:
    """What a person sees, control sequences and all."""
    command = [sys.executable, "-c", "from pytest_bbre.cli import main; main()", *arguments]
    environ = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color"}
    environ = {name: value for name, value in environ.items() if name not in ("NO_COLOR", "CI")}
    mine, its = pty.openpty()
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environ) as process:
        os.close(its)
        shown = b""
        with suppress(OSError):  # how a terminal tells that nobody is there any more
            while chunk := os.read(mine, 65536):
                shown += chunk
        os.close(mine)
    assert process.returncode == 0
    return shown.decode()


def test_a_terminal_has_colours_and_a_pipe_has_none(bbre, account: BBREClient, kept: Any):
    """In a narrow one each session has a few lines, and its id is whole."""
    assert "\x1b[" in in_a_terminal(200, "sessions")
    assert "\x1b[" not in bbre("sessions").output
    narrow = re.sub(r"\x1b\[[0-9;]*m", "", in_a_terminal(60, "sessions"))
    assert f"\r\n{kept.id}\r\n  open, passive, " in narrow
    assert max(map(len, narrow.splitlines())) <= 60


def test_closing_many_shows_how_far_it_is(account: BBREClient):
    """In a terminal, on one line that goes away."""
    made = [account.create_session().id for _ in range(3)]
    shown = in_a_terminal(100, "close", *made)
    assert "Closing" in shown
    assert "3/3" in shown
    assert all(f"{one}: closed" in shown for one in made)


# The doctor.


def checks(told: Result) -> dict[str, tuple[str, str]]:
    """What it found, by what it looked at."""
    rows = [re.split(r" {2,}", line.strip(), maxsplit=2) for line in told.output.splitlines()]
    return {name: (state, words) for state, name, words in rows}


def test_the_doctor_finds_all_well(bbre, account: BBREClient, kept: Any):
    """With what it looked at."""
    told = bbre("doctor")
    found = checks(told)
    assert told.exit_code == 0
    assert {name for name, (state, _) in found.items() if state != "ok"} - {"browser"} == {
        "guardian"
    }  # the engine's ours
    software = ["pytest-bbre", "system", "engine", "adaptive", "browser"]
    assert list(found) == [*software, "service", "ledger", "guardian", "slots"]
    assert re.fullmatch(r"http://\S+ answers in \d+ ms, and accepts the key", found["service"][1])
    assert found["slots"][1] == "1 of 10 in use, 0 waiting"
    assert os.environ["BBRE_STATE_DIR"] in found["ledger"][1]
    assert os.environ["BBRE_API_KEY"] not in told.output


def test_the_doctor_tells_what_is_left_and_how_to_close_it(bbre, account: BBREClient, left: str):
    """Notes are no failure."""
    account.create_session()
    told = bbre("doctor")
    found = checks(told)
    assert told.exit_code == 0
    assert found["left over"] == ("note", "1 of processes that have died. Close them with: bbre reap")
    assert found["unknown"][1].startswith("1 that no ledger of this machine knows")
    assert found["guardian"][0] == "note"
    assert "BBRE_GUARD is 0" in found["guardian"][1]


@pytest.mark.parametrize(
    ("variable", "value", "name", "words"),
    [
        ("BBRE_API_KEY", "wrong-key-0123456789", "service", "INVALID_API_KEY"),
        ("BBRE_BASE_URL", "http://127.0.0.1:9", "service", "http://127.0.0.1:9"),
        ("BBRE_STATE_DIR", "/proc/nowhere", "ledger", "/proc/nowhere"),
    ],
)
def test_the_doctor_tells_what_does_not_work(
    bbre, account: BBREClient, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, name: str, words: str
):
    """Exit code 1, what it is, and the rest is looked at all the same."""
    monkeypatch.setenv(variable, value)
    told = bbre("doctor")
    found = checks(told)
    assert told.exit_code == 1
    assert found[name][0] == "bad"
    assert words in found[name][1]
    assert "wrong-key-0123456789" not in told.output
    assert {"service", "ledger", "guardian", "slots"} <= set(found)


def test_the_doctor_without_an_account(bbre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A missing key is bad; the embedded engine is none, since that is what each process has of its own."""
    monkeypatch.setenv("BBRE_STATE_DIR", str(tmp_path / "state"))
    told = bbre("doctor")
    assert told.exit_code == 1
    assert "Set BBRE_API_KEY" in checks(told)["service"][1]
    monkeypatch.setenv("BBRE_BASE_URL", "embedded")
    told = bbre("doctor")
    assert told.exit_code == 0
    assert checks(told)["service"][0] == "note"
