"""_wire: what is written is what is read, and every reasonable spelling is accepted."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_bbre import _wire
from pytest_bbre._wire import fields
from pytest_bbre.errors import InvalidAnswerError

NOON = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
TOKENS = st.text("abcXYZ-", min_size=1, max_size=8)


@given(st.binary(), st.sampled_from([None, "utf-8", "ascii", "iso-8859-1", "nonsense"]))
def test_any_bytes_survive_whatever_charset_is_named(body: bytes, charset: str | None):
    """A body comes out of the wire as it went in, byte for byte."""
    written = _wire.write_body(body, charset)
    assert _wire.read_body(written["body"], written.get("bodyEncoding")) == body


def test_plain_text_travels_as_text():
    """A person who looks at the traffic can read it; only what is no text is base64."""
    assert _wire.write_body("käse".encode()) == {"body": "käse"}
    assert _wire.write_body(b"\xff") == {"body": "/w==", "bodyEncoding": "base64"}


@pytest.mark.parametrize(
    ("body", "content"),
    [(None, b""), ("", b""), ({"a": [1]}, b'{"a": [1]}'), ([], b"[]"), (0, b"0"), (True, b"true")],
)
def test_a_body_that_the_service_parsed_becomes_json_again(body, content: bytes):
    """An object where a text is expected is read as the JSON it was."""
    assert _wire.read_body(body, None) == content


@pytest.mark.parametrize("body", ["%%%", "a", "é"])
def test_a_body_that_is_not_the_base64_it_claims_to_be_is_an_invalid_answer(body: str):
    """Damaged base64 is told, not decoded to something else."""
    with pytest.raises(InvalidAnswerError, match="base64"):
        _wire.read_body(body, "base64")


@given(st.lists(st.tuples(TOKENS, st.text(max_size=8))))
def test_no_header_is_lost(headers: list[tuple[str, str]]):
    """Headers that occur more than once keep all their values, in their order."""
    read = _wire.read_headers(_wire.write_headers(headers))
    names = {name.lower() for name, _ in headers}
    for name in names:
        assert [v for n, v in read if n.lower() == name] == [v for n, v in headers if n.lower() == name]
    assert len(read) == len(headers)


@pytest.mark.parametrize(
    "written",
    [
        {"a": "1", "b": ["2", "3"]},
        [["a", "1"], ["b", "2"], ["b", "3"]],
        [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}, {"name": "b", "value": 3}],
        [["a", "1"], 7, ["too", "many", "parts"], [None, "x"], {"value": "x"}, ["b", ["2", None, "3"]]],
    ],
)
def test_headers_are_read_in_every_reasonable_form(written):
    """An object, pairs, HAR's records; what is none of these is left out."""
    assert _wire.read_headers(written) == [("a", "1"), ("b", "2"), ("b", "3")]


@pytest.mark.parametrize("written", [None, 5, "a: b", True, {}, []])
def test_no_headers_are_no_headers(written):
    """Headers of a foreign type are none."""
    assert _wire.read_headers(written) == []


@pytest.mark.parametrize(
    ("value", "charset"),
    [
        ("text/html; charset=UTF-8", "utf-8"),
        ("text/html;charset='latin-1'", "latin-1"),
        ('text/html; boundary=x; CHARSET = "a b" ', "a b"),
        ("text/html; charset=", None),
        ("text/html", None),
    ],
)
def test_the_charset_of_a_content_type(value: str, charset: str | None):
    """A charset is found however it is written."""
    assert _wire.charset([("X", "charset=no"), ("content-TYPE", value)]) == charset


# The envelope.


@pytest.mark.parametrize("code", sorted(_wire.FAILURES))
def test_a_failure_is_read_as_it_was_written(code: str):
    """Code, message and hint come out as they went in, with the status of the contract."""
    status, answer = _wire.failure(code, "Why.", hint="how")
    assert status == _wire.FAILURES[code][0]
    assert (answer["success"], answer["service"]) == (False, "MyDisct Solver BBRE")
    assert _wire.read_failure(answer) == (code, "Why.", "how")


