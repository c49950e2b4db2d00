"""_prepare.py and _response.py: requests' arguments on their way out, a real requests.Response on its way back."""

from __future__ import annotations

import io
import json
import math
import pickle
import re
from datetime import timedelta

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from requests.auth import AuthBase, HTTPBasicAuth, HTTPDigestAuth, HTTPProxyAuth
from requests.cookies import RequestsCookieJar

from pytest_bbre import _wire, errors
from pytest_bbre._prepare import prepare
from pytest_bbre._response import build

URL = "http://t.example/path"


def asked(method: str = "GET", url: str = URL, **options: object) -> _wire.TargetRequest:
    return prepare(method, url, **options)[1]  # type: ignore[arg-type]


def answered(status: int = 200, headers: object = (), body: bytes = b"", **fields: object) -> requests.Response:
    prepared, _ = prepare("POST", URL, data=b"x")
    answer = _wire.TargetAnswer(status, headers=list(headers), body=body, **fields)  # type: ignore[call-overload,arg-type]
    return build(prepared, answer, 0.5)


# On the way out.


@pytest.mark.parametrize(
    "options",
    [
        {"params": {"a": [1, 2], "b": None, "ü": "&="}},
        {"params": [("a", "1"), ("a", "2")]},
        {"params": "raw=1"},
        {"data": {"a": ["1", "2"], "b": "ü &"}},
        {"data": [("a", "1")]},
        {"data": "text ü"},
        {"data": b"\x00\xff"},
        {"data": io.BytesIO(b"\x00file\xff")},
        {"data": io.StringIO("file ü")},
        {"data": iter([b"one", "two"])},
        {"json": {"a": [1, None, "ü"]}},
        {"json": [1, 2]},
        {"json": 0},
        {"json": {}},
        {"data": {"a": 1}, "json": {"b": 2}},
        {"headers": {"X-One": "1", "accept": "text/plain", "X-None": None, "X-Bytes": b"\xe9"}},
        {"headers": {"Content-Type": "text/csv"}, "data": "a;b"},
    ],
    ids=lambda options: re.sub(r" object at 0x\w+", "", repr(options)),  # xdist wants the same names everywhere
)
def test_the_request_is_encoded_as_requests_encodes_it(options: dict[str, object]):
    """Address, body and headers are those that requests itself would prepare."""
    own = {name: iter([b"one", "two"]) if hasattr(value, "__next__") and not hasattr(value, "read") else value
           for name, value in options.items()}  # fmt: skip
    if "headers" in own:  # a Session leaves out what is None; a Request alone refuses it
        own["headers"] = {name: value for name, value in own["headers"].items() if value is not None}  # type: ignore
    expected = requests.Request("POST", URL, **own).prepare()  # type: ignore[arg-type]
    body = expected.body
    if hasattr(body, "read"):
        body = body.read()
        next(iter(options.values())).seek(0)  # type: ignore[attr-defined]
    elif body is not None and not isinstance(body, str | bytes):
        body = b"onetwo"
    request = asked("post", **options)
    assert request.url == expected.url
    assert request.method == "POST"
    if isinstance(request.body, dict):
        assert request.body == json.loads(body)
    else:
        assert request.body == (body.encode() if isinstance(body, str) else body)
    sent = {name.lower(): value.decode("latin-1") if isinstance(value, bytes) else value
            for name, value in expected.headers.items()}  # fmt: skip
    for name in ("content-length", "transfer-encoding"):
        sent.pop(name, None)
    assert {name.lower(): value for name, value in request.headers} == sent


@given(st.binary())
def test_any_bytes_go_out_as_they_are(body: bytes):
    """A binary body is not changed on its way into the wire."""
    wire = asked("POST", data=body).to_json("s")
    assert _wire.read_body(wire.get("body"), wire.get("bodyEncoding")) == body


