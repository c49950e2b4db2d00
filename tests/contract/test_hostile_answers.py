"""The client against a service that answers anything at all: no error outside the tree, and the key in none of them."""

from __future__ import annotations

import gzip
import json
import threading
import traceback
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
import requests
from _scripted import CUT, KEY, LIMIT, SESSION, Answer, Scripted, held, raw, reply
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pytest_bbre import BBREClient, BBREError, CloseResult, SessionInfo, errors

TARGET = "http://target.example/"
CALLS: dict[str, Callable[[BBREClient], Any]] = {
    "create": lambda client: client.create_session(),
    "request": lambda client: client.request(SESSION, "POST", TARGET, data=b"x"),
    "status": lambda client: client.session_status(SESSION),
    "close": lambda client: client.close_session(SESSION),
    "list": lambda client: list(islice(client.list_sessions(), 1000)),
}
GIVEN = {"create": SessionInfo, "request": requests.Response, "status": SessionInfo, "close": CloseResult, "list": list}

# What a hostile answer is made of: the names that readers look for, and values that they may not expect.
NAMES = st.sampled_from(
    [
        "success",
        "service",
        "error",
        "code",
        "message",
        "details",
        "hint",
        "data",
        "session",
        "sessionId",
        "id",
        "mode",
        "sensibility",
        "timeout",
        "status",
        "createdAt",
        "expiresAt",
        "closedAt",
        "profile",
        "requestCount",
        "totalCharged",
        "sessions",
        "items",
        "total",
        "task",
        "result",
        "statusCode",
        "statusText",
        "headers",
        "body",
        "bodyEncoding",
        "url",
        "method",
        "elapsed",
        "history",
        "Set-Cookie",
        "Content-Length",
        "name",
        "value",
    ]
)
TEXTS = st.text(max_size=6) | st.sampled_from(
    [KEY, "base64", "2026-05-01T12:00:00Z", "0001-01-01T00:00:00+14:00", "http://[", "http://t/", "\ud800",
     "a=1; Path=/", "GET", "active", "200", "\r\n", "1, 2"]
)  # fmt: skip
SCALARS = (
    st.none() | st.booleans() | st.integers(-1, 999) | st.sampled_from([10**400, -(10**30), 2**63, 1e308, 0.5])
    | st.floats() | TEXTS
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | TEXTS, inner, max_size=4),
    max_leaves=12,
)
RECORDS = st.dictionaries(NAMES, VALUES, max_size=8)
RESULTS = RECORDS.flatmap(
    lambda record: st.builds(lambda status, headers: {**record, "statusCode": status, "headers": headers},
                             st.integers(0, 999) | SCALARS, VALUES)
)  # fmt: skip
SHAPES = {
    "create": RECORDS.map(lambda record: {"success": True, "session": {"id": SESSION, **record}}),
    "request": RESULTS.map(lambda result: {"success": True, "data": {"task": {"result": result}}}),
    "status": RECORDS.map(lambda record: {"success": True, "data": {"session": {"id": SESSION, **record}}}),
    "close": RECORDS.map(lambda record: {"success": True, "data": {"session": record}}),
    "list": st.lists(RECORDS | VALUES, max_size=4).map(lambda found: {"success": True, "data": {"sessions": found}}),
}
FAILURES = st.builds(
    lambda error, status: (status, {"success": False, "error": error}),
    st.fixed_dictionaries(
        {"code": st.sampled_from(sorted(errors.BY_CODE)) | VALUES}, optional={"message": VALUES, "details": VALUES}
    )
    | VALUES,
    st.sampled_from([200, 400, 403, 429, 500, 503]),
)  # fmt: skip

MANY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def hostile() -> Iterator[Scripted]:
    """One scripted service for all the examples."""
    with Scripted() as server:
        yield server


@pytest.fixture(scope="module")
def caller(hostile: Scripted) -> BBREClient:
    """A client of it that repeats nothing."""
    return BBREClient(KEY, hostile.base_url, retries=0, connect_timeout=LIMIT, read_timeout=LIMIT)


