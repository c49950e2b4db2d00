"""BBREClient against the real engine: every endpoint, every error code, every fault.
The engine is asked what is left."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from _chromium import HAS_CHROMIUM
from _core import QUICK
from _scripted import Scripted, raw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_bbre import (
    BBREClient,
    BBRESession,
    CloseOutcome,
    CloseResult,
    SessionInfo,
    errors,
    managed_session,
    open_session,
)
from pytest_bbre.engine import Engine

ONCE = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def bbre(engine: Engine) -> Iterator[BBREClient]:
    """A client of the engine that repeats without waiting; what it leaves open is closed."""
    with BBREClient(str(engine.api_key), engine.base_url, **QUICK) as client:
        yield client
        engine.faults.clear()
        client.close_sessions(engine.sessions())


@pytest.fixture
def opened(bbre: BBREClient) -> SessionInfo:
    """An open session."""
    return bbre.create_session()


def once(engine: Engine, key: str | None = None) -> BBREClient:
    """A client that repeats nothing."""
    return BBREClient(str(key or engine.api_key), engine.base_url, retries=0, **QUICK)


CALLS: dict[str, Callable[[BBREClient, str, str], Any]] = {
    "create": lambda client, session, url: client.create_session(),
    "request": lambda client, session, url: client.request(session, "GET", url),
    "status": lambda client, session, url: client.session_status(session),
    "close": lambda client, session, url: client.close_session(session),
    "list": lambda client, session, url: list(client.list_sessions()),
}


# Every endpoint.


def test_create(bbre: BBREClient, engine: Engine):
    """Everything a session is made with, and everything the engine tells of it."""
    info = bbre.create_session(mode="passive", sensibility="high", timeout=120)
    (record,) = engine.sessions()
    assert info.id == record.id
    assert (info.mode, info.sensibility, info.timeout, info.status) == ("passive", "high", 120, "active")
    assert info.created_at is not None
    assert info.expires_at is not None
    assert (info.expires_at - info.created_at).total_seconds() == pytest.approx(120, abs=1)
    assert info.profile["userAgent"]


def test_request(bbre: BBREClient, opened: SessionInfo, target: Any):
    """A real response of a real target."""
    response = bbre.request(opened, "POST", target.url("/echo"), json={"a": 1})
    assert type(response) is requests.Response
    assert (response.status_code, response.reason, response.url) == (200, "OK", target.url("/echo"))
    assert json.loads(b64decode(response.json()["body"])) == {"a": 1}


def test_status(bbre: BBREClient, opened: SessionInfo, target: Any):
    """Active, with its requests counted; closed after closing."""
    bbre.request(opened, "GET", target.url("/echo"))
    status = bbre.session_status(opened)
    assert (status.id, status.status, status.mode, status.request_count) == (opened.id, "active", opened.mode, 1)
    bbre.close_session(opened)
    assert bbre.session_status(opened.id).status == "closed"


def test_close(bbre: BBREClient, opened: SessionInfo, engine: Engine):
    """Closed, then already closed; nothing is active."""
    assert bbre.close_session(opened) == CloseResult(opened.id, CloseOutcome.CLOSED)
    assert bbre.close_session(opened) == CloseResult(opened.id, CloseOutcome.ALREADY_CLOSED)
    assert bbre.close_session("session_unknown") == CloseResult("session_unknown", CloseOutcome.NOT_FOUND)
    assert engine.sessions() == []


def test_list(bbre: BBREClient, engine: Engine):
    """All sessions, newest first, over pages; those of one status."""
    made = [bbre.create_session().id for _ in range(7)]
    bbre.close_sessions(made[:3])
    assert [info.id for info in bbre.list_sessions(page_size=2)] == made[::-1]
    assert [info.id for info in bbre.list_sessions("active", page_size=3)] == made[:2:-1]
    assert [info.id for info in bbre.list_sessions("closed")] == made[2::-1]
    assert all(info.closed_at for info in bbre.list_sessions("closed"))


def test_close_many(bbre: BBREClient, engine: Engine):
    """One result per id, in order; nothing is active."""
    made = [bbre.create_session() for _ in range(9)]
    results = bbre.close_sessions([made[0], "session_unknown", *made])
    assert [result.session_id for result in results] == [made[0].id, "session_unknown", *[one.id for one in made]]
    assert all(results)
    assert engine.sessions() == []


# Every error code.


def test_an_eleventh_session(bbre: BBREClient, engine: Engine):
    """The limit is told with the ways to free one; the ten are not touched; a freed slot is free at once."""
    made = [bbre.create_session() for _ in range(10)]
    with pytest.raises(errors.SessionLimitReachedError, match="`bbre close ID`") as caught:
        bbre.create_session()
    assert (caught.value.code, caught.value.status) == ("SESSION_LIMIT_REACHED", 429)
    assert len(engine.sessions()) == 10
    bbre.close_session(made[0])
    bbre.create_session()


@pytest.mark.parametrize("endpoint", CALLS)
@pytest.mark.parametrize(
    ("state", "kind", "code", "status"),
    [
        (None, errors.InvalidApiKeyError, "INVALID_API_KEY", 403),
        ("suspended", errors.AccountSuspendedError, "ACCOUNT_SUSPENDED", 403),
        ("inactive", errors.AccountInactiveError, "ACCOUNT_INACTIVE", 403),
    ],
)
def test_accounts_that_may_not(
    engine: Engine, endpoint: str, state: str | None, kind: type[errors.BBREError], code: str, status: int
):
    """A wrong key, a suspended and an inactive account: told at every endpoint, at once, with the remedy."""
    key = "no-such-key" if state is None else engine.add_account(state)
    calls = engine.calls(endpoint)
    with BBREClient(str(key), engine.base_url, **QUICK) as client, pytest.raises(kind) as caught:
        CALLS[endpoint](client, "session_1", "http://target.example/")
    assert (caught.value.code, caught.value.status) == (code, status)
    assert caught.value.remedy in str(caught.value)
    assert str(key) not in str(caught.value)
    assert engine.calls(endpoint) == calls + 1
    assert engine.sessions() == []


def test_no_key_at_all(engine: Engine):
    """Refused here; and the engine's own refusal is read as the same class."""
    with pytest.raises(errors.ApiKeyRequiredError, match="BBRE_API_KEY"):
        BBREClient(base_url=engine.base_url)
    answer = requests.post(f"{engine.base_url}/session/status", json={"sessionId": "x"}, timeout=10)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "API_KEY_REQUIRED")


