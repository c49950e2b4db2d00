"""_client.py: what each endpoint is sent, what may be repeated, and what counts as closed."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import requests
from _scripted import CUT, KEY, LIMIT, SESSION, Arrived, Scripted, fails, held, raw, reply, result

from pytest_bbre import BBREClient, CloseOutcome, CloseResult, SessionInfo, Settings, _retries, errors

TARGET = "http://target.example/"
PASSING = {
    "SERVICE_ERROR": fails("SERVICE_ERROR"),
    "RATE_LIMIT_EXCEEDED": fails("RATE_LIMIT_EXCEEDED"),
    "a cut": CUT,
    "a gateway's page": raw(b"<html>", 502),
    "half an answer": raw(b'{"succ', headers={"Content-Length": "99"}),
}
SAFE: dict[str, Any] = {
    "close": lambda client: client.close_session(SESSION),
    "status": lambda client: client.session_status(SESSION),
    "list": lambda client: list(client.list_sessions()),
    "request": lambda client: client.request(SESSION, "GET", TARGET, idempotent=True),
}


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses between repetitions are noted, and pass at once."""
    noted: list[float] = []
    monkeypatch.setattr(_retries.time, "sleep", noted.append)
    return noted


# Making one.


def test_a_client_reads_the_environment(service: Scripted, monkeypatch: pytest.MonkeyPatch):
    """Without arguments, key and address come from BBRE_API_KEY and BBRE_BASE_URL."""
    monkeypatch.setenv("BBRE_API_KEY", KEY)
    monkeypatch.setenv("BBRE_BASE_URL", service.base_url)
    with BBREClient() as client:
        client.session_status(SESSION)
    assert service.arrived[0].headers["x-api-key"] == KEY


def test_arguments_go_over_the_environment(monkeypatch: pytest.MonkeyPatch):
    """Key, address, time limits and every other setting."""
    for name, value in {"API_KEY": "env", "BASE_URL": "http://env", "READ_TIMEOUT": "1", "RETRIES": "9"}.items():
        monkeypatch.setenv(f"BBRE_{name}", value)
    settings = BBREClient("arg", "http://arg", timeout=(3, 4), retries=2).settings
    assert (settings.api_key, settings.base_url, settings.retries) == ("arg", "http://arg", 2)
    assert (settings.connect_timeout, settings.read_timeout) == (3, 4)
    assert BBREClient("arg", timeout=5).settings.override() == Settings.resolve(
        {"api_key": "arg", "connect_timeout": 5, "read_timeout": 5}
    )


def test_settings_replace_the_environment(monkeypatch: pytest.MonkeyPatch):
    """settings= is the whole truth, but for what else is given."""
    monkeypatch.setenv("BBRE_MODE", "adaptive")
    settings = Settings.resolve({"api_key": KEY, "base_url": "http://given"}, environ={})
    assert BBREClient(settings=settings).settings == settings
    assert BBREClient("other", settings=settings, mode="adaptive").settings.mode == "adaptive"


def test_no_key_is_told_with_both_ways_out():
    """A key, or the embedded engine."""
    with pytest.raises(errors.ApiKeyRequiredError, match=r"BBRE_API_KEY.*BBRE_BASE_URL=embedded"):
        BBREClient(base_url="http://127.0.0.1:1")


