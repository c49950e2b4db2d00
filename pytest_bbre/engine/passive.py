"""Knows how a passive session sends a web request: aiohttp's client, the session's own cookies, its honest profile.
Must not know the wire's fields, nor how many sessions there are.

One pool of connections serves all sessions. What is a session's own is its jar alone, so opening one costs nothing.
"""

from __future__ import annotations

import asyncio
import base64
import io
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from .. import _wire
from .cookies import Jar
from .refused import Refused, invalid
from .targets import next_request

REDIRECTS: Final = (301, 302, 303, 307, 308)
_LARGE: Final = 1024 * 1024  # bytes: a larger body goes out in pieces, so that other sessions get their turn
_BUFFER: Final = 256 * 1024  # bytes aiohttp reads ahead: four times its default, for large answers
_HEADER: Final = 65_536  # bytes of one header: the limit of http.client; some sites send more than the 8190 of aiohttp
_NO_AUTOMATIC: Final = ("Content-Type",)  # as requests: a body of unknown kind is not given one


def _version() -> str:
    try:
        return version("pytest-bbre")
    except PackageNotFoundError:  # run from a checkout
        return "0"


def new_profile() -> dict[str, Any]:
    """The profile of a passive session. It names this engine: nothing here pretends to be a browser."""
    return {
        "userAgent": f"pytest-bbre/{_version()} (embedded engine; passive)",
        "languages": ["en-US", "en"],
        "locale": "en-US",
        "browser": None,
        "engine": "pytest-bbre embedded",
    }


@dataclass
class Context:
    """What one session's requests need: who it says it is, its cookies, its proxy."""

    headers: dict[str, str]
    proxy: str | None = None
    jar: Jar = field(default_factory=Jar)


def new_context(profile: dict[str, Any], proxy: str | None) -> Context:
    """A context that sends what the profile says."""
    first, *others = profile["languages"]
    languages = [first, *(f"{one};q={max(0.9 - place / 10, 0.1):.1f}" for place, one in enumerate(others))]
    return Context({"User-Agent": profile["userAgent"], "Accept": "*/*", "Accept-Language": ",".join(languages)}, proxy)


class Passive:
    """Sends requests; `start` it on the loop it shall run on."""

    def __init__(self) -> None:
        self._client: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Opens the pool of connections."""
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30.0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=_BUFFER,
            max_line_size=_HEADER,
            max_field_size=_HEADER,
            skip_auto_headers=_NO_AUTOMATIC,
            trust_env=False,
        )

    async def stop(self) -> None:
        """Closes all connections."""
        if self._client is not None:
            await self._client.close()

    async def send(self, context: Context, request: _wire.TargetRequest) -> _wire.TargetAnswer:
        """Sends a request and follows its redirects.

        Raises:
            Refused: the target gave no answer that can be told.
        """
        if request.cookies:
            context.jar.merge(request.cookies, urlsplit(request.url))
        give_up = asyncio.get_running_loop().time() + (request.timeout or _wire.DEFAULT_REQUEST_TIMEOUT)
        history: list[_wire.TargetAnswer] = []
        step = request
        while True:
            answer = await self._step(context, step, give_up)
            location = _location(answer) if request.follow_redirects else None
            if location is None:
                return replace(answer, history=tuple(history)) if history else answer
            if len(history) >= request.max_redirects:
                raise Refused("TOO_MANY_REDIRECTS", f"The target redirected more than {request.max_redirects} times.")
            history.append(answer)
            step = next_request(step, answer.status, location)

    async def _step(self, context: Context, request: _wire.TargetRequest, give_up: float) -> _wire.TargetAnswer:
        """One exchange, with every way it can fail told as a code."""
        place = _place(urlsplit(request.url))
        try:
            return await self._exchange(context, request, give_up)
        except asyncio.TimeoutError:
            raise Refused("TARGET_TIMEOUT", f"{place} did not answer in time.") from None
        except (aiohttp.InvalidURL, UnicodeError) as error:
            raise invalid(f"url can't be used: {error}.") from None
        except aiohttp.ClientConnectorCertificateError as error:
            words = f"The certificate of {place} was not accepted: {error.certificate_error}"
            raise Refused("TARGET_UNREACHABLE", words, hint="verifySsl false accepts any certificate") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            words = str(error) or type(error).__name__
            raise Refused("TARGET_UNREACHABLE", f"{place} could not be reached: {words}") from None

    async def _exchange(self, context: Context, request: _wire.TargetRequest, give_up: float) -> _wire.TargetAnswer:
        assert self._client is not None
        parts = urlsplit(request.url)
        time = asyncio.get_running_loop().time
        started = time()
        async with self._client.request(
            request.method,
            URL(_without_user(parts), encoded=True),
            headers=_headers(context, request, parts),
            data=_data(request.body),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=max(give_up - started, 0.001)),
            ssl=request.verify,
            proxy=request.proxy,
        ) as response:
            elapsed = time() - started
            raw = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers]
            context.jar.take(response.headers.getall("Set-Cookie", ()), parts)
            return _wire.TargetAnswer(
                status=response.status,
                reason=response.reason or "",
                headers=raw,  # as requests reads them: latin-1, in order, repeated ones kept
                body=await _content(response),
                url=request.url,
                method=request.method,
                elapsed=elapsed,
            )


async def _content(response: aiohttp.ClientResponse) -> bytes:
    """The decoded body, within the limit; the limit counts decoded bytes, so that a small bomb can't be large."""
    chunks, size = [], 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > _wire.MAX_BODY:
            response.close()
            raise Refused("TARGET_TOO_LARGE", f"The target's answer is larger than {_wire.MAX_BODY} bytes.")
    return b"".join(chunks)


def _headers(context: Context, request: _wire.TargetRequest, parts: SplitResult) -> CIMultiDict[str]:
    """The request's own headers, then the profile's, cookies and credentials for whatever it does not name."""
    headers = CIMultiDict(request.headers)
    for name, value in context.headers.items():
        headers.setdefault(name, value)
    if "Cookie" not in headers and (cookies := context.jar.header(parts)):
        headers["Cookie"] = cookies
    if _is_large(request.body):  # a target may answer before it has read all: then the rest would go to the next one
        headers["Connection"] = "close"
    auth = request.auth or _user(parts)
    if auth is not None and "Authorization" not in headers:
        headers["Authorization"] = "Basic " + base64.b64encode(":".join(auth).encode()).decode("ascii")
    return headers


def _user(parts: SplitResult) -> tuple[str, str] | None:
    return None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))


def _without_user(parts: SplitResult) -> str:
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _place(parts: SplitResult) -> str:
    """Where a request went, without anything in it that may be secret."""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _data(body: Any) -> Any:
    return io.BytesIO(body) if _is_large(body) else body


def _is_large(body: Any) -> bool:
    return body is not None and len(body) > _LARGE


def _location(answer: _wire.TargetAnswer) -> str | None:
    """Where a redirect leads; the header's bytes are UTF-8 more often than latin-1."""
    if answer.status not in REDIRECTS:
        return None
    found = next((value for name, value in answer.headers if name.lower() == "location"), None)
    return None if found is None else found.encode("latin-1").decode("utf-8", "replace")
