"""Promises of a run that is told to stop: it ends in good order, nothing stays open, and the exit code says why.

A test of such a run asks for its session's status and then waits; that call's arrival at the engine is the sign that
the run is where the signal shall meet it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

LIMIT = 40
pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signals"),
    pytest.mark.usefixtures("unmeasured"),
]

WAITING = """
import os
import threading

import pytest

def wait():
    threading.Event().wait(60)
    print("never woken", flush=True)

@pytest.fixture(scope="session", autouse=True)
def whole():
    yield
    print("torn down: run", flush=True)

@pytest.fixture(scope="module", autouse=True)
def module(bbre_module_session):
    yield
    print("torn down: module", flush=True)

@pytest.fixture
def mine(bbre_session, bbre_session_factory):
    bbre_session_factory()
    if PLACE == "setup":
        bbre_session.status()
        wait()
    try:
        yield
        if PLACE == "teardown":
            bbre_session.status()
            wait()
    finally:
        print("torn down: mine", flush=True)

@pytest.fixture
def other(mine):
    yield
    print("torn down: other", flush=True)

def test_waits(other, bbre_session):
    if PLACE == "call":
        bbre_session.status()
        wait()

def test_next():
    print("the next test ran", flush=True)
"""


class Running:
    """A run of pytest that goes on while the test acts."""

    def __init__(self, folder: Path, arguments: tuple[str, ...], options: dict) -> None:
        self._output = folder / "output"
        command = [sys.executable, "-m", "pytest", "-s", "-p", "bbre", "-p", "no:cacheprovider", *arguments]
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, **options
            )

    def send(self, signum: int) -> None:
        self.process.send_signal(signum)

    def end(self) -> tuple[int, str]:
        """Its exit code and output, once it has ended by itself."""
        self.process.communicate(timeout=LIMIT)
        return self.process.returncode, self._output.read_text()


@pytest.fixture
def start(pytester: pytest.Pytester) -> Iterator[Callable[..., Running]]:
    """Starts a run that is surely gone when the test is over."""
    started: list[Running] = []

    def start_run(source: str, *arguments: str, **options: object) -> Running:
        pytester.makepyfile(source)
        started.append(Running(pytester.path, arguments, options))
        return started[-1]

    yield start_run
    for one in started:
        one.process.kill()
        one.process.communicate(timeout=LIMIT)


def waiting(place: str) -> str:
    return f"PLACE = {place!r}\n{WAITING}"


def torn_down(output: str) -> list[str]:
    """The fixtures of such a run that were torn down, in their order."""
    return [line.rpartition(": ")[2] for line in output.splitlines() if "torn down: " in line]


@pytest.mark.parametrize(
    ("name", "place"), [("SIGTERM", "setup"), ("SIGTERM", "call"), ("SIGTERM", "teardown"), ("SIGHUP", "call")]
)
def test_good_order(start, service, name, place):
    """SIGTERM and SIGHUP, wherever they meet a test: its fixtures and all others are torn down, no further test runs,
    the summary is printed, the exit code is 128 plus the signal's number, and the engine has nothing open.
    """
    signum = signal.Signals[name]
    run = start(waiting(place))
    service.wait_for("status")
    run.send(signum)
    code, output = run.end()
    assert service.active() == []
    assert code == 128 + signum, output
    mine = {"setup": [], "call": ["other", "mine"], "teardown": ["other", "mine"]}[place]
    assert torn_down(output) == [*mine, "module", "run"]
    assert "the next test ran" not in output
    assert "never woken" not in output
    assert f"{name} received" in output
    assert "bbre: opened 3, closed 3, still active 0" in output


def test_a_test_that_swallows_everything(start, service):
    """A test that catches BaseException can't keep the run going: it ends after that test."""
    run = start(
        """
        import threading

        def test_swallows(bbre_session):
            try:
                bbre_session.status()
                threading.Event().wait(60)
            except BaseException:
                print("swallowed", flush=True)

        def test_next():
            print("the next test ran", flush=True)
        """
    )
    service.wait_for("status")
    run.send(signal.SIGTERM)
    code, output = run.end()
    assert code == 143, output
    assert "swallowed" in output
    assert "the next test ran" not in output
    assert "SIGTERM received" in output
    assert "bbre: opened 1, closed 1, still active 0" in output


