"""Knows what can go wrong on purpose: faults by endpoint and by call, and how they are written.
Must not know HTTP, nor how a fault is carried out.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from .. import _wire
from ..errors import SettingsError

# A delay goes before whatever else happens to a call; of the others a call meets one.
KINDS: Final = {
    "delay": "answers `seconds` later",
    "fail": "answers with an error code, nothing done",
    "cut": "cuts the connection, nothing done",
    "hang": "says nothing for `seconds`, then cuts the connection, nothing done",
    "garbage": "answers with a web page in place of JSON, nothing done",
    "lose_answer": "does the work, then cuts the connection",
    "half_answer": "does the work, then cuts the connection in the middle of the answer",
}
DONE_FIRST: Final = ("lose_answer", "half_answer")
_TIMED: Final = ("delay", "hang")


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        endpoint: create, request, status, close or list.
        kind: one of KINDS.
        times: how many calls meet it; None for every call until the faults are cleared.
        after: how many calls pass before the first one that meets it.
        seconds: for delay and hang.
        code: the error code, for fail.
        message: its message; the code's own where None.
        retry_after: seconds for a Retry-After header, for fail.

    Raises:
        SettingsError: one of these can't be; the message names it and what is allowed.
    """

    endpoint: str
    kind: str
    times: int | None = 1
    after: int = 0
    seconds: float = 0.0
    code: str = "SERVICE_ERROR"
    message: str | None = None
    retry_after: float | None = None

    def __post_init__(self) -> None:
        _among("endpoint", self.endpoint, _wire.ENDPOINTS)
        _among("kind", self.kind, KINDS)
        if self.times is not None and (not isinstance(self.times, int) or self.times < 1):
            raise SettingsError(f"A fault's times is {self.times!r}; allowed is a whole number from 1, or none.")
        if not isinstance(self.after, int) or self.after < 0:
            raise SettingsError(f"A fault's after is {self.after!r}; allowed is a whole number from 0.")
        if self.kind in _TIMED:
            check_seconds("seconds", self.seconds)
        if self.kind == "fail":
            _among("code", self.code, _wire.FAILURES)
        if self.retry_after is not None:
            check_seconds("retry_after", self.retry_after)

    def to_json(self) -> dict[str, Any]:
        """As a plain object."""
        return asdict(self)

    @classmethod
    def from_json(cls, wire: Mapping[str, Any]) -> Fault:
        """From a plain object.

        Raises:
            SettingsError: it is not a fault.
        """
        unknown = set(wire) - set(cls.__dataclass_fields__)
        if unknown or not {"endpoint", "kind"} <= set(wire):
            known = ", ".join(cls.__dataclass_fields__)
            raise SettingsError(f"A fault is {dict(wire)!r}; it needs endpoint and kind, and may have: {known}.")
        return cls(**wire)

    @classmethod
    def parse(cls, text: str) -> Fault:
        """From the command line: ``close:fail:code=SERVICE_ERROR:times=2``.

        Raises:
            SettingsError: it is not a fault.
        """
        parts = text.split(":")
        pairs = [part.partition("=") for part in parts[2:]]
        if len(parts) < 2 or not all(sign for _, sign, _ in pairs):
            raise SettingsError(f"A fault is {text!r}; write ENDPOINT:KIND[:NAME=VALUE...], e.g. close:fail:times=2.")
        return cls.from_json(
            {"endpoint": parts[0], "kind": parts[1], **{name: _value(name, v) for name, _, v in pairs}}
        )


def _value(name: str, text: str) -> Any:
    kinds: dict[str, Any] = {"times": int, "after": int, "seconds": float, "retry_after": float}
    if name == "times" and text == "none":
        return None
    try:
        return kinds.get(name, str)(text)
    except ValueError:
        raise SettingsError(f"A fault's {name} is {text!r}; allowed is a number.") from None


def _among(name: str, value: Any, allowed: Iterable[str]) -> None:
    if value not in tuple(allowed):
        raise SettingsError(f"A fault's {name} is {value!r}; allowed are {', '.join(allowed)}.")


