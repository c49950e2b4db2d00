"""Knows what closing ten sessions at the same time takes, against closing them one by one.

The engine takes 200 ms for each close.
"""

from __future__ import annotations

import time
from statistics import median

from pytest_bbre import BBREClient, Settings, close_all_sessions, open_session
from pytest_bbre.engine import Engine

from ._measure import goal, interleave, table

SESSIONS = 10
LATENCY = 0.2  # seconds


def main() -> None:
    """Measures and prints."""
    with Engine(latency={"close": LATENCY}) as engine:
        settings = Settings.resolve(environ=engine.environ())
        with BBREClient(settings=settings) as client:

            def ids() -> list[str]:
                return [client.create_session().id for _ in range(SESSIONS)]

            def one_by_one() -> float:
                opened, started = ids(), time.perf_counter()
                for session_id in opened:
                    client.close_session(session_id)
                return time.perf_counter() - started

            def by_client() -> float:
                opened, started = ids(), time.perf_counter()
                results = client.close_sessions(opened)
                spent = time.perf_counter() - started
                assert all(result.success for result in results)
                return spent

            def by_tracker() -> float:
                for _ in range(SESSIONS):
                    open_session(settings=settings)
                started = time.perf_counter()
                results = close_all_sessions()
                spent = time.perf_counter() - started
                assert len(results) == SESSIONS
                assert all(result.success for result in results)
                return spent

            cases = {
                "one by one": one_by_one,
                "client.close_sessions": by_client,
                "close_all_sessions": by_tracker,
            }
            found = interleave(cases, rounds=8)
        assert not engine.sessions("active")
    table(f"Closing {SESSIONS} sessions, {LATENCY * 1000:g} ms each", found, base="one by one")
    for name in ("client.close_sessions", "close_all_sessions"):
        goal(f"{name} takes", median(found[name]), 0.3, "s")


if __name__ == "__main__":
    main()
