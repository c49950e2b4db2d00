"""Checked by mypy and pyright, never run: sessions, the client, their settings and errors."""

from __future__ import annotations

from collections.abc import Iterator

import requests
from typing_extensions import assert_type

from pytest_bbre import (
    BBREClient,
    BBREError,
    BBRESession,
    CloseOutcome,
    CloseResult,
    SessionInfo,
    SessionState,
    Settings,
    close_all_sessions,
    managed_session,
    open_session,
    tracked_sessions,
)
from pytest_bbre.errors import SessionLimitReachedError


def block() -> str:
    """A `with` block gives a session, and lets its errors through: code after it can be reached only without one."""
    with managed_session(mode="passive", sensibility="low", timeout=60.5) as session:
        assert_type(session, BBRESession)
        found = "text"
    return found


async def async_block() -> requests.Response:
    """An `async with` block gives the same session."""
    async with managed_session(settings=Settings(), client=None) as session:
        assert_type(session, BBRESession)
        assert_type(await session.aget("https://example.org/"), requests.Response)
        assert_type(await session.arequest("PUT", "https://example.org/", json={}), requests.Response)
        assert_type(await session.aclose(), CloseResult)
        assert_type(await session.astatus(), SessionInfo)
        return await session.apost("https://example.org/", data=b"")


def returns_inside() -> int:
    """A block does not swallow errors, so that no checker asks for a return after it."""
    with managed_session() as session:
        return session.get("https://example.org/").status_code


def session_members(session: BBRESession) -> None:
    """What a session tells and takes."""
    assert_type(session.get("https://example.org/", timeout=3, params={"q": "1"}), requests.Response)
    assert_type(session.request("DELETE", "https://example.org/"), requests.Response)
    assert_type(session.id, str)
    assert_type(session.state, SessionState)
    assert_type(session.is_active, bool)
    assert_type(session.status(), SessionInfo)
    assert_type(session.close(), CloseResult)
    assert_type(session.close().outcome, CloseOutcome)
    session.id = "other"  # type: ignore[misc]
    session.get()  # type: ignore[call-arg]


def client_members() -> None:
    """What a client gives."""
    with BBREClient(api_key="key", base_url="https://example.org") as client:
        assert_type(client, BBREClient)
        created = client.create_session(mode="passive")
        assert_type(created, SessionInfo)
        assert_type(created.id, str)
        assert_type(client.request(created.id, "GET", "https://example.org/"), requests.Response)
        assert_type(client.session_status(created.id), SessionInfo)
        assert_type(client.close_session(created.id), CloseResult)
        assert_type(client.close_sessions([created.id]), list[CloseResult])
        assert_type(client.list_sessions(), Iterator[SessionInfo])


def tracking() -> None:
    """What is open in this process."""
    assert_type(open_session(mode="passive"), BBRESession)
    assert_type(tracked_sessions(), list[BBRESession])
    assert_type(close_all_sessions(), list[CloseResult])
    assert_type(close_all_sessions(timeout=2.5), list[CloseResult])


def wrong_calls() -> None:
    """Options are checked by name and type."""
    managed_session(colour="red")  # type: ignore[call-arg]
    managed_session(timeout="long")  # type: ignore[arg-type]
    managed_session("passive")  # type: ignore[call-arg]
    Settings().mode = "adaptive"  # type: ignore[misc]


def errors(error: BBREError) -> None:
    """What an error carries."""
    assert_type(error.code, str | None)
    assert_type(error.status, int | None)
    assert_type(error.session_id, str | None)
    if isinstance(error, SessionLimitReachedError):
        assert_type(error.held, int | None)
