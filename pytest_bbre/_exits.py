"""Knows the moments at which a process ends or doubles, and calls the tracker at each: atexit, signals, exec, fork.
Must not know how sessions are closed.

Nothing is registered at import: `arm` is called with each session that is opened.

A signal's handler takes no lock and sends nothing: it wakes a thread that was started before, which closes everything
and then sends the signal again, under the action that it had before us. So an earlier handler still runs, and a
process without one ends of its signal, as its parent should see. A second signal, if it is no echo of the first, meets
that earlier action at once.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import os
import signal
import sys
import threading
import time
from functools import partial
from types import FrameType
from typing import Any

from ._closing import CloseResult, advice
from ._host import host
from ._signals import ENDING, SENT_TWICE, send_to_self
from ._tracker import tracker
from .errors import ShuttingDownError


class _Route:
    """What happens on one signal, in one process. It serves one signal; the next session lays a new route."""

    def __init__(self, signum: int) -> None:
        self.signum = signum
        self.earlier: Any = None
        self.pending = False  # the signal came, and has not been sent on yet
        self._spent = False
        self._native = False
        self._handler: Any = None
        self._pid = os.getpid()
        self._wake_out, self._wake_in = os.pipe()
        if hasattr(os, "set_blocking"):  # on Windows from Python 3.12 on
            os.set_blocking(self._wake_in, False)
        try:
            threading.Thread(target=self._watch, name=f"bbre-signal-{signum}", daemon=True).start()
        except RuntimeError:  # the interpreter is ending and starts no thread any more
            self._close_pipe()
            raise

    def is_laid(self) -> bool:
        """Whether the signal would reach us, or has: somebody may have set another handler since."""
        in_place = self.earlier if self._native else self._handler
        return self.pending or signal.getsignal(self.signum) is in_place

    def lay(self) -> None:
        """Puts the handler in place. Off the main thread, where Python allows no handler, the C library's is used:
        faulthandler writes to a file when the signal comes, and that file is our pipe.
        """
        on_main = threading.current_thread() is threading.main_thread()
        if self._native and on_main:
            self._unlay_native()
        if on_main:
            self.earlier = signal.getsignal(self.signum)
            # A new one each time: a handler that was set since may call the one it found, which must not call it back.
            self._handler = partial(self._on_signal, self.earlier)
            signal.signal(self.signum, self._handler)
        elif not self._native and hasattr(faulthandler, "register"):
            self.earlier = signal.getsignal(self.signum)
            faulthandler.register(self.signum, file=self._wake_in, all_threads=False, chain=False)
            self._native = True

    def _unlay_native(self) -> None:
        faulthandler.unregister(self.signum)
        self._native = False

    def leave(self) -> None:
        """In a fork's child: the pipe is the parent's, and must not be written to from here."""
        if self._native:
            self._unlay_native()
        elif signal.getsignal(self.signum) is self._handler:
            signal.signal(self.signum, self.earlier)
        self._close_pipe()

    def _close_pipe(self) -> None:
        os.close(self._wake_out)
        os.close(self._wake_in)

    def _on_signal(self, earlier: Any, signum: int, frame: FrameType | None) -> None:
        if self._spent or self._pid != os.getpid():  # closed already; or a fork's child, which holds nothing
            signal.signal(signum, earlier)
            send_to_self(signum)
        elif not self.pending:  # else it is the same signal, sent twice
            self.earlier = earlier
            self.pending = True
            os.write(self._wake_in, b"!")
            try:
                time.sleep(SENT_TWICE)
            finally:
                signal.signal(signum, earlier)
                os.write(self._wake_in, b"!")

    def _watch(self) -> None:
        os.read(self._wake_out, 1)
        self.pending = True
        native = self._native
        if native:
            time.sleep(SENT_TWICE)
            self._unlay_native()
        close_everything(f"the process got {signal.Signals(self.signum).name}")
        if not native:
            os.read(self._wake_out, 1)  # the earlier action is back
        if self.earlier is signal.SIG_DFL:
            self.send_on()  # the end, except in a container's first process: the system spares that one
        # The earlier handler may let the process live on, and open sessions itself: nothing of ours stands in its way.
        self._spent = True
        _routes.pop(self.signum, None)
        tracker.ending = None
        if native or not _asyncio_answers(self.earlier):
            self.send_on()
        if not native:  # faulthandler may still be writing to it
            self._close_pipe()

    def send_on(self) -> None:
        """Sends the signal again, under the action it had before us."""
        if self.pending:
            self.pending = False
            send_to_self(self.signum)


_routes: dict[int, _Route] = {}  # mirrors what is registered with the interpreter, for this process
_registered: list[int] = []  # the process in which the interpreter's hooks were first registered; children inherit them
_arming = [threading.Lock()]
_children: list[int] = []  # the multiprocessing child whose finalizer is registered


def arm() -> None:
    """Registers whatever is not registered yet. Cheap when everything is."""
    with _arming[0]:
        if not _registered and not _is_past_hooks():
            atexit.register(_at_exit)
            sys.addaudithook(_on_audit)
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=_after_fork_in_child)
            _registered.append(os.getpid())
        _arm_multiprocessing()
        if not host.stops:
            for signum in _answered():
                with contextlib.suppress(RuntimeError):  # where no thread can be started, the signal keeps its action
                    route = _routes[signum] = _routes.get(signum) or _Route(signum)
                    route.lay()


def _is_past_hooks() -> bool:
    """Whether this thread runs exit hooks: one that is registered now would not be called."""
    main = threading.main_thread()
    return threading.current_thread() is main and not main.is_alive()


def refuse_if_nobody_closes() -> None:
    """For sessions that their opener leaves open: somebody has to be there for them at the end.

    Raises:
        ShuttingDownError: the process runs its exit hooks, and ours is not among them.
    """
    if not _registered and _is_past_hooks():
        raise ShuttingDownError(
            "The process runs its exit hooks, so that nobody would close the session. "
            "Use `with managed_session() as session:` here."
        )


def _answered() -> list[int]:
    """The signals to be answered that are not answered yet.

    An inherited "ignore" stays, as for a shell's background job; None is a handler that Python does not know.
    Ctrl-C ends a program by KeyboardInterrupt and atexit, except where somebody took that away.
    """
    wanted = [*ENDING, *([signal.SIGINT] if signal.getsignal(signal.SIGINT) is signal.SIG_DFL else [])]
    unanswered = [one for one in wanted if one not in _routes or not _routes[one].is_laid()]
    return [one for one in unanswered if signal.getsignal(one) not in (signal.SIG_IGN, None)]


def _asyncio_answers(earlier: Any) -> bool:
    """Whether the loop has told its own handler already: it hears of signals by another way, whichever Python handler
    is in place.
    """
    return getattr(earlier, "__module__", "") == "asyncio.unix_events"


def close_everything(why: str) -> list[CloseResult]:
    """Closes all sessions within the time limit, and tells on stderr what could not be closed.

    Args:
        why: for who asks for a session from now on.
    """
    tracker.ending = why
    results = tracker.close_all(tracker.exit_timeout)
    failed = [result for result in results if not result.success]
    if failed:
        lines = [f"bbre: {len(failed)} of {len(results)} sessions could not be closed:"]
        lines += [f"  {result}" for result in failed]
        lines += [advice(failed)]
        with contextlib.suppress(Exception):  # stderr may be closed by now; there is nobody else to tell
            print("\n".join(lines), file=sys.stderr, flush=True)
    return results


def _at_exit() -> None:
    close_everything("the process is ending")  # with nothing to close, too: daemon threads may ask for sessions yet
    tracker.leave()
    for route in list(_routes.values()):
        if route.earlier is signal.SIG_DFL:
            route.send_on()


def _on_audit(event: str, _: object) -> None:
    """The process is about to become another program, which knows nothing of sessions: close them first."""
    if event == "os.exec" and not tracker.is_idle():
        close_everything("the process is becoming another program")
        tracker.ending = None
    if event == "os.exec":
        tracker.keeper.become_another()


def _after_fork_in_child() -> None:
    """The child holds a copy of everything tracked. It forgets: the sessions are its parent's to close."""
    tracker.forget_all()
    _arming[0] = threading.Lock()  # another thread of the parent may have held it
    for route in _routes.values():
        route.leave()
    _routes.clear()


def _arm_multiprocessing() -> None:
    """Multiprocessing's children leave by os._exit, without atexit; its own finalizers do run."""
    process = sys.modules.get("multiprocessing.process")
    if process is None or process.parent_process() is None or os.getpid() in _children:
        return
    from multiprocessing.util import Finalize

    _children.append(os.getpid())
    Finalize(None, _at_exit, exitpriority=100)
