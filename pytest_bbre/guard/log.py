"""Knows how the guardian leaves a few lines for whoever looks for a fault: one small file, and the one before it.
Must not know what is told. The module logging would be half a megabyte in every guardian.
"""

from __future__ import annotations

import os
import time
from typing import Final

LARGEST: Final = 64 * 1024  # bytes; our choice


class Log:
    """Lines in a file that only its user can read. Never raises: a full disk must not end the guardian.

    Args:
        path: the file; the earlier one has `.1` at its end.
        secret: is in no line.
    """

    def __init__(self, path: str, secret: str) -> None:
        self.path = path
        self._secret = secret

    def __call__(self, line: str) -> None:
        """Writes one line."""
        words = line.replace(self._secret, "***") if self._secret else line
        shown = "".join(char if char.isprintable() else " " for char in words)
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        try:
            if os.path.exists(self.path) and os.stat(self.path).st_size > LARGEST:
                os.replace(self.path, self.path + ".1")
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
            opened = os.open(self.path, flags, 0o600)
        except OSError:
            return
        try:
            os.write(opened, f"{when} [{os.getpid()}] {shown}\n".encode("utf-8", "replace"))
        except OSError:
            return
        finally:
            os.close(opened)


def path_of(folder: str, account: str) -> str:
    """The log of an account's guardian."""
    return os.path.join(folder, f"guardian-{account[:8]}.log")
