"""Promises of the fixtures where something goes wrong: what is reported, and that nothing stays open."""

from __future__ import annotations

import pytest

ACCOUNT = "bbre: opened {0}, closed {0}, still active 0*"
KEPT = {"BBRE_RETRIES": "1"}  # a close that fails twice fails


@pytest.mark.parametrize("where", ["setup", "call", "teardown"])
def test_a_failure_closes_the_session(pytester, run, service, where):
    """A test that fails in setup, call or teardown has its sessions closed, and the next test is not disturbed."""
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.fixture
        def mine(bbre_session, bbre_session_factory):
            bbre_session_factory()
            assert {where!r} != "setup"
            yield
            assert {where!r} != "teardown"

        def test_fails(mine):
            assert {where!r} != "call"

        def test_next(bbre_session, bbre_client):
            assert [one.id for one in bbre_client.list_sessions("active")] == [bbre_session.id]
        """
    )
    result = run()
    result.assert_outcomes(
        failed=int(where == "call"), errors=int(where != "call"), passed=2 if where == "teardown" else 1
    )
    result.stdout.fnmatch_lines([ACCOUNT.format(3)])
    assert [one.status for one in service.sessions()] == ["closed"] * 3


@pytest.mark.parametrize("fixture", ["bbre_session", "bbre_module_session"])
def test_a_session_that_can_not_be_opened(pytester, run, service, fixture):
    """A create that fails is an error in that test's setup, with code and remedy; the next test gets its session."""
    service.faults.fail("create", times=1, code="SERVICE_ERROR")
    pytester.makepyfile(f"def test_one({fixture}): pass\ndef test_two(bbre_session): pass")
    result = run()
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["*ERROR at setup of test_one*", "E *SERVICE_ERROR (500): *", ACCOUNT.format(1)])


def test_a_lost_answer_to_create(pytester, run, service):
    """A create whose answer is lost is not sent again; the account shows the session that nobody holds."""
    service.faults.lose_answer("create", times=1)
    pytester.makepyfile("def test_one(bbre_session): pass")
    result = run()
    left = service.active()
    service.close_all()
    result.assert_outcomes(errors=1)
    assert len(left) == 1
    result.stdout.fnmatch_lines(
        ["E *LostAnswerError: *", "bbre: opened 0, closed 0, answers to create lost 1, still active 1 in the account"]
    )


@pytest.mark.parametrize(
    ("fixture", "last"), [("bbre_session", "one"), ("bbre_session_factory", "one"), ("bbre_module_session", "two")]
)
def test_a_close_that_fails_is_tried_again(pytester, run, service, fixture, last):
    """An engine fault in close is an error at the teardown; the session is closed at the end, and the account true."""
    pytester.makepyfile(
        f"""
        def test_one({fixture}):
            callable({fixture}) and {fixture}()

        def test_two(): pass
        """
    )
    service.faults.fail("close", times=2, code="SERVICE_ERROR")
    result = run(env=KEPT)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [f"*ERROR at teardown of test_{last}*", "E *SERVICE_ERROR (500)*Session: session_*", ACCOUNT.format(1)]
    )
    result.stdout.no_fnmatch_line("*not closed*")
    assert [one.status for one in service.sessions()] == ["closed"]


def test_a_close_that_never_works(pytester, run, service):
    """What can't be closed is named at the end, with the command that closes it, and the run is no success."""
    pytester.makepyfile("def test_one(bbre_session): pass")
    service.faults.fail("close", times=100, code="SERVICE_ERROR")
    result = run(env=KEPT)
    service.faults.clear()
    result.assert_outcomes(passed=1, errors=1)
    (left,) = service.active()
    result.stdout.fnmatch_lines(
        [
            "bbre: opened 1, closed 0, still active 1*",
            f"bbre: not closed: {left.id}: *SERVICE_ERROR*bbre close {left.id}",
        ]
    )
    service.close_all()


