"""Knows how an account's guardian is started, seen to, and started again, by a process that has something to guard.
Must not know what a guardian does. The key goes through a pipe: it is in no argument and no environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from ..errors import GuardianError, LedgerError
from . import owners, wake
from .guardian import VERSION
from .log import path_of
from .route import certificates

if TYPE_CHECKING:
    import subprocess

    from .door import Service
    from .ledger import SqliteLedger

_MAIN: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "__main__.py")
PAUSES: Final = (0.0, 0.1, 0.5, 2.0, 10.0)  # seconds before the next start, after so many in a row that failed
LONGEST: Final = 4096  # bytes of an answer


class Guarding:
    """The guardian of one account, as one process sees it. Safe to use from many threads.

    Args:
        ledger: where it is written which process serves.
        account: the account's name in it.
        service: how the account's service is reached.
        me: this process, as `str(Owner)`.
    """

    def __init__(self, ledger: SqliteLedger, account: str, service: Service, me: str) -> None:
        self._ledger = ledger
        self._account = account
        self._service = service
        self._me = me
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._pidfd: int | None = None
        self._serving: str | None = None  # where there is no pidfd
        self._starting: subprocess.Popen[bytes] | None = None
        self._failed: str | None = None
        self._attempts = 0
        self._not_before = 0.0
        self._stopped = False
        self._watching = False
        self._changed = threading.Event()

    def ensure(self) -> None:
        """Sees to it that a guardian serves or is being started. Cheap when one does. Does not wait.

        Raises:
            LedgerError: the ledger can't be used.
        """
        with self._lock:
            if self._stopped or self._pid != os.getpid() or self._is_served() or self._starting is not None:
                return
            if self._find() or time.monotonic() < self._not_before:
                return
            self._start()

    def wait_ready(self, timeout: float) -> None:
        """Waits until the guardian that is being started serves, or another one does.

        Args:
            timeout: seconds.

        Raises:
            GuardianError: none does.
            LedgerError: the ledger can't be used.
        """
        give_up = time.monotonic() + timeout
        with self._lock:
            while not self._is_ready(max(give_up - time.monotonic(), 0.0)):
                if self._failed is None and self._attempts < len(PAUSES) and time.monotonic() < give_up:
                    self._start()  # the one that was started has been killed meanwhile
                    continue
                why = self._failed or "it ended at once"
                log = path_of(self._ledger.folder, self._account)
                raise GuardianError(f"The guardian of your sessions did not come up: {why}. Its log is {log}.")
        self._watch()

    def stop(self) -> None:
        """This process ends: it starts no guardian any more."""
        with self._lock:
            self._stopped = True
            starting, self._starting = self._starting, None
            if starting is not None:
                _let_go(starting)
        self._changed.set()

    def after_fork(self) -> None:
        """In a fork's child: the guardian is its parent's."""
        self._lock = threading.RLock()
        self._stopped = True
        pidfd, self._pidfd = self._pidfd, None
        if pidfd is not None:
            os.close(pidfd)

    # Seeing.

    def _is_ready(self, timeout: float) -> bool:
        if self._starting is not None:
            self._finish_start(timeout)
        return self._stopped or self._is_served() or self._find()

    def _is_served(self) -> bool:
        if self._pidfd is not None:
            if not _has_ended(self._pidfd):
                return True
            os.close(self._pidfd)
            self._pidfd = None
        return self._serving is not None and owners.judge(self._serving).state == owners.ALIVE

    def _find(self) -> bool:
        """Whether the ledger names one that lives, and can do all that is asked of it; from now on it is seen to."""
        self._serving = self._ledger.guardian(self._account)
        if self._serving is None or owners.judge(self._serving).state != owners.ALIVE or self._is_outdated():
            self._serving = None
            return False
        self._pidfd = owners.watch(self._serving)
        if self._pidfd is not None:
            self._serving = None
        wake.ring(self._ledger.folder, wake.guardian_bell(self._account))
        self._attempts = 0
        self._changed.set()
        return True

    def _is_outdated(self) -> bool:
        return self._ledger.guardian_version(self._account) < VERSION

    # Starting.

    def _start(self) -> None:
        import subprocess  # here: it takes a while to load, and is needed once

        self._not_before = time.monotonic() + PAUSES[min(self._attempts, len(PAUSES) - 1)]
        self._attempts += 1
        words = ["bbre-guardian", "closes BBRE sessions of processes that died", f"account {self._account[:8]}"]
        flags = ["-I", "-S", *(["-B"] if sys.dont_write_bytecode else [])]
        if sys.pycache_prefix:
            flags += ["-X", f"pycache_prefix={sys.pycache_prefix}"]
        try:
            if not sys.executable:
                raise OSError("sys.executable is empty, so that no Python can be started")
            process = subprocess.Popen(
                [sys.executable, *flags, _MAIN, *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=_environment(str(self._service.api_key)),
                **_detached(),
            )
        except OSError as error:
            self._failed = str(error)
            return
        self._starting = process
        self._failed = None
        self._hand_over(process)

    def _hand_over(self, process: subprocess.Popen[bytes]) -> None:
        service = self._service
        times = [service.connect_timeout, service.read_timeout, service.retry_min, service.retry_max]
        task = {"protocol": 1, "path": self._ledger.path, "account": self._account, "base_url": service.base_url}
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # it ended at once: its answer, or none, says so
            process.stdin.write(json.dumps({**task, "api_key": str(service.api_key), "times": times}).encode())
        with contextlib.suppress(OSError):
            process.stdin.close()

    def _finish_start(self, timeout: float) -> None:
        process, self._starting = self._starting, None
        assert process is not None
        assert process.stdout is not None
        told: dict[str, Any] = {}
        poll = select.poll()
        poll.register(process.stdout, select.POLLIN)
        if poll.poll(timeout * 1000):
            with contextlib.suppress(ValueError, OSError):
                told = json.loads(os.read(process.stdout.fileno(), LONGEST) or b"{}")
        else:
            self._failed = f"it gave no sign of life in {timeout:g} s"
        _let_go(process)
        if isinstance(told, dict) and "error" in told:
            self._failed = str(told["error"])

    # Seeing to it that there is one for as long as this process lives.

    def _watch(self) -> None:
        with self._lock:
            if self._watching or self._stopped:
                return
            try:
                threading.Thread(target=self._keep, name="bbre-guardian-watch", daemon=True).start()
                self._watching = True
            except RuntimeError:  # the interpreter is ending: no thread can be started
                return

    def _keep(self) -> None:
        while not self._stopped:
            with self._lock:
                pidfd = None if self._pidfd is None else os.dup(self._pidfd)
            if pidfd is None:
                self._changed.wait(1.0)
            else:
                try:
                    _wait_for_end(pidfd)
                finally:
                    os.close(pidfd)
            if self._stopped or self._pid != os.getpid():
                return
            self._changed.clear()
            with contextlib.suppress(LedgerError, GuardianError):
                self.ensure()
                with self._lock:
                    if self._starting is not None:
                        self._finish_start(10.0)
                    self._stopped or self._is_served() or self._find()


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _wait_for_end(pidfd: int) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll()


def _let_go(process: subprocess.Popen[bytes]) -> None:
    """What was started has forked by now, and ends; the guardian itself is nobody's child."""
    if process.stdout is not None:
        process.stdout.close()
    with contextlib.suppress(Exception):
        process.wait(5.0)


def _detached() -> dict[str, Any]:
    if sys.platform == "win32":
        import subprocess

        return {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _environment(key: str) -> dict[str, str]:
    """The environment, without any variable that holds the key, and with the certificates that this process finds: the
    guardian runs in another folder, and sees no installed package.
    """
    kept = {name: value for name, value in os.environ.items() if name != "BBRE_API_KEY" and key not in value}
    found = certificates()
    return kept if found is None else {**kept, "REQUESTS_CA_BUNDLE": os.path.abspath(found)}
