"""What the tests of reaping share: a ledger of their own, owners that are alive, dead or unknown, a real engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_bbre import BBREClient, SessionInfo
from pytest_bbre.engine import Engine
from pytest_bbre.guard.door import Door, Service
from pytest_bbre.guard.leases import Lease, Moment, Wanted
from pytest_bbre.guard.ledger import SqliteLedger
from pytest_bbre.guard.owners import ALIVE, DEAD, UNKNOWN, Judgement
from pytest_bbre.guard.reaper import Reaper, Report

LIMIT = 20.0  # seconds that any wait may take
ACCOUNT = "account"
ME = "alive-reaper"


def judge(owner: str) -> Judgement:
    """An owner's name says what it is."""
    for state in (ALIVE, DEAD):
        if owner.startswith(state):
            return Judgement(state, f"{owner} is {state}")
    return Judgement(UNKNOWN, f"{owner} is on another machine")


def now() -> Moment:
    """The time."""
    return Moment(time.time(), time.monotonic(), "boot")


class Guard:
    """One account on an engine, with its ledger, its door and a reaper."""

    def __init__(self, folder: Path, engine: Engine, **service: Any) -> None:
        self.engine = engine
        self.woken: list[str | None] = []
        self._reapers: list[Reaper] = []
        self.ledger = SqliteLedger(str(folder / "ledger.db"))
        self.service = Service(engine.base_url, engine.api_key, **{"retry_min": 0.0, "retry_max": 0.0, **service})
        self.door = Door(self.service)
        self.reaper = self.another()
        self.client = BBREClient(str(engine.api_key), engine.base_url, retries=0, read_timeout=LIMIT)

    def another(self, me: str = ME, **options: Any) -> Reaper:
        """One more reaper of the account."""
        options = {"judge": judge, "wake": self.woken.append, "now": now, **options}
        self._reapers.append(Reaper(self.ledger, ACCOUNT, Door(self.service), me, **options))
        return self._reapers[-1]

    def close(self) -> None:
        """Lets go of all, when what its reapers are doing has ended, as it does when the engine does."""
        self.engine.stop()
        for reaper in self._reapers:
            assert reaper._crew.run([], LIMIT)
            assert reaper._search._crew.run([], LIMIT)
        self.ledger.close()
        self.client.close()

    def lease(self, owner: str, *, at: Moment | None = None, account: str = ACCOUNT, **wanted: Any) -> Lease:
        """A lease that was just written: the create has yet to leave."""
        taken = self.ledger.take(Wanted(account, owner, **wanted), 1000, at or now())
        assert isinstance(taken, Lease)
        return taken

    def session(self, owner: str, *, at: Moment | None = None, **wanted: Any) -> SessionInfo:
        """A session that is open, with its lease."""
        lease = self.lease(owner, at=at, **wanted)
        info = self.client.create_session(mode=lease.wanted.mode)
        assert self.ledger.opened(lease.key, info.id, info.engine, lease.wanted.timeout, at or now())
        return info

    def unknown_session(self, **options: Any) -> str:
        """A session that is in no lease."""
        return self.client.create_session(**options).id

    def active(self) -> set[str]:
        """What the engine says."""
        return {one.id for one in self.engine.sessions()}

    def leases(self) -> dict[str | None, Lease]:
        """The account's leases, by session id."""
        return {lease.session_id: lease for lease in self.ledger.leases(ACCOUNT)}

    def sweep_until(self, done: Callable[[], bool], reaper: Reaper | None = None) -> list[Report]:
        """Sweeps, whenever something is due, until it is done."""
        give_up = time.monotonic() + LIMIT
        reports = []
        while True:
            reports.append((reaper or self.reaper).sweep())
            if done():
                return reports
            assert time.monotonic() < give_up, reports
            time.sleep(min(reports[-1].next_due or 0.01, 0.5))
