"""Knows a text that must not be shown: a key, a token.
Must not know what it opens. Shared by the core and the engine.
"""

from __future__ import annotations


class Secret(str):
    """A string that shows itself only when asked for by str(): its repr, as in a traceback's locals, hides it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"
