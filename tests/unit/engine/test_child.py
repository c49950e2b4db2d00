"""Promises of the engine as a process: it starts anywhere, ends with its owner, and shows no secret."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

import pytest_bbre
from pytest_bbre import _child
from pytest_bbre._child import EngineChild, start_engine_child
from pytest_bbre.engine import _owned
from pytest_bbre.errors import EngineStartError

LIMIT = 20.0  # seconds until a test gives up
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture
def child() -> Iterator[EngineChild]:
    running = start_engine_child()
    yield running
    running.stop()


def ask(child_url: str, key: str) -> int:
    url = child_url + "/account/sessions"
    return requests.post(url, json={}, headers={"x-api-key": key}, timeout=LIMIT).status_code


def wait_until_silent(base_url: str) -> None:
    """Returns when nobody listens any more."""
    host, port = base_url.removeprefix("http://").split(":")
    give_up = time.monotonic() + LIMIT
    while time.monotonic() < give_up:
        with contextlib.suppress(TimeoutError):
            try:
                socket.create_connection((host, int(port)), LIMIT).close()
            except ConnectionError:
                return
        time.sleep(0.02)
    pytest.fail(f"{base_url} still listens after {LIMIT} s")


def run_owner(code: str, *flags: str, before: str = "", **options: object) -> subprocess.Popen[str]:
    """A process that starts an engine, prints its address and pid, then does what `code` says."""
    start = "from pytest_bbre._child import start_engine_child\nimport os, sys, time\nchild = start_engine_child()\n"
    tell = "print(child.base_url, child.pid, flush=True)\n"
    return subprocess.Popen(
        [sys.executable, *flags, "-c", before + start + tell + code],
        stdout=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def engine_of(owner: subprocess.Popen[str]) -> tuple[str, int]:
    assert owner.stdout is not None
    base_url, pid = owner.stdout.readline().split()
    return base_url, int(pid)


def test_a_child_answers_with_its_own_key(child: EngineChild) -> None:
    """Address and key are all that is needed, and each start makes another key."""
    assert ask(child.base_url, str(child.api_key)) == 200
    assert child.is_running()
    second = start_engine_child()
    try:
        assert second.api_key != child.api_key
        assert ask(second.base_url, str(child.api_key)) == 403
    finally:
        second.stop()


def test_stop_ends_it_and_can_be_called_twice(child: EngineChild) -> None:
    """After stop nobody listens."""
    child.stop()
    assert not child.is_running()
    wait_until_silent(child.base_url)
    child.stop()


@posix
def test_a_child_that_was_killed_is_known_to_be_gone(child: EngineChild) -> None:
    """is_running tells, so that another can be started."""
    os.kill(child.pid, signal.SIGKILL)
    child._process.wait(LIMIT)
    assert not child.is_running()
    child.stop()


@posix
@pytest.mark.parametrize("held", [False, True], ids=["alone", "with a forked child that holds the pipe"])
def test_it_ends_when_its_owner_is_killed(held: bool) -> None:
    """SIGKILL gives the owner no time for anything, and the engine goes all the same."""
    fork = "pid = os.fork()\nif pid: print(pid, flush=True)\n" if held else ""
    owner = run_owner(fork + "time.sleep(600)")
    base_url, _ = engine_of(owner)
    assert owner.stdout is not None
    holder = int(owner.stdout.readline()) if held else None
    try:
        owner.kill()
        owner.wait(LIMIT)
        wait_until_silent(base_url)
    finally:
        if holder:
            os.kill(holder, signal.SIGKILL)
        owner.stdout.close()


@posix
@pytest.mark.parametrize("code", ["", "sys.exit(3)", "os._exit(3)", "raise ValueError", "os.kill(os.getpid(), 15)"])
def test_it_ends_with_its_owner_whatever_way_that_goes(code: str) -> None:
    """Nobody has to call stop, and nothing is complained about on the way."""
    owner = run_owner(code, "-W", "error", stderr=subprocess.PIPE)
    base_url, _ = engine_of(owner)
    _, stderr = owner.communicate(timeout=LIMIT)
    wait_until_silent(base_url)
    assert "Warning" not in stderr


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_to_the_owners_group_leaves_it_alone(name: str) -> None:
    """Ctrl-C reaches a whole group, and sessions can be closed only while the engine lives."""
    number = signal.Signals[name]
    # os.write, since the signal may come while the main thread is still printing the address
    before = f"import os, signal\nsignal.signal({int(number)}, lambda *_: os.write(1, b'signalled\\n'))\n"
    owner = run_owner("sys.stdin.read()", before=before, start_new_session=True, stdin=subprocess.PIPE)
    base_url, _ = engine_of(owner)
    assert owner.stdin is not None
    assert owner.stdout is not None
    os.killpg(owner.pid, number)
    assert owner.stdout.readline() == "signalled\n"
    assert ask(base_url, "unknown") == 403
    owner.stdin.close()
    owner.wait(LIMIT)
    owner.stdout.close()
    wait_until_silent(base_url)


@posix
def test_sigterm_ends_it_in_good_order(child: EngineChild) -> None:
    """Its exit status is 0."""
    os.kill(child.pid, signal.SIGTERM)
    assert child._process.wait(LIMIT) == 0


def test_a_child_that_nobody_has_any_more_ends() -> None:
    """The last reference keeps it; without one it goes."""
    child = start_engine_child()
    process, base_url = child._process, child.base_url
    del child
    gc.collect()
    assert process.wait(LIMIT) == 0
    wait_until_silent(base_url)


@linux
def test_no_secret_is_on_its_command_line_or_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the engine's own key and token nor the key that the owner has for the service."""
    monkeypatch.setenv("BBRE_API_KEY", "the-service-key")
    child = start_engine_child()
    try:
        shown = b"".join(Path(f"/proc/{child.pid}/{name}").read_bytes() for name in ("cmdline", "environ")).decode()
        for secret in (str(child.api_key), str(child.control_token), "the-service-key"):
            assert secret not in shown
            assert secret not in repr(child) + repr(vars(child))
        assert "PATH=" in shown
    finally:
        child.stop()


