"""When everybody who holds a slot waits for another one."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_bbre.guard.circle import find_circle, newest
from pytest_bbre.guard.leases import CLOSING, FAILED, OPEN, OPENING, Lease, Moment, Ticket, Waiting, Wanted

NOW = Moment(1000.0, 100.0, "boot")


def lease(owner: str, actor: str = "main", *, state: str = OPEN, reaper: str | None = None, **wanted: object) -> Lease:
    """A session that is held."""
    asked = Wanted("account", owner, actor, **{"scoped": True, **wanted})  # type: ignore[arg-type]
    key = f"{owner}-{actor}"
    return Lease(key, 1, asked, state, None if state == OPENING else f"id-{key}", None, NOW, NOW, reaper=reaper)


def ticket(number: int, owner: str, actor: str = "main") -> Ticket:
    """Somebody who waits."""
    return Ticket(number, "account", owner, actor, f"{owner}.py:1", NOW)


def waiting(holders: list[Lease], queue: list[Ticket], paused: float = 0.0) -> Waiting:
    """What the ledger tells who is last in the queue."""
    return Waiting(queue[-1].number, len(queue), holders, queue, paused)


def lives(owner: str) -> bool:
    """An owner's name says whether it lives."""
    return not owner.startswith("dead")


THREE = [lease("a"), lease("b"), lease("c")]
ALL_WAIT = [ticket(4, "b"), ticket(5, "outsider"), ticket(7, "a"), ticket(6, "c")]


def test_a_circle_has_each_holder_and_its_ticket():
    """Where every holder waits, each is named with what it holds and where it waits, and the last one closed it."""
    found = find_circle(waiting(THREE, ALL_WAIT), 3, lives)
    assert found is not None
    assert [(one.lease.wanted.owner, one.ticket.number) for one in found] == [("a", 7), ("b", 4), ("c", 6)]
    assert newest(found) == 7


def test_one_alone_may_be_a_circle():
    """A thread that holds all slots and asks for one more waits for itself."""
    found = find_circle(waiting([lease("a"), lease("a")], [ticket(3, "a")]), 2, lives)
    assert found is not None
    assert len(found) == 2


@pytest.mark.parametrize(
    "holder",
    [
        lease("a", "another thread"),
        lease("x"),
        lease("a", scoped=False),
        lease("a", evictable=True),
        lease("a", state=OPENING),
        lease("a", state=CLOSING),
        lease("a", state=FAILED),
        lease("a", reaper="r"),
        lease("a")._replace(evicted_by="n"),
    ],
    ids=["thread", "elsewhere", "unscoped", "evictable", "opening", "closing", "failed", "reaped", "evicted"],
)
def test_a_slot_that_may_come_free_is_a_way_out(holder):
    """One holder that does not wait, or need not wait, is enough for no alarm."""
    assert find_circle(waiting([holder, *THREE[1:]], ALL_WAIT), 3, lives) is None


def test_the_dead_are_no_part_of_a_circle():
    """What a dead owner holds will be reaped, though its ticket is still there."""
    queue = [*ALL_WAIT, ticket(8, "dead")]
    assert find_circle(waiting([lease("dead"), *THREE[1:]], queue), 3, lives) is None


@pytest.mark.parametrize(
    ("holders", "limit", "paused"),
    [(THREE, 4, 0.0), (THREE, 3, 0.5), ([], 0, 0.0)],
    ids=["free", "paused", "nobody"],
)
def test_who_waits_for_others(holders, limit, paused):
    """Where a slot is free, or the service has none for outsiders' sake, nobody waits for these holders alone."""
    assert find_circle(waiting(holders, ALL_WAIT, paused), limit, lives) is None


class World(NamedTuple):
    """Any state of slots and queue."""

    found: Waiting
    limit: int


OWNERS = st.sampled_from(["a", "b", "c", "dead"])
ACTORS = st.sampled_from(["main", "other"])
LEASES = st.builds(
    lease,
    OWNERS,
    ACTORS,
    state=st.sampled_from([OPEN, OPEN, OPEN, OPENING, CLOSING, FAILED]),
    reaper=st.sampled_from([None, None, None, "reaper"]),
    scoped=st.sampled_from([True, True, True, False]),
    evictable=st.sampled_from([False, False, False, True]),
)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Mostly those where nearly everybody waits."""
    holders = draw(st.lists(LEASES, max_size=5))
    who = [(one.wanted.owner, one.wanted.actor) for one in holders if draw(st.integers(0, 9))]
    who += draw(st.lists(st.tuples(OWNERS, ACTORS), min_size=not who, max_size=3))
    queue = [ticket(number, *one) for number, one in enumerate(draw(st.permutations(who)), 1)]
    limit = max(len(holders) + draw(st.sampled_from([0, 0, 0, 1, -1])), 1)
    return World(waiting(holders, queue, draw(st.sampled_from([0.0, 0.0, 0.0, 1.0]))), limit)


def goes_on(world: World) -> bool:
    """Plays on: whether anybody can do something without being given a slot, so that one comes free."""
    stuck = {(one.owner, one.actor) for one in world.found.queue}
    for one in world.found.holders:
        by_its_owner = (one.wanted.owner, one.wanted.actor) not in stuck or not one.wanted.scoped
        by_others = one.wanted.evictable or one.wanted.owner == "dead" or one.reaper is not None
        under_way = one.state in (OPENING, CLOSING, FAILED)
        if by_its_owner or by_others or under_way:
            return True
    return len(world.found.holders) < world.limit or world.found.paused > 0


@given(worlds())
def test_an_alarm_is_never_false_nor_missing(world):
    """There is an alarm exactly when nobody can go on; and exactly one of the members is the newest."""
    found = find_circle(world.found, world.limit, lives)
    assert (found is None) == goes_on(world)
    if found is not None:
        assert [one.lease for one in found] == world.found.holders
        assert sum(one.number == newest(found) for one in world.found.queue) == 1