def outcome(call: Callable[[BBREClient], Any], client: BBREClient) -> Any:
    """What the call gave, or its error. No frame that knows the answer's text is in the error's traceback."""
    try:
        return call(client)
    except BBREError as error:
        return error


def check(server: Scripted, client: BBREClient, endpoint: str, answer: Answer) -> Any:
    """Makes the call; whatever comes back is of the kind promised, and no error shows the key."""
    server.always(endpoint, answer)
    given = outcome(CALLS[endpoint], client)
    assert isinstance(given, GIVEN[endpoint] | BBREError)
    if isinstance(given, BBREError):
        told = traceback.TracebackException.from_exception(given, capture_locals=True)
        for text in (str(given), repr(given), repr(vars(given)), "".join(told.format())):
            assert (KEY in text) is False  # so that a failure does not print all of it
    return given


@pytest.mark.parametrize("endpoint", CALLS)
@MANY
@given(data=st.data())
def test_any_json_under_any_endpoint(hostile: Scripted, caller: BBREClient, endpoint: str, data: st.DataObject):
    """Whatever JSON a service answers, the call gives what it promises or an error of the tree."""
    answer = data.draw(VALUES | RECORDS | SHAPES[endpoint])
    check(hostile, caller, endpoint, reply(answer))


@pytest.mark.parametrize("endpoint", CALLS)
@MANY
@given(data=st.data())
def test_any_shape_that_is_nearly_right(hostile: Scripted, caller: BBREClient, endpoint: str, data: st.DataObject):
    """Known fields with values that no field should have are left out, or told as an invalid answer."""
    given = check(hostile, caller, endpoint, reply(data.draw(SHAPES[endpoint])))
    if isinstance(given, requests.Response):
        assert isinstance(given.text, str)
        assert isinstance(given.content, bytes)
        assert isinstance(repr(given), str)
        assert isinstance(dict(given.headers), dict)


@pytest.mark.parametrize("endpoint", CALLS)
@MANY
@given(failure=FAILURES)
def test_any_failure(hostile: Scripted, caller: BBREClient, endpoint: str, failure: tuple[int, Any]):
    """Whatever a service says went wrong, it is an error of the tree, or in closing a session that is gone."""
    status, answer = failure
    given = check(hostile, caller, endpoint, reply(answer, status))
    assert isinstance(given, BBREError) or (endpoint == "close" and isinstance(given, CloseResult))


@MANY
@given(content=st.binary(max_size=60), encoding=st.sampled_from(["", "gzip", "deflate", "br", "gzip, gzip", KEY]))
@example(content=gzip.compress(b'{"success": tru')[:-6], encoding="gzip")
@example(content=gzip.compress(b"\xff\xfe"), encoding="gzip")
@example(content=b'{"success": "\xed\xa0\x80"}', encoding="")
@example(content=b"\xef\xbb\xbf{}", encoding="")
@example(content="{}".encode("utf-16"), encoding="")
def test_any_bytes(hostile: Scripted, caller: BBREClient, content: bytes, encoding: str):
    """No JSON, broken UTF-8, other charsets, garbage that claims to be compressed."""
    headers = {"Content-Encoding": encoding} if encoding else {}
    check(hostile, caller, "status", raw(content, headers=headers))


@MANY
@given(length=st.sampled_from(["0", "1", "19", "21", "99999", "-1", "many", "1, 2", "", "1e3", "9" * 40]))
def test_any_content_length(hostile: Scripted, caller: BBREClient, length: str):
    """A length that is not the body's: cut off, or not of any use."""
    check(hostile, caller, "status", raw(b'{"session":{"id":"a"}}', headers={"Content-Length": length}))


