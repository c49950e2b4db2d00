"""Knows the guard of this process: which ledger and which account a session belongs to. The tracker's only way in.
Must not know sessions or clients, nor how any part of the guard works.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ..errors import LedgerError
from . import owners
from .leases import Lease, Moment, Wanted, moment

if TYPE_CHECKING:
    from .._settings import Settings
    from .desk import Desk
    from .door import Door, Service
    from .hold import Hold
    from .ledger import SqliteLedger
    from .reaper import Reaper
    from .wake import Bell

__tracebackhide__ = True  # a failing test shows its own lines; pytest --full-trace shows ours


class Asking(NamedTuple):
    """Who asks for a session.

    Attributes:
        actor: the thread or task.
        place: where in the program, for people.
        scoped: whether that thread or task will close it, at the end of a block or a fixture.
    """

    actor: str
    place: str
    scoped: bool


class Keeper:
    """Starts nothing until the first session.

    Args:
        label: what this program is called, for people.
        tell: shows a line to the person who runs it.
    """

    def __init__(self, label: Callable[[], str], tell: Callable[[str], None]) -> None:
        self._label = label
        self._tell = tell
        self._lock = threading.Lock()
        self._told = False
        self._ledgers: dict[str | None, tuple[SqliteLedger, Bell]] = {}
        self._desks: dict[tuple[str | None, str, str, bool], Desk] = {}

    def acquire(
        self, settings: Settings, asking: Asking, *, own_engine: bool, cancelled: Callable[[], str | None]
    ) -> Hold | None:
        """Waits for a slot, and writes the lease of a session that is about to be opened.

        Args:
            settings: of the session, with a real address.
            asking: who wants it.
            own_engine: the engine ends with this process, and each session with it: no guardian is needed.
            cancelled: asked while waiting; gives a reason to stop.

        Returns:
            The lease; None where no ledger can be used, which has been told.

        Raises:
            SlotTimeoutError: no slot came free in time, or ever will.
            ShuttingDownError: `cancelled` gave a reason.
        """
        from .desk import Patience
        from .hold import Hold

        patience = Patience(
            settings.max_sessions, settings.slot_timeout, settings.evict_after if settings.evict else None
        )
        try:
            desk = self._desk(settings, guarded=settings.guard and not own_engine)
            place = desk.take(_wanted(settings, asking), patience, cancelled)
        except LedgerError as error:
            self._trouble(error)
            return None

        def ask_again(error: BaseException) -> Lease:
            return place.refused(error)

        return Hold(desk, place.lease, ask_again)

    def _desk(self, settings: Settings, guarded: bool) -> Desk:
        from .desk import Desk

        key = (settings.state_dir, settings.base_url, str(settings.api_key), guarded)
        with self._lock:
            if key not in self._desks:
                ledger, bell = self._ledger(settings.state_dir)
                account = account_id(ledger.salt, settings.base_url, str(settings.api_key))
                self._desks[key] = Desk(
                    ledger, bell, account, _service(settings), label=self._label(), guarded=guarded, tell=self._tell
                )
            return self._desks[key]

    def _ledger(self, state_dir: str | None) -> tuple[SqliteLedger, Bell]:
        from .place import open_ledger
        from .wake import Bell, bell_of

        if state_dir not in self._ledgers:
            ledger = open_ledger(state_dir, self._tell)
            self._ledgers[state_dir] = ledger, Bell(ledger.folder, bell_of(str(owners.here())))
        return self._ledgers[state_dir]

    def _trouble(self, error: LedgerError) -> None:
        from .desk import trouble

        if not self._told:
            self._told = True
            self._tell(trouble(error))

    def poke(self) -> None:
        """Makes whoever waits for a slot here ask `cancelled` again."""
        with self._lock:
            bells = [bell for _, bell in self._ledgers.values()]
        for bell in bells:
            bell.poke()

    def leave(self) -> None:
        """The process ends. What could not be closed stays in the ledger, for others to close."""
        with self._lock:
            for desk in self._desks.values():
                desk.leave()
            self._desks.clear()
            for ledger, bell in self._ledgers.values():
                bell.close()
                ledger.leave()  # a thread may come late, with a session that has closed only now
            self._ledgers.clear()

    def become_another(self) -> None:
        """The process is about to become another program. Should that fail, it goes on as if it had just begun."""
        with self._lock:
            for desk in self._desks.values():
                desk.become_another()

    def after_fork(self) -> None:
        """In a fork's child: all of this is the parent's."""
        for desk in self._desks.values():
            desk.after_fork()
        for _, bell in self._ledgers.values():
            bell.after_fork()


def account_id(salt: bytes, base_url: str, api_key: str) -> str:
    """An account's name in a ledger: a keyed hash, from which nobody gets the key back."""
    return hashlib.blake2b(f"{base_url}\0{api_key}".encode(), key=salt, digest_size=16).hexdigest()


class Visit(NamedTuple):
    """The guard of an account, for a command that opens no session.

    Attributes:
        account: its name in the ledger.
        door: the way to the service.
        ledger: None where it can't be used, which has been told.
        reaper: closes what dead owners left; None without a ledger.
    """

    account: str
    door: Door
    ledger: SqliteLedger | None
    reaper: Reaper | None

    def now(self) -> Moment:
        """The time, as the ledger notes it."""
        return moment(owners.boot_id())

    def end(self, session_id: str) -> None:
        """Takes a session out of the ledger that the service says holds no slot.

        Raises:
            LedgerError: it can't be written.
        """
        from . import wake

        ledger = self.ledger
        if ledger is None:
            return
        for lease in ledger.leases(self.account):
            if lease.session_id == session_id:
                wake.ring_owner(ledger.folder, ledger.end(lease.key))

    def close(self) -> None:
        """Lets go of the ledger."""
        if self.ledger is not None:
            self.ledger.close()


def visit(settings: Settings, tell: Callable[[str], None]) -> Visit:
    """The guard of an account.

    Args:
        settings: with a real address and a key.
        tell: shows a line to the person who runs the command.
    """
    from . import wake
    from .door import Door
    from .place import open_ledger
    from .reaper import Reaper

    door = Door(_service(settings))
    try:
        ledger = open_ledger(settings.state_dir, tell)
    except LedgerError as error:
        tell(f"bbre: {error} Whose the sessions are can't be told without it.")
        return Visit("", door, None, None)
    account = account_id(ledger.salt, settings.base_url, str(settings.api_key))
    reaper = Reaper(ledger, account, door, str(owners.here()), wake=partial(wake.ring_owner, ledger.folder))
    return Visit(account, door, ledger, reaper)


def _service(settings: Settings) -> Service:
    from .door import Service

    return Service(
        settings.base_url,
        settings.api_key,
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
        retry_min=settings.retry_min,
        retry_max=settings.retry_max,
    )


def _wanted(settings: Settings, asking: Asking) -> Wanted:
    return Wanted(
        account="",
        owner="",
        actor=asking.actor,
        mode=settings.mode,
        sensibility=settings.sensibility,
        timeout=settings.timeout,
        patience=settings.connect_timeout + settings.read_timeout,
        place=asking.place,
        scoped=asking.scoped,
        evictable=settings.evictable,
        exclusive=settings.account_scope == "exclusive",
    )


def print_line(line: str) -> None:
    """Shows a line on stderr, if there is one."""
    try:
        print(line, file=sys.stderr, flush=True)
    except Exception:  # it is closed, or was replaced by something that fails: there is nobody else to tell
        return
