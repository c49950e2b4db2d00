"""Knows where in a program a session is being opened, and what the program is called: for people who look for it.
Must not know sessions. No arguments of the program are told: they may hold secrets.
"""

from __future__ import annotations

import os
import sys
from types import FrameType
from typing import Any, Final

LONGEST: Final = 200  # characters of one place; our choice
_OURS: Final = os.path.dirname(os.path.abspath(__file__)) + os.sep
_BETWEEN: Final = ("contextlib", "asyncio", "concurrent", "threading", "trio", "anyio", "functools", "outcome")


def opened_at() -> str:
    """Where a session is being opened: a test, a notebook's cell, or a file and line. One line."""
    test = os.environ.get("PYTEST_CURRENT_TEST")
    return _plain(test or _cell() or _line())


def program() -> str:
    """What this program is called: "pytest", a script's name, "python -c", "jupyter kernel"."""
    if _shell() is not None and "ipykernel" in sys.modules:
        return "jupyter kernel"
    first = sys.argv[0] if sys.argv else ""
    name = os.path.basename(first)
    if first in ("-c", ""):
        return "python -c" if first else "python"
    if name == "__main__.py":  # python -m package
        name = os.path.basename(os.path.dirname(first))
    return _plain(name)


def _shell() -> Any:
    """IPython's shell, if this program has one. It is never imported here."""
    module = sys.modules.get("IPython")
    get = getattr(module, "get_ipython", None)
    return get() if get is not None else None


def _cell() -> str:
    shell = _shell()
    if shell is None or "ipykernel" not in sys.modules:
        return ""
    name = getattr(shell, "user_ns", {}).get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME") or "notebook"
    return f"{os.path.basename(str(name))} [{getattr(shell, 'execution_count', '?')}]"


def _line() -> str:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        module = str(frame.f_globals.get("__name__", ""))
        if not name.startswith(_OURS) and module.split(".")[0] not in _BETWEEN:
            return f"{_short(name)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _short(path: str) -> str:
    """Relative to the current folder, if it is below it."""
    try:
        here = os.getcwd() + os.sep
    except OSError:  # it was removed
        return path
    return path[len(here) :] if path.startswith(here) else path


def _plain(text: str) -> str:
    shown = "".join(one if one.isprintable() else repr(one)[1:-1] for one in text[: LONGEST * 2])
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 3] + "..."
