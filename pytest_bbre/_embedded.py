"""Knows how `base_url="embedded"` becomes a running engine: one child process for this whole process.
Must not know the engine itself, which the core never imports.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ._settings import Settings

if TYPE_CHECKING:
    from ._child import EngineChild

_lock = [threading.Lock()]
_running: list[EngineChild] = []  # at most one; the child ends with this process, whatever way that goes


def address(settings: Settings) -> Settings:
    """The same settings with a real address and key: those of this process's own engine, started on first use.

    Raises:
        EngineExtraMissingError: aiohttp is not installed.
        EngineStartError: the engine did not come up.
    """
    from ._child import start_engine_child  # here: who has an account never starts a child

    with _lock[0]:
        if _running and not _running[0].is_running():
            _running.clear()
        if not _running:
            _running.append(start_engine_child())
        child = _running[0]
    # Nobody else knows the key, so nobody else opens sessions there.
    return settings.override(base_url=child.base_url, api_key=child.api_key, account_scope="exclusive")


def after_fork() -> None:
    """In a fork's child: another thread of the parent may have held the lock."""
    _lock[0] = threading.Lock()
