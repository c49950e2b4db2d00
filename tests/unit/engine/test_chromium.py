"""chromium.py: where a browser is found, and what is said where there is none."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pytest_bbre import BBREClient
from pytest_bbre.engine import Engine, chromium
from pytest_bbre.engine.refused import Refused
from pytest_bbre.errors import InvalidRequestError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="makes programs by their mode")


@pytest.fixture
def program(tmp_path: Path):
    """Makes a program of a name."""

    def make(name: str) -> str:
        path = tmp_path / name
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
        return str(path)

    return make


def test_the_one_that_is_named_comes_first(program, tmp_path: Path) -> None:
    """Then Playwright's own, then those on PATH in their order."""
    named, own, first, second = map(program, ("mine", "own", "chromium", "google-chrome"))
    environ = {"BBRE_CHROMIUM": named, "PATH": str(tmp_path)}
    assert chromium.find(own, environ) == named
    del environ["BBRE_CHROMIUM"]
    assert chromium.find(own, environ) == own
    assert chromium.find("/nowhere/chrome", environ) == first
    os.unlink(first)
    assert chromium.find(None, environ) == second
    os.unlink(second)
    assert chromium.find(None, environ) is None


@pytest.mark.parametrize("value", ["/nowhere/chromium", "no-such-program"])
def test_a_name_that_is_no_program_is_refused(value: str) -> None:
    """With the variable and its value: nobody looks further than what was asked for."""
    with pytest.raises(Refused, match="BBRE_CHROMIUM is '" + value):
        chromium.find(None, {"BBRE_CHROMIUM": value})


def test_without_a_browser_the_create_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An error of that call alone; no slot is taken, and passive sessions are opened."""
    pytest.importorskip("playwright")
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    monkeypatch.setattr(chromium, "NAMES", ("no-such-browser",))
    with Engine(in_process=True) as engine, BBREClient(str(engine.api_key), engine.base_url) as bbre:
        with pytest.raises(InvalidRequestError, match=r"no Chromium was found\. Install one .*, or set BBRE_CHROMIUM"):
            bbre.create_session("adaptive")
        assert engine.sessions() == []
        bbre.close_session(bbre.create_session())


def test_without_playwright_the_create_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra, by its name."""
    monkeypatch.setitem(sys.modules, "playwright.async_api", None)
    with Engine(in_process=True) as engine, BBREClient(str(engine.api_key), engine.base_url) as bbre:
        with pytest.raises(InvalidRequestError, match=r"pip install \"pytest-bbre\[adaptive\]\""):
            bbre.create_session("adaptive")
        assert engine.sessions() == []


def test_a_browser_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch, program) -> None:
    """With its path; the next create tries again."""
    pytest.importorskip("playwright")
    path = program("broken")
    monkeypatch.setenv("BBRE_CHROMIUM", path)
    with Engine(in_process=True) as engine, BBREClient(str(engine.api_key), engine.base_url, retries=0) as bbre:
        for _ in range(2):
            with pytest.raises(Exception, match=f"{path} could not be started"):
                bbre.create_session("adaptive")
        assert engine.sessions() == []
