"""guard/door.py, guard/post.py and guard/route.py: closing and listing with the standard library alone."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from _scripted import CUT, KEY, LIMIT, Scripted, fails, held, raw, reply

from pytest_bbre import _wire, errors
from pytest_bbre._secret import Secret
from pytest_bbre.engine import Engine
from pytest_bbre.guard import route
from pytest_bbre.guard.door import CLOSED, ENDED, FAILED, GONE, MOST_PAGES, REFUSED, Closed, Door, Service
from pytest_bbre.guard.post import MAX_ANSWER


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of these tests names neither proxies nor certificates."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.delenv(name)


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    """A service that answers whatever the test says."""
    with Scripted() as server:
        yield server


def to(base_url: str, **options: Any) -> Door:
    """A door that waits for as long as tests may."""
    return Door(Service(base_url, Secret(KEY), **{"connect_timeout": LIMIT, "read_timeout": LIMIT, **options}))


def free_port() -> int:
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


# Closing.

OUTCOMES = {
    "success": (reply(_wire.success(data={"session": {"id": "s", "status": "closed"}})), CLOSED),
    "closed before": (fails("SESSION_CLOSED"), ENDED),
    "not found": (fails("SESSION_NOT_FOUND"), ENDED),
    "expired": (fails("SESSION_EXPIRED"), ENDED),
    "service error": (fails("SERVICE_ERROR"), FAILED),
    "rate limit": (fails("RATE_LIMIT_EXCEEDED"), FAILED),
    "key missing": (fails("API_KEY_REQUIRED"), REFUSED),
    "key unknown": (fails("INVALID_API_KEY"), REFUSED),
    "account suspended": (fails("ACCOUNT_SUSPENDED"), REFUSED),
    "account inactive": (fails("ACCOUNT_INACTIVE"), REFUSED),
    "cut": (CUT, FAILED),
    "no HTTP": (b"what?\r\n\r\n", FAILED),
    "a web page": (raw(b"<html>", 404, {"Content-Type": "text/html"}), FAILED),
    "no object": (reply([]), FAILED),
    "half": (raw(b'{"success": tr', headers={"Content-Length": "100"}), FAILED),
    "too large": (raw(b" " * (MAX_ANSWER + 1)), FAILED),
    "nested deeply": (raw(b"[" * 100_000), FAILED),
    "redirect": (raw(b"{}", 302, {"Location": "http://127.0.0.1:1/session/close"}), FAILED),
    "too many headers": (raw(b"{}", headers={f"x-{number}": "1" for number in range(200)}), FAILED),
}


@pytest.mark.parametrize("how", OUTCOMES)
def test_only_what_the_service_says_means_that_no_slot_is_held(scripted: Scripted, how: str):
    """Closed, closed before, expired and not found end a lease; all else is worth another try, and nothing raises."""
    answer, outcome = OUTCOMES[how]
    scripted.answer("close", answer)
    closed = to(scripted.base_url).close("s")
    assert closed.outcome == outcome
    assert closed.holds_no_slot is (outcome in (CLOSED, ENDED))
    assert bool(closed.reason) is (outcome in (FAILED, REFUSED))
    assert [one.json for one in scripted.calls("close")] == [{"sessionId": "s"}]


def test_an_engine_is_known_by_its_instance():
    """On its own address another engine, or nobody, has none of the sessions of the one that is gone."""
    port, key = free_port(), "key-of-both-engines"
    with Engine(in_process=True, port=port, api_keys=[key]) as first:
        base_url, instance = first.base_url, first.instance
        door = Door(Service(base_url, key))
        assert door.close("s", instance).outcome == ENDED
    assert door.close("s", instance).outcome == GONE
    assert door.close("s").outcome == FAILED  # it is not known to have been an engine's
    with Engine(in_process=True, port=port, api_keys=[key]):
        assert door.close("s", instance).outcome == GONE
    with Engine(in_process=True, port=port, api_keys=["another-key"]):
        assert door.close("s", instance).outcome == GONE


def test_elsewhere_a_refused_connection_proves_nothing():
    """An engine that is not on this machine may be back in a moment."""
    base_url = f"http://127.0.0.1:{free_port()}"
    door = to(base_url)
    door._post.is_loopback = False
    assert door.close("s", "instance").outcome == FAILED


# Limits.


@pytest.mark.parametrize("how", ["silence", "in drops", "headers in drops"])
def test_an_answer_has_to_be_whole_in_time(scripted: Scripted, how: str):
    """Neither silence nor an answer that comes a byte at a time holds a reaper up for longer than its time limit."""
    release = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_drip, args=(server, how, release), daemon=True)
        thread.start()
        door = to(f"http://127.0.0.1:{server.getsockname()[1]}", read_timeout=0.3)
        closed = door.close("s", within=0.5)
        release.set()
        thread.join(LIMIT)
    assert closed == Closed(FAILED, f"{door.service.base_url} did not answer in time.")


def _drip(server: socket.socket, how: str, release: threading.Event) -> None:
    connection, _ = server.accept()
    with connection:
        heads = {"silence": b"", "in drops": b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"}
        connection.sendall(heads.get(how, b"HTTP/1.1 200 OK\r\nX-Long: "))
        try:
            while not release.wait(0.01):
                connection.sendall(b"" if how == "silence" else b" ")
        except OSError:
            return


# Listing.


def page(ids: list[str], total: int | None, **headers: str) -> bytes:
    """A page of active sessions."""
    data: dict[str, Any] = {"sessions": [{"id": one, "status": "active"} for one in ids]}
    return reply(_wire.success(data={**data, "total": total} if total is not None else data), headers=headers)


@pytest.mark.parametrize("total", [5, None])
def test_all_pages_are_read(scripted: Scripted, total: int | None):
    """A listing goes on until all are there, or until nothing new comes."""
    scripted.answer("list", page(["e", "d"], total), page(["d", "c"], total), page(["b", "a"], total), page([], total))
    assert [one.id for one in to(scripted.base_url).active().sessions] == ["e", "d", "c", "b", "a"]
    assert {one.json["status"] for one in scripted.calls("list")} == {"active"}
    assert [one.json["offset"] for one in scripted.calls("list")][:3] == [0, 2, 3]


def test_what_is_not_active_is_left_out(scripted: Scripted):
    """A service that does not know the filter lists ended sessions, too."""
    records = [{"id": "a", "status": "closed"}, {"id": "b", "status": "active"}, {"id": "c"}]
    scripted.answer("list", reply(_wire.success(data={"sessions": records, "total": 3})))
    assert [one.id for one in to(scripted.base_url).active().sessions] == ["b", "c"]


def test_a_list_without_end_is_an_error(scripted: Scripted):
    """A service that always has one more page does not keep a reaper for ever."""
    numbers = iter(range(10**6))
    scripted.always("list", lambda arrived: page([f"s{next(numbers)}"], None))
    with pytest.raises(errors.InvalidAnswerError, match="no end"):
        to(scripted.base_url).active()
    assert len(scripted.calls("list")) == MOST_PAGES


def test_the_services_clock_is_measured(scripted: Scripted):
    """The offset that a listing tells is right within the uncertainty that it tells, whatever the clocks say."""
    for ahead in (-7200.0, 0.0, 7200.5):
        scripted.answer("list", page([], 0, Date=formatdate(time.time() + ahead, usegmt=True)))
        listing = to(scripted.base_url).active()
        assert abs(listing.offset - ahead) <= listing.uncertainty < LIMIT


@pytest.mark.parametrize("date", [{}, {"Date": "yesterday"}, {"Date": "Thu, 99 Foo 2026 25:00:00 GMT"}])
def test_a_service_that_tells_no_time_is_uncertain(scripted: Scripted, date: dict[str, str]):
    """Without a readable Date header nothing is known of its clock."""
    scripted.answer("list", page([], 0, **date))
    assert to(scripted.base_url).active().uncertainty == float("inf")


def test_an_engine_tells_its_time_and_its_instance():
    """The embedded engine's listing can be used for lost creates."""
    with Engine(in_process=True) as engine:
        listing = Door(Service(engine.base_url, engine.api_key)).active()
        assert listing.engine == engine.instance
        assert abs(listing.offset) <= listing.uncertainty < LIMIT


