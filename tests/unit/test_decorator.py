"""_decorator.py: a session of its own for each call, whatever is decorated. The engine is asked what is left."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import pickle
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import stamina
import tenacity
import trio
from _pytest.compat import getfuncargnames
from _scripted import LIMIT

from pytest_bbre import BBRESession, SessionState, errors, managed_session, open_session, with_session

pytestmark = pytest.mark.usefixtures("default_settings")


@with_session
def plain(session: BBRESession, first: int, second: str = "x", *rest: int, flag: bool = False) -> str:
    """The docstring."""
    assert session.is_active
    return session.id


@with_session
def at_the_end(first: int, session: BBRESession) -> str:
    return session.id


@with_session
def keyword_only(first: int, *, session: BBRESession) -> str:
    return session.id


@with_session
def defaulted(first: int, session: BBRESession | None = None) -> str:
    assert session is not None
    return session.id


@with_session
def with_kwargs(session: BBRESession, **others: Any) -> dict[str, Any]:
    assert session.is_active
    return others


@with_session(arg="s", timeout=77)
def named(first: int, s: BBRESession) -> float | None:
    return s.timeout


@with_session
async def coroutine(session: BBRESession, first: int) -> str:
    await asyncio.sleep(0)
    assert session.is_active
    return session.id


@with_session
def generator(session: BBRESession, count: int) -> Generator[str, Any, str]:
    for _ in range(count):
        assert session.is_active
        received = yield session.id
        if received == "tell":
            yield "told"
    return "ended"


@with_session
async def async_generator(session: BBRESession, count: int) -> AsyncGenerator[str, Any]:
    try:
        for _ in range(count):
            assert session.is_active
            received = yield session.id
            if received == "tell":
                yield "told"
    except ZeroDivisionError:
        yield "caught"


class Page:
    """Methods of every kind, with the decorator on either side."""

    def __init__(self, name: str) -> None:
        self.name = name

    @with_session
    def method(self, session: BBRESession, first: int) -> tuple[str, str]:
        return self.name, session.id

    @with_session
    async def coroutine(self, session: BBRESession) -> tuple[str, str]:
        return self.name, session.id

    @with_session
    @classmethod
    def above_class(cls, session: BBRESession) -> tuple[type, str]:
        return cls, session.id

    @classmethod
    @with_session
    def below_class(cls, session: BBRESession) -> tuple[type, str]:
        return cls, session.id

    @with_session
    @staticmethod
    def above_static(session: BBRESession, first: int) -> tuple[int, str]:
        return first, session.id

    @staticmethod
    @with_session
    def below_static(first: int, session: BBRESession) -> tuple[int, str]:
        return first, session.id


def ids(engine: Any) -> set[str]:
    """All sessions that the engine ever had."""
    return {one.id for one in engine.sessions(None)}


# Plain functions.


@pytest.mark.parametrize(
    "call",
    [
        lambda: plain(1),
        lambda: plain(1, "y", 2, 3, flag=True),
        lambda: plain(first=1, second="y"),
        lambda: plain(1, session=None),
        lambda: at_the_end(1),
        lambda: at_the_end(first=1),
        lambda: keyword_only(1),
        lambda: keyword_only(first=1),
        lambda: defaulted(1),
        lambda: defaulted(1, session=None),
    ],
)
def test_each_call_gets_a_session_and_closes_it(engine: Any, call: Callable[[], str]):
    """Wherever the argument stands, however the others are passed, None as "not given"."""
    first, second = call(), call()
    assert first != second
    assert ids(engine) == {first, second}
    assert engine.sessions() == []


def test_a_session_that_is_passed_is_used_and_left_open(engine: Any):
    """By position and by name, and for each place of the argument."""
    with managed_session() as mine:
        assert plain(mine, 1) == plain(session=mine, first=1) == at_the_end(1, mine) == mine.id  # type: ignore
        assert keyword_only(1, session=mine) == defaulted(1, mine) == mine.id  # type: ignore
        assert Page("a").method(mine, 1) == Page("a").method(session=mine, first=1) == ("a", mine.id)  # type: ignore
        assert Page.above_class(mine)[1] == Page.below_class(session=mine)[1] == mine.id  # type: ignore
        assert Page.above_static(mine, 1)[1] == Page.below_static(1, mine)[1] == mine.id  # type: ignore
        assert asyncio.run(coroutine(mine, 1)) == mine.id  # type: ignore
        assert list(generator(mine, 1)) == [mine.id]  # type: ignore
        assert mine.is_active
        assert engine.calls("create") == 1


def test_other_keyword_arguments_go_through(engine: Any):
    """**kwargs stay the function's own."""
    assert with_kwargs(a=1, b=2) == {"a": 1, "b": 2}


