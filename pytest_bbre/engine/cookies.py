"""Knows how cookies are kept and sent (RFC 6265), as browsers do: values go back just as they came.
Must not know whose cookies they are, nor how a request is sent.

Why not aiohttp's jar: it rewrites values (quotes, commas), and sends only one of two cookies that differ by path.
Not kept: a list of public suffixes. A domain without a dot is taken from its own host alone.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz
from typing import Any, Final
from urllib.parse import SplitResult

_MOST: Final = 3000  # cookies a jar holds, as Chromium: an endless source must not fill the memory
_SAME_SITES: Final = ("Strict", "Lax", "None")
_LARGEST: Final = 4096  # characters of name and value together, as browsers


@dataclass(frozen=True)
class _Cookie:
    name: str
    value: str
    domain: str
    path: str
    host_only: bool
    secure: bool
    expires: float | None
    age: int  # the place in the order of first setting, which a new value keeps
    http_only: bool = False
    same_site: str = ""


class Jar:
    """One session's cookies.

    Args:
        now: the time of day in seconds, since that is what a cookie's expiry is told in.

    Attributes:
        version: goes up with each change, but for those that came from a browser.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._cookies: dict[tuple[str, str, str], _Cookie] = {}
        self._count = 0
        self.version = 0

    def __len__(self) -> int:
        return len(self._cookies)

    def header(self, url: SplitResult) -> str:
        """The Cookie header for a URL, empty if there is nothing to send: longer paths first, then older ones."""
        if not self._cookies:
            return ""
        host, path, now = _host(url), url.path or "/", self._now()
        for key in [key for key, one in self._cookies.items() if one.expires is not None and one.expires <= now]:
            del self._cookies[key]
        safe = url.scheme == "https" or _is_trusted(host)
        sent = [
            one
            for one in self._cookies.values()
            if _covers(one, host) and _path_matches(one.path, path) and (safe or not one.secure)
        ]
        sent.sort(key=lambda one: (-len(one.path), one.age))
        return "; ".join(f"{one.name}={one.value}" if one.name else one.value for one in sent)

    def merge(self, cookies: Mapping[str, str], url: SplitResult) -> None:
        """Takes in the cookies that came with a request, for the whole of its host (the path is chosen)."""
        for name, value in cookies.items():
            self._keep(name, value, domain=_host(url), path="/", host_only=True, secure=False, expires=None)

    def take(self, headers: Iterable[str], url: SplitResult) -> None:
        """Takes in Set-Cookie headers. One that can't be kept is left out, as browsers do."""
        for header in headers:
            self._take(header, url)

    def _take(self, header: str, url: SplitResult) -> None:
        pair, *rest = header.split(";")
        name, sign, value = pair.partition("=")
        name, value = (name.strip(), value.strip()) if sign else ("", name.strip())
        if not (name or value) or len(name) + len(value) > _LARGEST or not _can_travel(name + value):
            return
        given = {key.strip().lower(): text.strip() for key, _, text in (part.partition("=") for part in rest)}
        host = _host(url)
        domain = given.get("domain", "").lstrip(".").lower()
        if domain and not _domain_matches(domain, host):
            return
        secure = "secure" in given
        if secure and url.scheme != "https" and not _is_trusted(host):
            return
        path = given.get("path", "")
        self._keep(
            name,
            value,
            domain=domain or host,
            path=path if path.startswith("/") else _default_path(url.path),
            host_only=not domain,
            secure=secure,
            expires=self._expiry(given),
            http_only="httponly" in given,
            same_site=given.get("samesite", "").capitalize(),
        )

    def _keep(
        self,
        name: str,
        value: str,
        *,
        domain: str,
        path: str,
        host_only: bool,
        secure: bool,
        expires: float | None,
        http_only: bool = False,
        same_site: str = "",
    ) -> None:
        key = (domain, path, name)
        self.version += 1
        if expires is not None and expires <= self._now():
            self._cookies.pop(key, None)
            return
        known = self._cookies.get(key)
        if known is None and len(self._cookies) >= _MOST:
            del self._cookies[next(iter(self._cookies))]
        self._count += 1
        age = known.age if known else self._count
        self._cookies[key] = _Cookie(name, value, domain, path, host_only, secure, expires, age, http_only, same_site)

    # A browser that has the same cookies, in the form that Playwright gives and takes.

    def to_browser(self) -> list[dict[str, Any]]:
        """All of them, for a browser."""
        now = self._now()
        return [_for_browser(one) for one in self._cookies.values() if one.expires is None or one.expires > now]

    def from_browser(self, before: Collection[tuple[str, str, str]], cookies: Iterable[Mapping[str, Any]]) -> None:
        """Takes in what a browser made of them: what is new or changed, and what it had `before` and has no more."""
        version, after = self.version, set()
        for cookie in cookies:
            key = browser_key(cookie)
            after.add(key)
            known = self._cookies.get(key)
            if known is None or known.value != cookie["value"]:
                self._keep(
                    cookie["name"],
                    cookie["value"],
                    domain=key[0],
                    path=key[1],
                    host_only=not cookie["domain"].startswith("."),
                    secure=cookie["secure"],
                    expires=cookie["expires"] if cookie["expires"] > 0 else None,
                    http_only=cookie["httpOnly"],
                    same_site=cookie.get("sameSite") or "",
                )
        for key in set(before) - after:
            self._cookies.pop(key, None)
        self.version = version

    def _expiry(self, given: Mapping[str, str]) -> float | None:
        """Max-Age wins over Expires; what can't be read is as if it were not there."""
        seconds = given.get("max-age", "")
        if seconds.removeprefix("-").isdecimal():
            return self._now() + int(seconds[:12]) if not seconds.startswith("-") else 0.0
        parts = parsedate_tz(given.get("expires", ""))
        try:
            return None if parts is None else mktime_tz(parts)
        except (ValueError, OverflowError):  # the 45th of a month
            return None