def test_modules_in_the_callers_folder_are_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with an asyncio.py, an aiohttp.py and a pytest_bbre of its own does not break the engine."""
    for name in ("asyncio.py", "aiohttp.py", "json.py", "pytest_bbre.py", "sitecustomize.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    child = start_engine_child()
    try:
        assert ask(child.base_url, str(child.api_key)) == 200
    finally:
        child.stop()


def test_it_starts_from_a_checkout_that_is_not_installed(tmp_path: Path) -> None:
    """The engine is the very package that starts it, wherever that lies."""
    package = Path(pytest_bbre.__file__).parent
    (tmp_path / "pytest_bbre").symlink_to(package, target_is_directory=True)
    code = (
        "import pytest_bbre; from pytest_bbre._child import start_engine_child as start; child = start()\n"
        "print(pytest_bbre.__file__); child.stop()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT, check=True
    )
    assert done.stdout.strip() == str(tmp_path / "pytest_bbre" / "__init__.py")


def test_a_child_that_ends_at_once_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error holds what it wrote, and comes without waiting for the time limit."""
    broken = tmp_path / "boot.py"
    broken.write_text("import sys; sys.exit('no engine today')")
    monkeypatch.setattr(_child, "_BOOT", str(broken))
    with pytest.raises(EngineStartError, match=r"ended before it was ready.*\n.*no engine today"):
        start_engine_child(start_timeout=600)


def test_a_child_that_says_nothing_is_given_up_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time limit, with what it wrote; the process is gone."""
    silent = tmp_path / "boot.py"
    silent.write_text(
        "import os, sys, time; sys.stderr.write('still thinking'); sys.stderr.flush()\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)"
    )
    monkeypatch.setattr(_child, "_BOOT", str(silent))
    with pytest.raises(EngineStartError, match=r"no sign of life in 1 s.*\n.*still thinking"):
        start_engine_child(start_timeout=1)
    if sys.platform != "win32":
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_python_that_can_not_be_started_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedded Python has no sys.executable; a moved one has a wrong one."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(EngineStartError, match="/nowhere/python could not be started"):
        start_engine_child()
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(EngineStartError, match=r"sys\.executable is empty"):
        start_engine_child()


@linux
def test_starts_that_fail_leave_no_descriptor_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long run can try as often as it likes."""
    broken = tmp_path / "boot.py"
    broken.write_text("raise SystemExit(1)")
    monkeypatch.setattr(_child, "_BOOT", str(broken))

    def fail() -> int:
        with pytest.raises(EngineStartError):
            start_engine_child()
        give_up = time.monotonic() + LIMIT
        while len(os.listdir("/proc/self/fd")) > before and time.monotonic() < give_up:
            time.sleep(0.01)  # the threads that read from it close their ends a moment later
        return len(os.listdir("/proc/self/fd"))

    before = len(os.listdir("/proc/self/fd"))
    assert max(fail() for _ in range(3)) <= before  # fewer, where something of an earlier test ends just now


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_in_the_foreground_it_tells_its_address_and_ends_on_a_signal(number: signal.Signals) -> None:
    """Two lines for the shell; SIGTERM and Ctrl-C end it in good order."""
    command = [sys.executable, "-m", "pytest_bbre.engine", "--max-sessions", "2"]
    command += ["--latency", "create=0.01,close=0.01", "--fault", "list:fail:code=RATE_LIMIT_EXCEEDED"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address, key = (process.stdout.readline().strip().partition("=")[2] for _ in range(2))
    assert [ask(address, key) for _ in range(2)] == [429, 200]
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=LIMIT)
    assert (process.returncode, stdout, stderr) == (0, "", "Running until Ctrl-C.\n")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--host", "0.0.0.0"], "host is '0.0.0.0'"),
        (["--latency", "create=soon"], "--latency is 'create=soon'"),
        (["--fault", "close:explode"], "'explode'"),
    ],
)
def test_in_the_foreground_a_wrong_option_is_named(arguments: list[str], named: str) -> None:
    """Exit status 2, one line, no traceback."""
    command = [sys.executable, "-m", "pytest_bbre.engine", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stdout) == (2, "")
    assert named in done.stderr
    assert "Traceback" not in done.stderr


@posix
def test_an_owner_that_was_gone_before_the_engine_looked_ends_it() -> None:
    """Only this process's parent can be its owner, so that an owner's number that came back is nobody's."""
    _owned._wait_for_end(os.getpid())


@posix
def test_without_a_handle_on_the_owner_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no such handle, looking at the parent's number has to do."""
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    assert _owned._owner_handle(os.getppid()) == []
    parents = [os.getppid(), os.getppid(), 1]
    monkeypatch.setattr(os, "getppid", lambda: parents.pop(0))
    monkeypatch.setattr(_owned.select, "select", lambda *_: ([], [], []))  # standard input is the runner's
    _owned._wait_for_end(parents[0])
    assert parents == []
