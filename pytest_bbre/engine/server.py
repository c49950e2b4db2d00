"""Knows how an engine is started and stopped: as a child process, or on a thread of this process.
Must not know what an engine answers. Light: aiohttp is imported only when an engine starts in this process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from .. import _wire
from .._child import START_TIMEOUT, EngineChild, start_engine_child
from ..errors import EngineError
from .control import EngineControl
from .faults import Fault
from .options import MODES, ApiKeys, make_options

if TYPE_CHECKING:
    from ._thread import EngineThread

_NOT_RUNNING: Final = "The engine is not running: use it as `with Engine() as engine:`, or call start() first."


class Engine(EngineControl):
    """BBRE on this machine: a context manager, or `start` and `stop`.

    It runs as a child process, which ends with this one whatever way that goes, or on a thread (``in_process=True``).

    Args:
        max_sessions: how many sessions of one account may be active.
        api_keys: keys of active accounts, or states (active, suspended, inactive) by key; None makes one new key.
        latency: seconds by endpoint, e.g. ``{"create": 0.3, "close": 0.15}``.
        faults: faults that wait from the start, as `Fault` or as text: ``"close:fail:times=2"``.
        host: a loopback address.
        port: 0 for any free one.
        in_process: on a thread of this process; starts faster, and shares its fate and its interpreter lock.
        modes: the session modes that can be created.
        start_timeout: seconds to wait until it answers.

    Raises:
        SettingsError: one of these can't be used; the message names it and what is allowed.
    """

    def __init__(
        self,
        *,
        max_sessions: int = _wire.MAX_SESSIONS,
        api_keys: ApiKeys | None = None,
        latency: Mapping[str, float] | None = None,
        faults: Iterable[Fault | str | Mapping[str, Any]] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        in_process: bool = False,
        modes: Iterable[str] = MODES,
        start_timeout: float = START_TIMEOUT,
    ) -> None:
        self._options = make_options(
            max_sessions=max_sessions,
            api_keys=api_keys,
            latency=latency,
            faults=faults,
            host=host,
            port=port,
            modes=modes,
        )
        super().__init__("", self._options.api_key, self._options.control_token)
        self._in_process = in_process
        self._start_timeout = start_timeout
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._runner: EngineChild | EngineThread | None = None

    def __repr__(self) -> str:
        return f"<Engine at {self._parts['base_url']}>" if self._runner else "<Engine, not running>"

    def _check(self) -> None:
        if self._runner is None:
            raise EngineError(_NOT_RUNNING)

    @property
    def pid(self) -> int:
        """The process the engine runs in; this one, with ``in_process=True``."""
        if self._runner is None:
            raise EngineError(_NOT_RUNNING)
        return self._runner.pid

    @property
    def max_sessions(self) -> int:
        """How many sessions of one account may be active."""
        return self._options.max_sessions

    def start(self) -> Engine:
        """Starts the engine and waits until it answers; does nothing if it runs.

        Raises:
            EngineExtraMissingError: aiohttp is not installed.
            EngineStartError: it did not come up.
        """
        with self._lock:
            if self._runner is None:
                self._runner = runner = self._start()
                self._parts |= {"base_url": runner.base_url, "instance": runner.instance}
        return self

    def _start(self) -> EngineChild | EngineThread:
        if not self._in_process:
            return start_engine_child(self._options.to_json(), start_timeout=self._start_timeout)
        from ._thread import EngineThread, check_extra

        check_extra()
        return EngineThread(self._options, self._start_timeout)

    def stop(self) -> None:
        """Ends the engine, and with it all its sessions. Only the process that started it can; twice is no harm."""
        if self._owner != os.getpid():
            return
        with self._lock:
            runner, self._runner = self._runner, None
            if runner is not None:
                runner.stop()

    def __enter__(self) -> Engine:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