# The key.


def _echo(arrived: Any) -> bytes:
    """A service that tells what it was sent."""
    return reply(_wire.failure("VALIDATION_ERROR", f"No such thing: {arrived.headers}"))


HOW: dict[str, Any] = {
    "refused": None,
    "tls": None,
    "cut": CUT,
    "echo as failure": _echo,
    "echo as code": reply({"success": False, "error": {"code": KEY, "message": KEY}}),
    "echo as success": reply({"success": True, "headers": {"x-api-key": KEY}}),
    "echo as text": raw(KEY.encode()),
    "echo as status line": f"{KEY}\r\n\r\n".encode(),
    "echo as headers": raw(b"<", headers={KEY: KEY, "Date": KEY, "Content-Type": KEY}),
    "echo as chunk": raw(f"{KEY}\r\n".encode(), headers={"Transfer-Encoding": "chunked"}),
    "echo as sessions": reply(_wire.success(data={"sessions": [{"x-api-key": KEY}]})),
    "echo as redirect": raw(b"{}", 302, {"Location": f"http://127.0.0.1:1/{KEY}"}),
}


def fail(call: Callable[[], Any]) -> BaseException:
    """The error of a call."""
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("the call did not fail")


@pytest.mark.parametrize("how", HOW)
def test_the_key_is_in_no_error(scripted: Scripted, how: str):
    """Not in the reason of a failed close, nor in a listing's error, its attributes, or its traceback with locals."""
    addresses = {"refused": f"http://127.0.0.1:{free_port()}", "tls": scripted.base_url.replace("http:", "https:")}
    if how not in addresses:
        scripted.always("list", HOW[how])
        scripted.always("close", HOW[how])
    door = to(addresses.get(how, scripted.base_url))
    error = fail(door.active)
    assert isinstance(error, errors.BBREError)
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    words = [str(error), repr(error), repr(vars(error)), "".join(told.format())]
    assert error.__context__ is None
    assert all(KEY not in one for one in [*words, str(door.close("s"))])


