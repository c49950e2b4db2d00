"""_transport.py: how one JSON object travels, how failures are told, and what is never shown."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import traceback
import zlib
from typing import Any

import pytest
import requests
from _scripted import CUT, KEY, LIMIT, Arrived, Scripted, fails, held, raw, reply

from pytest_bbre import Settings, errors
from pytest_bbre._settings import Secret
from pytest_bbre._transport import MAX_ANSWER, Transport, is_loopback

PROXIES = ["http_proxy", "https_proxy", "all_proxy", "no_proxy"]


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies that this machine has set are not the tests'."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def to(base_url: str, **options: object) -> Transport:
    return Transport(Settings.resolve({"api_key": KEY, "base_url": base_url, **options}, environ={}))


def post(base_url: str, path: str = "/session/status", timeout: float = LIMIT) -> dict[str, object]:
    return to(base_url).post(path, {"sessionId": "s"}, timeout=timeout)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_a_call_is_a_post_of_json_with_the_key(service: Scripted):
    """Method, path, content type, key header and body are those of the contract."""
    to(service.base_url).post("/session/close", {"sessionId": "ü"}, timeout=LIMIT)
    (arrived,) = service.arrived
    assert (arrived.method, arrived.path, arrived.json) == ("POST", "/session/close", {"sessionId": "ü"})
    assert arrived.headers["content-type"] == "application/json"
    assert arrived.headers["x-api-key"] == KEY


def test_connections_are_used_again(service: Scripted):
    """Ten calls in a row need one connection."""
    opened = []
    accept = service._talk
    service._talk = lambda connection: (opened.append(connection), accept(connection))  # type: ignore[assignment]
    transport = to(service.base_url)
    for _ in range(10):
        transport.post("/session/status", {}, timeout=LIMIT)
    assert len(opened) == 1


def test_without_a_key_nothing_is_sent(service: Scripted):
    """The error names both ways out: a key, and the embedded engine."""
    with pytest.raises(errors.ApiKeyRequiredError) as caught:
        Transport(Settings(base_url=service.base_url))
    assert "BBRE_API_KEY" in str(caught.value)
    assert "BBRE_BASE_URL=embedded" in str(caught.value)
    assert service.arrived == []


@pytest.mark.parametrize("code", sorted(errors.BY_CODE))
def test_each_code_becomes_its_class(service: Scripted, code: str):
    """With everything the service told."""
    service.answer("status", fails(code, {"Retry-After": "7"}, message="Why.", hint="how"))
    with pytest.raises(errors.BY_CODE[code]) as caught:
        post(service.base_url)
    error = caught.value
    assert type(error) is errors.BY_CODE[code]
    assert (error.code, error.message, error.hint, error.retry_after) == (code, "Why.", "how", 7.0)
    assert error.status == error.answer["error"].get("status", error.status)


def test_an_unknown_code_is_the_base_class_with_everything_kept(service: Scripted):
    """What the vendor adds later is told as it came."""
    answer = {
        "success": False,
        "error": {"code": "MOON_PHASE", "message": "Full.", "details": {"hint": "wait", "x": 1}},
    }
    service.answer("status", reply(answer, 418))
    with pytest.raises(errors.BBREError) as caught:
        post(service.base_url)
    error = caught.value
    assert type(error) is errors.BBREError
    assert (error.code, error.status, error.message, error.hint) == ("MOON_PHASE", 418, "Full.", "wait")
    assert error.answer == answer


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3", 3.0), ("0.5", 0.5), ("9999999", 3600.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("", None), ("-1", None),
     ("nan", None), ("inf", 3600.0)],
)  # fmt: skip
def test_the_wait_that_the_service_asks_for(service: Scripted, header: str, seconds: float | None):
    """Retry-After in seconds is kept, within reason; what is no time to wait is left out."""
    service.answer("status", fails("SERVICE_ERROR", {"Retry-After": header}))
    with pytest.raises(errors.ServiceError) as caught:
        post(service.base_url)
    assert caught.value.retry_after == seconds


# Answers that are not BBRE's.


@pytest.mark.parametrize(
    "answer",
    [
        raw(b"<html>It works!</html>", headers={"Content-Type": "text/html"}),
        raw(b""),
        raw(b"[1, 2]"),
        raw(b'"text"'),
        raw(b"null"),
        raw(b'{"success": true'),
        raw(b'{"a": "\xff\xfe"}'),
        raw(b"{}", 302, {"Location": "/elsewhere"}),
        raw(b"{}", 404),
        raw(b"<html>Bad Gateway</html>", 502),
        raw(b"not gzip", headers={"Content-Encoding": "gzip"}),
        raw(b'{"success": tr', headers={"Content-Length": "900"}),
        raw(b"zz\r\nnot chunked", headers={"Transfer-Encoding": "chunked"}),
        raw(b'{"n": ' + b"9" * 5000 + b"}"),
        raw(b"[" * 100_000),
    ],
    ids=lambda answer: answer.partition(b"\r\n\r\n")[2][:20].decode("latin-1"),
)
def test_what_is_not_bbre_is_an_invalid_answer(service: Scripted, answer: bytes):
    """Never a KeyError, JSONDecodeError or UnicodeDecodeError; the remedy names BBRE_BASE_URL."""
    service.answer("status", answer)
    with pytest.raises(errors.InvalidAnswerError, match="BBRE_BASE_URL"):
        post(service.base_url)


def test_a_redirect_is_not_followed(service: Scripted):
    """The key goes to the address that was given and to no other."""
    service.answer("status", raw(b"", 307, {"Location": f"{service.base_url}/elsewhere"}))
    with pytest.raises(errors.InvalidAnswerError, match="307"):
        post(service.base_url)
    assert len(service.arrived) == 1


def test_an_answer_that_is_too_large_is_not_read_to_its_end(service: Scripted):
    """A small compressed answer of endless zeros does not fill the memory."""
    bomb = zlib.compress(b"0" * (MAX_ANSWER + 1), 1)
    service.answer("status", raw(bomb, headers={"Content-Encoding": "deflate"}))
    with pytest.raises(errors.InvalidAnswerError, match=f"larger than {MAX_ANSWER} bytes"):
        post(service.base_url)


def test_a_compressed_answer_is_read(service: Scripted):
    """A proxy in front of the service may compress."""
    service.answer("status", raw(zlib.compress(b'{"success": true}'), headers={"Content-Encoding": "deflate"}))
    assert post(service.base_url) == {"success": True}


# No answer at all.


def test_an_address_where_nobody_listens():
    """Nothing was sent; the message has the address and the system's own words, the original is the cause."""
    base_url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(errors.ConnectionFailedError) as caught:
        post(base_url)
    assert base_url in str(caught.value)
    assert "refused" in str(caught.value).lower()
    assert "BBRE_BASE_URL" in str(caught.value)
    assert isinstance(caught.value.__cause__, requests.ConnectionError)


