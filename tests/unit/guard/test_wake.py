"""How one process wakes another."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_bbre.guard.wake import PREFIX, Bell, bell_of, guardian_bell, remove_stale, ring

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the guard is proven on POSIX systems")

LIMIT = 20.0  # seconds that any wait may take
NAME = bell_of("owner")


@pytest.fixture
def bell(tmp_path: Path) -> Iterator[Bell]:
    """A bell that somebody listens at."""
    made = Bell(str(tmp_path), NAME)
    yield made
    made.close()


def has_news(bell: Bell) -> bool:
    """Whether somebody rang who has not been heard."""
    number = bell.fileno()
    assert number is not None
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return bool(poll.poll(0))


class TestListening:
    def test_ring_from_another_process_wakes(self, tmp_path, bell):
        """Who waits is woken by another process."""
        heard = bell.count
        source = "import sys; from pytest_bbre.guard.wake import ring; assert ring(sys.argv[1], sys.argv[2])"
        with subprocess.Popen([sys.executable, "-c", source, str(tmp_path), NAME]) as process:
            assert bell.wait(heard, LIMIT) == heard + 1
        assert process.returncode == 0

    def test_a_ring_before_the_wait_is_heard(self, tmp_path, bell):
        """A ring that came between the look around and the wait is not lost."""
        heard = bell.count
        assert ring(str(tmp_path), NAME)
        assert bell.wait(heard, LIMIT) > heard

    def test_all_threads_are_woken(self, tmp_path, bell, on_threads):
        """One ring wakes every thread that waits."""
        threading.Timer(0.1, ring, (str(tmp_path), NAME)).start()
        assert on_threads(lambda: bell.wait(0, LIMIT)) == [1] * 8

    def test_a_wait_ends_with_its_time(self, bell):
        """Without a ring a wait ends by itself, and the count is as it was."""
        assert bell.wait(bell.count, 0.01) == bell.count == 0

    def test_poke_wakes_without_a_ring(self, bell):
        """A thread of the same process can wake those who wait."""
        threading.Timer(0.1, bell.poke).start()
        assert bell.wait(0, LIMIT) == 1

    def test_a_listener_may_poll_by_itself(self, tmp_path, bell):
        """The descriptor becomes readable by a ring, and stays quiet before it and after it was drained."""
        quiet = has_news(bell)
        ring(str(tmp_path), NAME)
        rung = has_news(bell)
        bell.drain()
        assert (quiet, rung, has_news(bell)) == (False, True, False)

    def test_nobody_else_may_use_it(self, tmp_path):
        """The FIFO is for its user alone, whatever the umask."""
        before = os.umask(0)
        try:
            bell = Bell(str(tmp_path), NAME)
        finally:
            os.umask(before)
        assert stat.S_IMODE(os.stat(tmp_path / NAME).st_mode) == 0o600
        bell.close()

    def test_a_later_bell_takes_the_place(self, tmp_path, bell):
        """What an earlier process of the name left is replaced, and its own close does not take the new one away."""
        later = Bell(str(tmp_path), NAME)
        bell.close()
        assert ring(str(tmp_path), NAME)
        assert later.wait(0, LIMIT) == 1
        later.close()
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize("kind", ["file", "link"])
    def test_what_lies_in_its_place_is_replaced(self, tmp_path, kind):
        """A file or a link of the bell's name does not keep anybody from listening, and what it led to is left."""
        (tmp_path / "other").write_text("as it was")
        if kind == "file":
            (tmp_path / NAME).write_text("forged")
        else:
            (tmp_path / NAME).symlink_to(tmp_path / "other")
        bell = Bell(str(tmp_path), NAME)
        assert ring(str(tmp_path), NAME)
        assert bell.wait(0, LIMIT) == 1
        bell.close()
        assert (tmp_path / "other").read_text() == "as it was"

    def test_without_fifos_it_polls(self, tmp_path):
        """Where no FIFO can be made a wait ends by its time or by a poke, and nothing raises."""
        (tmp_path / NAME).mkdir()
        bell = Bell(str(tmp_path), NAME)
        assert bell.fileno() is None
        assert bell.wait(0, 0.01) == 0
        threading.Timer(0.05, bell.poke).start()
        assert bell.wait(0, LIMIT) == 1
        bell.drain()
        bell.close()
        assert os.listdir(tmp_path) == [NAME]

    def test_close_ends_the_thread(self, tmp_path, bell):
        """Closing removes the FIFO and ends the thread that listened, which closes its descriptors."""
        bell.wait(0, 0.001)
        number = bell.fileno()
        threads = [one for one in threading.enumerate() if one.name == "bbre-bell"]
        bell.close()
        bell.close()
        for thread in threads:
            thread.join(LIMIT)
        assert not any(thread.is_alive() for thread in threads)
        assert os.listdir(tmp_path) == []
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)

    @pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
    @pytest.mark.parametrize("how", ["after_fork", "close"])
    def test_a_forked_child_leaves_the_bell_to_its_parent(self, tmp_path, bell, how):
        """A fork's child that lets go of the bell takes neither the FIFO nor a ring away from the parent."""
        bell.wait(0, 0.001)
        child = os.fork()
        if child == 0:
            try:
                getattr(bell, how)()
                os._exit(0 if bell.fileno() is None and bell.wait(0, 0.001) == 0 else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert ring(str(tmp_path), NAME)
        assert bell.wait(0, LIMIT) == 1


class TestRinging:
    def test_a_full_pipe_has_been_rung(self, tmp_path, bell):
        """Ringing never blocks: a listener who does not hear has been rung when its pipe is full."""
        end = os.open(tmp_path / NAME, os.O_WRONLY | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(end, b"!" * 4096)
        os.close(end)
        assert ring(str(tmp_path), NAME)
        bell.drain()
        assert not has_news(bell)

    def test_a_flood_does_no_harm(self, tmp_path, bell):
        """Megabytes in the pipe wake who waits, and the next ring is heard as well."""
        heard = bell.wait(0, 0.001)
        end = os.open(tmp_path / NAME, os.O_WRONLY)
        for _ in range(64):
            os.write(end, b"!" * 65536)
        os.close(end)
        heard = bell.wait(heard, LIMIT)
        give_up = time.monotonic() + LIMIT
        while (later := bell.wait(heard, 0.2)) != heard:
            heard = later
            assert time.monotonic() < give_up
        ring(str(tmp_path), NAME)
        assert bell.wait(heard, LIMIT) > heard

    def test_nobody_listens(self, tmp_path):
        """Ringing where there is no bell, or none that anybody listens at, is no error."""
        os.mkfifo(tmp_path / NAME)
        assert not ring(str(tmp_path), NAME)
        assert not ring(str(tmp_path), "bell-none")
        assert not ring(str(tmp_path / "nowhere"), NAME)
        assert not ring(str(tmp_path), "bell\0")

    @pytest.mark.parametrize("kind", ["file", "link", "folder"])
    def test_only_fifos_are_written_to(self, tmp_path, bell, kind):
        """What was put in a bell's place is not written to, nor is what it leads to."""
        other = tmp_path / "other"
        if kind == "file":
            other.write_text("")
        elif kind == "link":
            other.symlink_to(tmp_path / NAME)
        else:
            other.mkdir()
        assert not ring(str(tmp_path), "other")
        assert not has_news(bell)
        assert kind != "file" or other.read_text() == ""

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a file away")
    def test_not_another_users(self, tmp_path, bell):
        """A bell that belongs to another user is not rung."""
        os.chown(tmp_path / NAME, 65534, 65534)
        assert not ring(str(tmp_path), NAME)

    @pytest.mark.parametrize("moment", [1, 2])
    @pytest.mark.parametrize("another", [False, True])
    def test_a_listener_that_leaves_does_not_kill_who_rings(self, tmp_path, moment, another):
        """A program that wants SIGPIPE's default action survives a listener that leaves while it is rung, whether
        another one comes in its place or not.
        """
        source = """if 1:
            import signal, sys
            from pytest_bbre.guard import wake
            folder, name, moment, another = sys.argv[1:]
            bells, steps, real = [wake.Bell(folder, name)], [], wake._open

            def opened(path, way):
                end = real(path, way)
                steps.append(end)
                if len(steps) == int(moment):
                    bells[0].close()
                    if another == "True":
                        wake._open = real
                        bells.append(wake.Bell(folder, name))
                return end

            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            wake._open = opened
            wake.ring(folder, name)
            assert len(steps) >= int(moment)
            print("alive")
        """
        command = [sys.executable, "-c", source, str(tmp_path), NAME, str(moment), str(another)]
        ended = subprocess.run(command, stdout=subprocess.PIPE, timeout=LIMIT, check=False)
        assert (ended.returncode, ended.stdout) == (0, b"alive\n")


class TestNames:
    @pytest.mark.parametrize("owner", ["../../etc/passwd", "a/b/c/1/2", "", "\0", "ö" * 10_000, "\ud800"])
    def test_a_name_stays_in_the_folder(self, owner):
        """Whatever an owner's text is, its bell has a short plain name."""
        name = bell_of(owner)
        assert name == bell_of(owner)
        assert name.startswith(PREFIX)
        assert name.replace("-", "").isalnum()
        assert len(name) < 64

    def test_each_has_its_own(self):
        """Processes and guardians have different bells."""
        assert len({bell_of("a"), bell_of("b"), guardian_bell("a"), guardian_bell("b")}) == 4


class TestRemains:
    def test_bells_of_the_dead_are_removed(self, tmp_path, bell):
        """Bells without a listener go; those with one, those in use, young ones in the making and all else stay."""
        making = f"{PREFIX}new.0123456789abcdef"
        for name in (bell_of("dead"), bell_of("used"), making, "other"):
            os.mkfifo(tmp_path / name)
        (tmp_path / "bell-file").write_text("")
        assert remove_stale(str(tmp_path), {bell_of("used")}) == 1
        assert set(os.listdir(tmp_path)) == {NAME, bell_of("used"), making, "other", "bell-file"}
        assert ring(str(tmp_path), NAME)

    def test_nothing_is_raised(self, tmp_path):
        """A folder that is not there has no bells."""
        assert remove_stale(str(tmp_path / "nowhere")) == 0

    def test_a_killed_process_leaves_a_stale_bell(self, tmp_path):
        """A process that is killed leaves a bell that rings nobody, and that is removed."""
        source = "import sys, time; from pytest_bbre.guard.wake import Bell\nBell(sys.argv[1], sys.argv[2])"
        command = [sys.executable, "-c", f"{source}\nprint(1, flush=True)\ntime.sleep(60)", str(tmp_path), NAME]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            kept = remove_stale(str(tmp_path))
            rung = ring(str(tmp_path), NAME)
            process.kill()
        assert (kept, rung, ring(str(tmp_path), NAME), remove_stale(str(tmp_path))) == (0, True, False, 1)
