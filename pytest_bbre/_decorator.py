"""Knows how a function gets a session of its own for each call: plain, coroutine, generator, async generator.
Must not know how sessions are opened or closed: that is managed_session's.

Plain wrapper functions, no proxies: they bind as methods, can be pickled, and look like functions to everybody
(docs/decisions/0002-with-session-without-wrapt.md).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload

from ._managed import managed_session
from ._session import BBRESession

if TYPE_CHECKING:
    from ._client import BBREClient
    from ._settings import Settings

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


class _Decorator:
    """Only for type checkers: what `with_session(...)` returns."""

    @overload
    def __call__(self, function: Callable[Concatenate[BBRESession, P], R], /) -> Callable[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[S, BBRESession, P], R], /) -> Callable[Concatenate[S, P], R]: ...
    @overload
    def __call__(self, function: Callable[..., R], /) -> Callable[..., R]: ...
    def __call__(self, function: Any, /) -> Any:
        raise NotImplementedError


@overload
def with_session(function: Callable[Concatenate[BBRESession, P], R], /) -> Callable[P, R]: ...
@overload
def with_session(function: Callable[Concatenate[S, BBRESession, P], R], /) -> Callable[Concatenate[S, P], R]: ...
@overload
def with_session(function: Callable[..., R], /) -> Callable[..., R]: ...
@overload
def with_session(
    *,
    arg: str = ...,
    mode: str | None = ...,
    sensibility: str | None = ...,
    timeout: float | None = ...,
    slot_timeout: float | None = ...,
    evictable: bool | None = ...,
    evict: str | None = ...,
    settings: Settings | None = ...,
    client: BBREClient | None = ...,
) -> _Decorator: ...
def with_session(function: Any = None, /, *, arg: str = "session", **options: Any) -> Any:
    """Gives a function a fresh session for each call, as its argument `session`, and closes it when the call ends.

    A session that the caller passes is used, and left open. Generators keep their session until they end or are
    closed. Works above and below classmethod and staticmethod.

    Args:
        function: what to decorate, where no option is given.
        arg: the name of the argument.
        options: as `managed_session` takes them.

    Raises:
        TypeError: what is decorated is a class or has no such argument, or an option is unknown.
    """
    managed_session(**options)  # an unknown option is told where it stands, not at the first call
    if function is None:
        return lambda decorated: _decorate(decorated, arg, options)
    return _decorate(function, arg, options)


def _decorate(function: Any, arg: str, options: dict[str, Any]) -> Any:
    if isinstance(function, classmethod | staticmethod):
        return type(function)(_decorate(function.__func__, arg, options))
    if inspect.isclass(function):
        raise TypeError(
            f"with_session can't decorate the class {function.__name__}: pytest would no longer collect it. "
            "Decorate its methods, or use the fixture bbre_session."
        )
    if not callable(function):
        raise TypeError(f"with_session decorates functions, not {function!r}. Options go by name: mode=, timeout=.")
    return _wrap(function, _Injection(function, arg, options))


class _Injection:
    """Where the session goes in a function's arguments."""

    def __init__(self, function: Callable[..., Any], arg: str, options: dict[str, Any]) -> None:
        self.full = inspect.signature(function)
        parameter = self.full.parameters.get(arg)
        if parameter is None or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            name = getattr(function, "__qualname__", repr(function))
            raise TypeError(
                f"{name}{self.full} has no argument {arg!r}. Add it, or name another: with_session(arg=...)."
            )
        self.arg = arg
        self.position = list(self.full.parameters).index(arg)
        self.by_position = parameter.kind is not parameter.KEYWORD_ONLY
        self.visible = self.full.replace(parameters=[one for one in self.full.parameters.values() if one.name != arg])
        self.managed = functools.partial(managed_session, **options)

    def is_given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether the caller passed a session, by name or in its place."""
        if kwargs.get(self.arg) is not None:
            return True
        return self.by_position and len(args) > self.position and isinstance(args[self.position], BBRESession)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> inspect.BoundArguments:
        """The arguments of the visible signature, ready to take the session in.

        Raises:
            TypeError: they don't fit the visible signature. No session has been opened then.
        """
        bound = self.visible.bind(*args, **{name: value for name, value in kwargs.items() if name != self.arg})
        return inspect.BoundArguments(self.full, bound.arguments)


def _wrap(function: Callable[..., Any], injection: _Injection) -> Callable[..., Any]:
    """The wrapper for this kind of function. Each closes the session when the work ends, not when the call returns."""
    plain = inspect.isroutine(function) or isinstance(function, functools.partial)
    asked = function if plain else type(function).__call__  # an instance is of the kind of its __call__
    if inspect.isasyncgenfunction(asked):
        wrapper: Callable[..., Any] = _async_generator(function, injection)
    elif inspect.isgeneratorfunction(asked):
        wrapper = _generator(function, injection)
    elif inspect.iscoroutinefunction(asked):
        wrapper = _coroutine(function, injection)
    else:
        wrapper = _plain(function, injection)
    wrapper = functools.update_wrapper(wrapper, function)
    wrapper.__signature__ = injection.visible  # type: ignore[attr-defined]
    wrapper.__annotations__ = {
        name: kind for name, kind in getattr(function, "__annotations__", {}).items() if name != injection.arg
    }
    return wrapper


def _plain(function: Callable[..., Any], injection: _Injection) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if injection.is_given(args, kwargs):
            return function(*args, **kwargs)
        bound = injection.bind(args, kwargs)
        with injection.managed() as bound.arguments[injection.arg]:
            return _finished(function(*bound.args, **bound.kwargs))

    return wrapper


def _finished(result: Any) -> Any:
    """What a plain function returned, unless its work is yet to be done: by then the session would be closed.

    Raises:
        TypeError: it returned a coroutine or a generator, as an async function does under another decorator.
    """
    if inspect.iscoroutine(result) or inspect.isgenerator(result):
        result.close()
    elif not inspect.isasyncgen(result):
        return result
    raise TypeError(
        f"with_session got a {type(result).__name__} from a function that does not look like one that gives any: its "
        "work would begin after the session's end. Put @with_session nearest to the function, below other decorators."
    )


def _coroutine(function: Callable[..., Any], injection: _Injection) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        if injection.is_given(args, kwargs):
            return await function(*args, **kwargs)
        bound = injection.bind(args, kwargs)
        async with injection.managed() as bound.arguments[injection.arg]:
            return await function(*bound.args, **bound.kwargs)

    return wrapper


def _generator(function: Callable[..., Any], injection: _Injection) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        if injection.is_given(args, kwargs):
            return (yield from function(*args, **kwargs))
        bound = injection.bind(args, kwargs)
        with injection.managed() as bound.arguments[injection.arg]:
            return (yield from function(*bound.args, **bound.kwargs))

    return wrapper


def _async_generator(function: Callable[..., Any], injection: _Injection) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        async with AsyncExitStack() as stack:
            if not injection.is_given(args, kwargs):
                bound = injection.bind(args, kwargs)
                bound.arguments[injection.arg] = await stack.enter_async_context(injection.managed())
                args, kwargs = bound.args, bound.kwargs
            inner = function(*args, **kwargs)
            step = inner.__anext__()
            while True:  # what `yield from` does for plain generators
                try:
                    item = await step
                except StopAsyncIteration:
                    return
                try:
                    sent = yield item
                except GeneratorExit:
                    await inner.aclose()
                    raise
                except BaseException as error:
                    step = inner.athrow(error)
                else:
                    step = inner.asend(sent)

    return wrapper