@pytest.mark.parametrize("endpoint", ["request", "status", "close"])
def test_sessions_of_another_account(bbre: BBREClient, opened: SessionInfo, engine: Engine, target: Any, endpoint: str):
    """They are not found, not seen, not touched; the message names the key and the id."""
    other = once(engine, engine.add_account())
    if endpoint == "close":
        assert other.close_session(opened).outcome is CloseOutcome.NOT_FOUND
    else:
        with pytest.raises(errors.SessionNotFoundError, match="the API key is of the account that opened"):
            CALLS[endpoint](other, opened.id, target.url("/echo"))
    assert list(other.list_sessions()) == []
    assert bbre.session_status(opened).status == "active"
    assert [one.id for one in engine.sessions()] == [opened.id]


def test_use_after_close(bbre: BBREClient, opened: SessionInfo, engine: Engine, target: Any):
    """A closed session can't be used; the error names it and the remedy."""
    bbre.close_session(opened)
    with pytest.raises(errors.SessionClosedError, match=f"{opened.id}.*open a new one"):
        bbre.request(opened, "GET", target.url("/echo"))


def test_use_after_expiry(bbre: BBREClient, engine: Engine, target: Any):
    """An expired session can't be used, holds no slot, and is closed without complaint."""
    expired = bbre.create_session(timeout=0.05)
    give_up = time.monotonic() + 10
    while engine.sessions() and time.monotonic() < give_up:
        time.sleep(0.01)
    with pytest.raises(errors.SessionExpiredError, match=f"{expired.id}.*longer timeout="):
        bbre.request(expired, "GET", target.url("/echo"))
    assert bbre.session_status(expired).status == "expired"
    assert bbre.close_session(expired).success
    assert engine.sessions() == []


