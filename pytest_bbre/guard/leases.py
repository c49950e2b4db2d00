"""Knows what a lease, a ticket and a moment are, and what every ledger does with them: the interface.
Must not know where a ledger keeps them, nor what is done about a lease. Values are plain: text and numbers.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Final, NamedTuple

OPENING: Final = "opening"  # written before the create leaves; the id is not known yet
OPEN: Final = "open"  # the service gave an id
CLOSING: Final = "closing"  # a close is under way, by the owner or by a reaper
FAILED: Final = "failed"  # the last attempt failed: to close it, or (no id) to learn whether it exists

MARGIN: Final = 10.0  # seconds after a session's own timeout until its lease counts as lapsed; our choice


class Moment(NamedTuple):
    """A point in time, comparable across processes, reboots and changes of the clock.

    Attributes:
        wall: seconds since the epoch, by a clock that people may set.
        steady: seconds of a clock that only goes forward, the same for all processes until the next boot.
        boot: which boot `steady` belongs to.
    """

    wall: float
    steady: float
    boot: str

    def since(self, earlier: Moment) -> float:
        """Seconds from `earlier` to this: by the steady clock where both share it, else by the wall clock."""
        if self.boot == earlier.boot:
            return self.steady - earlier.steady
        return self.wall - earlier.wall


def moment(boot: str) -> Moment:
    """Now, on the boot of this name (`owners.boot_id`)."""
    steady = time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
    return Moment(time.time(), steady, boot)


class Wanted(NamedTuple):
    """A session that somebody wants to open: what the ledger notes about it.

    Attributes:
        account: a keyed hash of the service's address and the API key.
        owner: the process, as `str(Owner)`.
        actor: the thread or task in it that asks, so that a circle of waiting can be seen.
        mode, sensibility: of the session.
        timeout: seconds until the service ends it by itself.
        patience: seconds that its opener waits for the answer to the create; later it counts as lost.
        place: where it is opened, for people: a test id, a notebook, a file and line.
        scoped: only `actor` will close it, at the end of a block or a fixture.
        evictable: it may be closed for somebody else after being idle.
        exclusive: everybody who uses the account uses this ledger.
    """

    account: str
    owner: str
    actor: str = ""
    mode: str = "passive"
    sensibility: str = "medium"
    timeout: float = 300.0
    patience: float = 40.0
    place: str = ""
    scoped: bool = False
    evictable: bool = False
    exclusive: bool = False


class Lease(NamedTuple):
    """One session that may be open on the service.

    Attributes:
        key: names the lease in its ledger; opaque.
        number: the ticket it was given for; leases of one account are ordered by it.
        wanted: what was asked for, and by whom.
        state: OPENING, OPEN, CLOSING or FAILED.
        session_id: the service's id; None while it is not known.
        engine: the instance of an embedded engine that runs it; None for the service.
        opened: when the lease was written; from the answer on, when the session was opened.
        used: when a request last went through it.
        busy: requests in flight, told only for evictable sessions.
        reaper: who is closing it in its owner's place, as `str(Owner)`.
        evicted_by: for whom it was closed while its owner was alive.
        tries, tried: how often a reaper tried, and when last.
        reason: why the last attempt failed.
    """

    key: str
    number: int
    wanted: Wanted
    state: str
    session_id: str | None
    engine: str | None
    opened: Moment
    used: Moment
    busy: int = 0
    reaper: str | None = None
    evicted_by: str | None = None
    tries: int = 0
    tried: Moment | None = None
    reason: str | None = None

    def is_lapsed(self, now: Moment) -> bool:
        """Whether the service has ended the session by itself: its timeout has passed since it was last used."""
        waiting = self.wanted.patience if self.session_id is None else 0.0
        return now.since(self.used) > self.wanted.timeout + waiting + MARGIN

    def holds_slot(self, now: Moment) -> bool:
        """Whether it takes up one of the account's slots. One that FAILED without an id is not known to exist."""
        return not (self.state == FAILED and self.session_id is None) and not self.is_lapsed(now)


class Ticket(NamedTuple):
    """Somebody who waits for a slot. The lowest number is next."""

    number: int
    account: str
    owner: str
    actor: str
    place: str
    since: Moment


class Waiting(NamedTuple):
    """What `take` answers when there is no slot yet.

    Attributes:
        ticket: the number to come back with.
        position: 1 for who is next.
        holders: the leases that take up the slots, oldest first.
        queue: all tickets of the account, the next one first, the asker's own among them.
        paused: seconds during which nobody is given a slot, since the service said that it has none; 0.0 if it did not.
    """

    ticket: int
    position: int
    holders: list[Lease]
    queue: list[Ticket]
    paused: float


class Enrolled(NamedTuple):
    """A process that uses an account. `label` is its program's name, for people."""

    account: str
    owner: str
    label: str
    since: Moment


class Eviction(NamedTuple):
    """A session that was closed for somebody else: its id, for whom, and when."""

    session_id: str
    by: str
    at: Moment


