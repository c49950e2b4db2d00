"""Knows how the rooms of one engine are put together, and how they start and stop on an event loop.
Must not know whose loop it is, nor in which process.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Final

from aiohttp import web

from .accounts import Accounts
from .adaptive import Adaptive
from .app import Api
from .arrivals import Arrivals
from .backdoor import Backdoor
from .faults import FaultBook
from .options import Options
from .passive import Passive
from .store import Store

_GRACE: Final = 0.2  # seconds for requests under way when the engine stops; aiohttp waits this long twice
_KEEPALIVE: Final = 600.0  # seconds a client's idle connection stays open
_BACKLOG: Final = 1024  # connections that may wait to be accepted: hundreds of clients may begin at once


class Service:
    """One engine. `start` and `stop` it on the same loop.

    Attributes:
        instance: an id made anew for each engine.
        base_url: the address, once started.
        store: its sessions.
    """

    def __init__(self, options: Options) -> None:
        self.instance = str(uuid.uuid4())
        self.base_url = ""
        self._options = options
        self._passive = Passive()
        self._adaptive = Adaptive(self._passive, self._on_browser_died)
        self.store = Store(options.max_sessions, ended=self._adaptive.ended)
        self._expiry: asyncio.TimerHandle | None = None
        accounts = Accounts(options.accounts)
        faults, arrivals = FaultBook(options.faults), Arrivals()
        self._api = Api(
            instance=self.instance,
            accounts=accounts,
            store=self.store,
            passive=self._passive,
            adaptive=self._adaptive,
            faults=faults,
            arrivals=arrivals,
            latency=options.latency,
            modes=options.modes,
            control=Backdoor(options.control_token, self.instance, accounts, self.store, faults, arrivals),
            changed=self._watch_expiry,
        )

    async def start(self) -> None:
        """Listens.

        Raises:
            OSError: the port is taken.
        """
        await self._passive.start()
        server = web.Server(self._api, access_log=None, keepalive_timeout=_KEEPALIVE)
        self._runner = web.ServerRunner(server, shutdown_timeout=_GRACE)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._options.host, self._options.port, backlog=_BACKLOG).start()
        except OSError:
            await self.stop()
            raise
        host, port = self._runner.addresses[0][:2]
        self.base_url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def stop(self) -> None:
        """Stops listening, ends what is under way and closes all connections."""
        if self._expiry is not None:
            self._expiry.cancel()
        await self._runner.cleanup()
        await self._adaptive.stop()
        await self._passive.stop()

    def _on_browser_died(self) -> None:
        self.store.end_mode("adaptive")

    def _watch_expiry(self) -> None:
        """Sees to it that sessions expire in time, asked for or not."""
        deadline = self.store.next_deadline()
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = None
        if deadline is not None:
            seconds = max(deadline - self.store.clock(), 0.0)
            self._expiry = asyncio.get_running_loop().call_later(seconds, self._expire)

    def _expire(self) -> None:
        self.store.expire_due()
        self._watch_expiry()