@pytest.mark.parametrize("code", sorted(errors.BY_CODE))
@pytest.mark.parametrize("endpoint", CALLS)
def test_every_code_at_every_endpoint(engine: Engine, opened: SessionInfo, target: Any, endpoint: str, code: str):
    """Each becomes its class, with status and message; in closing, closed and not found are success."""
    engine.faults.fail(endpoint, code=code, message="Said the engine.", retry_after=3)
    client = once(engine)
    if endpoint == "close" and code in ("SESSION_CLOSED", "SESSION_NOT_FOUND"):
        assert client.close_session(opened).success
        return
    with pytest.raises(errors.BBREError) as caught:
        CALLS[endpoint](client, opened.id, target.url("/echo"))
    error = caught.value
    assert type(error) is errors.BY_CODE[code]
    assert (error.code, error.message, error.retry_after) == (code, "Said the engine.", 3.0)
    assert error.session_id == (None if endpoint in ("create", "list") else opened.id)
    assert [one.id for one in engine.sessions()] == [opened.id]


def test_both_modes_can_be_opened(bbre: BBREClient, engine: Engine):
    """The mode asked for is the mode that the service keeps, whatever the default."""
    opened = {mode: bbre.create_session(mode=mode).id for mode in ("passive", "adaptive")[: 1 + HAS_CHROMIUM]}
    assert {one.mode: one.id for one in engine.sessions()} == opened


@pytest.mark.parametrize(
    ("path", "options", "kind"),
    [
        ("/drop", {}, errors.TargetError),
        ("/slow/5", {"timeout": 0.1}, errors.TargetTimeoutError),
        ("/redirect/40", {}, errors.TooManyRedirectsError),
    ],
)
def test_targets_that_give_no_answer(
    bbre: BBREClient,
    opened: SessionInfo,
    target: Any,
    path: str,
    options: dict[str, Any],
    kind: type[errors.TargetError],
):
    """The session is well: the next request works."""
    with pytest.raises(kind) as caught:
        bbre.request(opened, "GET", target.url(path), **options)
    assert caught.value.remedy in str(caught.value)
    assert bbre.request(opened, "GET", target.url("/echo")).ok


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://nowhere.invalid/"])
def test_targets_that_are_not_there(bbre: BBREClient, opened: SessionInfo, url: str):
    """Unreachable, as an error of the target, not of the service."""
    with pytest.raises(errors.TargetUnreachableError, match="reachable from where the sessions run"):
        bbre.request(opened, "GET", url)
    assert bbre.session_status(opened).status == "active"


# Every fault.


@pytest.mark.parametrize("fault", ["fail", "cut", "garbage", "lose_answer", "half_answer"])
@pytest.mark.parametrize("endpoint", ["status", "list"])
def test_a_passing_fault_of_what_is_safe_is_not_noticed(
    bbre: BBREClient, engine: Engine, opened: SessionInfo, endpoint: str, fault: str
):
    """Repeated until it works; a whole web page in place of an answer is final."""
    getattr(engine.faults, fault)(endpoint)
    if fault == "garbage":
        with pytest.raises(errors.InvalidAnswerError, match="BBRE_BASE_URL"):
            CALLS[endpoint](bbre, opened.id, "")
        assert engine.calls(endpoint) == 1
    else:
        CALLS[endpoint](bbre, opened.id, "")
        assert engine.calls(endpoint) == 2


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [("fail", "CLOSED"), ("cut", "CLOSED"), ("lose_answer", "ALREADY_CLOSED"), ("half_answer", "ALREADY_CLOSED")],
)
def test_a_fault_of_close_is_not_noticed(
    bbre: BBREClient, engine: Engine, opened: SessionInfo, fault: str, outcome: str
):
    """Where the first attempt had worked, the second hears that it is closed: success."""
    getattr(engine.faults, fault)("close")
    assert bbre.close_session(opened).outcome is CloseOutcome[outcome]
    assert engine.calls("close") == 2
    assert engine.sessions() == []


@pytest.mark.parametrize(
    ("fault", "kind", "active"),
    [
        ("fail", errors.ServiceError, 0),
        ("cut", errors.LostAnswerError, 0),
        ("garbage", errors.InvalidAnswerError, 0),
        ("lose_answer", errors.LostAnswerError, 1),
        ("half_answer", errors.LostAnswerError, 1),
    ],
)
def test_create_is_sent_once_whatever_becomes_of_it(
    bbre: BBREClient, engine: Engine, fault: str, kind: type[errors.BBREError], active: int
):
    """Where a session may exist, the error says so and how to find it; the listing shows it."""
    getattr(engine.faults, fault)("create")
    with pytest.raises(kind) as caught:
        bbre.create_session()
    assert engine.calls("create") == 1
    assert len(list(bbre.list_sessions("active"))) == active
    if kind is errors.LostAnswerError:
        assert "`bbre sessions`" in str(caught.value)


