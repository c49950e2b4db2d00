"""Fixtures of the tests that end real processes: the engine that they use as their service, and a starter."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # helpers that all tests share
sys.path.insert(0, str(Path(__file__).resolve().parents[0]))  # and those of this folder

from _guardians import Guardians
from _process import LIMIT, Starter

from pytest_bbre.engine import Engine
from pytest_bbre.engine.control import EngineControl


class Service:
    """The engine as one test sees it: counted from the test's beginning."""

    def __init__(self, engine: EngineControl) -> None:
        self.engine = engine
        self.faults = engine.faults
        self._calls = engine.calls()
        self._opened = int(engine.totals()["opened"])

    def environ(self) -> dict[str, str]:
        """The variables with which a program finds it. Repetitions without a pause: no test waits for nothing."""
        return {**self.engine.environ(), "BBRE_RETRY_MIN": "0", "BBRE_RETRY_MAX": "0"}

    def wait_for(self, endpoint: str, count: int = 1) -> None:
        """Waits until so many requests have arrived."""
        self.engine.wait_for(endpoint, self._calls[endpoint] + count, timeout=LIMIT)

    def calls(self, endpoint: str) -> int:
        """How many requests have arrived."""
        return int(self.engine.calls(endpoint)) - self._calls[endpoint]

    def active(self) -> list[str]:
        """The ids of the sessions that hold a slot."""
        return [session.id for session in self.engine.sessions()]

    def opened(self) -> int:
        """How many sessions were opened."""
        return int(self.engine.totals()["opened"]) - self._opened

    def check(self, *, opened: int) -> None:
        """So many sessions were opened, and none is active: what every test here is about."""
        assert (self.opened(), self.active()) == (opened, [])


@pytest.fixture(scope="session")
def _engine() -> Iterator[Engine]:
    with Engine(max_sessions=50) as engine:
        yield engine


@pytest.fixture
def service(_engine: Engine) -> Iterator[Service]:
    """The service that scripts use: an embedded engine. It must have no active session when the test ends."""
    service = Service(_engine)
    yield service
    _engine.faults.clear()
    left = service.active()
    if left:
        from pytest_bbre import BBREClient

        with BBREClient(_engine.api_key, _engine.base_url, retries=0) as client:
            client.close_sessions(left)  # or the next test would suffer for it
    assert left == []


@pytest.fixture
def start(tmp_path: Path, service: Service, request: pytest.FixtureRequest) -> Iterator[Starter]:
    """Starts a script that finds the service: ``start("open_session()").end()``. Each test has a ledger of its own.

    Tests of how a process ends by itself do without a guardian, which would close what the process did not.
    """
    by_itself = request.path.name.startswith("test_exits")
    guard = {"BBRE_STATE_DIR": str(tmp_path / "state"), "BBRE_GUARD": "0" if by_itself else "1"}
    starter = Starter(tmp_path, {**service.environ(), **guard})
    yield starter
    starter.kill_all()
    key = str(service.engine.api_key)
    assert not any(key in written for written in starter.written()), "a process wrote the API key"


@pytest.fixture
def guardians(tmp_path: Path) -> Iterator[Guardians]:
    """None of them may be left when the test ends."""
    found = Guardians(tmp_path / "state")
    yield found
    found.close()
    for pid in found.pids():
        os.kill(pid, signal.SIGKILL)
