"""Knows how the workers of pytest-xdist share one engine: the controller opens a door, a worker knocks on it.
Must not know what an engine is beyond its parts.

A door rather than an engine started for every run: most runs never need one.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from .errors import EngineStartError

if TYPE_CHECKING:
    from .engine import EngineControl

_PATIENCE: Final = 60.0  # seconds a worker waits: longer than an engine may take to start
_TOKEN_BYTES: Final = 32


class Door:
    """The controller's side: gives the engine's parts to whoever shows the token. Loopback only."""

    def __init__(self, engine: Callable[[], EngineControl]) -> None:
        self._engine = engine
        self._token = secrets.token_hex(_TOKEN_BYTES)
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        threading.Thread(target=self._serve, name="bbre-door", daemon=True).start()

    def address(self) -> Mapping[str, Any]:
        """What a worker needs; it travels in xdist's own channel, not in an environment or on disk."""
        return {"port": self._socket.getsockname()[1], "token": self._token}

    def close(self) -> None:
        """Nobody is answered any more."""
        with contextlib.suppress(OSError):  # wakes the thread that waits for visitors, which closing alone does not
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                visitor, _ = self._socket.accept()
            except OSError:  # closed
                return
            with visitor:
                try:
                    self._answer(visitor)
                except OSError:
                    continue

    def _answer(self, visitor: socket.socket) -> None:
        visitor.settimeout(5.0)
        with visitor.makefile("rwb") as stream:
            shown = stream.readline(4 * _TOKEN_BYTES).strip()
            if not hmac.compare_digest(shown, self._token.encode()):
                return
            try:
                told: dict[str, Any] = {"parts": self._engine().parts()}
            except Exception as error:
                told = {"error": str(error)}
            stream.write(json.dumps(told).encode() + b"\n")


def ask(door: Mapping[str, Any]) -> EngineControl:
    """The worker's side: the controller's engine.

    Raises:
        EngineStartError: the controller could not start it, or is gone.
    """
    from .engine import EngineControl

    try:
        with (
            socket.create_connection(("127.0.0.1", door["port"]), _PATIENCE) as visitor,
            visitor.makefile("rwb") as stream,
        ):
            stream.write(door["token"].encode() + b"\n")
            stream.flush()
            told = json.loads(stream.readline() or b'{"error": "the controller gave no answer"}')
    except (OSError, ValueError) as error:  # gone, or gone in the middle of a line
        raise EngineStartError(f"The controller of pytest-xdist could not be asked for the engine: {error}") from error
    if "error" in told:
        raise EngineStartError(f"The controller of pytest-xdist could not start the engine: {told['error']}")
    return EngineControl.from_parts(told["parts"])