@pytest.mark.parametrize("auth", [("ü", "p"), HTTPBasicAuth("ü", "p")])
def test_basic_credentials_have_a_field_of_their_own(auth: object):
    """They don't travel as a header, so the service can apply them as a browser would."""
    request = asked(auth=auth)
    assert request.auth == ("ü", "p")
    assert "authorization" not in {name.lower() for name, _ in request.headers}


def test_other_credentials_write_their_headers():
    """Whatever an AuthBase does to a request is done."""

    class Token(AuthBase):
        def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers["Authorization"] = "Bearer x"
            return request

    assert ("Authorization", "Bearer x") in asked(auth=Token()).headers


def test_credentials_in_the_url_are_heeded_as_requests_heeds_them():
    """http://user:password@host sends basic credentials."""
    request = asked(url="http://u:p@t.example/")
    expected = requests.Request("GET", "http://u:p@t.example/").prepare().headers["Authorization"]
    assert request.auth == ("u", "p") or ("Authorization", expected) in request.headers


def test_cookies_travel_in_a_field_of_their_own():
    """From a dict and from a jar, and not as a header, so that they are merged with the session's."""
    jar = RequestsCookieJar()
    jar.set("a", "1")
    for cookies in ({"a": "1", "b": None}, jar):
        request = asked(cookies=cookies)
        assert request.cookies == {"a": "1"}
        assert "cookie" not in {name.lower() for name, _ in request.headers}


@pytest.mark.parametrize(
    ("timeout", "seconds"), [(None, None), (3, 3.0), ((1, 2.5), 3.5), ((None, 2), 2.0), ((None, None), None)]
)
def test_a_timeout_is_a_number_or_a_pair(timeout: object, seconds: float | None):
    """The wire has one number: connecting and reading are added up."""
    assert asked(timeout=timeout).timeout == seconds


@pytest.mark.parametrize("timeout", [0, -1, "5", True, math.nan, math.inf, (0, 0), (5, "x"), (1, math.inf)])
def test_a_timeout_that_is_none_is_refused(timeout: object):
    """Name, value, and what is allowed."""
    with pytest.raises(errors.UnsupportedOptionError, match=r"timeout is .*allowed"):
        asked(timeout=timeout)


def test_redirects_certificates_and_proxies():
    """allow_redirects, verify and proxies have their fields."""
    request = asked(allow_redirects=False, verify=False, proxies={"http": "http://p:1", "https": "http://q:1"})
    assert (request.follow_redirects, request.verify, request.proxy) == (False, False, "http://p:1")
    assert (asked().follow_redirects, asked().verify, asked().proxy) == (True, True, None)
    assert asked(proxies={"https": "http://q:1"}).proxy is None


@pytest.mark.parametrize("name", ["files", "stream", "cert", "hooks"])
def test_what_can_not_travel_is_refused_with_a_remedy(name: str):
    """A clear refusal rather than a request that differs from what was asked for; "none" is no asking."""
    with pytest.raises(errors.UnsupportedOptionError, match=f"{name}=") as caught:
        asked(**{name: {"x": "y"}})
    assert isinstance(caught.value, TypeError)
    assert len(str(caught.value)) > len(f"{name}= can't be used with a session's request. ")
    asked(**{name: None})
    asked(stream=False)


@pytest.mark.parametrize("method", [None, 5])
def test_a_method_that_is_none_is_refused(method: object):
    """By its name, with the value."""
    with pytest.raises(errors.UnsupportedOptionError, match=f"method is {method}"):
        asked(method)  # type: ignore[arg-type]


def test_credentials_for_a_proxy_are_refused_with_a_remedy():
    """They are a kind of basic credentials to requests, and must not reach the target as such."""
    with pytest.raises(errors.UnsupportedOptionError, match="proxies="):
        asked(auth=HTTPProxyAuth("u", "p"))


