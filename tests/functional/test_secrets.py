"""One promise: the API key appears nowhere. Not in a repr, a text, a log, a report or its files, a command line, nor in
the environment of a process that we start.

The whole of it is here. Runs are made to fail in every way against a real engine and against a server that echoes the
key wherever an answer has room for it; then everything they left is searched.
"""

from __future__ import annotations

import copy
import dataclasses
import http.server
import json
import re
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from functools import partial

import pytest

from pytest_bbre import BBREClient, Settings
from pytest_bbre.engine import Engine
from pytest_bbre.errors import BBREError

KEY = "bbre-recognisable-key-4711-do-not-show"

LOUD = ["-vv", "--showlocals", "--tb=long", "-rA", "--log-cli-level=DEBUG", "--log-file=log.txt", "--log-level=DEBUG"]
LOUD += ["--junitxml=junit.xml", "-o", "junit_logging=all", "--durations=0", "-p", "no:faulthandler"]


class Hostile(http.server.BaseHTTPRequestHandler):
    """Answers with the key it was sent: the first part of the path says where."""

    protocol_version = "HTTP/1.1"
    seen: list[str]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        key, case, endpoint = self.headers["x-api-key"], *self.path.strip("/").split("/", 1)
        self.seen.append(case if key == KEY else f"{case}, but with another key")
        self.close_connection = True
        getattr(self, f"echo_{case}")(key, endpoint, body)

    def answer(self, body: object, status: int = 200, **headers: str) -> None:
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def echo_message(self, key: str, *_: object) -> None:
        details = {"hint": f"not {key}", key: key}
        self.answer({"success": False, "error": {"code": "INVALID_API_KEY", "message": key, "details": details}}, 403)

    def echo_code(self, key: str, *_: object) -> None:
        self.answer({"success": False, "error": {"code": key, "message": "no"}, key: [key]}, 400)

    def echo_bare(self, key: str, *_: object) -> None:
        self.answer({"success": False, "error": f"unknown key {key}", "message": key}, 418)

    def echo_page(self, key: str, *_: object) -> None:
        self.answer(f"<h1>{key}</h1>", 502, **{"Content-Type": f"text/html; for={key}"})

    def echo_nothing(self, key: str, *_: object) -> None:
        self.answer({"success": True, "session": {"key": key}})

    def echo_redirect(self, key: str, *_: object) -> None:
        self.answer("", 302, Location=f"http://127.0.0.1:1/{key}")

    def echo_later(self, key: str, *_: object) -> None:
        self.answer({"success": False, "error": {"code": "SERVICE_ERROR", "message": key}}, 500, Retry_After=key)

    def echo_reason(self, key: str, *_: object) -> None:
        self.wfile.write(f"HTTP/1.1 500 {key}\r\nContent-Length: 0\r\n\r\n".encode())

    def echo_status_line(self, key: str, *_: object) -> None:
        self.wfile.write(f"{key} {key}\r\n\r\n".encode())

    def echo_length(self, key: str, *_: object) -> None:
        self.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Length: {key}\r\nTransfer-Encoding: {key}\r\n\r\n{{}}".encode())

    def echo_header(self, key: str, *_: object) -> None:
        self.wfile.write(f"HTTP/1.1 200 OK\r\n{key}\r\n : {key}\r\nContent-Length: 0\r\n\r\n".encode())

    def echo_encoding(self, key: str, *_: object) -> None:
        self.answer(key, 200, Content_Encoding="gzip")

    def echo_chunks(self, key: str, *_: object) -> None:
        self.wfile.write(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{key}\r\n{key}".encode())

    def echo_half(self, key: str, *_: object) -> None:
        self.wfile.write(f'HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{{"{key}'.encode())

    def echo_lost(self, *_: object) -> None:
        self.connection.shutdown(socket.SHUT_RDWR)

    def echo_close(self, key: str, endpoint: str, body: bytes) -> None:
        if endpoint == "session/create":
            self.answer({"success": True, "session": {"id": "session_of_a_hostile_server"}})
        else:
            self.echo_message(key)

    def log_message(self, *_: object) -> None:
        pass


ECHOES = [name.removeprefix("echo_") for name in vars(Hostile) if name.startswith("echo_")]
LOGGED = "header"  # the one echo that urllib3 itself writes into its log


@pytest.fixture
def hostile() -> Iterator[http.server.ThreadingHTTPServer]:
    Hostile.seen = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hostile) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


