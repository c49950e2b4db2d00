"""Knows how a test uses a module of the benchmarks, which are no part of what is installed.
Must not know what they measure.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2] / "benchmarks"


def load(name: str) -> Any:
    """A module of the benchmarks, which are no part of what is installed."""
    for package in ("benchmarks", name):
        if package not in sys.modules:
            path = ROOT / ("__init__.py" if package == "benchmarks" else f"{name.rpartition('.')[2]}.py")
            spec = importlib.util.spec_from_file_location(package, path)
            assert spec is not None
            assert spec.loader is not None
            sys.modules[package] = module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
    return sys.modules[name]
