"""The wire contract, fact by fact, asked of the embedded engine over raw HTTP."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
import requests

from pytest_bbre import _wire
from pytest_bbre.engine import Engine

LIMIT = 30  # seconds until a test gives up
CREATE, REQUEST, STATUS, CLOSE, LIST = (_wire.PATHS[name] for name in ("create", "request", "status", "close", "list"))


@pytest.fixture
def running() -> Iterator[Engine]:
    """An engine of the test's own."""
    with Engine(in_process=True) as engine:
        yield engine


Post = Callable[..., requests.Response]


@pytest.fixture
def post(running: Engine) -> Post:
    """Sends what it is given, with the key of the first account or another."""

    def send(path: str, body: Any = None, *, key: str | None = None, header: str = "x-api-key") -> requests.Response:
        headers = {header: str(key or running.api_key)}
        return requests.post(running.base_url + path, json={} if body is None else body, headers=headers, timeout=LIMIT)

    return send


def failed(answer: requests.Response, status: int, code: str) -> dict[str, Any]:
    """The error of an answer that has to be this failure, in the form that the contract states."""
    told = answer.json()
    assert (answer.status_code, told["error"]["code"]) == (status, code)
    assert (told["success"], told["service"], set(told)) == (
        False, "MyDisct Solver BBRE", {"success", "service", "error"},
    )  # fmt: skip
    assert set(told["error"]) <= {"code", "message", "details"}
    assert told["error"]["message"]
    assert answer.headers["Content-Type"].startswith("application/json")
    return dict(told["error"])


def succeeded(answer: requests.Response) -> dict[str, Any]:
    """An answer that has to be a success."""
    told = answer.json()
    assert (answer.status_code, told["success"], told["service"]) == (200, True, "MyDisct Solver BBRE")
    return dict(told)


def create(post: Post, **fields: Any) -> dict[str, Any]:
    return dict(succeeded(post(CREATE, {"mode": "passive", **fields}))["session"])


def test_create_answers_the_session_at_the_top_level() -> None:
    """The vendor's own example: mode, sensibility and timeout in, `session.id` out, with expiry and profile."""
    with Engine(in_process=True) as engine:
        fields = {"mode": "passive", "sensibility": "medium", "timeout": 300}
        headers = {"Content-Type": "application/json", "apikey": str(engine.api_key)}
        told = requests.post(engine.base_url + CREATE, json=fields, headers=headers, timeout=LIMIT).json()
    session = told["session"]
    assert "data" not in told
    assert re.fullmatch(r"session_\w{16,}", session["id"])
    assert {name: session[name] for name in fields} == fields
    assert session["status"] == "active"
    created, expires = (
        datetime.fromisoformat(session[name].replace("Z", "+00:00")) for name in ("createdAt", "expiresAt")
    )
    assert expires - created == timedelta(seconds=300)
    assert "pytest-bbre" in session["profile"]["userAgent"]
    assert session["profile"]["languages"]


def test_request_answers_status_and_body(post: Post, target: Any) -> None:
    """`data.task.result.statusCode` and `.body`; an object as the body arrives as JSON."""
    fields = {"sessionId": create(post)["id"], "url": target.url("/echo"), "method": "POST", "body": {"a": 1}}
    result = succeeded(post(REQUEST, fields))["data"]["task"]["result"]
    assert result["statusCode"] == 200
    assert '"method": "POST"' in result["body"]
    assert "eyJhIjogMX0=" in result["body"]


def test_cookies_and_counter_belong_to_the_session(post: Post, target: Any) -> None:
    """What the target sets comes back in the next request; the counter counts both."""
    session = create(post)["id"]
    post(REQUEST, {"sessionId": session, "url": target.url("/set-cookie?h=a%3D1%3B+Path%3D/")})
    told = post(REQUEST, {"sessionId": session, "url": target.url("/cookies")}).json()
    assert told["data"]["task"]["result"]["body"] == '{"cookie": "a=1"}'
    assert succeeded(post(STATUS, {"sessionId": session}))["data"]["session"]["requestCount"] == 2
    fresh = create(post)["id"]
    told = post(REQUEST, {"sessionId": fresh, "url": target.url("/cookies")}).json()
    assert told["data"]["task"]["result"]["body"] == '{"cookie": null}'


def test_close_answers_exactly_what_is_stated(post: Post) -> None:
    """`{"id", "status": "closed"}` under data.session, then SESSION_CLOSED for ever."""
    session = create(post)["id"]
    told = succeeded(post(CLOSE, {"sessionId": session}))
    assert told["data"] == {"session": {"id": session, "status": "closed"}}
    for _ in range(2):
        assert failed(post(CLOSE, {"sessionId": session}), 400, "SESSION_CLOSED")["message"] == (
            "Session is already closed."
        )