TESTS = """
    import logging

    import pytest

    from pytest_bbre import BBREClient, Settings, managed_session, open_session, with_session

    HOSTILE = {hostile!r}
    ECHOES = {echoes!r}

    @pytest.fixture
    def at(bbre_settings):
        def at(address, **changes):
            return bbre_settings.override(base_url=address, **changes)
        return at

    @pytest.mark.parametrize("case", ECHOES)
    def test_hostile_create(at, case):
        with managed_session(settings=at(HOSTILE + case)) as session:
            session.get("http://127.0.0.1:1/")

    @pytest.mark.parametrize("case", ECHOES)
    def test_hostile_repeated(at, case):
        client = BBREClient(settings=at(HOSTILE + case))
        results = client.close_sessions(["one"])
        listed = list(client.list_sessions())

    @pytest.fixture
    def hostile_session(at):
        with managed_session(settings=at(HOSTILE + "close")) as session:
            yield session

    def test_close_fails(hostile_session):
        raise LookupError(hostile_session)

    def test_refused(at):
        settings = at("http://127.0.0.1:1")
        open_session(settings=settings)

    def test_tls(at):
        open_session(settings=at(HOSTILE.replace("http:", "https:")))

    def test_no_such_host(at):
        open_session(settings=at("http://no-such-host.invalid"))

    def test_wrong_key(at, bbre_engine):
        open_session(settings=at(bbre_engine.base_url))

    @with_session
    def test_locals(session, bbre_session, bbre_client, bbre_settings, bbre_engine, bbre_session_factory, request):
        client, transport = session._client, session._client._transport
        adapter, state = transport._adapter, [vars(client), vars(transport), vars(bbre_settings), vars(bbre_engine)]
        run = [vars(one) for one in request.config.stash._storage.values() if type(one).__name__ == "Run"]
        logging.getLogger("mine").debug("%r %s %r", bbre_settings, bbre_settings, state)
        print(client, bbre_settings, state, run)
        session.get("http://127.0.0.1:1/")

    def test_bad_option(bbre_session):
        bbre_session.get("http://127.0.0.1:1/", stream=True)

    def test_read_timeout(at):
        open_session(settings=at({slow!r}, read_timeout=0.2))

    @pytest.mark.timeout(1, method="signal")
    def test_time_limit(at):
        BBREClient(settings=at({slow!r})).create_session()

    def test_own_failure(bbre_session):
        assert bbre_session.status().mode == "none"
    """


def test_reports_logs_and_files(pytester, run, hostile):
    """Tests that fail in every way, reported as loudly as pytest can: the key is in no output and in no file."""
    echoes = [name for name in ECHOES if name != LOGGED]
    with Engine(api_keys=[KEY]) as engine, socket.create_server(("127.0.0.1", 0)) as slow:
        source = TESTS.format(
            hostile=f"http://127.0.0.1:{hostile.server_port}/",
            echoes=echoes,
            slow=f"http://127.0.0.1:{slow.getsockname()[1]}",
        )
        pytester.makepyfile(source)
        env = {
            "BBRE_API_KEY": KEY,
            "BBRE_BASE_URL": engine.base_url,
            "BBRE_RETRIES": "1",
            "BBRE_RETRY_MIN": "0",
            "BBRE_RETRY_MAX": "0.01",
        }
        result = run(*LOUD, "-p", "cacheprovider", plugins="timeout", env=env)
        assert len(engine.sessions("closed")) == 4
        assert engine.sessions("active") == []
    outcomes = result.parseoutcomes()
    # Every test fails. One has an error more, at its teardown.
    assert outcomes == {"failed": 2 * len(echoes) + 10, "errors": 1}
    assert sorted(set(Hostile.seen)) == sorted(echoes), "the server was sent the key, and echoed it"
    told = {"stdout": result.stdout.str(), "stderr": result.stderr.str()}
    for path in pytester.path.rglob("*"):
        if path.is_file():
            told[path.name] = path.read_bytes().decode("latin-1")
    assert {"junit.xml", "log.txt", "lastfailed"} <= set(told)
    assert "POST /session/create" in told["log.txt"], "urllib3 logged at DEBUG"
    assert "bbre_settings = Settings(api_key='***'" in told["stdout"], "locals were shown"
    for name, text in told.items():
        place = text.find(KEY)
        assert place < 0, f"{name}: ...{text[max(place - 1500, 0) : place + 100]}"


@pytest.mark.parametrize("name", ["BBRE_TIMEOUT", "BBRE_BASE_URL", "BBRE_API_KEY"])
def test_bad_settings(pytester, run, name):
    """A setting that a test itself spoils is refused with a traceback that has no key among its locals."""
    pytester.makepyfile(
        f"""
        import os

        from pytest_bbre import BBREClient

        def test_client(monkeypatch):
            monkeypatch.setenv({name!r}, os.environ.get({name!r}, "never") + chr(10) + "never")
            BBREClient()
        """
    )
    result = run(*LOUD, env={"BBRE_API_KEY": KEY})
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *SettingsError: *"])
    assert KEY not in result.stdout.str()


def test_log_of_urllib3(hostile, caplog):
    """Not even urllib3's own warnings, which quote what a hostile server sent, bring the key into a log."""
    with caplog.at_level("DEBUG"), pytest.raises(BBREError):
        BBREClient(KEY, f"http://127.0.0.1:{hostile.server_port}/{LOGGED}").create_session()
    assert "urllib3" in caplog.text
    assert KEY not in caplog.text


