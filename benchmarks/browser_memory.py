"""Knows how much memory the browser has after many adaptive sessions one after another, against after few."""

from __future__ import annotations

import argparse

import psutil

from pytest_bbre import BBREClient
from pytest_bbre.engine import Engine

from ._measure import goal
from ._target import target


def megabytes(pid: int) -> float:
    """The memory of all processes below one, each page counted once."""
    found = 0
    for one in psutil.Process(pid).children(recursive=True):
        try:
            found += one.memory_full_info().pss
        except psutil.Error:  # it has just ended
            continue
    return found / 1e6


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=500)
    parser.add_argument("--first", type=int, default=50)
    given = parser.parse_args()
    early = 0.0
    with target() as url, Engine() as engine, BBREClient(str(engine.api_key), engine.base_url) as client:
        for number in range(1, given.sessions + 1):
            session = client.create_session("adaptive")
            client.request(session, "GET", url)
            client.close_session(session)
            if number == given.first:
                early = megabytes(engine.pid)
        late = megabytes(engine.pid)
    print(f"\nThe browser after {given.first} sessions: {early:.0f} MB; after {given.sessions}: {late:.0f} MB\n")
    goal("ratio", late / early, 1.1, "times")


if __name__ == "__main__":
    main()
