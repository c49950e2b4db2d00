"""Knows how the fields of /session/request become a web request, and which URLs are URLs.
Must not know how a request is sent.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import SplitResult, quote, urlencode, urljoin, urlsplit

from .. import _wire
from .fields import Fields, shown
from .refused import Refused, invalid

MOST_REDIRECTS: Final = 100
MAX_TARGET_TIMEOUT: Final = 3600.0  # seconds
FORM: Final = "application/x-www-form-urlencoded"
_LEGAL: Final = "!#$%&'()*+,/:;=?@[]~"  # left as they are, % too: what is encoded already stays so
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BROKEN: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")  # what can't be in a header's value
# The engine's own business: it speaks for one connection, whose length and framing aiohttp writes.
_OWN_HEADERS: Final = frozenset({"connection", "content-length", "keep-alive", "proxy-connection", "transfer-encoding"})
_PROXIES: Final = ("http", "https")


def read_target(fields: Fields) -> _wire.TargetRequest:
    """The web request that a session is asked for, from the fields of /session/request.

    Raises:
        Refused: a field can't be used.
    """
    url = read_url(fields)
    headers = _headers(fields)
    auth = _auth(fields)
    return _wire.TargetRequest(
        url=url,
        method=_method(fields),
        headers=headers,
        body=_body(fields, headers),
        cookies=dict(_cookies(fields.mapping("cookies"))),
        timeout=fields.seconds("timeout", _wire.DEFAULT_REQUEST_TIMEOUT, MAX_TARGET_TIMEOUT),
        follow_redirects=fields.flag("followRedirects", True),
        max_redirects=fields.whole("maxRedirects", _wire.DEFAULT_MAX_REDIRECTS, 0, MOST_REDIRECTS),
        verify=fields.flag("verifySsl", True),
        auth=auth,
        proxy=read_proxy(fields),
        wait_for=fields.text("waitFor"),
        screenshot=fields.flag("screenshot", False),
    )


def read_url(fields: Fields) -> str:
    """`url` with `params` added to its query."""
    text = fields.text("url")
    if not text:
        raise invalid("url is missing; allowed is an absolute http or https URL.")
    try:
        url = legal_url(text)
    except ValueError as error:
        raise invalid(f"url is {shown(text)}, which can't be used: {error}.") from None
    query = urlencode(list(_pairs("params", fields.mapping("params"))))
    if not query:
        return url
    parts = urlsplit(url)
    return parts._replace(query=f"{parts.query}&{query}" if parts.query else query).geturl()


def legal_url(text: str, base: str = "") -> str:
    """An http(s) URL with everything encoded that has to be, and nothing else touched: signed URLs stay valid.

    Raises:
        ValueError: it is none; the message says why.
    """
    joined = urljoin(base, text.strip())
    parts = urlsplit(joined)
    if parts.scheme not in ("http", "https"):
        raise ValueError("it is not an absolute http or https URL")
    if not parts.hostname:
        raise ValueError("it names no host")
    if parts.port == 0:
        raise ValueError("its port is 0")
    host = parts.netloc if parts.netloc.isascii() else _ascii_netloc(parts)
    if re.search(r"[\s\x00-\x20\x7f]", host):
        raise ValueError("its host has characters that no host has")
    parts = parts._replace(
        netloc=host,
        path=quote(parts.path, safe=_LEGAL) or "/",
        query=quote(parts.query, safe=_LEGAL),
        fragment=quote(parts.fragment, safe=_LEGAL),
    )
    return parts.geturl()


def _ascii_netloc(parts: SplitResult) -> str:
    user, at, host = parts.netloc.rpartition("@")
    name, colon, port = host.partition(":")
    return quote(user, safe=_LEGAL) + at + name.encode("idna").decode("ascii") + colon + port


def read_proxy(fields: Fields) -> str | None:
    """`proxy`, a URL; it may hold a password, so errors do not repeat it."""
    text = fields.text("proxy")
    if not text:
        return None
    try:
        parts = urlsplit(text)
        usable = parts.scheme in _PROXIES and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise invalid("proxy can't be used; allowed is a URL such as http://user:password@host:3128 (http or https).")
    return text


def _method(fields: Fields) -> str:
    method = (fields.text("method") or "GET").upper()
    if not _TOKEN.fullmatch(method) or method == "CONNECT":
        raise invalid(f"method is {shown(method)}; allowed is an HTTP method other than CONNECT.")
    return method


def _headers(fields: Fields) -> _wire.Headers:
    given = fields.body.get("headers")
    if given is not None and not isinstance(given, dict | list):
        raise invalid(f"headers is a {type(given).__name__}; allowed is an object of names and values.")
    headers = _wire.read_headers(given)
    for name, value in headers:
        if not _TOKEN.fullmatch(name):
            raise invalid(f"headers has the name {shown(name)}, which no header can have.")
        if _BROKEN.search(value):
            raise invalid(f"headers has a value for {name} with control characters or half characters in it.")
    return [(name, value) for name, value in headers if name.lower() not in _OWN_HEADERS]


def _cookies(cookies: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in _pairs("cookies", cookies):
        if not _TOKEN.fullmatch(name) or _BROKEN.search(value) or ";" in value:
            raise invalid(f"cookies has {shown(name)}, whose name or value no cookie can have.")
        yield name, value


def _auth(fields: Fields) -> tuple[str, str] | None:
    given = fields.mapping("auth")
    if not given:
        return None
    user, password = given.get("username"), given.get("password", "")
    if not isinstance(user, str) or not isinstance(password, str):
        raise invalid("auth can't be used; allowed is an object with the texts username and password.")
    return user, password


def _body(fields: Fields, headers: _wire.Headers) -> bytes | None:
    """The body's bytes; an object gets the Content-Type it is written in, where none was given."""
    body = fields.body.get("body")
    encoding = fields.choice("bodyEncoding", ("base64", "text"))
    if body is None:
        return None
    if isinstance(body, str):
        data = _decode(body) if encoding == "base64" else body.encode("utf-8", "surrogatepass")
    elif isinstance(body, dict) and _content_type(headers) == FORM:
        data = urlencode(list(_pairs("body", body))).encode()
    else:
        data = json.dumps(body).encode()
        if not _content_type(headers):
            headers.append(("Content-Type", "application/json"))
    if len(data) > _wire.MAX_BODY:
        raise invalid(f"body has {len(data)} bytes; allowed are at most {_wire.MAX_BODY}.")
    return data


