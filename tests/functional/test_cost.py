"""Promises to runs that don't use BBRE: the plugin costs them nothing."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = (
    "requests",
    "urllib3",
    "wrapt",
    "aiohttp",
    "sqlite3",
    "ipywidgets",
    "psutil",
    "rich",
    "click",
    "asyncio",
    "platformdirs",
    "http.client",
    "ssl",
    "multiprocessing",
)
RUN = """
import json, sys, threading, pytest
code = pytest.main(sys.argv[1:])
print(json.dumps({"code": code, "modules": sorted(sys.modules), "threads": threading.active_count()}))
"""


def told(folder, *arguments):
    command = [sys.executable, "-c", RUN, "-q", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["code"] == 0
    return told


def test_a_run_without_sessions_loads_nothing(pytester):
    """pytest on a test that uses nothing of ours: no heavy module is loaded, no thread started."""
    pytester.makepyfile("def test_one(): pass")
    with_us, without = told(pytester.path, "-p", "bbre"), told(pytester.path)
    added = set(with_us["modules"]) - set(without["modules"])
    assert "pytest_bbre.plugin" in added
    assert not added & set(HEAVY)
    assert with_us["threads"] == without["threads"] == 1
    ours = {name for name in added if name.partition(".")[0] == "pytest_bbre"}
    standard = {name.partition(".")[0] for name in added - ours}
    assert standard <= set(sys.stdlib_module_names)


def test_options_load_nothing_heavy_either(pytester, monkeypatch):
    """A key and options in the environment are checked without loading the client."""
    monkeypatch.setenv("BBRE_API_KEY", "some-key")
    pytester.makepyfile("def test_one(): pass")
    with_us, without = told(pytester.path, "-p", "bbre", "--bbre-timeout=60"), told(pytester.path)
    added = set(with_us["modules"]) - set(without["modules"])
    assert "pytest_bbre._settings" in added
    assert not added & set(HEAVY)


def test_signal_handlers_are_given_back(pytester):
    """After a run inside another program, that program's signal handlers are what they were."""
    pytester.makepyfile("def test_one(): pass")
    script = """
import signal, pytest
before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
assert pytest.main(["-q", "-p", "bbre", "-p", "no:cacheprovider"]) == 0
assert before == [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
"""
    subprocess.run([sys.executable, "-c", script], cwd=pytester.path, timeout=60, check=True, capture_output=True)
