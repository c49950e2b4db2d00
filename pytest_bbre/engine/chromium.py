"""Knows where a Chromium is found on this machine, and what to say where there is none.
Must not know how it is driven. It is started as what it is: an honest headless Chromium.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from typing import Final

from .refused import Refused, invalid

VARIABLE: Final = "BBRE_CHROMIUM"
NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_INSTALL: Final = {
    "darwin": "brew install --cask chromium",
    "win32": "winget install Google.Chrome",
    "linux": "apt-get install chromium",  # Debian; elsewhere by another command of the same kind
}


def find(own: str | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """The path of a Chromium: the one that BBRE_CHROMIUM names, Playwright's own, or one on PATH.

    Args:
        own: where Playwright would have put its own.
        environ: the environment.

    Raises:
        Refused: BBRE_CHROMIUM names no file that can be run.
    """
    named = environ.get(VARIABLE)
    if named:
        if shutil.which(named) is None:
            raise invalid(f"mode can't be adaptive: {VARIABLE} is {named!r}, which is no program.")
        return shutil.which(named)
    if own and os.access(own, os.X_OK):
        return own
    found = (shutil.which(name, path=environ.get("PATH")) for name in NAMES)
    return next((path for path in found if path), None)


def missing() -> Refused:
    """The refusal of an adaptive session where there is no Chromium, with the line that installs one."""
    install = _INSTALL.get(sys.platform, _INSTALL["linux"])
    return invalid(
        f"mode can't be adaptive: no Chromium was found. Install one ({install}), or set {VARIABLE} to its path."
    )


def may_use_sandbox() -> bool:
    """Whether Chromium's sandbox works for this user: for everybody but root."""
    return not hasattr(os, "geteuid") or os.geteuid() != 0
