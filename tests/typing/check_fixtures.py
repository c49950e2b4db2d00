"""Checked by mypy and pyright, never run: what a test writes to annotate the plugin's fixtures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import requests
from typing_extensions import assert_type

from pytest_bbre import BBREClient, BBRESession, SessionInfo, Settings
from pytest_bbre.engine import Engine, EngineControl


@pytest.fixture
def bbre_session_options() -> Mapping[str, Any]:
    """Plain data, overridden."""
    return {"timeout": 60}


@pytest.fixture(scope="session")
def bbre_settings(bbre_settings: Settings) -> Settings:
    """Settings, changed."""
    return bbre_settings.override(mode="adaptive")


@pytest.mark.bbre(mode="adaptive", timeout=60)
def test_types(
    bbre_session: BBRESession,
    bbre_module_session: BBRESession,
    bbre_session_factory: Callable[..., BBRESession],
    bbre_client: BBREClient,
    bbre_engine: EngineControl,
) -> None:
    """Each fixture under the name that its documentation gives."""
    assert_type(bbre_session.get("https://example.org/"), requests.Response)
    assert_type(bbre_session_factory(mode="passive"), BBRESession)
    assert_type(bbre_engine.sessions(), list[SessionInfo])
    assert_type(bbre_engine.base_url, str)
    assert_type(bbre_engine.environ(), dict[str, str])


def script() -> None:
    """The engine by itself, for a script."""
    with Engine(max_sessions=2, latency={"create": 0.3}) as engine:
        assert_type(engine.sessions("active"), list[SessionInfo])
        engine.faults.fail("close", times=2, code="SERVICE_ERROR")
