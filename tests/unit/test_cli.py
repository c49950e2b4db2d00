"""cli.py: what the command `bbre` prints, and its exit codes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import closing
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import pytest
from _scripted import KEY, Scripted, fails, reply
from click.testing import CliRunner, Result

from pytest_bbre import BBREClient, managed_session
from pytest_bbre.cli import main
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
def account(engine: Any, monkeypatch: pytest.MonkeyPatch) -> BBREClient:
    """The engine's account, which the environment names."""
    for name, value in engine.environ().items():
        monkeypatch.setenv(name, value)
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
    lines = bbre("sessions").output.splitlines()
    assert lines[0].split() == ["ID", "STATUS", "MODE", "AGE", "LEFT", "REQUESTS"]
    assert [line.split()[0] for line in lines[1:]] == [second.id, first.id]
    assert lines[1].split()[1:3] == ["active", "passive"]
    assert lines[1].split()[-1] == "0"
    every = bbre("sessions", "--all").output
    assert gone.id in every
    assert "closed" in every


def test_sessions_of_a_service_that_tells_little(bbre, scripted: Scripted):
    """What is not told is a question mark, never an error."""
    scripted.answer("list", reply({"data": {"sessions": [{"id": "session_x"}]}}))
    told = bbre("sessions")
    assert told.exit_code == 0
    assert told.output.splitlines()[1].split() == ["session_x", "?", "?", "?", "-", "?"]


def test_ids_are_told_exactly_as_they_are(bbre, scripted: Scripted):
    """An id is opaque: brackets and colons in it are no markup, and it is never shortened."""
    odd = ["[bold]x[/bold]", ":smile:", "session_" + "x" * 120]
    scripted.answer("list", reply({"data": {"sessions": [{"id": one} for one in odd]}}))
    assert [line.split()[0] for line in bbre("sessions").output.splitlines()[1:]] == odd


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
def left(account: BBREClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of a session that a killed process left, with no guardian beside it."""
    monkeypatch.setenv("BBRE_GUARD", "0")
    monkeypatch.setenv("BBRE_STATE_DIR", str(tmp_path / "state"))
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


def test_what_is_in_use_is_left_alone(bbre, account: BBREClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A living process's session is shown, and not closed."""
    monkeypatch.setenv("BBRE_STATE_DIR", str(tmp_path / "state"))
    with managed_session() as session:
        told = bbre("reap", "--yes")
        assert told.output == f"{session.id}: process {os.getpid()} is running; left alone\nNothing to reap.\n"
        assert session.is_active
        assert session.status().is_active
