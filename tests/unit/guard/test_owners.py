"""owners.py: real processes, alive and dead in every way, and texts that are no owners."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from _scripted import LIMIT
from hypothesis import given
from hypothesis import strategies as st

from pytest_bbre.guard import owners
from pytest_bbre.guard.owners import ALIVE, DEAD, UNKNOWN, Owner, here, judge, watch

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at processes by /proc")


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives until its input ends."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as one:
        yield one
        one.kill()


def owner_of(pid: int) -> str:
    """The process of this number."""
    started = owners._started(pid)
    assert started is not None
    return str(here()._replace(pid=pid, started=started))


def test_this_process_is_alive():
    """It is told as what it is, and what is written can be read."""
    assert here().pid == os.getpid()
    assert Owner.parse(str(here())) == here()
    assert judge(str(here())).state == ALIVE


def test_nobody_is_dead():
    """Who becomes another program leaves what it held to nobody."""
    assert judge(owners.nobody()).state == DEAD
    assert owners.nobody() != str(here())


def test_a_process_lives_and_dies(child: subprocess.Popen[bytes]):
    """Alive; as one that has ended and was not heard of, dead; gone, dead."""
    one = owner_of(child.pid)
    assert judge(one).state == ALIVE
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    zombie = judge(one)
    assert (zombie.state, "has not heard of it" in zombie.reason) == (DEAD, True)
    child.wait(LIMIT)
    gone = judge(one)
    assert (gone.state, gone.reason) == (DEAD, f"there is no process {child.pid} any more")


def test_a_stopped_process_is_alive(child: subprocess.Popen[bytes]):
    """However long it says nothing."""
    one = owner_of(child.pid)
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    assert judge(one).state == ALIVE
    child.send_signal(signal.SIGCONT)


@linux
def test_a_process_whose_first_thread_has_ended_is_alive():
    """It looks like one that has ended."""
    code = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=lambda: (print('up', flush=True), input())).start()\n"
        "ctypes.CDLL(None).pthread_exit(None)"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        one = owner_of(process.pid)
        while owners._stat(f"/proc/{process.pid}/stat")[0] != b"Z":
            assert process.poll() is None
        assert judge(one).state == ALIVE
        process.kill()
        process.wait(LIMIT)
        assert judge(one).state == DEAD


def test_a_number_that_came_back_is_another_process(child: subprocess.Popen[bytes]):
    """The same number with another start: whoever had it is dead."""
    one = Owner.parse(owner_of(child.pid))
    assert judge(str(one._replace(started=one.started - 1))).state == DEAD
    assert watch(str(one._replace(started=one.started - 1))) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [("host", "elsewhere"), ("namespace", "pid:[1]"), ("started", -1)],
)
def test_what_can_not_be_judged_from_here_is_unknown(field: str, value: str | int):
    """Another machine, another container, a start that nobody knows: also where no such process is here."""
    for pid in (os.getpid(), 2**30):
        assert judge(str(here()._replace(pid=pid, **{field: value}))).state == UNKNOWN


@linux
def test_an_earlier_boot_is_over():
    """All its processes are dead; but not where a system does not tell its boot."""
    assert judge(str(here()._replace(boot="earlier"))).state == DEAD
    assert judge(str(here()._replace(boot=""))).state == UNKNOWN


@linux
def test_without_proc_nothing_is_dead(monkeypatch: pytest.MonkeyPatch):
    """A system where processes are hidden: whom the kernel knows is not given up."""

    def hidden(path: str) -> list[bytes]:
        raise FileNotFoundError(path)

    monkeypatch.setattr(owners, "_stat", hidden)
    assert judge(str(here())).state == UNKNOWN


@linux
def test_a_clock_that_is_set_changes_nothing(child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch):
    """Starts are counted from the boot."""
    one = owner_of(child.pid)
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert owner_of(child.pid) == one
    assert judge(one).state == ALIVE


@linux
@pytest.mark.skipif(shutil.which("unshare") is None, reason="there is no unshare")
@pytest.mark.parametrize("kind", [["--pid", "--mount-proc"], ["--time"]])
def test_another_namespace_is_another_world(kind: list[str]):
    """A process of another container has a number and a start that mean nothing here, and nobody there knows ours."""
    code = f"from pytest_bbre.guard import owners; print(owners.here(), owners.judge({str(here())!r}).state)"
    command = ["unshare", *kind, "--fork", sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    if ended.returncode:
        pytest.skip(f"no namespaces here: {ended.stderr.strip()}")
    theirs, ours_there = ended.stdout.strip().rsplit(" ", 1)
    assert ours_there == UNKNOWN
    assert judge(theirs).state == UNKNOWN


def test_psutil_finds_the_same(child: subprocess.Popen[bytes]):
    """Where there is no /proc: alive, another by now, dead."""
    one = here()._replace(pid=child.pid, started=owners._created(child.pid))
    assert owners._judge_by_psutil(one).state == ALIVE
    assert owners._judge_by_psutil(one._replace(started=1)).state == DEAD
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert owners._judge_by_psutil(one).state == DEAD
    child.wait(LIMIT)
    assert owners._judge_by_psutil(one).state == DEAD


@linux
def test_a_death_is_an_event(child: subprocess.Popen[bytes]):
    """The descriptor becomes readable when the process ends; there is none for one that has ended."""
    one = owner_of(child.pid)
    watched = watch(one)
    assert watched is not None
    try:
        poll = select.poll()
        poll.register(watched, select.POLLIN)
        assert poll.poll(0) == []
        child.kill()
        assert poll.poll(LIMIT * 1000) != []
    finally:
        os.close(watched)
    child.wait(LIMIT)
    assert watch(one) is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_s_child_is_another_owner():
    """Right after the fork."""
    mine = str(here())
    out, into = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(into, str(here()).encode())
        os._exit(0)
    os.close(into)
    theirs = os.read(out, 4096).decode()
    os.close(out)
    os.waitpid(pid, 0)
    assert theirs != mine
    assert Owner.parse(theirs).pid == pid
    assert judge(theirs).state == DEAD


@given(st.text() | st.lists(st.text(max_size=5), min_size=5, max_size=5).map("/".join))
def test_no_text_is_dead_by_accident(text: str):
    """What nobody wrote as an owner is unknown, and never an error."""
    assert judge(text).state == UNKNOWN


@given(
    st.builds(
        Owner, st.text(max_size=20), st.text(max_size=20), st.text(max_size=20), st.integers(1, 9999), st.integers()
    )
)
def test_an_owner_is_read_as_it_was_written(owner: Owner):
    """Whatever a machine is called."""
    read = Owner.parse(str(owner))
    assert (read.pid, read.started) == (owner.pid, owner.started)
    assert str(read) == str(owner)
