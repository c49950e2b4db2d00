"""Promises of passive requests, each sent to a real site over real HTTP."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import socket
from typing import Any

import pytest

from pytest_bbre import _wire
from pytest_bbre.engine.fields import Fields
from pytest_bbre.engine.passive import Context, Passive, new_context, new_profile
from pytest_bbre.engine.refused import Refused
from pytest_bbre.engine.targets import read_target

PROFILE = new_profile()


class Sender:
    """One session's view: every call a request, all on one loop and one pool, with one jar."""

    def __init__(self) -> None:
        self.context = new_context(PROFILE, None)

    def __call__(self, *requests: dict[str, Any], context: Context | None = None) -> _wire.TargetAnswer:
        return asyncio.run(self._send(requests, context or self.context))

    async def _send(self, requests: tuple[dict[str, Any], ...], context: Context) -> _wire.TargetAnswer:
        passive = Passive()
        await passive.start()
        try:
            for request in requests[:-1]:
                await passive.send(context, read_target(Fields(request)))
            return await passive.send(context, read_target(Fields(requests[-1])))
        finally:
            await passive.stop()


@pytest.fixture
def send() -> Sender:
    return Sender()


def told(answer: _wire.TargetAnswer) -> Any:
    return json.loads(answer.body)


def header(answer: _wire.TargetAnswer, name: str) -> list[str]:
    return [value for key, value in told(answer)["headers"] if key.lower() == name.lower()]


def refusal(send: Sender, **request: Any) -> Refused:
    with pytest.raises(Refused) as refused:
        send(request)
    return refused.value


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_a_request_says_honestly_who_sends_it(send: Sender, target: Any) -> None:
    """User-Agent and Accept-Language are the profile's, and the profile names this engine."""
    answer = send({"url": target.url("/echo")})
    assert header(answer, "User-Agent") == [PROFILE["userAgent"]]
    assert "pytest-bbre" in PROFILE["userAgent"]
    assert "Mozilla" not in PROFILE["userAgent"]
    assert header(answer, "Accept-Language") == ["en-US,en;q=0.9"]


def test_a_request_can_say_otherwise(send: Sender, target: Any) -> None:
    """The request's own headers win over the profile's, whatever their case, and are sent once."""
    answer = send({"url": target.url("/echo"), "headers": {"user-agent": "mine", "ACCEPT-LANGUAGE": "de"}})
    assert (header(answer, "User-Agent"), header(answer, "Accept-Language")) == (["mine"], ["de"])


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
def test_every_method_and_its_body_arrive(send: Sender, target: Any, method: str) -> None:
    """The method and all the bytes of the body, no Content-Type added."""
    body = {"body": base64.b64encode(bytes(range(256))).decode(), "bodyEncoding": "base64"}
    answer = send({"url": target.url("/echo"), "method": method, **body})
    assert told(answer)["method"] == method
    assert base64.b64decode(told(answer)["body"]) == bytes(range(256))
    assert header(answer, "Content-Type") == []


def test_a_large_body_arrives_whole(send: Sender, target: Any) -> None:
    """More than one piece goes out with its right length."""
    answer = send({"url": target.url("/echo"), "method": "POST", "body": "x" * 3_000_000})
    assert header(answer, "Content-Length") == ["3000000"]
    assert len(base64.b64decode(told(answer)["body"])) == 3_000_000


def test_the_url_arrives_byte_for_byte(send: Sender, target: Any) -> None:
    """Encoded characters stay as they were: a signed URL stays valid."""
    raw = "/echo?x=a%20b&y=%7E&z=a+b%2Bc&w=%2F"
    assert told(send({"url": target.url(raw)}))["target"] == raw


@pytest.mark.parametrize("path", ["/status/204", "/status/304", "/status/404", "/status/500"])
def test_every_status_is_an_answer(send: Sender, target: Any, path: str) -> None:
    """Also errors, and statuses without a body."""
    answer = send({"url": target.url(path)})
    assert path.endswith(str(answer.status))
    assert answer.reason


def test_head_has_headers_and_no_body(send: Sender, target: Any) -> None:
    """HEAD tells the length and carries nothing."""
    answer = send({"url": target.url("/bytes/1000"), "method": "HEAD"})
    assert (answer.status, answer.body) == (200, b"")
    assert ("Content-Length", "1000") in answer.headers


@pytest.mark.parametrize("kind", ["gzip", "deflate"])
def test_compressed_answers_are_decoded_and_their_headers_kept(send: Sender, target: Any, kind: str) -> None:
    """The body is what was meant; Content-Encoding stays, as with requests."""
    answer = send({"url": target.url(f"/{kind}")})
    assert told(answer) == {"ok": True}
    assert ("Content-Encoding", kind) in answer.headers