class Ledger(ABC):
    """Leases, tickets and the processes behind them, shared by all processes of a user. Each method is one
    transaction: whoever dies before, in or after it leaves a ledger that is true.

    Safe to use from many threads, and in a fork's child.

    Raises:
        LedgerError: from every method, where the ledger can't be read or written. Nothing was changed then, and the
            next call may succeed.
    """

    salt: bytes  #: 16 random bytes of the place: the key under which accounts are hashed
    made: Moment  #: when the ledger was made
    follows: bool  #: it took another's place: leases from before it was made are missing until their owners adopt them

    @property
    @abstractmethod
    def generation(self) -> int:
        """Goes up when the ledger was replaced, by an empty one or by an older copy. Owners then enrol again, and adopt
        what they hold.
        """

    # Processes.

    @abstractmethod
    def enrol(self, account: str, owner: str, label: str, now: Moment) -> None:
        """Says that a process uses an account. A second time does nothing."""

    @abstractmethod
    def dismiss(self, account: str, owner: str) -> None:
        """Forgets a process, its tickets and what it was told of evictions. Its leases stay."""

    @abstractmethod
    def enrolled(self, account: str | None = None) -> list[Enrolled]:
        """The processes of an account, or of all."""

    # Slots.

    @abstractmethod
    def take(self, wanted: Wanted, limit: int, now: Moment, ticket: int | None = None) -> Lease | Waiting:
        """Writes a lease as OPENING if one of `limit` slots is free, after each that somebody who waits for longer can
        have now; else a ticket. Who waits with a lower limit does not hold up those with a higher one.

        A slot is taken by each lease of the account that is not lapsed, except one that FAILED without an id.

        Args:
            wanted: the session to open.
            limit: how many slots the account has.
            now: the time.
            ticket: from an earlier answer; None for the first call. One that was withdrawn gets a new number.
        """

    @abstractmethod
    def refuse(self, key: str, pause: float, now: Moment) -> int:
        """The service had no slot for this lease: it becomes a ticket again, with the number it had, and nobody of
        the account is given a slot for `pause` seconds, or until one is freed here. Returns the ticket; -1, which
        gets a new number, if the lease is gone.
        """

    @abstractmethod
    def withdraw(self, ticket: int) -> str | None:
        """Gives a place in the queue up. Returns the owner to wake, as `end` does."""

    @abstractmethod
    def queue(self, account: str) -> list[Ticket]:
        """Who waits for a slot of the account, the next one first."""

    # One lease.

    @abstractmethod
    def opened(self, key: str, session_id: str, engine: str | None, timeout: float, now: Moment) -> bool:
        """OPENING becomes OPEN. False if the lease is gone."""

    @abstractmethod
    def adopt(self, lease: Lease) -> None:
        """Writes a lease as its owner remembers it, after the ledger became another one. What the ledger has of it is
        replaced, unless somebody is closing it in its owner's place.
        """

    @abstractmethod
    def touch(self, key: str, now: Moment) -> None:
        """Notes that a request went through the session."""

    @abstractmethod
    def begin_use(self, key: str, now: Moment) -> Eviction | None:
        """Before a request through an evictable session: it is busy and can't be evicted, unless it already was."""

    @abstractmethod
    def end_use(self, key: str, now: Moment) -> None:
        """After such a request."""

    @abstractmethod
    def closing(self, key: str) -> None:
        """The owner is closing it."""

    @abstractmethod
    def failed(self, key: str, reason: str, now: Moment) -> None:
        """The owner could not close it, or its create had no answer. It is the owner's still."""

    @abstractmethod
    def end(self, key: str) -> str | None:
        """The session holds no slot any more: the lease goes. Returns the owner of the next ticket, to be woken."""

    @abstractmethod
    def disown(self, account: str, owner: str, heir: str) -> None:
        """A process becomes another program, which knows nothing of its leases: from now on they are `heir`'s, and
        nobody counts on the process any more.
        """

    @abstractmethod
    def leases(self, account: str | None = None) -> list[Lease]:
        """The leases of an account, or of all, oldest first."""

    # Reaping.

    @abstractmethod
    def claim(self, seen: Lease, reaper: str, now: Moment) -> bool:
        """Whether the lease is still as `seen` (owner, state, reaper, tries, use) and is now this reaper's to close:
        one with an id becomes CLOSING, `tries` goes up. At most one reaper has a lease at a time.
        """

    @abstractmethod
    def unclaim(self, key: str, reaper: str, reason: str, now: Moment) -> None:
        """A reaper's attempt failed: the lease becomes FAILED and may be claimed again."""

    @abstractmethod
    def evict(self, account: str, by: str, reaper: str, min_idle: float, now: Moment) -> Lease | None:
        """Claims the evictable session that is OPEN, not busy, and idle for longest, at least `min_idle` seconds.
        Its owner learns of it by `begin_use`, even after `end`.
        """

    # Guardians.

    @abstractmethod
    def guardian(self, account: str) -> str | None:
        """The guardian of an account, as `str(Owner)`."""

    @abstractmethod
    def guardian_version(self, account: str) -> int:
        """What the guardian of an account said to be when it began to serve; 0 if there is none."""

    @abstractmethod
    def serve(self, account: str, me: str, seen: str | None, version: int = 0) -> bool:
        """Makes this process the account's guardian, if the one there is still `seen`."""

    @abstractmethod
    def retire(self, account: str, me: str, ignoring: Collection[str] = ()) -> bool:
        """Ends being the guardian, if nothing is left to guard: no process enrolled, no ticket, no lease but those
        whose key or owner is in `ignoring`. False if there is something; True also if another is the guardian by now.
        """

    # The ledger itself.

    @abstractmethod
    def changes(self) -> int:
        """A number that is another one after others have written; cheap."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of the ledger. Another call takes it up again."""

    @abstractmethod
    def leave(self) -> None:
        """As `close`, for good: another call takes it up for itself alone, and lets go of it again."""
