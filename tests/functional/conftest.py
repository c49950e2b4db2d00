"""Knows how the functional tests run pytest: as a child process, with the plugins that a test names and no others.
Must not know what the tests are about.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pytest_bbre import BBREClient
from pytest_bbre.engine import Engine

LIMIT = 60  # seconds for one run: far more than any needs


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the suite, and no plugin but those a test names, reaches the runs."""
    for name in list(os.environ):
        if name.startswith("BBRE_") or name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_XDIST_WORKER"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


Runner = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Runs pytest in a child process: `run(*arguments, plugins="xdist asyncio", env={...})`."""

    def run_pytest(*arguments: str, plugins: str = "", env: dict[str, str] | None = None) -> pytest.RunResult:
        named = [word for plugin in ["bbre", *plugins.split()] for word in ("-p", plugin)]
        with monkeypatch.context() as patch:
            for name, value in (env or {}).items():
                patch.setenv(name, value)
            return pytester.runpytest_subprocess(*named, *arguments, timeout=LIMIT)

    return run_pytest


class Service:
    """An engine of the test's own that plays the service. Every test has an account of its own."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.faults = engine.faults
        self.base_url = engine.base_url
        self.api_key = engine.add_account()
        self._before = {one.id for one in engine.sessions(None)}
        self._calls: dict[str, int] = {}

    def environ(self) -> dict[str, str]:
        """The variables that send a run here. Repetitions are quick."""
        return {
            "BBRE_BASE_URL": self.base_url,
            "BBRE_API_KEY": str(self.api_key),
            "BBRE_RETRY_MIN": "0.01",
            "BBRE_RETRY_MAX": "0.02",
        }

    def sessions(self, status: str | None = None) -> list[Any]:
        """What the engine knows of the sessions of this test, in the order of their creation."""
        found = [one for one in self.engine.sessions(status) if one.id not in self._before]
        return sorted(found, key=lambda one: one.created_at)

    def active(self) -> list[Any]:
        """The sessions that are still open, asked from the engine."""
        return self.sessions("active")

    def close_all(self) -> None:
        """Closes what a run was meant to leave open."""
        with BBREClient(self.api_key, self.base_url) as client:
            client.close_sessions([one.id for one in self.active()])

    def forget_calls(self) -> None:
        """From here on `wait_for` counts anew."""
        self._calls = {name: self.engine.calls(name) for name in ("create", "status", "close", "list", "request")}

    def wait_for(self, endpoint: str, count: int = 1) -> None:
        """Waits until so many calls of an endpoint have arrived since the test began."""
        self.engine.wait_for(endpoint, self._calls[endpoint] + count, timeout=LIMIT)


@pytest.fixture(scope="session")
def service_engine() -> Iterator[Engine]:
    """One engine for all tests that need a service."""
    with Engine(max_sessions=10) as engine:
        yield engine


@pytest.fixture
def service(
    service_engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """An engine that plays the service: runs go there, and it can be asked when they have ended."""
    service = Service(service_engine)
    for name, value in service.environ().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BBRE_GUARD", "0")  # what is closed is closed by the run itself; the guardian has its own tests
    monkeypatch.setenv("BBRE_STATE_DIR", str(tmp_path_factory.mktemp("state")))  # what one test leaves is its own
    service.forget_calls()
    yield service
    service.faults.clear()
    left = service.active()
    service.close_all()
    assert not left, "the run left sessions open"
