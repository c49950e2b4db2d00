"""Knows what a look for lost sessions has found, and how that is told to people.
Must not know how it was looked for, nor what is done about it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Suspect(NamedTuple):
    """A session that may be one of a lost create; only a person can know.

    Attributes:
        session_id: its id.
        age: seconds since it was created; None where the service does not tell.
        command: what closes it.
    """

    session_id: str
    age: float | None
    command: str

    def __str__(self) -> str:
        age = "of unknown age" if self.age is None else f"{max(self.age, 0.0):.0f} s old"
        return f"{self.session_id} ({age}; close it with: {self.command})"


class Found(NamedTuple):
    """What is known of a lost create: ids that were closed, sessions that it may be, and words for people."""

    closed: list[str]
    suspects: list[Suspect]
    text: str


class Looked(NamedTuple):
    """What one look has done.

    Attributes:
        closed: ids that were closed.
        gone: whether an engine is gone, and all its sessions with it.
        failed: ids that could not be closed, and why.
        suspects: sessions that only a person may close, by the lost lease whose they may be.
        trouble: why nothing could be seen.
    """

    closed: tuple[str, ...] = ()
    gone: bool = False
    failed: tuple[tuple[str, str], ...] = ()
    suspects: tuple[tuple[str, Suspect], ...] = ()
    trouble: str | None = None


def words(closed: Iterable[str], suspects: list[Suspect], looked: Looked, left: bool) -> str:
    """What is known of one lost create.

    Args:
        closed: ids of sessions that were closed.
        suspects: sessions that it may be.
        looked: the last look.
        left: whether its lease is in the ledger still.
    """
    if looked.gone:
        return "The engine does not run any more, and its sessions ended with it."
    if suspects:
        return f"It may be {', or '.join(map(str, suspects))}: nobody here knows it, but another machine may."
    if not left:
        ids = ", ".join(closed)
        return f"Its session was found and closed: {ids}." if ids else "The account shows no session of it."
    if looked.trouble is not None:
        return f"Whether there is a session of it could not be seen: {looked.trouble} It is looked for again later."
    if looked.failed:
        session_id, reason = looked.failed[0]
        return f"Its session, {session_id}, could not be closed yet: {reason}. That is tried again later."
    return "The account shows no session of it so far; it is looked for again later."
