"""_managed.py: the idioms people write. The engine is asked what is left."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest
from _scripted import KEY, LIMIT

from pytest_bbre import (
    BBREClient,
    BBRESession,
    CloseOutcome,
    SessionState,
    Settings,
    close_all_sessions,
    errors,
    managed_session,
    open_session,
    tracked_sessions,
)
from pytest_bbre._host import host
from pytest_bbre._tracker import tracker

pytestmark = pytest.mark.usefixtures("default_settings")


def test_a_session_lives_as_long_as_its_block(engine: Any):
    """Open inside, closed outside, by the engine's word."""
    with managed_session() as session:
        assert isinstance(session, BBRESession)
        assert [one.id for one in engine.sessions()] == [session.id]
        assert tracked_sessions() == [session]
    assert engine.sessions() == []
    assert session.state is SessionState.CLOSED


def test_the_same_for_async_with(engine: Any):
    """Open inside, closed outside."""

    async def main() -> None:
        async with managed_session() as session:
            assert [one.id for one in engine.sessions()] == [session.id]

    asyncio.run(main())
    assert engine.sessions() == []


def test_nothing_happens_before_the_block(engine: Any):
    """Making the manager opens nothing."""
    managed_session()
    assert engine.calls("create") == 0


def test_options_are_the_session_s(engine: Any):
    """mode, sensibility and timeout, by the engine's record."""
    with managed_session(sensibility="high", timeout=42) as session:
        (record,) = engine.sessions()
        assert (record.mode, record.sensibility, record.timeout) == ("passive", "high", 42)
        assert (session.mode, session.sensibility, session.timeout) == ("passive", "high", 42)
        assert session.expires_at == record.expires_at
        assert session.profile


def test_settings_are_used(engine: Any, settings: Settings):
    """settings= goes over the host's and the environment's; options over it."""
    with managed_session(settings=settings.override(timeout=11, sensibility="low"), timeout=22) as session:
        assert (session.timeout, session.sensibility) == (22, "low")


def test_a_client_is_used_and_stays_usable(engine: Any, settings: Settings):
    """client= brings its settings along, and is not closed with the session."""
    client = BBREClient(settings=settings.override(timeout=33))
    with managed_session(client=client) as session:
        assert session.timeout == 33
    assert client.session_status(session.id).status == "closed"


def test_the_environment_is_used(engine: Any, monkeypatch: pytest.MonkeyPatch):
    """Outside of a host the environment says where sessions go."""
    monkeypatch.setattr(host, "settings", None)
    for name, value in {**engine.environ(), "BBRE_TIMEOUT": "44"}.items():
        monkeypatch.setenv(name, value)
    with managed_session() as session:
        assert session.timeout == 44


class Stop(BaseException):
    """Like KeyboardInterrupt, not an Exception."""


@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt, SystemExit, GeneratorExit, Stop])
def test_whatever_ends_the_block_the_session_is_closed(engine: Any, kind: type[BaseException]):
    """And the block's error is what the caller sees, as it was."""
    error = kind("the block's")
    with pytest.raises(kind) as caught, managed_session():
        raise error
    assert caught.value is error
    assert error.__context__ is None
    assert not hasattr(error, "__notes__")
    assert engine.sessions() == []


def test_the_session_is_closed_before_the_error_is_handled(engine: Any):
    """Who handles the error finds the slot free."""
    try:
        with managed_session():
            raise ZeroDivisionError
    except ZeroDivisionError:
        assert engine.sessions() == []


def test_a_failing_close_is_a_note_on_the_block_s_error(engine: Any):
    """Never in its place; the session stays tracked, and can be closed later."""
    engine.faults.fail("close", times=4)
    with pytest.raises(ZeroDivisionError) as caught, managed_session() as session:
        raise ZeroDivisionError("the block's")
    shown = "".join(traceback.format_exception(caught.value))
    assert "SERVICE_ERROR" in "".join(caught.value.__notes__)
    assert session.id in "".join(caught.value.__notes__)
    assert "the block's" in shown
    assert tracked_sessions() == [session]
    assert [one.id for one in engine.sessions()] == [session.id]
    assert [result.outcome for result in close_all_sessions()] == [CloseOutcome.CLOSED]
    assert engine.sessions() == []