def test_a_second_signal_ends_at_once(start, service):
    """A second SIGTERM ends a run whose teardown hangs, by the signal itself."""
    run = start(
        """
        import threading
        import pytest

        @pytest.fixture
        def slow(bbre_session):
            yield
            bbre_session.status()
            threading.Event().wait(60)

        def test_one(slow, bbre_session):
            bbre_session.status()
            threading.Event().wait(60)
        """
    )
    service.wait_for("status")
    run.send(signal.SIGTERM)
    service.wait_for("status", 2)
    run.send(signal.SIGTERM)
    code, output = run.end()
    assert code == -signal.SIGTERM, output
    service.close_all()


def test_a_signal_sent_twice_is_one(start, service):
    """As `timeout` of coreutils sends it, to the process and to its group: the run still ends in good order."""
    run = start(waiting("call"))
    service.wait_for("status")
    for _ in range(5):
        run.send(signal.SIGTERM)
        time.sleep(0)  # lets others run, so that they don't become one on the way
    code, output = run.end()
    assert code == 143, output
    assert "torn down: run" in output
    assert service.active() == []
    assert "bbre: opened 3, closed 3, still active 0" in output


def test_during_a_create(start, service):
    """SIGTERM while a session is being created: the session that comes to be is closed before the run ends."""
    service.faults.delay("create", 1, times=1)
    run = start("def test_one(bbre_session): pass")
    service.wait_for("create")
    run.send(signal.SIGTERM)
    code, output = run.end()
    assert code == 143, output
    assert [one.status for one in service.sessions()] == ["closed"]
    assert "bbre: opened 1, closed 1, still active 0" in output


def test_during_a_close(start, service):
    """SIGTERM while a session is being closed: the close is finished, and so is the module's."""
    service.faults.delay("close", 1, times=1)
    run = start("def test_one(bbre_session, bbre_module_session): pass\ndef test_two(): print('the next test ran')")
    service.wait_for("close")
    run.send(signal.SIGTERM)
    code, output = run.end()
    assert code == 143, output
    assert [one.status for one in service.sessions()] == ["closed"] * 2
    assert "the next test ran" not in output


def test_during_collection(start, service):
    """SIGTERM before any test runs stops the run as well, and closes what a module opened while it was imported."""
    run = start(
        """
        import threading

        from pytest_bbre import open_session

        open_session().status()
        threading.Event().wait(60)
        """
    )
    service.wait_for("status")
    run.send(signal.SIGTERM)
    code, output = run.end()
    assert code == 143, output
    assert [one.status for one in service.sessions()] == ["closed"]


def test_the_embedded_engine_outlives_the_signal(start, pytester):
    """With the embedded engine, too, everything is closed before the engine goes, which is gone when the run is."""
    script = """
        import os
        import pathlib
        import signal

        def test_one(bbre_session, bbre_module_session, bbre_engine):
            pathlib.Path("pid").write_text(str(bbre_engine.pid))
            os.kill(os.getpid(), signal.SIGTERM)
            print("went on", flush=True)
        """
    code, output = start(script).end()
    assert code == 143, output
    assert "went on" not in output
    assert "bbre: opened 2, closed 2, still active 0" in output
    with pytest.raises(ProcessLookupError):
        os.kill(int((pytester.path / "pid").read_text()), 0)