def browser_key(cookie: Mapping[str, Any]) -> tuple[str, str, str]:
    """Tells a browser's cookie from its others: domain, path and name."""
    return cookie["domain"].lstrip("."), cookie["path"], cookie["name"]


def _for_browser(cookie: _Cookie) -> dict[str, Any]:
    told = {
        "name": cookie.name,
        "value": cookie.value,
        "domain": cookie.domain if cookie.host_only else f".{cookie.domain}",
        "path": cookie.path,
        "expires": -1 if cookie.expires is None else cookie.expires,
        "httpOnly": cookie.http_only,
        "secure": cookie.secure,
    }
    return {**told, "sameSite": cookie.same_site} if cookie.same_site in _SAME_SITES else told


def _host(url: SplitResult) -> str:
    return (url.hostname or "").lower()


def _can_travel(text: str) -> bool:
    """Whether it can be sent in a header: no control characters, no bytes that were not UTF-8."""
    return not any(ord(one) < 32 or ord(one) == 127 or 0xD800 <= ord(one) <= 0xDFFF for one in text)


def _covers(cookie: _Cookie, host: str) -> bool:
    return host == cookie.domain or (not cookie.host_only and host.endswith("." + cookie.domain) and not _is_ip(host))


def _domain_matches(domain: str, host: str) -> bool:
    return host == domain or (host.endswith("." + domain) and "." in domain and not _is_ip(host))


def _path_matches(cookie: str, path: str) -> bool:
    return path == cookie or (path.startswith(cookie) and (cookie.endswith("/") or path[len(cookie)] == "/"))


def _default_path(path: str) -> str:
    return path[: path.rfind("/")] or "/" if path.startswith("/") else "/"


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_trusted(host: str) -> bool:
    """This machine's own addresses count as secure, as in browsers."""
    return host in ("localhost", "::1") or host.endswith(".localhost") or (host.startswith("127.") and _is_ip(host))