@pytest.mark.parametrize("fault", ["cut", "lose_answer", "half_answer"])
@pytest.mark.parametrize("idempotent", [False, True])
def test_a_request_is_sent_once_unless_it_may_be_repeated(
    bbre: BBREClient, engine: Engine, opened: SessionInfo, target: Any, fault: str, idempotent: bool
):
    """The caller alone knows whether the target minds."""
    getattr(engine.faults, fault)("request")
    if idempotent:
        assert bbre.request(opened, "GET", target.url("/echo"), idempotent=True).ok
    else:
        with pytest.raises(errors.BBREError):
            bbre.request(opened, "GET", target.url("/echo"))
    assert engine.calls("request") == (2 if idempotent else 1)


@pytest.mark.parametrize("endpoint", CALLS)
def test_a_hang_ends_with_the_time_limit(engine: Engine, opened: SessionInfo, target: Any, endpoint: str):
    """No call waits longer than the settings say."""
    engine.faults.hang(endpoint, 5)
    hasty = BBREClient(str(engine.api_key), engine.base_url, retries=0, read_timeout=0.1, request_timeout=0.1)
    with pytest.raises(errors.LostAnswerError if endpoint == "create" else errors.TimedOutError):
        CALLS[endpoint](hasty, opened.id, target.url("/echo"))


def test_a_delay_is_waited_for(bbre: BBREClient, engine: Engine):
    """A slow service is not a broken one."""
    engine.faults.delay("create", 0.05)
    assert bbre.create_session().id


# Requests, compared with what requests itself does with the same target.


def sent(response: requests.Response) -> dict[str, Any]:
    """What the target saw; without what belongs to the connection or names the client."""
    seen = response.json()
    own = {"host", "connection", "user-agent", "accept-encoding", "accept-language"}
    headers = [(name.lower(), value) for name, value in seen["headers"] if name.lower() not in own]
    seen["headers"] = sorted(one for one in headers if one != ("content-length", "0"))  # no body, said or not
    return seen


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"params": {"a": ["1", "ü &"], "b": None, "c": ""}},
        {"params": "raw=%2F&x"},
        {"data": {"a": ["1", "2"], "b": "ü &="}},
        {"data": "text ü"},
        {"data": b"\x00\xff\r\n"},
        {"data": b""},
        {"json": {"a": [1, None, True, "ü"], "b": {"c": 1.5}}},
        {"json": [1, "two"]},
        {"json": "text"},
        {"json": {}},
        {"headers": {"X-One": "1", "Accept": "text/plain", "X-None": None, "x-empty": ""}},
        {"headers": {"Content-Type": "text/csv; charset=utf-8"}, "data": "a;ü"},
        {"headers": {"Content-Type": "application/vnd.api+json"}, "json": {"a": 1}},
        {"cookies": {"a": "1", "b": "two"}},
        {"auth": ("user", "pass word")},
        {"timeout": (5, 5)},
        {"timeout": 5, "verify": False, "allow_redirects": True},
    ],
    ids=lambda options: json.dumps(options, default=repr),
)
def test_the_target_sees_what_requests_would_send(
    bbre: BBREClient, opened: SessionInfo, target: Any, method: str, options: dict[str, Any]
):
    """Method, address, query, headers and body are the same, byte for byte."""
    url = target.url("/echo?q=%20x&q=2")
    own = requests.Session().request(method, url, **{"timeout": 5, **options})
    assert sent(bbre.request(opened, method, url, **options)) == sent(own)


@ONCE
@given(body=st.binary(max_size=300))
def test_any_bytes_survive_through_engine_and_target(bbre: BBREClient, opened: SessionInfo, target: Any, body: bytes):
    """What the target saw is what was given, byte for byte."""
    echoed = bbre.request(opened, "POST", target.url("/echo"), data=body).json()
    assert b64decode(echoed["body"]) == body


