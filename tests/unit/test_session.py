"""_session.py: the handle, its three states, and each transition between them."""

from __future__ import annotations

import asyncio
import os
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime, timezone
from inspect import getsource
from typing import Any

import pytest
import requests
from _scripted import CUT, KEY, LIMIT, SESSION, Arrived, Scripted, fails, reply

from pytest_bbre import BBREClient, BBREError, BBRESession, CloseOutcome, SessionState, errors, open_session
from pytest_bbre._tracker import tracker
from pytest_bbre._verbs import Verbs

TARGET = "http://target.example/"
VERBS = ["get", "post", "put", "patch", "delete", "head", "options"]
MADE = {
    "id": SESSION, "mode": "adaptive", "sensibility": "low", "timeout": 60, "createdAt": "2026-05-01T12:00:00Z",
    "expiresAt": "2026-05-01T12:01:00Z", "profile": {"userAgent": "x"},
}  # fmt: skip


@pytest.fixture
def session(client: BBREClient) -> BBRESession:
    """An open session at the scripted service."""
    return open_session(client=client)


def hold(service: Scripted, endpoint: str) -> threading.Event:
    """The endpoint answers only after the event."""
    release = threading.Event()

    def held(arrived: Arrived) -> bytes:
        assert release.wait(LIMIT)
        return reply({"success": True, "session": {"id": SESSION}})

    service.answer(endpoint, held)
    return release


def opening(client: BBREClient) -> BBRESession:
    """A session that is being opened."""
    session = tracker.intend()
    tracker.start(session, lambda: client, {})
    return session


# States.


def test_the_states_are_documented():
    """Three states, each with a sentence in the documentation."""
    assert [state.name for state in SessionState] == ["OPENING", "OPEN", "CLOSED"]
    for state in SessionState:
        line = next(line for line in getsource(SessionState).splitlines() if f"{state.name} =" in line)
        sentence = line.partition("#:")[2].strip()
        assert sentence.endswith(".")
        assert len(sentence.split()) > 6


def test_opening(client: BBREClient, service: Scripted):
    """Before the service has answered there is no id, no request can be sent, and the handle says why."""
    release = hold(service, "create")
    session = opening(client)
    service.wait_for("create")
    assert session.state is SessionState.OPENING
    assert not session.is_active
    assert repr(session) == "<BBRESession opening>"
    for use in (lambda: session.id, lambda: session.mode, session.status, lambda: session.get(TARGET)):
        with pytest.raises(errors.MisuseError):
            use()
    release.set()
    session.opening.result(LIMIT)


def test_opening_becomes_open_when_the_service_gives_an_id(client: BBREClient, service: Scripted):
    """From then on requests can be sent."""
    service.answer("create", reply({"success": True, "session": MADE}))
    session = opening(client)
    assert session.opening.result(LIMIT) is session
    assert session.state is SessionState.OPEN
    assert session.is_active
    assert repr(session) == f"<BBRESession {SESSION} open adaptive>"
    assert (session.id, session.mode, session.sensibility, session.timeout) == (SESSION, "adaptive", "low", 60)
    assert session.created_at == datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
    assert session.expires_at == datetime(2026, 5, 1, 12, 1, tzinfo=timezone.utc)
    assert session.profile == {"userAgent": "x"}


def test_opening_becomes_closed_when_there_is_no_session(client: BBREClient, service: Scripted):
    """The service refused: there is nothing to close, and nothing is kept."""
    service.answer("create", fails("SESSION_LIMIT_REACHED"))
    session = opening(client)
    assert isinstance(session.opening.exception(LIMIT), errors.SessionLimitReachedError)
    assert session.state is SessionState.CLOSED
    assert tracker.is_idle()
    assert session.close().outcome is CloseOutcome.ALREADY_CLOSED
    assert service.calls("close") == []


def test_open_becomes_closed_when_the_service_says_so(session: BBRESession):
    """The answer to close ends it."""
    assert session.close().outcome is CloseOutcome.CLOSED
    assert session.state is SessionState.CLOSED
    assert not session.is_active
    assert repr(session) == f"<BBRESession {SESSION} closed passive>"


