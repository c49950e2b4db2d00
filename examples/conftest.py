"""Knows the two applications under test, and starts each when a test first asks for it.
Must not know the tests. Sessions come from pytest-bbre: there is nothing to set up for them.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from serving import serving


@pytest.fixture(scope="session")
def httpbin() -> Iterator[str]:
    """The address of an httpbin, which answers with what it was asked."""
    from httpbin import app

    with serving(app) as address:
        yield address


@pytest.fixture(scope="session")
def shop() -> Iterator[str]:
    """The address of a shop with a login."""
    from shop import Shop

    with serving(Shop().app) as address:
        yield address


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address that refuses every connection: its port is taken, and nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