def test_a_close_that_fails_alone_is_raised_and_the_session_stays_tracked(engine: Any):
    """Nobody is left to believe that the slot is free; the next try closes it."""
    engine.faults.fail("close", times=4)
    with pytest.raises(errors.ServiceError, match="2 to 5 seconds") as caught, managed_session() as session:
        pass
    assert caught.value.session_id == session.id
    assert tracked_sessions() == [session]
    session.close()
    assert (tracked_sessions(), engine.sessions()) == ([], [])


def test_a_passing_fault_of_closing_is_not_noticed(engine: Any):
    """It is tried again, as often as the settings say."""
    engine.faults.fail("close", times=2)
    engine.faults.cut("close")
    with managed_session():
        pass
    assert engine.sessions() == []
    assert engine.calls("close") == 4


def test_a_lost_answer_to_closing_is_success(engine: Any):
    """The second try hears that it is closed already."""
    engine.faults.lose_answer("close")
    with managed_session() as session:
        pass
    assert session.state is SessionState.CLOSED
    assert engine.calls("close") == 2


def test_a_session_closed_in_its_block_is_left_alone(engine: Any):
    """One close is enough."""
    with managed_session() as session:
        assert session.close().outcome is CloseOutcome.CLOSED
    assert engine.calls("close") == 1


def test_a_session_that_others_closed_is_success(engine: Any, settings: Settings):
    """Closed by hand elsewhere: no error at the end of the block."""
    with managed_session() as session:
        BBREClient(settings=settings).close_session(session.id)
    assert session.close().success


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_failing_create_opens_no_block(engine: Any, way: str):
    """Its error is told, once, and nothing is left."""
    engine.faults.fail("create")

    async def main() -> None:
        async with managed_session():
            raise AssertionError("the block must not run")

    def plain() -> None:
        with managed_session():
            raise AssertionError("the block must not run")

    with pytest.raises(errors.ServiceError):
        asyncio.run(main()) if way == "async" else plain()
    assert engine.calls("create") == 1
    assert tracker.is_idle()


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "fast"}, {"sensibility": "extreme"}, {"timeout": 0}, {"timeout": -5}, {"timeout": "soon"},
        {"timeout": float("nan")}, {"mode": 5},
    ],
)  # fmt: skip
def test_a_bad_option_is_refused_before_anything_is_sent(engine: Any, options: dict[str, Any]):
    """It names the option, the value and what is allowed; no session is opened."""
    ((name, value),) = options.items()
    with pytest.raises(errors.SettingsError, match=f"{name} is {value!r}; allowed is"), managed_session(**options):
        pass
    assert engine.calls("create") == 0
    assert tracker.is_idle()


def test_an_unknown_option_is_refused():
    """As Python refuses a wrong argument."""
    with pytest.raises(TypeError, match="speed"):
        managed_session(speed=1)  # type: ignore[call-arg]


def test_no_key_and_no_address_names_both_ways_out(monkeypatch: pytest.MonkeyPatch):
    """A script without an account is told of the embedded engine."""
    monkeypatch.setattr(host, "settings", None)
    with pytest.raises(errors.ApiKeyRequiredError, match=r"BBRE_API_KEY.*BBRE_BASE_URL=embedded"), managed_session():
        pass


def test_blocks_can_be_nested(engine: Any):
    """Each block has its own session."""
    with managed_session() as outer, managed_session() as inner:
        assert outer.id != inner.id
        assert {one.id for one in engine.sessions()} == {outer.id, inner.id}
    assert engine.sessions() == []


