"""The account's slots in pytest runs: shared by the workers of pytest-xdist, and waited for."""

from __future__ import annotations

import pytest

from pytest_bbre.engine import Engine


@pytest.fixture
def limited(monkeypatch):
    """A service of the test's own, with ten slots."""
    with Engine(max_sessions=10) as engine:
        for name, value in engine.environ().items():
            monkeypatch.setenv(name, value)
        yield engine


@pytest.mark.timeout(300)
def test_sixteen_workers_on_ten_slots(pytester, run, limited):
    """160 tests of one session each pass without one refusal, though the account has but ten sessions."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", range(160))
        def test_one(bbre_session, number):
            assert bbre_session.is_active
        """
    )
    result = run("-n16", plugins="xdist")
    result.assert_outcomes(passed=160)
    result.stdout.fnmatch_lines(["bbre: opened 160, closed 160, still active 0 in the account"])
    # An eleventh create would have been refused; none was even asked for.
    assert (limited.calls("create"), limited.totals()["opened"], limited.totals()["active"]) == (160, 160, 0)


def test_a_circle_is_an_error_at_once(pytester, run):
    """A test whose fixtures hold all slots and want one more is told who holds what, and where; nothing leaks."""
    pytester.makepyfile("def test_both(bbre_module_session, bbre_session): pass")
    result = run("--bbre-max-sessions=1", "--bbre-slot-timeout=inf")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E *All 1 slots are held by those who wait for another one*", "E *test_both (setup)*"])
    result.stdout.fnmatch_lines(["bbre: opened 1, closed 1, still active 0"])


def test_waiting_is_told(pytester, run):
    """After two seconds a line says who holds the slots, although pytest captures what tests write."""
    pytester.makepyfile(
        """
        from pytest_bbre import errors, open_session

        def test_one(bbre_settings):
            open_session(settings=bbre_settings)
            try:
                open_session(settings=bbre_settings, slot_timeout=2.5)
            except errors.SlotTimeoutError as error:
                assert "test_one" in error.holders[0]
        """
    )
    result = run("--bbre-max-sessions=1")
    result.assert_outcomes(passed=1)
    result.stderr.fnmatch_lines(["bbre: waiting for one of 1 slots (1 of 1 in the queue), held by *process *"])
