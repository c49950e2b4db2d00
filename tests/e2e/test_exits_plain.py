"""Ends that a program comes to by itself: its last line, sys.exit, an error, other exit hooks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from _process import Starter
    from conftest import Service

ENDINGS = {
    "the last line": ("open_session(); open_session()", 0, ""),
    "an uncaught error": ("open_session(); 1 / 0", 1, "ZeroDivisionError"),
    "an error in the block": ("with managed_session(): 1 / 0", 1, "ZeroDivisionError"),
    "sys.exit": ("open_session(); sys.exit(3)", 3, ""),
    "sys.exit in the block": ("with managed_session(): sys.exit(4)", 4, ""),
    "sys.exit with a text": ("open_session(); sys.exit('no more')", 1, "no more"),
    "a raised KeyboardInterrupt": (
        "open_session(); raise KeyboardInterrupt",
        1 if sys.platform == "win32" else -2,
        "KeyboardInterrupt",
    ),
    "a handle that nobody holds": ("import gc; open_session(); gc.collect()", 0, ""),
    "a generator left in the block": (
        "def pages():\n    with managed_session() as session: yield session\nkept = pages(); next(kept)",
        0,
        "",
    ),
}


@pytest.mark.parametrize(("source", "status", "told"), ENDINGS.values(), ids=ENDINGS)
def test_program_that_comes_to_its_end_leaves_no_session(
    start: Starter, service: Service, source: str, status: int, told: str
) -> None:
    """Whichever way a program ends by itself, its sessions are closed and its exit status is what it would be."""
    ended = start(source).end()
    service.check(opened=2 if source.count("open_session") == 2 else 1)
    assert ended.status == status
    assert told in ended.err
    assert "could not be closed" not in ended.err


def test_sys_exit_on_a_thread_ends_the_thread_alone(start: Starter, service: Service) -> None:
    """sys.exit on a thread ends that thread; the session that it opened is closed when the program ends."""
    ended = start(
        """
        def work():
            open_session()
            sys.exit(5)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        """
    ).end()
    service.check(opened=1)
    assert (ended.status, ended.err) == (0, "")


def test_thread_that_outlives_the_main_thread_keeps_its_session(start: Starter, service: Service) -> None:
    """Python waits for a thread that is no daemon; until it ends, its session works, and then it is closed."""
    ended = start(
        """
        session = open_session()

        def work():
            threading.main_thread().join()
            say(session.status().status)

        threading.Thread(target=work).start()
        """
    ).end()
    service.check(opened=1)
    assert (ended.status, ended.said) == (0, ["active"])


def test_error_in_another_exit_hook_changes_nothing(start: Starter, service: Service) -> None:
    """Other exit hooks may fail, before ours and after it."""
    ended = start(
        """
        def fail():
            raise RuntimeError("this hook is broken")

        atexit.register(fail)
        open_session()
        atexit.register(fail)
        """
    ).end()
    service.check(opened=1)
    assert ended.err.count("this hook is broken") >= 2


def test_session_opened_in_an_exit_hook_is_closed(start: Starter, service: Service) -> None:
    """An exit hook that runs before ours may open sessions: they are closed with the others."""
    ended = start("open_session(); atexit.register(lambda: say(open_session().state.value))").end()
    service.check(opened=2)
    assert (ended.status, ended.said, ended.err) == (0, ["open"], "")


def test_block_in_an_exit_hook_needs_no_hook_of_ours(start: Starter, service: Service) -> None:
    """A program's first session may be that of a `with` block in an exit hook, where Python may start no thread."""
    ended = start(
        """
        def goodbye():
            with managed_session() as session:
                say(session.status().status)

        atexit.register(goodbye)
        """
    ).end()
    service.check(opened=1)
    assert (ended.status, ended.said, ended.err) == (0, ["active"], "")


@pytest.mark.parametrize(
    ("before", "told"),
    [("", "with managed_session()"), ("open_session().close()", "the process is ending")],
    ids=["the first session", "a later one"],
)
def test_handle_that_nobody_would_close_is_refused(start: Starter, service: Service, before: str, told: str) -> None:
    """In an exit hook that runs after ours, or without ours, open_session opens nothing, and says why."""
    ended = start(
        f"""
        from pytest_bbre.errors import ShuttingDownError

        def goodbye():
            try:
                open_session()
            except ShuttingDownError as error:
                say(error)

        atexit.register(goodbye)
        {before}
        """
    ).end()
    service.check(opened=1 if before else 0)
    assert told in ended.out
    assert ended.err == ""


WAYS = {
    "a module by its name": ("-m", "work"),
    "a package by its name": ("-m", "package"),
    "a text": ("-c", "import work"),
}


@pytest.mark.parametrize("arguments", WAYS.values(), ids=WAYS)
def test_way_in_which_a_program_was_started_does_not_matter(
    start: Starter, service: Service, arguments: tuple[str, str]
) -> None:
    """`python -m`, `python -c` and a script end alike."""
    (start.folder / "package").mkdir()
    start.script("open_session(); say(__name__)", "work.py")
    start.script("import runpy; runpy.run_module('work', run_name='__main__')", "package/__main__.py")
    ended = start.command(sys.executable, *arguments).end()
    service.check(opened=1)
    assert (ended.status, ended.err) == (0, "")


def test_import_alone_registers_nothing(start: Starter, service: Service) -> None:
    """Without a session there is no handler, no exit hook of ours and no thread."""
    ended = start(
        """
        before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
        import pytest_bbre._exits
        hooks = atexit._ncallbacks()
        managed_session()
        assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == before
        assert atexit._ncallbacks() == hooks
        assert threading.active_count() == 1
        """
    ).end()
    service.check(opened=0)
    assert (ended.status, ended.err) == (0, "")