@pytest.mark.parametrize("end", [None, ZeroDivisionError])
def test_an_object_can_be_entered_again_after_its_exit(engine: Any, end: type[Exception] | None):
    """For a fresh session, whatever ended the first block; by `with` and by `async with`."""
    manager, seen = managed_session(sensibility="high"), []

    async def main() -> None:
        async with manager as session:
            seen.append(session.id)

    with contextlib.suppress(ZeroDivisionError), manager as session:
        seen.append(session.id)
        if end is not None:
            raise end
    asyncio.run(main())
    with manager as session:
        seen.append(session.id)
        assert [(one.id, one.sensibility) for one in engine.sessions()] == [(session.id, "high")]
    assert len(set(seen)) == 3
    assert engine.sessions() == []


def test_an_object_can_be_entered_again_after_a_create_that_failed(engine: Any):
    """It is not in use then."""
    manager = managed_session()
    engine.faults.fail("create")
    with pytest.raises(errors.ServiceError), manager:
        pass
    with manager as session:
        assert [one.id for one in engine.sessions()] == [session.id]


def enter(manager: managed_session) -> None:
    with manager:
        raise AssertionError("the block must not run")


async def enter_async(manager: managed_session) -> None:
    async with manager:
        raise AssertionError("the block must not run")


ENTER_AGAIN: dict[str, Callable[[managed_session], None]] = {
    "by the same thread": enter,
    "by another thread": lambda manager: ThreadPoolExecutor(1).submit(enter, manager).result(LIMIT),
    "by async with": lambda manager: asyncio.run(enter_async(manager)),
}


@pytest.mark.parametrize("how", ENTER_AGAIN)
def test_an_object_in_use_is_refused(engine: Any, how: str):
    """It says to make a new one; nothing is opened, and the first one's session is untouched."""
    manager = managed_session()
    with manager as session:
        with pytest.raises(errors.MisuseError, match="Make a new one"):
            ENTER_AGAIN[how](manager)
        assert session.is_active
        assert [one.id for one in engine.sessions()] == [session.id]
        assert tracked_sessions() == [session]
    assert (engine.sessions(), engine.calls("create")) == ([], 1)
    assert tracker.is_idle()


def test_an_object_in_use_is_refused_to_another_task(engine: Any):
    """Also while the first one's session is still being created."""
    engine.faults.delay("create", 0.1, times=1)
    manager = managed_session()

    async def first(may_end: asyncio.Event) -> str:
        async with manager as session:
            await asyncio.wait_for(may_end.wait(), LIMIT)
            assert [one.id for one in engine.sessions()] == [session.id]
            return session.id

    async def main() -> None:
        may_end = asyncio.Event()
        task = asyncio.create_task(first(may_end))
        await asyncio.to_thread(engine.wait_for, "create")
        for _ in range(2):
            with pytest.raises(errors.MisuseError, match="Make a new one"):
                await asyncio.create_task(enter_async(manager))
        may_end.set()
        await task

    asyncio.run(main())
    assert (engine.sessions(), engine.calls("create")) == ([], 1)


def test_an_object_that_two_threads_enter_at_once_is_one_thread_s(engine: Any, monkeypatch: pytest.MonkeyPatch):
    """One gets in and the other is told, also where the second comes while the first is on its way in."""
    manager, intend = managed_session(), tracker.intend
    outcomes: list[Any] = []

    def work() -> None:
        try:
            with manager as session:
                outcomes.append(session.id)
                told.wait(LIMIT)
        except errors.MisuseError as error:
            outcomes.append(str(error))
            told.set()

    told = threading.Event()
    with ThreadPoolExecutor(2) as pool:

        def interrupted() -> BBRESession:
            monkeypatch.setattr(tracker, "intend", intend)
            seconds.append(pool.submit(work))
            wait(seconds, 0.2)  # or it waits for this one: then it is told later
            return intend()

        seconds: list[Future[None]] = []
        monkeypatch.setattr(tracker, "intend", interrupted)
        pool.submit(work).result(LIMIT)
        seconds[0].result(LIMIT)
    assert len(outcomes) == 2
    assert [one for one in outcomes if "Make a new one" in one], outcomes
    assert (engine.sessions(), engine.calls("create")) == ([], 1)