@pytest.mark.parametrize(
    "options",
    [
        {"api_key": " x"}, {"base_url": "example.org"}, {"mode": "fast"}, {"timeout": 0}, {"timeout": (1, -1)},
        {"timeout": "long"}, {"retries": -1}, {"timeout": (1, 2, 3)}, {"timeout": ()}, {"modus": "passive"},
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(options: dict[str, Any]):
    """As settings, or as Python refuses a wrong argument; never as something obscure."""
    with pytest.raises((errors.SettingsError, TypeError)):
        BBREClient(**{"api_key": KEY, **options})


@pytest.mark.parametrize(
    "layer", [{}, {"settings": Settings(api_key=KEY)}, {"api_key": KEY}], ids=["environment", "settings", "key"]
)
def test_an_unknown_option_is_named(layer: dict[str, Any]):
    """With all that there are, in whatever way the client is made."""
    with pytest.raises(errors.SettingsError, match=r"^foo: .*retries") as caught:
        BBREClient(**layer, foo=1)
    assert all(name in str(caught.value) for name in ("mode", "connect_timeout", "exit_timeout"))


def test_an_empty_key_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch):
    """It does not fall back to the environment's in silence."""
    monkeypatch.setenv("BBRE_API_KEY", KEY)
    with pytest.raises(errors.SettingsError, match=r"api_key is empty; .* Set BBRE_API_KEY"):
        BBREClient("")


def test_a_client_that_could_not_be_made_can_be_shown():
    """A report with locals shows it, where the constructor failed."""
    assert BBREClient.__new__(BBREClient).__repr__() == "<BBREClient>"


def test_a_client_shows_its_address_and_no_key(client: BBREClient, service: Scripted):
    """repr is fit for a log."""
    assert service.base_url in repr(client)
    assert KEY not in repr(client)
    assert KEY not in repr(vars(client))


def test_closing_a_client_closes_no_session(client: BBREClient, service: Scripted):
    """The context manager drops connections; sessions belong to who created them."""
    with client as same:
        assert same is client
        client.create_session()
    assert service.calls("close") == []
    assert client.session_status(SESSION).id == SESSION  # usable again


# Create.


def test_create_sends_mode_sensibility_and_timeout(client: BBREClient, service: Scripted):
    """As in the vendor's examples; arguments go over settings."""
    client.create_session()
    client.create_session(mode="adaptive", sensibility="low", timeout=2.5)
    assert [arrived.json for arrived in service.calls("create")] == [
        {"mode": "passive", "sensibility": "medium", "timeout": 300},
        {"mode": "adaptive", "sensibility": "low", "timeout": 2.5},
    ]
    assert "300.0" not in service.arrived[0].content.decode()


def test_create_gives_what_was_told_over_what_was_asked(client: BBREClient, service: Scripted):
    """The service has the last word; what it leaves out is what was asked for."""
    service.answer("create", reply({"success": True, "session": {"id": "x-1", "timeout": 60, "profile": {"a": 1}}}))
    info = client.create_session(mode="adaptive")
    assert (info.id, info.mode, info.sensibility, info.timeout, info.status) == (
        "x-1",
        "adaptive",
        "medium",
        60,
        "active",
    )
    assert info.profile == {"a": 1}


def test_create_takes_its_options_by_position(client: BBREClient, service: Scripted):
    """Mode, sensibility, timeout, in the order of the vendor's examples."""
    client.create_session("adaptive")
    client.create_session("passive", "high", 60)
    assert [(sent["mode"], sent["sensibility"], sent["timeout"]) for sent in (one.json for one in service.arrived)] == [
        ("adaptive", "medium", 300),
        ("passive", "high", 60),
    ]


@pytest.mark.parametrize(
    "options", [{"mode": "fast"}, {"sensibility": "x"}, {"timeout": 0}, {"timeout": -1}, {"timeout": "x"}]
)
def test_bad_options_of_a_session_are_refused_before_anything_is_sent(
    client: BBREClient, service: Scripted, options: dict[str, Any]
):
    """Name, value, what is allowed; and no session."""
    ((name, value),) = options.items()
    with pytest.raises(errors.SettingsError, match=f"{name} is {value!r}; allowed is"):
        client.create_session(**options)
    assert service.arrived == []


@pytest.mark.parametrize("how", PASSING)
def test_create_is_sent_once(client: BBREClient, service: Scripted, how: str):
    """Whatever becomes of it: the first may exist."""
    service.answer("create", PASSING[how])
    with pytest.raises(errors.BBREError):
        client.create_session()
    assert len(service.calls("create")) == 1


def test_a_create_that_was_never_sent_is_not_lost(service: Scripted):
    """Where nobody listens, no session can exist, and the error says so."""
    with Scripted() as gone:
        base_url = gone.base_url
    with pytest.raises(errors.ConnectionFailedError):
        BBREClient(KEY, base_url, retries=3).create_session()


def test_a_lost_answer_to_create_says_what_may_exist(client: BBREClient, service: Scripted):
    """It has its own class, the way to look, and the original as its cause."""
    lost = {CUT: errors.ConnectionLostError, PASSING["half an answer"]: errors.InvalidAnswerError,
            PASSING["a gateway's page"]: errors.InvalidAnswerError}  # fmt: skip
    for answer, cause in lost.items():
        service.answer("create", answer)
        with pytest.raises(errors.LostAnswerError, match="`bbre sessions`") as caught:
            client.create_session()
        assert isinstance(caught.value.__cause__, cause)


@pytest.mark.parametrize("endpoint", ["create", "status", "list", "request"])
def test_an_answer_that_is_whole_and_not_bbre_s_is_told_at_once(client: BBREClient, service: Scripted, endpoint: str):
    """A wrong address is not asked again: the remedy names BBRE_BASE_URL."""
    service.always(endpoint, reply({"hello": "world"}))
    with pytest.raises(errors.InvalidAnswerError, match="BBRE_BASE_URL") as caught:
        client.create_session() if endpoint == "create" else SAFE[endpoint](client)
    assert caught.value.status == 200
    assert len(service.calls(endpoint)) == 1


# What may be repeated.


@pytest.mark.parametrize("endpoint", SAFE)
@pytest.mark.parametrize("how", PASSING)
def test_what_is_safe_is_repeated(client: BBREClient, service: Scripted, endpoint: str, how: str):
    """close, status, list, and a request that the caller calls idempotent: until it works."""
    service.answer(endpoint, PASSING[how], PASSING[how])
    SAFE[endpoint](client)
    assert len(service.calls(endpoint)) == 3


@pytest.mark.parametrize("how", PASSING)
def test_a_request_is_not_repeated_unless_that_is_said_to_be_safe(client: BBREClient, service: Scripted, how: str):
    """An order must not be placed twice."""
    service.answer("request", PASSING[how])
    with pytest.raises(errors.BBREError):
        client.request(SESSION, "POST", TARGET)
    assert len(service.calls("request")) == 1


@pytest.mark.parametrize("endpoint", SAFE)
def test_repeating_ends_with_the_settings_retries(service: Scripted, endpoint: str, pauses: list[float]):
    """The number of retries, and the delays between them, are the settings'."""
    service.always(endpoint, fails("SERVICE_ERROR"))
    client = BBREClient(KEY, service.base_url, retries=2, retry_min=0.25, retry_max=0.5)
    with pytest.raises(errors.ServiceError):
        SAFE[endpoint](client)
    assert len(service.calls(endpoint)) == 3
    assert len(pauses) == 2
    assert all(0.25 <= pause <= 0.5 for pause in pauses)


def test_retry_after_is_honoured(client: BBREClient, service: Scripted, pauses: list[float]):
    """The service's own word on when to come back goes over the settings."""
    service.answer("close", fails("RATE_LIMIT_EXCEEDED", {"Retry-After": "4"}))
    assert client.close_session(SESSION).outcome is CloseOutcome.CLOSED
    assert pauses == [4.0]


# Request.


def test_a_request_carries_the_session_and_the_time_limit(service: Scripted):
    """Without a timeout of its own a request has the settings'."""
    client = BBREClient(KEY, service.base_url, request_timeout=7)
    client.request(SESSION, "get", TARGET)
    client.request(SessionInfo(SESSION), "POST", TARGET, json={"a": 1}, timeout=2)
    first, second = (arrived.json for arrived in service.calls("request"))
    assert (first["sessionId"], first["method"], first["url"], first["timeout"]) == (SESSION, "GET", TARGET, 7)
    assert (second["sessionId"], second["method"], second["timeout"], second["body"]) == (SESSION, "POST", 2, {"a": 1})


def test_a_request_waits_for_the_target_and_then_for_the_service(service: Scripted):
    """The read timeout comes on top of the target's own time, so that the service can tell of a slow target."""
    heard = threading.Event()

    def late(arrived: Arrived) -> bytes:
        heard.wait(0.4)
        return result(body="late")

    service.answer("request", late)
    client = BBREClient(KEY, service.base_url, read_timeout=0.2)
    assert client.request(SESSION, "GET", TARGET, timeout=LIMIT).text == "late"


def test_a_request_gives_a_real_response(client: BBREClient, service: Scripted):
    """With how long it took."""
    response = client.request(SESSION, "GET", TARGET)
    assert type(response) is requests.Response
    assert response.text == "hello"
    assert response.elapsed.total_seconds() > 0


@pytest.mark.parametrize("call", ["request", "session_status", "close_session"])
@pytest.mark.parametrize("session_id", ["", None, 5, object()])
def test_an_id_that_is_none_is_refused_before_anything_is_sent(
    client: BBREClient, service: Scripted, call: str, session_id: Any
):
    """As the service would, with the remedy."""
    arguments = (session_id, "GET", TARGET) if call == "request" else (session_id,)
    with pytest.raises(errors.SessionIdRequiredError, match="Pass the id"):
        getattr(client, call)(*arguments)
    assert service.arrived == []


@pytest.mark.parametrize("call", SAFE)
def test_an_error_names_its_session(client: BBREClient, service: Scripted, call: str):
    """Who reads a log finds which session it was."""
    service.always(call, fails("INVALID_API_KEY"))
    with pytest.raises(errors.InvalidApiKeyError) as caught:
        SAFE[call](client)
    assert caught.value.session_id == (None if call == "list" else SESSION)


# Close.


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (None, CloseOutcome.CLOSED),
        (fails("SESSION_CLOSED"), CloseOutcome.ALREADY_CLOSED),
        (fails("SESSION_NOT_FOUND"), CloseOutcome.NOT_FOUND),
    ],
)
def test_closed_already_closed_and_not_found_are_success(
    client: BBREClient, service: Scripted, answer: bytes | None, outcome: CloseOutcome
):
    """In each the session holds no slot."""
    if answer is not None:
        service.answer("close", answer)
    closed = client.close_session(SESSION)
    assert closed == CloseResult(SESSION, outcome)
    assert closed.success
    assert closed
    assert str(closed) == f"{SESSION}: {outcome.value}"
    assert [arrived.json for arrived in service.arrived] == [{"sessionId": SESSION}]


