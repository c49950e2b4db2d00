"""_tracker.py: every session of this process, from the intent to open it until it is closed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from _scripted import CUT, LIMIT, Arrived, Scripted, fails, reply

from pytest_bbre import BBREClient, BBRESession, SessionState, Settings, errors
from pytest_bbre._tracker import Tracker

KEY = "key"


@pytest.fixture
def tracker() -> Any:
    """A tracker of the test's own."""
    made = Tracker()
    yield made
    made._workers.dismiss()


@pytest.fixture
def numbered(service: Scripted) -> Scripted:
    """A service that gives each session an id of its own."""
    numbers = iter(range(1000))
    service.always("create", lambda arrived: reply({"success": True, "session": {"id": f"session_{next(numbers)}"}}))
    return service


def start(tracker: Tracker, client: BBREClient) -> BBRESession:
    session = tracker.intend()
    tracker.start(session, lambda: client, {})
    return session


def opened(tracker: Tracker, client: BBREClient) -> BBRESession:
    return start(tracker, client).opening.result(LIMIT)


def hold(service: Scripted, endpoint: str, answer: Any) -> threading.Event:
    """The endpoint's next answer comes after the event."""
    release = threading.Event()
    service.answer(endpoint, lambda arrived: answer if release.wait(LIMIT) else CUT)
    return release


def test_an_intent_is_nothing_yet(tracker: Tracker, service: Scripted):
    """Nothing is sent, kept or started before the session is asked for."""
    session = tracker.intend()
    assert session.state is SessionState.OPENING
    assert tracker.is_idle()
    assert service.arrived == []


def test_a_session_is_held_before_the_create_is_sent(tracker: Tracker, client: BBREClient, numbered: Scripted):
    """There is no moment at which a session exists that the tracker does not know of."""
    idle: list[bool] = []
    numbered.answer("create", lambda arrived: (idle.append(tracker.is_idle()), reply({"session": {"id": "a"}}))[1])
    opened(tracker, client)
    assert idle == [False]


def test_open_sessions_are_told_in_the_order_of_their_opening(tracker: Tracker, client: BBREClient, numbered: Scripted):
    """Those that are being opened, or are closed, are not among them."""
    first, second, third = (opened(tracker, client) for _ in range(3))
    second.close()
    release = hold(numbered, "create", fails("SERVICE_ERROR"))
    last = start(tracker, client)
    assert tracker.sessions() == [first, third]
    release.set()
    last.opening.exception(LIMIT)
    assert (tracker.opened, tracker.closed) == (3, 1)


def test_a_create_that_failed_leaves_nothing(tracker: Tracker, client: BBREClient, service: Scripted):
    """What never came to be is not held."""
    service.answer("create", fails("INVALID_API_KEY"))
    assert isinstance(start(tracker, client).opening.exception(LIMIT), errors.InvalidApiKeyError)
    assert tracker.is_idle()
    assert (tracker.opened, tracker.closed) == (0, 0)


def test_a_client_that_can_not_be_made_leaves_nothing(tracker: Tracker):
    """No key: told by the opening."""
    session = tracker.intend()
    tracker.start(session, lambda: tracker.client(Settings()), {})
    assert isinstance(session.opening.exception(LIMIT), errors.ApiKeyRequiredError)
    assert tracker.is_idle()


def test_the_limit_says_how_many_sessions_are_held_here(tracker: Tracker, client: BBREClient, numbered: Scripted):
    """Only open ones count: those can be freed."""
    for _ in range(3):
        opened(tracker, client)
    opened(tracker, client).close()
    numbered.answer("create", fails("SESSION_LIMIT_REACHED"))
    error = start(tracker, client).opening.exception(LIMIT)
    assert isinstance(error, errors.SessionLimitReachedError)
    assert error.held == 3
    assert "This process holds 3" in str(error)