def test_what_a_test_forgot_and_can_not_be_closed(pytester, run, service):
    """A forgotten session that can't be closed at the end fails a run whose tests all passed."""
    pytester.makepyfile("from pytest_bbre import open_session\ndef test_one(): open_session()")
    service.faults.fail("close", times=100, code="SERVICE_ERROR")
    result = run(env=KEPT)
    service.faults.clear()
    result.stdout.fnmatch_lines(["bbre: opened 1, closed 0, still active 1*", "bbre: not closed: session_*"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    service.close_all()


def test_one_of_a_factory_can_not_be_closed(pytester, run, service):
    """Where closing one of a factory's sessions fails, the others are closed all the same."""
    pytester.makepyfile(
        """
        def test_one(bbre_session_factory, bbre_client):
            for _ in range(3):
                bbre_session_factory()

        def test_two(bbre_client):
            assert len(list(bbre_client.list_sessions("active"))) == 1
        """
    )
    service.faults.fail("close", times=1, code="SERVICE_ERROR")
    result = run(env={"BBRE_RETRIES": "0"})
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines([ACCOUNT.format(3)])


def test_a_test_and_a_close_fail(pytester, run, service):
    """The test's own failure is reported as such; the failed close is a second report, not in its place."""
    pytester.makepyfile("def test_one(bbre_session): assert 'mine' == 'other'")
    service.faults.fail("close", times=2, code="SERVICE_ERROR")
    result = run(env=KEPT)
    result.assert_outcomes(failed=1, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_one*", "*_ test_one _*", "E *assert 'mine' == 'other'"])
    result.stdout.fnmatch_lines([ACCOUNT.format(1)])


def test_the_eleventh_session(pytester, run, service):
    """Without a wait it fails with a line for each of the ten that are held; all ten are closed."""
    pytester.makepyfile(
        """
        def test_eleven(bbre_session_factory):
            for _ in range(11):
                bbre_session_factory()
        """
    )
    result = run("--bbre-slot-timeout=0")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E *No slot came free at once*", *["E * - session_*test_eleven (call)"] * 10, ACCOUNT.format(10)]
    )


def test_a_request_fails(pytester, run, service):
    """A target that nobody serves fails that test with the target's error; the session is closed."""
    pytester.makepyfile("def test_one(bbre_session): bbre_session.get('http://127.0.0.1:1/')")
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *TARGET_UNREACHABLE (502)*", ACCOUNT.format(1)])


def test_the_service_is_not_there(pytester, run):
    """A service that refuses connections is an error at each test that wants it, and the run goes on."""
    pytester.makepyfile("def test_one(bbre_session): pass\ndef test_two(): pass")
    result = run(env={"BBRE_API_KEY": "some-key", "BBRE_BASE_URL": "http://127.0.0.1:1"})
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["E *ConnectionFailedError: No connection to http://127.0.0.1:1*"])


def test_a_wrong_key(pytester, run, service):
    """A key that the service does not know is an error that names the variable to check."""
    pytester.makepyfile("def test_one(bbre_session): pass")
    result = run(env={"BBRE_API_KEY": "some-key"})
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E *INVALID_API_KEY (403)*Check BBRE_API_KEY*"])


def test_a_collection_error(pytester, run, service):
    """A run whose collection fails ends as it always did."""
    pytester.makepyfile("def test_one(bbre_session): pass\nimport nothing_of_that_name")
    result = run()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.no_fnmatch_line("*bbre: opened*")


def test_a_time_limit_in_a_teardown(pytester, run, service):
    """A close that pytest-timeout cuts short is finished at the end of the run."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.timeout(1, method="signal")
        def test_one(bbre_session): pass
        """
    )
    service.faults.delay("close", 2, times=1)
    result = run(plugins="timeout")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([ACCOUNT.format(1)])
    assert [one.status for one in service.sessions()] == ["closed"]
