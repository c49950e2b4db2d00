"""The contract of passive sessions, against adaptive ones: the same tests, with another mode by default."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from _chromium import needs_chromium
from _scripted import LIMIT
from test_client_contract import *  # noqa: F403  # all of its tests, and its fixtures

from pytest_bbre import close_all_sessions
from pytest_bbre.engine import Engine

pytestmark = needs_chromium

# What can't be equal, with why: docs/adaptive.md tells it to users.
RENDERED = "a page is told as it is after its scripts ran, in UTF-8"
DIFFERENT = {
    "test_what_comes_back_is_what_requests_would_give": RENDERED,
    "test_the_encoding_is_the_one_that_requests_would_choose": RENDERED,
    "test_encoding_text_and_next_are_those_of_requests": RENDERED,
}


@pytest.fixture(scope="module")
def warm() -> Iterator[Engine]:
    """One engine with one browser for all of this file: starting a browser takes longer than any test."""
    with Engine(in_process=True) as engine:
        yield engine


class AsNew:
    """The engine as if it had been started for this test: with an account of its own, calls and totals from here."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.api_key = engine.add_account()
        self._calls = dict(engine.calls())
        self._totals = {name: count for name, count in engine.totals().items() if name != "active"}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def calls(self, endpoint: str) -> int:
        """How many requests have arrived."""
        return int(self._engine.calls(endpoint)) - self._calls[endpoint]

    def totals(self) -> dict[str, int]:
        """How many were opened and ended."""
        return {name: count - self._totals.get(name, 0) for name, count in self._engine.totals().items()}

    def wait_for(self, endpoint: str, count: int = 1, timeout: float = LIMIT) -> None:
        """Waits until so many requests have arrived."""
        self._engine.wait_for(endpoint, self._calls[endpoint] + count, timeout)


@pytest.fixture
def engine(
    warm: Engine, isolated: None, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Any]:
    """The engine for one test; at the end nothing may be active there."""
    name = request.node.originalname
    if name in DIFFERENT and "html" in request.node.name:
        pytest.skip(DIFFERENT[name])
    monkeypatch.setenv("BBRE_MODE", "adaptive")
    yield AsNew(warm)
    warm.faults.clear()
    close_all_sessions(timeout=LIMIT)
    assert warm.sessions() == []
