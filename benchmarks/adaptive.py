"""Knows what an adaptive session costs against bare Playwright: to the first page, a second page, and to close."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from statistics import median
from typing import Any

from playwright.async_api import Page, async_playwright

from pytest_bbre import BBREClient, SessionInfo
from pytest_bbre.engine import Engine, chromium

from ._measure import goal, interleave, table
from ._target import target

Step = Callable[[], object]
BASE = "bare Playwright"


class Ours:
    """A session of the engine, which runs in a process of its own."""

    def __init__(self, client: BBREClient, url: str) -> None:
        self._client = client
        self._url = url
        self._session: SessionInfo | None = None

    def first(self) -> None:
        """Opens it, and loads a page."""
        self._session = self._client.create_session("adaptive")
        self.second()

    def second(self) -> None:
        """Loads a page."""
        assert self._session is not None
        self._client.request(self._session, "GET", self._url)

    def close(self) -> None:
        """Closes it."""
        assert self._session is not None
        self._client.close_session(self._session)


class Bare:
    """Playwright alone, which drives the same Chromium."""

    def __init__(self, loop: asyncio.AbstractEventLoop, url: str) -> None:
        self._loop = loop
        self._url = url
        self._page: Page | None = None
        self._run(self._start())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self._loop.run_until_complete(work)

    async def _start(self) -> None:
        self._playwright = await async_playwright().start()
        path = chromium.find(self._playwright.chromium.executable_path)
        sandbox = chromium.may_use_sandbox()
        self._browser = await self._playwright.chromium.launch(executable_path=path, chromium_sandbox=sandbox)

    async def _first(self) -> None:
        context = await self._browser.new_context()
        self._page = await context.new_page()
        await self._load()

    async def _load(self) -> None:
        assert self._page is not None
        await self._page.goto(self._url)
        await self._page.content()

    async def _stop(self) -> None:
        await self._browser.close()
        await self._playwright.stop()

    def first(self) -> None:
        """Opens a context, and loads a page."""
        self._run(self._first())

    def second(self) -> None:
        """Loads a page."""
        self._run(self._load())

    def close(self) -> None:
        """Closes the context."""
        assert self._page is not None
        self._run(self._page.context.close())

    def stop(self) -> None:
        """Ends the browser."""
        self._run(self._stop())


def timed(before: Step | None, measured: Step, after: Step | None) -> float:
    """The seconds of one step between two others."""
    if before is not None:
        before()
    started = time.perf_counter()
    measured()
    spent = time.perf_counter() - started
    if after is not None:
        after()
    return spent


def compare(title: str, most: float, cases: dict[str, tuple[Step | None, Step, Step | None]]) -> None:
    """Measures one thing both ways, and prints it."""
    found = interleave({name: lambda steps=steps: timed(*steps) for name, steps in cases.items()}, rounds=20)
    table(title, found, base=BASE)
    goal("ratio of the medians", median(found["session"]) / median(found[BASE]), most, "times")


def main() -> None:
    """Measures and prints."""
    loop = asyncio.new_event_loop()
    with target() as url, Engine() as engine, BBREClient(str(engine.api_key), engine.base_url) as client:
        bare, ours = Bare(loop, url), Ours(client, url)
        for title, most, name in (("From create to the first page", 1.3, "first"), ("A second page", 1.2, "second")):
            before = {"first": (None, None), "second": (bare.first, ours.first)}[name]
            compare(
                title,
                most,
                {
                    BASE: (before[0], getattr(bare, name), bare.close),
                    "session": (before[1], getattr(ours, name), ours.close),
                },
            )
        compare("Close", 1.3, {BASE: (bare.first, bare.close, None), "session": (ours.first, ours.close, None)})
        bare.stop()
    loop.close()


if __name__ == "__main__":
    main()