@MANY
@given(answer=st.binary(max_size=80))
@example(answer=b"")
@example(answer=f"{KEY}\r\n\r\n".encode())
@example(answer=b"HTTP/1.1 200 OK\r\n")
@example(answer=b"HTTP/1.1 99999 Huge\r\n\r\n{}")
@example(answer=b"HTTP/1.1 100 Continue\r\n\r\n" * 3)
@example(answer=b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500 + b"\r\n{}")
@example(answer=b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000 + b"\r\n\r\n{}")
@example(answer=f"HTTP/1.1 200 OK\r\n: {KEY}\r\n {KEY}\r\nno colon {KEY}\r\n\r\n<".encode())
@example(answer=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}")
@example(answer=f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{KEY}\r\n".encode())
@example(answer=b"HTTP/1.1 301 Moved\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n")
@example(answer=b"HTTP/1.1 204 No Content\r\n\r\n")
@example(answer=b"SSH-2.0-OpenSSH_9.2\r\n")
def test_any_bytes_in_place_of_http(hostile: Scripted, caller: BBREClient, answer: bytes):
    """A server that does not speak HTTP, or speaks it badly."""
    assert isinstance(check(hostile, caller, "status", answer), BBREError)


def nest(inner: str, depth: int, opening: str, closing: str) -> bytes:
    return raw((opening * depth + inner + closing * depth).encode())


DEEP = {
    "lists": ("create", "[", "]", ""),
    "objects": ("status", '{"data":', "}", "{}"),
    "a failure's message": ("close", '{"success":false,"error":{"code":"X","message":', "}}", "1"),
    "a profile": ("create", '{"session":{"id":"a","profile":{"p":', "}}}", "1"),
    "a body": ("request", '{"data":{"task":{"result":{"statusCode":200,"body":', "}}}}", "1"),
    "a history": ("request", '{"data":{"task":{"result":{"statusCode":200,"history":', "}}}}", "[]"),
}


@pytest.mark.parametrize("what", DEEP)
@pytest.mark.parametrize("depth", [150, 300, 480, 500, 600, 750, 900, 960, 1000, 10_000, 60_000])
def test_any_depth(hostile: Scripted, caller: BBREClient, what: str, depth: int):
    """Nesting that is too deep for a recursion is told as an invalid answer, never as a RecursionError."""
    endpoint, head, tail, inner = DEEP[what]
    if what in ("lists", "objects"):
        answer = nest(inner, depth, head, tail)
    elif what == "a history":
        step = '[{"statusCode":302,"history":'
        answer = raw((head + step * depth + inner + "}]" * depth + tail).encode())
    else:
        answer = raw((head + "[" * depth + inner + "]" * depth + tail).encode())
    check(hostile, caller, endpoint, answer)


@pytest.mark.parametrize("endpoint", CALLS)
def test_silence(hostile: Scripted, endpoint: str):
    """A service that says nothing is waited for as long as was set, and no longer."""
    heard = threading.Event()
    hostile.always(endpoint, held(heard))
    impatient = BBREClient(KEY, hostile.base_url, retries=0, read_timeout=0.1, request_timeout=0.1)
    given = outcome(CALLS[endpoint], impatient)
    heard.set()
    assert isinstance(given, errors.LostAnswerError if endpoint == "create" else errors.TimedOutError)


@pytest.mark.parametrize("endpoint", CALLS)
def test_a_cut(hostile: Scripted, caller: BBREClient, endpoint: str):
    """A connection that ends without an answer."""
    given = check(hostile, caller, endpoint, CUT)
    assert isinstance(given, errors.LostAnswerError if endpoint == "create" else errors.ConnectionLostError)


def test_pages_that_repeat_themselves_end(hostile: Scripted, caller: BBREClient):
    """A listing that gives the same page for ever is told once."""
    page = [{"id": f"session_{number}"} for number in range(100)]
    hostile.always("list", reply({"success": True, "data": {"sessions": page, "total": 10**9}}))
    assert len(list(islice(caller.list_sessions(), 1000))) == 100


def test_a_hostile_answer_to_closing_many_is_one_result(hostile: Scripted, caller: BBREClient):
    """close_sessions raises nothing, whatever it hears."""
    hostile.answer("close", raw(b"<html>"), CUT, reply([1]), reply({"success": False}))
    results = caller.close_sessions(["a", "b", "c", "d"])
    assert [result.session_id for result in results] == ["a", "b", "c", "d"]
    assert all(isinstance(result.error, BBREError) for result in results)


def test_json_is_what_the_strategies_send():
    """The strategies make bytes that a lenient parser takes, so that the readers behind it are reached."""
    assert json.loads(reply({"x": float("nan")}).partition(b"\r\n\r\n")[2])["x"] != 0
