"""Sessions in asynchronous code, without any plugin for it."""

from __future__ import annotations

import asyncio

from helpers import add_to_cart, cart_of, log_in

from pytest_bbre import BBRESession, managed_session, with_session


def test_requests_at_the_same_time(httpbin):
    """One session sends several requests at once."""

    async def run() -> list[int]:
        async with managed_session() as session:
            pages = (session.aget(f"{httpbin}/status/{status}") for status in (200, 202, 404))
            return [answer.status_code for answer in await asyncio.gather(*pages)]

    assert asyncio.run(run()) == [200, 202, 404]


def test_sessions_at_the_same_time(shop):
    """A decorated coroutine has a session of its own in each call, closed when the call ends."""

    @with_session
    async def fill_cart(session: BBRESession, product: str) -> list[str]:
        await asyncio.to_thread(log_in, session, shop)
        await asyncio.to_thread(add_to_cart, session, shop, product)
        assert (await session.aget(f"{shop}/account")).ok
        return await asyncio.to_thread(cart_of, session, shop)

    async def run() -> list[list[str]]:
        return list(await asyncio.gather(fill_cart(product="tea"), fill_cart(product="cup")))

    assert asyncio.run(run()) == [["1 x Green tea"], ["1 x Cup"]]
