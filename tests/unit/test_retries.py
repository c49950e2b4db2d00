"""_retries.py: which failures are worth another try, when it comes, and when to give up."""

from __future__ import annotations

import time

import pytest

from pytest_bbre import Settings, _retries, errors
from pytest_bbre._retries import repeat

PASSING = [
    errors.ServiceError("x"),
    errors.RateLimitError("x"),
    errors.ConnectionFailedError("x"),
    errors.ConnectionLostError("x"),
    errors.TimedOutError("x"),
    errors.InvalidAnswerError("a gateway's page", status=502),
    errors.InvalidAnswerError("cut off"),
]
FINAL = [
    errors.InvalidApiKeyError("x"),
    errors.SessionClosedError("x"),
    errors.SessionNotFoundError("x"),
    errors.SessionLimitReachedError("x"),
    errors.TLSError("x"),
    errors.InvalidRequestError("x"),
    errors.TargetTimeoutError("x"),
    errors.InvalidAnswerError("a web page", status=200),
    errors.BBREError("x", code="UNKNOWN"),
]


class Call:
    """Fails as told, then succeeds; counts."""

    def __init__(self, *failures: BaseException) -> None:
        self.failures = list(failures)
        self.count = 0

    def __call__(self) -> str:
        self.count += 1
        if self.failures:
            raise self.failures.pop(0)
        return "done"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of the room: pauses are noted and pass at once."""
    noted: list[float] = []
    now = time.monotonic()
    monkeypatch.setattr(_retries.time, "monotonic", lambda: now + sum(noted))
    monkeypatch.setattr(_retries.time, "sleep", noted.append)
    return noted


def settings(**options: object) -> Settings:
    return Settings.resolve(options, environ={})


@pytest.mark.parametrize("failure", PASSING, ids=lambda error: type(error).__name__)
def test_a_passing_failure_is_tried_again(failure: errors.BBREError, pauses: list[float]):
    """The service's errors and the network's pass."""
    call = Call(failure, failure)
    assert repeat(call, settings()) == "done"
    assert call.count == 3
    assert len(pauses) == 2


@pytest.mark.parametrize("failure", FINAL, ids=lambda error: type(error).__name__)
def test_a_final_failure_is_told_at_once(failure: errors.BBREError, pauses: list[float]):
    """What another try can't mend is not tried."""
    call = Call(failure)
    with pytest.raises(type(failure)) as caught:
        repeat(call, settings())
    assert caught.value is failure
    assert (call.count, pauses) == (1, [])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError()])
def test_what_is_not_ours_is_not_tried_again(error: BaseException, pauses: list[float]):
    """An interruption goes through."""
    with pytest.raises(type(error)):
        repeat(Call(error), settings())
    assert pauses == []


@pytest.mark.parametrize("retries", [0, 1, 4])
def test_the_last_failure_is_told_after_all_retries(retries: int, pauses: list[float]):
    """As many repetitions as were set, and the last word counts."""
    failures = [errors.ServiceError(str(number)) for number in range(9)]
    call = Call(*failures)
    with pytest.raises(errors.ServiceError, match=rf"^{retries}\. "):
        repeat(call, settings(retries=retries))
    assert call.count == retries + 1


def test_delays_lie_between_2_and_5_seconds_and_differ(pauses: list[float]):
    """As the vendor asks, and not all clients at the same moment."""
    repeat(Call(*[errors.ServiceError("x")] * 20), settings(retries=20, retry_total=3600))
    assert all(2 <= pause <= 5 for pause in pauses)
    assert len(set(pauses)) > 1


def test_delays_can_be_set(pauses: list[float]):
    """retry_min and retry_max are the bounds."""
    repeat(Call(*[errors.ServiceError("x")] * 3), settings(retry_min=7, retry_max=7))
    assert pauses == [7, 7, 7]


def test_the_service_s_own_wish_comes_first(pauses: list[float]):
    """Retry-After is honoured exactly."""
    repeat(Call(errors.RateLimitError("x", retry_after=11.5)), settings())
    assert pauses == [11.5]


def test_nothing_is_repeated_after_the_total_time(pauses: list[float]):
    """A pause that would end after the limit is not begun."""
    call = Call(*[errors.ServiceError("x")] * 9)
    with pytest.raises(errors.ServiceError):
        repeat(call, settings(retries=9, retry_min=4, retry_max=4, retry_total=10))
    assert pauses == [4, 4]
    assert call.count == 3


def test_a_wish_beyond_the_total_time_is_not_waited_for(pauses: list[float]):
    """A service that asks to wait an hour is told to the caller at once."""
    with pytest.raises(errors.RateLimitError):
        repeat(Call(errors.RateLimitError("x", retry_after=3600)), settings())
    assert pauses == []


def test_a_nearer_deadline_counts(pauses: list[float]):
    """At the end of a process there is less time than usual."""
    call = Call(*[errors.ServiceError("x")] * 9)
    with pytest.raises(errors.ServiceError):
        repeat(call, settings(retry_min=1, retry_max=1), deadline=_retries.time.monotonic() + 2.5)
    assert pauses == [1, 1]
