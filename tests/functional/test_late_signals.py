"""Promises of a signal that comes after everything is closed: it does what it would do without the plugin."""

from __future__ import annotations

import signal
import sys

import pytest

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signals"),
    pytest.mark.usefixtures("unmeasured"),
]


@pytest.mark.parametrize("order", ["tryfirst", "trylast"])
def test_a_signal_in_another_plugin_s_summary(pytester, run, service, order):
    """SIGTERM before or after the account ends the process, by the signal itself, and the engine has nothing open."""
    pytester.makepyfile("def test_one(bbre_session, bbre_module_session): pass")
    pytester.makeconftest(
        f"""
        import os
        import signal

        import pytest

        @pytest.hookimpl({order}=True)
        def pytest_terminal_summary():
            print("the summary begins", flush=True)
            os.kill(os.getpid(), signal.SIGTERM)
            print("went on", flush=True)
        """
    )
    result = run("-s")
    assert service.active() == []
    assert [one.status for one in service.sessions()] == ["closed"] * 2
    assert result.ret == -signal.SIGTERM
    result.stdout.fnmatch_lines(["the summary begins"])
    result.stdout.no_fnmatch_line("went on")
