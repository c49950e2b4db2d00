"""Knows the signals that end a process, and how a process sends one to itself.
Must not know what is done when one comes: the core (`_exits`) and the pytest run (`_run`) share this.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Final

ENDING: Final = [
    number for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if isinstance(number := getattr(signal, name, None), int)
]

# Seconds in which a signal that comes again is the same one: coreutils' `timeout` and others send each signal to the
# process and to its group, which is twice.
SENT_TWICE: Final = 0.2


def send_to_self(signum: int) -> None:
    """Sends a signal to this process, under whatever action is in place."""
    if sys.platform == "win32":  # there os.kill ends a process without asking its handlers
        signal.raise_signal(signum)
    else:
        os.kill(os.getpid(), signum)
