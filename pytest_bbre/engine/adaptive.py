"""Knows how an adaptive session sends a web request: fetched as a passive one does, and a page rendered by Chromium.
Must not know the wire's fields, nor how many sessions there are.

Why the document is fetched outside of the browser: status, headers, redirects, credentials, certificates, time limits
and cookies are then the very same as in passive mode, by the same code. See docs/decisions/0010.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from .. import _wire
from .browser import Browser
from .cookies import browser_key
from .passive import REDIRECTS, Context, Passive, new_context
from .tab import Document, Rendered, Tab, Wish

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext

CLOSED_WITHIN: Final = 5.0  # seconds that a close waits for the browser; the slot is free all the same; our choice
PAGES: Final = ("text/html", "application/xhtml+xml")
UTF_8: Final = "text/html; charset=utf-8"  # what a rendered document is told in


@dataclass(kw_only=True)
class AdaptiveContext(Context):
    """What one session's requests need: as in passive mode, and its tab.

    Attributes:
        tab: its page.
        turn: held while a document is rendered: a page shows one at a time.
        synced: the version of the jar that the browser has.
        known: the cookies that the browser had when it was looked at last.
        leaving: closes the tab, once the session has ended.
    """

    tab: Tab
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    synced: int = 0
    known: set[tuple[str, str, str]] = field(default_factory=set)
    leaving: asyncio.Task[None] | None = None


class Adaptive:
    """Adaptive sessions of one engine, in one browser. All methods belong to one event loop.

    Args:
        passive: fetches.
        died: called when the browser has died, and all its sessions with it.
    """

    def __init__(self, passive: Passive, died: Callable[[], object]) -> None:
        self._passive = passive
        self._browser = Browser(died)
        self._closing: set[asyncio.Task[None]] = set()  # the loop itself keeps only weak references

    async def open(self, sensibility: str, proxy: str | None) -> tuple[AdaptiveContext, dict[str, Any]]:
        """A context of its own, and the session's profile.

        Raises:
            Refused: there is no browser, or it does not start.
        """
        tab = Tab(await self._browser.context(sensibility, proxy))
        profile = self._browser.profile(sensibility)
        plain = new_context(profile, proxy)
        return AdaptiveContext(headers=plain.headers, proxy=plain.proxy, tab=tab), profile

    async def send(self, context: AdaptiveContext, request: _wire.TargetRequest) -> _wire.TargetAnswer:
        """Sends a request and follows its redirects. The answer to a GET that is a page is rendered.

        Raises:
            Refused: the target gave no answer that can be told.
        """
        give_up = asyncio.get_running_loop().time() + (request.timeout or _wire.DEFAULT_REQUEST_TIMEOUT)
        answer = await self._passive.send(context, request)
        if request.method != "GET" or not _is_page(answer):
            return answer
        wish = Wish(request.wait_for, request.screenshot, request.verify, give_up)
        async with context.turn:
            return _told(answer, await self._render(context, answer, wish))

    async def _render(self, context: AdaptiveContext, answer: _wire.TargetAnswer, wish: Wish) -> Rendered:
        browser, jar = context.tab.context, context.jar
        if jar.version != context.synced:
            context.synced = jar.version
            await browser.clear_cookies()
            await _add(browser, jar.to_browser())
            context.known = {browser_key(cookie) for cookie in await _cookies(browser)}
        document = Document(answer.url or "", answer.status, list(answer.headers), answer.body)
        try:
            return await context.tab.render(document, wish)
        finally:
            cookies = await _cookies(browser)
            jar.from_browser(context.known, cookies)
            context.known = {browser_key(cookie) for cookie in cookies}

    def ended(self, context: object) -> None:
        """A session has ended: what it had in the browser goes."""
        if isinstance(context, AdaptiveContext):
            context.leaving = task = asyncio.ensure_future(context.tab.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def gone(self, context: object) -> None:
        """Returns when what an ended session had in the browser has gone, or soon after."""
        if isinstance(context, AdaptiveContext) and context.leaving is not None:
            await asyncio.wait({context.leaving}, timeout=CLOSED_WITHIN)

    async def stop(self) -> None:
        """Ends the browser."""
        await self._browser.stop()


def _is_page(answer: _wire.TargetAnswer) -> bool:
    """Whether a browser would show it as a page, rather than follow, show as text or save it."""
    headers = {name.lower(): value.lower() for name, value in reversed(answer.headers)}
    kind = headers.get("content-type", "").partition(";")[0].strip()
    saved = headers.get("content-disposition", "").lstrip().startswith("attachment")
    return kind in PAGES and not saved and answer.status not in (*REDIRECTS, 204, 205, 304)


def _told(answer: _wire.TargetAnswer, rendered: Rendered) -> _wire.TargetAnswer:
    """The answer with the document as it is after its scripts ran, in UTF-8, which its header then says."""
    headers = [(name, UTF_8 if name.lower() == "content-type" else value) for name, value in answer.headers]
    return replace(
        answer,
        headers=headers,
        body=rendered.html.encode("utf-8", "replace"),
        url=rendered.url,
        page=_wire.RenderedPage(rendered.title, rendered.errors, rendered.screenshot),
    )


async def _add(browser: BrowserContext, cookies: list[Any]) -> None:
    """Gives the browser cookies. It refuses all of them for one that it does not like: then each by itself."""
    from playwright.async_api import Error

    try:
        if cookies:
            await browser.add_cookies(cookies)
    except Error:
        for cookie in cookies:
            with contextlib.suppress(Error):
                await browser.add_cookies([cookie])


async def _cookies(browser: BrowserContext) -> list[Any]:
    """Its cookies; none where it has died, which the request tells by itself."""
    from playwright.async_api import Error

    try:
        return list(await browser.cookies())
    except Error:
        return []
