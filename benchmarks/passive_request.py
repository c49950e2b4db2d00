"""Knows what a request through a passive session takes, against a pooled requests.Session to the same target."""

from __future__ import annotations

from statistics import median

import requests

from pytest_bbre import Settings, managed_session
from pytest_bbre.engine import Engine

from ._measure import difference, goal, interleave, longer, table
from ._target import PAGE, target


def main() -> None:
    """Measures and prints."""
    with target() as url, Engine() as engine, requests.Session() as direct:
        direct.trust_env = False  # no proxy between here and here
        settings = Settings.resolve(environ=engine.environ())
        with managed_session(settings=settings) as session:

            def pooled() -> None:
                assert direct.get(url, timeout=10).content == PAGE

            def passive() -> None:
                assert session.get(url, timeout=10).content == PAGE

            found = interleave({"requests.Session.get": pooled, "session.get": passive}, rounds=2000, limit=20.0)
    table("A passive request", found, base="requests.Session.get")
    baseline, through = median(found["requests.Session.get"]), median(found["session.get"])
    goal("as long", through / baseline, 3.0, "times")
    goal("takes", through * 1000, 2.0, "ms")
    longer(difference(found, "session.get", "requests.Session.get"))


if __name__ == "__main__":
    main()
