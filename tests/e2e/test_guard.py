"""The guardian: what a process can't close any more is closed, and nothing that is in use."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from _guardians import Guardians, freed, until
from _process import LIMIT, Process, Start

from pytest_bbre.guard import __main__ as entry
from pytest_bbre.guard import owners

if TYPE_CHECKING:
    from conftest import Service

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes by /proc")

HELD = "session = open_session(); say('held', session.id); rest()"


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGXCPU])
def test_a_killed_process_leaves_nothing(start: Start, service: Service, guardians: Guardians, signum: int) -> None:
    """Its session is closed, its lease goes, and its guardian ends."""
    process = start(HELD)
    process.wait_for("held")
    process.send(signum)
    assert process.status() == -signum
    freed(service)
    guardians.gone()
    assert guardians.ledger.leases() == []
    assert guardians.ledger.enrolled() == []


def test_a_neighbour_is_left_alone(start: Start, service: Service, guardians: Guardians) -> None:
    """Another process of the same account keeps its session, and its guardian."""
    neighbour, victim = start(HELD), start(HELD)
    kept, _ = neighbour.wait_for("held"), victim.wait_for("held")
    guardians.one()
    victim.send(signal.SIGKILL)
    until(lambda: service.active() == [kept], "only the neighbour's session is active")
    guardians.one()
    neighbour.send(signal.SIGKILL)
    freed(service)
    guardians.gone()


def test_the_whole_group_is_killed(start: Start, service: Service, guardians: Guardians) -> None:
    """The guardian is in a session and a process group of its own."""
    process = start(HELD)
    process.wait_for("held")
    guardian = guardians.one()
    assert os.getsid(guardian) not in (os.getsid(0), process.pid)
    assert os.getpgid(guardian) not in (os.getpgid(0), process.pid)
    process.send_to_group(signal.SIGKILL)
    freed(service)
    guardians.gone()


def test_many_that_start_at_once_have_one_guardian(start: Start, service: Service, guardians: Guardians) -> None:
    """Exactly one serves; all of them are covered by it."""
    processes = [start(HELD) for _ in range(5)]
    for process in processes:
        process.wait_for("held")
    guardians.one()
    for process in processes:
        process.send(signal.SIGKILL)
    freed(service)
    guardians.gone()


def test_a_killed_guardian_is_replaced(start: Start, service: Service, guardians: Guardians) -> None:
    """By the process that it guarded, without any operation of it; the new one does what the old one did."""
    process = start(HELD)
    process.wait_for("held")
    first = guardians.one()
    os.kill(first, signal.SIGKILL)
    until(lambda: guardians.pids() not in ([], [first]), "another guardian")
    process.send(signal.SIGKILL)
    freed(service)
    guardians.gone()


def test_guardian_and_owner_die_together(start: Start, service: Service, guardians: Guardians) -> None:
    """The next process that opens a session closes what they left."""
    process = start(HELD)
    left = process.wait_for("held")
    guardian = guardians.one()
    process.send(signal.SIGSTOP)  # so that it can't start another
    os.kill(guardian, signal.SIGKILL)
    process.send(signal.SIGKILL)
    process.status()
    assert service.active() == [left]
    assert start("open_session().close(); say('done')").end().said == ["done"]
    freed(service)
    guardians.gone()
    assert guardians.ledger.leases() == []


def test_a_stopped_process_is_left_alone(start: Start, service: Service, guardians: Guardians) -> None:
    """It lives: nothing of it is closed, however long it says nothing, and whatever the guardian does meanwhile."""
    process, other = start(HELD), start(HELD)
    kept, _ = process.wait_for("held"), other.wait_for("held")
    process.send(signal.SIGSTOP)
    other.send(signal.SIGKILL)
    until(lambda: service.active() == [kept], "only the stopped process's session is active")
    process.send(signal.SIGCONT)
    process.send(signal.SIGKILL)
    freed(service)
    guardians.gone()


def test_a_create_in_flight(start: Start, service: Service, guardians: Guardians) -> None:
    """The session was created, and its asker died before it knew the id: it is found in the account's list."""
    process = start(
        """
        from pytest_bbre import BBREClient

        create = BBREClient.create_session

        def dying(*args, **options):
            create(*args, **options)
            os.kill(os.getpid(), signal.SIGKILL)

        BBREClient.create_session = dying
        open_session()
        """
    )
    assert process.status() == -signal.SIGKILL
    freed(service)
    service.check(opened=1)


