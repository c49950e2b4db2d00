"""Knows one pytest run: which service or engine it uses, what it opened and closed, and how a signal stops it.
Must not know fixtures or output: plugin.py has those.

Loaded with every pytest run, so what a run without sessions does not need is imported where it is needed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

from ._host import host

if TYPE_CHECKING:
    from types import FrameType

    from . import _xdist
    from ._closing import CloseResult
    from ._settings import Settings
    from ._tracker import Tracker
    from .engine import EngineControl

_SETTINGS = ("mode", "sensibility", "timeout", "base_url")
_ENGINES = ("auto", "embedded", "service")
_STOPPING = [number for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if (number := getattr(signal, name, None))]


class Run:
    """What the plugin keeps for one pytest run, in one process."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._engine: EngineControl | None = None
        self._settings: Settings | None = None
        self._door: _xdist.Door | None = None
        self._told = {"opened": 0, "closed": 0}  # by the workers of pytest-xdist
        self._before = _counts()  # of an outer run in this process
        self._host_before = (host.settings, host.stops)
        self._earlier: dict[int, Any] = {}
        self._session: pytest.Session | None = None
        self.signum: int | None = None
        self.failed: list[CloseResult] = []
        host.settings = self.settings

    # Which engine, which settings.

    def _choice(self) -> str:
        """The value of --bbre-engine, its environment variable, or its ini twin."""
        from .errors import SettingsError

        chosen = self._option("engine") or os.environ.get("BBRE_ENGINE") or self._ini("engine") or "auto"
        if chosen not in _ENGINES:
            raise SettingsError(f"bbre-engine is {chosen!r}; allowed is {', '.join(_ENGINES)}.")
        return str(chosen)

    def _resolved(self) -> tuple[Settings, bool]:
        """The settings as given by command line, environment and ini file, and whether the embedded engine is meant:
        asked for, or there is no key for anything else. Nothing is started.
        """
        from ._settings import EMBEDDED, Settings

        given = {name: self._option(name) for name in _SETTINGS}
        settings = Settings.resolve(given, ini={name: self._ini(name) for name in _SETTINGS})
        choice = self._choice()
        nowhere_else = settings.api_key is None or settings.base_url == EMBEDDED
        return settings, choice == "embedded" or (choice == "auto" and nowhere_else)

    def _is_default(self) -> bool:
        """Whether nothing at all is set: then nothing has to be loaded to know that it is right."""
        return not (
            any(name.startswith("BBRE_") for name in os.environ)
            or any(self._option(name) or self._ini(name) for name in (*_SETTINGS, "engine"))
        )

    def check(self) -> None:
        """Refuses bad options at once.

        Raises:
            pytest.UsageError: it names the option and what is allowed.
        """
        if self._is_default():
            return
        from .errors import ApiKeyRequiredError, BBREError

        try:
            settings, embedded = self._resolved()
            if not embedded and settings.api_key is None:
                raise ApiKeyRequiredError("--bbre-engine=service needs an API key, and none is set.")
        except BBREError as error:
            raise pytest.UsageError(f"bbre: {error}") from None

    def settings(self) -> Settings:
        """The settings of this run's sessions; starts the embedded engine if that is what they go to."""
        with self._lock:
            if self._settings is None:
                found, embedded = self._resolved()
                if embedded:
                    engine = self._engine_now()
                    found = found.override(base_url=engine.base_url, api_key=engine.api_key)
                self._settings = found
            return self._settings

    def engine(self) -> EngineControl:
        """The embedded engine, started on first use; under pytest-xdist the controller's, for all workers."""
        with self._lock:
            return self._engine_now()

    def _engine_now(self) -> EngineControl:
        if self._engine is None:
            door = getattr(self._config, "workerinput", {}).get("bbre")
            if door:
                from . import _xdist

                self._engine = _xdist.ask(door)
            else:
                from .engine import Engine

                self._engine = Engine().start()
        return self._engine

    def header(self) -> str:
        """One line: which engine, where, which mode, how many slots."""
        from ._facts import DEFAULT_MODE, MAX_SESSIONS

        if self._is_default():
            mode, where = DEFAULT_MODE, "embedded engine, started on first use"
        else:
            settings, embedded = self._resolved()
            mode = settings.mode
            where = "embedded engine, started on first use" if embedded else f"service at {settings.base_url}"
        return f"bbre: {where}, mode {mode}, {MAX_SESSIONS} slots"

    def _option(self, name: str) -> Any:
        return self._config.getoption(f"bbre_{name}", default=None)

    def _ini(self, name: str) -> Any:
        return self._config.getini(f"bbre_{name}") or None

    # pytest-xdist.

    def door(self) -> Mapping[str, Any]:
        """For a worker: where to ask the controller for the engine."""
        if self._door is None:
            from . import _xdist

            self._door = _xdist.Door(self.engine)
        return self._door.address()

    def add(self, counts: Mapping[str, int]) -> None:
        """Adds a worker's account."""
        for name in self._told:
            self._told[name] += counts.get(name, 0)

    # The account.

    def counts(self) -> dict[str, int]:
        """Sessions opened and closed in this run, in this process and the workers that told."""
        own = _counts()
        return {name: own[name] - self._before[name] + self._told[name] for name in own}

    def still_active(self) -> int | None:
        """The number of active sessions, asked from the engine or the service itself; None if nobody was used."""
        if self._engine is not None:
            return len(self._engine.sessions("active"))
        settings, embedded = self._resolved()
        if embedded:
            return None
        from ._tracker import tracker

        return sum(1 for _ in tracker.client(settings).list_sessions("active"))

    # Its end.

    def answer_signals(self, session: pytest.Session) -> None:
        """From here on SIGTERM and SIGHUP stop the run in good order, as a cancelled CI job sends them."""
        self._session = session
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in _STOPPING:
            earlier = signal.getsignal(signum)
            if earlier not in (signal.SIG_IGN, None):
                self._earlier[signum] = earlier
                signal.signal(signum, self._on_signal)
        host.stops = True

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        """Stops the run as pytest.exit does: fixtures are torn down, the summary is printed. A second one is final."""
        earlier = self._earlier.pop(signum)
        signal.signal(signum, earlier)
        self.signum = signum
        reason = f"{signal.Signals(signum).name} received"
        if self._session is not None:
            self._session.shouldstop = reason  # should the test swallow what is raised here
        if callable(earlier):
            earlier(signum, frame)
        pytest.exit(reason, returncode=128 + signum)

    def close_rest(self) -> None:
        """Closes what the tests opened and no fixture closed, and what an interrupted teardown left."""
        tracker = _tracker()
        if tracker is not None and not tracker.is_idle():
            self.failed = [one for one in tracker.close_all(tracker.exit_timeout) if not one.success]

    def stop(self) -> None:
        """Gives everything back that this run took: signals, the host's word, the engine."""
        for signum, earlier in self._earlier.items():
            if signal.getsignal(signum) == self._on_signal:
                signal.signal(signum, earlier)
        host.settings, host.stops = self._host_before
        if self._door is not None:
            self._door.close()
        stop = getattr(self._engine, "stop", None)  # a worker's engine is the controller's to stop
        if stop is not None:
            stop()


def _tracker() -> Tracker | None:
    """The tracker, if anything loaded it: who opened nothing has nothing to close or count."""
    module = sys.modules.get("pytest_bbre._tracker")
    return None if module is None else module.tracker


def _counts() -> dict[str, int]:
    tracker = _tracker()
    return {"opened": tracker.opened if tracker else 0, "closed": tracker.closed if tracker else 0}
