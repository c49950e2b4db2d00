"""Promises of the command line, the environment and the ini file."""

from __future__ import annotations

import re

import pytest

TELL = """
    import pathlib
    import pytest

    def test_tell(bbre_settings):
        told = f"{bbre_settings.mode} {bbre_settings.sensibility} {bbre_settings.timeout:g} {bbre_settings.base_url}"
        pathlib.Path("told").write_text(told)
    """
SERVICE = {"BBRE_API_KEY": "a-key-nobody-has"}  # nothing is sent in these runs, so nobody needs to listen

INI = {"mode": "adaptive", "sensibility": "low", "timeout": "51", "base_url": "http://ini.example"}
ENVIRON = {"mode": "passive", "sensibility": "medium", "timeout": "52", "base_url": "http://environ.example"}
COMMAND = {"mode": "adaptive", "sensibility": "high", "timeout": "53", "base_url": "http://command.example"}


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("", "passive medium 300 https://bbre-solver-api.mydisct.com"),
        ("ini", "adaptive low 51 http://ini.example"),
        ("ini environ", "passive medium 52 http://environ.example"),
        ("ini environ command", "adaptive high 53 http://command.example"),
        ("ini command", "adaptive high 53 http://command.example"),
    ],
)
def test_precedence(pytester, run, layers, expected):
    """Each option: command line over environment over ini over default; the header shows what was chosen."""
    pytester.makepyfile(TELL)
    if "ini" in layers:
        pytester.makeini("[pytest]\n" + "".join(f"bbre_{name} = {value}\n" for name, value in INI.items()))
    env = {f"BBRE_{name.upper()}": value for name, value in ENVIRON.items()} if "environ" in layers else {}
    command = [f"--bbre-{name.replace('_', '-')}={value}" for name, value in COMMAND.items()]
    result = run(*(command if "command" in layers else []), env={**SERVICE, **env})
    result.assert_outcomes(passed=1)
    assert (pytester.path / "told").read_text() == expected
    mode, _, _, address = expected.split()
    result.stdout.fnmatch_lines([f"bbre: service at {address}, mode {mode}, 10 slots"])


