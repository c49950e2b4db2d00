"""Knows how a JSON object gets to the service and its answer back: pooling, time limits, proxies, foreign errors.
Must not know the endpoints. The only module that touches the network.
"""

from __future__ import annotations

import json
import os
import ssl
import time
from typing import Any, Final
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from . import _wire
from ._settings import Settings
from .errors import (
    BY_CODE,
    ApiKeyRequiredError,
    BBREError,
    ConnectionFailedError,
    ConnectionLostError,
    InvalidAnswerError,
    TimedOutError,
    TLSError,
    TransportError,
)

MAX_ANSWER: Final = 2 * _wire.MAX_BODY  # bytes: base64 makes a body a third larger, history and headers come on top
_POOL: Final = 32  # connections kept; more are opened when needed and dropped after use
_CHUNK: Final = 256 * 1024
_NOT_SENT: Final = (requests.ConnectTimeout, requests.exceptions.ProxyError, requests.exceptions.InvalidURL)


class Transport:
    """Posts JSON to one service with one key. Safe to use from many threads; a forked child gets a pool of its own."""

    def __init__(self, settings: Settings) -> None:
        if settings.api_key is None:
            raise ApiKeyRequiredError("No API key is set.", code="API_KEY_REQUIRED")
        self._base_url = settings.base_url
        self._connect_timeout = settings.connect_timeout
        self._key = settings.api_key
        self._headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": "pytest-bbre",
            _wire.KEY_HEADERS[0]: settings.api_key,
        }
        self._environment = _environment(settings.base_url)
        self._renew()

    def __repr__(self) -> str:
        return f"<Transport to {self._base_url}>"

    def _renew(self) -> None:
        """A pool of this process's own: two processes must not talk over one connection."""
        self._pid = os.getpid()
        self._adapter = HTTPAdapter(pool_connections=2, pool_maxsize=_POOL)

    def close(self) -> None:
        """Drops the pooled connections; a later call opens new ones."""
        self._adapter.close()

    def post(self, path: str, body: _wire.Json, *, timeout: float) -> _wire.Json:
        """Sends one POST and reads its answer.

        Args:
            path: the endpoint's path.
            body: what is sent.
            timeout: seconds, for each silence and for the whole answer.

        Raises:
            TransportError: no answer came; the class tells whether anything was sent.
            InvalidAnswerError: what came is not BBRE's.
            BBREError: the service's failure, by its code.
        """
        if self._pid != os.getpid():
            self._renew()
        try:
            status, headers, content = self._exchange(path, json.dumps(body), timeout)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            failed = _translate(error, self._base_url)
        else:
            return self._read(status, headers, content)
        raise failed  # out here, where the original is its cause and not its context as well

    def _exchange(self, path: str, body: str, timeout: float) -> tuple[int, Any, bytes]:
        request = requests.Request("POST", self._base_url + path, headers=self._headers, data=body.encode()).prepare()
        give_up = time.monotonic() + timeout
        timeouts = (min(self._connect_timeout, timeout), timeout)
        answer = self._adapter.send(request, stream=True, timeout=timeouts, **self._environment)
        content = _content(answer, give_up)
        return answer.status_code, answer.headers, content

    def _read(self, status: int, headers: Any, content: bytes) -> _wire.Json:
        """The answer's object, or the failure that it tells."""
        answer = _parse(content)
        if not isinstance(answer, dict):
            kind = headers.get("Content-Type", "no content type")
            raise InvalidAnswerError(
                f"{self._base_url} answered HTTP {status} with {len(content)} bytes of {kind!r}, not a JSON object.",
                status=status,
            )
        told = _wire.read_failure(answer)
        if told is not None:  # a service that echoes the key is not repeated
            answer = _parse(content.replace(self._key.encode(), b"***")) or {}
            told = _wire.read_failure(answer) or told
            raise failure(told, status, retry_after=_retry_after(headers), answer=answer)
        if status >= 300:
            raise InvalidAnswerError(f"{self._base_url} answered HTTP {status} and no BBRE error.", status=status)
        return answer


def failure(told: _wire.Failure, status: int, *, retry_after: float | None = None, answer: Any = None) -> BBREError:
    """The error of a code; an unknown code is the base class with everything that was sent."""
    kind = BY_CODE.get(told.code, BBREError)
    return kind(told.message, code=told.code, status=status, hint=told.hint, retry_after=retry_after, answer=answer)


def _content(answer: requests.Response, give_up: float) -> bytes:
    """The whole body, within the limits of size and time; the connection goes back to the pool only if all is read."""
    chunks: list[bytes] = []
    size = 0
    try:
        while chunk := answer.raw.read1(_CHUNK, decode_content=True):
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_ANSWER:
                raise InvalidAnswerError(f"The answer is larger than {MAX_ANSWER} bytes.", status=answer.status_code)
            if time.monotonic() > give_up:
                raise requests.ReadTimeout("the answer went on for longer than the time limit")
        answer.raw.release_conn()
    except (urllib3.exceptions.ProtocolError, urllib3.exceptions.DecodeError) as error:
        cut = InvalidAnswerError(f"The answer is cut off or damaged after {size} bytes: {_innermost(error)}")
        _cut_tracebacks(error)
        cut.__cause__ = error
    else:
        return b"".join(chunks)
    finally:
        answer.close()
    raise cut


def _parse(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        return None


def is_loopback(base_url: str) -> bool:
    """Whether an address is this machine's own."""
    host = urlsplit(base_url).hostname or ""
    return host == "localhost" or host.endswith(".localhost") or host == "::1" or host.startswith("127.")


def _environment(base_url: str) -> dict[str, Any]:
    """Proxies and certificates from the environment, as requests reads them; never a proxy for this machine."""
    with requests.Session() as session:
        found = session.merge_environment_settings(base_url, {}, None, None, None)
    proxies = {} if is_loopback(base_url) else found["proxies"]
    return {"proxies": proxies, "verify": found["verify"]}


def _retry_after(headers: Any) -> float | None:
    """Retry-After in seconds; a date, which the vendor does not use, is left out."""
    try:
        return min(float(headers["Retry-After"]), 3600.0)
    except (KeyError, ValueError):
        return None


def _translate(error: BaseException, base_url: str) -> TransportError:
    """The one place where foreign errors become ours.

    The original is the cause. Its traceback is cut off, here and along its own causes: the frames below urllib3 hold
    the request's bytes, and with them the API key, which a report with locals would print.
    """
    if isinstance(error, requests.exceptions.SSLError | ssl.SSLError):
        translated: TransportError = TLSError(f"The certificate of {base_url} was not accepted: {error}")
    elif isinstance(error, _NOT_SENT) or _never_connected(error):
        translated = ConnectionFailedError(f"No connection to {base_url}: {_innermost(error)}")
    elif isinstance(error, requests.ReadTimeout | urllib3.exceptions.ReadTimeoutError | TimeoutError):
        translated = TimedOutError(f"{base_url} did not answer in time.")
    else:
        translated = ConnectionLostError(f"The connection to {base_url} was lost: {_innermost(error)}")
    _cut_tracebacks(error)
    translated.__cause__ = error
    return translated


def _never_connected(error: BaseException) -> bool:
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(reason, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError)


def _innermost(error: BaseException) -> str:
    """The operating system's own words, without the layers of wrapping around them."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__


def _cut_tracebacks(error: BaseException | None) -> None:
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = None
        waiting += [one.__cause__, one.__context__, *(arg for arg in one.args if isinstance(arg, BaseException))]
