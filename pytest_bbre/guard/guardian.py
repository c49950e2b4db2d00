"""Knows how one account is guarded: an owner's death is heard, what it left is closed, until nothing is left to guard.
Must not know how it was started, nor keep anything that is not in the ledger.

Standard library only, since it is to be small: see `__main__`.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from typing import Final

from ..errors import LedgerError
from . import owners, wake
from .leases import Ledger
from .owners import ALIVE, DEAD
from .reaper import Reaper
from .wake import Bell

VERSION: Final = 1  # goes up when a guardian can do what earlier ones can't: it then takes over from them
LOOK_AGAIN: Final = 1.0  # seconds: should a wake-up be lost, or a system have no pidfd, this is what it costs
AFTER_TROUBLE: Final = (0.2, 1.0, 5.0, 30.0)  # seconds until the ledger is tried again
MOST_TROUBLE: Final = 20  # times in a row, some ten minutes: then it ends, and the next operation starts another
MOST_WATCHED: Final = 512  # descriptors; owners beyond that are looked at each second


class Guardian:
    """The guardian of one account.

    Args:
        ledger: where the leases are.
        folder: of the ledger, where the bells are.
        account: the account's name in it.
        me: this process, as `str(Owner)`.
        reaper: closes what dead owners left.
        log: takes a line for whoever looks for a fault.
    """

    def __init__(
        self, ledger: Ledger, folder: str, account: str, me: str, reaper: Reaper, log: Callable[[str], None]
    ) -> None:
        self._ledger = ledger
        self._folder = folder
        self._account = account
        self._me = me
        self._reaper = reaper
        self._log = log
        self._watched: dict[str, int | None] = {}  # by owner: a pidfd, or None where there is none
        self._bell: Bell | None = None
        self._seen: int | None = None
        self._due: float | None = time.monotonic()
        self._lost: set[str] = set()
        self.stopping = False  # set by a signal: the rest is left to the next guardian

    def claim(self) -> bool:
        """Whether this process is the account's guardian from now on. One that lives goes on, unless it is of an
        earlier version: it notices that, and leaves, and what it had claimed by then is this one's to close.

        Raises:
            LedgerError: the ledger can't be used.
        """
        while True:
            seen = self._ledger.guardian(self._account)
            if seen is not None and seen != self._me and not self._may_follow(seen):
                return False
            if self._ledger.serve(self._account, self._me, seen, VERSION):
                self._bell = self._bell or Bell(self._folder, wake.guardian_bell(self._account))
                return True

    def _may_follow(self, serving: str) -> bool:
        state = owners.judge(serving).state
        return state == DEAD or (state == ALIVE and self._ledger.guardian_version(self._account) < VERSION)

    def stop(self, *_: object) -> None:
        """For a handler of a signal: it ends after what it is doing; a process that opens a session starts another."""
        self.stopping = True

    def run(self) -> None:
        """Guards until nothing is left to guard, another has taken over, or it is told to stop."""
        trouble = 0
        while not self.stopping:
            try:
                if self._is_over():
                    break
                trouble = 0
                self._wait(LOOK_AGAIN if self._due is None else min(self._due - time.monotonic(), LOOK_AGAIN))
            except LedgerError as error:
                self._log(f"the ledger can't be used: {error}")
                trouble += 1
                if trouble > MOST_TROUBLE:
                    break
                self._wait(AFTER_TROUBLE[min(trouble, len(AFTER_TROUBLE)) - 1])
                self._seen = None
        self._leave()

    def _is_over(self) -> bool:
        """One look at the ledger, and what follows from it."""
        if not self._is_mine():
            self._log("another guardian has taken over")
            return True
        changes = self._ledger.changes()
        if changes != self._seen or self._is_due() or self._somebody_died():
            self._look()
            self._seen = changes
        if self._watched or self._due is not None:
            return False
        return self._ledger.retire(self._account, self._me, self._unknown())

    def _is_mine(self) -> bool:
        serving = self._ledger.guardian(self._account)
        if serving == self._me:
            return True
        # The ledger was set aside, and a new one begun; or what is written there is of one that has died.
        return (serving is None or owners.judge(serving).state == DEAD) and self.claim()

    def _look(self) -> None:
        known = self._known()
        for owner in set(self._watched) - known:
            self._forget(owner)
        dead = False
        for owner in known:
            state = owners.judge(owner).state
            if state == ALIVE:
                if owner not in self._watched:
                    self._watched[owner] = owners.watch(owner) if len(self._watched) < MOST_WATCHED else None
            else:
                dead = dead or state == DEAD
                self._forget(owner)
        lost = any(case.may_be_closed for case in self._reaper.plan())
        self._due = None
        if dead or lost:
            report = self._reaper.sweep(within=LOOK_AGAIN)
            self._due = None if report.next_due is None else time.monotonic() + report.next_due
            for closed in (*report.closed, *report.gone):
                self._log(f"closed {closed}")
            for failed in report.failed:
                self._log(f"could not close {failed.session_id}: {failed.reason}")
            wake.remove_stale(self._folder)
            self._ring_next()

    def _is_due(self) -> bool:
        return self._due is not None and self._due <= time.monotonic()

    def _somebody_died(self) -> bool:
        """Of those that have no pidfd; the others wake us."""
        unseen = [owner for owner, pidfd in self._watched.items() if pidfd is None]
        return bool(self._lost) or any(owners.judge(owner).state != ALIVE for owner in unseen)

    def _ring_next(self) -> None:
        queue = self._ledger.queue(self._account)
        wake.ring_owner(self._folder, queue[0].owner if queue else None)

    def _known(self) -> set[str]:
        """The owners of the account, of all that the ledger has on it."""
        known = {one.owner for one in self._ledger.enrolled(self._account)}
        known |= {lease.wanted.owner for lease in self._ledger.leases(self._account)}
        return known | {ticket.owner for ticket in self._ledger.queue(self._account)}

    def _unknown(self) -> list[str]:
        """Owners that nobody here can judge: they keep no guardian."""
        return [owner for owner in self._known() if owners.judge(owner).state == owners.UNKNOWN]

    def _wait(self, seconds: float) -> None:
        poll = select.poll()
        by_pidfd = {pidfd: owner for owner, pidfd in self._watched.items() if pidfd is not None}
        for pidfd in by_pidfd:
            poll.register(pidfd, select.POLLIN)
        bell = self._bell.fileno() if self._bell is not None else None
        if bell is not None:
            poll.register(bell, select.POLLIN)
        ready = [one for one, _ in poll.poll(max(int(seconds * 1000), 1))]
        if bell in ready and self._bell is not None:
            self._bell.drain()
        self._lost = {by_pidfd[one] for one in ready if one in by_pidfd}

    def _forget(self, owner: str) -> None:
        pidfd = self._watched.pop(owner, None)
        if pidfd is not None:
            os.close(pidfd)

    def _leave(self) -> None:
        for owner in list(self._watched):
            self._forget(owner)
        if self._bell is not None:
            self._bell.close()
