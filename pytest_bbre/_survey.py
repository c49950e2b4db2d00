"""Knows an account's sessions as people see them: the service's list and the ledger laid over each other, in groups.
Must not know who is shown them. It closes what it is told to, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, NamedTuple

from ._client import BBREClient
from ._closing import CloseResult
from ._retries import repeat
from ._settings import Settings
from ._wire import SessionInfo
from .errors import LedgerError
from .guard import describe, keeper, owners
from .guard.door import Listing
from .guard.leases import Lease, Moment, Ticket

MINE: Final = "mine"  # of living processes on this machine, or what `mine` of Account says
LEFT: Final = "left_over"  # of processes that have died
OTHERS: Final = "others"  # of processes that can't be judged from here, or that are not `mine`
UNKNOWN: Final = "unknown"  # in no lease: nobody here knows who opened them
GROUPS: Final = (MINE, LEFT, OTHERS, UNKNOWN)


class Row(NamedTuple):
    """One session.

    Attributes:
        group: MINE, LEFT, OTHERS or UNKNOWN.
        session_id: None while nobody knows it.
        state: of its lease: "opening", "open", "closing" or "failed"; else its status, as the service tells it.
        mode: "passive" or "adaptive"; None if nobody tells.
        age, idle: seconds since it was opened, and since a request last went through it; None if nobody tells.
        left: seconds until the service ends it by itself; None if it does not tell.
        requests: how many went through it; None if nobody tells.
        owner: its process, for people.
        place: where it was opened, for people.
        reason: why it is in its group, and why it could not be closed.
    """

    group: str
    session_id: str | None
    state: str
    mode: str | None
    age: float | None = None
    idle: float | None = None
    left: float | None = None
    requests: int | None = None
    owner: str = ""
    place: str = ""
    reason: str = ""


class Survey(NamedTuple):
    """One look at an account.

    Attributes:
        rows: its sessions, by groups, the newest first in each.
        in_use: slots that are taken, as far as anybody here knows.
        limit: how many there are.
        waiting: who waits for one.
    """

    rows: list[Row]
    in_use: int
    limit: int
    waiting: list[Ticket]


class Account:
    """One account's sessions, for a look or a command. Close it after use, as by `with`.

    Args:
        settings: with a real address and a key.
        tell: shows a line to the person who runs this: the ledger can't be used.
        mine: whether a living process, as `str(Owner)`, is to count as ours. All of this machine do by default.
    """

    def __init__(
        self, settings: Settings, tell: Callable[[str], None], mine: Callable[[str], bool] = lambda owner: True
    ) -> None:
        self._settings = settings
        self._mine = mine
        self.visit = keeper.visit(settings, tell)

    def __enter__(self) -> Account:
        return self

    def __exit__(self, *exc: object) -> None:
        self.visit.close()

    def look(self, listing: Listing | None = None) -> Survey:
        """The sessions that are active, or may be.

        Args:
            listing: what the service has just told of them; None to ask it.

        Raises:
            BBREError: the service did not list them.
        """
        listing = listing or repeat(self.visit.door.active, self._settings)
        leases, waiting, labels = self._noted()  # after the list: what is in no lease then is nobody's here
        now = self.visit.now()
        listed = {one.id: one for one in listing.sessions}
        known = {lease.session_id for lease in leases}
        rows = [self._row(lease, labels, listed.get(str(lease.session_id)), listing, now) for lease in leases]
        rows += [_unknown(one, listing, now) for one in listing.sessions if one.id not in known]
        taken = sum(lease.holds_slot(now) for lease in leases) + sum(row.group == UNKNOWN for row in rows)
        rows.sort(key=lambda row: (GROUPS.index(row.group), float("inf") if row.age is None else row.age))
        return Survey(rows, taken, self._settings.max_sessions, waiting)

    def _noted(self) -> tuple[list[Lease], list[Ticket], dict[str, str]]:
        ledger, account = self.visit.ledger, self.visit.account
        if ledger is None:
            return [], [], {}
        labels = {one.owner: one.label for one in ledger.enrolled(account)}
        return ledger.leases(account), ledger.queue(account), labels

    def _row(
        self, lease: Lease, labels: dict[str, str], info: SessionInfo | None, listing: Listing, now: Moment
    ) -> Row:
        judgement = owners.judge(lease.wanted.owner)
        group = {owners.DEAD: LEFT, owners.UNKNOWN: OTHERS}.get(judgement.state, MINE)
        if group == MINE and not self._mine(lease.wanted.owner):
            group = OTHERS
        why = [judgement.reason, *([lease.reason] if lease.reason else [])]
        return Row(
            group,
            lease.session_id,
            lease.state,
            lease.wanted.mode,
            age=now.since(lease.opened),
            idle=now.since(lease.used),
            left=None if info is None else _left(info, listing, now),
            requests=None if info is None else info.request_count,
            owner=describe.owner(lease.wanted.owner, labels.get(lease.wanted.owner, "")),
            place=describe.safe(lease.wanted.place),
            reason=describe.safe("; ".join(why)),
        )

    def ended(self) -> list[SessionInfo]:
        """The sessions that expired or were closed, as long as the service knows them.

        Raises:
            BBREError: the service did not list them.
        """
        with BBREClient(settings=self._settings) as client:
            return [one for status in ("expired", "closed") for one in client.list_sessions(status)]

    def close(
        self, session_ids: Iterable[str], done: Callable[[CloseResult], object] = lambda result: None
    ) -> list[CloseResult]:
        """Closes sessions at the same time, whoever holds them; closed or unknown ones count as closed.

        Their owners, should they live, are told by the service when they next use them.

        Args:
            session_ids: which.
            done: called with each result when it is there, from another thread.
        """

        def noted(result: CloseResult) -> None:
            if result.success and result.session_id is not None:
                with suppress(LedgerError):  # its lease is ended by whoever looks next
                    self.visit.end(result.session_id)
            done(result)

        with BBREClient(settings=self._settings) as client:
            return client.close_sessions(dict.fromkeys(session_ids), done=noted)


def _unknown(info: SessionInfo, listing: Listing, now: Moment) -> Row:
    created = None if info.created_at is None else info.created_at.timestamp()
    age = None if created is None else max(now.wall + listing.offset - created, 0.0)
    return Row(
        UNKNOWN,
        info.id,
        info.status or "?",
        info.mode,
        age=age,
        left=_left(info, listing, now),
        requests=info.request_count,
        reason="it is in no ledger of this machine",
    )


def _left(info: SessionInfo, listing: Listing, now: Moment) -> float | None:
    if info.expires_at is None:
        return None
    left = max(info.expires_at.timestamp() - now.wall - listing.offset, 0.0)
    return left if info.timeout is None else min(left, info.timeout)  # the service's clock is known to a second
