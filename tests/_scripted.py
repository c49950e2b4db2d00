"""A server that answers exactly the bytes it is told to, for what no honest engine would ever say.

    with Scripted() as server:
        server.answer("close", reply(failure("SERVICE_ERROR")))      # once, then the next in line
        server.always("create", lambda arrived: CUT)                  # for as long as nothing else is in line

An endpoint without a script answers as BBRE would answer a healthy session. `arrived` holds every request, in order.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pytest_bbre import _wire

KEY = "key-of-the-tests-5f2d9c"
SESSION = "session_1"
LIMIT = 10.0  # seconds that any wait in the tests may take
_ENDPOINTS = {path: name for name, path in _wire.PATHS.items()}


class Cut:
    """Instead of an answer: the connection is cut."""


CUT = Cut()


@dataclass(frozen=True)
class Arrived:
    """A request that arrived."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""

    @property
    def endpoint(self) -> str:
        """The endpoint's name; the path itself, where it is none."""
        return _ENDPOINTS.get(self.path, self.path)

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.content)


Answer = bytes | Cut
Handler = Callable[[Arrived], Answer]


def held(release: threading.Event) -> Handler:
    """Silence until the event, then a cut."""

    def wait(arrived: Arrived) -> Answer:
        release.wait(LIMIT)
        return CUT

    return wait


def raw(content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> bytes:
    """An HTTP answer around these bytes."""
    lines = {"Content-Type": "application/json", "Content-Length": str(len(content)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} Scripted\r\n{head}\r\n".encode("latin-1") + content


def reply(answer: Any, status: int = 200, headers: dict[str, str] | None = None) -> bytes:
    """An HTTP answer with this JSON."""
    if isinstance(answer, tuple):  # as _wire.failure gives it
        status, answer = answer
    return raw(json.dumps(answer).encode(), status, headers)


def fails(code: str, headers: dict[str, str] | None = None, **options: Any) -> bytes:
    """The failure of a code, as BBRE sends it."""
    status, answer = _wire.failure(code, **options)
    return reply(answer, status, headers)


def result(**fields: Any) -> bytes:
    """An answer to /session/request with these fields in its result."""
    return reply(_wire.success(data={"task": {"result": {"statusCode": 200, "body": "", **fields}}}))


HEALTHY: dict[str, bytes] = {
    "create": reply(_wire.success(top={"session": {"id": SESSION}})),
    "request": result(body="hello"),
    "status": reply(_wire.success(data={"session": {"id": SESSION, "status": "active"}})),
    "close": reply(_wire.success(data={"session": {"id": SESSION, "status": "closed"}})),
    "list": reply(_wire.success(data={"sessions": [], "total": 0})),
}


class Scripted:
    """The server: a thread per connection, on a port of its own."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.arrived: list[Arrived] = []
        self._tls = tls
        self._line: dict[str, deque[Answer | Handler]] = defaultdict(deque)
        self._always: dict[str, Answer | Handler] = {}
        self._news = threading.Condition()
        self._open: set[socket.socket] = set()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._socket.getsockname()[1]
        self.base_url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"

    def __enter__(self) -> Scripted:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        _end(self._socket)  # shut down as well: closing alone does not wake a thread that waits in accept
        with self._news:
            connections, self._open = list(self._open), set()
        for connection in connections:
            _end(connection)

    # The script.

    def answer(self, endpoint: str, *answers: Answer | Handler) -> None:
        """Puts answers in line for an endpoint; each is given once."""
        self._line[endpoint].extend(answers)

    def always(self, endpoint: str, answer: Answer | Handler) -> None:
        """The answer of an endpoint whenever nothing is in line."""
        self._always[endpoint] = answer

    def calls(self, endpoint: str) -> list[Arrived]:
        """What has arrived at an endpoint."""
        return [one for one in list(self.arrived) if one.endpoint == endpoint]

    def wait_for(self, endpoint: str, count: int = 1) -> None:
        """Waits until that many requests of an endpoint have arrived."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.calls(endpoint)) >= count, LIMIT), f"no {endpoint} arrived"

    # The work.

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with self._news:
            self._open.add(connection)
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection.makefile("rb") as stream:
                if stream.peek(1)[:1] == b"\x16":  # TLS, where none is spoken
                    connection.sendall(raw(b"speak plain HTTP", 400))
                    return
                while (arrived := _read(stream)) is not None and self._respond(connection, arrived):
                    pass
        except (OSError, ValueError):
            pass
        finally:
            _end(connection)

    def _respond(self, connection: socket.socket, arrived: Arrived) -> bool:
        with self._news:
            self.arrived.append(arrived)
            line = self._line[arrived.endpoint]
            default = HEALTHY.get(arrived.endpoint, raw(b"no such page", 404, {"Content-Type": "text/plain"}))
            given = line.popleft() if line else self._always.get(arrived.endpoint, default)
            self._news.notify_all()
        answer = given(arrived) if callable(given) else given
        if isinstance(answer, Cut):
            return False
        connection.sendall(answer)
        return _is_whole(answer)


def _is_whole(answer: bytes) -> bool:
    """Whether the connection can be used again: the answer is as long as its head says."""
    head, _, content = answer.partition(b"\r\n\r\n")
    return f"Content-Length: {len(content)}".encode() in head.split(b"\r\n")


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def _read(stream: Any) -> Arrived | None:
    first = stream.readline(65536).split()
    if len(first) != 3:
        return None
    headers = {}
    while line := stream.readline(65536).strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    content = stream.read(int(headers.get("content-length", 0)))
    return Arrived(first[0].decode(), first[1].decode(), headers, content)