@pytest.mark.parametrize("key", [f"{KEY}\nx", f"{KEY}\N{SNOWMAN}"])
def test_a_key_that_no_header_can_hold_is_not_quoted(scripted: Scripted, key: str):
    """http.client would show it."""
    closed = Door(Service(scripted.base_url, key)).close("s")
    assert closed.outcome == FAILED
    assert KEY not in closed.reason
    assert scripted.arrived == []


def test_the_key_is_in_no_repr():
    """Neither a service nor a door shows more than the address."""
    service = Service("http://127.0.0.1:1", KEY)
    assert KEY not in f"{service!r} {service} {Door(service)!r} {Door(service)._post!r}"


def test_a_failure_is_told_in_one_line(scripted: Scripted):
    """What a service says reaches terminals and the ledger: no control characters, and not for ever."""
    scripted.answer("close", fails("SERVICE_ERROR", message="a\x1b[2J\r\n" + "b" * 10_000))
    reason = to(scripted.base_url).close("s").reason
    assert reason.isprintable()
    assert len(reason) < 1000


# Ways.


def test_a_proxy_from_the_environment_is_used(scripted: Scripted, monkeypatch: pytest.MonkeyPatch):
    """A plain address is asked for whole at the proxy, with its own credentials."""
    monkeypatch.setenv("HTTP_PROXY", scripted.base_url.replace("http://", "http://me:pass%20word@"))
    scripted.always("http://service.test/session/close", reply(_wire.success()))
    assert to("http://service.test").close("s").outcome == CLOSED
    assert scripted.arrived[0].headers["proxy-authorization"] == "Basic bWU6cGFzcyB3b3Jk"


def test_tls_goes_through_a_tunnel(scripted: Scripted, monkeypatch: pytest.MonkeyPatch):
    """The proxy of an https address is asked to connect, and never sees the key."""
    monkeypatch.setenv("https_proxy", scripted.base_url)
    assert to("https://service.test").close("s").outcome == FAILED
    assert [(one.method, one.path) for one in scripted.arrived] == [("CONNECT", "service.test:443")]
    assert KEY not in str(scripted.arrived)


