"""Promises of the line at the beginning of a run, and of the one at its end."""

from __future__ import annotations

import sys

import pytest

LIMIT = 60  # seconds for one script: far more than any needs


@pytest.mark.parametrize("mode", ["passive", "adaptive"])
def test_header_for_the_embedded_engine(run, mode):
    """Without a key the header names the embedded engine, the mode, and the slots."""
    lines = run(f"--bbre-mode={mode}").stdout.lines
    assert f"bbre: embedded engine, started on first use, mode {mode}, 10 slots" in lines


def test_header_tells_of_an_address_that_is_not_used(run):
    """An address without a key does not make a service: sessions go to the embedded engine, and the header says why."""
    told = "bbre: embedded engine, started on first use (BBRE_BASE_URL is not used: there is no BBRE_API_KEY), *"
    run(env={"BBRE_BASE_URL": "http://127.0.0.1:1"}).stdout.fnmatch_lines([told])


def test_header_for_the_service(run, service):
    """The header names the service's address, the mode and the slots, and a guard that is off; never the key."""
    result = run("--bbre-guard=yes")
    result.stdout.fnmatch_lines([f"bbre: service at {service.base_url}, mode passive, 10 slots"])
    result = run("--bbre-guard=no", "--bbre-max-sessions=4")
    result.stdout.fnmatch_lines([f"bbre: service at {service.base_url}, mode passive, 4 slots, no guardian"])
    assert str(service.api_key) not in result.stdout.str()


def test_silent_without_sessions(pytester, run):
    """A run that opened nothing has no account."""
    pytester.makepyfile("def test_one(): pass")
    result = run()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*bbre: opened*")


def test_account_of_an_embedded_run(pytester, run):
    """The run closes with its account, asked from the embedded engine."""
    pytester.makepyfile(
        """
        def test_one(bbre_session, bbre_module_session): pass
        def test_two(bbre_session_factory): bbre_session_factory()
        """
    )
    result = run()
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["bbre: opened 3, closed 3, still active 0", "*2 passed*"])


def test_account_of_a_failing_run(pytester, run, service):
    """The account is told and true as well where tests fail, and stop at the first failure."""
    pytester.makepyfile(
        """
        def test_one(bbre_session, bbre_module_session): assert bbre_session is None
        def test_two(bbre_session): pass
        """
    )
    result = run("-x")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["bbre: opened 2, closed 2, still active 0*"])
    assert [one.status for one in service.sessions()] == ["closed", "closed"]


def test_what_tests_leave_open_is_closed(pytester, run, service):
    """A session that a test opened by hand and forgot is closed at the run's end, and counted."""
    pytester.makepyfile(
        """
        from pytest_bbre import open_session

        def test_forgets(): open_session()
        def test_still_there(bbre_client): assert len(list(bbre_client.list_sessions("active"))) == 1
        """
    )
    result = run()
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["bbre: opened 1, closed 1, still active 0*"])
    assert service.active() == []


def test_account_is_asked_and_not_counted(pytester, run, service):
    """The number of active sessions is the service's: a session that nobody tracked is seen in it."""
    pytester.makepyfile(
        """
        def test_untracked(bbre_session, bbre_client): bbre_client.create_session()
        """
    )
    result = run()
    result.stdout.fnmatch_lines(["bbre: opened 1, closed 1, still active 1*"])
    assert len(service.active()) == 1
    service.close_all()


def test_account_of_a_service_that_went_away(pytester, run):
    """Where nobody answers at the end, the account says that it does not know; the run ends all the same."""
    pytester.makepyfile(
        """
        def test_engine_dies(bbre_engine, bbre_session, request):
            request.config.engine = bbre_engine
        """
    )
    pytester.makeconftest(
        """
        import pytest

        @pytest.hookimpl(tryfirst=True)
        def pytest_terminal_summary(config):
            config.engine.stop()
        """
    )
    result = run(env={"BBRE_RETRIES": "0"})
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["bbre: opened 1, closed 1, still active unknown (*"])


@pytest.mark.parametrize(("argument", "colour"), [("--color=yes", "\x1b[32m"), ("--color=no", "")])
def test_account_is_coloured_on_terminals(pytester, run, service, argument, colour):
    """Green if everything is closed, and no escape codes where nobody wants colour."""
    pytester.makepyfile("def test_one(bbre_session): pass")
    told = run(argument).stdout.str()
    assert f"{colour}bbre: opened 1, closed 1, still active 0" in told


@pytest.mark.parametrize("tracked", [0, 1])
def test_a_session_that_nobody_closes_fails_the_run(pytester, run, tracked):
    """A test that creates a session by bbre_client and leaves it on the run's own engine: the account is red and names
    it, and the exit code is that of failed tests; whether or not other sessions were opened.
    """
    pytester.makepyfile(
        f"""
        def test_leaves(bbre_client, bbre_session_factory):
            for _ in range({tracked}):
                bbre_session_factory()
            bbre_client.create_session()
        """
    )
    result = run("--color=yes")
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert f"\x1b[31mbbre: opened {tracked}, closed {tracked}, still active 1" in result.stdout.str()


# Runs inside of what has sessions of its own.


def test_an_inner_run_spares_the_outer_run_s_sessions(pytester, run):
    """A test that runs pytest in its own process, as tests of plugins do, still has its session afterwards; the inner
    run closes its own, and counts no others.
    """
    pytester.makepyfile(
        """
        from pytest_bbre import open_session

        def test_outer(pytester, bbre_session, bbre_engine):
            before = [bbre_session.id, open_session().id]
            pytester.makepyfile("from pytest_bbre import open_session\\ndef test_inner(bbre_session): open_session()")
            inner = pytester.runpytest_inprocess("-p", "bbre")
            inner.assert_outcomes(passed=1)
            inner.stdout.fnmatch_lines(["bbre: opened 2, closed 2, still active 0"])
            assert sorted(one.id for one in bbre_engine.sessions()) == sorted(before)
            assert bbre_session.is_active
        """
    )
    result = run(plugins="pytester")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["bbre: opened 4, closed 4, still active 0"])


def test_a_run_inside_a_script_spares_the_script_s_session(pytester, service):
    """A script that holds a session and calls pytest.main still has it afterwards; the run has closed its own."""
    pytester.makepyfile(
        test_inner="from pytest_bbre import open_session\ndef test_inner(bbre_session): open_session()",
        script="""
        import pytest

        from pytest_bbre import BBREClient, open_session

        s = open_session()
        code = pytest.main(["-p", "bbre", "-p", "no:cacheprovider", "test_inner.py"])
        active = [one.id for one in BBREClient().list_sessions("active")]
        print("exit code", int(code), "only mine is active", active == [s.id], s.is_active)
        s.close()
        """,
    )
    result = pytester.run(sys.executable, "script.py", timeout=LIMIT)
    result.stdout.fnmatch_lines(["bbre: opened 2, closed 2, *", "exit code 0 only mine is active True True"])
    assert [one.status for one in service.sessions()] == ["closed"] * 3