def test_the_service_is_away_for_a_while(start: Start, service: Service, guardians: Guardians) -> None:
    """What can't be closed is tried again until it is closed."""
    process = start(HELD)
    process.wait_for("held")
    service.faults.fail("close", times=3)
    process.send(signal.SIGKILL)
    freed(service)
    guardians.gone()
    assert service.calls("close") == 4


def test_it_ends_with_the_last_process(start: Start, service: Service, guardians: Guardians) -> None:
    """A process that ends as it should leaves no guardian, and no lease."""
    assert start("open_session(); say('open')").end().said == ["open"]
    guardians.gone()
    assert guardians.ledger.leases() == []
    assert list(guardians.folder.glob("bell-*")) == []


def test_it_holds_nothing_of_its_owner_s(start: Start, service: Service, guardians: Guardians) -> None:
    """No descriptor, no folder, no child to be waited for: whoever reads the owner's output sees its end."""
    process = start("os.set_inheritable(1, True); open_session(); say('held'); os.wait()")
    ended = process.end()
    assert "ChildProcessError" in ended.err  # the guardian is nobody's child
    process = start(HELD)
    process.wait_for("held")
    guardian = guardians.one()
    assert os.readlink(f"/proc/{guardian}/cwd") == "/"
    links = [os.readlink(f"/proc/{guardian}/fd/{number}") for number in ("0", "1", "2")]
    assert links == ["/dev/null"] * 3
    held = {os.readlink(path) for path in Path(f"/proc/{process.pid}/fd").iterdir() if path.exists()}
    theirs = {os.readlink(path) for path in Path(f"/proc/{guardian}/fd").iterdir() if path.exists()}
    assert not {one for one in held & theirs if one.startswith(("pipe:", "socket:"))}
    process.kill()
    freed(service)
    guardians.gone()


def test_it_knows_the_key_by_itself_alone(start: Start, service: Service, guardians: Guardians) -> None:
    """The key is in no argument, no environment variable and no file of the guardian; and `ps` says what it is."""
    process = start(HELD, OTHER=f"also {service.engine.api_key} in here")
    process.wait_for("held")
    guardian, key = guardians.one(), str(service.engine.api_key).encode()
    command = Path(f"/proc/{guardian}/cmdline").read_bytes()
    assert b"closes BBRE sessions of processes that died" in command
    process.send(signal.SIGKILL)
    shown = [command, Path(f"/proc/{guardian}/environ").read_bytes()]
    freed(service)
    guardians.gone()
    shown += [path.read_bytes() for path in guardians.folder.iterdir() if path.is_file()]
    assert [one for one in shown if key in one] == []
    assert any(b"guards" in one for one in shown)


def test_it_is_small_and_loads_nothing_foreign(start: Start, service: Service, guardians: Guardians) -> None:
    """At most 25 MB resident, after it has closed sessions, too; no file of an installed package is loaded."""
    neighbour = start(HELD)
    kept = neighbour.wait_for("held")
    process = start("for _ in range(9): open_session()\nrest()")
    process.wait_for()
    process.send(signal.SIGKILL)
    until(lambda: service.active() == [kept], "only the neighbour's session is active")
    guardian = guardians.one()
    status = Path(f"/proc/{guardian}/status").read_text()
    resident = int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0])
    assert resident <= 25 * 1024
    loaded = Path(f"/proc/{guardian}/maps").read_text()
    assert "site-packages" not in loaded
    neighbour.kill()
    freed(service)
    guardians.gone()


def test_without_a_guardian_there_is_none(start: Start, service: Service, guardians: Guardians) -> None:
    """BBRE_GUARD=0: what a killed process leaves is closed by the next one."""
    process = start(HELD, BBRE_GUARD="0")
    left = process.wait_for("held")
    assert list(guardians.folder.glob("guardian-*")) == []
    process.send(signal.SIGKILL)
    process.status()
    assert service.active() == [left]
    start("open_session().close()", BBRE_GUARD="0").end()
    freed(service)
    assert list(guardians.folder.glob("guardian-*")) == []


