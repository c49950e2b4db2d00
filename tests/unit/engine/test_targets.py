"""Promises of reading a web request: every field checked, URLs left as they are."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_bbre import _wire
from pytest_bbre.engine.fields import Fields
from pytest_bbre.engine.refused import Refused
from pytest_bbre.engine.targets import legal_url, next_request, read_target


def read(**fields: Any) -> _wire.TargetRequest:
    return read_target(Fields({"url": "http://h/", **fields}))


@pytest.mark.parametrize(
    "url",
    [
        "http://h/a%20b?x=a%20b&y=%7E&z=a+b%2Bc",
        "https://user:pw@h:8443/p?X-Amz-Signature=a%2Fb#part",
        "http://[::1]:80/",
        "http://h/~x/;v=1?q=a/b?c",
    ],
)
def test_a_legal_url_is_not_touched(url: str) -> None:
    """What is encoded stays so, byte for byte: signed URLs stay valid."""
    assert legal_url(url) == url


@pytest.mark.parametrize(
    ("url", "legal"),
    [
        ("http://h", "http://h/"),
        (" http://h/ü b?q=ü \n", "http://h/%C3%BC%20b?q=%C3%BC"),
        ("http://müller.example/", "http://xn--mller-kva.example/"),
        ('http://h/"<>', "http://h/%22%3C%3E"),
    ],
)
def test_what_a_url_can_not_hold_is_encoded(url: str, legal: str) -> None:
    """People paste URLs as their browser shows them."""
    assert legal_url(url) == legal


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"url": None}, "url is missing"),
        ({"url": 5}, "url is 5"),
        ({"url": "example.org/x"}, "url is 'example.org/x'"),
        ({"url": "ftp://h/"}, "absolute http or https"),
        ({"url": "file:///etc/passwd"}, "absolute http or https"),
        ({"url": "http:///x"}, "names no host"),
        ({"url": "http://h:99999/"}, "url is"),
        ({"url": "http://h:0/"}, "port is 0"),
        ({"url": "http://[::1/"}, "url is"),
        ({"url": "http://a b/"}, "host"),
        ({"url": "http://" + "ü" * 80 + "/"}, "url is"),
        ({"url": "http://h/\ud800"}, "url is"),
        ({"method": "GE T"}, "method is 'GE T'"),
        ({"method": "CONNECT"}, "method is 'CONNECT'"),
        ({"method": 1}, "method is 1"),
        ({"headers": "X: 1"}, "headers is a str"),
        ({"headers": {"X Y": "1"}}, "'X Y'"),
        ({"headers": {"X": "1\r\nY: 2"}}, "a value for X"),
        ({"headers": {"X": "\ud800"}}, "a value for X"),
        ({"params": {"a": {"b": 1}}}, "params has a dict for 'a'"),
        ({"params": [1]}, "params is a list"),
        ({"cookies": {"a": "1;2"}}, "cookies has 'a'"),
        ({"cookies": {"a b": "1"}}, "cookies has 'a b'"),
        ({"cookies": {"a": "\n"}}, "cookies has"),
        ({"auth": "ada"}, "auth is a str"),
        ({"auth": {"username": 1}}, "auth can't be used"),
        ({"timeout": 0}, "timeout is 0"),
        ({"timeout": True}, "timeout is True"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"timeout": "5"}, "timeout is '5'"),
        ({"maxRedirects": -1}, "maxRedirects is -1"),
        ({"maxRedirects": 1.5}, "maxRedirects is 1.5"),
        ({"maxRedirects": float("inf")}, "maxRedirects is inf"),
        ({"followRedirects": "no"}, "followRedirects is 'no'"),
        ({"verifySsl": 1}, "verifySsl is 1"),
        ({"body": "!", "bodyEncoding": "base64"}, "body is '!'"),
        ({"body": "", "bodyEncoding": "hex"}, "bodyEncoding is 'hex'"),
        ({"proxy": "socks5://h:1"}, "proxy can't be used"),
        ({"proxy": "http://h:99999"}, "proxy can't be used"),
    ],
)
def test_a_field_that_can_not_be_used_is_named(fields: dict[str, Any], named: str) -> None:
    """Each refusal is a VALIDATION_ERROR that names the field and what is wrong with it."""
    with pytest.raises(Refused) as refused:
        read(**fields)
    assert refused.value.code == "VALIDATION_ERROR"
    assert named in str(refused.value)


def test_secrets_are_not_repeated_in_refusals() -> None:
    """Values of headers, cookies, credentials and proxies may be secrets."""
    for fields in (
        {"headers": {"X": "secret\n"}},
        {"cookies": {"a": "secret;"}},
        {"auth": {"username": 1, "password": "secret"}},
        {"proxy": "secret://user:secret@h"},
    ):
        with pytest.raises(Refused) as refused:
            read(**fields)
        assert "secret" not in str(refused.value)


def test_fields_that_are_missing_or_null_have_their_defaults() -> None:
    """Only the URL is required; unknown fields are left alone."""
    plain = read(method=None, headers=None, body=None, unknown={"x": 1})
    assert (plain.method, plain.headers, plain.body, plain.follow_redirects) == ("GET", [], None, True)
    assert (plain.timeout, plain.max_redirects, plain.verify, plain.auth) == (30.0, 30, True, None)


def test_params_are_added_to_the_query() -> None:
    """Lists repeat the name, null leaves it out, and a query that is there stays as it is."""
    request = read(url="http://h/?a=%20", params={"b": ["x y", 2], "c": None, "d": True, "ü": "&"})
    assert request.url == "http://h/?a=%20&b=x+y&b=2&d=true&%C3%BC=%26"


@pytest.mark.parametrize(
    ("fields", "data", "kind"),
    [
        ({"body": {"a": 1}}, b'{"a": 1}', "application/json"),
        ({"body": [1, "ü"]}, b'[1, "\\u00fc"]', "application/json"),
        ({"body": "text ü"}, "text ü".encode(), None),
        ({"body": "AP8=", "bodyEncoding": "base64"}, b"\x00\xff", None),
        ({"body": {"a": "x y", "b": [1, 2]}, "headers": {"content-type": "application/x-www-form-urlencoded"}},
         b"a=x+y&b=1&b=2", "application/x-www-form-urlencoded"),
        ({"body": {"a": 1}, "headers": {"Content-Type": "application/vnd.api+json"}},
         b'{"a": 1}', "application/vnd.api+json"),
    ],
)  # fmt: skip
def test_a_body_is_written_as_its_kind_asks(fields: dict[str, Any], data: bytes, kind: str | None) -> None:
    """Objects are JSON or a form, texts UTF-8, base64 bytes; only an object gets a Content-Type of its own."""
    request = read(method="POST", **fields)
    kinds = [value for name, value in request.headers if name.lower() == "content-type"]
    assert (request.body, kinds) == (data, [kind] if kind else [])


def test_a_body_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal tells the size and the limit."""
    monkeypatch.setattr(_wire, "MAX_BODY", 10)
    with pytest.raises(Refused, match=r"body has 11 bytes; allowed are at most 10\."):
        read(body="x" * 11)


