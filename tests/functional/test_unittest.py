"""Promises to unittest.TestCase and to plain test classes."""

from __future__ import annotations


def test_test_cases(pytester, run, service):
    """A TestCase gets a session by usefixtures or an autouse fixture, with the class's marker, and it is closed."""
    pytester.makepyfile(
        """
        import unittest

        import pytest

        @pytest.fixture
        def into_the_case(request, bbre_session, bbre_module_session):
            request.instance.session = bbre_session
            request.instance.shared = bbre_module_session

        @pytest.mark.bbre(timeout=77)
        @pytest.mark.usefixtures("into_the_case")
        class TestByName(unittest.TestCase):
            def test_one(self):
                self.assertEqual(self.session.timeout, 77)
                self.assertEqual(self.session.status().status, "active")

            def test_fails(self):
                self.assertIsNone(self.session)

            @pytest.mark.bbre(timeout=78)
            def test_nearest(self):
                self.assertEqual(self.session.timeout, 78)
                self.assertTrue(self.shared.is_active)

        class TestAutouse(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def _session(self, bbre_session):
                self.session = bbre_session

            def setUp(self):
                self.seen = self.session.id

            def tearDown(self):
                assert self.session.is_active

            def test_one(self):
                self.assertEqual(self.seen, self.session.id)

        @pytest.mark.usefixtures("bbre_session")
        class TestBare(unittest.TestCase):
            def test_one(self): pass
        """
    )
    result = run()
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["bbre: opened 6, closed 6, still active 0*"])
    assert {one.status for one in service.sessions()} == {"closed"}


def test_test_classes(pytester, run, service):
    """A plain test class gets sessions in its methods, its own fixtures and its xunit set-up."""
    pytester.makepyfile(
        """
        import pytest

        from pytest_bbre import open_session

        class TestClass:
            def setup_method(self):
                self.opened = open_session()

            def teardown_method(self):
                self.opened.close()

            @pytest.fixture
            def mine(self, bbre_session):
                return bbre_session

            def test_one(self, mine, bbre_session):
                assert mine is bbre_session
                assert self.opened.id != mine.id

            def test_two(self, mine):
                assert mine.is_active
                assert self.opened.is_active
        """
    )
    result = run()
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["bbre: opened 4, closed 4, still active 0*"])
