"""Knows how the arguments of requests.request become a web request that can travel through a session.
Must not know sessions, settings or the network. requests itself does the encoding, so that it is requests' own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import HTTPBasicAuth, HTTPDigestAuth, HTTPProxyAuth
from requests.utils import select_proxy

from . import _wire
from .errors import InvalidURLError, UnsupportedOptionError

# Written by requests for the connection that it would have used itself.
_NOT_SENT = frozenset({"content-length", "transfer-encoding"})
_REFUSED = {
    "files": "Encode the upload yourself and pass it as data= with its Content-Type header.",
    "stream": "The whole body comes with the answer; use response.iter_content() on it.",
    "cert": "Client certificates can't be sent to where the session runs.",
    "hooks": "Call your function on the response.",
}


EXTENSIONS = ("wait_for", "screenshot")  # of the embedded engine: the service does not know them

_POSITIONS = (
    "params", "data", "headers", "cookies", "files", "auth", "timeout", "allow_redirects", "proxies", "hooks", "stream",
    "verify", "cert", "json",
)  # fmt: skip


def by_name(positional: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    """All options by name; those without one stand where requests.Session.request has them.

    Raises:
        TypeError: there are too many, or one is given twice.
    """
    if len(positional) > len(_POSITIONS):
        raise TypeError(f"A request takes at most {len(_POSITIONS)} arguments after its URL, not {len(positional)}.")
    placed = dict(zip(_POSITIONS, positional, strict=False))
    twice = sorted(placed.keys() & options.keys())
    if twice:
        raise TypeError(f"{', '.join(twice)}: given by place and by name.")
    return placed | options


def prepare(
    method: str,
    url: str,
    *,
    params: Any = None,
    data: Any = None,
    json: Any = None,
    headers: Mapping[str, str | bytes | None] | None = None,
    cookies: Any = None,
    auth: Any = None,
    timeout: float | tuple[float | None, float | None] | None = None,
    allow_redirects: bool = True,
    verify: bool | str | None = None,
    proxies: Mapping[str, str] | None = None,
    wait_for: str | None = None,
    screenshot: bool = False,
    **others: Any,
) -> tuple[requests.PreparedRequest, _wire.TargetRequest]:
    """The request as requests prepares it, and as it travels.

    Raises:
        InvalidURLError: the URL is none, or not http(s).
        UnsupportedOptionError: an option that can't travel; the message says what to do instead.
    """
    _refuse(others, auth, verify, proxies)
    basic = _basic(auth)
    shape = {"params": params, "data": data, "json": json, "headers": headers, "auth": None if basic else auth}
    prepared = _as_requests_does(method, url, shape)
    request = _wire.TargetRequest(
        url=prepared.url or url,
        method=prepared.method or "GET",
        headers=[(name, _text(value)) for name, value in prepared.headers.items() if name.lower() not in _NOT_SENT],
        body=json if isinstance(json, dict) and not data else _bytes(prepared.body),
        cookies=_cookies(cookies),
        timeout=_seconds(timeout),
        follow_redirects=allow_redirects,
        verify=verify is not False,
        auth=basic,
        proxy=select_proxy(prepared.url or url, dict(proxies)) if proxies else None,
        wait_for=wait_for,
        screenshot=screenshot,
    )
    return prepared, request


def refuse_extensions(options: Mapping[str, Any], *, embedded: bool) -> None:
    """Refuses what only the embedded engine understands, where the session is not known to be one of its own.

    Raises:
        UnsupportedOptionError: naming the option.
    """
    for name in EXTENSIONS:
        if options.get(name) and not embedded:
            raise UnsupportedOptionError(
                f"{name} is an extension of the embedded engine, and this session is not known to be one of its own. "
                "Leave it out; or use a session that was opened here, on the embedded engine."
            )


def _as_requests_does(method: str, url: str, shape: dict[str, Any]) -> requests.PreparedRequest:
    if not isinstance(method, str):
        raise UnsupportedOptionError(f"method is {method!r}; allowed is a text such as 'GET'.")
    shape["headers"] = {name: value for name, value in (shape["headers"] or {}).items() if value is not None}
    try:
        prepared = requests.Request(method.upper(), url, **shape).prepare()
    except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema, UnicodeDecodeError) as error:
        raise InvalidURLError(f"{url!r} is no URL: {error}") from error
    except (requests.RequestException, UnicodeEncodeError) as error:  # a header with a line break, NaN as JSON
        raise UnsupportedOptionError(f"requests can't send this: {error}") from error
    parts = urlsplit(prepared.url or "")
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme not in ("http", "https") or "%20" in host or any(letter.isspace() for letter in host):
        raise InvalidURLError(f"{url!r} is not an http or https URL.")
    return prepared


def _refuse(others: Mapping[str, Any], auth: Any, verify: Any, proxies: Any) -> None:
    for name, value in others.items():
        if name not in _REFUSED:
            raise UnsupportedOptionError(f"{name!r} is no option of a request. It takes what requests.request takes.")
        if value:
            raise UnsupportedOptionError(f"{name}= can't be used with a session's request. {_REFUSED[name]}")
    if proxies and not isinstance(proxies, Mapping):
        raise UnsupportedOptionError(
            f"proxies is {proxies!r}; allowed is a mapping such as {{'https': 'http://host:3128'}}."
        )
    if isinstance(verify, str):
        raise UnsupportedOptionError("verify= takes True or False here: a path means nothing where the session runs.")
    if isinstance(auth, HTTPProxyAuth):
        raise UnsupportedOptionError("HTTPProxyAuth can't travel; put the proxy's user and password into proxies=.")
    if isinstance(auth, HTTPDigestAuth):
        raise UnsupportedOptionError("Digest authentication needs a second request; basic authentication can travel.")


def _basic(auth: Any) -> tuple[str, str] | None:
    """User name and password for basic authentication; other kinds write their headers while being prepared."""
    if isinstance(auth, HTTPBasicAuth):
        auth = (auth.username, auth.password)
    if isinstance(auth, tuple) and len(auth) == 2:
        return _text(auth[0]), _text(auth[1])
    return None


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _bytes(body: Any) -> bytes | None:
    """A body as bytes; files and iterators are read to their end, since nothing streams through JSON."""
    if body is None or isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode("utf-8")
    if hasattr(body, "read"):
        return _bytes(body.read())
    return b"".join(part.encode() if isinstance(part, str) else bytes(part) for part in body)


def _cookies(cookies: Any) -> dict[str, str]:
    if not cookies:
        return {}
    if not isinstance(cookies, Mapping | CookieJar):
        raise UnsupportedOptionError(f"cookies is {cookies!r}; allowed is a mapping of names to values, or a jar.")
    pairs = cookies.items() if isinstance(cookies, Mapping) else ((one.name, one.value) for one in cookies)
    return {str(name): str(value) for name, value in pairs if value is not None}


def _seconds(timeout: Any) -> float | None:
    """One number of seconds: the wire has no pair, so connecting and reading are added up."""
    parts = timeout if isinstance(timeout, tuple) and len(timeout) == 2 else (timeout,)
    given = [part for part in parts if part is not None]
    for part in given:
        if isinstance(part, bool) or not isinstance(part, int | float) or not 0 < part < math.inf:
            allowed = "a number of seconds more than 0, or a pair of them"
            raise UnsupportedOptionError(f"timeout is {timeout!r}; allowed is {allowed}.")
    return float(sum(given)) if given else None