def test_options_and_another_name(engine: Any):
    """arg= names the argument, the rest are the session's options."""
    assert named(1) == 77
    assert engine.sessions(None)[0].timeout == 77


@pytest.mark.parametrize(
    "call", [lambda: plain(), lambda: plain(1, colour="red"), lambda: at_the_end(1, 2, 3), lambda: named()]
)
def test_a_wrong_call_opens_no_session(engine: Any, call: Callable[[], Any]):
    """TypeError, as for any function."""
    with pytest.raises(TypeError):
        call()
    assert engine.calls("create") == 0


@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_an_error_closes_the_session_and_goes_on(engine: Any, kind: type[BaseException]):
    """The function's error is what the caller sees."""

    @with_session
    def fail(session: BBRESession) -> None:
        raise kind

    with pytest.raises(kind):
        fail()
    assert (len(ids(engine)), engine.sessions()) == (1, [])


def test_recursion_has_a_session_for_each_depth(engine: Any):
    """And each is closed when its call ends."""

    @with_session
    def down(depth: int, session: BBRESession) -> list[str]:
        assert len(engine.sessions()) == 5 - depth
        return [session.id, *(down(depth - 1) if depth else [])]

    assert len(set(down(4))) == 5
    assert engine.sessions() == []


def test_threads_have_a_session_each(engine: Any):
    """Of one function, at the same time."""
    barrier = threading.Barrier(5)

    @with_session
    def work(session: BBRESession) -> str:
        barrier.wait(LIMIT)
        return session.id

    with ThreadPoolExecutor(5) as pool:
        found = [future.result(LIMIT) for future in [pool.submit(work) for _ in range(5)]]
    assert len(set(found)) == 5
    assert engine.sessions() == []


# Methods.


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: Page("a").method(1), "a"),
        (lambda: Page.method(Page("b"), 1), "b"),
        (lambda: asyncio.run(Page("c").coroutine()), "c"),
        (lambda: Page.above_class(), Page),
        (lambda: Page("a").above_class(), Page),
        (lambda: Page.below_class(), Page),
        (lambda: Page.above_static(1), 1),
        (lambda: Page("a").above_static(2), 2),
        (lambda: Page.below_static(3), 3),
    ],
)
def test_methods_of_every_kind(engine: Any, call: Callable[[], tuple[Any, str]], expected: Any):
    """Bound as ever, with a session of their own."""
    told, session_id = call()
    assert told == expected
    assert (ids(engine), engine.sessions()) == ({session_id}, [])


def test_subclasses_inherit(engine: Any):
    """super() reaches the decorated method, and each has its own session."""

    class Special(Page):
        @with_session
        def method(self, session: BBRESession, first: int) -> tuple[str, str]:
            name, inner = super().method(first)
            assert inner != session.id
            return name + "!", session.id

    assert Special("a").method(1)[0] == "a!"
    assert (len(ids(engine)), engine.sessions()) == (2, [])


# Coroutines and generators.


@pytest.mark.parametrize("run", [asyncio.run, lambda coro: trio.run(lambda: coro)], ids=["asyncio", "trio"])
def test_a_coroutine_s_session_lives_until_it_ends(engine: Any, run: Callable[[Any], str]):
    """Not only until the call returns; nothing is opened before it is awaited."""

    @with_session
    async def work(session: BBRESession) -> str:
        assert [one.id for one in engine.sessions()] == [session.id]
        return session.id

    coro = work()
    assert engine.calls("create") == 0
    run(coro)
    assert (len(ids(engine)), engine.sessions()) == (1, [])


