"""Promises of Engine: start, ready, stop, and what it tells of itself, in both ways of running it."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from pytest_bbre import _wire
from pytest_bbre.engine import Engine, EngineControl, Fault
from pytest_bbre.errors import EngineError, EngineExtraMissingError, EngineStartError, SettingsError

LIMIT = 20  # seconds until a test gives up


@pytest.fixture(scope="module", params=[False, True], ids=["child", "thread"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with Engine(in_process=request.param) as running:
        yield running


def post(engine: EngineControl, endpoint: str, body: Any = None, key: str | None = None) -> requests.Response:
    headers = {"x-api-key": str(engine.api_key) if key is None else str(key)}
    return requests.post(engine.base_url + _wire.PATHS[endpoint], json=body or {}, headers=headers, timeout=LIMIT)


def test_it_answers_as_soon_as_it_is_started(engine: Engine) -> None:
    """No waiting after start: the first request is answered, on IPv4 loopback and a free port."""
    assert engine.base_url.startswith("http://127.0.0.1:")
    assert post(engine, "list").status_code == 200


def test_it_tells_the_truth_about_sessions(engine: Engine) -> None:
    """sessions() and totals() follow create and close, over all accounts, by another way than the API."""
    before = engine.totals()
    other = engine.add_account()
    mine, theirs = (post(engine, "create", key=key).json()["session"]["id"] for key in (None, other))
    assert {one.id for one in engine.sessions()} >= {mine, theirs}
    post(engine, "close", {"sessionId": mine})
    assert mine not in {one.id for one in engine.sessions()}
    assert mine in {one.id for one in engine.sessions("closed")}
    assert mine in {one.id for one in engine.sessions(None)}
    post(engine, "close", {"sessionId": theirs}, other)
    after = engine.totals()
    assert {name: after[name] - before[name] for name in after} == {"opened": 2, "closed": 2, "expired": 0, "active": 0}


def test_accounts_are_added_and_suspended_while_it_runs(engine: Engine) -> None:
    """A new key works at once, and stops working as soon as its account is suspended."""
    key = engine.add_account()
    assert post(engine, "list", key=key).status_code == 200
    for state, code in {"suspended": "ACCOUNT_SUSPENDED", "inactive": "ACCOUNT_INACTIVE"}.items():
        assert engine.add_account(state, key) == key
        assert post(engine, "list", key=key).json()["error"]["code"] == code
    with pytest.raises(SettingsError, match="'gone'; allowed are active, suspended, inactive"):
        engine.add_account("gone")


def test_an_event_is_awaited_and_not_slept_for(engine: Engine) -> None:
    """wait_for returns when a request has arrived, and names what it waited for when none does."""
    before = engine.calls("status")
    threading.Timer(0.05, post, (engine, "status")).start()
    engine.wait_for("status", before + 1, LIMIT)
    assert engine.calls("status") == engine.calls()["status"] == before + 1
    with pytest.raises(TimeoutError, match=f"{before + 1} requests of status had arrived, not {before + 2}"):
        engine.wait_for("status", before + 2, 0.05)
    with pytest.raises(SettingsError, match="'open'; allowed are create"):
        engine.wait_for("open")


def test_faults_go_through_the_control_endpoint(engine: Engine) -> None:
    """Faults asked for are met; cleared ones are not; impossible ones are refused where they are asked for."""
    engine.faults.fail("list", times=None)
    assert post(engine, "list").status_code == 500
    engine.faults.clear()
    assert post(engine, "list").status_code == 200
    with pytest.raises(SettingsError, match="'OOPS'"):
        engine.faults.fail("list", code="OOPS")


def test_another_process_controls_it_by_its_parts(engine: Engine) -> None:
    """Parts are texts that can be sent, as JSON too; a control made from them sees the same engine."""
    parts = pickle.loads(pickle.dumps(engine.parts()))
    assert json.loads(json.dumps(parts)) == engine.parts()
    control = EngineControl.from_parts(parts)
    assert (control.instance, control.base_url, control.api_key) == (engine.instance, engine.base_url, engine.api_key)
    assert control.sessions() == engine.sessions()
    assert EngineControl(control.base_url, control.api_key, parts["control_token"]).instance == engine.instance


def test_its_environment_is_all_a_client_needs(engine: Engine) -> None:
    """Address, key and the word that the account is nobody else's."""
    environment = engine.environ()
    assert environment["BBRE_BASE_URL"] == engine.base_url
    assert environment["BBRE_API_KEY"] == str(engine.api_key)
    told = "import os; print(os.environ['BBRE_API_KEY'])"
    child = subprocess.run([sys.executable, "-c", told], env=environment, capture_output=True, text=True, check=True)
    assert child.stdout.strip() == str(engine.api_key)
    assert str(engine.api_key) not in repr(environment)
    assert environment["BBRE_ACCOUNT_SCOPE"] == "exclusive"


