"""Knows how an engine runs on a thread of this process, with an event loop of its own.
Must not know what an engine answers.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

from .._child import ends_with_this_process
from ..errors import EngineExtraMissingError, EngineStartError
from .options import Options


def check_extra() -> None:
    """Raises EngineExtraMissingError where aiohttp is not installed."""
    if importlib.util.find_spec("aiohttp") is None:
        raise EngineExtraMissingError("The embedded engine needs aiohttp, which is not installed.")


class EngineThread:
    """A running engine on a daemon thread.

    Raises:
        EngineStartError: it did not come up.
    """

    def __init__(self, options: Options, start_timeout: float) -> None:
        self.pid = os.getpid()
        self._ready: Future[tuple[str, str]] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, args=(options,), name="bbre-engine", daemon=True)
        self._thread.start()
        try:
            self.base_url, self.instance = self._ready.result(start_timeout)
            ends_with_this_process(self.base_url)
        except FutureTimeoutError:
            self.stop()
            raise EngineStartError(f"The embedded engine gave no sign of life in {start_timeout:g} s.") from None
        except OSError as error:
            raise EngineStartError(
                f"The embedded engine could not listen on {options.host}:{options.port}: {error}"
            ) from error

    def stop(self) -> None:
        """Ends it and waits for the thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stopped.set)
        if self._thread is not threading.current_thread():
            self._thread.join(10.0)

    def _run(self, options: Options) -> None:
        try:
            asyncio.run(self._serve(options))
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)
                return
            raise

    async def _serve(self, options: Options) -> None:
        from .service import Service

        self._stopped = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._service = service = Service(options)
        await service.start()
        self._ready.set_result((service.base_url, service.instance))
        await self._stopped.wait()
        self._loop = None
        await service.stop()