def test_a_closed_session_takes_no_requests_and_tells_that_it_is_closed(post: Post, target: Any) -> None:
    """It can't be reopened; its record stays."""
    session = create(post)["id"]
    post(CLOSE, {"sessionId": session})
    failed(post(REQUEST, {"sessionId": session, "url": target.url("/echo")}), 400, "SESSION_CLOSED")
    record = succeeded(post(STATUS, {"sessionId": session}))["data"]["session"]
    assert (record["status"], "closedAt" in record) == ("closed", True)


def test_status_tells_all_that_is_public(post: Post) -> None:
    """Mode, sensibility, number of requests, amount charged, expiry and creation."""
    session = create(post, sensibility="high", timeout=60)
    record = succeeded(post(STATUS, {"sessionId": session["id"]}))["data"]["session"]
    wanted = {"status": "active", "mode": "passive", "sensibility": "high", "requestCount": 0, "totalCharged": 0}
    assert {name: record[name] for name in wanted} == wanted
    assert (record["createdAt"], record["expiresAt"]) == (session["createdAt"], session["expiresAt"])


def test_listing_is_newest_first_in_pages_of_one_status(post: Post) -> None:
    """Each record holds the fields of status, and when it was closed."""
    ids = [create(post)["id"] for _ in range(5)]
    post(CLOSE, {"sessionId": ids[1]})
    data = succeeded(post(LIST))["data"]
    assert [one["id"] for one in data["sessions"]] == ids[::-1]
    assert (data["total"], data["offset"]) == (5, 0)
    data = succeeded(post(LIST, {"limit": 2, "offset": 1}))["data"]
    assert ([one["id"] for one in data["sessions"]], data["total"]) == ([ids[3], ids[2]], 5)
    (closed,) = succeeded(post(LIST, {"status": "closed"}))["data"]["sessions"]
    assert (closed["id"], closed["status"], "closedAt" in closed) == (ids[1], "closed", True)
    assert succeeded(post(LIST, {"status": "expired"}))["data"]["sessions"] == []
    assert succeeded(post(LIST, {"offset": 99}))["data"]["sessions"] == []


@pytest.mark.parametrize("path", _wire.PATHS.values())
@pytest.mark.parametrize("header", ["x-api-key", "apikey", "X-API-Key", "ApiKey"])
def test_both_key_headers_are_equal(post: Post, path: str, header: str) -> None:
    """Either name lets in, on every endpoint."""
    assert post(path, header=header).status_code not in (401, 403)


@pytest.mark.parametrize("path", _wire.PATHS.values())
def test_who_asks_comes_before_what_is_asked(running: Engine, post: Post, path: str) -> None:
    """No key, a wrong one, a suspended and an inactive account, on every endpoint and for nonsense too."""
    failed(requests.post(running.base_url + path, data=b"{", timeout=LIMIT), 401, "API_KEY_REQUIRED")
    failed(requests.post(running.base_url + path, headers={"apikey": ""}, timeout=LIMIT), 401, "API_KEY_REQUIRED")
    failed(post(path, key="wrong"), 403, "INVALID_API_KEY")
    failed(post(path, key=str(running.api_key) + "x"), 403, "INVALID_API_KEY")
    failed(post(path, key=running.add_account("suspended")), 403, "ACCOUNT_SUSPENDED")
    failed(post(path, key=running.add_account("inactive")), 403, "ACCOUNT_INACTIVE")


@pytest.mark.parametrize("path", [REQUEST, STATUS, CLOSE])
@pytest.mark.parametrize("body", [{}, {"sessionId": ""}, {"sessionId": None}, {"session_id": "session_x"}])
def test_a_missing_id_is_answered_before_the_look_up(post: Post, path: str, body: dict[str, Any]) -> None:
    """With the stated message and hint."""
    error = failed(post(path, body), 400, "SESSION_ID_REQUIRED")
    assert error["message"] == "Session ID is required."
    assert error["details"] == {"hint": "Session ID is returned when you create a session"}


def test_validation_comes_before_the_look_up(post: Post) -> None:
    """A bad field is named although the session does not exist."""
    failed(post(CLOSE, {"sessionId": 5}), 400, "VALIDATION_ERROR")
    error = failed(post(REQUEST, {"sessionId": "session_x", "url": "nonsense"}), 400, "VALIDATION_ERROR")
    assert "url is 'nonsense'" in error["message"]


@pytest.mark.parametrize("path", [REQUEST, STATUS, CLOSE])
def test_a_session_that_is_not_the_accounts_is_not_found(running: Engine, post: Post, path: str, target: Any) -> None:
    """A wrong id and another account's are told apart by nothing."""
    theirs = create(post)["id"]
    other = running.add_account()
    for session in ("session_unknown", theirs):
        error = failed(
            post(path, {"sessionId": session, "url": target.url("/echo")}, key=other), 404, "SESSION_NOT_FOUND"
        )
        assert error["message"] == "Session not found."
    assert [one.id for one in running.sessions()] == [theirs]
    assert succeeded(post(LIST, key=other))["data"]["total"] == 0


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"mode": "active"}, "mode is 'active'; allowed are passive, adaptive"),
        ({"mode": 1}, "mode is 1"),
        ({"sensibility": "extreme"}, "sensibility is 'extreme'; allowed are low, medium, high"),
        ({"timeout": 0}, "timeout is 0"),
        ({"timeout": -5}, "timeout is -5"),
        ({"timeout": "300"}, "timeout is '300'"),
        ({"timeout": True}, "timeout is True"),
        ({"timeout": 300_000}, "at most 86400"),
        ({"proxy": "nonsense"}, "proxy can't be used"),
    ],
)
def test_create_names_the_field_that_it_refuses(
    running: Engine, post: Post, fields: dict[str, Any], named: str
) -> None:
    """The name, the value and what is allowed; no slot is taken."""
    assert named in failed(post(CREATE, fields), 400, "VALIDATION_ERROR")["message"]
    assert running.sessions() == []