def test_no_secret_is_shown(engine: Engine) -> None:
    """Neither key nor token is in a repr, and a wrong token's error shows none."""
    secrets = [str(engine.api_key), str(engine.parts()["control_token"])]
    refused = EngineControl(engine.base_url, secrets[0], secrets[1] + "x")
    silent = EngineControl("http://127.0.0.1:9", *secrets)
    shown = repr([engine, refused, engine.faults, engine.api_key, vars(engine), engine._runner])
    for control in (refused, silent):
        with pytest.raises(EngineError) as failed:
            control.sessions()
        assert failed.tb.tb_next is not None  # without this test's own frame
        told = traceback.TracebackException(failed.type, failed.value, failed.tb.tb_next, capture_locals=True)
        shown += "".join(told.format())
    assert [secret for secret in secrets if secret in shown] == []
    assert "x-engine-token" in shown


def test_sessions_expire_unasked() -> None:
    """A session's time ends it by a timer: nobody has to ask for the session."""
    with Engine(in_process=True) as engine:
        post(engine, "create", {"timeout": 0.05})
        post(engine, "create", {"timeout": 60})
        service_store = engine._runner._service.store  # type: ignore[union-attr]
        gone = threading.Event()
        for _ in range(LIMIT * 20):
            if service_store.totals["expired"]:
                break
            gone.wait(0.05)
        assert service_store.totals == {"opened": 2, "closed": 0, "expired": 1}


@pytest.mark.parametrize("in_process", [False, True])
def test_start_and_stop_can_be_called_twice(in_process: bool) -> None:
    """A second start keeps the engine, a second stop does nothing, a start after a stop is another engine."""
    engine = Engine(in_process=in_process).start()
    first = engine.instance
    assert engine.start().instance == first
    engine.stop()
    engine.stop()
    with pytest.raises(EngineError, match="not running"):
        _ = engine.base_url
    with engine:
        assert engine.instance != first
        assert engine.sessions() == []


def test_before_its_start_an_engine_says_how_to_start() -> None:
    """Everything that needs it running names the remedy; its repr works."""
    engine = Engine()
    for use in (lambda: engine.base_url, lambda: engine.api_key, engine.environ, engine.sessions, lambda: engine.pid,
                engine.parts, engine.faults.clear, lambda: engine.instance):  # fmt: skip
        with pytest.raises(EngineError, match="with Engine"):
            use()
    assert repr(engine) == "<Engine, not running>"
    engine.stop()


def test_stop_does_not_wait_for_calls_that_hang() -> None:
    """A call that will be hanging for an hour is cut when the engine stops."""
    ended = threading.Event()

    def call() -> None:
        with pytest.raises(requests.ConnectionError):
            post(engine, "close")
        ended.set()

    with Engine() as engine:
        engine.faults.hang("close", 3600)
        threading.Thread(target=call, daemon=True).start()
        engine.wait_for("close", 1, LIMIT)
    assert ended.wait(LIMIT)


def test_a_control_without_its_engine_says_so() -> None:
    """The error names the address."""
    with Engine(in_process=True) as engine:
        control = EngineControl.from_parts(engine.parts())
    with pytest.raises(EngineError, match=rf"{control.base_url} does not answer"):
        control.sessions()


