"""Knows the public names, and loads each on its first use. Importing this package starts nothing and opens nothing.
Must not know anything else.

pytest-bbre: sessions of MyDisct Solver's Browser-Backed Request Engine that are closed, whatever happens.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._client import BBREClient as BBREClient
    from ._closing import CloseOutcome as CloseOutcome
    from ._closing import CloseResult as CloseResult
    from ._decorator import with_session as with_session
    from ._managed import close_all_sessions as close_all_sessions
    from ._managed import managed_session as managed_session
    from ._managed import open_session as open_session
    from ._managed import tracked_sessions as tracked_sessions
    from ._session import BBRESession as BBRESession
    from ._session import SessionState as SessionState
    from ._settings import Settings as Settings
    from ._wire import SessionInfo as SessionInfo
    from .errors import BBREError as BBREError

_HOMES = {
    "BBREClient": "_client",
    "BBREError": "errors",
    "BBRESession": "_session",
    "CloseOutcome": "_closing",
    "CloseResult": "_closing",
    "SessionInfo": "_wire",
    "SessionState": "_session",
    "Settings": "_settings",
    "close_all_sessions": "_managed",
    "managed_session": "_managed",
    "open_session": "_managed",
    "tracked_sessions": "_managed",
    "with_session": "_decorator",
}

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
