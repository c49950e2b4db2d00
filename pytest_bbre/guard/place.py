"""Knows in which folder the ledger lies: the one that was asked for, the platform's, or another if that won't do.
Must not know what is in the ledger. The guardian never imports this: it is told the path.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Final

from ..errors import LedgerError
from . import files
from .ledger import SqliteLedger

# SQLite's WAL needs memory that all processes share, and locks that hold: not to be had over a network. From the
# kernel's list of file systems, and FUSE's that reach other machines. Windows and macOS folders come to Linux by 9p.
NETWORK: Final = frozenset(
    {
        *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"),
        *("ocfs2", "orangefs", "smb2", "smb3", "smbfs", "fuse.ceph", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs"),
        "fuse.sshfs",
    }
)
MOUNTS: Final = "/proc/self/mountinfo"


def open_ledger(state_dir: str | None, tell: Callable[[str], None]) -> SqliteLedger:
    """Opens the ledger of this user.

    Args:
        state_dir: the folder to use; None for the platform's place for such files, or one that does instead.
        tell: shows a line to the person who runs this program.

    Raises:
        LedgerError: the folder that was asked for can't be used; none can be used; or one may be somebody else's.
    """
    if state_dir:
        folder = os.path.abspath(os.path.expanduser(state_dir))  # no shell does so in a file of settings
        if system := network_file_system(folder):
            raise LedgerError(f"{folder} is on a network file system ({system}), where a ledger can't be shared.")
        return _open(folder, tell)
    return _open_first(default_folders(), tell)


def default_folders() -> list[str]:
    """Where a ledger may lie, the best first. Every process of a user finds the same."""
    import platformdirs  # here: only whoever opens a ledger pays for it

    user = str(os.geteuid()) if hasattr(os, "geteuid") else os.environ.get("USERNAME", "user")
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    return [
        os.path.abspath(platformdirs.user_state_dir("pytest-bbre", appauthor=False)),
        *([os.path.join(runtime, "pytest-bbre")] if os.path.isabs(runtime) else []),
        os.path.join(os.path.abspath(tempfile.gettempdir()), f"pytest-bbre-{user}"),
    ]


def _open_first(folders: list[str], tell: Callable[[str], None]) -> SqliteLedger:
    """The first folder with a ledger, else the first in which one can be made: so all processes agree, also after
    the reason why a better one could not be used has gone.
    """
    reasons = []
    for folder in sorted(folders, key=lambda folder: not _has_ledger(folder)):
        if system := network_file_system(folder):
            reasons.append((folder, f"{folder} is on a network file system ({system})."))
            continue
        try:
            ledger = _open(folder, tell)
        except files.UnusableError as error:
            reasons.append((folder, error.message))
            continue
        if folder != folders[0]:
            why = next((reason for place, reason in reasons if place == folders[0]), "It was begun there earlier.")
            tell(f"bbre: the ledger of sessions is in {folder}, not in {folders[0]}. {why}")
        return ledger
    raise LedgerError(" ".join(reason for _, reason in reasons))


def _open(folder: str, tell: Callable[[str], None]) -> SqliteLedger:
    return SqliteLedger(os.path.join(folder, files.DATABASE), tell)


def _has_ledger(folder: str) -> bool:
    return files.is_mine(folder) and os.path.lexists(os.path.join(folder, files.DATABASE))


def network_file_system(folder: str, mounts: str = MOUNTS) -> str | None:
    """The kind of network file system that a folder is or would be on; None if it is local, or nobody can tell.

    Args:
        folder: need not exist.
        mounts: the list of mounts, in the form of Linux's mountinfo.
    """
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    path, kind, longest = os.path.realpath(folder), "", -1
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, system = before.split(" "), after.split(" ")[0]
        if len(fields) < 5:
            continue
        point = _unescaped(fields[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= longest:  # of two mounts at one point the later one is seen
            kind, longest = system, len(point)
    return kind if kind in NETWORK else None


def _unescaped(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text
