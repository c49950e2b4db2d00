"""Children and pools of multiprocessing: they leave by os._exit, so that atexit alone would leak."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from _process import Starter
    from conftest import Service

METHODS = ["spawn"] if sys.platform == "win32" else ["fork", "spawn", "forkserver"]
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals between processes")
TERM, INT = signal.SIGTERM, signal.SIGINT

CHILDREN = """
    import multiprocessing

    def leave():
        open_session()

    def fail():
        open_session()
        sys.exit(3)

    def block():
        with managed_session() as session:
            session.status()

    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        session = open_session()
        children = [context.Process(target=one) for one in (leave, fail, block)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        say(*(child.exitcode for child in children))
        say(session.status().status)
    """


@pytest.mark.parametrize("method", METHODS)
def test_children_close_their_own(start: Starter, service: Service, method: str) -> None:
    """Each child closes what it opened, however it ends, and leaves its parent's session alone."""
    ended = start.command(sys.executable, str(start.script(CHILDREN)), method).end()
    service.check(opened=4)
    assert (ended.status, ended.said) == (0, ["0 3 0", "active"])


TERMINATED = """
    import multiprocessing

    def work(opened):
        open_session()
        opened.release()
        time.sleep(60)

    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        session, opened = open_session(), context.Semaphore(0)
        children = [context.Process(target=work, args=(opened,)) for _ in range(2)]
        for child in children:
            child.start()
        assert all(opened.acquire(timeout=20) for _ in children)
        for child in children:
            child.terminate()
            child.join()
        say(*(child.exitcode for child in children))
        say(session.status().status)
    """


@posix
@pytest.mark.parametrize("method", METHODS)
def test_terminated_children_close_their_own(start: Starter, service: Service, method: str) -> None:
    """Process.terminate ends a child by SIGTERM, as its parent sees, with its session closed."""
    ended = start.command(sys.executable, str(start.script(TERMINATED)), method).end()
    service.check(opened=3)
    assert (ended.status, ended.said) == (0, [f"{-TERM} {-TERM}", "active"])


# Workers that keep a session for all the tasks they are given, as an initializer makes it.
POOLS = """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    def prepare():
        global session
        session = open_session()

    def work(number):
        return session.status().status

    def pool():
        with context.Pool(2, prepare) as workers:
            say(*workers.map(work, range(4)))

    def closed_pool():
        workers = context.Pool(2, prepare)
        say(*workers.map(work, range(4)))
        workers.close()
        workers.join()

    def executor():
        with ProcessPoolExecutor(2, context, prepare) as workers:
            say(*workers.map(work, range(4)))

    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        globals()[sys.argv[2]]()
    """
POOL_KINDS = [
    pytest.param("pool", marks=posix),  # it ends its workers by SIGTERM, which Windows doesn't have
    "closed_pool",
    "executor",
]


@pytest.mark.parametrize("kind", POOL_KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_workers_of_a_pool_close_their_own(start: Starter, service: Service, method: str, kind: str) -> None:
    """Workers that hold a session between tasks close it when their pool ends."""
    ended = start.command(sys.executable, str(start.script(POOLS)), method, kind).end()
    assert 1 <= service.opened() <= 2  # an executor starts no more workers than it finds work for
    assert service.active() == []
    assert (ended.status, ended.said) == (0, ["active active active active"])


GROUP = """
    import multiprocessing

    def work(opened):
        session = open_session()
        opened.release()
        time.sleep(60)

    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        session, opened = open_session(), context.Semaphore(0)
        children = [context.Process(target=work, args=(opened,)) for _ in range(2)]
        for child in children:
            child.start()
        assert all(opened.acquire(timeout=20) for _ in children)
        rest()
    """


@posix
@pytest.mark.parametrize("signum", [TERM, INT])
@pytest.mark.parametrize("method", METHODS)
def test_signal_to_the_whole_group(start: Starter, service: Service, method: str, signum: int) -> None:
    """A terminal's Ctrl-C and a CI's cancel reach parent and children at once: all of them close."""
    process = start.command(sys.executable, str(start.script(GROUP)), method)
    process.wait_for()
    process.send_to_group(signum)
    ended = process.end()
    service.check(opened=3)
    assert ended.status == -signum
