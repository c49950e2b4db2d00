"""Knows how the embedded engine is started as a child process, held for as long as its owner lives, and ended.
Must not know what the engine does: it hands over a line of options and reads back an address.

Why a file is run and not ``-m pytest_bbre.engine``: with ``-I`` neither the caller's folder nor PYTHONPATH can put a
module in the way of the standard library, and `engine/_boot.py` then loads this very package, installed or not.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Mapping
from queue import Empty, SimpleQueue
from typing import Any, Final

from ._secret import Secret
from .errors import EngineExtraMissingError, EngineStartError

START_TIMEOUT: Final = 20.0  # seconds until the child has to answer
_BOOT: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "engine", "_boot.py")
_KEPT: Final = 64 * 1024  # bytes of the child's stderr that are kept, for the error message
_STEPS: Final = (5.0, 2.0, 2.0)  # seconds for the end of its input, for SIGTERM and for SIGKILL to work


def new_token() -> Secret:
    """256 random bits as text, as the module secrets makes them, which takes longer to import than all of this."""
    return Secret(base64.urlsafe_b64encode(os.urandom(32)).decode("ascii").rstrip("="))


def new_key() -> Secret:
    """An API key for one engine's life."""
    return Secret("bbre_local_" + new_token())


_owners: dict[str, int] = {}  # by the address of an engine: the process that it ends with


def ends_with_this_process(base_url: str) -> None:
    """Notes that the engine at this address ends with this process."""
    _owners[base_url] = os.getpid()


def ends_with_us(base_url: str) -> bool:
    """Whether the engine at this address, and each session with it, ends when this very process does."""
    return _owners.get(base_url) == os.getpid()


