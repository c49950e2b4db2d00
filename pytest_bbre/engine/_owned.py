"""Knows how an engine runs as a child process: it tells its address, and ends when its owner does.
Must not know why it was started.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from .options import Options, from_json
from .service import Service

_LOOK: Final = 0.5  # seconds between two looks at the owner, where the system does not tell of its end
_STUCK: Final = 5.0  # seconds for an end in good order


def serve(owner: int, options: Mapping[str, Any]) -> None:
    """Runs until the owner is gone or wants it to end: its end closes standard input.

    Args:
        owner: the process id of the owner, which has to be this process's parent.
        options: the engine's options as plain values.
    """
    asyncio.run(_run(owner, from_json(options)))


async def _run(owner: int, options: Options) -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    stop_on_signals(loop, stopped.set)
    service = Service(options)
    try:
        await service.start()
    except OSError as error:
        _tell({"error": f"could not listen on {options.host}:{options.port}: {error}"})
        return
    watch = threading.Thread(target=_watch, args=(owner, loop, stopped), name="bbre-owner", daemon=True)
    watch.start()
    _tell({"base_url": service.base_url, "instance": service.instance, "pid": os.getpid()})
    await stopped.wait()
    await service.stop()


def stop_on_signals(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
    """SIGTERM and SIGINT end the engine in good order."""
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, stop)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))


def _tell(ready: Mapping[str, Any]) -> None:
    """One line to the owner; then nobody reads on, so that nothing may be written any more."""
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _watch(owner: int, loop: asyncio.AbstractEventLoop, stopped: asyncio.Event) -> None:
    """Waits for the owner's end, then ends the engine; by force, if it does not end by itself."""
    _wait_for_end(owner)
    with contextlib.suppress(RuntimeError):  # the loop is closed already
        loop.call_soon_threadsafe(stopped.set)
    threading.Event().wait(_STUCK)
    os._exit(1)


def _wait_for_end(owner: int) -> None:
    """Returns when standard input ends, or when the owner does.

    Standard input alone would do, if a process that the owner forked did not hold it open.
    """
    if sys.platform == "win32":
        while os.read(0, 1024):
            pass
        return
    watched = [0, *_owner_handle(owner)]
    while os.getppid() == owner:  # also right if it was gone before the handle was opened
        ready, _, _ = select.select(watched, [], [], _LOOK)
        if any(one != 0 for one in ready) or (ready and not os.read(0, 1024)):
            return


def _owner_handle(owner: int) -> list[int]:
    """A descriptor that tells of the owner's end at once, where there is such a thing (Linux 5.3)."""
    try:
        return [os.pidfd_open(owner)]
    except (AttributeError, OSError):
        return []
