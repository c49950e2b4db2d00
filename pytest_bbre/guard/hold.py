"""Knows one lease in its owner's hands: what the ledger is told as the session opens, is used, and ends.
Must not know how sessions are opened or closed, nor where the ledger lies.

No method raises because of the ledger: a session is closed by its own process all the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from .leases import CLOSING, FAILED, OPEN, Eviction, Lease

if TYPE_CHECKING:
    from .desk import Desk

__tracebackhide__ = True  # a failing test shows its own lines; pytest --full-trace shows ours

NOTED_EACH: Final = 1.0  # seconds: how exactly the ledger knows when a session was last used; our choice


class Hold:
    """The lease of one session.

    Args:
        desk: the account's, through which the ledger is asked.
        lease: as it was taken.
        ask_again: waits for another slot, after the service had none for this one.
    """

    def __init__(self, desk: Desk, lease: Lease, ask_again: Callable[[BaseException], Lease]) -> None:
        self._desk = desk
        self._ask_again = ask_again
        self._noted = time.monotonic()
        self.lease = lease
        desk.keep(self)

    # Opening.

    def opened(self, session_id: str, engine: str | None, timeout: float | None) -> None:
        """The service gave an id. Returns when the session is covered: the guardian, if there is to be one, serves."""
        now, wanted = self._desk.now(), self.lease.wanted
        told = wanted.timeout if timeout is None else timeout
        changed = wanted._replace(timeout=told)
        self.lease = self.lease._replace(
            state=OPEN, session_id=session_id, engine=engine, wanted=changed, opened=now, used=now
        )
        self._desk.ask(lambda ledger: ledger.opened(self.lease.key, session_id, engine, told, now))
        self._desk.wait_until_covered()

    def refused(self, error: BaseException) -> None:
        """The service had no slot, though the ledger had one: waits for another.

        Raises:
            SlotTimeoutError: none came free in time.
            ShuttingDownError: nobody waits for the session any more.
        """
        self._desk.forget(self)
        self.lease = self._ask_again(error)
        self._desk.keep(self)

    def never(self) -> None:
        """The create failed: there is no session."""
        self._gone()

    def lost(self, reason: str) -> str:
        """The create's answer was lost: looks for the session that may exist. Returns what is known, for people."""
        self.lease = self.lease._replace(state=FAILED, reason=reason)
        self._desk.forget(self)
        return self._desk.settle_lost(self.lease, reason)

    # Being used.

    def begin_use(self) -> Eviction | None:
        """Before a request; tells of the eviction, if the session was closed for somebody else."""
        if not self.lease.wanted.evictable:
            return None
        return self._desk.ask(lambda ledger: ledger.begin_use(self.lease.key, self._desk.now()))

    def end_use(self) -> None:
        """After a request."""
        evictable = self.lease.wanted.evictable
        if evictable or time.monotonic() - self._noted > NOTED_EACH:
            self._noted, now = time.monotonic(), self._desk.now()
            self.lease = self.lease._replace(used=now)
            if evictable:
                self._desk.ask(lambda ledger: ledger.end_use(self.lease.key, now))
            else:
                self._desk.ask(lambda ledger: ledger.touch(self.lease.key, now))

    # Closing.

    def closing(self) -> None:
        """The owner begins to close it."""
        self.lease = self.lease._replace(state=CLOSING)
        self._desk.ask(lambda ledger: ledger.closing(self.lease.key))

    def closed(self) -> None:
        """The service said that it holds no slot any more."""
        self._gone()

    def failed(self, reason: str) -> None:
        """It could not be closed, and is this process's still."""
        self.lease = self.lease._replace(state=FAILED, reason=reason)
        now = self._desk.now()
        self._desk.ask(lambda ledger: ledger.failed(self.lease.key, reason, now))

    def _gone(self) -> None:
        self._desk.forget(self)
        self._desk.wake(self._desk.ask(lambda ledger: ledger.end(self.lease.key)))