def test_a_cancelled_coroutine_closes_its_session(engine: Any):
    """At the moment of the cancelling, which goes on."""

    @with_session
    async def work(session: BBRESession, ready: asyncio.Event) -> None:
        ready.set()
        await asyncio.sleep(LIMIT)

    async def main() -> None:
        ready = asyncio.Event()
        task = asyncio.create_task(work(ready=ready))
        await asyncio.wait_for(ready.wait(), LIMIT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.sessions() == []

    asyncio.run(main())


def test_a_generator_s_session_lives_until_it_ends(engine: Any):
    """What is sent in, thrown in and returned goes through; nothing is opened before the first step."""
    steps = generator(2)
    assert inspect.isgenerator(steps)
    assert engine.calls("create") == 0
    session_id = next(steps)
    assert [one.id for one in engine.sessions()] == [session_id]
    assert steps.send("tell") == "told"
    assert next(steps) == session_id
    with pytest.raises(StopIteration) as caught:
        next(steps)
    assert caught.value.value == "ended"
    assert engine.sessions() == []


@pytest.mark.parametrize("end", [lambda steps: steps.close(), lambda steps: steps.throw(ZeroDivisionError)])
def test_a_generator_that_is_closed_early_closes_its_session(engine: Any, end: Callable[[Any], Any]):
    """By close and by an error."""
    steps = generator(5)
    next(steps)
    with contextlib.suppress(ZeroDivisionError):
        end(steps)
    assert (len(ids(engine)), engine.sessions()) == (1, [])


def test_a_generator_that_is_forgotten_closes_its_session(engine: Any):
    """Whoever breaks out of a for loop need not care."""
    for _ in generator(5):
        break
    gc.collect()
    assert (len(ids(engine)), engine.sessions()) == (1, [])


def test_an_async_generator_s_session_lives_until_it_ends(engine: Any):
    """What is sent in and thrown in goes through; closed early, its session is closed."""

    async def main() -> None:
        assert len([step async for step in async_generator(3)]) == 3
        assert engine.sessions() == []

        steps = async_generator(3)
        assert inspect.isasyncgen(steps)
        session_id = await steps.__anext__()
        assert [one.id for one in engine.sessions()] == [session_id]
        assert await steps.asend("tell") == "told"
        assert await steps.athrow(ZeroDivisionError) == "caught"
        with pytest.raises(StopAsyncIteration):
            await steps.__anext__()
        assert engine.sessions() == []

        early = async_generator(3)
        await early.__anext__()
        await early.aclose()
        assert engine.sessions() == []

        failing = async_generator(3)
        await failing.__anext__()
        with pytest.raises(ValueError, match="x"):
            await failing.athrow(ValueError("x"))
        assert engine.sessions() == []

        with_mine = open_session()
        assert [step async for step in async_generator(with_mine, 1)] == [with_mine.id]  # type: ignore
        assert with_mine.is_active
        with_mine.close()

    asyncio.run(main())


# What can't be decorated.


def test_a_class_is_refused():
    """pytest would no longer collect it."""
    with pytest.raises(TypeError, match=r"class TestPage.*Decorate its methods"):

        @with_session
        class TestPage:
            pass


@pytest.mark.parametrize("thing", [5, "passive", {"mode": "passive"}])
def test_what_is_no_function_is_refused(thing: Any):
    """An option that was passed by position is told how to be passed."""
    with pytest.raises(TypeError, match="Options go by name"):
        with_session(thing)


@pytest.mark.parametrize("function", [lambda: 1, lambda *session: 1, lambda **session: 1, lambda s: 1])
def test_a_function_without_the_argument_is_refused(function: Any):
    """The message shows the signature, the name, and both remedies."""
    with pytest.raises(TypeError, match=r"has no argument 'session'. Add it, or name another: with_session\(arg="):
        with_session(function)


def test_unknown_options_are_refused_where_they_stand():
    """Not at the first call."""
    with pytest.raises(TypeError, match="colour"):
        with_session(colour="red")  # type: ignore[call-overload]


def test_bad_values_are_refused_at_the_call(engine: Any):
    """Settings may come later than the decorator, so values are checked with the call; nothing is opened."""

    @with_session(mode="fast")
    def work(session: BBRESession) -> None:
        raise AssertionError("the function must not run")

    with pytest.raises(errors.SettingsError, match="mode is 'fast'"):
        work()
    assert engine.calls("create") == 0


# What survives.


def test_name_docstring_and_module_survive():
    """Whoever looks at the function sees the function."""
    assert (plain.__name__, plain.__qualname__, plain.__doc__) == ("plain", "plain", "The docstring.")
    assert plain.__module__ == __name__
    assert plain.__wrapped__.__name__ == "plain"  # type: ignore[attr-defined]
    assert Page.method.__qualname__ == "Page.method"


def test_the_signature_is_the_function_s_without_the_session():
    """What a caller may pass, with kinds, defaults and annotations."""
    assert (
        str(inspect.signature(plain))
        == "(first: 'int', second: 'str' = 'x', *rest: 'int', flag: 'bool' = False) -> 'str'"
    )
    assert str(inspect.signature(keyword_only)) == "(first: 'int') -> 'str'"
    assert list(inspect.signature(Page("a").method).parameters) == ["first"]
    assert list(inspect.signature(Page.above_class).parameters) == []
    assert set(plain.__annotations__) == {"first", "second", "rest", "flag", "return"}


def test_the_kind_of_function_survives():
    """So that event loops, test runners and frameworks treat it as before."""
    assert inspect.isfunction(plain)
    assert inspect.iscoroutinefunction(coroutine)
    assert inspect.iscoroutinefunction(Page.coroutine)
    assert inspect.isgeneratorfunction(generator)
    assert inspect.isasyncgenfunction(async_generator)


@pytest.mark.parametrize("function", [plain, coroutine, generator, Page.method, Page.above_static, with_kwargs])
def test_functions_survive_pickling(function: Any):
    """They can be sent to a pool of processes."""
    assert pickle.loads(pickle.dumps(function)) is function


def test_a_bound_method_survives_pickling(engine: Any):
    """With its object."""
    again = pickle.loads(pickle.dumps(Page("far").method))
    assert again(1)[0] == "far"


def test_pytest_does_not_look_for_a_fixture():
    """The injected argument is invisible; a test's other fixtures are seen."""

    @with_session
    def test_page(session: BBRESession, tmp_path: Any, monkeypatch: Any) -> None: ...

    assert getfuncargnames(test_page) == ("tmp_path", "monkeypatch")


# With retries.


def attempts(engine: Any, decorate: Callable[[Any], Any]) -> list[str]:
    """The ids of the sessions of three tries, the last of which succeeds."""
    seen: list[str] = []

    @decorate
    @with_session
    def work(session: BBRESession) -> str:
        assert [one.id for one in engine.sessions()] == [session.id]
        seen.append(session.id)
        if len(seen) < 3:
            raise ConnectionError("again")
        return session.id

    assert work() == seen[-1]
    return seen


@pytest.mark.parametrize(
    "decorate",
    [
        tenacity.retry(stop=tenacity.stop_after_attempt(5), wait=tenacity.wait_none()),
        stamina.retry(on=ConnectionError, attempts=5, wait_initial=0, wait_max=0, wait_jitter=0),
    ],
    ids=["tenacity", "stamina"],
)
def test_every_try_gets_a_fresh_session(engine: Any, decorate: Callable[[Any], Any]):
    """After an error the session is closed before the next try."""
    seen = attempts(engine, decorate)
    assert len(set(seen)) == 3
    assert engine.sessions() == []


def test_every_async_try_gets_a_fresh_session(engine: Any):
    """stamina knows coroutines; so do we."""
    seen: list[str] = []

    @stamina.retry(on=ConnectionError, attempts=5, wait_initial=0, wait_max=0, wait_jitter=0)
    @with_session
    async def work(session: BBRESession) -> None:
        seen.append(session.id)
        if len(seen) < 3:
            raise ConnectionError

    asyncio.run(work())
    assert len(set(seen)) == 3
    assert engine.sessions() == []


def test_partial_objects_and_callables_can_be_decorated(engine: Any):
    """Whatever has a signature."""

    def work(first: int, session: BBRESession) -> int:
        assert session.state is SessionState.OPEN
        return first

    class Callable_:
        def __call__(self, session: BBRESession) -> str:
            return session.id

    assert with_session(functools.partial(work, 3))() == 3
    assert with_session(Callable_())() in ids(engine)
    assert engine.sessions() == []


class _Callable:
    async def __call__(self, session: BBRESession) -> bool:
        await asyncio.sleep(0)
        return session.is_active


def test_an_instance_is_of_the_kind_of_its_call(engine: Any):
    """Its session lives until the coroutine has ended."""
    assert asyncio.run(with_session(_Callable())()) is True
    assert engine.sessions() == []


async def _coroutine(session: BBRESession) -> None: ...


def _generator(session: BBRESession) -> Iterator[None]:
    yield


async def _async_generator(session: BBRESession) -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize("inner", [_coroutine, _generator, _async_generator])
def test_work_that_would_begin_after_the_sessions_end_is_refused(engine: Any, inner: Callable[..., Any]):
    """Under a plain decorator an async function looks like a plain one: that is told, with the remedy."""

    @functools.wraps(inner)
    def disguised(*args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    with pytest.raises(TypeError, match="Put @with_session nearest to the function"):
        with_session(disguised)()
    assert engine.sessions() == []


class Working:
    """Instances of one kind each; the session is open while the work is done."""

    class Coroutine:
        async def __call__(self, session: BBRESession, first: int) -> tuple[str, int]:
            await asyncio.sleep(0)
            assert session.is_active
            return session.id, first

    class Generator:
        def __call__(self, session: BBRESession, first: int) -> Generator[tuple[str, int], Any, None]:
            yield session.id, first
            assert session.is_active

    class AsyncGenerator:
        async def __call__(self, session: BBRESession, first: int) -> AsyncGenerator[tuple[str, int], Any]:
            yield session.id, first
            assert session.is_active


def test_an_instance_with_an_async_call_is_a_coroutine_function(engine: Any):
    """Its session lives until the work ends, not until the coroutine is made."""
    decorated = with_session(Working.Coroutine())
    assert inspect.iscoroutinefunction(decorated)
    coro = decorated(7)
    assert engine.calls("create") == 0
    session_id, first = asyncio.run(coro)
    assert (list(ids(engine)), first) == ([session_id], 7)
    assert engine.sessions() == []


def test_an_instance_with_a_generator_call_is_a_generator_function(engine: Any):
    """Its session lives until the generator ends."""
    decorated = with_session(Working.Generator())
    assert inspect.isgeneratorfunction(decorated)
    steps = decorated(7)
    session_id, first = next(steps)
    assert ([one.id for one in engine.sessions()], first) == ([session_id], 7)
    assert list(steps) == []
    assert engine.sessions() == []


def test_an_instance_with_an_async_generator_call_is_an_async_generator_function(engine: Any):
    """Its session lives until the generator ends."""
    decorated = with_session(Working.AsyncGenerator())
    assert inspect.isasyncgenfunction(decorated)

    async def main() -> None:
        async for session_id, first in decorated(7):
            assert ([one.id for one in engine.sessions()], first) == ([session_id], 7)

    asyncio.run(main())
    assert (len(ids(engine)), engine.sessions()) == (1, [])


async def late_coroutine(session: BBRESession) -> None:
    raise AssertionError("the work must not begin")


def late_generator(session: BBRESession) -> Generator[None, Any, None]:
    raise AssertionError("the work must not begin")
    yield


async def late_async_generator(session: BBRESession) -> AsyncGenerator[None, Any]:
    raise AssertionError("the work must not begin")
    yield


def hidden(function: Callable[..., Any]) -> Callable[..., Any]:
    """What another decorator makes of it: a plain function that returns what the function returns."""

    def wrapper(session: BBRESession) -> Any:
        return function(session)

    return wrapper


@pytest.mark.parametrize("function", [late_coroutine, late_generator, late_async_generator])
def test_work_that_would_begin_after_the_session_s_end_is_refused(engine: Any, function: Callable[..., Any]):
    """The message says where the decorator belongs; the session is closed."""
    with pytest.raises(TypeError, match="Put @with_session nearest to the function"):
        with_session(hidden(function))()
    assert (len(ids(engine)), engine.sessions()) == (1, [])


def test_a_session_of_the_caller_s_own_may_outlive_the_call(engine: Any):
    """Where the caller passes a session, a coroutine is returned as it is: that session is open while it runs."""

    async def work(session: BBRESession) -> str:
        return session.id

    with managed_session() as session:
        assert asyncio.run(with_session(hidden(work))(session)) == session.id