@pytest.mark.parametrize(
    ("code", "outcome"), [("SESSION_CLOSED", "ALREADY_CLOSED"), ("SESSION_NOT_FOUND", "NOT_FOUND")]
)
def test_open_becomes_closed_when_it_holds_no_slot(session: BBRESession, service: Scripted, code: str, outcome: str):
    """Closed by somebody else, or forgotten by the service: success."""
    service.answer("close", fails(code))
    closed = session.close()
    assert closed.outcome is CloseOutcome[outcome]
    assert closed.success
    assert session.state is SessionState.CLOSED


def test_open_stays_open_when_closing_fails(session: BBRESession, service: Scripted):
    """The session stays tracked, and can be closed again."""
    service.answer("close", *[fails("SERVICE_ERROR")] * 4)
    with pytest.raises(errors.ServiceError):
        session.close()
    assert session.state is SessionState.OPEN
    assert tracker.sessions() == [session]
    assert session.close().outcome is CloseOutcome.CLOSED
    assert tracker.sessions() == []


def test_closed_stays_closed(session: BBRESession, service: Scripted):
    """A second close does nothing, and says so."""
    session.close()
    assert session.close().outcome is CloseOutcome.ALREADY_CLOSED
    assert session.close().session_id == SESSION
    assert len(service.calls("close")) == 1


def test_expiry_ends_activity_but_not_the_slot(client: BBREClient, service: Scripted):
    """Past its own timeout a session is not active; the service's word on it is still asked for."""
    service.answer("create", reply({"success": True, "session": {"id": SESSION, "timeout": 1e-9}}))
    service.answer("request", fails("SESSION_EXPIRED"))
    session = open_session(client=client)
    assert (session.is_active, session.state) == (False, SessionState.OPEN)
    with pytest.raises(errors.SessionExpiredError, match="longer timeout="):
        session.get(TARGET)
    session.close()


@pytest.mark.parametrize("code", ["SESSION_CLOSED", "SESSION_EXPIRED", "SESSION_NOT_FOUND"])
@pytest.mark.parametrize("twin", ["sync", "async"])
def test_a_session_that_the_service_refuses_is_not_active(
    session: BBRESession, service: Scripted, twin: str, code: str
):
    """Its own word ends activity, not the slot: the session is tracked until its close, which succeeds."""
    service.answer("request", fails(code))
    assert session.is_active
    with pytest.raises(errors.BY_CODE[code]):
        session.get(TARGET) if twin == "sync" else asyncio.run(session.aget(TARGET))
    assert (session.is_active, session.state) == (False, SessionState.OPEN)
    assert tracker.sessions() == [session]
    if code != "SESSION_EXPIRED":
        service.answer("close", fails(code))
    assert session.close().success
    assert session.state is SessionState.CLOSED
    assert tracker.is_idle()


@pytest.mark.parametrize("code", ["SERVICE_ERROR", "RATE_LIMIT_EXCEEDED", "INVALID_API_KEY"])
def test_other_refusals_say_nothing_of_the_session(session: BBRESession, service: Scripted, code: str):
    """It stays active."""
    service.answer("request", fails(code))
    with pytest.raises(errors.BY_CODE[code]):
        session.get(TARGET)
    assert session.is_active


# Closing.


def test_many_closes_at_once_are_one(session: BBRESession, service: Scripted, on_threads: Callable[..., list[Any]]):
    """Threads that close at the same time wait for one call, and get the same result."""
    release = hold(service, "close")
    waiting = threading.Thread(target=lambda: (service.wait_for("close"), release.set()), daemon=True)
    waiting.start()
    results = on_threads(session.close)
    assert {result.outcome for result in results} <= {CloseOutcome.CLOSED, CloseOutcome.ALREADY_CLOSED}
    assert len(service.calls("close")) == 1