def test_an_eleventh_session_is_refused_with_the_way_out(engine: Any):
    """It says how many this process holds and how to free one; the ten are not touched."""
    held = [open_session() for _ in range(10)]
    with pytest.raises(errors.SlotTimeoutError) as caught:
        open_session(slot_timeout=0)
    assert caught.value.held == 10
    assert all(f"{session.id} " in str(caught.value) for session in held)
    assert len(engine.sessions()) == 10
    assert tracked_sessions() == held
    held[0].close()
    open_session()


def test_an_opened_session_stays_open_until_it_is_closed(engine: Any):
    """For notebooks and prompts."""
    session = open_session(timeout=50)
    assert (session.timeout, session.is_active) == (50, True)
    assert [one.id for one in engine.sessions()] == [session.id]
    assert session.close().outcome is CloseOutcome.CLOSED
    assert engine.sessions() == []


def test_tracked_sessions_are_those_that_are_open(engine: Any):
    """In the order of their opening."""
    first, second = open_session(), open_session()
    with managed_session() as third:
        assert tracked_sessions() == [first, second, third]
    first.close()
    assert tracked_sessions() == [second]


def test_closing_all_closes_all(engine: Any):
    """One result each, last opened first."""
    sessions = [open_session() for _ in range(5)]
    results = close_all_sessions()
    assert [result.session_id for result in results] == [session.id for session in reversed(sessions)]
    assert all(results)
    assert engine.sessions() == []
    assert close_all_sessions() == []


def test_closing_all_within_a_time_limit(engine: Any):
    """What takes longer is told as failed; it stays tracked, and can be closed later."""
    session = open_session()
    engine.faults.delay("close", 0.3, times=1)
    (result,) = close_all_sessions(timeout=0.05)
    assert (result.session_id, result.outcome) == (session.id, CloseOutcome.FAILED)
    with contextlib.suppress(errors.TimedOutError):  # that of the attempt which is still under way
        session.close()
    assert session.close().success


def test_interrupting_the_wait_for_a_create_closes_the_session(engine: Any, monkeypatch: pytest.MonkeyPatch):
    """Ctrl-C while the service has not answered: the answer is received, and its session closed."""
    engine.faults.delay("create", 0.1, times=1)
    intend = tracker.intend

    def interrupted() -> BBRESession:
        session = intend()

        def result(timeout: float | None = None) -> BBRESession:
            engine.wait_for("create")
            raise KeyboardInterrupt

        monkeypatch.setattr(session.opening, "result", result)
        return session

    monkeypatch.setattr(tracker, "intend", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_session()
    engine.wait_for("close")
    waited = threading.Event()
    for _ in range(500):
        if tracker.is_idle():
            break
        waited.wait(0.01)
    assert engine.sessions() == []


def test_the_key_is_in_no_traceback(engine: Any, settings: Settings):
    """With the locals of every frame, from the user's block down."""
    settings = settings.override(api_key=KEY)
    try:
        with managed_session(settings=settings):
            pass
    except errors.InvalidApiKeyError as error:
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        assert KEY not in "".join(told.format())
    else:
        pytest.fail("the engine took a wrong key")


def test_a_manager_object_serves_one_block_at_a_time(engine: Any):
    """Entered while it is in use it refuses, and says to make a new one; the session in use is left alone."""
    manager = managed_session()
    with manager as session:
        with pytest.raises(errors.MisuseError, match="Make a new one"), manager:
            raise AssertionError("the block must not run")
        assert session.status().is_active
    assert engine.sessions() == []
    with pytest.raises(errors.MisuseError, match="not in use"):
        manager.__exit__(None, None, None)
