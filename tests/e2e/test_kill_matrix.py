"""A part of the kill matrix (`python -m benchmarks.kill_matrix` is all of it): nothing is left, nobody is harmed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from _benchmarks import load

from pytest_bbre.engine import Engine

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes by /proc")

CASES = [
    *[("SIGKILL", moment) for moment in ("before create", "create in flight", "create answered", "held")],
    *[("SIGKILL", moment) for moment in ("request in flight", "close in flight")],
    *[("guardian first", "held"), ("guardian at the same instant", "create answered"), ("exec", "held")],
    *[("killed, forked child alive", "held"), ("segmentation fault", "request in flight"), ("SIGQUIT", "held")],
    *[("whole login session", "held"), ("pytest-timeout's thread", "held"), ("xdist worker killed", "held")],
    *[
        ("xdist controller killed", "held"),
        ("memory limit", "held"),
        ("exit with a hanging thread", "held"),
        ("os._exit", "close in flight"),
    ],
]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An engine, a ledger, and a living neighbour."""
    load("benchmarks._victim")
    with Engine() as engine:
        made = load("benchmarks.kill_matrix").Scene(engine, str(tmp_path_factory.mktemp("state")), sys.executable)
        yield made
        made.end()


@pytest.mark.parametrize(("way", "moment"), CASES)
def test_nothing_is_left(scene: Any, way: str, moment: str) -> None:
    """No session of the dead is active, and the neighbour has its own."""
    found = scene.dies(way, moment)
    assert found.seconds is not None, f"left: {scene.engine.sessions()}"
    assert found.neighbour
