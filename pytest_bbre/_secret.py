"""Knows a text that must not be shown, a key or a token, and keeps it out of reprs and foreign logs.
Must not know what it opens. Shared by the core and the engine.
"""

from __future__ import annotations

from typing import Any


class Secret(str):
    """A string that shows itself only when asked for by str(): its repr, as in a traceback's locals, hides it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def keep_out_of_log(logger: str, secret: str) -> None:
    """Lets no record of this logger through that quotes the secret: for foreign code that logs what a server sent."""
    import logging  # here: most of who keeps secrets writes no log

    quoting = next((one for one in logging.getLogger(logger).filters if isinstance(one, _Quoting)), None)
    if quoting is None:
        quoting = _Quoting()
        logging.getLogger(logger).addFilter(quoting)
    quoting.secrets.add(secret)


class _Quoting:
    """A logging filter: logging takes any object that has a method `filter`."""

    def __init__(self) -> None:
        self.secrets: set[str] = set()

    def filter(self, record: Any) -> bool:
        """Whether the record may pass."""
        error = record.exc_info[1] if record.exc_info else None
        told = f"{record.getMessage()} {error}"
        return not any(secret in told for secret in self.secrets)