def test_a_failed_close_is_told_to_all_who_wait(session: BBRESession, service: Scripted, on_threads):
    """Nobody is told of a success that was none."""
    service.always("close", fails("INVALID_API_KEY"))
    results = on_threads(session.close, 4)
    assert all(isinstance(result, errors.InvalidApiKeyError) for result in results)
    assert session.state is SessionState.OPEN


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_can_not_close_its_parent_s_session(session: BBRESession, service: Scripted):
    """Not by close, which says so, and not by the end of a with block."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with session:
                pass
            session.close()
        except errors.WrongProcessError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert service.calls("close") == []
    assert session.state is SessionState.OPEN


def test_a_session_is_a_context_manager(session: BBRESession):
    """with closes it at the end of the block."""
    with session as same:
        assert same is session
    assert session.state is SessionState.CLOSED


def test_an_error_in_the_block_is_what_the_caller_sees(session: BBRESession, service: Scripted):
    """A close that fails as well is a note on it."""
    service.always("close", fails("INVALID_API_KEY"))
    with pytest.raises(ZeroDivisionError) as caught, session:
        raise ZeroDivisionError("the block's")
    (note,) = caught.value.__notes__
    assert "Closing the session failed, too" in note
    assert "INVALID_API_KEY" in note


def test_a_close_that_fails_alone_is_raised(session: BBRESession, service: Scripted):
    """Nobody is left to believe that the slot is free."""
    service.always("close", fails("INVALID_API_KEY"))
    with pytest.raises(errors.InvalidApiKeyError), session:
        pass


def test_a_session_is_an_async_context_manager(session: BBRESession, service: Scripted):
    """async with closes it; an error keeps its place, a failing close is a note."""
    service.answer("close", fails("INVALID_API_KEY"), fails("INVALID_API_KEY"))

    async def fail() -> None:
        async with session:
            raise ZeroDivisionError

    async def work() -> None:
        async with session:
            assert session.is_active

    with pytest.raises(ZeroDivisionError) as caught:
        asyncio.run(fail())
    assert "INVALID_API_KEY" in caught.value.__notes__[0]
    with pytest.raises(errors.InvalidApiKeyError):
        asyncio.run(work())
    asyncio.run(work())
    assert session.state is SessionState.CLOSED


# Requests.


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_sends_its_method(session: BBRESession, service: Scripted, verb: str):
    """get to options, with requests' arguments, and requests' defaults on redirects."""
    response = getattr(session, verb)(TARGET, params={"a": "1"}, headers={"X": "1"})
    assert isinstance(response, requests.Response)
    sent = service.calls("request")[0].json
    assert (sent["method"], sent["url"]) == (verb.upper(), f"{TARGET}?a=1")
    assert sent["sessionId"] == SESSION
    assert sent.get("followRedirects", True) is (verb != "head")


@pytest.mark.parametrize("verb", ["request", *VERBS])
def test_each_verb_has_an_async_twin(session: BBRESession, service: Scripted, verb: str):
    """The same arguments, the same request."""
    arguments = ("REPORT", TARGET) if verb == "request" else (TARGET,)
    getattr(session, verb)(*arguments, params={"a": "1"})
    response = asyncio.run(getattr(session, f"a{verb}")(*arguments, params={"a": "1"}))
    first, second = (arrived.json for arrived in service.calls("request"))
    assert first == second
    assert isinstance(response, requests.Response)


POSITIONAL: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("get", (TARGET, {"q": 1}), {"params": {"q": 1}}),
    ("post", (TARGET, {"a": 1}), {"data": {"a": 1}}),
    ("post", (TARGET, None, {"a": 1}), {"json": {"a": 1}}),
    ("put", (TARGET, b"x"), {"data": b"x"}),
    ("patch", (TARGET, b"x"), {"data": b"x"}),
    ("request", ("GET", TARGET, {"q": 1}), {"params": {"q": 1}}),
    ("request", ("POST", TARGET, {"q": 1}, b"x", {"X-One": "1"}), {"params": {"q": 1}, "data": b"x",
                                                                 "headers": {"X-One": "1"}}),
]  # fmt: skip


@pytest.mark.parametrize(("verb", "positional", "named"), POSITIONAL, ids=lambda case: str(case)[:40])
@pytest.mark.parametrize("twin", ["", "a"], ids=["sync", "async"])
def test_arguments_can_stand_where_requests_has_them(
    session: BBRESession, service: Scripted, twin: str, verb: str, positional: tuple[Any, ...], named: dict[str, Any]
):
    """The same request as with names, from a verb and from its async twin."""
    place = positional[: 2 if verb == "request" else 1]
    getattr(session, verb)(*place, **named)
    again = getattr(session, twin + verb)(*positional)
    if twin:
        again = asyncio.run(again)
    assert isinstance(again, requests.Response)
    first, second = (arrived.json for arrived in service.calls("request"))
    assert first == second


def test_a_client_s_arguments_can_stand_where_requests_has_them(client: BBREClient, service: Scripted):
    """After the session's id."""
    client.request(SESSION, "GET", TARGET, {"q": 1})
    client.request(SESSION, "GET", TARGET, params={"q": 1})
    first, second = (arrived.json for arrived in service.calls("request"))
    assert first == second
    assert first["url"] == f"{TARGET}?q=1"


