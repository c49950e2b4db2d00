"""Knows how a JSON object gets to the service and its answer back with the standard library alone, within limits.
Must not know the endpoints. Small, since every guardian loads it: neither requests nor urllib3 is imported here.

The key is in no error: what goes wrong is told in fresh exceptions, without the frames that hold headers and answers.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from urllib.parse import urlsplit

from .. import _wire
from .._secret import Secret
from ..errors import (
    BY_CODE,
    BBREError,
    ConnectionFailedError,
    ConnectionLostError,
    InvalidAnswerError,
    SettingsError,
    TimedOutError,
    TLSError,
)
from .route import find_proxy, is_loopback, proxy_headers, split_proxy, tls_context

if TYPE_CHECKING:
    import socket
    import ssl

MAX_ANSWER: Final = 2 * 1024 * 1024  # bytes; a page of a hundred sessions is about 50 KiB
ENGINE_HEADER: Final = "x-bbre-engine"
_LONGEST_WORDS: Final = 300  # characters of what a service says about a failure


class UnreachedError(ConnectionFailedError):
    """No connection could be made.

    Attributes:
        refused_here: this machine itself says that nobody listens at the address.
    """

    refused_here = False


class Answer(NamedTuple):
    """What came back.

    Attributes:
        value: what `read` made of a success; None for a failure.
        failure: what the service said went wrong; None for a success.
        engine: the instance of the embedded engine that answered; None from the service.
        date: the Date header.
        asked, answered: seconds since the epoch by this machine's clock, before and after.
    """

    value: Any
    failure: BBREError | None
    engine: str | None
    date: str | None
    asked: float
    answered: float


class Post:
    """Posts JSON to one service with one key; a connection for each call. Safe to use from many threads.

    Args:
        base_url: the service's address.
        api_key: the key.
        connect_timeout, read_timeout: seconds; the second is for the whole answer.
    """

    def __init__(self, base_url: str, api_key: str, connect_timeout: float, read_timeout: float) -> None:
        self.base_url = base_url
        self.is_loopback = is_loopback(urlsplit(base_url).hostname or "")
        self._key = Secret(api_key)
        self._timeouts = connect_timeout, read_timeout
        self._context: ssl.SSLContext | None = None
        self._proxy = None if self.is_loopback else find_proxy(base_url)

    def __repr__(self) -> str:
        return f"<Post to {self.base_url}>"

    def __call__(
        self, path: str, body: _wire.Json, *, read: Callable[[_wire.Json], Any] = bool, within: float | None = None
    ) -> Answer:
        """Sends one POST and reads its answer.

        Args:
            path: the endpoint's path.
            body: what is sent.
            read: makes of a success what is kept of it.
            within: seconds for all of it, if fewer than the time limits allow.

        Raises:
            BBREError: there was no answer, or none of BBRE's; UnreachedError if nothing was sent.
        """
        try:
            return self._ask(path, json.dumps(body).encode(), read, within)
        except BBREError as error:
            failed = error
        except (OSError, HTTPException, ValueError, RecursionError) as error:
            failed = self._translated(error)
        failed.__traceback__ = failed.__context__ = failed.__cause__ = None
        raise failed  # out here, where no frame has held what was sent and what came

    def _ask(self, path: str, body: bytes, read: Callable[[_wire.Json], Any], within: float | None) -> Answer:
        connect_timeout, read_timeout = (min(one, within) if within is not None else one for one in self._timeouts)
        headers: dict[str, str] = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": "pytest-bbre",
            "Connection": "close",
            _wire.KEY_HEADERS[0]: self._key,
        }
        connection, target = self._connection(path, headers, connect_timeout)
        asked = time.time()
        give_up = time.monotonic() + (sum(self._timeouts) if within is None else within)
        cast(Any, connection).response_class = partial(_Response, give_up=give_up)
        try:
            self._connect(connection)
            if connection.sock is not None:
                connection.sock.settimeout(read_timeout)
            connection.request("POST", target, body, headers)
            with connection.getresponse() as response:
                content = response.read(MAX_ANSWER + 1)
            answered = time.time()
        finally:
            connection.close()
        value, failure = self._read(response.status, content, read)
        return Answer(value, failure, response.getheader(ENGINE_HEADER), response.getheader("Date"), asked, answered)

    # Connecting.

    def _connection(self, path: str, headers: dict[str, str], timeout: float) -> tuple[HTTPConnection, str]:
        """A connection that is yet to be made, and what to ask it for."""
        url = urlsplit(self.base_url + path)
        host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
        if self._proxy is None:
            return self._plain(url.scheme, host, port, timeout), url.path
        proxy = split_proxy(self._proxy)
        if proxy.scheme != "http":
            raise UnreachedError(f"The guard can't use a proxy by {proxy.scheme}://; set one by http://, or NO_PROXY.")
        connection = self._plain(url.scheme, proxy.hostname or "", proxy.port or 80, timeout)
        if url.scheme == "https":
            connection.set_tunnel(host, port, proxy_headers(proxy))
            return connection, url.path
        headers.update(proxy_headers(proxy))
        return connection, url.geturl()

    def _plain(self, scheme: str, host: str, port: int, timeout: float) -> HTTPConnection:
        if scheme != "https":
            return HTTPConnection(host, port, timeout=timeout)
        if self._context is None:
            self._context = tls_context()
        return HTTPSConnection(host, port, timeout=timeout, context=self._context)

    def _connect(self, connection: HTTPConnection) -> None:
        import ssl  # it is loaded by http.client

        try:
            connection.connect()
        except ssl.SSLError:
            raise
        except OSError as error:
            failed = UnreachedError(f"No connection to {self.base_url}: {_os_words(error)}.")
            failed.refused_here = self.is_loopback and isinstance(error, ConnectionRefusedError)
            raise failed from None

    # Reading.

    def _read(self, status: int, content: bytes, read: Callable[[_wire.Json], Any]) -> tuple[Any, BBREError | None]:
        if len(content) > MAX_ANSWER:
            raise InvalidAnswerError(f"The answer is larger than {MAX_ANSWER} bytes.", status=status)
        answer = _parsed(content)
        if not isinstance(answer, dict):
            raise InvalidAnswerError(f"{self.base_url} answered HTTP {status} without a JSON object.", status=status)
        told = _wire.read_failure(answer)
        if told is not None:
            kind = BY_CODE.get(told.code, BBREError)
            code = told.code if told.code in BY_CODE else self._harmless(told.code)
            return None, kind(self._harmless(told.message), code=code, status=status)
        if status >= 300:
            raise InvalidAnswerError(f"{self.base_url} answered HTTP {status} and no BBRE error.", status=status)
        return read(answer), None

    def _harmless(self, words: str) -> str:
        """A service's own words, as they may be shown: without the key, on one line, and not for ever."""
        words = words.replace(self._key, "***")[:_LONGEST_WORDS]
        return "".join(char if char.isprintable() else " " for char in words)

    def _translated(self, error: BaseException) -> BBREError:
        """The one place where foreign errors become ours."""
        import ssl  # it is loaded by http.client

        if isinstance(error, ssl.SSLCertVerificationError):
            return TLSError(f"No TLS with {self.base_url}, the certificate was not accepted: {error.verify_message}.")
        if isinstance(error, ssl.SSLError):
            return TLSError(f"No TLS with {self.base_url}: {error.reason or 'the handshake failed'}.")
        if isinstance(error, TimeoutError):
            return TimedOutError(f"{self.base_url} did not answer in time.")
        if isinstance(error, OSError):
            return ConnectionLostError(f"The connection to {self.base_url} was lost: {_os_words(error)}.")
        if isinstance(error, HTTPException):
            return InvalidAnswerError(f"{self.base_url} does not answer in HTTP, or not wholly.")
        if isinstance(error, RecursionError):
            return InvalidAnswerError("The answer is nested too deeply.")
        return SettingsError("The address, the proxy's address or the API key can't be used in a request.")


class _Response(HTTPResponse):
    """An answer that has to be whole by a certain time, however slowly it comes."""

    def __init__(self, sock: socket.socket, *args: Any, give_up: float, **options: Any) -> None:
        super().__init__(cast(Any, _Timed(sock, give_up)), *args, **options)


class _Timed(io.RawIOBase):
    """Reads from a socket, with what is left of the time as its time limit."""

    def __init__(self, sock: socket.socket, give_up: float) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._give_up = give_up

    def makefile(self, mode: str) -> io.BufferedReader:
        """What http.client asks a socket for."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        """As the base class has it."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """As the base class has it."""
        left = self._give_up - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """As the base class has it."""
        self._raw.close()
        super().close()


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:  # UnicodeDecodeError is one
        return None


def _os_words(error: OSError) -> str:
    """The operating system's own words."""
    return error.strerror or type(error).__name__
