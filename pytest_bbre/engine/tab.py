"""Knows one page of one context: a document is loaded there that was fetched, scripts run, and what came of it is told.
Must not know how it was fetched, nor the wire's fields.

The document is handed to the browser as the answer to its own navigation; all that it asks for then (scripts, styles,
data) the browser fetches itself, with the context's own cookies.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Awaitable, Coroutine
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urldefrag

from .refused import Refused

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, CDPSession, Page, Request

QUIET: Final = 0.05  # seconds without a request in flight after which a page counts as loaded; our choice
SETTLED_WITHIN: Final = 3.0  # seconds for that: a page may ask for something over and over; our choice
ANSWERS_WITHIN: Final = 2.0  # seconds, of a page that is well; our choice
MOST_ERRORS: Final = 50  # of the console, each of at most so many characters:
LONGEST_ERROR: Final = 1000
_STREAMS: Final = ("eventsource", "websocket", "media")  # they stay in flight for as long as the page is there
_SEEN: Final = ("Document", "Fetch", "XHR")  # what may be answered here, or be asked for a password
# Headers of the connection over which the document came; cookies have their own way into the context.
_NOT_HANDED: Final = frozenset(
    {"connection", "content-encoding", "content-length", "keep-alive", "set-cookie", "transfer-encoding"}
)
_SNAPSHOT: Final = """() => {
    const type = document.doctype ? new XMLSerializer().serializeToString(document.doctype) : '';
    return [document.title, type + document.documentElement.outerHTML, location.href];
}"""


class Document(NamedTuple):
    """What was fetched: its address, status, headers and bytes."""

    url: str
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Wish(NamedTuple):
    """What is to be waited for (a selector, "text=...", or "networkidle"), whether a picture is wanted, whether any
    certificate will do, and the time on the loop's clock by which to be done.
    """

    wait_for: str | None
    screenshot: bool
    verify: bool
    give_up: float


class Rendered(NamedTuple):
    """The page after its scripts ran: address, title, HTML, errors of its console, and a picture as PNG."""

    url: str
    title: str
    html: str
    errors: list[str]
    screenshot: bytes | None


class Tab:
    """The page of a context: made for the first document, and again after a crash. Renders one document at a time."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self._page: Page | None = None
        self._cdp: CDPSession | None = None
        self._frame = ""  # the page's own, by which its documents are told from those of frames in it
        self._document: Document | None = None
        self._in_flight: set[Request] = set()
        self._changed = asyncio.Event()
        self._errors: list[str] = []
        self._crash = asyncio.Event()
        self._verifying = True

    async def _open(self) -> None:
        self._page = page = await self.context.new_page()
        page.on("request", self._on_request)
        page.on("requestfinished", self._on_done)
        page.on("requestfailed", self._on_done)
        page.on("console", lambda message: self._note(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self._note(str(error)))
        page.on("crash", lambda _: self._crash.set())
        page.on("popup", lambda other: _later(other.close()))  # a session has one page
        self._cdp = await self.context.new_cdp_session(page)
        self._cdp.on("Fetch.requestPaused", lambda paused: _later(self._on_paused(paused)))
        self._cdp.on("Fetch.authRequired", lambda asked: _later(self._on_auth(asked)))
        patterns = [{"urlPattern": "*", "resourceType": kind} for kind in _SEEN]
        await self._cdp.send("Fetch.enable", {"patterns": patterns, "handleAuthRequests": True})
        self._frame = (await self._cdp.send("Page.getFrameTree"))["frameTree"]["frame"]["id"]
        self._verifying = True

    async def render(self, document: Document, wish: Wish) -> Rendered:
        """Loads a document and lets its scripts run.

        Raises:
            Refused: it did not load, or not in time; the page crashed; the browser has died.
        """
        from playwright.async_api import Error, TimeoutError

        known, self._document = self._page, document
        try:
            return await self._unless_crashed(self._render(document, wish))
        except (TimeoutError, asyncio.TimeoutError):
            waited = f" {wish.wait_for!r} did not appear." if wish.wait_for else ""
            raise Refused("TARGET_TIMEOUT", f"The page did not load in time.{waited}") from None
        except Error as error:
            if self._crash.is_set() or ("ERR_ABORTED" in str(error) and not await self._is_well()):
                unseen = self._document is not None
                await self._drop()
                if unseen and known is not None:  # it had crashed before, while nobody looked
                    return await self.render(document, wish)
                raise Refused("SERVICE_ERROR", "The page crashed. The session goes on with a new one.") from None
            words = str(error).splitlines()[0]
            if "closed" in words:
                raise Refused("SERVICE_ERROR", f"The browser has died, and the session with it: {words}") from None
            raise Refused("TARGET_UNREACHABLE", f"The page could not be loaded: {words}") from None
        finally:
            self._document = None

    async def _unless_crashed(self, rendering: Coroutine[Any, Any, Rendered]) -> Rendered:
        """Not everything in Playwright hears of a crash; it would wait until its time is up."""
        from playwright.async_api import Error

        work, crash = asyncio.ensure_future(rendering), asyncio.ensure_future(self._crash.wait())
        try:
            await asyncio.wait({work, crash}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise Error("the page crashed")
            return await work
        finally:
            for one in (work, crash):
                one.cancel()
            await asyncio.gather(work, crash, return_exceptions=True)

    async def close(self) -> None:
        """Ends the context, and all that it kept."""
        with contextlib.suppress(Exception):  # its browser may have died
            await self.context.close()

    async def _render(self, document: Document, wish: Wish) -> Rendered:
        if self._page is None:
            await self._open()
        page = self._page
        assert page is not None
        await self._verify(wish.verify)
        self._errors = []
        self._in_flight.clear()
        if urldefrag(page.url)[0] == urldefrag(document.url)[0] and "#" in document.url:
            await page.goto("about:blank")  # else it would only scroll
        await page.goto(document.url, wait_until="load", timeout=_left(wish.give_up) * 1000)
        await self._settle(wish)
        title, html, url = await self._snapshot(wish.give_up)
        picture = None
        if wish.screenshot:
            picture = await page.screenshot(type="png", timeout=_left(wish.give_up) * 1000)
        return Rendered(url, title, html, self._errors, picture)

    async def _verify(self, verify: bool) -> None:
        if verify != self._verifying and self._cdp is not None:
            await self._cdp.send("Security.setIgnoreCertificateErrors", {"ignore": not verify})
            self._verifying = verify

    async def _settle(self, wish: Wish) -> None:
        """Waits for what was asked for; for the network to be quiet, by default."""
        assert self._page is not None
        if wish.wait_for == "networkidle":
            await self._page.wait_for_load_state("networkidle", timeout=_left(wish.give_up) * 1000)
        elif wish.wait_for:
            await self._page.wait_for_selector(wish.wait_for, timeout=_left(wish.give_up) * 1000)
        else:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._quiet(), min(SETTLED_WITHIN, _left(wish.give_up)))

    async def _quiet(self) -> None:
        """Returns when nothing is in flight: at once, or else when nothing has been for a moment."""
        while self._in_flight:
            self._changed.clear()
            await self._changed.wait()
            if not self._in_flight:
                await asyncio.sleep(QUIET)

    async def _snapshot(self, give_up: float) -> list[str]:
        """What the page is now. One that is just leaving for another is waited for."""
        from playwright.async_api import Error

        assert self._page is not None
        while True:
            try:
                found: list[str] = await asyncio.wait_for(self._page.evaluate(_SNAPSHOT), _left(give_up))
                return found
            except Error as error:
                if self._crash.is_set() or "context was destroyed" not in str(error):
                    raise
                await self._page.wait_for_load_state("load", timeout=_left(give_up) * 1000)

    # What the page tells.

    async def _on_paused(self, paused: dict[str, Any]) -> None:
        """The first document that it asks for is the one that was fetched; all else it fetches itself."""
        assert self._cdp is not None
        document = self._document
        if document is None or paused["resourceType"] != "Document" or paused["frameId"] != self._frame:
            await self._cdp.send("Fetch.continueRequest", {"requestId": paused["requestId"]})
            return
        self._document = None
        headers = [
            {"name": name, "value": value} for name, value in document.headers if name.lower() not in _NOT_HANDED
        ]
        answer = {"requestId": paused["requestId"], "responseCode": document.status, "responseHeaders": headers}
        await self._cdp.send("Fetch.fulfillRequest", {**answer, "body": base64.b64encode(document.body).decode()})

    async def _on_auth(self, asked: dict[str, Any]) -> None:
        """There is nobody to type a password, and a request that waits for one would wait for ever."""
        assert self._cdp is not None
        answer = {"requestId": asked["requestId"], "authChallengeResponse": {"response": "CancelAuth"}}
        await self._cdp.send("Fetch.continueWithAuth", answer)

    def _on_request(self, request: Request) -> None:
        if request.resource_type not in _STREAMS and not request.url.startswith(("data:", "blob:")):
            self._in_flight.add(request)
            self._changed.set()

    def _on_done(self, request: Request) -> None:
        self._in_flight.discard(request)
        self._changed.set()

    def _note(self, words: str) -> None:
        if len(self._errors) < MOST_ERRORS:
            self._errors.append(words[:LONGEST_ERROR])

    async def _is_well(self) -> bool:
        """Whether the page answers: a crash is told only after what it has broken."""
        with contextlib.suppress(Exception):
            assert self._page is not None
            await asyncio.wait_for(self._page.evaluate("1"), ANSWERS_WITHIN)
            return not self._crash.is_set()
        return False

    async def _drop(self) -> None:
        page, self._page, self._cdp = self._page, None, None
        self._crash.clear()
        if page is not None:
            with contextlib.suppress(Exception):
                await page.close()


def _left(give_up: float) -> float:
    """Seconds; never 0, which Playwright takes for no limit."""
    return max(give_up - asyncio.get_running_loop().time(), 0.001)


_tasks: set[asyncio.Task[None]] = set()  # the loop itself keeps only weak references


def _later(work: Awaitable[None]) -> None:
    """Does something for an event of the browser. It may fail since the page has gone: then there is nothing to do."""

    async def quietly() -> None:
        with contextlib.suppress(Exception):
            await work

    task = asyncio.ensure_future(quietly())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
