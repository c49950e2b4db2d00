"""Promises of the endpoints that no other answer can break: bad requests, bugs, faults, sessions that end meanwhile."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from pytest_bbre import BBREClient, _wire
from pytest_bbre.engine import Engine
from pytest_bbre.engine.store import Store
from pytest_bbre.errors import InvalidRequestError

LIMIT = 20  # seconds until a test gives up


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(in_process=True) as running:
        yield running


Post = Callable[..., requests.Response]


@pytest.fixture
def post(engine: Engine) -> Post:
    def send(endpoint: str, body: Any = None, **options: Any) -> requests.Response:
        headers = {"x-api-key": str(engine.api_key), **options.pop("headers", {})}
        url = engine.base_url + _wire.PATHS.get(endpoint, endpoint)
        method = options.pop("method", "POST")
        return requests.request(method, url, json=body, headers=headers, timeout=LIMIT, **options)

    return send


def code_of(answer: requests.Response) -> str:
    told = answer.json()
    assert (told["success"], told["service"]) == (False, _wire.SERVICE)
    return str(told["error"]["code"])


def open_one(post: Post, **fields: Any) -> str:
    return str(post("create", {"mode": "passive", **fields}).json()["session"]["id"])


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000, b'"text"', b"[]", b"null", b'{"a": ' + b"9" * 9999])
def test_a_body_that_is_no_json_object_is_refused_in_json(post: Post, body: bytes) -> None:
    """Whatever comes, the answer is BBRE's and names the trouble."""
    answer = post("create", data=body)
    assert (answer.status_code, code_of(answer)) == (400, "VALIDATION_ERROR")
    assert "body is" in answer.json()["error"]["message"]


def test_an_unknown_path_is_404_in_json(post: Post) -> None:
    """The answer names the path."""
    answer = post("/session/open")
    assert (answer.status_code, code_of(answer)) == (404, "VALIDATION_ERROR")
    assert "/session/open" in answer.text


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_another_method_than_post_is_405_in_json(post: Post, method: str) -> None:
    """The answer says which method is right."""
    answer = post("close", method=method)
    assert (answer.status_code, code_of(answer), answer.headers["Allow"]) == (405, "VALIDATION_ERROR", "POST")