def test_an_ignored_signal_stays_ignored(start, service):
    """A run under nohup goes on when its terminal hangs up."""
    run = start(
        """
        import sys

        def test_one(bbre_session):
            bbre_session.status()
            assert sys.stdin.readline() == "go on\\n"
        """,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    service.wait_for("status")
    run.send(signal.SIGHUP)
    run.process.stdin.write(b"go on\n")
    code, output = run.end()
    assert code == 0, output
    assert "bbre: opened 1, closed 1, still active 0" in output


EARLIER = """
import os
import signal

from pytest_bbre import BBREClient

def handle(signum, frame):
    with BBREClient() as client:
        print("the earlier handler finds", len(list(client.list_sessions("active"))), "active", flush=True)
    if ENDS:
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)

signal.signal(signal.SIGTERM, handle)
"""


@pytest.fixture
def start_after(start, pytester):
    """Starts a run with a plugin that handles SIGTERM, and that may end the process there, as coverage's does."""

    def start_run(source: str, *, ends: bool) -> Running:
        pytester.makepyfile(earlier=f"ENDS = {ends}\n{EARLIER}")
        return start(source, "-p", "earlier", env={**os.environ, "PYTHONPATH": "."})

    return start_run


def test_an_earlier_handler_still_runs(start_after, service):
    """A handler that a plugin had put in place before is called, too: once, after the summary, with nothing open."""
    run = start_after(waiting("call"), ends=False)
    service.wait_for("status")
    run.send(signal.SIGTERM)
    code, output = run.end()
    assert code == 143, output
    assert output.count("the earlier handler") == 1
    assert "the earlier handler finds 0 active" in output.partition("bbre: opened 3, closed 3, still active 0")[2]


def test_an_earlier_handler_that_ends_the_process(start_after, service):
    """A handler that ends the process by the signal does so when all fixtures are torn down and nothing is open."""
    run = start_after(waiting("call"), ends=True)
    service.wait_for("status")
    run.send(signal.SIGTERM)
    code, output = run.end()
    assert service.active() == []
    assert code == -signal.SIGTERM, output
    before, told, _ = output.partition("the earlier handler finds 0 active")
    assert told, output
    assert torn_down(before) == ["other", "mine", "module", "run"]


def test_control_c(start, service):
    """Ctrl-C ends the run as pytest always ends it, with everything closed."""
    run = start(waiting("call"))
    service.wait_for("status")
    run.send(signal.SIGINT)
    code, output = run.end()
    assert code == pytest.ExitCode.INTERRUPTED, output
    assert "KeyboardInterrupt" in output
    assert "torn down: module" in output
    assert "bbre: opened 3, closed 3, still active 0" in output


def test_control_c_during_a_teardown(start, service):
    """A Ctrl-C that meets the closing of a session does not lose it."""
    service.faults.delay("close", 1, times=1)
    run = start("def test_one(bbre_session, bbre_module_session): pass")
    service.wait_for("close")
    run.send(signal.SIGINT)
    code, output = run.end()
    assert code == pytest.ExitCode.INTERRUPTED, output
    assert [one.status for one in service.sessions()] == ["closed"] * 2


XDIST = """
import os
import threading

import pytest

@pytest.fixture
def why(bbre_session):
    told = []
    yield told
    with open(f"torn-{os.getpid()}", "w") as file:
        file.write(told[0])

@pytest.mark.parametrize("number", range(6))
def test_waits(why, bbre_session, bbre_module_session, number):
    try:
        bbre_session.status()
        threading.Event().wait(60)
    except BaseException as error:
        why.append(type(error).__name__)
        raise
"""


@pytest.mark.parametrize(
    ("signum", "whom", "expected", "why"),
    [
        (signal.SIGTERM, "controller", 143, "Exit"),
        (signal.SIGTERM, "group", 143, "Exit"),
        (signal.SIGINT, "group", 2, "KeyboardInterrupt"),
    ],
)
def test_workers_end_in_good_order(start, service, pytester, signum, whom, expected, why):
    """With xdist a signal to the controller, or to all as a CI or a terminal sends it, stops the workers at once, not
    when execnet loses patience: their tests' fixtures are torn down, the summary is printed, nothing is open.
    """
    run = start(XDIST, "-p", "xdist", "-n2", start_new_session=True)
    service.wait_for("status", 2)
    if whom == "group":
        os.killpg(run.process.pid, signum)
    else:
        run.send(signum)
    code, output = run.end()
    assert service.active() == []
    assert code == expected, output
    assert [path.read_text() for path in pytester.path.glob("torn-*")] == [why, why], output
    assert "INTERNALERROR" not in output
    assert "Traceback" not in output
    assert "bbre: opened 4, closed 4, still active 0" in output
