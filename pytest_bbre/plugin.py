"""Knows pytest: options, marker, fixtures, the header line, the account at the end. Thin: others do the work.
Must not know how sessions, engines or signals work. Loaded with every pytest run, so it loads nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from ._run import Run

if TYPE_CHECKING:
    from . import BBREClient, BBRESession, Settings
    from .engine import EngineControl

_RUN = pytest.StashKey[Run]()
_OPTIONS = ("mode", "sensibility", "timeout")  # of one session: what the marker and bbre_session_options may hold
_DECLARED = {
    "engine": (
        "WHERE",
        "where sessions run: auto (the service if BBRE_API_KEY is set, else embedded), embedded, service",
    ),
    "mode": ("MODE", "mode of the sessions: passive or adaptive (default: passive)"),
    "sensibility": ("LEVEL", "sensibility of the sessions: low, medium or high (default: medium)"),
    "timeout": ("SECONDS", "seconds until the service ends a session by itself (default: 300)"),
    "base_url": ("URL", "address of the service, or embedded"),
    "max_sessions": ("NUMBER", "slots of the account, shared by all processes of this machine (default: 10)"),
    "slot_timeout": ("SECONDS", "seconds to wait for a slot; 0 fails at once, inf waits for ever (default: 120)"),
    "guard": ("YES|NO", "whether a guardian process closes what killed processes leave behind (default: yes)"),
}
# With its type, a number in [tool.pytest] is taken as one. Before 8.4 pytest knew neither.
_TYPES = {"timeout": "float", "max_sessions": "int", "slot_timeout": "float"}
_INI_TYPES: Mapping[str, Any] = {"guard": "bool", **(_TYPES if pytest.version_tuple >= (8, 4) else {})}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Each option has an ini twin and an environment variable: --bbre-mode, bbre_mode, BBRE_MODE."""
    group = parser.getgroup("bbre", "browser-backed sessions (pytest-bbre)")
    for name, (metavar, text) in _DECLARED.items():
        group.addoption(f"--bbre-{name.replace('_', '-')}", dest=f"bbre_{name}", metavar=metavar, help=text)
        parser.addini(f"bbre_{name}", text, type=_INI_TYPES.get(name, "string"), default="")


def pytest_configure(config: pytest.Config) -> None:
    """Declares the marker, and refuses bad options before anything runs."""
    config.addinivalue_line(
        "markers",
        "bbre(mode='passive' or 'adaptive', sensibility='low', 'medium' or 'high', timeout=seconds): "
        "options of the sessions that fixtures open.",
    )
    run = Run(config)
    config.stash[_RUN] = run
    run.choices.check()


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last moment of a run: the engine is stopped."""
    run = config.stash.get(_RUN, None)
    if run is not None:
        run.stop()


def pytest_report_header(config: pytest.Config) -> str:
    """One line on where sessions go."""
    return config.stash[_RUN].choices.header()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """SIGTERM and SIGHUP stop the run in good order from here on."""
    session.config.stash[_RUN].answer_signals(session)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """After all fixtures: closes what is left, and tells the controller of pytest-xdist. A run that leaves a session
    behind is no success.
    """
    run = session.config.stash[_RUN]
    run.gather()
    run.close_rest()
    if run.failed and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if session.exitstatus == pytest.ExitCode.OK and run.leaves_sessions():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if run.signum is not None:
        session.exitstatus = 128 + run.signum
    else:
        run.give_back_signals()  # nothing of ours is open any more: a late signal ends the process, as it should
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["bbre"] = run.account()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """pytest-xdist: a new worker."""
    node.config.stash[_RUN].welcome(node)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The account, in one line; silent in a run that opened nothing."""
    run = config.stash[_RUN]
    counts = run.counts()
    if not counts["opened"] and not counts["lost"] and not run.leaves_sessions():
        return
    fine = counts["opened"] == counts["closed"] and not counts["lost"]
    told = f"bbre: opened {counts['opened']}, closed {counts['closed']}"
    if counts["lost"]:
        told += f", answers to create lost {counts['lost']}"
    try:
        active = run.still_active()
    except Exception as error:
        told, fine = f"{told}, still active unknown ({error})", False
    else:
        if active is not None:
            number, ours_alone = active
            told += f", still active {number}" + ("" if ours_alone else " in the account")
            fine = fine and (number == 0 or not ours_alone)
    terminalreporter.write_line(told, green=fine, red=not fine)
    for told in run.failed:
        terminalreporter.write_line(f"bbre: not closed: {told}", red=True)


