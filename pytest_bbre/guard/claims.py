"""Knows what this process has claimed to close, and tells the ledger what became of each: at once, or when it can.
Must not know how anything is closed. A claim that nobody gave back would keep every other reaper away for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..errors import LedgerError
from .leases import Lease, Ledger, Moment


class Claims:
    """Claims of one process on the leases of one account. Safe to use from many threads.

    Args:
        ledger: where the leases are.
        me: this process, as `str(Owner)`.
        wake: called with whoever is next for a slot, after each lease that ended.
        now: the time.
    """

    def __init__(
        self, ledger: Ledger, me: str, wake: Callable[[str | None], object], now: Callable[[], Moment]
    ) -> None:
        self._ledger = ledger
        self._me = me
        self._wake = wake
        self._now = now
        self._lock = threading.Lock()
        self._unwritten: dict[str, str | None] = {}  # lease: why it failed; None if it ended
        self._trouble: LedgerError | None = None

    def take(self, seen: Lease) -> bool:
        """Whether the lease is still as it was seen, and is now this process's to close.

        Raises:
            LedgerError: the ledger can't be used.
        """
        return self._ledger.claim(seen, self._me, self._now())

    def end(self, key: str) -> None:
        """The session holds no slot any more. Never raises."""
        self._write(key, None)

    def give_back(self, key: str, reason: str) -> None:
        """It could not be closed. Never raises."""
        self._write(key, reason)

    def write_again(self) -> None:
        """Tells the ledger what it could not take before. Never raises."""
        with self._lock:
            unwritten, self._unwritten = self._unwritten, {}
        for key, reason in unwritten.items():
            self._write(key, reason)

    def raise_trouble(self) -> None:
        """Raises what the ledger raised meanwhile.

        Raises:
            LedgerError: it could not be told something. That will be tried again.
        """
        with self._lock:
            trouble, self._trouble = self._trouble, None
        if trouble is not None:
            raise trouble

    def note(self, trouble: LedgerError) -> None:
        """Keeps an error of the ledger for `raise_trouble`."""
        with self._lock:
            self._trouble = trouble

    def _write(self, key: str, reason: str | None) -> None:
        try:
            if reason is None:
                self._wake(self._ledger.end(key))
            else:
                self._ledger.unclaim(key, self._me, reason, self._now())
        except LedgerError as error:
            self.note(error)
            with self._lock:
                self._unwritten[key] = reason
