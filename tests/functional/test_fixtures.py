"""Promises of the fixtures that a test asks for."""

from __future__ import annotations

import re

import psutil

FIXTURES = (
    "bbre_session",
    "bbre_module_session",
    "bbre_session_factory",
    "bbre_client",
    "bbre_session_options",
    "bbre_settings",
    "bbre_engine",
)


def test_a_session_lives_as_long_as_its_test(pytester, run, service):
    """bbre_session is open during its test, closed after it, and each test has one of its own."""
    pytester.makepyfile(
        """
        seen = []

        def test_it_is_open(bbre_session):
            seen.append(bbre_session.id)
            assert bbre_session.is_active
            assert bbre_session.status().status == "active"

        def test_it_was_closed_and_this_is_another(bbre_session, bbre_client):
            assert bbre_client.session_status(seen[0]).status == "closed"
            assert bbre_session.id not in seen
        """
    )
    run().assert_outcomes(passed=2)
    assert [one.status for one in service.sessions()] == ["closed", "closed"]


def test_a_session_sends_requests(pytester, run):
    """What bbre_session.get returns is a requests.Response from a real server."""
    pytester.makepyfile(
        """
        import requests

        def test_get(bbre_session, bbre_engine):
            answer = bbre_session.get(bbre_engine.base_url + "/somewhere")
            assert isinstance(answer, requests.Response)
            assert answer.status_code == 404
            assert answer.json()["success"] is False
        """
    )
    run().assert_outcomes(passed=1)


def test_factory_sessions_are_many_and_all_closed(pytester, run, service):
    """bbre_session_factory opens a session at each call, with its own options; the test's end closes all of them."""
    pytester.makepyfile(
        """
        def test_many(bbre_session_factory, bbre_client):
            sessions = [bbre_session_factory(timeout=100 + number) for number in range(9)]
            assert len({one.id for one in sessions}) == 9
            assert [one.timeout for one in sessions] == [100 + number for number in range(9)]
            assert len(list(bbre_client.list_sessions("active"))) == 9
            sessions[3].close()

        def test_all_closed(bbre_client):
            assert list(bbre_client.list_sessions("active")) == []
        """
    )
    result = run()
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*bbre: opened 9, closed 9, still active 0*"])
    assert len(service.sessions("closed")) == 9


def test_many_factories(pytester, run, service):
    """Every test's factory closes its own sessions, also where each of many tests fills the account."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_fill(bbre_session_factory, number):
            for _ in range(10):
                bbre_session_factory()
        """
    )
    result = run()
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*bbre: opened 40, closed 40, still active 0*"])
    assert len(service.sessions("closed")) == 40


def test_client_has_the_settings_of_the_run(pytester, run, service):
    """bbre_client speaks to where the run's sessions are."""
    pytester.makepyfile(
        """
        from pytest_bbre import BBREClient

        def test_client(bbre_client, bbre_session, bbre_settings):
            assert isinstance(bbre_client, BBREClient)
            assert bbre_client.settings == bbre_settings
            assert [one.id for one in bbre_client.list_sessions("active")] == [bbre_session.id]
        """
    )
    run().assert_outcomes(passed=1)


def test_engine_is_one_and_tells_the_truth(pytester, run):
    """bbre_engine is the embedded engine that the run's sessions live in, asked by another way than the client; it
    is gone when the run is over.
    """
    pytester.makepyfile(
        """
        import pathlib

        import psutil

        def children():
            return [one.pid for one in psutil.Process().children(recursive=True)]

        def test_none_before_its_first_use():
            assert children() == []

        def test_one(bbre_session, bbre_engine, bbre_client):
            assert bbre_client.settings.base_url == bbre_engine.base_url
            assert [one.id for one in bbre_engine.sessions()] == [bbre_session.id]
            assert children() == [bbre_engine.pid]

        def test_the_same(bbre_engine, bbre_session):
            assert children() == [bbre_engine.pid]
            pathlib.Path("pid").write_text(str(bbre_engine.pid))
            assert len(bbre_engine.sessions()) == 1
        """
    )
    run().assert_outcomes(passed=3)
    assert not psutil.pid_exists(int((pytester.path / "pid").read_text()))


