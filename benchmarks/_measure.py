"""Knows how to compare ways of doing the same thing fairly: in turn, in one run, by their medians.
Must not know what is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median, quantiles

Case = Callable[[], "float | None"]  # does the work once; gives its seconds, or None to have the whole call timed


def interleave(cases: Mapping[str, Case], *, rounds: int, limit: float = 45.0) -> dict[str, list[float]]:
    """Runs all cases in each round, so that whatever else the machine does meets them alike.

    The order turns with each round. One round before the first is not counted.

    Args:
        cases: what to run, by name.
        rounds: how often.
        limit: seconds after which no further round is begun.

    Returns:
        The seconds of each case, one number a round.
    """
    found: dict[str, list[float]] = {name: [] for name in cases}
    started = time.monotonic()
    for number in range(rounds + 1):
        for name in list(cases)[:: 1 if number % 2 else -1]:
            seconds = _timed(cases[name])
            if number:
                found[name].append(seconds)
        if number and time.monotonic() - started > limit:
            break
    return found


def _timed(case: Case) -> float:
    started = time.perf_counter()
    told = case()
    return time.perf_counter() - started if told is None else told


def table(title: str, found: Mapping[str, list[float]], *, base: str) -> None:
    """Prints each case's median, its middle half and its ratio to the case `base`; all in milliseconds."""
    rounds = min(len(values) for values in found.values())
    width = max(map(len, found))
    print(f"\n{title} ({rounds} rounds in turn)\n")
    print(f"  {'':{width}}  {'median':>10}  {'middle half':>19}  {'ratio':>7}")
    for name, values in found.items():
        low, _, high = quantiles(values, n=4) if len(values) > 1 else values * 3
        ratio = median(values) / median(found[base])
        between = f"{_ms(low)} to {_ms(high)}"
        print(f"  {name:{width}}  {_ms(median(values)) + ' ms':>10}  {between:>19}  {ratio:7.2f}")


def difference(found: Mapping[str, list[float]], name: str, base: str) -> tuple[float, float]:
    """What `name` took longer than `base` in the same round: the median and its standard error, in seconds."""
    each = [one - other for one, other in zip(found[name], found[base], strict=True)]
    low, middle, high = quantiles(each, n=4)
    return middle, 0.93 * (high - low) / len(each) ** 0.5  # the error of a median, told by the middle half


def goal(text: str, value: float, most: float, unit: str, *, error: float = 0.0) -> None:
    """Prints whether a goal is met. A missed one is no failure: the machine may be busy."""
    verdict = "met" if value + error <= most else "MISSED" if value - error > most else "too close to tell"
    about = f" (± {error:.2g})" if error else ""
    print(f"  goal: {text} {value:.3g}{about} {unit}, at most {most:g} {unit}: {verdict}")


def longer(by: tuple[float, float]) -> None:
    """Prints a difference that has no goal."""
    print(f"  longer by {by[0] * 1000:.3g} (± {by[1] * 1000:.2g}) ms")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.{1 if seconds >= 0.01 else 2}f}"
