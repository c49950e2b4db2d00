"""Promises of the store: limits, expiry and records of sessions."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from pytest_bbre.engine.refused import Refused
from pytest_bbre.engine.store import Session, Store

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


class Time:
    """Two clocks that stand still until told otherwise."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def clock(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds - 1000.0)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def store(time: Time) -> Store:
    return Store(3, clock=time.clock, now=time.now, kept=5)


def open_one(store: Store, account: str = "a", timeout: float = 60.0) -> Session:
    return store.create(
        account, mode="passive", sensibility="medium", timeout=timeout, profile={"userAgent": "x"}, context=object()
    )


def code_of(call: Any, *arguments: Any) -> str:
    with pytest.raises(Refused) as refused:
        call(*arguments)
    return refused.value.code


def test_a_session_is_told_with_everything(store: Store) -> None:
    """The record of a session holds mode, sensibility, times, profile and counters."""
    info = open_one(store).info()
    assert info.id.startswith("session_")
    assert (info.mode, info.sensibility, info.timeout, info.status) == ("passive", "medium", 60.0, "active")
    assert (info.created_at, info.expires_at, info.closed_at) == (NOON, NOON + timedelta(seconds=60), None)
    assert (info.profile, info.request_count, info.total_charged) == ({"userAgent": "x"}, 0, 0.0)


def test_one_more_than_the_limit_is_refused_and_the_hint_says_how_many(store: Store) -> None:
    """A create over the limit is refused, takes no slot, and says how many are active."""
    for _ in range(3):
        open_one(store)
    with pytest.raises(Refused) as refused:
        open_one(store)
    assert refused.value.code == "SESSION_LIMIT_REACHED"
    assert "3 active sessions, of 3 allowed" in (refused.value.hint or "")
    assert store.active_count() == 3
    assert store.totals == {"opened": 3, "closed": 0, "expired": 0}


def test_the_limit_is_each_accounts_own(store: Store) -> None:
    """A full account leaves the slots of another alone."""
    for _ in range(3):
        open_one(store, "a")
    assert open_one(store, "b").status == "active"


def test_a_close_frees_the_slot_at_once(store: Store) -> None:
    """After a close the next create gets a slot."""
    first, *_ = [open_one(store) for _ in range(3)]
    closed = store.close("a", first.id)
    assert (closed.status, closed.closed_at, closed.context) == ("closed", NOON, None)
    assert open_one(store).status == "active"


def test_a_second_close_is_refused_as_closed(store: Store) -> None:
    """Closing twice answers SESSION_CLOSED."""
    session = open_one(store)
    store.close("a", session.id)
    assert code_of(store.close, "a", session.id) == "SESSION_CLOSED"


def test_another_accounts_session_is_not_found(store: Store) -> None:
    """No account sees another's session, by get or by close."""
    session = open_one(store, "a")
    open_one(store, "b")
    assert code_of(store.get, "b", session.id) == "SESSION_NOT_FOUND"
    assert code_of(store.close, "b", session.id) == "SESSION_NOT_FOUND"
    assert code_of(store.get, "c", session.id) == "SESSION_NOT_FOUND"
    assert session.status == "active"


def test_a_session_is_active_until_its_very_deadline(store: Store, time: Time) -> None:
    """It expires when its time is up, not before."""
    session = open_one(store, timeout=60)
    time.seconds += 59.999
    assert store.get("a", session.id).status == "active"
    time.seconds += 0.001
    assert store.get("a", session.id).status == "expired"


def test_the_clock_of_the_day_does_not_decide_about_expiry(time: Time) -> None:
    """A machine whose time of day jumps ahead expires nothing."""
    day = [NOON]
    store = Store(clock=time.clock, now=lambda: day[0])
    session = open_one(store)
    day[0] += timedelta(days=400)
    assert store.get("a", session.id).status == "active"


def test_an_expired_session_holds_no_slot(store: Store, time: Time) -> None:
    """Expiry frees the slot for the next create, without anybody having asked for the session."""
    for _ in range(3):
        open_one(store, timeout=10)
    time.seconds += 10
    assert open_one(store).status == "active"
    assert store.totals == {"opened": 4, "closed": 0, "expired": 3}


def test_closing_an_expired_session_answers_closed_and_requests_answer_expired(store: Store, time: Time) -> None:
    """An expired session holds no slot, so its close is SESSION_CLOSED; a request learns the reason."""
    session = open_one(store, timeout=10)
    time.seconds += 11
    assert code_of(store.close, "a", session.id) == "SESSION_CLOSED"
    assert code_of(store.get("a", session.id).check_active) == "SESSION_EXPIRED"
    assert session.closed_at is None


def test_expire_due_frees_what_a_session_held(store: Store, time: Time) -> None:
    """Expiry lets go of the session's cookies."""
    session = open_one(store, timeout=10)
    time.seconds += 10
    store.expire_due()
    assert (session.status, session.context) == ("expired", None)


def test_next_deadline_is_that_of_the_first_to_expire(store: Store) -> None:
    """The timer is told the earliest deadline among active sessions."""
    assert store.next_deadline() is None
    open_one(store, timeout=50)
    soon = open_one(store, timeout=5)
    assert store.next_deadline() == 1005.0
    store.close("a", soon.id)
    assert store.next_deadline() == 1050.0


def test_a_page_is_newest_first_with_the_total(store: Store) -> None:
    """Listing is newest first; limit and offset cut a page out; the total counts all that match."""
    ids = [open_one(store).id for _ in range(3)]
    found, total = store.page("a", None, 2, 0)
    assert ([one.id for one in found], total) == ([ids[2], ids[1]], 3)
    found, total = store.page("a", None, 2, 2)
    assert ([one.id for one in found], total) == ([ids[0]], 3)
    assert store.page("unknown", None, 10, 0) == ([], 0)


def test_a_page_of_one_status_holds_that_status_alone(store: Store, time: Time) -> None:
    """The filter knows active, expired and closed, and sessions expire as they are listed."""
    closed, expired, active = open_one(store), open_one(store, timeout=5), open_one(store)
    store.close("a", closed.id)
    time.seconds += 5
    for status, one in {"closed": closed, "expired": expired, "active": active}.items():
        found, total = store.page("a", status, 10, 0)
        assert ([session.id for session in found], total) == ([one.id], 1)


def test_records_of_ended_sessions_are_bounded(store: Store) -> None:
    """Only the newest ended records stay; an older one is not found, and the totals still count it."""
    active, ids = open_one(store), []
    for _ in range(8):
        ids.append(open_one(store).id)
        store.close("a", ids[-1])
    assert code_of(store.get, "a", ids[0]) == "SESSION_NOT_FOUND"
    assert code_of(store.close, "a", ids[3]) == "SESSION_CLOSED"
    assert [one.id for one in store.everything()] == [active.id, *ids[3:]]
    assert store.totals["closed"] == 8


def test_everything_holds_all_accounts(store: Store) -> None:
    """The truth about sessions is told over all accounts."""
    first, second = open_one(store, "a"), open_one(store, "b")
    store.close("a", first.id)
    assert {one.id for one in store.everything()} == {first.id, second.id}
    assert [one.id for one in store.everything("active")] == [second.id]