def test_engine_fails_on_purpose(pytester, run):
    """A test can ask the embedded engine for a fault, and sees it as the service's error."""
    pytester.makepyfile(
        """
        import pytest
        from pytest_bbre import managed_session
        from pytest_bbre.errors import ServiceError

        def test_fault(bbre_engine):
            bbre_engine.faults.fail("create", times=1, code="SERVICE_ERROR")
            with pytest.raises(ServiceError), managed_session():
                pass
            with managed_session() as session:
                assert session.is_active
        """
    )
    run().assert_outcomes(passed=1)


def test_fixtures_are_documented(pytester, run):
    """Each fixture reads as documentation in `pytest --fixtures`, and is the only thing the plugin adds there."""
    told = run("--fixtures", "-v").stdout.str()
    section = told[told.index("fixtures defined from pytest_bbre") :]
    found = re.findall(r"^(\w+)(?: \[\w+ scope\])? -- .*\n((?:    .*\n|\n)+)", section, re.MULTILINE)
    documented = {name: " ".join(text.split()) for name, text in found}
    assert set(FIXTURES) <= set(documented)
    assert {name for name in documented if "bbre" in name} == set(FIXTURES)
    for name in FIXTURES:
        assert len(documented[name]) > 60, name
        assert documented[name].endswith("."), name
    for name, scope in {"bbre_module_session": "module", "bbre_engine": "session"}.items():
        assert f"{name} [{scope} scope]" in section


def test_options_and_marker_are_documented(run):
    """`pytest --help` tells each option, its ini twin and its variable; `pytest --markers` the marker."""
    told = run("--help").stdout.str()
    for name in ("mode", "sensibility", "timeout", "base-url", "engine"):
        assert f"--bbre-{name}=" in told
        assert f"bbre_{name.replace('-', '_')} (" in told
    assert "api-key" not in told
    run("--markers").stdout.fnmatch_lines(
        ["@pytest.mark.bbre(mode='passive' or 'adaptive', sensibility=*, timeout=seconds): options of the sessions*"]
    )


def test_plugin_loads_by_itself_and_can_be_turned_off(pytester, monkeypatch):
    """Installed is enough to have the fixtures; `-p no:bbre` takes everything of ours away."""
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    pytester.makepyfile("def test_one(bbre_settings): pass")
    others = [word for name in ("anyio", "asyncio", "hypothesispytest", "xdist") for word in ("-p", f"no:{name}")]
    on = pytester.runpytest_subprocess(*others, timeout=60)
    on.assert_outcomes(passed=1)
    on.stdout.fnmatch_lines(["bbre: *"])
    off = pytester.runpytest_subprocess(*others, "-p", "no:bbre", timeout=60)
    off.assert_outcomes(errors=1)
    off.stdout.fnmatch_lines(["*fixture 'bbre_settings' not found*"])
    off.stdout.no_fnmatch_line("bbre: *")


def test_a_client_of_one_s_own(pytester, run):
    """BBREClient() in a test talks to the engine of the run, with the run's options."""
    pytester.makepyfile(
        """
        from pytest_bbre import BBREClient

        def test_client(bbre_engine, bbre_settings):
            with BBREClient() as client:
                assert client.settings == bbre_settings
                info = client.create_session()
                assert (info.sensibility, info.timeout) == ("high", 77)
                assert [one.id for one in bbre_engine.sessions()] == [info.id]
                client.close_session(info)
            assert BBREClient(retries=1).settings == bbre_settings.override(retries=1)
        """
    )
    result = run("--bbre-sensibility=high", "--bbre-timeout=77")
    result.assert_outcomes(passed=1)
