"""Knows how a JSON object gets to the service and its answer back: pooling, time limits, proxies, foreign errors.
Must not know the endpoints. The only module that talks to the service.
"""

from __future__ import annotations

import ipaddress
import json
import os
import ssl
import time
import traceback
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from . import _wire
from ._secret import keep_out_of_log
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

__tracebackhide__ = True  # a failing test shows its own lines; pytest --full-trace shows ours

MAX_ANSWER: Final = 2 * _wire.MAX_BODY  # bytes: base64 makes a body a third larger, history and headers come on top
_POOL: Final = 32  # connections kept; more are opened when needed and dropped after use
_HIDDEN: Final = "***"
_CHUNK: Final = 256 * 1024
_NOT_SENT: Final = (requests.ConnectTimeout, requests.exceptions.ProxyError, requests.exceptions.InvalidURL)


class Transport:
    """Posts JSON to one service with one key. Safe to use from many threads; a forked child gets a pool of its own."""

    def __init__(self, settings: Settings) -> None:
        self._base_url = settings.base_url
        if settings.api_key is None:
            raise ApiKeyRequiredError("No API key is set.", code="API_KEY_REQUIRED")
        self._connect_timeout = settings.connect_timeout
        self._key = settings.api_key
        self._headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": "pytest-bbre",
            _wire.KEY_HEADERS[0]: settings.api_key,
        }
        self._environment = _environment(settings.base_url)
        keep_out_of_log("urllib3.connection", settings.api_key)  # it quotes header lines that it can't read
        self._templates: dict[str, requests.PreparedRequest] = {}
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

    def post(self, path: str, body: _wire.Json, *, timeout: float, read: Callable[[_wire.Json], Any] = dict) -> Any:
        """Sends one POST and reads its answer.

        Args:
            path: the endpoint's path.
            body: what is sent.
            timeout: seconds, for each silence and for the whole answer.
            read: makes of a success what is returned. Called in here, since its locals hold the answer, which may
                echo the key.

        Raises:
            TransportError: no answer came; the class tells whether anything was sent.
            InvalidAnswerError: what came is not BBRE's.
            BBREError: the service's failure, by its code.
        """
        if self._pid != os.getpid():
            self._renew()
        try:
            return self._ask(path, json.dumps(body), timeout, read)
        except BBREError as error:
            failed = error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            failed = _translate(error, self._base_url)
        raise self._harmless(failed)  # out here: the frames below hold what was sent and what came, key and all

    def _ask(self, path: str, body: str, timeout: float, read: Callable[[_wire.Json], Any]) -> Any:
        request = self._prepared(path, body.encode())
        give_up = time.monotonic() + timeout
        timeouts = (min(self._connect_timeout, timeout), timeout)
        answer = self._adapter.send(request, stream=True, timeout=timeouts, **self._environment)
        content = _content(answer, give_up)
        try:
            return read(self._read(answer.status_code, answer.headers, content))
        except RecursionError:
            raise InvalidAnswerError("The answer is nested too deeply.", status=answer.status_code) from None
        except InvalidAnswerError as error:
            error.status = answer.status_code  # it is whole, and of no use: unlike one that is cut off, which has none
            raise

    def _prepared(self, path: str, body: bytes) -> requests.PreparedRequest:
        """The request; prepared by requests once for each path, since only the body changes."""
        template = self._templates.get(path)
        if template is None:
            template = requests.Request("POST", self._base_url + path, headers=self._headers).prepare()
            self._templates[path] = template
        request = template.copy()
        request.body = body
        request.headers["Content-Length"] = str(len(body))
        return request

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
        if told is not None:
            _scrub(answer, self._key)  # failures alone: a session's id is opaque, and may well contain a short key
            told = _wire.read_failure(answer) or told
            raise failure(told, status, retry_after=_retry_after(headers), answer=answer)
        if status >= 300:
            raise InvalidAnswerError(f"{self._base_url} answered HTTP {status} and no BBRE error.", status=status)
        return answer

    def _harmless(self, failed: BBREError) -> BBREError:
        """The error without what a report would print of the key: frames with their locals, and the service's words."""
        _cut_tracebacks(failed)
        if self._key in failed.message:
            failed.message = failed.message.replace(self._key, _HIDDEN)
            failed.args = (failed.message,)
        cause = failed.__cause__
        if cause is not None and self._key in (told := "".join(traceback.format_exception(cause))):
            failed.__cause__ = Exception(told.replace(self._key, _HIDDEN))
        return failed


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
        raise InvalidAnswerError(f"The answer is cut off or damaged after {size} bytes: {_innermost(error)}") from error
    finally:
        answer.close()
    return b"".join(chunks)


def _parse(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        return None


def _scrub(answer: _wire.Json, key: str) -> None:
    """Takes the key out of an answer that echoes it. In place and without recursion: it may be nested deeply."""
    waiting: list[Any] = [answer]
    while waiting:
        one = waiting.pop()
        for name, value in list(one.items() if isinstance(one, dict) else enumerate(one)):
            if isinstance(name, str) and key in name:
                del one[name]
                name = name.replace(key, _HIDDEN)
            one[name] = value.replace(key, _HIDDEN) if isinstance(value, str) else value
            if isinstance(value, dict | list):
                waiting.append(value)


def is_loopback(base_url: str) -> bool:
    """Whether an address is this machine's own."""
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _environment(base_url: str) -> dict[str, Any]:
    """Proxies and certificates from the environment, as requests reads them; never a proxy for this machine."""
    with requests.Session() as session:
        found = session.merge_environment_settings(base_url, {}, None, None, None)
    proxies = {} if is_loopback(base_url) else found["proxies"]
    return {"proxies": proxies, "verify": found["verify"]}


def _retry_after(headers: Any) -> float | None:
    """Retry-After in seconds; a date, which the vendor does not use, is left out."""
    try:
        seconds = float(headers["Retry-After"])
    except (KeyError, ValueError):
        return None
    return min(seconds, 3600.0) if seconds >= 0 else None  # nor is NaN a time to wait


def _translate(error: BaseException, base_url: str) -> TransportError:
    """The one place where foreign errors become ours. The original is the cause."""
    if isinstance(error, requests.exceptions.SSLError | ssl.SSLError):
        whose = "the certificate was not accepted" if "CERTIFICATE" in str(error).upper() else "it does not speak TLS"
        translated: TransportError = TLSError(f"No TLS with {base_url}, {whose}: {_innermost(error)}")
    elif isinstance(error, _NOT_SENT) or _never_connected(error):
        translated = ConnectionFailedError(f"No connection to {base_url}: {_innermost(error)}")
    elif isinstance(error, requests.ReadTimeout | urllib3.exceptions.ReadTimeoutError | TimeoutError):
        translated = TimedOutError(f"{base_url} did not answer in time.")
    else:
        translated = ConnectionLostError(f"The connection to {base_url} was lost: {_innermost(error)}")
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
