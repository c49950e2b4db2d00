"""Knows what a host program (pytest, by our plugin) answers for in place of the core: settings and signals.
Must not know the host. Tiny, so that the plugin can leave its word here in every run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._settings import Settings


class Host:
    """The word of at most one host program.

    Attributes:
        settings: gives the settings for sessions that name none; None where there is no host.
        stops: whether it answers SIGTERM and its like itself, and ends in good order.
        tell: shows a line to the person who runs the program; None for stderr.
    """

    settings: Callable[[], Settings] | None = None
    stops = False
    tell: Callable[[str], None] | None = None


host = Host()