def test_an_abandoned_session_is_closed_as_soon_as_it_is_open(tracker: Tracker, client: BBREClient, numbered: Scripted):
    """Nobody waits for its id any more; the worker that receives it closes it."""
    release = hold(numbered, "create", reply({"session": {"id": "late"}}))
    session = start(tracker, client)
    numbered.wait_for("create")
    tracker.abandon(session)
    release.set()
    session.opening.result(LIMIT)
    assert session.state is SessionState.CLOSED
    assert [arrived.json for arrived in numbered.calls("close")] == [{"sessionId": "late"}]
    assert tracker.is_idle()


def test_a_session_abandoned_after_it_opened_is_closed(tracker: Tracker, client: BBREClient, numbered: Scripted):
    """The caller was interrupted between its opening and its use."""
    session = opened(tracker, client)
    tracker.abandon(session)
    numbered.wait_for("close")
    tracker.close_all(LIMIT)
    assert tracker.is_idle()
    assert len(numbered.calls("close")) == 1


def test_abandoning_what_was_never_asked_for_is_nothing(tracker: Tracker):
    """An interruption before the create."""
    tracker.abandon(tracker.intend())
    assert tracker.is_idle()


def test_closing_all_is_at_the_same_time_last_opened_first(tracker: Tracker, client: BBREClient, numbered: Scripted):
    """None is answered before all have arrived; the results stand in the order of closing."""
    sessions = [opened(tracker, client) for _ in range(10)]
    all_here = threading.Barrier(10)

    def close(arrived: Arrived) -> bytes:
        all_here.wait(LIMIT)
        return reply({"success": True})

    numbered.always("close", close)
    results = tracker.close_all(LIMIT)
    assert [result.session_id for result in results] == [session.id for session in reversed(sessions)]
    assert all(result.success for result in results)
    assert tracker.is_idle()
    assert (tracker.opened, tracker.closed) == (10, 10)


def test_closing_all_raises_nothing_and_keeps_what_failed(tracker: Tracker, client: BBREClient, numbered: Scripted):
    """Every attempt ends; a later one closes the rest."""
    first, second, third = (opened(tracker, client) for _ in range(3))
    numbered.always(
        "close",
        lambda arrived: fails("INVALID_API_KEY") if arrived.json["sessionId"] == second.id else fails("SESSION_CLOSED"),
    )
    results = tracker.close_all()
    assert [(result.session_id, result.success) for result in results] == [
        (third.id, True),
        (second.id, False),
        (first.id, True),
    ]
    assert isinstance(results[1].error, errors.InvalidApiKeyError)
    assert tracker.sessions() == [second]
    numbered.always("close", fails("SESSION_NOT_FOUND"))
    assert [result.session_id for result in tracker.close_all()] == [second.id]
    assert tracker.is_idle()


def test_closing_all_waits_for_what_is_being_opened(tracker: Tracker, client: BBREClient, numbered: Scripted):
    """A session that is on its way is closed when it arrives."""
    release = hold(numbered, "create", reply({"session": {"id": "late"}}))
    start(tracker, client)
    numbered.wait_for("create")
    threading.Timer(0.05, release.set).start()
    (result,) = tracker.close_all(LIMIT)
    assert (result.session_id, result.success) == ("late", True)
    assert len(numbered.calls("close")) == 1
    assert tracker.is_idle()


def test_what_never_came_to_be_is_no_result(tracker: Tracker, client: BBREClient, numbered: Scripted):
    """A create that the service refuses meanwhile needs no closing."""
    release = hold(numbered, "create", fails("SESSION_LIMIT_REACHED"))
    start(tracker, client)
    numbered.wait_for("create")
    threading.Timer(0.05, release.set).start()
    assert tracker.close_all(LIMIT) == []


def test_a_lost_answer_is_a_result_that_failed(tracker: Tracker, client: BBREClient, numbered: Scripted):
    """A session may exist whose id nobody knows: that is told."""
    release = hold(numbered, "create", CUT)
    start(tracker, client)
    numbered.wait_for("create")
    threading.Timer(0.05, release.set).start()
    (result,) = tracker.close_all(LIMIT)
    assert not result.success
    assert isinstance(result.error, errors.LostAnswerError)
    assert result.session_id is None
    assert "a session whose id is not known: failed" in str(result)


