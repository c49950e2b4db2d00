"""Promises of faults: how they are written, checked and met."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_bbre.engine.faults import KINDS, Fault, FaultBook, check_latency
from pytest_bbre.errors import SettingsError


def kinds(book: FaultBook, endpoint: str, calls: int) -> list[str | None]:
    met = [book.take(endpoint)[1] for _ in range(calls)]
    return [fault and fault.kind for fault in met]


def test_without_faults_every_call_passes() -> None:
    """An empty book delays nothing and breaks nothing."""
    assert FaultBook().take("close") == (0.0, None)


def test_the_next_two_closes_fail_and_the_third_does_not() -> None:
    """A fault is met as many times as was asked for, by its endpoint alone."""
    book = FaultBook()
    book.fail("close", times=2, code="SERVICE_ERROR")
    assert kinds(book, "create", 1) == [None]
    assert kinds(book, "close", 3) == ["fail", "fail", None]


def test_faults_of_an_endpoint_are_met_in_the_order_asked_for() -> None:
    """First asked for, first met."""
    book = FaultBook()
    book.cut("close")
    book.garbage("close", times=2)
    book.lose_answer("close")
    assert kinds(book, "close", 5) == ["cut", "garbage", "garbage", "lose_answer", None]


def test_a_fault_without_times_is_met_until_cleared() -> None:
    """times=None goes on; clear() ends it."""
    book = FaultBook()
    book.half_answer("list", times=None)
    assert kinds(book, "list", 3) == ["half_answer"] * 3
    book.clear()
    assert kinds(book, "list", 1) == [None]


def test_after_lets_calls_pass_first() -> None:
    """after=2 breaks the third call."""
    book = FaultBook()
    book.cut("request", after=2)
    assert kinds(book, "request", 4) == [None, None, "cut", None]


def test_a_delay_goes_along_with_another_fault() -> None:
    """A delay that lasts for ever does not keep other faults from being met."""
    book = FaultBook()
    book.delay("close", 0.5)
    book.hang("close", 3.0)
    delay, fault = book.take("close")
    assert (delay, fault and fault.kind, fault and fault.seconds) == (0.5, "hang", 3.0)
    assert book.take("close") == (0.5, None)


def test_the_same_fault_by_method_by_object_and_by_text() -> None:
    """Python, the control endpoint and the command line say the same thing."""
    written = Fault("close", "fail", 2, code="RATE_LIMIT_EXCEEDED", retry_after=3.0)
    assert Fault.from_json(written.to_json()) == written
    assert Fault.parse("close:fail:times=2:code=RATE_LIMIT_EXCEEDED:retry_after=3") == written
    assert Fault.parse("create:delay:seconds=0.25:times=none") == Fault("create", "delay", None, seconds=0.25)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_written(kind: str) -> None:
    """Each kind has a form on the command line."""
    assert Fault.parse(f"status:{kind}:seconds=1").kind == kind


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"endpoint": "open", "kind": "cut"}, "'open'; allowed are create, request, status, close, list"),
        ({"endpoint": "close", "kind": "explode"}, "'explode'"),
        ({"endpoint": "close", "kind": "fail", "code": "OOPS"}, "'OOPS'"),
        ({"endpoint": "close", "kind": "cut", "times": 0}, "times is 0"),
        ({"endpoint": "close", "kind": "cut", "after": -1}, "after is -1"),
        ({"endpoint": "close", "kind": "delay", "seconds": float("nan")}, "seconds is nan"),
        ({"endpoint": "close", "kind": "hang", "seconds": "2"}, "seconds is '2'"),
        ({"endpoint": "close", "kind": "fail", "retry_after": -1}, "retry_after is -1"),
        ({"endpoint": "close"}, "needs endpoint and kind"),
        ({"endpoint": "close", "kind": "cut", "often": 2}, "may have: endpoint, kind, times"),
    ],
)
def test_a_fault_that_can_not_be_is_refused(wrong: dict[str, Any], named: str) -> None:
    """The refusal names the field, the value and what is allowed."""
    with pytest.raises(SettingsError, match=named.replace("(", r"\(")):
        Fault.from_json(wrong)


@pytest.mark.parametrize("text", ["close", "close:cut:times", "close:cut:times=two", ""])
def test_a_text_that_is_no_fault_is_refused(text: str) -> None:
    """The command line refuses what it can't read."""
    with pytest.raises(SettingsError, match="fault"):
        Fault.parse(text)


def test_latency_is_checked_by_endpoint_and_value() -> None:
    """Latency of an unknown endpoint, or that is no number, is refused with its name."""
    assert check_latency({"create": 1}) == {"create": 1.0}
    assert check_latency(None) == {}
    with pytest.raises(SettingsError, match="latency names 'open'"):
        check_latency({"open": 1})
    with pytest.raises(SettingsError, match="latency of close is -1"):
        check_latency({"close": -1})