def test_a_deadline_bounds_a_close(service: Scripted):
    """Towards the end of a process a close does not take its usual time, however patient the settings are."""
    import time

    heard = threading.Event()
    service.always("close", held(heard))
    client = BBREClient(KEY, service.base_url)
    with pytest.raises(errors.CloseTimedOutError):
        client.close_session(SESSION, deadline=time.monotonic() + 0.1)
    heard.set()
    assert len(service.calls("close")) == 1


def test_many_are_closed_at_the_same_time(client: BBREClient, service: Scripted):
    """Ten closes are under way at once: none is answered before all have arrived."""
    all_here = threading.Barrier(10)

    def close(arrived: Arrived) -> bytes:
        all_here.wait(LIMIT)
        return reply({"success": True, "data": {"session": {"id": arrived.json["sessionId"], "status": "closed"}}})

    service.always("close", close)
    ids = [f"session_{number}" for number in range(10)]
    results = client.close_sessions(ids)
    assert results == [CloseResult(one, CloseOutcome.CLOSED) for one in ids]


def test_each_attempt_ends_and_none_raises(client: BBREClient, service: Scripted):
    """One result per id, in order, whatever becomes of it."""
    answers = {
        "good": reply({"success": True}),
        "gone": fails("SESSION_NOT_FOUND"),
        "closed": fails("SESSION_CLOSED"),
        "broken": fails("SERVICE_ERROR"),
        "page": raw(b"<html>"),
        "cut": CUT,
    }
    service.always("close", lambda arrived: answers[arrived.json["sessionId"]])
    results = client.close_sessions(["broken", "good", "", "cut", "gone", SessionInfo("closed"), "page", "good", 5])
    told = [(result.session_id, result.outcome.name, type(result.error).__name__) for result in results]
    assert told == [
        ("broken", "FAILED", "ServiceError"),
        ("good", "CLOSED", "NoneType"),
        ("", "FAILED", "SessionIdRequiredError"),
        ("cut", "FAILED", "ConnectionLostError"),
        ("gone", "NOT_FOUND", "NoneType"),
        ("closed", "ALREADY_CLOSED", "NoneType"),
        ("page", "FAILED", "InvalidAnswerError"),
        ("good", "CLOSED", "NoneType"),
        ("5", "FAILED", "SessionIdRequiredError"),
    ]
    assert [bool(result) for result in results].count(False) == 5


