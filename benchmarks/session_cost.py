"""Knows what managed_session adds to a session's creation and close by the bare client: a lease, a slot, a guardian."""

from __future__ import annotations

from pytest_bbre import BBREClient, Settings, managed_session

from ._measure import difference, goal, interleave, table
from ._service import service


def main() -> None:
    """Measures and prints."""
    with service() as environment, BBREClient(settings=Settings.resolve(environ=environment)) as client:

        def bare() -> None:
            client.close_session(client.create_session())

        def managed() -> None:
            with managed_session(client=client):
                pass

        found = interleave({"client alone": bare, "managed_session": managed}, rounds=2000, limit=20.0)
        assert not list(client.list_sessions("active"))
    table("Creating and closing a session", found, base="client alone")
    added, error = difference(found, "managed_session", "client alone")
    goal("longer by", added * 1000, 3.0, "ms", error=error * 1000)


if __name__ == "__main__":
    main()