@pytest.mark.parametrize(
    ("verb", "positional", "named", "told"),
    [
        ("get", (TARGET, {"q": 1}), {"params": {}}, "params"),
        ("post", (TARGET, b"x"), {"data": b"x"}, "data"),
        ("post", (TARGET, None, {}), {"json": {}}, "json"),
        ("put", (TARGET, b"x"), {"data": b"x"}, "data"),
        ("patch", (TARGET, b"x"), {"data": b"x"}, "data"),
        ("request", ("GET", TARGET, {"q": 1}), {"params": {}}, "params"),
        ("request", ("GET", TARGET, *[None] * 15), {}, "at most"),
    ],
)
@pytest.mark.parametrize("twin", ["", "a"], ids=["sync", "async"])
def test_an_argument_that_is_given_twice_is_refused(
    session: BBRESession, service: Scripted, twin: str, verb: str, positional: Any, named: dict[str, Any], told: str
):
    """As Python refuses it, and as requests does; so are more than there are. Nothing is sent."""

    async def work() -> None:
        await getattr(session, twin + verb)(*positional, **named)

    with pytest.raises(TypeError, match=told):
        asyncio.run(work()) if twin else getattr(session, verb)(*positional, **named)
    assert service.calls("request") == []


def test_a_session_knows_all_the_verbs_of_requests():
    """As requests.Session has them, each documented."""
    for verb in VERBS:
        assert hasattr(requests.Session, verb)
        assert getattr(Verbs, verb).__doc__
        assert getattr(Verbs, f"a{verb}").__doc__
    with pytest.raises(NotImplementedError):
        Verbs().get(TARGET)


def test_use_after_close_is_told_before_anything_is_sent(session: BBRESession, service: Scripted):
    """With the session's id and what to do."""
    session.close()
    with pytest.raises(errors.UseAfterCloseError, match=f"GET {TARGET}.*{SESSION}.*open a new one") as caught:
        session.get(TARGET)
    assert isinstance(caught.value, RuntimeError)
    with pytest.raises(errors.UseAfterCloseError):
        asyncio.run(session.apost(TARGET))
    assert service.calls("request") == []


def test_status_asks_the_service_also_after_close(session: BBRESession, service: Scripted):
    """state is what the handle knows, status what the service knows."""
    service.always("status", reply({"success": True, "data": {"session": {"id": SESSION, "status": "closed"}}}))
    session.close()
    assert session.status().status == "closed"
    assert asyncio.run(session.astatus()).status == "closed"


def test_the_key_is_in_nothing_that_a_session_shows(session: BBRESession, service: Scripted):
    """Not in its repr, nor in the locals of a failing request."""
    service.answer("request", CUT)
    assert KEY not in repr(session) + repr(vars(session))
    with pytest.raises(BBREError) as caught:
        session.get(TARGET)
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert KEY not in "".join(told.format())


def test_a_note_can_be_added_where_python_knows_none():
    """Python 3.10 has no add_note; pytest shows the notes there, too."""
    from pytest_bbre._session import note_failed_close

    class Old:
        __notes__ = ("first",)

    old: Any = Old()
    note_failed_close(old, errors.ServiceError("x"))
    assert old.__notes__[0] == "first"
    assert "x" in old.__notes__[1]


def test_a_handle_needs_no_network_to_be_made():
    """Nothing is sent, started or counted before it is asked for."""
    handle = BBRESession(lambda call: Future(), lambda session: None)
    assert handle.state is SessionState.OPENING
    assert tracker.is_idle()