def test_the_time_limit_ends_the_waiting(tracker: Tracker, client: BBREClient, numbered: Scripted):
    """What is still under way is told as failed, and stays tracked."""
    session = opened(tracker, client)
    release = hold(numbered, "close", CUT)
    create = hold(numbered, "create", CUT)
    start(tracker, client)
    numbered.wait_for("create", 2)
    late, stuck = tracker.close_all(0.1)
    assert (stuck.session_id, stuck.success) == (session.id, False)
    assert isinstance(stuck.error, errors.CloseTimedOutError)
    assert "BBRE_EXIT_TIMEOUT" in str(stuck.error)
    assert late.session_id is None
    assert not tracker.is_idle()
    release.set()
    create.set()


def test_nothing_to_close_is_no_results(tracker: Tracker):
    """And takes no thread."""
    assert tracker.close_all() == []
    assert tracker._workers._threads == 0


def test_an_ending_process_opens_no_session(tracker: Tracker, client: BBREClient, service: Scripted):
    """The error says why, and nothing is sent."""
    tracker.ending = "the process got SIGTERM"
    error = start(tracker, client).opening.exception(LIMIT)
    assert isinstance(error, errors.ShuttingDownError)
    assert "SIGTERM" in str(error)
    assert service.arrived == []


def test_a_fork_s_child_forgets(tracker: Tracker, client: BBREClient, numbered: Scripted):
    """What the parent holds is neither told nor closed, and the child can open its own."""
    opened(tracker, client)
    tracker.forget_all()
    assert tracker.is_idle()
    assert tracker.close_all() == []
    assert (tracker.opened, tracker.closed) == (0, 0)
    own = opened(tracker, client)
    assert [result.session_id for result in tracker.close_all()] == [own.id]
    assert len(numbered.calls("close")) == 1


def test_sessions_of_the_same_settings_share_a_client(tracker: Tracker):
    """So that connections are shared; other settings have another."""
    one = Settings.resolve({"api_key": KEY, "base_url": "http://127.0.0.1:1"}, environ={})
    assert tracker.client(one) is tracker.client(one.override())
    assert tracker.client(one) is not tracker.client(one.override(retries=0))
    assert tracker.client(one) is not tracker.client(one.override(api_key="other"))


def test_one_client_is_made_however_many_ask(tracker: Tracker, on_threads: Callable[..., list[Any]]):
    """Threads that come at the same time get the same."""
    settings = Settings.resolve({"api_key": KEY, "base_url": "http://127.0.0.1:1"}, environ={})
    assert len(set(on_threads(lambda: tracker.client(settings)))) == 1


def test_the_exit_s_time_limit_is_the_longest_of_the_sessions(tracker: Tracker, client: BBREClient):
    """10 s where no session says otherwise; one that is closed has no say."""
    assert tracker.exit_timeout == 10.0
    sessions = []
    for seconds in (2.0, 5.0, 3.0):
        sessions.append(tracker.intend())
        tracker.start(sessions[-1], lambda: client, {}, seconds)
        sessions[-1].opening.result(LIMIT)
    assert tracker.exit_timeout == 5
    sessions[1].close()
    assert tracker.exit_timeout == 3


def test_threads_open_and_close_at_the_same_time(
    tracker: Tracker, client: BBREClient, numbered: Scripted, on_threads: Callable[..., list[Any]]
):
    """Nothing is lost or counted twice."""

    def work() -> int:
        for _ in range(10):
            opened(tracker, client).close()
        return 1

    assert on_threads(work) == [1] * 8
    assert tracker.is_idle()
    assert (tracker.opened, tracker.closed) == (80, 80)
    assert len({arrived.json["sessionId"] for arrived in numbered.calls("close")}) == 80
