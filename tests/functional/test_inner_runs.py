"""Promises of a pytest run that is not alone in its process: it leaves alone what was open before it."""

from __future__ import annotations

import subprocess
import sys


def test_a_run_inside_a_script_leaves_the_scripts_session_open(pytester, service):
    """`pytest.main` closes what its tests opened and forgot, and nothing else."""
    pytester.makepyfile("from pytest_bbre import open_session\ndef test_forgets(): open_session()")
    script = pytester.path / "script.py"
    script.write_text(
        "import pytest\n"
        "from pytest_bbre import open_session\n"
        "mine = open_session()\n"
        "code = pytest.main(['-q', '-p', 'bbre', '-p', 'no:cacheprovider'])\n"
        "print('status', mine.status().status, 'code', int(code))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, cwd=pytester.path)
    assert "status active code 0" in done.stdout, done.stdout + done.stderr
    assert "bbre: opened 1, closed 1, still active 1 in the account" in done.stdout
    assert service.active() == []


def test_a_client_of_the_run_needs_no_arguments(pytester, run):
    """BBREClient() in a test goes where the run's sessions go; what it leaves open makes the run fail."""
    pytester.makepyfile(
        """
        from pytest_bbre import BBREClient

        def test_leaves_one(bbre_engine):
            opened = BBREClient().create_session()
            assert [one.id for one in bbre_engine.sessions()] == [opened.id]

        def test_counted(bbre_session): pass
        """
    )
    result = run("--bbre-engine=embedded")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["bbre: opened 1, closed 1, still active 1"])
    assert result.ret == 1


def test_what_an_engine_tells_hides_its_secrets(pytester, run):
    """The environment and the parts of an engine, among the locals of a failing test, show neither key nor token."""
    pytester.makepyfile(
        """
        import pathlib

        def test_fails(bbre_engine):
            environment, parts = bbre_engine.environ(), bbre_engine.parts()
            pathlib.Path("secrets").write_text(f"{bbre_engine.api_key} {parts['control_token']}")
            assert environment is parts
        """
    )
    result = run("--bbre-engine=embedded", "--showlocals", "-vv", "--junitxml=junit.xml")
    result.assert_outcomes(failed=1)
    told = result.stdout.str() + (pytester.path / "junit.xml").read_text()
    assert "BBRE_API_KEY" in told
    for secret in (pytester.path / "secrets").read_text().split():
        assert secret not in told


def test_a_run_whose_engine_is_gone_still_ends_in_good_order(pytester, run):
    """An engine that a test stopped can't be asked at the end: no internal error, and the outcome is the tests' own."""
    pytester.makepyfile("def test_stops(bbre_engine): bbre_engine.stop()")
    result = run("--bbre-engine=embedded")
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
