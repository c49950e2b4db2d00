"""Knows what managed_session adds to a session's creation and close by the bare client."""

from __future__ import annotations

from pytest_bbre import BBREClient, Settings, managed_session
from pytest_bbre.engine import Engine

from ._measure import difference, interleave, longer, table


def main() -> None:
    """Measures and prints."""
    with Engine() as engine:
        settings = Settings.resolve(environ=engine.environ())
        with BBREClient(settings=settings) as client:

            def bare() -> None:
                client.close_session(client.create_session())

            def managed() -> None:
                with managed_session(client=client):
                    pass

            found = interleave({"client alone": bare, "managed_session": managed}, rounds=2000, limit=20.0)
        assert not engine.sessions("active")
    table("Creating and closing a session", found, base="client alone")
    longer(difference(found, "managed_session", "client alone"))


if __name__ == "__main__":
    main()
