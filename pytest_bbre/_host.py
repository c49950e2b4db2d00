"""Knows what a host program (pytest, by our plugin) answers for in place of the core: settings and signals.
Must not know the host. Tiny, so that the plugin can leave its word here in every run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._settings import Settings

# Seconds in which a signal that comes again is the same one: coreutils' `timeout` and others send each signal to the
# process and to its group, which is twice.
SENT_TWICE: Final = 0.2


class Host:
    """The word of at most one host program.

    Attributes:
        settings: gives the settings for sessions that name none; None where there is no host.
        stops: whether it answers SIGTERM and its like itself, and ends in good order.
    """

    settings: Callable[[], Settings] | None = None
    stops = False


host = Host()