def test_the_stated_hint_is_sent_with_its_code():
    """SESSION_ID_REQUIRED carries the vendor's hint."""
    _, answer = _wire.failure("SESSION_ID_REQUIRED")
    assert answer["error"] == {
        "code": "SESSION_ID_REQUIRED",
        "message": "Session ID is required.",
        "details": {"hint": "Session ID is returned when you create a session"},
    }


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"success": False}, ("UNKNOWN", "The service gave no reason.", None)),
        ({"success": False, "error": "BROKEN", "message": "m"}, ("BROKEN", "m", None)),
        ({"error": {"code": "X"}}, ("X", "X", None)),
        ({"error": {"code": 7, "message": 8, "details": {"hint": 9}}}, ("7", "8", "9")),
        ({"success": False, "error": {"details": "no object"}}, ("UNKNOWN", "UNKNOWN", None)),
        ({"success": "yes"}, ("UNKNOWN", "The service gave no reason.", None)),
        ({"success": True, "error": {"code": "X"}}, None),
        ({"session": {"id": "x"}}, None),
        ([], None),
    ],
)
def test_what_counts_as_a_failure(answer, told):
    """Everything that does not say success is a failure, in whatever words; what says nothing of it is none."""
    assert _wire.read_failure(answer) == told


@pytest.mark.parametrize(
    "answer",
    [
        {"session": {"id": "session_1"}},
        {"data": {"session": {"id": "session_1"}}},
        {"data": {"sessionId": "session_1"}},
        {"id": "session_1"},
    ],
)
def test_a_session_is_found_wherever_the_answer_carries_it(answer):
    """At the top as create has it, under data as close has it, and bare."""
    assert _wire.read_session(answer).id == "session_1"


@pytest.mark.parametrize("answer", [{}, {"session": {}}, {"id": 5}, {"id": ""}, {"session": None, "data": 1}, []])
def test_an_answer_without_a_session_is_an_invalid_answer(answer):
    """Never a KeyError."""
    with pytest.raises(InvalidAnswerError):
        _wire.read_session(answer)


def test_a_session_is_read_as_it_was_written():
    """Every field of a record survives."""
    info = _wire.SessionInfo(
        id="session_1",
        mode="passive",
        sensibility="high",
        timeout=300.5,
        status="closed",
        created_at=NOON,
        expires_at=NOON + timedelta(seconds=300.5),
        closed_at=NOON + timedelta(seconds=1),
        profile={"userAgent": "x"},
        request_count=4,
        total_charged=0.25,
    )
    assert _wire.SessionInfo.from_json(info.to_json()) == info


def test_fields_of_a_foreign_type_are_left_out():
    """A field that can't be what it should be is no reason to lose the session's id."""
    record = {
        "id": "s", "mode": 1, "timeout": "long", "status": [], "createdAt": {}, "expiresAt": "soon",
        "profile": "Chrome", "requestCount": 1.5, "totalCharged": True,
    }  # fmt: skip
    assert _wire.SessionInfo.from_json(record) == _wire.SessionInfo("s")


@pytest.mark.parametrize(
    "value",
    [
        "2026-05-01T12:00:00Z",
        "2026-05-01T12:00:00.000Z",
        "2026-05-01T12:00:00+00:00",
        "2026-05-01T14:00:00+02:00",
        "2026-05-01 12:00:00",
        NOON.timestamp(),
        int(NOON.timestamp() * 1000),
    ],
)
def test_times_are_read_in_every_reasonable_form_and_are_utc(value):
    """ISO 8601 with and without a zone, seconds and milliseconds; always an aware time in UTC."""
    read = fields.read_time(value)
    assert read == NOON
    assert read is not None
    assert read.tzinfo is timezone.utc