def test_an_address_without_a_host():
    """A name that does not resolve is a connection that failed."""
    with pytest.raises(errors.ConnectionFailedError, match=r"nowhere\.invalid"):
        post("http://nowhere.invalid")


def test_a_connection_that_is_cut_may_have_carried_the_request(service: Scripted):
    """Cut before any answer: the request may have been worked on."""
    service.answer("status", CUT)
    with pytest.raises(errors.ConnectionLostError) as caught:
        post(service.base_url)
    assert caught.value.__cause__ is not None


def test_silence_ends_with_the_time_limit(service: Scripted):
    """No call waits longer than it was told to."""
    silence = threading.Event()
    service.answer("status", held(silence))
    with pytest.raises(errors.TimedOutError, match="BBRE_READ_TIMEOUT"):
        post(service.base_url, timeout=0.1)
    silence.set()


def test_an_answer_that_never_ends_ends_with_the_time_limit():
    """A byte now and then does not prolong the limit."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        done = threading.Event()

        def drip() -> None:
            visitor, _ = listening.accept()
            with visitor:
                visitor.recv(65536)
                visitor.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while not done.wait(0.02):
                    try:
                        visitor.sendall(b" ")
                    except OSError:
                        return

        threading.Thread(target=drip, daemon=True).start()
        with pytest.raises(errors.TimedOutError):
            post(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=0.3)
        done.set()


def test_https_where_plain_http_is_spoken(service: Scripted):
    """A TLS failure has its own class, with the address."""
    with pytest.raises(errors.TLSError, match="REQUESTS_CA_BUNDLE") as caught:
        post(service.base_url.replace("http:", "https:"))
    assert str(service.port) in str(caught.value)


def test_a_port_that_speaks_no_tls_is_not_a_matter_of_certificates(service: Scripted):
    """https:// in place of http://, the commonest slip: the message does not speak of certificates."""
    with pytest.raises(errors.TLSError, match="does not speak TLS") as caught:
        post(service.base_url.replace("http:", "https:"))
    assert "certificate" not in caught.value.message.lower()
    assert service.arrived == []