def test_this_machine_is_never_asked_through_a_proxy(scripted: Scripted, monkeypatch: pytest.MonkeyPatch):
    """An engine on loopback is reached whatever the environment says."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    assert to(scripted.base_url).close("s").outcome == CLOSED


@pytest.mark.parametrize(
    ("address", "no_proxy", "found"),
    [
        ("http://service.test", "", "http://proxy.test:3128"),
        ("http://service.test", "service.test", None),
        ("http://api.service.test:8080", "other, service.test", None),
        ("http://10.1.2.3", "10.0.0.0/8", None),
        ("http://11.1.2.3", "10.0.0.0/8,nonsense/x", "http://proxy.test:3128"),
        ("http://localhost:1", "", None),
        ("http://127.9.9.9:1", "", None),
        ("http://[::1]:1", "", None),
        ("https://service.test", "", None),
    ],
)
def test_no_proxy_is_heeded(monkeypatch: pytest.MonkeyPatch, address: str, no_proxy: str, found: str | None):
    """A name, a domain or a network that no_proxy names is reached directly, as requests does."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.test:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert to(address)._post._proxy == found


def test_a_proxy_of_another_kind_is_named_in_the_reason(monkeypatch: pytest.MonkeyPatch):
    """The standard library speaks no SOCKS: the lease's reason says so, without the proxy's password."""
    monkeypatch.setenv("ALL_PROXY", "socks5://me:secret@proxy.test:1080")
    reason = to("http://service.test").close("s").reason
    assert "socks5://" in reason
    assert "secret" not in reason


def test_a_certificate_is_checked_against_the_bundle_of_the_environment(
    certificate: Any, monkeypatch: pytest.MonkeyPatch
):
    """A private authority is trusted where REQUESTS_CA_BUNDLE names it, and only there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.server)
    with Scripted(context) as server:
        assert "certificate was not accepted" in to(server.base_url).close("s").reason
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificate.authority)
        assert to(server.base_url).close("s").outcome == CLOSED


def test_certifi_is_found_without_being_imported():
    """The guardian trusts what the client trusts, and loads no third-party module for it."""
    code = "import sys; from pytest_bbre.guard import route; print(route.certificates(), 'certifi' in sys.modules)"
    environ = {name: value for name, value in os.environ.items() if not name.endswith("CA_BUNDLE")}
    told = subprocess.run([sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE, check=True, text=True)
    path, imported = told.stdout.split()
    assert Path(path).name == "cacert.pem"
    assert imported == "False"


def test_without_certifi_the_systems_certificates_are_used(monkeypatch: pytest.MonkeyPatch):
    """A context is made all the same."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert route.certificates() is None
    assert route.tls_context().verify_mode is ssl.CERT_REQUIRED


def test_a_folder_of_certificates_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As requests takes one."""
    monkeypatch.setenv("CURL_CA_BUNDLE", str(tmp_path))
    assert route.tls_context().verify_mode is ssl.CERT_REQUIRED


def test_only_the_standard_library_is_loaded():
    """The guardian closes and lists without any third-party module, however the service is reached."""
    code = """
import json, sys
from pytest_bbre.guard.reaper import Reaper
from pytest_bbre.guard.door import Door, Service
door = Door(Service("https://127.0.0.1:1", "key", connect_timeout=5.0))
door.close("s")
known = sys.stdlib_module_names | {"pytest_bbre"}
top = {name.partition(".")[0] for name in sys.modules}
heavy = {"requests", "psutil", "platformdirs", "logging", "asyncio", "urllib.request"} & set(sys.modules)
foreign = {name for name in top - known if not name.startswith("_")}
print(json.dumps([sorted(heavy), sorted(foreign)]))
"""
    flags = ["-I", "-S", "-c", f"import sys; sys.path += {[one for one in sys.path if one]!r}\n{code}"]
    told = subprocess.run([sys.executable, *flags], stdout=subprocess.PIPE, check=True, text=True)
    assert json.loads(told.stdout) == [[], []]


def test_a_silent_service_does_not_hold_up_the_next_call(scripted: Scripted):
    """Each call has a connection of its own."""
    release = threading.Event()
    scripted.answer("close", held(release))
    door = to(scripted.base_url)
    first = threading.Thread(target=door.close, args=("a",), daemon=True)
    first.start()
    scripted.wait_for("close")
    assert door.close("b").outcome == CLOSED
    release.set()
    first.join(LIMIT)
    assert not first.is_alive()
