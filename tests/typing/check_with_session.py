"""Checked by mypy and pyright, never run: what with_session promises to a type checker.

Each `type: ignore` stands on a call that has to be refused; both checkers report one that is not needed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

import requests
from typing_extensions import assert_type

from pytest_bbre import BBRESession, Settings, with_session


@with_session
def read(session: BBRESession, url: str, *, times: int = 1) -> str:
    """A plain function: the session is gone from what callers see, the rest stays."""
    assert_type(session.get(url), requests.Response)
    return url * times


assert_type(read("https://example.org/"), str)
assert_type(read("https://example.org/", times=2), str)
read(1)  # type: ignore[arg-type]
read("https://example.org/", times="2")  # type: ignore[arg-type]
read()  # type: ignore[call-arg]
read("https://example.org/", other=1)  # type: ignore[call-arg]


@with_session(mode="adaptive", sensibility="high", timeout=60, settings=Settings())
def read_with_options(session: BBRESession, url: str) -> bytes:
    """With options, as without."""
    return session.get(url).content


assert_type(read_with_options("https://example.org/"), bytes)
read_with_options(url=1)  # type: ignore[arg-type]
with_session(colour="red")  # type: ignore[call-overload]
with_session(timeout="long")  # type: ignore[call-overload]


@with_session
async def fetch(session: BBRESession, url: str) -> int:
    """A coroutine stays one."""
    return (await session.aget(url)).status_code


async def use_fetch() -> None:
    """Awaiting gives the coroutine's own type."""
    assert_type(await fetch("https://example.org/"), int)
    await fetch(1)  # type: ignore[arg-type]


@with_session
def pages(session: BBRESession, first: int) -> Generator[str, int, bool]:
    """A generator stays one, with what can be sent and what it returns."""
    yield session.get(f"https://example.org/{first}").text
    return True


assert_type(pages(1), Generator[str, int, bool])
pages("1")  # type: ignore[arg-type]


@with_session
async def apages(session: BBRESession, first: int) -> AsyncGenerator[str, None]:
    """An async generator stays one."""
    yield (await session.aget(f"https://example.org/{first}")).text


assert_type(apages(1), AsyncGenerator[str, None])


class Shop:
    """Methods: the session comes after self."""

    @with_session
    def buy(self, session: BBRESession, what: str) -> int:
        """A method."""
        return session.post("https://example.org/", data={"what": what}).status_code

    @with_session(timeout=30)
    async def abuy(self, session: BBRESession, what: str) -> int:
        """A method that is a coroutine, with options."""
        return (await session.apost("https://example.org/", data={"what": what})).status_code


assert_type(Shop().buy("tea"), int)
assert_type(Shop().buy(what="tea"), int)
Shop().buy(3)  # type: ignore[arg-type]
Shop().buy()  # type: ignore[call-arg]


async def use_shop() -> None:
    """The same, awaited."""
    assert_type(await Shop().abuy("tea"), int)
    await Shop().abuy(3)  # type: ignore[arg-type]


@with_session(arg="browser")
def last(url: str, count: int, browser: BBRESession) -> str:
    """Any other place for the session: types can't tell what is left, but the result stays."""
    return browser.get(url).text * count


assert_type(last("https://example.org/", 2), str)

plain: Callable[[str], str] = read
awaitable: Callable[[str], Awaitable[int]] = fetch