def test_texts():
    """No object of ours shows the key, by repr, str, format, dataclasses, copying or vars."""
    settings = Settings.resolve(environ={"BBRE_API_KEY": KEY})
    client = BBREClient(KEY, "http://127.0.0.1:1", retries=0)
    engine = Engine(api_keys=[KEY])
    things = [settings, settings.override(mode="adaptive"), copy.deepcopy(settings), dataclasses.asdict(settings)]
    things += [client, client.settings, vars(client), client._transport, vars(client._transport)]
    things += [engine, vars(engine), engine.faults, vars(engine.faults)]
    for thing in things:
        assert KEY not in f"{thing!r} {thing} {thing!s}", type(thing)
    assert settings.api_key == KEY, "the key itself is there"


@pytest.mark.parametrize("case", ECHOES)
def test_tracebacks(hostile, case):
    """A traceback with the locals of all frames and causes, as error trackers make it, has no key."""
    client = BBREClient(KEY, f"http://127.0.0.1:{hostile.server_port}/{case}", retries=0, read_timeout=5.0)
    # There creating works.
    call = partial(client.close_session, "one") if case == "close" else client.create_session
    with pytest.raises(BBREError) as caught:
        call()
    error = caught.value
    below = error.__traceback__.tb_next  # the first frame is this test, which holds the key
    shown = "".join(traceback.TracebackException(type(error), error, below, capture_locals=True).format())
    assert Hostile.seen[0] == case
    assert KEY not in shown + f"{error!r} {error} {error.args} {vars(error)}"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_processes(pytester, run):
    """The engine's process has no key on its command line or in its environment: not the account's, nor its own."""
    pytester.makepyfile(
        """
        import os
        from pathlib import Path

        def test_engine(bbre_engine):
            process = Path(f"/proc/{bbre_engine.pid}")
            seen = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            assert b"python" in seen
            parts = bbre_engine.parts()
            for secret in os.environ["BBRE_API_KEY"], parts["api_key"], parts["control_token"]:
                assert len(secret) > 20
                assert secret.encode() not in seen, "a secret is to be seen"
        """
    )
    result = run("--bbre-engine=embedded", env={"BBRE_API_KEY": KEY})
    result.assert_outcomes(passed=1)
    assert KEY not in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize("damage", ["{}\n", "two {}"])
def test_usage_errors(run, damage):
    """A key with stray spaces or line breaks is refused without being shown."""
    result = run(env={"BBRE_API_KEY": damage.format(KEY)})
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: bbre: api_key has *BBRE_API_KEY*"])
    assert KEY not in result.stdout.str() + result.stderr.str()


def test_what_an_engine_tells(pytester, run):
    """The engine's variables lead other clients to it, by a child's environment and by os.environ; a report with the
    locals that hold them, and the engine's parts, shows neither its key nor its control token.
    """
    pytester.makepyfile(
        """
        import json
        import os
        import subprocess
        import sys
        from pathlib import Path

        from pytest_bbre import BBREClient
        from pytest_bbre.engine import EngineControl

        COUNT = "from pytest_bbre import BBREClient; print(len(list(BBREClient().list_sessions('active'))))"

        def test_subprocess(bbre_engine, bbre_session):
            env = {**os.environ, **bbre_engine.environ()}
            command = [sys.executable, "-c", COUNT]
            child = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True, timeout=30)
            assert child.stdout.strip() == b"1"

        def test_environment(bbre_engine, bbre_session, monkeypatch):
            for name, value in bbre_engine.environ().items():
                monkeypatch.setenv(name, value)
            client = BBREClient(os.environ["BBRE_API_KEY"], os.environ["BBRE_BASE_URL"])
            assert [one.id for one in client.list_sessions("active")] == [bbre_session.id]

        def test_parts(bbre_engine, bbre_session):
            again = EngineControl.from_parts(json.loads(json.dumps(bbre_engine.parts())))
            assert [one.id for one in again.sessions()] == [bbre_session.id]

        def test_shown(bbre_engine):
            Path("secrets").write_text(json.dumps([bbre_engine.environ(), bbre_engine.parts()]))
            env = bbre_engine.environ(); parts = bbre_engine.parts()
            print(env, parts)
            assert 0

        def test_compared(bbre_engine):
            env = bbre_engine.environ(); parts = bbre_engine.parts()
            assert env == parts
        """
    )
    result = run(*LOUD)
    result.assert_outcomes(passed=3, failed=2)
    env, parts = json.loads((pytester.path / "secrets").read_text())
    files = [(pytester.path / name).read_text() for name in ("junit.xml", "log.txt")]
    told = "".join([result.stdout.str(), result.stderr.str(), *files])
    for shown in result.stdout.str(), files[0]:
        assert re.search(r"\nenv += \{", shown), "locals were shown"
        assert re.search(r"\nparts += \{", shown), "locals were shown"
    for secret in env["BBRE_API_KEY"], parts["api_key"], parts["control_token"]:
        assert len(secret) > 20
        assert secret not in told