@pytest.mark.parametrize("fields", [{"limit": 0}, {"limit": 5000}, {"offset": -1}, {"status": "open"}, {"limit": "9"}])
def test_listing_names_the_field_that_it_refuses(post: Post, fields: dict[str, Any]) -> None:
    """The name and the value."""
    (name, value), *_ = fields.items()
    assert f"{name} is {value!r}" in failed(post(LIST, fields), 400, "VALIDATION_ERROR")["message"]


def test_the_eleventh_session_is_refused_until_one_is_closed(running: Engine, post: Post) -> None:
    """Ten for each account; a close frees a slot at once; another account has ten of its own."""
    ids = [create(post)["id"] for _ in range(10)]
    failed(post(CREATE), 429, "SESSION_LIMIT_REACHED")
    assert post(CREATE, key=running.add_account()).status_code == 200
    post(CLOSE, {"sessionId": ids[0]})
    create(post)
    failed(post(CREATE), 429, "SESSION_LIMIT_REACHED")


@pytest.mark.parametrize("latency", [{}, {"create": 0.05}])
def test_two_hundred_creates_at_once_open_ten(latency: dict[str, float]) -> None:
    """However they arrive, never more than ten are active, and no slot is lost."""
    with Engine(latency=latency) as engine, ThreadPoolExecutor(50) as pool:
        headers = {"x-api-key": str(engine.api_key)}

        def one(_: int) -> int:
            return requests.post(engine.base_url + CREATE, json={}, headers=headers, timeout=LIMIT).status_code

        statuses = list(pool.map(one, range(200)))
        assert (statuses.count(200), statuses.count(429)) == (10, 190)
        assert len(engine.sessions()) == 10
        assert engine.totals()["opened"] == 10


def test_a_session_past_its_time_is_expired_however_it_is_asked(running: Engine, post: Post, target: Any) -> None:
    """status says expired, request SESSION_EXPIRED, close SESSION_CLOSED, since it holds no slot; ten more can open."""
    ids = [create(post, timeout=0.01)["id"] for _ in range(10)]
    while running.sessions():
        assert running.totals()["opened"] == 10  # asks until the engine's own clock says so
    assert succeeded(post(STATUS, {"sessionId": ids[0]}))["data"]["session"]["status"] == "expired"
    failed(post(REQUEST, {"sessionId": ids[0], "url": target.url("/echo")}), 400, "SESSION_EXPIRED")
    failed(post(CLOSE, {"sessionId": ids[0]}), 400, "SESSION_CLOSED")
    assert succeeded(post(LIST, {"status": "expired"}))["data"]["total"] == 10
    assert [create(post)["status"] for _ in range(10)] == ["active"] * 10


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"path": "/drop"}, 502, "TARGET_UNREACHABLE"),
        ({"path": "/slow/20", "timeout": 0.05}, 504, "TARGET_TIMEOUT"),
        ({"path": "/redirect/3", "maxRedirects": 2}, 502, "TOO_MANY_REDIRECTS"),
        ({"path": f"/stream/{_wire.MAX_BODY + 1}"}, 502, "TARGET_TOO_LARGE"),
    ],
)
def test_what_a_target_does_wrong_is_an_error_of_the_service(
    post: Post, target: Any, fields: dict[str, Any], status: int, code: str
) -> None:
    """The session stays, and its counter as it was."""
    session = create(post)["id"]
    url = target.url(fields["path"])
    failed(post(REQUEST, {**fields, "sessionId": session, "url": url}), status, code)
    record = succeeded(post(STATUS, {"sessionId": session}))["data"]["session"]
    assert (record["status"], record["requestCount"]) == ("active", 0)


@pytest.mark.parametrize("endpoint", _wire.ENDPOINTS)
@pytest.mark.parametrize("code", _wire.FAILURES)
def test_every_code_has_its_status(running: Engine, post: Post, endpoint: str, code: str) -> None:
    """Asked for as a fault, each code is sent with the status and the message of the contract."""
    running.faults.fail(endpoint, code=code)
    status, message = _wire.FAILURES[code]
    assert failed(post(_wire.PATHS[endpoint]), status, code)["message"] == message


def test_unknown_fields_are_ignored(post: Post) -> None:
    """A newer client is understood."""
    assert create(post, colour="green")["status"] == "active"