def test_repeated_headers_are_kept_and_framing_is_the_engines_own() -> None:
    """A list of values is a header that occurs more than once; lengths are not taken over."""
    request = read(headers={"X": ["1", "2"], "Content-Length": "999", "Transfer-Encoding": "chunked", "N": 5})
    assert request.headers == [("X", "1"), ("X", "2"), ("N", "5")]


@pytest.mark.parametrize(
    ("method", "status", "expected"),
    [
        ("POST", 301, "GET"), ("POST", 302, "GET"), ("POST", 303, "GET"), ("POST", 307, "POST"), ("POST", 308, "POST"),
        ("PUT", 301, "PUT"), ("PUT", 302, "PUT"), ("PUT", 303, "GET"), ("HEAD", 303, "HEAD"), ("GET", 302, "GET"),
    ],
)  # fmt: skip
def test_methods_change_over_redirects_as_in_browsers(method: str, status: int, expected: str) -> None:
    """POST becomes GET over 301, 302 and 303; a body that is not sent takes its headers along."""
    before = _wire.TargetRequest("http://h/a", method, [("Content-Type", "text/plain"), ("X", "1")], b"x")
    after = next_request(before, status, "/b")
    assert (after.url, after.method) == ("http://h/b", expected)
    kept = after.method == before.method
    assert (after.body == b"x", ("Content-Type", "text/plain") in after.headers) == (kept, kept)
    assert ("X", "1") in after.headers


@pytest.mark.parametrize(
    ("location", "kept"),
    [("/b", True), ("http://h:80/b", True), ("https://h/b", False), ("http://h:81/b", False), ("http://i/b", False)],
)
def test_credentials_stay_with_their_origin(location: str, kept: bool) -> None:
    """A redirect to another scheme, host or port gets no credentials and no explicit cookies."""
    secrets = [("Authorization", "x"), ("cookie", "y"), ("Host", "h")]
    after = next_request(_wire.TargetRequest("http://h/a", headers=secrets, auth=("u", "p")), 302, location)
    assert (after.auth is not None, after.headers == secrets) == (kept, kept)


def test_a_fragment_outlives_a_redirect() -> None:
    """As in browsers, unless the new address has its own."""
    before = _wire.TargetRequest("http://h/a#part")
    assert next_request(before, 302, "/b").url == "http://h/b#part"
    assert next_request(before, 302, "/b#own").url == "http://h/b#own"


@pytest.mark.parametrize("location", ["mailto:ada@example.org", "file:///etc/passwd", "http://[x", "javascript:1"])
def test_a_redirect_out_of_the_web_is_refused(location: str) -> None:
    """The refusal shows where it would have led."""
    with pytest.raises(Refused) as refused:
        next_request(_wire.TargetRequest("http://h/"), 302, location)
    assert refused.value.code == "TARGET_UNREACHABLE"
    assert location in str(refused.value)