@pytest.mark.parametrize("path", ["/bytes/100000", "/stream/100000"])
def test_binary_answers_survive_byte_for_byte(send: Sender, target: Any, path: str) -> None:
    """With a length or in chunks."""
    assert send({"url": target.url(path)}).body == (bytes(range(256)) * 391)[:100_000]


def test_an_answer_in_another_charset_keeps_its_bytes(send: Sender, target: Any) -> None:
    """Latin-1 stays latin-1, also through JSON."""
    answer = send({"url": target.url("/latin1")})
    assert answer.body == b"\xe9"
    assert _wire.TargetAnswer.from_json(json.loads(json.dumps(answer.to_json()))).body == b"\xe9"


def test_repeated_headers_are_kept(send: Sender, target: Any) -> None:
    """Both ways: two values of one header are two."""
    answer = send({"url": target.url("/repeated")})
    assert [pair for pair in answer.headers if pair[0] == "X-Twice"] == [("X-Twice", "one"), ("X-Twice", "two")]
    assert header(send({"url": target.url("/echo"), "headers": {"X-Twice": ["1", "2"]}}), "X-Twice") == ["1", "2"]


def test_long_headers_are_read(send: Sender, target: Any) -> None:
    """Some sites send policies of tens of kilobytes."""
    assert ("X-Long", "x" * 60_000) in send({"url": target.url("/long-header/60000")}).headers
    assert refusal(send, url=target.url("/long-header/100000")).code == "TARGET_UNREACHABLE"


def test_cookies_stay_for_the_next_request(send: Sender, target: Any) -> None:
    """What the target sets, also on a redirect, is sent from then on, on an address as on a name."""
    set_two = target.url("/set-cookie?h=a%3D1%3BPath%3D/&h=b%3D%22q%22%3BPath%3D/&to=/cookies")
    assert told(send({"url": set_two})) == {"cookie": 'a=1; b="q"'}
    assert told(send({"url": target.url("/cookies")})) == {"cookie": 'a=1; b="q"'}


def test_cookies_of_a_request_are_merged_in(send: Sender, target: Any) -> None:
    """They join the session's, and stay."""
    answer = send(
        {"url": target.url("/set-cookie?h=a%3D1%3BPath%3D/")},
        {"url": target.url("/cookies"), "cookies": {"b": "2"}},
        {"url": target.url("/cookies")},
    )
    assert told(answer) == {"cookie": "a=1; b=2"}


def test_an_explicit_cookie_header_is_sent_instead(send: Sender, target: Any) -> None:
    """As with requests: a Cookie header that the request names replaces the session's, this once."""
    answer = send(
        {"url": target.url("/set-cookie?h=a%3D1%3BPath%3D/")},
        {"url": target.url("/cookies"), "headers": {"Cookie": "mine=1"}},
    )
    assert told(answer) == {"cookie": "mine=1"}


def test_no_cookie_leaks_to_another_session(send: Sender, target: Any) -> None:
    """Two sessions over the same pool of connections share none."""
    send({"url": target.url("/set-cookie?h=a%3D1%3BPath%3D/")})
    other = new_context(PROFILE, None)
    assert told(send({"url": target.url("/cookies")}, context=other)) == {"cookie": None}


def test_redirects_are_followed_and_told(send: Sender, target: Any) -> None:
    """The history holds each step's address, status, headers and body, oldest first."""
    answer = send({"url": target.url("/redirect/2")})
    assert answer.url == target.url("/echo")
    assert [(one.url, one.status, one.body) for one in answer.history] == [
        (target.url("/redirect/2"), 302, b"1 left"),
        (target.url("/redirect/1?status=302"), 302, b"0 left"),
    ]
    assert ("X-Left", "1") in answer.history[0].headers


def test_redirects_are_left_alone_if_asked(send: Sender, target: Any) -> None:
    """followRedirects false gives the redirect itself."""
    answer = send({"url": target.url("/redirect/2"), "followRedirects": False})
    assert (answer.status, answer.history) == (302, ())


def test_a_redirect_without_an_address_is_an_answer(send: Sender, target: Any) -> None:
    """Nowhere to go."""
    assert send({"url": target.url("/status/302")}).status == 302