@pytest.fixture
def private(certificate: Any):
    """A service with a certificate of an authority that nobody knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.server)
    with Scripted(context) as server:
        yield server


def test_a_certificate_that_nobody_signed_is_not_accepted(private: Scripted):
    """The key is not sent to whom the certificate does not vouch for."""
    with pytest.raises(errors.TLSError, match="certificate"):
        post(private.base_url)
    assert private.arrived == []


def test_a_private_authority_is_accepted_where_the_environment_names_it(
    private: Scripted, certificate: Any, monkeypatch: pytest.MonkeyPatch
):
    """REQUESTS_CA_BUNDLE works as the remedy says."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificate.authority)
    assert post(private.base_url)["success"] is True


# Proxies.


@pytest.mark.parametrize("name", ["http_proxy", "all_proxy"])
def test_the_environment_s_proxy_is_used_for_a_service(name: str, monkeypatch: pytest.MonkeyPatch):
    """A call to an address elsewhere goes through the proxy."""
    with Scripted() as proxy:
        monkeypatch.setenv(name, proxy.base_url)
        proxy.always("http://bbre.example/session/status", reply({"success": True, "by": "proxy"}))
        assert post("http://bbre.example")["by"] == "proxy"


def test_no_proxy_is_heeded(monkeypatch: pytest.MonkeyPatch):
    """An address that the environment excepts is reached directly."""
    with Scripted() as proxy:
        monkeypatch.setenv("http_proxy", proxy.base_url)
        monkeypatch.setenv("no_proxy", "nowhere.invalid")
        with pytest.raises(errors.ConnectionFailedError):
            post("http://nowhere.invalid")
        assert proxy.arrived == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1.2.3"])
def test_a_loopback_address_is_never_reached_through_a_proxy(service: Scripted, host: str, monkeypatch):
    """Whatever the environment says, even that it excepts nothing."""
    with Scripted() as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.base_url)
        monkeypatch.setenv("no_proxy", "")
        try:
            post(f"http://{host}:{service.port}")
        except errors.ConnectionFailedError:
            assert host == "127.1.2.3"  # the server listens on one address; what counts is that no proxy was asked
        assert proxy.arrived == []


def test_a_proxy_that_is_not_there_sent_nothing(monkeypatch: pytest.MonkeyPatch):
    """A failing proxy is a connection that failed."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(errors.ConnectionFailedError):
        post("http://bbre.example")


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("http://127.0.0.1:1", True), ("http://127.9.9.9", True), ("http://localhost", True),
        ("http://LOCALHOST", True), ("http://a.localhost", True), ("http://[::1]:8", True),
        ("http://127.example.org", False),
        ("http://127.0.0.1.example.org", False), ("http://localhost.example.org", False), ("http://10.0.0.1", False),
    ],
)  # fmt: skip
def test_what_counts_as_this_machine(address: str, own: bool):
    """Names that only begin like a loopback address are somebody else's."""
    assert is_loopback(address) is own


# The key.