@pytest.mark.parametrize("path", ["/bytes/0", "/bytes/1000", "/stream/300000", "/gzip", "/deflate", "/latin1", "/html"])
def test_what_comes_back_is_what_requests_would_give(bbre: BBREClient, opened: SessionInfo, target: Any, path: str):
    """Content is the same byte for byte, and the text is the same text."""
    own = requests.get(target.url(path), timeout=5)
    response = bbre.request(opened, "GET", target.url(path))
    assert response.content == own.content
    assert (response.status_code, response.reason, response.url) == (own.status_code, own.reason, own.url)
    assert response.headers["Content-Type"] == own.headers["Content-Type"]
    if path in ("/latin1", "/html", "/gzip"):
        assert response.text == own.text


@pytest.mark.parametrize("body", ["Grüße".encode(), "Grüße".encode("latin-1"), b"plain", b'{"a": "b"}', b""], ids=repr)
@pytest.mark.parametrize(
    "head",
    [
        "200 OK\r\nContent-Type: text/html",
        "200 OK\r\nContent-Type: text/plain",
        "200 OK\r\nContent-Type: text/xml",
        "200 OK\r\nContent-Type: application/json",
        "200 OK\r\nContent-Type: text/plain; charset=utf-8",
        "404 Not Found\r\nContent-Type: text/html",
        "200 OK\r\nX-No-Content-Type: 1",
        "204 No Content\r\nX-No-Content-Type: 1",
    ],
)
def test_the_encoding_is_the_one_that_requests_would_choose(
    bbre: BBREClient, opened: SessionInfo, head: str, body: bytes
):
    """Also where the target names no charset, no content type, or has no content: encoding and text are the same."""
    body = b"" if head.startswith("204") else body
    with Scripted() as page:
        answer = f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        page.always("/page", answer if body else answer.replace(b"Content-Length: 0\r\n", b"Connection: close\r\n"))
        own = requests.get(f"{page.base_url}/page", timeout=5)
        response = bbre.request(opened, "GET", f"{page.base_url}/page")
    assert response.content == own.content == body
    assert response.headers.get("Content-Type") == own.headers.get("Content-Type")
    assert response.encoding == own.encoding
    assert response.apparent_encoding == own.apparent_encoding
    assert response.text == own.text


def test_repeated_headers_are_kept(bbre: BBREClient, opened: SessionInfo, target: Any):
    """As requests keeps them."""
    response = bbre.request(opened, "GET", target.url("/repeated"))
    assert response.raw.headers.getlist("X-Twice") == ["one", "two"]
    assert response.headers["x-twice"] == "one, two"


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_as_requests_follows_them(
    bbre: BBREClient, opened: SessionInfo, target: Any, method: str, status: int
):
    """Method, history, addresses, and whether the body goes along."""
    url = target.url(f"/redirect/3?status={status}")
    options = {"data": b"body"} if method == "POST" else {"allow_redirects": True}
    own = requests.request(method, url, timeout=5, **options)  # type: ignore[arg-type]
    response = bbre.request(opened, method, url, **options)

    def trail(one: requests.Response) -> list[Any]:
        return [(step.status_code, step.url, step.request.method) for step in (*one.history, one)]

    assert trail(response) == trail(own)
    if method != "HEAD":
        assert (response.json()["method"], response.json()["body"]) == (own.json()["method"], own.json()["body"])


def test_a_redirect_that_is_not_to_be_followed(bbre: BBREClient, opened: SessionInfo, target: Any):
    """allow_redirects=False shows the first answer."""
    response = bbre.request(opened, "GET", target.url("/redirect/1"), allow_redirects=False)
    assert (response.status_code, response.history, response.is_redirect) == (302, [], True)


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize(
    "path",
    ["/redirect/1", "/redirect/2?status=301", "/redirect/1?status=303", "/redirect/1?status=307",
     "/redirect/1?status=308", "/redirect-to?url=http://other.example/a%3Fb=%25C3%25BC", "/redirect-to?url=../up#part",
     "/echo", "/status/404", "/status/204", "/status/304"],
)  # fmt: skip
def test_the_next_request_is_the_one_that_requests_would_send(
    bbre: BBREClient, opened: SessionInfo, target: Any, method: str, path: str
):
    """After allow_redirects=False; None where there is no redirect."""
    data = b"body" if method == "POST" else None
    own = requests.request(method, target.url(path), data=data, allow_redirects=False, timeout=5).next
    given = bbre.request(opened, method, target.url(path), data=data, allow_redirects=False).next
    assert (own is not None) is path.startswith("/redirect")
    assert [given and given.method, given and given.url] == [own and own.method, own and own.url]
    assert (given and given.body) == (own and own.body)


