"""Knows how many requests of each endpoint have arrived, and lets others wait for one.
Must not know what the requests ask for.
"""

from __future__ import annotations

import asyncio

from .. import _wire


class Arrivals:
    """Counters by endpoint, since the engine's start."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(_wire.ENDPOINTS, 0)
        self._waiting: list[tuple[str, int, asyncio.Future[None]]] = []

    def count(self, endpoint: str) -> None:
        """One more has arrived."""
        self.counts[endpoint] += 1
        if self._waiting:
            for name, count, future in self._waiting:
                if self.counts[name] >= count and not future.done():
                    future.set_result(None)

    async def wait(self, endpoint: str, count: int, seconds: float) -> bool:
        """Whether `count` requests have arrived within `seconds`."""
        if self.counts[endpoint] >= count:
            return True
        entry = (endpoint, count, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        try:
            await asyncio.wait_for(entry[2], seconds)
        except asyncio.TimeoutError:
            return False
        finally:
            self._waiting.remove(entry)
        return True