def test_a_process_that_becomes_another_program(start: Start, service: Service, guardians: Guardians) -> None:
    """What it could not close is closed while that program runs, though it is the same process."""
    service.faults.fail("close", times=1)
    process = start(
        """
        open_session()
        say("held")
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(60)"])
        """,
        BBRE_RETRIES="0",
    )
    service.faults.fail("close", times=1)
    process.wait_for("held")
    freed(service)
    guardians.gone()
    assert guardians.ledger.leases() == []


def test_a_forked_child_that_is_killed(start: Start, service: Service, guardians: Guardians) -> None:
    """Its session is closed; its parent's is not."""
    process = start(
        """
        mine = open_session()
        pid = os.fork()
        if not pid:
            say("child", open_session().id)
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
        say("held", mine.id)
        rest()
        """
    )
    process.wait_for("child")
    kept = process.wait_for("held")
    until(lambda: service.active() == [kept], "only the parent's session is active")
    process.send(signal.SIGKILL)
    freed(service)
    guardians.gone()


@pytest.mark.parametrize(
    "task",
    [
        b"",
        b"garbage",
        b"{}",
        b"[1]",
        b'{"protocol": 1}',
        # With a name of its own: older pytest puts a test's whole id into the environment, and exec refuses that much.
        pytest.param(b"x" * 200_000, id="huge"),
        b'{"protocol": 99}',
    ],
)
def test_a_hostile_starter_gets_nothing(task: bytes, tmp_path: Path) -> None:
    """A guardian whose task can't be read says so in one line, and ends."""
    command = [sys.executable, "-I", "-S", str(entry.__file__)]
    ended = subprocess.run(command, input=task, capture_output=True, timeout=LIMIT, cwd=tmp_path, check=False)
    assert ended.returncode == 2
    assert ended.stdout.startswith(b'{"error": "its task can\'t be read: ')
    assert len(ended.stdout) < 200
    assert ended.stderr == b""


def test_a_process_that_ends_is_told_apart(start: Start, service: Service, guardians: Guardians) -> None:
    """The ledger's owner is the very process: its pid with its start."""
    process: Process = start(HELD)
    process.wait_for("held")
    (lease,) = guardians.ledger.leases()
    assert owners.Owner.parse(lease.wanted.owner).pid == process.pid
    assert owners.judge(lease.wanted.owner).state == owners.ALIVE
    process.kill()
    assert owners.judge(lease.wanted.owner).state == owners.DEAD
    freed(service)
    guardians.gone()


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """A folder with a later version of the package, whose guardian can do more."""
    copy = tmp_path / "newer" / "pytest_bbre"
    package = Path(entry.__file__).parents[1]
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    module = copy / "guard" / "guardian.py"
    text = module.read_text()
    assert text.count("VERSION: Final = 1 ") == 1
    module.write_text(text.replace("VERSION: Final = 1 ", "VERSION: Final = 2 "))
    return copy.parent


def test_a_newer_guardian_takes_over(start: Start, service: Service, guardians: Guardians, newer: Path) -> None:
    """At once, and the older one leaves. Processes of the older version are content with it, and nothing is lost."""
    older = start(HELD)
    older.wait_for("held")
    first = guardians.one()
    later = start(HELD, PYTHONPATH=str(newer))
    kept = later.wait_for("held")
    until(lambda: guardians.pids() != [first] and len(guardians.pids()) == 1, "the newer one serves alone")
    second = guardians.one()
    (account,) = {one.account for one in guardians.ledger.enrolled()}
    assert guardians.ledger.guardian_version(account) == 2
    third = start(HELD)
    third.wait_for("held")
    older.send(signal.SIGKILL)
    third.send(signal.SIGKILL)
    until(lambda: service.active() == [kept], "what the older ones left is closed")
    assert guardians.pids() == [second]
    later.send(signal.SIGKILL)
    freed(service)
    guardians.gone()
