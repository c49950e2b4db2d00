"""Knows how an idle session is closed for somebody else: claimed, closed, and its slot freed.
Must not know who may be evicted: the ledger does. Nor how a session is closed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from ..errors import LedgerError
from .claims import Claims
from .door import Closed
from .leases import OPEN, Lease, Ledger, Moment, Waiting

AFTER_FAILURE: Final = 5.0  # seconds until another session is evicted after one could not be closed; our choice
_WRITE_AGAIN: Final = 1.0  # seconds until the ledger is told once more what it could not be told


class Eviction:
    """Evictions for one who waits. At most one is under way, on a thread of its own: the waiting one stays awake.

    Args:
        ledger: where the leases are.
        account: the account's name in it.
        me: this process, as `str(Owner)`.
        close: closes a session on the service, and tells what became of it.
        wake: called with whoever is next for a slot.
        now: the time.
    """

    def __init__(
        self,
        ledger: Ledger,
        account: str,
        me: str,
        *,
        close: Callable[[Lease], Closed],
        wake: Callable[[str | None], object],
        now: Callable[[], Moment],
    ) -> None:
        self._ledger = ledger
        self._account = account
        self._me = me
        self._close = close
        self._now = now
        self._claims = Claims(ledger, me, wake, now)
        self._not_before = 0.0  # by time.monotonic
        self.under_way = False

    def start(self, by: Callable[[], str], min_idle: float) -> bool:
        """Claims the session that is idle for longest, if there is one, and begins to close it.

        Args:
            by: gives the words in which its owner is told for whom.
            min_idle: seconds that it has to be idle at least.

        Raises:
            LedgerError: the ledger can't be used.
        """
        if self.under_way or time.monotonic() < self._not_before:
            return False
        lease = self._ledger.evict(self._account, by(), self._me, min_idle, self._now())
        if lease is None:
            return False
        self.under_way = True
        try:
            threading.Thread(target=self._finish, args=(lease,), name="bbre-evict", daemon=True).start()
        except RuntimeError:  # no thread can be started, as the interpreter is ending
            self._finish(lease)
        return True

    def _finish(self, lease: Lease) -> None:
        try:
            ended, reason = _outcome(self._close(lease))
        except Exception as error:  # the claim has to be given back, whatever happened; its words may be about anything
            ended, reason = False, f"the guard failed with {type(error).__name__}"
        if ended:
            self._claims.end(lease.key)
        else:
            self._not_before = time.monotonic() + AFTER_FAILURE
            self._claims.give_back(lease.key, reason)
        self.under_way = False
        while not self._is_written():
            time.sleep(_WRITE_AGAIN)
            self._claims.write_again()

    def _is_written(self) -> bool:
        try:
            self._claims.raise_trouble()
        except LedgerError:
            return False
        return True


def _outcome(closed: Closed) -> tuple[bool, str]:
    return closed.holds_no_slot, closed.reason


def idle_in(found: Waiting, min_idle: float, now: Moment) -> float | None:
    """Seconds until a session that holds a slot has been idle for long enough; None if there is none to wait for."""
    left = [
        min_idle - now.since(lease.used)
        for lease in found.holders
        if lease.wanted.evictable and lease.state == OPEN and not lease.busy and lease.used.boot == now.boot
    ]
    return min((one for one in left if one > 0), default=None)
