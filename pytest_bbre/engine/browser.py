"""Knows one Chromium process, kept warm: started when it is first needed, again after it died, ended with the engine.
Must not know sessions, nor what is loaded in its contexts.

Playwright is imported with the first adaptive session, never before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from . import chromium
from .refused import Refused, invalid

if TYPE_CHECKING:
    from playwright.async_api import Browser as Chromium
    from playwright.async_api import BrowserContext, Playwright, ProxySettings

STOP_WITHIN: Final = 3.0  # seconds for it to end in good order; the end of its pipe ends it anyway
VIEWPORTS: Final = {"low": (800, 600), "medium": (1280, 720), "high": (1920, 1080)}  # by sensibility; our choice
LOCALE: Final = "en-US"
TIME_ZONE: Final = "UTC"
NOT_INSTALLED: Final = 'mode can\'t be adaptive: Playwright is not installed. Use: pip install "pytest-bbre[adaptive]".'
_log = logging.getLogger(__name__)


class Browser:
    """Gives contexts. All methods belong to one event loop.

    Args:
        died: called when the process has ended by itself, with all its contexts.
    """

    def __init__(self, died: Callable[[], object]) -> None:
        self._died = died
        self._playwright: Playwright | None = None
        self._chromium: Chromium | None = None
        self._agent = ""
        self._starting = asyncio.Lock()
        self._stopped = False

    async def context(self, sensibility: str, proxy: str | None) -> BrowserContext:
        """A new context, which shares nothing with any other: no cookies, storage, cache or credentials.

        Raises:
            Refused: there is no browser, or it does not start.
        """
        running = await self._running()
        width, height = VIEWPORTS[sensibility]
        return await running.new_context(
            locale=LOCALE,
            timezone_id=TIME_ZONE,
            viewport={"width": width, "height": height},
            accept_downloads=False,
            proxy=_proxy(proxy),
        )

    def profile(self, sensibility: str) -> dict[str, Any]:
        """What a session in it is told to be. Nothing here pretends to be anything else."""
        width, height = VIEWPORTS[sensibility]
        return {
            "userAgent": self._agent,
            "languages": [LOCALE],
            "locale": LOCALE,
            "timezone": TIME_ZONE,
            "viewport": {"width": width, "height": height},
            "browser": f"Chromium {self._chromium.version}" if self._chromium is not None else None,
            "engine": "pytest-bbre embedded",
        }

    async def stop(self) -> None:
        """Ends it. No other is started."""
        self._stopped = True
        browser, self._chromium = self._chromium, None
        playwright, self._playwright = self._playwright, None
        for one in (browser.close() if browser else None, playwright.stop() if playwright else None):
            if one is not None:
                with contextlib.suppress(Exception):  # it may have died before
                    await asyncio.wait_for(one, STOP_WITHIN)

    async def _running(self) -> Chromium:
        async with self._starting:
            if self._stopped:
                raise Refused("SERVICE_ERROR", "The engine is stopping.")
            if self._chromium is None or not self._chromium.is_connected():
                self._chromium = await self._start()
                self._agent = await self._ask_agent(self._chromium)
            return self._chromium

    async def _start(self) -> Chromium:
        try:
            from playwright.async_api import Error, async_playwright
        except ImportError:
            raise invalid(NOT_INSTALLED) from None
        if self._playwright is None:
            self._playwright = await async_playwright().start()
        path = chromium.find(self._playwright.chromium.executable_path)
        if path is None:
            raise chromium.missing()
        sandbox = chromium.may_use_sandbox()
        if not sandbox:
            _log.warning("Chromium runs without its sandbox, since the engine runs as root.")
        try:
            started = await self._playwright.chromium.launch(
                executable_path=path,
                chromium_sandbox=sandbox,
                handle_sigint=False,  # whoever runs the engine ends it in good order
                handle_sigterm=False,
                handle_sighup=False,
            )
        except Error as error:
            words = str(error).splitlines()[0]
            raise Refused("SERVICE_ERROR", f"{path} could not be started: {words}") from None
        started.on("disconnected", self._on_disconnected)
        return started

    def _on_disconnected(self, _: object) -> None:
        if not self._stopped:
            self._died()

    async def _ask_agent(self, running: Chromium) -> str:
        asking = await running.new_browser_cdp_session()
        agent = str((await asking.send("Browser.getVersion"))["userAgent"])
        await asking.detach()
        return agent


def _proxy(address: str | None) -> ProxySettings | None:
    if address is None:
        return None
    parts = urlsplit(address)
    server = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    found: ProxySettings = {"server": server}
    if parts.username is not None:
        found["username"], found["password"] = parts.username, parts.password or ""
    return found
