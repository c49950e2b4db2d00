"""Knows the engine's public names, and loads each on its first use.
Must not know aiohttp, which is imported only where an engine runs.

The embedded engine: BBRE on your own machine, for tests and for work without an account (extra ``engine``).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .control import EngineControl as EngineControl
    from .faults import Fault as Fault
    from .server import Engine as Engine

_HOMES = {"Engine": "server", "EngineControl": "control", "Fault": "faults"}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