def test_there_is_no_next_request_where_redirects_were_followed(bbre: BBREClient, opened: SessionInfo, target: Any):
    """As in requests."""
    assert bbre.request(opened, "GET", target.url("/redirect/2")).next is None


@pytest.mark.parametrize("twin", ["", "a"], ids=["sync", "async"])
@pytest.mark.parametrize(
    ("verb", "positional"),
    [
        ("get", ({"q": 1},)),
        ("post", ({"a": 1},)),
        ("post", (None, {"a": 1})),
        ("put", (b"x",)),
        ("patch", (b"x",)),
        ("request", ({"q": 1}, b"x", {"X-One": "1"}, {"cookie": "c"}, None, ("user", "pass"))),
    ],
    ids=repr,
)
def test_positional_arguments_mean_what_they_mean_to_requests(
    default_settings: Any, target: Any, twin: str, verb: str, positional: tuple[Any, ...]
):
    """The target sees the same request, from a verb and from its async twin."""
    place = ("POST", target.url("/echo")) if verb == "request" else (target.url("/echo"),)
    with open_session() as session, requests.Session() as own:
        response = getattr(session, twin + verb)(*place, *positional)
        if twin:
            response = asyncio.run(response)
        by = requests if verb == "get" else own  # whose get took no second argument until lately
        assert sent(response) == sent(getattr(by, verb)(*place, *positional))


def test_positional_arguments_of_a_client(bbre: BBREClient, opened: SessionInfo, target: Any):
    """They follow the session's id."""
    response = bbre.request(opened.id, "GET", target.url("/echo"), {"q": 1})
    assert sent(response) == sent(requests.get(target.url("/echo"), {"q": 1}, timeout=5))


def test_cookies_stay_in_the_session_and_nowhere_else(bbre: BBREClient, opened: SessionInfo, target: Any):
    """What the target set is sent with the next request, merged with the request's own; another session has none."""
    response = bbre.request(opened, "GET", target.url("/set-cookie?h=a=1;%20Path=/&h=b=2;%20Path=/"))
    assert response.cookies.get_dict() == {"a": "1", "b": "2"}
    merged = bbre.request(opened, "GET", target.url("/cookies"), cookies={"c": "3"}).json()["cookie"]
    assert sorted(merged.split("; ")) == ["a=1", "b=2", "c=3"]
    other = bbre.create_session()
    assert bbre.request(other, "GET", target.url("/cookies")).json()["cookie"] is None


def test_a_cookie_header_of_one_s_own_is_sent(bbre: BBREClient, opened: SessionInfo, target: Any):
    """As it is given, as requests sends it."""
    headers = {"Cookie": "a=1; b=two"}
    assert bbre.request(opened, "GET", target.url("/cookies"), headers=headers).json()["cookie"] == "a=1; b=two"


def test_a_proxy_is_used_for_the_request(bbre: BBREClient, opened: SessionInfo):
    """proxies= says by which proxy the target is reached."""
    with Scripted() as proxy:
        proxy.always("http://target.example/", raw(b"by proxy", headers={"Content-Type": "text/plain"}))
        response = bbre.request(opened, "GET", "http://target.example/", proxies={"http": proxy.base_url})
    assert response.text == "by proxy"


def test_a_certificate_that_nobody_trusts(bbre: BBREClient, opened: SessionInfo, tls_target: Any):
    """Refused by default, as an error of the target; accepted with verify=False."""
    with pytest.raises(errors.TargetUnreachableError):
        bbre.request(opened, "GET", tls_target.url("/echo"))
    assert bbre.request(opened, "GET", tls_target.url("/echo"), verify=False).ok


def test_an_error_status_is_a_response(bbre: BBREClient, opened: SessionInfo, target: Any):
    """raise_for_status raises what requests raises."""
    response = bbre.request(opened, "GET", target.url("/status/404"))
    assert (response.status_code, response.ok) == (404, False)
    with pytest.raises(requests.HTTPError, match="404 Client Error: Not Found"):
        response.raise_for_status()


