"""Knows one account as this process uses it: its ledger, guardian, reaper, queue, and the leases it holds here.
Must not know sessions or clients; trouble with the ledger is told once, and never stops a session.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from ..errors import GuardianError, LedgerError
from . import owners, slots, wake
from .door import Closed, Door, Service
from .launch import Guarding
from .leases import Lease, Ledger, Moment, Wanted, moment
from .line import Line
from .reaper import Reaper, sweep_lapsed

if TYPE_CHECKING:
    from .hold import Hold
    from .ledger import SqliteLedger

__tracebackhide__ = True  # a failing test shows its own lines; pytest --full-trace shows ours

T = TypeVar("T")

COVERED_WITHIN: Final = 10.0  # seconds for a guardian to start on a loaded machine, before a session is handed over
SETTLED_WITHIN: Final = 3.0  # seconds that a lost create is looked for before its error is raised


def trouble(error: Exception) -> str:
    """What people are told when the guard does not work."""
    return f"bbre: {error} Sessions are closed by this process all the same; SIGKILL would leave them open."


class Patience(NamedTuple):
    """How somebody wants to wait for a slot: how many there are, for how long, and after what idle time to evict."""

    limit: int
    slot_timeout: float | None
    evict_after: float | None


class Desk:
    """One account's.

    Args:
        ledger: shared by all accounts of this process.
        bell: where this process is woken.
        account: the account's name in the ledger.
        service: how it is reached.
        label: what this program is called, for people.
        guarded: whether there shall be a guardian.
        tell: shows a line to the person who runs this program.
    """

    def __init__(
        self,
        ledger: SqliteLedger,
        bell: wake.Bell,
        account: str,
        service: Service,
        *,
        label: str,
        guarded: bool,
        tell: Callable[[str], None],
    ) -> None:
        self.account = account
        self._ledger = ledger
        self._bell = bell
        self._label = label
        self._tell = tell
        self._told: set[str] = set()
        self._me = str(owners.here())
        self._boot = owners.boot_id()
        self._holds: list[Hold] = []
        self._lock = threading.Lock()
        self._generation = ledger.generation
        self._door = Door(service)
        self._reaper = Reaper(ledger, account, self._door, self._me, wake=self.wake)
        self._guarding = Guarding(ledger, account, service, self._me) if guarded else None
        self._line = Line()
        self._begun = False
        self._left = False

    def now(self) -> Moment:
        """The time, as the ledger notes it."""
        return moment(self._boot)

    # The ledger, and what to do when it fails.

    def ask(self, call: Callable[[Ledger], T]) -> T | None:
        """One call of the ledger; None, and a line for people, if it fails."""
        try:
            if self._guarding is not None:
                self._guarding.ensure()
            result = call(self._ledger)
            if self._ledger.generation != self._generation:
                self._write_again()
        except (LedgerError, GuardianError) as error:
            self._trouble(error)
            return None
        return result

    def _trouble(self, error: Exception) -> None:
        """Tells once what does not work."""
        if not self._left and type(error).__name__ not in self._told:
            self._told.add(type(error).__name__)
            self._tell(trouble(error))

    def _write_again(self) -> None:
        """The ledger was set aside, or went away: the new one is told of this process and all that it holds."""
        self._generation = self._ledger.generation
        self._ledger.enrol(self.account, self._me, self._label, self.now())
        with self._lock:
            held = list(self._holds)
        for hold in held:
            self._ledger.adopt(hold.lease)

    def keep(self, hold: Hold) -> None:
        """Remembers a lease, should the ledger go away."""
        with self._lock:
            self._holds.append(hold)

    def forget(self, hold: Hold) -> None:
        """The opposite of `keep`."""
        with self._lock:
            if hold in self._holds:
                self._holds.remove(hold)

    # Opening.

    def begin(self) -> None:
        """Before the first lease: this process is written down, guarded, and others' remains are swept up.

        Raises:
            LedgerError: the ledger can't be used.
        """
        with self._lock:
            begun, self._begun = self._begun, True
        if begun:
            return
        self._ledger.enrol(self.account, self._me, self._label, self.now())
        if self._guarding is not None:
            self._guarding.ensure()
        if any(owners.judge(one.wanted.owner).state == owners.DEAD for one in self._ledger.leases()):
            threading.Thread(target=self.sweep, name="bbre-reaper", daemon=True).start()

    def take(self, wanted: Wanted, patience: Patience, cancelled: Callable[[], str | None]) -> slots.Place:
        """Waits for a slot.

        Raises:
            LedgerError: the ledger can't be used.
            SlotTimeoutError: none came free in time, or ever will.
            ShuttingDownError: `cancelled` gave a reason.
        """
        self.begin()
        place = slots.Place(
            self._ledger,
            wanted._replace(account=self.account, owner=self._me),
            limit=patience.limit,
            slot_timeout=patience.slot_timeout,
            evict_after=patience.evict_after,
            bell=self._bell,
            close=self._close_evicted,
            reap=partial(self.sweep, SETTLED_WITHIN),
            wake=self.wake,
            tell=self._tell,
            cancelled=cancelled,
            line=self._line,
        )
        place.wait()
        return place

    def _close_evicted(self, lease: Lease) -> Closed:
        return self._door.close(str(lease.session_id), lease.engine)

    def wait_until_covered(self) -> None:
        """Returns when the guardian serves; tells once if it does not."""
        if self._guarding is None:
            return
        try:
            self._guarding.wait_ready(COVERED_WITHIN)
        except (LedgerError, GuardianError) as error:
            self._trouble(error)

    # What others left.

    def sweep(self, within: float | None = None) -> None:
        """Closes what dead owners left behind, where it may be closed.

        Args:
            within: seconds to wait for the service; what takes longer goes on.
        """
        try:
            self._reaper.sweep(within)
            sweep_lapsed(self._ledger, now=self.now())
        except LedgerError as error:
            self._trouble(error)

    def settle_lost(self, lease: Lease, reason: str) -> str:
        """Looks for the session of a create whose answer was lost; what is known of it, for people."""
        self.ask(lambda ledger: ledger.failed(lease.key, reason, self.now()))
        try:
            return self._reaper.settle_lost(lease.key, SETTLED_WITHIN).text
        except LedgerError as error:
            self._trouble(error)
            return ""

    def wake(self, owner: str | None) -> None:
        """Wakes a process that waits for a slot; this one, too."""
        wake.ring_owner(self._ledger.folder, owner)

    # Its end.

    def leave(self) -> None:
        """This process will open no session any more. What could not be closed stays in the ledger."""
        self._left = True
        if self._guarding is not None:
            self._guarding.stop()
        if self._begun:
            self._begun = False
            try:
                self._ledger.dismiss(self.account, self._me)
            except LedgerError:
                return
            wake.ring(self._ledger.folder, wake.guardian_bell(self.account))

    def become_another(self) -> None:
        """The process is about to become another program: what could not be closed is nobody's from now on."""
        if self._begun:
            self._begun = False
            with contextlib.suppress(LedgerError):
                self._ledger.disown(self.account, self._me, owners.nobody())
                wake.ring(self._ledger.folder, wake.guardian_bell(self.account))

    def after_fork(self) -> None:
        """In a fork's child: nothing here is its own."""
        if self._guarding is not None:
            self._guarding.after_fork()