@pytest.mark.parametrize("value", [None, "", "soon", True, float("nan"), float("inf"), 10**400, -(10**20), [], {}])
def test_what_is_no_time_is_none(value):
    """No time is invented, and nothing is raised."""
    assert fields.read_time(value) is None


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), 10**400, True, "1", None])
def test_what_is_no_number_is_none(value):
    """Not a number, infinite, or too large to be used: none."""
    assert fields.number(value) is None
    assert fields.whole(value) is None


def test_a_whole_number_may_be_written_as_a_fraction():
    """JavaScript services write 200.0."""
    assert fields.whole(200.0) == 200
    assert fields.whole(200.5) is None


@pytest.mark.parametrize(
    "answer",
    [
        {"data": {"sessions": [{"id": "a"}], "total": 7}},
        {"sessions": [{"sessionId": "a"}], "totalCount": 7},
        {"data": {"items": [{"session_id": "a"}], "total": 7}},
        {"data": [{"id": "a"}], "total": 7},
    ],
)
def test_a_page_is_found_wherever_the_answer_carries_it(answer):
    """Under every reasonable name, with its total."""
    page = _wire.read_page(answer)
    assert ([one.id for one in page.sessions], page.total) == (["a"], 7)


@pytest.mark.parametrize("answer", [{}, {"sessions": {}}, {"sessions": [1]}, {"sessions": [{}]}, {"data": 3}])
def test_a_listing_without_a_list_is_an_invalid_answer(answer):
    """Never a TypeError."""
    with pytest.raises(InvalidAnswerError):
        _wire.read_page(answer)


# Requests and answers of targets.


def test_a_request_is_written_with_nothing_that_was_not_asked_for():
    """The least request is the vendor's example."""
    assert _wire.TargetRequest("http://t/").to_json("s") == {"sessionId": "s", "url": "http://t/", "method": "GET"}


def test_a_request_is_written_with_all_that_was_asked_for():
    """Every option has its field; an object stays an object, as stated."""
    asked = _wire.TargetRequest(
        "http://t/", "POST", headers=[("A", "1")], body={"x": 1}, params={"q": "1"}, cookies={"c": "1"}, timeout=5,
        follow_redirects=False, max_redirects=3, verify=False, auth=("u", "p"), proxy="http://p:1",
    )  # fmt: skip
    assert asked.to_json("s") == {
        "sessionId": "s", "url": "http://t/", "method": "POST", "headers": {"A": "1"}, "body": {"x": 1},
        "params": {"q": "1"}, "cookies": {"c": "1"}, "timeout": 5, "followRedirects": False, "maxRedirects": 3,
        "verifySsl": False, "auth": {"username": "u", "password": "p"}, "proxy": "http://p:1",
    }  # fmt: skip


def test_an_answer_of_a_target_is_read_as_it_was_written():
    """Status, reason, headers, body, address, time and history survive."""
    step = _wire.TargetAnswer(302, "Found", [("Location", "/b")], b"", False, "http://t/a", "POST", 0.1)
    answer = _wire.TargetAnswer(
        200, "OK", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")], b"\xff", False, "http://t/b", "GET", 0.2, (step,)
    )
    assert _wire.read_result({"data": {"task": {"result": answer.to_json()}}}) == answer


@pytest.mark.parametrize("where", [lambda r: {"data": {"task": {"result": r}}}, lambda r: {"result": r}, lambda r: r])
def test_a_result_is_found_wherever_the_answer_carries_it(where):
    """As stated, and in the plainer places, too."""
    assert _wire.read_result(where({"statusCode": 201, "body": "x"})).status == 201


@pytest.mark.parametrize("result", [None, {}, [], {"statusCode": "200"}, {"statusCode": True}, {"statusCode": 1.5}])
def test_a_result_without_a_status_code_is_an_invalid_answer(result):
    """Never a response whose status was invented."""
    with pytest.raises(InvalidAnswerError, match="statusCode"):
        _wire.read_result({"data": {"task": {"result": result}}})