def check_seconds(name: str, value: Any) -> float:
    """A number of seconds from 0.

    Raises:
        SettingsError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise SettingsError(f"{name} is {value!r}; allowed is a number of seconds from 0.")
    return float(value)


def check_latency(latency: Mapping[str, Any] | None) -> dict[str, float]:
    """Seconds by endpoint.

    Raises:
        SettingsError: an unknown endpoint, or no number of seconds.
    """
    if not isinstance(latency, Mapping | None):
        raise SettingsError(f"latency is {latency!r}; allowed is seconds by endpoint, such as {{'create': 0.3}}.")
    for endpoint in latency or {}:
        if endpoint not in _wire.ENDPOINTS:
            raise SettingsError(f"latency names {endpoint!r}; allowed are {', '.join(_wire.ENDPOINTS)}.")
    return {endpoint: check_seconds(f"latency of {endpoint}", value) for endpoint, value in (latency or {}).items()}


class FaultMethods:
    """The ways to ask for faults. Faults of an endpoint are met in the order in which they were asked for."""

    def add(self, fault: Fault) -> None:
        """Asks for a fault."""
        raise NotImplementedError

    def clear(self) -> None:
        """Forgets every fault that was asked for; those being met go on."""
        raise NotImplementedError

    def fail(
        self,
        endpoint: str,
        *,
        times: int | None = 1,
        code: str = "SERVICE_ERROR",
        message: str | None = None,
        retry_after: float | None = None,
        after: int = 0,
    ) -> None:
        """The next `times` calls answer with an error code, and nothing is done."""
        fault = Fault(endpoint, "fail", times, after, code=code, message=message, retry_after=retry_after)
        self.add(fault)

    def delay(self, endpoint: str, seconds: float, *, times: int | None = None, after: int = 0) -> None:
        """The next `times` calls, by default all, begin `seconds` later; on top of the endpoint's latency."""
        self.add(Fault(endpoint, "delay", times, after, seconds=seconds))

    def hang(self, endpoint: str, seconds: float, *, times: int | None = 1, after: int = 0) -> None:
        """The next `times` calls get no answer: after `seconds` the connection is cut, and nothing was done."""
        self.add(Fault(endpoint, "hang", times, after, seconds=seconds))

    def cut(self, endpoint: str, *, times: int | None = 1, after: int = 0) -> None:
        """The connection is cut before anything is done."""
        self.add(Fault(endpoint, "cut", times, after))

    def garbage(self, endpoint: str, *, times: int | None = 1, after: int = 0) -> None:
        """A web page is answered in place of JSON, with status 200, and nothing is done."""
        self.add(Fault(endpoint, "garbage", times, after))

    def lose_answer(self, endpoint: str, *, times: int | None = 1, after: int = 0) -> None:
        """The work is done, then the connection is cut."""
        self.add(Fault(endpoint, "lose_answer", times, after))

    def half_answer(self, endpoint: str, *, times: int | None = 1, after: int = 0) -> None:
        """The work is done, then the connection is cut in the middle of the answer."""
        self.add(Fault(endpoint, "half_answer", times, after))


class FaultBook(FaultMethods):
    """The faults that an engine has still to make."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._waiting: dict[tuple[str, bool], deque[Fault]] = {}
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> None:
        """Asks for a fault."""
        self._waiting.setdefault((fault.endpoint, fault.kind == "delay"), deque()).append(fault)

    def clear(self) -> None:
        """Forgets every fault that was asked for."""
        self._waiting.clear()

    def take(self, endpoint: str) -> tuple[float, Fault | None]:
        """For one call: the seconds it is delayed, and the fault it meets."""
        if not self._waiting:
            return 0.0, None
        delay = self._next(endpoint, True)
        return (delay.seconds if delay else 0.0), self._next(endpoint, False)

    def _next(self, endpoint: str, delays: bool) -> Fault | None:
        queue = self._waiting.get((endpoint, delays))
        if not queue:
            return None
        first = queue[0]
        if first.after:
            queue[0] = replace(first, after=first.after - 1)
            return None
        if first.times == 1:
            queue.popleft()
        elif first.times is not None:
            queue[0] = replace(first, times=first.times - 1)
        return first
