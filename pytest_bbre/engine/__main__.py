"""Knows how a person runs the engine in the foreground: python -m pytest_bbre.engine.
Must not know what an engine answers.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import sys
from collections.abc import Sequence

from .. import _wire
from ..errors import EngineExtraMissingError, SettingsError
from .faults import KINDS
from .options import Options, make_options


def parser() -> argparse.ArgumentParser:
    """The command line. The key has no option: what is on a command line, every user of the machine can read."""
    made = argparse.ArgumentParser(
        prog="python -m pytest_bbre.engine",
        description="Runs the embedded BBRE engine until Ctrl-C, and prints the variables with which clients find it.",
        epilog="Faults: " + "; ".join(f"{kind} {does}" for kind, does in KINDS.items()) + ".",
    )
    made.add_argument("--host", default="127.0.0.1", help="a loopback address (default: %(default)s)")
    made.add_argument("--port", type=int, default=0, help="a port (default: any free one)")
    made.add_argument(
        "--max-sessions", type=int, default=_wire.MAX_SESSIONS, help="active sessions an account may have (%(default)s)"
    )
    made.add_argument(
        "--latency", action="append", default=[], metavar="ENDPOINT=SECONDS", help="e.g. create=0.3; may be repeated"
    )
    made.add_argument(
        "--fault", action="append", default=[], metavar="ENDPOINT:KIND[:NAME=VALUE...]",
        help="e.g. close:fail:code=SERVICE_ERROR:times=2; may be repeated",
    )  # fmt: skip
    return made


def read_options(arguments: Sequence[str]) -> Options:
    """The options of a command line.

    Raises:
        SettingsError: one of them can't be used.
    """
    given = parser().parse_args(arguments)
    return make_options(
        host=given.host,
        port=given.port,
        max_sessions=given.max_sessions,
        latency=dict(_latency(text) for one in given.latency for text in one.split(",")),
        faults=given.fault,
    )


def _latency(text: str) -> tuple[str, float]:
    endpoint, _, seconds = text.partition("=")
    try:
        return endpoint, float(seconds)
    except ValueError:
        raise SettingsError(f"--latency is {text!r}; write ENDPOINT=SECONDS, e.g. create=0.3.") from None


async def run(options: Options) -> None:
    """Runs the engine until SIGTERM or SIGINT."""
    from ._owned import stop_on_signals
    from .service import Service

    stopped = asyncio.Event()
    stop_on_signals(asyncio.get_running_loop(), stopped.set)
    service = Service(options)
    await service.start()
    print(f"export BBRE_BASE_URL={service.base_url}", f"export BBRE_API_KEY={options.api_key!s}", sep="\n", flush=True)
    print("Running until Ctrl-C.", file=sys.stderr, flush=True)
    await stopped.wait()
    await service.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status is 2 where it could not start."""
    try:
        options = read_options(sys.argv[1:] if arguments is None else arguments)
        if importlib.util.find_spec("aiohttp") is None:
            raise EngineExtraMissingError("The embedded engine needs aiohttp, which is not installed.")
        asyncio.run(run(options))
    except (EngineExtraMissingError, SettingsError, OSError) as error:
        print(f"The engine did not start: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