@pytest.mark.parametrize("options", [{"verify": "/ca.pem"}, {"auth": HTTPDigestAuth("u", "p")}, {"colour": "red"}])
def test_options_that_mean_nothing_here_are_refused(options: dict[str, object]):
    """A path, a kind of credentials and a name that no request has."""
    with pytest.raises(errors.UnsupportedOptionError):
        asked(**options)


@pytest.mark.parametrize(
    "url", ["", "example.org", "/path", "http://", "http://[::1", "ftp://t/", "mailto:a@b", "file:///etc/passwd",
            "data:,x", "http://t:99999/", "http://a b/", "http://.example.org", "http://*x", None, 5, b"\xff"],
)  # fmt: skip
def test_a_url_that_is_no_url_is_refused(url: object):
    """Before anything is sent, with the value and an example; it is a ValueError, too."""
    with pytest.raises(errors.InvalidURLError) as caught:
        asked(url=url)  # type: ignore[arg-type]
    assert repr(url) in str(caught.value)
    assert "https://example.org/path" in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "options",
    [{"headers": {"A": "1\r\nB: 2"}}, {"headers": {" bad": "x"}}, {"headers": {"A": 5}}, {"json": {"x": math.nan}}],
    ids=repr,
)
def test_what_requests_refuses_is_refused_as_ours(options: dict[str, object]):
    """A header with a line break, a number that JSON has not: told within the error tree, as misuse."""
    with pytest.raises(errors.MisuseError):
        asked("POST", **options)


# On the way back.


def test_a_response_is_a_real_one():
    """Every part of requests.Response is there."""
    response = answered(
        404,
        [("Content-Type", "application/json; charset=utf-8")],
        b'{"a": 1}',
        reason="Nope",
        url=f"{URL}?x",
        elapsed=0.25,
    )
    assert type(response) is requests.Response
    assert (response.status_code, response.reason, response.ok) == (404, "Nope", False)
    assert (response.content, response.text, response.json()) == (b'{"a": 1}', '{"a": 1}', {"a": 1})
    assert (response.url, response.encoding) == (f"{URL}?x", "utf-8")
    assert response.elapsed == timedelta(seconds=0.25)
    assert response.headers["content-TYPE"] == "application/json; charset=utf-8"
    assert (response.request.method, response.request.url, response.request.body) == ("POST", URL, b"x")
    assert (response.history, response.is_redirect, response.links) == ([], False, {})
    with pytest.raises(requests.HTTPError, match="404 Client Error: Nope"):
        response.raise_for_status()


@given(st.binary(), st.booleans())
def test_any_bytes_come_back_as_they_are(body: bytes, compressed: bool):
    """Content is what the target sent, decoded already, whatever Content-Encoding says."""
    headers = [("Content-Encoding", "gzip")] if compressed else []
    response = answered(headers=headers, body=body)
    assert response.content == body
    assert b"".join(response.iter_content(7)) == body


