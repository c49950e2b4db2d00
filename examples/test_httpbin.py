"""httpbin answers with what it was asked. So these tests show what reaches an application through a session."""

from __future__ import annotations

from base64 import b64decode

import pytest

from pytest_bbre.errors import TargetTimeoutError, TargetUnreachableError

EVERY_BYTE = bytes(range(256))


def test_query(bbre_session, httpbin):
    """Parameters are encoded as requests encodes them."""
    answer = bbre_session.get(f"{httpbin}/get", params={"word": "grün & gut", "page": ["1", "2"]})
    assert answer.json()["args"] == {"word": "grün & gut", "page": ["1", "2"]}


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_json(bbre_session, httpbin, method):
    """A JSON body arrives as it was given."""
    order = {"product": "tea", "quantity": 2, "gift": None, "note": "für Ada"}
    answer = getattr(bbre_session, method)(f"{httpbin}/{method}", json=order)
    assert answer.json()["json"] == order


def test_form(bbre_session, httpbin):
    """A form arrives as a form."""
    answer = bbre_session.post(f"{httpbin}/post", data={"name": "Ada", "tags": ["new", "kind"]})
    assert answer.json()["form"] == {"name": "Ada", "tags": ["new", "kind"]}


def test_upload(bbre_session, httpbin):
    """Bytes arrive as they were sent: httpbin gives them back in base64."""
    answer = bbre_session.post(f"{httpbin}/post", data=EVERY_BYTE)
    assert b64decode(answer.json()["data"].partition("base64,")[2]) == EVERY_BYTE


def test_download(bbre_session, httpbin):
    """A picture arrives byte for byte."""
    answer = bbre_session.get(f"{httpbin}/image/png")
    assert answer.headers["Content-Type"] == "image/png"
    assert len(answer.content) == int(answer.headers["Content-Length"])
    assert answer.content.startswith(b"\x89PNG\r\n\x1a\n")


def test_headers(bbre_session, httpbin):
    """Headers of a request reach the application."""
    answer = bbre_session.get(f"{httpbin}/headers", headers={"X-Trace": "a1", "Accept-Language": "de"})
    told = answer.json()["headers"]
    assert (told["X-Trace"], told["Accept-Language"]) == ("a1", "de")


def test_repeated_headers(bbre_session, httpbin):
    """A header that the application sends twice is kept twice."""
    answer = bbre_session.get(f"{httpbin}/response-headers", params={"X-Tag": ["new", "kind"]})
    assert answer.raw.headers.getlist("X-Tag") == ["new", "kind"]


@pytest.mark.parametrize("kind", ["gzip", "deflate"])
def test_compressed_answer(bbre_session, httpbin, kind):
    """A compressed answer arrives unpacked."""
    field = {"gzip": "gzipped", "deflate": "deflated"}[kind]
    assert bbre_session.get(f"{httpbin}/{kind}").json()[field] is True


def test_text(bbre_session, httpbin):
    """Text in many scripts arrives as text."""
    assert "STARGΛ̊TE SG-1" in bbre_session.get(f"{httpbin}/encoding/utf8").text


def test_basic_auth(bbre_session, httpbin):
    """Name and password open what is closed without them."""
    page = f"{httpbin}/basic-auth/ada/lovelace"
    assert bbre_session.get(page).status_code == 401
    assert bbre_session.get(page, auth=("ada", "lovelace")).json()["user"] == "ada"


def test_cookies(bbre_session, httpbin):
    """Cookies of the application and cookies of a request are sent together."""
    bbre_session.get(f"{httpbin}/cookies/set", params={"kept": "yes"})
    told = bbre_session.get(f"{httpbin}/cookies", cookies={"added": "once"}).json()["cookies"]
    assert told == {"kept": "yes", "added": "once"}


def test_redirects(bbre_session, httpbin):
    """Each redirect is kept in the answer's history."""
    answer = bbre_session.get(f"{httpbin}/redirect/3")
    assert answer.url == f"{httpbin}/get"
    assert [step.status_code for step in answer.history] == [302, 302, 302]
    assert answer.history[0].url == f"{httpbin}/redirect/3"


@pytest.mark.parametrize("status", [404, 418, 503])
def test_status(bbre_session, httpbin, status):
    """An error of the application is an answer, not an exception of the session."""
    answer = bbre_session.get(f"{httpbin}/status/{status}")
    assert answer.status_code == status
    assert not answer.ok


def test_slow_answer_is_given_up(bbre_session, httpbin):
    """A timeout limits one request; the session goes on after it."""
    with pytest.raises(TargetTimeoutError):
        bbre_session.get(f"{httpbin}/delay/3", timeout=0.3)
    assert bbre_session.get(f"{httpbin}/get").ok


def test_application_that_is_down(bbre_session, nobody, httpbin):
    """An application that can't be reached is told as that; the session itself is well."""
    with pytest.raises(TargetUnreachableError):
        bbre_session.get(nobody)
    assert bbre_session.get(f"{httpbin}/get").ok