def _content_type(headers: _wire.Headers) -> str:
    return next(
        (value.partition(";")[0].strip().lower() for name, value in headers if name.lower() == "content-type"), ""
    )


def _decode(body: str) -> bytes:
    try:
        return base64.b64decode(body, validate=True)
    except ValueError:
        raise invalid(f"body is {shown(body)}, which is not the base64 that bodyEncoding says it is.") from None


def _pairs(field: str, mapping: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values as text; a list is a name that occurs more than once, null one that does not occur."""
    for name, value in mapping.items():
        for one in value if isinstance(value, list) else [value]:
            if one is None:
                continue
            if isinstance(one, dict | list):
                raise invalid(f"{field} has a {type(one).__name__} for {shown(name)}; allowed are texts and numbers.")
            text = one if isinstance(one, str) else json.dumps(one)
            if _BROKEN.search(name + text) and field != "body":
                raise invalid(f"{field} has control characters or half characters for {shown(name)}.")
            yield name, text


def next_request(request: _wire.TargetRequest, status: int, location: str) -> _wire.TargetRequest:
    """The request that a redirect asks for, by the rules of browsers (the fetch standard).

    Raises:
        Refused: it leads to something that is not the web.
    """
    try:
        url = legal_url(location, request.url)
    except ValueError as error:
        raise Refused("TARGET_UNREACHABLE", f"The target redirected to {shown(location)}: {error}.") from None
    before, after = urlsplit(request.url), urlsplit(url)
    if before.fragment and not after.fragment:
        url = after._replace(fragment=before.fragment).geturl()
    headers, body, method, auth = request.headers, request.body, request.method, request.auth
    if (status == 303 and method not in ("GET", "HEAD")) or (status in (301, 302) and method == "POST"):
        method, body = "GET", None
        headers = [pair for pair in headers if not pair[0].lower().startswith("content-")]
    if origin(before) != origin(after):
        auth = None
        headers = [pair for pair in headers if pair[0].lower() not in ("authorization", "cookie", "host")]
    return _wire.TargetRequest(
        url=url,
        method=method,
        headers=headers,
        body=body,
        timeout=request.timeout,
        verify=request.verify,
        auth=auth,
        proxy=request.proxy,
    )


def origin(url: SplitResult) -> tuple[str, str, int]:
    """What a web page's secrets belong to: scheme, host and port."""
    return url.scheme, (url.hostname or "").lower(), url.port or (443 if url.scheme == "https" else 80)