def test_closing_none_is_no_results(client: BBREClient, service: Scripted):
    """An empty list, and nothing sent."""
    assert client.close_sessions([]) == []
    assert client.close_sessions(iter(())) == []
    assert service.arrived == []


# List.


def pages(ids: list[str], *, total: bool = True):
    """A listing served in pages."""

    def answer(arrived: Arrived) -> bytes:
        asked = arrived.json
        part = ids[asked["offset"] : asked["offset"] + asked["limit"]]
        found = {"sessions": [{"id": one} for one in part], **({"total": len(ids)} if total else {})}
        return reply({"success": True, "data": found})

    return answer


@pytest.mark.parametrize("total", [True, False])
@pytest.mark.parametrize("count", [0, 1, 4, 5, 9, 10, 11])
def test_all_pages_are_listed(client: BBREClient, service: Scripted, count: int, total: bool):
    """Every session once, in order, with and without a total, at each size around a page's end."""
    ids = [f"session_{number}" for number in range(count)]
    service.always("list", pages(ids, total=total))
    assert [info.id for info in client.list_sessions(page_size=5)] == ids


def test_pages_are_fetched_as_they_are_asked_for(client: BBREClient, service: Scripted):
    """Who needs the newest session only fetches one page; nothing is fetched before the first is asked for."""
    service.always("list", pages([f"session_{number}" for number in range(10)]))
    found = client.list_sessions(page_size=5)
    assert service.arrived == []
    assert next(found).id == "session_0"
    assert len(service.arrived) == 1