@pytest.mark.parametrize("in_process", [False, True])
def test_a_port_that_is_taken_is_an_error_that_names_it(in_process: bool) -> None:
    """The start fails at once."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EngineStartError, match=f"could not listen on 127.0.0.1:{port}"):
            Engine(port=port, in_process=in_process).start()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"host": "0.0.0.0"}, "host is '0.0.0.0'"),
        ({"host": "example.org"}, "127.0.0.1, localhost, ::1"),
        ({"port": -1}, "port is -1"),
        ({"port": "80"}, "port is '80'"),
        ({"max_sessions": 0}, "max_sessions is 0"),
        ({"max_sessions": True}, "max_sessions is True"),
        ({"latency": {"open": 1}}, "latency names 'open'"),
        ({"latency": 0.1}, "latency is 0.1"),
        ({"faults": ["close"]}, "A fault is 'close'"),
        ({"modes": ["real"]}, "this engine has: passive, adaptive"),
        ({"modes": []}, "modes are"),
        ({"api_keys": []}, "api_keys is empty"),
        ({"api_keys": "key"}, "api_keys is one text"),
        ({"api_keys": ["secret key"]}, "without spaces"),
        ({"api_keys": {"secret": "gone"}}, "state is 'gone'"),
    ],
)
def test_an_option_that_can_not_be_used_is_refused_when_it_is_given(options: dict[str, Any], named: str) -> None:
    """Before anything starts, with its name, its value and what is allowed; never with a key."""
    with pytest.raises(SettingsError, match=named.replace("(", r"\(")) as refused:
        Engine(**options)
    assert "secret" not in str(refused.value)


def test_keys_can_be_given_with_the_states_of_their_accounts() -> None:
    """Its own key is that of the first active account."""
    states = {"first": "suspended", "second": "active", "third": "inactive"}
    with Engine(api_keys=states, in_process=True) as engine:
        assert engine.api_key == "second"
        codes = [post(engine, "list", key=key).status_code for key in (*states, "fourth")]
        assert codes == [403, 200, 403, 403]
    with Engine(api_keys=["one", "two"], in_process=True) as engine:
        assert [post(engine, "list", key=key).status_code for key in ("one", "two")] == [200, 200]


def test_faults_and_limits_can_be_given_at_the_start() -> None:
    """In each of their forms, to a child process too."""
    faults = ["list:fail:code=RATE_LIMIT_EXCEEDED", Fault("list", "fail"), {"endpoint": "list", "kind": "garbage"}]
    with Engine(max_sessions=1, faults=faults, latency={"list": 0.01}) as engine:
        assert [post(engine, "list").status_code for _ in range(4)] == [429, 500, 200, 200]
        assert [post(engine, "create").status_code for _ in range(2)] == [200, 429]


@pytest.mark.parametrize("host", ["localhost", "::1"])
def test_other_names_of_this_machine_are_allowed(host: str) -> None:
    """An IPv6 address is written as URLs have it."""
    with Engine(host=host, in_process=True) as engine:
        assert post(engine, "list").status_code == 200


@pytest.mark.parametrize("in_process", [False, True])
def test_without_aiohttp_the_error_names_the_extra(in_process: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is started."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineExtraMissingError, match=r"pip install 'pytest-bbre\[engine\]'"):
        Engine(in_process=in_process).start()


def test_only_the_process_that_started_it_ends_it(engine: Engine) -> None:
    """A forked child's stop, and its end, leave the engine alone."""
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    code = (
        "import os; from pytest_bbre.engine import Engine\n"
        "with Engine() as engine:\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        engine.stop(); os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
        "    print(engine.sessions())\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=LIMIT)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_importing_the_engine_is_light() -> None:
    """Neither aiohttp nor requests, asyncio or http.client are loaded until an engine runs here."""
    heavy = ("aiohttp", "requests", "asyncio", "http.client", "urllib3", "ssl")
    code = f"import sys; from pytest_bbre.engine import Engine; print([one for one in {heavy} if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
