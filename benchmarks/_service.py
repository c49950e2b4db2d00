"""Knows how an engine of another process is run for a benchmark, with a ledger of its own beside it.
Must not know what is measured.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def service() -> Iterator[Mapping[str, str]]:
    """The variables with which programs find the engine and the ledger."""
    command = [sys.executable, "-m", "pytest_bbre.engine"]
    with (
        tempfile.TemporaryDirectory(prefix="bbre-bench-", ignore_cleanup_errors=True) as folder,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            lines = [process.stdout.readline().removeprefix("export ").strip() for _ in range(2)]
            found = dict(line.split("=", 1) for line in lines)
            yield {**found, "BBRE_ACCOUNT_SCOPE": "exclusive", "BBRE_STATE_DIR": folder}
        finally:
            process.terminate()
