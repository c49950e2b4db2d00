"""Promises to async tests."""

from __future__ import annotations


def test_pytest_asyncio(pytester, run, service):
    """Under pytest-asyncio the fixtures arrive in async tests and async fixtures; requests don't block the loop."""
    pytester.makepyfile(
        """
        import asyncio

        import pytest
        import pytest_asyncio

        from pytest_bbre import managed_session, with_session

        pytestmark = pytest.mark.asyncio

        @pytest_asyncio.fixture
        async def page(bbre_session, bbre_settings):
            yield await bbre_session.aget(bbre_settings.base_url)

        async def test_fixtures(page, bbre_session, bbre_session_factory, bbre_module_session):
            assert page.status_code == 404
            others = bbre_session_factory(), bbre_module_session
            told = await asyncio.gather(*(one.astatus() for one in (bbre_session, *others)))
            assert [one.status for one in told] == ["active"] * 3

        async def test_managed(bbre_client):
            async with managed_session() as session:
                assert session.is_active
            assert bbre_client.session_status(session.id).status == "closed"

        @with_session
        async def test_decorated(session, bbre_client):
            assert (await session.astatus()).status == "active"
            assert [one.id for one in bbre_client.list_sessions("active")][0] == session.id

        async def test_fails(bbre_session):
            async with managed_session():
                raise LookupError("mine")
        """
    )
    result = run("-W", "ignore::pytest.PytestDeprecationWarning", plugins="asyncio")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["E *LookupError: mine", "bbre: opened 7, closed 7, still active 0*"])
    assert {one.status for one in service.sessions()} == {"closed"}


def test_anyio(pytester, run, service):
    """Under anyio's plugin the same works on asyncio and on trio."""
    pytester.makepyfile(
        """
        import pytest

        from pytest_bbre import managed_session

        @pytest.mark.anyio
        async def test_one(bbre_session, anyio_backend_name):
            assert (await bbre_session.astatus()).status == "active"
            async with managed_session() as session:
                assert (await session.astatus()).status == "active"
        """
    )
    result = run(plugins="anyio")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["bbre: opened 4, closed 4, still active 0*"])
