"""Promises under pytest-xdist: each worker its own sessions, one engine, one account."""

from __future__ import annotations

import json

import pytest

TELL = """
    import json
    import os
    import contextlib
    import pathlib

    import psutil
    import pytest

    def children():
        for one in psutil.Process(os.getppid()).children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it has ended just now
                yield one.pid, " ".join(one.cmdline())

    @pytest.fixture
    def tell(bbre_engine, bbre_session, bbre_module_session, worker_id):
        def tell(name):
            told = {
                "worker": worker_id,
                "engine": bbre_engine.instance,
                "engines": [pid for pid, command in children() if "_boot.py" in command],
                "session": bbre_session.id,
                "module": bbre_module_session.id,
                "settings": bbre_session.timeout,
            }
            pathlib.Path(f"told-{name}").write_text(json.dumps(told))

        return tell
    """


@pytest.mark.parametrize("workers", [2, 4])
def test_one_engine_for_all_workers(pytester, run, workers):
    """Every worker has sessions of its own, all of them in one engine, which the controller asks for the account."""
    pytester.makeconftest(TELL)
    tests = "def test_one(tell): tell('{0}1')\n\ndef test_two(tell): tell('{0}2')\n\ndef test_three(): pass"
    pytester.makepyfile(**{f"test_{number}": tests.format(number) for number in range(4)})
    result = run(f"-n{workers}", "--dist=loadscope", "--bbre-timeout=99", plugins="xdist")
    result.assert_outcomes(passed=12)
    told = [json.loads(path.read_text()) for path in pytester.path.glob("told-*")]
    assert len(told) == 8
    assert len({one["worker"] for one in told}) == workers
    assert len({one["engine"] for one in told}) == 1
    assert len({tuple(one["engines"]) for one in told}) == 1
    assert all(len(one["engines"]) == 1 for one in told)
    assert len({one["session"] for one in told}) == 8
    assert len({one["module"] for one in told}) == 4
    assert {one["settings"] for one in told} == {99}
    result.stdout.fnmatch_lines(["bbre: opened 12, closed 12, still active 0"])


def test_the_service_is_shared(pytester, run, service):
    """With a key the workers open their sessions at the service, and the account is one."""
    pytester.makepyfile("import pytest\n@pytest.mark.parametrize('n', range(6))\ndef test_one(bbre_session, n): pass")
    result = run("-n2", plugins="xdist")
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["bbre: opened 6, closed 6, still active 0*"])
    assert [one.status for one in service.sessions()] == ["closed"] * 6


def test_a_run_without_sessions_starts_no_engine(pytester, run):
    """With xdist, too, a run that never uses BBRE starts no engine and loads no client, in controller and workers."""
    pytester.makeconftest(
        """
        import os
        import pathlib
        import sys

        import psutil

        def pytest_sessionfinish(session):
            children = psutil.Process().children(recursive=True)
            assert not [one for one in children if "_boot.py" in " ".join(one.cmdline())]
            loaded = [name for name in ("requests", "aiohttp", "pytest_bbre._client") if name in sys.modules]
            pathlib.Path(f"ended-{os.getpid()}").write_text(" ".join(loaded))
        """
    )
    pytester.makepyfile("def test_one(): pass\ndef test_two(): pass")
    result = run("-n2", plugins="xdist")
    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("*bbre: opened*")
    ended = list(pytester.path.glob("ended-*"))
    assert len(ended) == 3
    assert [path.read_text() for path in ended] == ["", "", ""]


def test_failures_in_workers(pytester, run):
    """Failing tests in workers leave nothing open, and what a worker's tests forgot is closed by that worker."""
    pytester.makepyfile(
        """
        from pytest_bbre import open_session

        def test_fails(bbre_session): assert bbre_session is None
        def test_forgets(): open_session()
        """
    )
    result = run("-n2", plugins="xdist")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["bbre: opened 2, closed 2, still active 0"])


def test_a_close_that_fails_in_a_worker(pytester, run, service):
    """A session that a worker could not close is named by the controller, as without xdist."""
    pytester.makepyfile("def test_one(bbre_session): pass")
    service.faults.fail("close", times=100, code="SERVICE_ERROR")
    result = run("-n1", plugins="xdist", env={"BBRE_RETRIES": "0"})
    service.faults.clear()
    result.assert_outcomes(passed=1, errors=1)
    (left,) = service.active()
    result.stdout.fnmatch_lines(
        ["bbre: opened 1, closed 0, still active 1*", f"bbre: not closed: {left.id}*bbre close {left.id}"]
    )
    service.close_all()


def test_a_worker_that_dies(pytester, run):
    """A worker that ends without a goodbye leaves its session to others: none is left at the end of the run."""
    pytester.makepyfile(
        """
        import os
        import pytest

        @pytest.mark.parametrize("number", range(3))
        def test_one(bbre_session, number):
            if number == 1:
                os._exit(3)
        """
    )
    result = run("-n1", plugins="xdist")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["bbre: opened *, still active 0"])


def test_the_engine_can_not_start(pytester, run):
    """If the controller can't start the engine, each worker's test says why and what to do."""
    pytester.makeconftest("import sys; sys.modules['aiohttp'] = None")
    pytester.makepyfile("def test_one(bbre_session): pass")
    result = run("-n1", plugins="xdist")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E *EngineStartError: *pip install 'pytest-bbre[[]engine]'*"])


def test_wrong_values_are_told_once(pytester, run):
    """A bad option is the controller's usage error; no worker starts."""
    result = run("-n2", "--bbre-mode=fast", plugins="xdist")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.str().count("ERROR: bbre: --bbre-mode") == 1
    result.stdout.no_fnmatch_line("*gw0*")
