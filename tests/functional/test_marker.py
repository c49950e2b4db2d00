"""Promises of the marker `bbre`."""

from __future__ import annotations

from _chromium import needs_chromium


def test_nearest_wins(pytester, run, service):
    """A marker on the test goes over its class's, that over its module's; what the nearer leaves out is kept."""
    pytester.makepyfile(
        """
        import pytest

        pytestmark = pytest.mark.bbre(timeout=301, sensibility="low")

        def test_module(bbre_session, bbre_module_session):
            for one in bbre_session, bbre_module_session:
                assert (one.timeout, one.sensibility) == (301, "low")

        @pytest.mark.bbre(timeout=302)
        class TestClass:
            def test_class(self, bbre_session, bbre_session_factory):
                for one in bbre_session, bbre_session_factory():
                    assert (one.timeout, one.sensibility) == (302, "low")

            @pytest.mark.bbre(timeout=303)
            def test_test(self, bbre_session):
                assert (bbre_session.timeout, bbre_session.sensibility) == (303, "low")

            @pytest.mark.bbre(sensibility="medium")
            @pytest.mark.bbre(timeout=304, sensibility="high")
            def test_two_on_one(self, bbre_session):
                assert (bbre_session.timeout, bbre_session.sensibility) == (304, "high")

            @pytest.mark.parametrize("timeout", [302, pytest.param(305, marks=pytest.mark.bbre(timeout=305))])
            def test_parameter(self, bbre_session, timeout):
                assert bbre_session.timeout == timeout
        """
    )
    run("--strict-markers").assert_outcomes(passed=6)
    assert sorted(one.timeout for one in service.sessions()) == [301, 301, 302, 302, 302, 303, 304, 305]


def test_over_the_options_fixture_and_under_the_call(pytester, run, service):
    """The marker goes over bbre_session_options and bbre_settings; a factory's own argument goes over the marker."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="module")
        def bbre_settings(bbre_settings):
            return bbre_settings.override(timeout=400, sensibility="low")

        @pytest.fixture(scope="module")
        def bbre_session_options():
            return {"timeout": 401}

        @pytest.mark.bbre(timeout=402)
        def test_order(bbre_session, bbre_session_factory, bbre_module_session):
            assert bbre_module_session.timeout == 401
            assert bbre_session.timeout == 402
            assert bbre_session_factory(timeout=403).timeout == 403
            assert bbre_session_factory().sensibility == "low"
        """
    )
    run().assert_outcomes(passed=1)


@needs_chromium
def test_mode_reaches_the_service(pytester, run, service):
    """The marker's mode is what the service is asked for."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.bbre(mode="passive")
        def test_passive(bbre_session):
            assert bbre_session.status().mode == "passive"

        @pytest.mark.bbre(mode="adaptive")
        def test_adaptive(bbre_session): pass
        """
    )
    run().assert_outcomes(passed=2)
    assert [one.mode for one in service.sessions()] == ["passive", "adaptive"]


def test_wrong_markers_name_themselves(pytester, run, service):
    """A marker with a positional argument, an unknown option or a bad value: an error at the test, nothing opened."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.bbre("adaptive")
        def test_positional(bbre_session): pass

        @pytest.mark.bbre(modus="adaptive")
        def test_unknown(bbre_session): pass

        @pytest.mark.bbre(mode="fast")
        def test_value(bbre_session): pass

        @pytest.mark.bbre("adaptive")
        def test_without_a_session(): pass
        """
    )
    result = run()
    result.assert_outcomes(errors=3, passed=1)
    result.stdout.fnmatch_lines(["E *@pytest.mark.bbre takes its options by name, not ('adaptive',)*"])
    result.stdout.fnmatch_lines(["E *modus: no option of a session. Allowed is mode, sensibility, timeout."])
    result.stdout.fnmatch_lines(["E *mode is 'fast'; allowed is 'passive' or 'adaptive'*"])
    assert service.sessions() == []