@pytest.mark.parametrize(("credentials", "status"), [(("ada", "secret"), 200), (("ada", "wrong"), 401), (None, 401)])
def test_basic_credentials(bbre: BBREClient, opened: SessionInfo, target: Any, credentials: Any, status: int):
    """They reach the target as requests' own do."""
    assert bbre.request(opened, "GET", target.url("/basic-auth/ada/secret"), auth=credentials).status_code == status


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"cookies": "a=b"}, errors.UnsupportedOptionError),
        ({"proxies": "foo"}, errors.UnsupportedOptionError),
        ({"url": "no url"}, errors.InvalidURLError),
        ({"url": "ftp://t/"}, errors.InvalidURLError),
        ({"files": {"a": b"x"}}, errors.UnsupportedOptionError),
        ({"stream": True}, errors.UnsupportedOptionError),
        ({"cert": "a.pem"}, errors.UnsupportedOptionError),
        ({"hooks": {"response": print}}, errors.UnsupportedOptionError),
        ({"headers": {"A": "b\r\nc"}}, errors.UnsupportedOptionError),
    ],
    ids=repr,
)
def test_bad_requests_are_refused_before_anything_is_sent(
    bbre: BBREClient,
    opened: SessionInfo,
    engine: Engine,
    target: Any,
    options: dict[str, Any],
    kind: type[errors.BBREError],
):
    """By a message that names what is refused. The session is as it was."""
    ((name, value),) = options.items()
    with pytest.raises(kind, match=value if name == "url" else name[:-1]):
        bbre.request(opened, "GET", **{"url": target.url("/echo"), **options})
    assert engine.calls("request") == 0
    assert [one.id for one in engine.sessions()] == [opened.id]


# The handle.


def test_a_handle_s_use_after_close_and_after_expiry(default_settings: Any, engine: Engine, target: Any):
    """Told by the handle without asking the service, and by the service where only it can know."""
    session: BBRESession = open_session()
    assert session.get(target.url("/echo")).ok
    session.close()
    with pytest.raises(errors.UseAfterCloseError, match=f"{session.id}.*open a new one"):
        session.get(target.url("/echo"))
    assert engine.calls("request") == 1
    short = open_session(timeout=0.05)
    give_up = time.monotonic() + 10
    while engine.sessions() and time.monotonic() < give_up:
        time.sleep(0.01)
    assert not short.is_active
    with pytest.raises(errors.SessionExpiredError):
        short.get(target.url("/echo"))
    assert short.close().success


# As requests has it.


def test_arguments_may_stand_where_requests_has_them(bbre: BBREClient, engine: Engine, target: Any):
    """Query, body and JSON by position; one that is given twice is a TypeError."""
    with managed_session(client=bbre) as session:
        echo = f"{target.base_url}/echo"
        assert session.get(echo, {"q": "1"}).url == f"{echo}?q=1"
        assert session.request("GET", echo, {"q": "2"}).url == f"{echo}?q=2"
        assert bbre.request(session.id, "GET", echo, {"q": "3"}).url == f"{echo}?q=3"
        assert session.post(echo, {"a": "1"}).request.body == "a=1"
        assert session.post(echo, None, {"a": 1}).request.body == b'{"a": 1}'
        assert session.put(echo, b"x").request.body == session.patch(echo, b"x").request.body == b"x"
        with pytest.raises(TypeError, match="params: given by place and by name"):
            session.request("GET", echo, {"q": "1"}, params={"q": "2"})
    assert engine.sessions() == []


@pytest.mark.parametrize("path", ["/latin1", "/html", "/bytes/16", "/status/204", "/echo", "/gzip", "/redirect/1"])
def test_encoding_text_and_next_are_those_of_requests(bbre: BBREClient, opened: SessionInfo, target: Any, path: str):
    """Whatever charset a target names, or does not; and a redirect that nobody followed tells the next request."""
    url = target.base_url + path
    ours = bbre.request(opened.id, "GET", url, allow_redirects=False)
    theirs = requests.get(url, allow_redirects=False, timeout=20)
    assert (ours.status_code, ours.encoding) == (theirs.status_code, theirs.encoding)
    assert (ours.next and ours.next.url) == (theirs.next and theirs.next.url)
    if path != "/echo":  # which tells of the request, and theirs has other headers
        assert ours.text == theirs.text


def test_one_id_is_not_many(bbre: BBREClient, opened: SessionInfo, engine: Engine):
    """A single id given to close_sessions is one session, not its letters."""
    (result,) = bbre.close_sessions(opened.id)
    assert (result.session_id, result.success) == (opened.id, True)
    assert engine.sessions() == []