class EngineChild:
    """A running engine in a child process; made by `start_engine_child`.

    The child ends when its standard input does, so it can't outlive its owner: not even one that is killed.

    Attributes:
        base_url: its address.
        api_key: the key of its first account; repr hides it.
        control_token: what its control endpoints ask for; repr hides it.
        instance: the id of this one engine; a later engine on the same port has another.
        pid: its process id.
    """

    def __init__(self, process: _Process, held: int, ready: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        self.base_url = str(ready["base_url"])
        self.instance = str(ready["instance"])
        self.api_key = Secret(options["api_key"])
        self.control_token = Secret(options["control_token"])
        self.pid = process.pid
        self._process = process
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._let_go = _holding(self, held)
        ends_with_this_process(self.base_url)

    def __repr__(self) -> str:
        return f"<EngineChild {self.pid} at {self.base_url}>"

    def is_running(self) -> bool:
        """Whether the child lives; in a forked process that does not own it, whether it was left alone."""
        return self._let_go.alive and (self._owner != os.getpid() or self._process.poll() is None)

    def stop(self) -> None:
        """Ends the child and waits until it is gone. Only its owner can; a second call does nothing."""
        if self._owner != os.getpid():
            return
        with self._lock:
            _end(self._process, self._let_go)


class _Process(subprocess.Popen[bytes]):
    """A process that may be left running: the end of its input ends it."""

    def __del__(self) -> None:
        """Nothing: Popen's own would warn of a process that is still running."""


def _holding(child: object, held: int) -> weakref.finalize[Any, Any]:
    """Lets go of the child's input when nobody has the child any more. Not at exit: the process's end does it then."""
    let_go = weakref.finalize(child, os.close, held)
    let_go.atexit = False
    return let_go


def start_engine_child(
    options: Mapping[str, Any] | None = None, *, start_timeout: float = START_TIMEOUT
) -> EngineChild:
    """Starts an engine and waits until it listens.

    Args:
        options: those of the engine, as plain values; `api_key` and `control_token` are made anew where missing.
        start_timeout: seconds to wait.

    Raises:
        EngineExtraMissingError: aiohttp is not installed.
        EngineStartError: it did not come up; the message holds what it wrote.
    """
    if importlib.util.find_spec("aiohttp") is None:
        raise EngineExtraMissingError("The embedded engine needs aiohttp, which is not installed.")
    given = {"api_key": new_key(), "control_token": new_token(), **(options or {})}
    config = {"owner": os.getpid(), "path": [os.path.abspath(one) for one in sys.path if one], "options": given}
    process, held, answers, errors = _spawn()
    try:
        _hand_over(held, json.dumps(config))
        ready = _wait_until_ready(process, answers, errors, start_timeout)
        return EngineChild(process, held, ready, given)
    except BaseException:
        holder = type("_Holder", (), {})()
        _end(process, _holding(holder, held), patience=0.0)
        raise


def _command() -> list[str]:
    if not sys.executable:
        raise EngineStartError("sys.executable is empty, so no Python can be started for the engine.")
    flags = ["-I"]
    if sys.dont_write_bytecode:  # -I leaves the environment's wishes out, these too
        flags.append("-B")
    if sys.pycache_prefix:
        flags += ["-X", f"pycache_prefix={sys.pycache_prefix}"]
    return [sys.executable, *flags, _BOOT]


def _spawn() -> tuple[_Process, int, SimpleQueue[bytes], deque[bytes]]:
    """The process, the write end of its input, its first line of output, and what it writes to stderr.

    Plain file descriptors, since file objects would warn at exit that they were left open, which is the point.
    """
    command = _command()
    environment = {name: value for name, value in os.environ.items() if name.upper() != "BBRE_API_KEY"}
    (stdin, held), (out, stdout), (err, stderr) = os.pipe(), os.pipe(), os.pipe()
    try:
        process = _Process(command, stdin=stdin, stdout=stdout, stderr=stderr, env=environment, **_own_group())
    except OSError as error:
        for descriptor in (held, out, err):
            os.close(descriptor)
        raise EngineStartError(f"{sys.executable} could not be started: {error}") from error
    finally:
        for descriptor in (stdin, stdout, stderr):
            os.close(descriptor)
    answers: SimpleQueue[bytes] = SimpleQueue()
    errors: deque[bytes] = deque()
    threading.Thread(target=_read_line, args=(out, answers), name="bbre-engine-ready", daemon=True).start()
    threading.Thread(target=_keep, args=(err, errors), name="bbre-engine-stderr", daemon=True).start()
    return process, held, answers, errors


def _own_group() -> dict[str, Any]:
    """A group of its own, so that a signal to the owner's group does not end it before sessions are closed."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _read_line(source: int, answers: SimpleQueue[bytes]) -> None:
    """Puts everything up to the first line's end, or up to the end of the output."""
    line = b""
    with contextlib.suppress(OSError):
        while b"\n" not in line and (more := os.read(source, 4096)):
            line += more
    os.close(source)
    answers.put(line)


def _keep(source: int, kept: deque[bytes]) -> None:
    """Keeps the last of what comes, so that the child never waits for a reader."""
    size = 0
    with contextlib.suppress(OSError):
        while more := os.read(source, 4096):
            kept.append(more)
            size += len(more)
            while size > _KEPT:
                size -= len(kept.popleft())
    os.close(source)


def _hand_over(held: int, line: str) -> None:
    data = line.encode() + b"\n"
    try:
        while data:
            data = data[os.write(held, data) :]
    except OSError:  # it ended at once: what it wrote says why. Raised from here, a report would show the line
        return


def _wait_until_ready(
    process: _Process, answers: SimpleQueue[bytes], errors: deque[bytes], start_timeout: float
) -> Mapping[str, Any]:
    try:
        line = answers.get(timeout=start_timeout)
    except Empty:
        line, told = b"", f"gave no sign of life in {start_timeout:g} s"
    else:
        told = "ended before it was ready"
    try:
        ready = json.loads(line)
    except ValueError:
        ready = {}
    if "base_url" in ready:
        return dict(ready)
    with contextlib.suppress(subprocess.TimeoutExpired):  # what is still on its way belongs into the message
        process.wait(0.5)
    told = ready.get("error") or told
    written = b"".join(list(errors)).decode("utf-8", "replace").strip()
    raise EngineStartError(f"The embedded engine {told}." + (f" It wrote:\n{written}" if written else ""))


def _end(process: _Process, let_go: weakref.finalize[Any, Any], patience: float = _STEPS[0]) -> None:
    """The end of its input first, then SIGTERM, then SIGKILL."""
    let_go()
    for seconds, act in zip((patience, *_STEPS[1:]), (process.terminate, process.kill, None), strict=True):
        try:
            process.wait(seconds)
            return
        except subprocess.TimeoutExpired:
            if act is not None:
                act()