def test_as_many_redirects_as_allowed_and_no_more(send: Sender, target: Any) -> None:
    """maxRedirects counts the redirects that are followed; 0 allows none."""
    assert send({"url": target.url("/redirect/3"), "maxRedirects": 3}).status == 200
    for most in (0, 2):
        refused = refusal(send, url=target.url("/redirect/3"), maxRedirects=most)
        assert (refused.code, f"more than {most} times" in str(refused)) == ("TOO_MANY_REDIRECTS", True)


def test_a_form_becomes_a_page_over_303(send: Sender, target: Any) -> None:
    """Logging in: a form is posted, a cookie set, the private page read."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    form = {"user": "ada", "password": "secret"}
    answer = send({"url": target.url("/login"), "method": "POST", "headers": headers, "body": form})
    assert (answer.method, told(answer)) == ("GET", {"user": "ada"})


def test_a_body_is_sent_again_over_307(send: Sender, target: Any) -> None:
    """307 keeps method and body, large ones too."""
    body = "x" * 1_500_000
    answer = send({"url": target.url("/redirect/1?status=307"), "method": "POST", "body": body})
    assert told(answer)["method"] == "POST"
    assert base64.b64decode(told(answer)["body"]) == body.encode()


def test_basic_credentials_are_sent(send: Sender, target: Any) -> None:
    """By field or in the URL; an Authorization header of the request's own wins."""
    auth = {"username": "ada", "password": "gehe:im"}
    url = target.url("/basic-auth/ada/gehe:im")
    assert send({"url": url, "auth": auth}).status == 200
    assert send({"url": url.replace("http://", "http://ada:gehe%3Aim@")}).status == 200
    assert send({"url": url}).status == 401
    assert send({"url": url, "auth": auth, "headers": {"authorization": "Basic eDp5"}}).status == 401


def test_a_slow_target_is_a_timeout(send: Sender, target: Any) -> None:
    """The time is the whole chain's: it ends the waiting for headers."""
    refused = refusal(send, url=target.url("/slow/20"), timeout=0.05)
    assert refused.code == "TARGET_TIMEOUT"
    assert target.base_url in str(refused)


@pytest.mark.parametrize("path", ["/drop", "/half"])
def test_a_target_that_breaks_off_is_unreachable(send: Sender, target: Any, path: str) -> None:
    """Before the answer or in the middle of it, as an error of the service that names the place."""
    refused = refusal(send, url=target.url(path))
    assert refused.code == "TARGET_UNREACHABLE"
    assert target.base_url in str(refused)


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "nowhere.invalid"])
def test_a_target_that_is_not_there_is_unreachable(send: Sender, host: str) -> None:
    """No listener, no such name. Credentials in the URL are not repeated."""
    refused = refusal(send, url=f"http://ada:secret@{host.format(port=closed_port())}/x?key=secret", timeout=10)
    assert refused.code == "TARGET_UNREACHABLE"
    assert "secret" not in str(refused)


def test_an_answer_over_the_limit_is_too_large(send: Sender, target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit counts decoded bytes: exactly that many pass, one more does not, however small it was sent."""
    monkeypatch.setattr(_wire, "MAX_BODY", 100_000)
    assert len(send({"url": target.url("/bytes/100000")}).body) == 100_000
    assert refusal(send, url=target.url("/stream/100001")).code == "TARGET_TOO_LARGE"
    assert len(gzip.compress(bytes(5_000_000), 1)) < 100_000
    assert refusal(send, url=target.url("/bomb/5000000")).code == "TARGET_TOO_LARGE"


def test_certificates_are_verified_unless_told_otherwise(send: Sender, tls_target: Any) -> None:
    """An untrusted certificate is refused, and the refusal says which field accepts it."""
    refused = refusal(send, url=tls_target.url("/echo"))
    assert (refused.code, "verifySsl" in (refused.hint or "")) == ("TARGET_UNREACHABLE", True)
    assert "certificate" in str(refused)
    assert send({"url": tls_target.url("/echo"), "verifySsl": False}).status == 200


def test_a_proxy_is_used(send: Sender, target: Any) -> None:
    """The request goes to the proxy, with the whole address, and the proxy's credentials."""
    proxy = target.base_url.replace("http://", "http://ada:secret@")
    answer = send({"url": "http://nowhere.invalid/echo?x=1", "proxy": proxy})
    assert told(answer)["target"] == "http://nowhere.invalid/echo?x=1"
    assert header(answer, "Proxy-Authorization") == ["Basic " + base64.b64encode(b"ada:secret").decode()]


def test_the_environments_proxies_are_not_used(send: Sender, target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a session sends does not depend on the shell it was started from."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    assert send({"url": target.url("/echo")}).status == 200