SPELT = "".join(f"\\u{ord(letter):04x}" for letter in KEY)  # as JSON may write it, too
HOW = {
    "refused": None,
    "tls": None,
    "cut": CUT,
    "no json": raw(b"<html>"),
    "code": fails("INVALID_API_KEY"),
    "echo": reply({"success": False, "error": {"code": "INVALID_API_KEY", "message": f"Unknown key {KEY}."}}, 403),
    "echo in escapes": raw(f'{{"success": false, "error": {{"message": "{SPELT}"}}, "{SPELT}": ["{SPELT}"]}}'.encode()),
    "echo as the code": reply({"success": False, "error": KEY}, 400),
    "echo in a page": raw(f"<html>{KEY}".encode()),
    "echo in the content type": raw(b"<html>", headers={"Content-Type": f"text/{KEY}"}),
    "echo in a success of no use": reply({"success": True, "headers": {"x-api-key": KEY}}, 302),
    "echo cut off": raw(KEY.encode(), headers={"Content-Length": "999"}),
    "echo too large": raw(KEY.encode() * (1 + MAX_ANSWER // len(KEY))),
    "echo as a chunk": raw(f"{KEY}\r\n".encode(), headers={"Transfer-Encoding": "chunked"}),
    "echo as the status line": f"{KEY}\r\n\r\n".encode(),
    "echo as a header": raw(b"<", headers={KEY: KEY, "Retry-After": KEY, "Content-Encoding": KEY}),
}


def fail(transport: Transport) -> errors.BBREError:
    """The error of a call; no frame of the test that knows the key is in its traceback."""
    try:
        transport.post("/session/status", {"sessionId": "s"}, timeout=LIMIT)
    except errors.BBREError as error:
        return error
    raise AssertionError("the call did not fail")


@pytest.mark.parametrize("how", HOW)
def test_the_key_is_in_no_error(service: Scripted, how: str):
    """Not in its text, repr, attributes, causes, nor in a traceback with locals, even where the service echoes it."""
    addresses = {"refused": f"http://127.0.0.1:{free_port()}", "tls": service.base_url.replace("http:", "https:")}
    if how not in addresses:
        service.answer("status", HOW[how])
    error = fail(to(addresses.get(how, service.base_url)))
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    for text in (str(error), repr(error), repr(vars(error)), "".join(told.format())):
        assert (KEY in text) is False  # so that pytest does not print megabytes


def test_a_success_that_is_of_no_use_is_read_where_no_report_sees_it(service: Scripted):
    """An echo server in place of BBRE: the frames that read its answer are in no traceback."""

    def read(answer: dict[str, object]) -> None:
        raise errors.InvalidAnswerError(f"No session in {answer!r}.")

    service.answer("status", reply({"success": True, "headers": {"x-api-key": KEY}}))
    transport = to(service.base_url)
    with pytest.raises(errors.InvalidAnswerError) as caught:
        transport.post("/session/status", {}, timeout=LIMIT, read=read)
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert KEY not in "".join(told.format())
    assert caught.value.status == 200


def test_the_key_is_in_no_repr(service: Scripted):
    """A transport shows its address."""
    transport = to(service.base_url)
    assert service.base_url in repr(transport)
    assert KEY not in repr(transport)
    assert isinstance(transport._key, Secret)


# Processes.


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_uses_no_connection_of_its_parent(service: Scripted):
    """Two processes never talk over one connection: the child opens its own."""
    peers: list[int] = []
    service.always("status", lambda arrived: reply({"success": True, "peers": len(peers)}))
    talk = service._talk
    service._talk = lambda connection: (peers.append(connection.getpeername()[1]), talk(connection))  # type: ignore
    transport = to(service.base_url)
    assert transport.post("/session/status", {}, timeout=LIMIT)["peers"] == 1
    child = os.fork()
    if child == 0:
        fine = False
        try:
            fine = transport.post("/session/status", {}, timeout=LIMIT)["peers"] == 2
        finally:
            os._exit(0 if fine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert transport.post("/session/status", {}, timeout=LIMIT)["peers"] == 2


def test_many_threads_can_call_at_the_same_time(service: Scripted, on_threads):
    """Each gets the answer to its own question."""
    service.always("status", lambda arrived: reply({"success": True, "you": arrived.json["you"]}))
    transport = to(service.base_url)

    def ask() -> bool:
        me = threading.get_ident()
        return all(transport.post("/session/status", {"you": me}, timeout=LIMIT)["you"] == me for _ in range(10))

    assert on_threads(ask) == [True] * 8


def test_after_close_a_call_opens_a_new_connection(service: Scripted):
    """Closing drops what is pooled, and no more."""
    transport = to(service.base_url)
    transport.close()
    assert transport.post("/session/status", {}, timeout=LIMIT)["success"] is True


def test_arrived_requests_can_be_told_apart():
    """The scripted server names endpoints by their path."""
    assert Arrived("POST", "/account/sessions").endpoint == "list"
