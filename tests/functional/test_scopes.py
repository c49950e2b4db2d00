"""Promises on how long sessions are shared, and at which levels their options can be overridden."""

from __future__ import annotations


def test_module_session_is_shared_and_then_closed(pytester, run, service):
    """All tests of a module have the same bbre_module_session, classes included; the next module has another."""
    pytester.makepyfile(
        test_a="""
        ids = set()

        def test_one(bbre_module_session):
            ids.add(bbre_module_session.id)

        class TestClass:
            def test_two(self, bbre_module_session, bbre_session):
                ids.add(bbre_module_session.id)
                assert len(ids) == 1
                assert bbre_session.id not in ids
        """,
        test_b="""
        import test_a

        def test_first_is_closed(bbre_client):
            assert bbre_client.session_status(*test_a.ids).status == "closed"

        def test_another(bbre_module_session):
            assert bbre_module_session.id not in test_a.ids
        """,
    )
    result = run()
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*bbre: opened 3, closed 3, still active 0*"])


def test_module_session_keeps_cookies_between_tests(pytester, run):
    """Cookies stay in a shared session from one test to the next."""
    pytester.makepyfile(
        """
        import http.server
        import threading

        import pytest

        class Page(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Set-Cookie", "name=value")
                self.send_header("Content-Length", str(len(self.headers.get("Cookie", ""))))
                self.end_headers()
                self.wfile.write(self.headers.get("Cookie", "").encode())

        @pytest.fixture(scope="module")
        def url():
            with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
                threading.Thread(target=server.serve_forever, daemon=True).start()
                yield f"http://127.0.0.1:{server.server_port}/"
                server.shutdown()

        def test_gets_a_cookie(bbre_module_session, url):
            assert bbre_module_session.get(url).text == ""

        def test_has_it(bbre_module_session, url):
            assert bbre_module_session.get(url).text == "name=value"

        def test_nobody_else_has_it(bbre_session, url):
            assert bbre_session.get(url).text == ""
        """
    )
    run().assert_outcomes(passed=3)


def test_options_fixture_at_each_level(pytester, run, service):
    """bbre_session_options can be overridden in a conftest, a module and a class; the nearest is used."""
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture(scope="session")
        def bbre_session_options():
            return {"timeout": 101}
        """
    )
    pytester.makepyfile(
        test_conftest="""
        def test_all(bbre_session, bbre_module_session, bbre_session_factory):
            for one in bbre_session, bbre_module_session, bbre_session_factory():
                assert one.timeout == 101
        """,
        test_module="""
        import pytest

        @pytest.fixture(scope="module")
        def bbre_session_options():
            return {"timeout": 102}

        def test_module(bbre_session, bbre_module_session):
            assert bbre_session.timeout == bbre_module_session.timeout == 102

        class TestClass:
            @pytest.fixture
            def bbre_session_options(self, bbre_session_options):
                return {**bbre_session_options, "sensibility": "high"}

            def test_adds(self, bbre_session):
                assert (bbre_session.timeout, bbre_session.sensibility) == (102, "high")
        """,
    )
    run().assert_outcomes(passed=3)
    assert [one.timeout for one in service.sessions()].count(101) == 3
    assert sorted(one.sensibility for one in service.sessions() if one.timeout == 102) == ["high", "medium", "medium"]


def test_settings_fixture_at_each_level(pytester, run, service):
    """bbre_settings can be overridden in a conftest, a module and a class; sessions and clients follow it."""
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture(scope="session")
        def bbre_settings(bbre_settings):
            return bbre_settings.override(timeout=201, retries=0)
        """
    )
    pytester.makepyfile(
        test_conftest="""
        def test_all(bbre_session, bbre_module_session, bbre_session_factory, bbre_client):
            for one in bbre_session, bbre_module_session, bbre_session_factory():
                assert one.timeout == 201
            assert bbre_client.settings.retries == 0
        """,
        test_module="""
        import pytest

        @pytest.fixture(scope="module")
        def bbre_settings(bbre_settings):
            return bbre_settings.override(timeout=202)

        def test_module(bbre_session, bbre_module_session, bbre_client):
            assert bbre_session.timeout == bbre_module_session.timeout == 202
            assert bbre_client.settings.timeout == 202

        class TestClass:
            @pytest.fixture(scope="class")
            def bbre_settings(self, bbre_settings):
                return bbre_settings.override(sensibility="low")

            def test_class(self, bbre_session, bbre_client):
                assert (bbre_session.timeout, bbre_session.sensibility) == (202, "low")
                assert bbre_client.settings.sensibility == "low"
        """,
    )
    run().assert_outcomes(passed=3)


def test_settings_can_send_a_module_elsewhere(pytester, run, service):
    """A module whose bbre_settings name the embedded engine uses it, while the others use the service."""
    pytester.makepyfile(
        test_elsewhere="""
        import pytest

        @pytest.fixture(scope="module")
        def bbre_settings(bbre_settings, bbre_engine):
            return bbre_settings.override(base_url=bbre_engine.base_url, api_key=bbre_engine.api_key)

        def test_embedded(bbre_session, bbre_engine):
            assert [one.id for one in bbre_engine.sessions()] == [bbre_session.id]
        """,
        test_service="""
        def test_service(bbre_session):
            assert bbre_session.is_active
        """,
    )
    result = run()
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*bbre: opened 2, closed 2, still active 0*"])
    assert len(service.sessions("closed")) == 1


def test_wrong_options_name_themselves(pytester, run, service):
    """An option that no session has, or a bad value, is an error at the test that names it and what is allowed."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def bbre_session_options(request):
            return request.param

        @pytest.mark.parametrize("bbre_session_options", [{"colour": "red"}, {"timeout": -1}], indirect=True)
        def test_refused(bbre_session): pass
        """
    )
    result = run()
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["E *colour: no option of a session. Allowed is mode, sensibility, timeout."])
    result.stdout.fnmatch_lines(["E *timeout is -1; allowed is a number of seconds*"])
    assert service.sessions() == []