@pytest.fixture(scope="session")
def bbre_engine(request: pytest.FixtureRequest) -> EngineControl:
    """The embedded engine: the BBRE service on this machine, without an account. Started on first use.

    Its `base_url` and `api_key` serve any client; `sessions()` tells what is active; `faults` makes it fail on
    purpose. With pytest-xdist all workers share one.
    """
    return request.config.stash[_RUN].engine()


@pytest.fixture(scope="session")
def bbre_settings(request: pytest.FixtureRequest) -> Settings:
    """The settings that sessions and clients are made with: address, key, mode, time limits.

    Override it in a conftest, module or class to use others: return `bbre_settings.override(mode="adaptive")`.
    """
    return request.config.stash[_RUN].settings()


@pytest.fixture(scope="session")
def bbre_session_options() -> Mapping[str, Any]:
    """Options for every session that fixtures open: mode, sensibility, timeout. Empty by default.

    Override it in a conftest, module or class: return `{"mode": "adaptive", "timeout": 60}`. The marker `bbre` on a
    test, class or module goes over it.
    """
    return {}


@pytest.fixture
def bbre_client(bbre_settings: Settings) -> BBREClient:
    """A `BBREClient` with the run's settings, for calls that no session has. What you create with it, you close."""
    from ._tracker import tracker

    return tracker.client(bbre_settings)


@pytest.fixture
def bbre_session(
    request: pytest.FixtureRequest, bbre_settings: Settings, bbre_session_options: Mapping[str, Any]
) -> Iterator[BBRESession]:
    """A session for one test, closed when the test is over, however it went.

    `bbre_session.get(url)` and its siblings take what requests takes and return a `requests.Response`. Cookies stay
    in the session. Its options come from the marker `bbre`, then from `bbre_session_options`, then from the settings.
    """
    yield from _one_session(request, bbre_settings, bbre_session_options)


@pytest.fixture(scope="module")
def bbre_module_session(
    request: pytest.FixtureRequest, bbre_settings: Settings, bbre_session_options: Mapping[str, Any]
) -> Iterator[BBRESession]:
    """A session that all tests of a module share, cookies included; closed after the last of them.

    Of the markers those on the module count (`pytestmark`), since it is opened for all of its tests.
    """
    yield from _one_session(request, bbre_settings, bbre_session_options)


@pytest.fixture
def bbre_session_factory(
    request: pytest.FixtureRequest, bbre_settings: Settings, bbre_session_options: Mapping[str, Any]
) -> Iterator[Callable[..., BBRESession]]:
    """A function that opens one more session at each call; all are closed, at the same time, when the test is over.

    It takes mode, sensibility and timeout, which go over the marker and `bbre_session_options`.
    """
    from ._managed import managed_session
    from ._tracker import tracker

    opened: list[BBRESession] = []

    def open_one(**options: Any) -> BBRESession:
        """Opens a session that this test's end closes."""
        chosen = {**_options(request.node, bbre_session_options), **options}
        opened.append(managed_session(settings=bbre_settings, **chosen).__enter__())
        return opened[-1]

    yield open_one
    errors = [result.error for result in tracker.close(opened) if result.error is not None]
    if errors:
        raise errors[0] from None  # the others stay tracked, and are told with the account if they fail again


def _one_session(
    request: pytest.FixtureRequest, settings: Settings, options: Mapping[str, Any]
) -> Iterator[BBRESession]:
    from ._managed import managed_session

    with managed_session(settings=settings, **_options(request.node, options)) as session:
        yield session


def _options(node: pytest.Item | pytest.Collector, options: Mapping[str, Any]) -> dict[str, Any]:
    """The session's options for a test or module: those of the fixture, and over them the markers, nearest last."""
    from .errors import SettingsError

    chosen = dict(options)
    for mark in reversed(list(node.iter_markers("bbre"))):
        if mark.args:
            raise SettingsError(f"@pytest.mark.bbre takes its options by name, not {mark.args!r}.")
        chosen |= mark.kwargs
    unknown = sorted(set(chosen) - set(_OPTIONS))
    if unknown:
        raise SettingsError(f"{', '.join(unknown)}: no option of a session. Allowed is {', '.join(_OPTIONS)}.")
    return chosen