def test_repeated_headers_are_kept():
    """Joined as requests joins them, and one by one in raw.headers."""
    response = answered(headers=[("X-Twice", "1"), ("x-twice", "2"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    assert response.headers["X-Twice"] == "1, 2"
    assert response.raw.headers.getlist("x-twice") == ["1", "2"]
    assert response.raw.headers.getlist("set-cookie") == ["a=1", "b=2"]


def test_cookies_of_the_answer():
    """response.cookies holds what the answer set."""
    response = answered(headers=[("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2; Path=/")])
    assert response.cookies.get_dict() == {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    ("headers", "was_text", "encoding"),
    [
        ([("Content-Type", "text/html; charset=ISO-8859-15")], False, "ISO-8859-15"),
        ([("Content-Type", "text/plain")], False, "ISO-8859-1"),
        ([("Content-Type", "text/plain; charset=ISO-8859-1")], True, "utf-8"),
        ([("Content-Type", "application/octet-stream")], False, None),
    ],
)
def test_the_encoding_is_that_of_the_content(headers: object, was_text: bool, encoding: str | None):
    """What requests reads from the headers, except where the service had decoded the text before."""
    assert answered(headers=headers, body=b"x", body_was_text=was_text).encoding == encoding


def test_a_missing_reason_is_the_standard_one():
    """A service that tells no reason gives the usual words."""
    assert answered(404).reason == "Not Found"
    assert answered(299).reason == ""


@pytest.mark.parametrize("elapsed", [-1.0, 0.0, 1e300])
def test_an_absurd_duration_is_no_error(elapsed: float):
    """elapsed is always a timedelta."""
    assert timedelta(0) <= answered(elapsed=elapsed).elapsed <= timedelta(days=1)


def test_without_the_target_s_own_time_the_call_s_is_told():
    """elapsed is never missing."""
    assert answered().elapsed == timedelta(seconds=0.5)


def test_the_history_of_a_redirected_post():
    """Each step is a response with its own request; the POST that became a GET lost its body."""
    steps = (
        _wire.TargetAnswer(302, headers=[("Location", "/b"), ("Set-Cookie", "a=1")], url=URL, method="POST"),
        _wire.TargetAnswer(301, headers=[("Location", "/c")], url="http://t.example/b", method="GET"),
    )
    response = answered(url="http://t.example/c", method="GET", history=steps)
    assert [one.status_code for one in response.history] == [302, 301]
    assert [one.url for one in response.history] == [URL, "http://t.example/b"]
    assert [(one.request.method, one.request.body) for one in response.history] == [("POST", b"x"), ("GET", None)]
    assert (response.request.method, response.request.url) == ("GET", "http://t.example/c")
    assert "Content-Length" not in response.request.headers
    assert [len(one.history) for one in (*response.history, response)] == [0, 1, 2]
    assert response.history[0].is_redirect
    assert response.history[0].cookies.get_dict() == {"a": "1"}


def test_a_response_can_be_pickled_and_closed():
    """As requests' own can."""
    response = answered(body=b"x", headers=[("A", "1")])
    again = pickle.loads(pickle.dumps(response))
    assert (again.content, again.headers) == (b"x", {"A": "1"})
    response.close()
    with response:
        assert response.content == b"x"


@pytest.mark.parametrize(
    "headers",
    [
        [("Content-Length", "1, 2")],
        [("Content-Length", "many")],
        [("Transfer-Encoding", "chunked")],
        [("Content-Type", "; charset=")],
        [("Content-Type", "text/plain; charset=no-such")],
        [("Set-Cookie", "=;;\x00=")],
        [("Set-Cookie", "a=1; expires=never; max-age=x")],
        [("Link", "<<<>>>;;")],
        [("", "")],
        [("A\nB", "c\r\nd")],
        [("Ж", "\ud800")],
    ],
    ids=repr,
)
def test_garbage_in_headers_is_no_error(headers: object):
    """A header that makes no sense is handed on; nothing is raised, and a good header beside it is read."""
    response = answered(headers=[*headers, ("Link", '<http://t.example/2>; rel="next"')], body=b"x")  # type: ignore[misc]
    assert response.content == b"x"
    assert response.text == "x"
    assert response.links["next"] == {"url": "http://t.example/2", "rel": "next"}


@pytest.mark.parametrize("url", ["http://[", "", "no url", "http://a:99999999/", "\ud800"])
def test_garbage_in_the_address_is_no_error(url: str):
    """An address that is none is handed on."""
    step = _wire.TargetAnswer(302, headers=[("Set-Cookie", "a=1")], url=url, method="GET")
    assert answered(headers=[("Set-Cookie", "a=1")], url=url, history=(step,)).content == b""


@pytest.mark.parametrize("status", [-1, 0, 100, 204, 304, 999, 10**30])
def test_garbage_in_the_status_is_no_error(status: int):
    """A status that HTTP does not have is handed on."""
    assert answered(status, body=b"x").status_code == status
