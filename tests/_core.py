"""Fixtures that the tests of the core share. Each folder's conftest imports them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from _scripted import KEY, LIMIT, Scripted

if TYPE_CHECKING:
    from pytest_bbre import BBREClient, Settings
    from pytest_bbre.engine import Engine

QUICK = {"retry_min": 0, "retry_max": 0, "connect_timeout": LIMIT, "read_timeout": LIMIT}


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No BBRE_* variable gets in, and no session, client or setting of the tracker gets out."""
    for name in [name for name in os.environ if name.startswith("BBRE_")]:
        monkeypatch.delenv(name)
    from pytest_bbre._host import host
    from pytest_bbre._tracker import tracker

    monkeypatch.setattr(host, "settings", None)
    monkeypatch.setattr(host, "stops", True)  # signal handlers have tests of their own, in processes of their own
    yield
    tracker.keeper.leave()
    workers = tracker._workers
    tracker.forget_all()
    workers.dismiss()


@pytest.fixture
def service() -> Iterator[Scripted]:
    """A service that answers whatever the test says."""
    with Scripted() as server:
        yield server


@pytest.fixture
def client(service: Scripted) -> Iterator[BBREClient]:
    """A client of the scripted service that repeats without waiting."""
    from pytest_bbre import BBREClient

    with BBREClient(KEY, service.base_url, **QUICK) as made:
        yield made


@pytest.fixture
def engine(isolated: None) -> Iterator[Engine]:
    """A fresh embedded engine; at the end of the test nothing may be active there."""
    from pytest_bbre import close_all_sessions
    from pytest_bbre.engine import Engine

    with Engine(in_process=True) as made:
        yield made
        made.faults.clear()
        close_all_sessions(timeout=LIMIT)
        assert made.sessions() == []


@pytest.fixture
def settings(engine: Engine) -> Settings:
    """Settings for the engine, repeating without waiting."""
    from pytest_bbre import Settings

    return Settings.resolve({"api_key": str(engine.api_key), "base_url": engine.base_url, **QUICK}, environ={})


@pytest.fixture
def default_settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """As `settings`, and used by all idioms that name none."""
    from pytest_bbre._host import host

    monkeypatch.setattr(host, "settings", lambda: settings)
    return settings


@pytest.fixture
def on_threads() -> Callable[..., list[Any]]:
    """A function that makes a call on many threads at the same time, and returns what each returned."""

    def run(call: Callable[[], Any], count: int = 8) -> list[Any]:
        barrier = threading.Barrier(count)
        results: list[Any] = [None] * count

        def one(index: int) -> None:
            barrier.wait(LIMIT)
            try:
                results[index] = call()
            except BaseException as error:
                results[index] = error

        threads = [threading.Thread(target=one, args=(index,), daemon=True) for index in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
            assert not thread.is_alive(), "a call hangs"
        return results

    return run
