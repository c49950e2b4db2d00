"""A short soak (`python -m benchmarks.soak --rounds 20000` is a long one): nothing lost, nobody harmed."""

from __future__ import annotations

import argparse
import os

import pytest
from _benchmarks import load

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes by /proc")


@pytest.mark.timeout(240)
def test_a_short_soak() -> None:
    """After faults of the service and kills of processes and guardians, ledger and service agree that nothing is left,
    no living process's session was closed by others, and no process was refused.
    """
    given = argparse.Namespace(rounds=200, seed=7, processes=12, seconds=20.0)
    assert load("benchmarks.soak").run(given) == []
