"""Knows one pytest run: the engine it uses, what it opened and closed, its workers, and how a signal stops it.
Must not know fixtures or output: plugin.py has those.

Loaded with every pytest run, so what a run without sessions does not need is imported where it is needed.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

import pytest

from ._choices import Choices
from ._host import host
from ._signals import ENDING, SENT_TWICE, send_to_self

if TYPE_CHECKING:
    from types import FrameType

    from . import _xdist
    from ._settings import Settings
    from ._tracker import Tracker
    from .engine import EngineControl


class Run:
    """What the plugin keeps for one pytest run, in one process."""

    def __init__(self, config: pytest.Config) -> None:
        self.choices = Choices(config)
        self._config = config
        self._lock = threading.Lock()
        self._engine: EngineControl | None = None
        self._settings: Settings | None = None
        self._door: _xdist.Door | None = None
        self._nodes: list[Any] = []  # the workers of pytest-xdist
        self._told = {"opened": 0, "closed": 0, "lost": 0}  # by them
        self._before = _counts()  # of who uses this process beside the run: a script, or an outer run
        tracker = _tracker()
        self._not_ours = frozenset(tracker.held()) if tracker else frozenset()
        self._host_before = (host.settings, host.stops, host.tell)
        self._is_worker = "bbre" in getattr(config, "workerinput", {})
        self._earlier: dict[int, Any] = {}
        self._session: pytest.Session | None = None
        self.signum: int | None = None
        self._sent_on = False  # whether an earlier handler waits for the signal
        self.failed: list[str] = []  # what could not be closed, here or by a worker, and what to do about it
        host.settings = self.settings
        host.tell = self._tell

    # Where sessions go.

    def settings(self) -> Settings:
        """The settings of this run's sessions; starts the embedded engine if that is what they go to."""
        with self._lock:
            if self._settings is None:
                found, embedded = self.choices.resolved()
                if embedded:
                    engine = self._engine_now()
                    own = {"base_url": engine.base_url, "api_key": engine.api_key}
                    found = found.override(**own, account_scope="exclusive")
                self._settings = found
            return self._settings

    def engine(self) -> EngineControl:
        """The embedded engine, started on first use; under pytest-xdist the controller's, for all workers."""
        with self._lock:
            return self._engine_now()

    def _engine_now(self) -> EngineControl:
        if self._engine is None:
            if self._is_worker:
                from . import _xdist

                self._engine = _xdist.ask(self._config.workerinput["bbre"])  # type: ignore[attr-defined]
            else:
                from .engine import Engine

                self._engine = Engine(max_sessions=self.choices.resolved()[0].max_sessions).start()
        return self._engine

    def _tell(self, line: str) -> None:
        """Shows a line in the terminal, past pytest's capturing; a worker's goes through its controller's stderr."""
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else nullcontext(), suppress(OSError, ValueError):
            print(f"\n{line}", file=sys.stderr, flush=True)

    # pytest-xdist.

    def welcome(self, node: Any) -> None:
        """A new worker: it is told where to ask the controller for the engine."""
        if self._door is None:
            from . import _xdist

            self._door = _xdist.Door(self.engine)
        node.workerinput["bbre"] = self._door.address()
        self._nodes.append(node)

    def _pass_on(self, signum: int) -> None:
        """Workers would go on with their tests for five seconds, which is more than a cancelled CI job may have.
        Should execnet one day keep its processes elsewhere, it is those five seconds again.
        """
        if sys.platform == "win32":  # the console tells each process itself
            return
        for node in self._nodes:
            process = getattr(getattr(node.gateway, "_io", None), "popen", None)
            if process is not None and node.gateway.spec.popen:  # a process of this machine
                process.send_signal(signum)

    def gather(self) -> None:
        """Adds the accounts of the workers that ended well; those of an interrupted run, too, tell theirs."""
        for node in self._nodes:
            account = getattr(node, "workeroutput", {}).get("bbre", {})
            for name in self._told:
                self._told[name] += account.get(name, 0)
            self.failed += account.get("failed", [])

    # The account.

    def account(self) -> dict[str, Any]:
        """What a worker tells the controller at its end."""
        return {**self.counts(), "failed": self.failed}

    def counts(self) -> dict[str, int]:
        """Sessions opened and closed in this run, and creates whose answer was lost, in this process and the workers
        that told.
        """
        own = _counts()
        return {name: own[name] - self._before[name] + self._told[name] for name in own}

    def still_active(self) -> tuple[int, bool] | None:
        """The number of active sessions, asked from who runs them, and whether it should be zero: the embedded engine
        is this run's alone, while others may use the service's account. None if the run's own sessions went elsewhere.
        """
        settings, embedded = self.choices.resolved()
        if embedded:
            return (len(self._engine.sessions("active")), True) if self._engine else None
        from ._tracker import tracker

        return sum(1 for _ in tracker.client(settings).list_sessions("active")), False

    def leaves_sessions(self) -> bool:
        """Whether the run's own engine has sessions that nobody closed: those that no tracker knew."""
        if self._is_worker or self._engine is None:
            return False
        from .errors import EngineError

        try:
            return len(self._engine.sessions("active")) > 0
        except EngineError:  # it is gone, and took its sessions with it; the account says that it can't be asked
            return False

    # Its end.

    def answer_signals(self, session: pytest.Session) -> None:
        """From here on SIGTERM and SIGHUP stop the run in good order, as a cancelled CI job sends them."""
        self._session = session
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in ENDING:
            earlier = signal.getsignal(signum)
            if earlier not in (signal.SIG_IGN, None):
                self._earlier[signum] = earlier
                signal.signal(signum, self._on_signal)
        host.stops = True

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        """Stops the run as pytest.exit does: fixtures are torn down, the summary is printed. A second one is final,
        except in a worker of pytest-xdist, which may get the same one from its controller and by its process group.
        """
        if self.signum is not None:  # the same one, sent twice
            return
        self.signum = signum
        self._pass_on(signum)
        reason = f"{signal.Signals(signum).name} received"
        if self._session is not None:
            self._session.shouldstop = reason  # should the test swallow what is raised here
        earlier = self._earlier.pop(signum)
        self._sent_on = callable(earlier)  # at the end: it may end the process, as coverage's handler does
        try:
            time.sleep(SENT_TWICE)
        finally:
            signal.signal(signum, _nothing if self._is_worker else earlier)
        pytest.exit(reason)  # without a return code: pytest prints its summary only after those that it knows

    def close_rest(self) -> None:
        """Closes what the tests opened and no fixture closed, and what an interrupted teardown left."""
        tracker = _tracker()
        if tracker is not None and not tracker.is_idle():
            from ._closing import advice

            results = tracker.close_all(tracker.exit_timeout, spare=self._not_ours)
            failed = [one for one in results if not one.success]
            self.failed += [f"{one}. {advice([one])}" for one in failed]

    def give_back_signals(self) -> None:
        """From here on a signal does again what it did before the run."""
        for signum, earlier in self._earlier.items():
            if signal.getsignal(signum) == self._on_signal:
                signal.signal(signum, earlier)
        self._earlier.clear()

    def stop(self) -> None:
        """Gives everything back that this run took: signals, the host's word, the engine."""
        self.give_back_signals()
        host.settings, host.stops, host.tell = self._host_before
        if self._door is not None:
            self._door.close()
        stop = getattr(self._engine, "stop", None)  # a worker's engine is the controller's to stop
        if stop is not None:
            stop()
        if self._sent_on and self.signum is not None and not self._is_worker:
            send_to_self(self.signum)


def _nothing(signum: int, frame: FrameType | None) -> None:
    """A handler rather than SIG_IGN, which programs started from here would inherit."""


def _tracker() -> Tracker | None:
    """The tracker, if anything loaded it: who opened nothing has nothing to close or count."""
    module = sys.modules.get("pytest_bbre._tracker")
    return None if module is None else module.tracker


def _counts() -> dict[str, int]:
    tracker = _tracker()
    return {name: getattr(tracker, name) if tracker else 0 for name in ("opened", "closed", "lost")}