def test_marker_over_everything(pytester, run, service):
    """The marker goes over command line, environment and ini; what it leaves out comes from them."""
    pytester.makeini("[pytest]\nbbre_timeout = 51\nbbre_sensibility = low\n")
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.bbre(timeout=54)
        def test_marked(bbre_session, bbre_settings):
            assert (bbre_session.timeout, bbre_session.sensibility) == (54, "high")
            assert bbre_settings.timeout == 53
        """
    )
    env = {"BBRE_TIMEOUT": "52", "BBRE_SENSIBILITY": "medium"}
    run("--bbre-timeout=53", "--bbre-sensibility=high", env=env).assert_outcomes(passed=1)
    assert [(one.timeout, one.sensibility) for one in service.sessions()] == [(54, "high")]


@pytest.mark.parametrize(
    ("command", "environ", "ini", "expected"),
    [
        (None, None, None, "service"),
        (None, None, "embedded", "embedded"),
        (None, "service", "embedded", "service"),
        ("embedded", "service", "service", "embedded"),
        ("auto", "embedded", "embedded", "service"),
    ],
)
def test_precedence_of_the_engine(pytester, run, command, environ, ini, expected):
    """--bbre-engine goes over BBRE_ENGINE over bbre_engine; the default, auto, is the service where a key is set."""
    if ini:
        pytester.makeini(f"[pytest]\nbbre_engine = {ini}\n")
    env = {**SERVICE, **({"BBRE_ENGINE": environ} if environ else {})}
    result = run("--collect-only", *([f"--bbre-engine={command}"] if command else []), env=env)
    result.stdout.fnmatch_lines([f"bbre: {expected}*"])


def test_toml_takes_numbers(pytester, run):
    """The ini twins are typed: a number in pyproject.toml is one, and a text that is none is refused."""
    if pytest.version_tuple < (9, 0):
        pytest.skip("[tool.pytest] came with pytest 9")
    pytester.makepyfile(TELL)
    pytester.makepyprojecttoml('[tool.pytest]\nbbre_timeout = 61\nbbre_mode = "adaptive"\n')
    run(env=SERVICE).assert_outcomes(passed=1)
    assert (pytester.path / "told").read_text().startswith("adaptive medium 61 ")


MODES, SECONDS = "'passive' or 'adaptive'", "a number of seconds"


@pytest.mark.parametrize(
    ("layer", "name", "value", "allowed"),
    [
        ("command", "mode", "fast", MODES),
        ("command", "sensibility", "extreme", "'low' or 'medium' or 'high'"),
        ("command", "timeout", "soon", SECONDS),
        ("command", "timeout", "-5", f"{SECONDS}, more than 0"),
        ("command", "base_url", "example.org", "an address such as"),
        ("command", "engine", "local", "auto, embedded, service"),
        ("environ", "mode", "fast", MODES),
        ("environ", "timeout", "0", f"{SECONDS}, more than 0"),
        ("environ", "engine", "local", "auto, embedded, service"),
        ("ini", "mode", "fast", MODES),
        ("ini", "timeout", "soon", SECONDS),
        ("ini", "timeout", "0", f"{SECONDS}, more than 0"),
        ("ini", "engine", "local", "auto, embedded, service"),
    ],
)
def test_wrong_values(pytester, run, layer, name, value, allowed):
    """A bad value is a usage error that names where it stands, the value and what is allowed; nothing is started."""
    pytester.makepyfile("open('collected', 'w').close()")
    option, variable, twin = f"--bbre-{name.replace('_', '-')}", f"BBRE_{name.upper()}", f"bbre_{name}"
    if layer == "ini":
        pytester.makeini(f"[pytest]\n{twin} = {value}\n")
    arguments = [f"{option}={value}"] if layer == "command" else []
    result = run(*arguments, env={variable: value} if layer == "environ" else {})
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    place = {"command": option, "environ": variable, "ini": twin}[layer]
    error = result.stderr.str()
    assert "Traceback" not in error
    assert place in error
    assert re.search(rf"\bis '?{value}'?(\.0)?;|: '{value}'", error)
    assert allowed in error
    assert not (pytester.path / "collected").exists()


def test_other_settings_are_refused_at_once_too(pytester, run):
    """A bad variable that has no option is told before anything runs, not by the first test."""
    pytester.makepyfile("open('collected', 'w').close()")
    result = run(env={"BBRE_RETRIES": "often"})
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: bbre: *retries is 'often'; allowed is a whole number*BBRE_RETRIES*"])
    assert not (pytester.path / "collected").exists()


def test_service_without_a_key(pytester, run):
    """--bbre-engine=service without a key fails at once, and says what to do."""
    pytester.makepyfile("open('collected', 'w').close()")
    result = run("--bbre-engine=service")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: bbre: --bbre-engine is 'service', and there is no key. Set BBRE_API_KEY, *"])
    assert not (pytester.path / "collected").exists()


def test_service_at_no_address(run):
    """--bbre-engine=service together with the address "embedded" is a contradiction, and refused as one."""
    result = run("--bbre-engine=service", "--bbre-base-url=embedded", env=SERVICE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: bbre: --bbre-engine is 'service', and the address is 'embedded'.*"])


def test_the_key_has_no_option(run):
    """A key on a command line would be seen by everybody on the machine: there is no such option."""
    result = run("--bbre-api-key=anything")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unrecognized arguments: --bbre-api-key=anything*"])


def test_auto_with_a_key_uses_the_service(pytester, run, service):
    """With a key and no word about the engine, sessions are opened at the service."""
    pytester.makepyfile("def test_one(bbre_session): pass")
    run().assert_outcomes(passed=1)
    assert [one.status for one in service.sessions()] == ["closed"]


@pytest.mark.parametrize("how", [{"BBRE_ENGINE": "embedded"}, {"BBRE_BASE_URL": "embedded"}])
def test_embedded_in_spite_of_a_key(pytester, run, service, how):
    """Asked for the embedded engine, a run leaves the account alone, key or not."""
    pytester.makepyfile(
        """
        def test_one(bbre_session, bbre_engine):
            assert [one.id for one in bbre_engine.sessions()] == [bbre_session.id]
        """
    )
    result = run(env=how)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["bbre: embedded engine, *", "*bbre: opened 1, closed 1, still active 0*"])
    assert service.sessions() == []


def test_engine_extra_missing(pytester, run):
    """Without aiohttp the embedded engine can't run: the test that wants it says what to install."""
    pytester.makeconftest("import sys; sys.modules['aiohttp'] = None")
    pytester.makepyfile("def test_one(bbre_session): pass\ndef test_two(): pass")
    result = run()
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["E *pip install 'pytest-bbre[[]engine]'*"])