def test_a_session_opened_meanwhile_is_not_told_twice(client: BBREClient, service: Scripted):
    """A new session shifts the pages; what was told is not told again."""
    service.answer("list", pages(["b", "c"], total=False), pages(["a", "b", "c", "d"], total=False))
    service.always("list", pages(["a", "b", "c", "d"], total=False))
    assert [info.id for info in client.list_sessions(page_size=2)] == ["b", "c", "d"]


def test_the_status_asked_for_is_sent(client: BBREClient, service: Scripted):
    """All by default."""
    list(client.list_sessions())
    list(client.list_sessions("active"))
    assert [arrived.json.get("status") for arrived in service.arrived] == [None, "active"]


def test_many_threads_share_a_client(client: BBREClient, service: Scripted, on_threads):
    """Each thread gets its own answers."""
    service.always("close", lambda arrived: fails("SESSION_NOT_FOUND"))
    outcomes = on_threads(lambda: [client.close_session(f"session_{number}").outcome for number in range(5)])
    assert outcomes == [[CloseOutcome.NOT_FOUND] * 5] * 8


@pytest.mark.parametrize("one", [SESSION, SessionInfo(SESSION)], ids=["an id", "a record"])
def test_a_single_session_is_closed_as_one(client: BBREClient, service: Scripted, one: Any):
    """A single id is not a sequence of letters: one call, one result."""
    assert client.close_sessions(one) == [CloseResult(SESSION, CloseOutcome.CLOSED)]
    assert [arrived.json["sessionId"] for arrived in service.arrived] == [SESSION]


@pytest.mark.parametrize(
    ("status", "active"), [("active", True), ("expired", False), ("closed", False), ("paused", False), (None, False)]
)
def test_a_record_is_active_by_the_service_s_word(
    client: BBREClient, service: Scripted, status: str | None, active: bool
):
    """Nothing but the status "active" is."""
    service.always("status", reply({"success": True, "data": {"session": {"id": SESSION, "status": status}}}))
    assert client.session_status(SESSION).is_active is active