def test_a_request_over_the_limit_is_413_in_json(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading stops at the limit."""
    monkeypatch.setattr("pytest_bbre.engine.app.MAX_REQUEST", 1000)
    answer = post("create", {"x": "x" * 1000})
    assert (answer.status_code, code_of(answer)) == (413, "VALIDATION_ERROR")
    assert post("create", {"x": "x" * 900}).status_code == 200


def test_a_bug_of_ours_is_a_service_error_in_json(
    post: Post, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Never a page of HTML, also for who asks for one; the log says what happened."""
    monkeypatch.setattr(Store, "page", lambda *_: 1 / 0)
    answer = post("list", {}, headers={"Accept": "text/html"})
    assert (answer.status_code, code_of(answer)) == (500, "SERVICE_ERROR")
    assert "ZeroDivisionError" in caplog.text


def test_every_answer_names_the_engine(post: Post, engine: Engine) -> None:
    """Create in its answer, and every answer in a header: another engine on this port is told apart."""
    assert post("create").json()["engine"] == {"instance": engine.instance}
    assert post("list").headers["x-bbre-engine"] == post("close").headers["x-bbre-engine"] == engine.instance


def test_a_mode_that_the_engine_was_not_given_is_refused() -> None:
    """The refusal says what this engine has, and no slot is taken."""
    with Engine(in_process=True, modes=["passive"]) as engine:
        bbre = BBREClient(engine.api_key, engine.base_url)
        with pytest.raises(InvalidRequestError, match="this engine runs passive sessions only"):
            bbre.create_session(mode="adaptive")
        assert engine.sessions() == []


def test_a_session_has_its_own_proxy(post: Post, target: Any) -> None:
    """A proxy given at creation is used for requests that name none."""
    session = open_one(post, proxy=target.base_url)
    result = post("request", {"sessionId": session, "url": "http://nowhere.invalid/echo"}).json()
    assert json.loads(result["data"]["task"]["result"]["body"])["target"] == "http://nowhere.invalid/echo"


def test_only_requests_that_got_an_answer_are_counted(post: Post, target: Any) -> None:
    """An error status is an answer; a target that breaks off is none."""
    session = open_one(post)
    for path in ("/echo", "/status/500", "/drop"):
        post("request", {"sessionId": session, "url": target.url(path)})
    assert post("status", {"sessionId": session}).json()["data"]["session"]["requestCount"] == 2


def test_a_session_closed_meanwhile_gives_no_answer(post: Post, engine: Engine, target: Any) -> None:
    """A request that is under way when its session is closed ends as SESSION_CLOSED, and its answer is dropped."""
    session, answers = open_one(post), []
    fields = {"sessionId": session, "url": target.url("/slow/0.3")}
    waiting = threading.Thread(target=lambda: answers.append(post("request", fields)))
    waiting.start()
    engine.wait_for("request", 1, LIMIT)
    assert post("close", {"sessionId": session}).status_code == 200
    waiting.join(LIMIT)
    assert code_of(answers[0]) == "SESSION_CLOSED"


@pytest.mark.parametrize("endpoint", _wire.ENDPOINTS)
def test_a_fault_can_hit_every_endpoint(post: Post, engine: Engine, endpoint: str) -> None:
    """The next two calls fail with the code asked for, the third is itself again."""
    engine.faults.fail(endpoint, times=2, code="RATE_LIMIT_EXCEEDED", message="Slowly.", retry_after=3)
    for _ in range(2):
        answer = post(endpoint, {})
        assert (answer.status_code, code_of(answer), answer.headers["Retry-After"]) == (429, "RATE_LIMIT_EXCEEDED", "3")
        assert answer.json()["error"]["message"] == "Slowly."
    assert post(endpoint, {}).status_code != 429
    assert engine.calls(endpoint) == 3


@pytest.mark.parametrize(("fault", "opened"), [("lose_answer", 1), ("cut", 0), ("half_answer", 1)])
def test_a_connection_is_cut_after_or_before_the_work(post: Post, engine: Engine, fault: str, opened: int) -> None:
    """A lost or half answer leaves the session behind, a cut leaves nothing; then all is well again."""
    getattr(engine.faults, fault)("create")
    with pytest.raises(requests.RequestException):
        post("create")
    assert len(engine.sessions()) == opened
    assert post("create").status_code == 200


def test_half_an_answer_is_half_an_answer(engine: Engine) -> None:
    """The length promises more than comes, and what comes is the beginning of the real answer."""
    engine.faults.half_answer("list")
    connection = http.client.HTTPConnection(urlsplit(engine.base_url).netloc, timeout=LIMIT)
    connection.request("POST", _wire.PATHS["list"], "{}", {"x-api-key": str(engine.api_key)})
    with pytest.raises(http.client.IncompleteRead) as cut:
        connection.getresponse().read()
    connection.close()
    assert cut.value.partial.startswith(b'{"success": true')
    assert cut.value.expected


def test_garbage_is_a_web_page(post: Post, engine: Engine) -> None:
    """Status 200, HTML, nothing done: what a proxy in the way would answer."""
    engine.faults.garbage("create")
    answer = post("create")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html")
    assert "<html>" in answer.text.replace("<!doctype html>", "<html>")
    assert engine.sessions() == []


def test_a_hang_says_nothing_and_cuts(post: Post, engine: Engine) -> None:
    """No byte comes until the connection is cut, and nothing was done."""
    session = open_one(post)
    engine.faults.hang("close", 0.05)
    with pytest.raises(requests.ConnectionError):
        post("close", {"sessionId": session})
    assert [one.id for one in engine.sessions()] == [session]


def test_latency_and_delays_come_before_the_work(target: Any) -> None:
    """While a call is being delayed its work is not done."""
    with Engine(in_process=True, latency={"create": 0.2}) as engine:
        engine.faults.delay("create", 0.2, times=1)
        headers = {"apikey": str(engine.api_key)}
        url = engine.base_url + _wire.PATHS["create"]
        waiting = threading.Thread(target=lambda: requests.post(url, json={}, headers=headers, timeout=LIMIT))
        waiting.start()
        engine.wait_for("create", 1, LIMIT)
        assert engine.sessions() == []
        waiting.join(LIMIT)
        assert len(engine.sessions()) == 1


def test_what_has_arrived_is_done_though_its_asker_dies(engine: Engine) -> None:
    """As a service does: the create of a client that was killed meanwhile opens a session."""
    engine.faults.delay("create", 0.3, times=1)
    place = urlsplit(engine.base_url)
    with socket.create_connection((place.hostname, place.port), LIMIT) as asker:
        head = f"POST {_wire.PATHS['create']} HTTP/1.1\r\nHost: x\r\nx-api-key: {engine.api_key}\r\n"
        asker.sendall(f"{head}Content-Length: 2\r\n\r\n{{}}".encode())
        engine.wait_for("create", 1, LIMIT)
        assert engine.sessions() == []
    give_up = time.monotonic() + LIMIT
    while not engine.sessions():
        assert time.monotonic() < give_up
        time.sleep(0.005)


def test_nonsense_on_the_port_harms_nobody(engine: Engine, post: Post) -> None:
    """Bytes that are no HTTP end their own connection alone."""
    place = urlsplit(engine.base_url)
    with socket.create_connection((place.hostname, place.port), LIMIT) as nonsense:
        nonsense.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        nonsense.settimeout(LIMIT)
        assert b"400" in nonsense.recv(1000)
    assert post("list").status_code == 200


@pytest.mark.parametrize("path", ["sessions", "fault", "account", "nothing"])
@pytest.mark.parametrize("token", [None, "", "wrong", "ü"])
def test_control_endpoints_ask_for_their_token(engine: Engine, path: str, token: str | None) -> None:
    """The API key is not enough, and an unknown path is not told to who has no token."""
    headers = {"x-api-key": str(engine.api_key)} | ({} if token is None else {"x-engine-token": token.encode()})
    answer = requests.post(f"{engine.base_url}/_engine/{path}", json={}, headers=headers, timeout=LIMIT)
    assert (answer.status_code, code_of(answer)) == (403, "INVALID_API_KEY")
