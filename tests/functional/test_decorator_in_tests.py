"""Promises of with_session and managed_session inside tests."""

from __future__ import annotations

FRESH = """
    import pytest

    from pytest_bbre import managed_session, open_session, with_session

    """


def test_decorated_tests(pytester, run):
    """A decorated test gets its session beside fixtures, parameters and marks, and pytest looks for no such fixture."""
    pytester.makepyfile(
        FRESH
        + """
    @pytest.fixture
    def session():
        raise RuntimeError("a fixture of that name is not what the decorator gives")

    seen = set()

    @pytest.fixture
    def other(bbre_engine):
        return bbre_engine

    @with_session
    def test_plain(session, other):
        assert [one.id for one in other.sessions()] == [session.id]

    @pytest.mark.parametrize("number", [1, 2])
    @with_session(timeout=88)
    def test_parametrize_outside(number, session, tmp_path, other):
        assert session.timeout == 88
        assert session.id not in seen
        seen.add(session.id)
        assert tmp_path.exists()
        assert len(other.sessions()) == 1

    @with_session
    @pytest.mark.parametrize("number", [1, 2])
    def test_parametrize_inside(session, number, other):
        assert session.is_active
        assert session.id not in seen

    @with_session(arg="mine")
    def test_named(other, mine, *, bbre_session):
        assert {one.id for one in other.sessions()} == {mine.id, bbre_session.id}

    class TestClass:
        @with_session
        def test_method(self, session, other):
            assert len(other.sessions()) == 1

        @staticmethod
        @with_session
        def test_static(session, other):
            assert len(other.sessions()) == 1

        @with_session
        @pytest.mark.usefixtures("bbre_session")
        def test_marked(self, session, other):
            assert len(other.sessions()) == 2

    @with_session
    def test_fails(session):
        assert session is None
    """
    )
    result = run()
    result.assert_outcomes(passed=9, failed=1)
    result.stdout.fnmatch_lines(["bbre: opened 12, closed 12, still active 0"])


def test_decorated_fixture(pytester, run):
    """A decorated fixture, generator or not, gets a session that lives as long as the fixture."""
    pytester.makepyfile(
        FRESH
        + """
    @pytest.fixture
    @with_session
    def page(session, bbre_engine):
        yield session
        assert session.is_active

    def test_one(page, bbre_engine):
        assert [one.id for one in bbre_engine.sessions()] == [page.id]

    def test_two(bbre_engine):
        assert bbre_engine.sessions() == []
    """
    )
    result = run()
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["bbre: opened 1, closed 1, still active 0"])


def test_helpers_use_the_engine_of_the_run(pytester, run):
    """managed_session, open_session and with_session in helper code go where the run's go, with its options."""
    pytester.makepyfile(
        helper=FRESH
        + """
    @with_session
    def decorated(session):
        return session.id, session.timeout

    def by_hand():
        with managed_session() as session:
            return session.id, session.timeout
    """,
        test_helper="""
    import helper
    from pytest_bbre import BBRESession, open_session, tracked_sessions

    def test_helpers(bbre_engine):
        for call in helper.decorated, helper.by_hand:
            known, timeout = call()
            assert timeout == 66
            assert known in [one.id for one in bbre_engine.sessions("closed")]
        session = open_session()
        assert [one.id for one in bbre_engine.sessions()] == [session.id]
        assert tracked_sessions() == [session]
    """,
    )
    result = run("--bbre-timeout=66")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["bbre: opened 3, closed 3, still active 0"])


def test_hypothesis(pytester, run):
    """With @given a fixture's session is shared by the examples, of which hypothesis warns as for every fixture; the
    decorator gives each example its own, without a word.
    """
    pytester.makepyfile(
        FRESH
        + """
    from hypothesis import given, settings, strategies

    @given(strategies.integers())
    def test_fixture(bbre_session, number): pass

    ids = []

    @settings(max_examples=3, database=None, deadline=None)
    @given(number=strategies.integers())
    @with_session
    def test_decorated(session, number):
        ids.append(session.id)

    def test_each_its_own():
        assert len(ids) == len(set(ids)) == 3
    """
    )
    result = run("-p", "no:cacheprovider", plugins="hypothesispytest")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["E *FailedHealthCheck: *function-scoped fixture*"])
    result.stdout.fnmatch_lines(["bbre: opened 4, closed 4, still active 0"])
