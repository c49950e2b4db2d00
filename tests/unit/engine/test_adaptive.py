"""Promises of adaptive sessions: a real Chromium renders pages, and nothing gets from one session into another."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
import requests
from _chromium import needs_chromium

from pytest_bbre import BBREClient, SessionInfo, Settings, _wire, managed_session
from pytest_bbre.engine import Engine
from pytest_bbre.errors import (
    InvalidRequestError,
    ServiceError,
    SessionClosedError,
    TargetTimeoutError,
    UnsupportedOptionError,
)

pytestmark = needs_chromium

LIMIT = 30.0  # seconds until a test gives up


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """One for all of this file, in a process of its own, whose browsers can be told from others."""
    with Engine() as running:
        yield running


@pytest.fixture
def bbre(engine: Engine) -> Iterator[BBREClient]:
    """A client that repeats nothing."""
    with BBREClient(str(engine.api_key), engine.base_url, retries=0, read_timeout=LIMIT) as client:
        yield client
        client.close_sessions(engine.sessions())


@pytest.fixture
def session(bbre: BBREClient) -> SessionInfo:
    """An adaptive session."""
    return bbre.create_session("adaptive")


Run = Callable[..., requests.Response]


@pytest.fixture
def run(bbre: BBREClient, target: Any) -> Run:
    """Loads a page with a script in a session."""

    def load(session: SessionInfo, script: str, **options: Any) -> requests.Response:
        return bbre.request(session, "GET", target.url("/page"), params={"script": script}, **options)

    return load


def shown(answer: requests.Response) -> Any:
    """What the page's script has shown."""
    found = re.search(r'<div id="out" class="done">(.*?)</div>', answer.text)
    assert found is not None, answer.text
    return json.loads(found[1])


def until(done: Callable[[], object]) -> None:
    give_up = time.monotonic() + LIMIT
    while not done():
        assert time.monotonic() < give_up
        time.sleep(0.01)


# Pages.


def test_a_page_is_told_as_it_is_after_its_scripts_ran(run: Run, session: SessionInfo) -> None:
    """Its own script, and what that fetched; with the title, and the errors of its console."""
    script = """
        console.error('one', 2);
        setTimeout(() => { throw new Error('three'); });
        fetch('/echo').then(r => r.json()).then(d => { document.title = 'Grüße'; show(d.method); });
    """
    answer = run(session, script)
    assert (answer.status_code, shown(answer)) == (200, "GET")
    assert "<title>Grüße</title>" in answer.text
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    page = answer.bbre_page
    assert page.title == "Grüße"
    assert page.errors[0] == "one 2"
    assert "three" in page.errors[1]
    assert page.screenshot is None


def test_a_page_of_an_error_is_rendered_too(bbre: BBREClient, run: Run, session: SessionInfo) -> None:
    """Its status is the target's."""
    answer = run(session, "show(1)&status=404".partition("&")[0])
    assert answer.status_code == 200
    answer = bbre.request(session, "GET", answer.url + "&status=404")
    assert (answer.status_code, shown(answer)) == (404, 1)


def test_it_says_honestly_what_it_is(bbre: BBREClient, run: Run, session: SessionInfo, target: Any) -> None:
    """The same to the site's server, by each way, to its scripts, and in the profile: a headless Chromium."""
    profile = bbre.session_status(session).profile
    assert profile["browser"].startswith("Chromium ")
    assert "Headless" in profile["userAgent"]
    asked = dict(bbre.request(session, "GET", target.url("/echo")).json()["headers"])
    answer = run(session, "fetch('/echo').then(r => r.json()).then(d => show([navigator.userAgent, d.headers]))")
    own, headers = shown(answer)
    assert own == dict(headers)["User-Agent"] == asked["User-Agent"] == profile["userAgent"]
    assert dict(headers)["Accept-Language"] == asked["Accept-Language"] == profile["locale"]
    assert shown(run(session, "show(navigator.webdriver)")) is True


@pytest.mark.parametrize(
    ("sensibility", "size"), [("low", [800, 600]), ("medium", [1280, 720]), ("high", [1920, 1080])]
)
def test_the_profile_is_what_scripts_see(bbre: BBREClient, run: Run, sensibility: str, size: list[int]) -> None:
    """Viewport, locale and time zone."""
    session = bbre.create_session("adaptive", sensibility=sensibility)
    zone = "Intl.DateTimeFormat().resolvedOptions().timeZone"
    found = shown(run(session, f"show([innerWidth, innerHeight, navigator.language, {zone}])"))
    assert found == [*size, session.profile["locale"], session.profile["timezone"]]
    assert session.profile["viewport"] == {"width": size[0], "height": size[1]}


def test_cookies_go_both_ways(bbre: BBREClient, run: Run, session: SessionInfo, target: Any) -> None:
    """Those of answers to scripts, unless they are HttpOnly; those of scripts to requests; and those that go."""
    headers = ["seen=1; Path=/", "hidden=2; Path=/; HttpOnly", "old=3; Path=/"]
    bbre.request(session, "GET", target.url("/set-cookie"), params={"h": headers})
    script = "document.cookie = 'own=4; path=/'; document.cookie = 'old=; path=/; max-age=0'; show(document.cookie)"
    assert shown(run(session, f"const before = document.cookie; {script.replace('show(', 'show(before + 0 + ')}")) == (
        "seen=1; old=30seen=1; own=4"
    )
    sent = bbre.request(session, "GET", target.url("/cookies")).json()["cookie"]
    assert sorted(sent.split("; ")) == ["hidden=2", "own=4", "seen=1"]


def test_a_page_that_goes_elsewhere_is_followed(run: Run, session: SessionInfo, target: Any) -> None:
    """A script's navigation, as a person would see it: the address is the last one."""
    answer = run(session, f"location.href = '{target.url('/html')}'", wait_for="text=Grüße")
    assert answer.url == target.url("/html")
    assert "<h1>Grüße</h1>" in answer.text


def test_the_same_page_again_is_loaded_again(bbre: BBREClient, run: Run, session: SessionInfo) -> None:
    """With another fragment too, which a browser would only scroll to."""
    script = "fetch('/echo').then(() => show(location.hash))"
    first = run(session, script)
    again = bbre.request(session, "GET", first.url + "#there")
    assert (shown(first), shown(again)) == ("", "#there")


def test_a_page_that_never_rests_gets_nothing_of_the_next_one(run: Run, session: SessionInfo) -> None:
    """What it asks for while it is being left is its own; the next document is the one that was fetched."""
    restless = "const ask = () => fetch('/echo').then(ask); for (let n = 0; n < 20; n++) ask(); show(0)"
    for number in range(5):
        run(session, restless, wait_for="#out.done")
        answer = run(session, "show(document.body.dataset.own)", headers={"X-Own": str(number)}, wait_for="#out.done")
        assert shown(answer) == str(number)


def test_what_is_no_page_is_told_as_it_came(bbre: BBREClient, session: SessionInfo, target: Any) -> None:
    """Bytes, JSON, and every method but GET."""
    assert (
        bbre.request(session, "GET", target.url("/bytes/300")).content == requests.get(target.url("/bytes/300")).content
    )
    answer = bbre.request(session, "POST", target.url("/page?script=show(1)"))
    assert 'class="done"' not in answer.text.partition("<script>")[0]
    assert answer.bbre_page is None


# What is waited for.


def test_waiting_for_a_selector(run: Run, session: SessionInfo) -> None:
    """Longer than the network is quiet."""
    assert shown(run(session, "setTimeout(() => show('late'), 1000)", wait_for="#out.done")) == "late"


def test_waiting_for_a_text(run: Run, session: SessionInfo) -> None:
    """As people see it."""
    assert shown(run(session, "setTimeout(() => show('late'), 500)", wait_for="text=late")) == "late"


def test_waiting_for_a_quiet_network(run: Run, session: SessionInfo) -> None:
    """For longer than the pause between two requests of the page."""
    script = "const ask = n => n ? fetch('/echo').then(() => setTimeout(ask, 200, n - 1)) : show('last'); ask(3)"
    assert shown(run(session, script, wait_for="networkidle")) == "last"


def test_what_never_comes_is_a_time_out(run: Run, session: SessionInfo) -> None:
    """It names what did not come, and the session is well."""
    with pytest.raises(TargetTimeoutError, match="'#never' did not appear"):
        run(session, "show(1)", wait_for="#never", timeout=1.0)
    assert shown(run(session, "show(2)")) == 2


def test_a_page_that_never_rests_is_told_as_it_is(run: Run, session: SessionInfo) -> None:
    """Its requests go on and on: there is a limit."""
    assert shown(run(session, "show(1); const ask = () => fetch('/echo').then(ask); ask()")) == 1


def test_a_screenshot_is_a_picture_of_the_page(run: Run, session: SessionInfo) -> None:
    """As PNG, of the size that the profile has."""
    picture = run(session, "show(1)", screenshot=True).bbre_page.screenshot
    assert picture.startswith(b"\x89PNG\r\n")
    size = session.profile["viewport"]
    assert (int.from_bytes(picture[16:20], "big"), int.from_bytes(picture[20:24], "big")) == (
        size["width"],
        size["height"],
    )


@pytest.mark.parametrize("option", [{"wait_for": "#a"}, {"screenshot": True}])
def test_extensions_are_refused_where_there_is_no_page(bbre: BBREClient, target: Any, option: dict[str, Any]) -> None:
    """By the engine in a passive session; by the client before anything is sent, where it may be the service."""
    passive = bbre.create_session("passive")
    with pytest.raises(InvalidRequestError, match="this session is passive"):
        bbre.request(passive, "GET", target.url("/html"), **option)
    calls = bbre.session_status(passive).request_count
    with pytest.raises(UnsupportedOptionError, match=f"{next(iter(option))} is an extension of the embedded engine"):
        bbre.request(passive.id, "GET", target.url("/html"), **option)
    assert bbre.session_status(passive).request_count == calls == 0


# Nothing leaks.

WRITE = """
document.cookie = 'a=1; path=/'; localStorage.a = '1';
const asked = new XMLHttpRequest(); asked.open('GET', '/basic-auth/u/p', false, 'u', 'p'); asked.send();
const db = indexedDB.open('a', 1);
db.onsuccess = async () => {
    await (await caches.open('a')).put('/x', new Response('1'));
    await navigator.serviceWorker.register('/sw.js');
    await navigator.serviceWorker.ready;
    show(await (await fetch('/cached')).json());
};
"""
READ = """
(async () => show([
    document.cookie, localStorage.a ?? null, (await indexedDB.databases()).length, (await caches.keys()).length,
    (await navigator.serviceWorker.getRegistrations()).length, (await fetch('/basic-auth/u/p')).status,
    await (await fetch('/cached')).json(),
]))()
"""


def test_nothing_gets_from_one_session_into_another(bbre: BBREClient, run: Run) -> None:
    """Cookies, localStorage, IndexedDB, caches, service workers, credentials: kept in a session, and by it alone."""
    one, other = bbre.create_session("adaptive"), bbre.create_session("adaptive")
    number = shown(run(one, WRITE, wait_for="#out.done"))
    assert shown(run(one, READ, wait_for="#out.done")) == ["a=1", "1", 1, 1, 1, 200, number]
    *kept, asked = shown(run(other, READ, wait_for="#out.done"))
    assert kept == ["", None, 0, 0, 0, 401]
    assert asked > number
    bbre.close_session(one)
    *kept, _ = shown(run(bbre.create_session("adaptive"), READ, wait_for="#out.done"))
    assert kept == ["", None, 0, 0, 0, 401]


# Its processes.


def browsers(engine: Engine, kind: str | None = None) -> list[psutil.Process]:
    """Chromium's processes below the engine: all, or those of one kind ("renderer"); "" is the first one."""
    found = []
    for one in psutil.Process(engine.pid).children(recursive=True):
        try:
            types = [word.partition("=")[2] for word in one.cmdline() if word.startswith("--type=")]
            if any("chrom" in word for word in one.cmdline()[:1]) and kind in (None, *(types or [""])):
                found.append(one)
        except psutil.Error:
            continue
    return found


def in_flight(run: Run, session: SessionInfo, target: Any) -> tuple[threading.Thread, list[BaseException]]:
    """A request whose page waits for something that takes long; returns when it does."""
    failed: list[BaseException] = []
    before = requests.get(target.url("/waiting/20.5"), timeout=LIMIT).json()

    def ask() -> None:
        try:
            run(session, "fetch('/slow/20.5')", wait_for="#never")
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    until(lambda: requests.get(target.url("/waiting/20.5"), timeout=LIMIT).json() > before)
    return thread, failed


def test_a_crashed_page_fails_its_request_alone(run: Run, bbre: BBREClient, engine: Engine, target: Any) -> None:
    """The session goes on with a new page, and its cookies."""
    session = bbre.create_session("adaptive")
    run(session, "document.cookie = 'a=1; path=/'")
    thread, failed = in_flight(run, session, target)
    for renderer in browsers(engine, "renderer"):
        renderer.kill()
    thread.join(LIMIT)
    assert isinstance(failed[0], ServiceError)
    assert "crashed" in str(failed[0])
    assert shown(run(session, "show(document.cookie)")) == "a=1"


def test_a_page_that_crashed_while_nobody_looked_is_replaced(
    run: Run, bbre: BBREClient, session: SessionInfo, engine: Engine
) -> None:
    """The next request gets a new page, and knows nothing of it."""
    run(session, "document.cookie = 'a=1; path=/'")
    gone = browsers(engine, "renderer")
    for renderer in gone:
        renderer.kill()
    psutil.wait_procs(gone, timeout=LIMIT)
    assert shown(run(session, "show(document.cookie)")) == "a=1"
    assert shown(run(session, "show(document.cookie)")) == "a=1"


def test_a_killed_browser_ends_its_sessions_and_is_replaced(
    run: Run, bbre: BBREClient, engine: Engine, target: Any
) -> None:
    """The request in flight says so; its sessions hold no slot any more; the next one gets a new browser."""
    session, passive = bbre.create_session("adaptive"), bbre.create_session("passive")
    run(session, "show(1)")
    thread, failed = in_flight(run, session, target)
    (first,) = browsers(engine, "")
    first.kill()
    thread.join(LIMIT)
    assert isinstance(failed[0], ServiceError | SessionClosedError)
    until(lambda: [one.id for one in engine.sessions()] == [passive.id])
    assert bbre.session_status(session).status == "closed"
    with pytest.raises(SessionClosedError):
        run(session, "show(1)")
    assert shown(run(bbre.create_session("adaptive"), "show(2)")) == 2
    (second,) = browsers(engine, "")
    assert second.pid != first.pid


def test_closing_destroys_the_context(bbre: BBREClient, run: Run, engine: Engine) -> None:
    """Its page's process has gone when the close is answered, or soon after."""
    before = len(browsers(engine, "renderer"))
    made = [bbre.create_session("adaptive") for _ in range(3)]
    for one in made:
        run(one, "show(1)")
    assert len(browsers(engine, "renderer")) > before
    bbre.close_sessions(made)
    until(lambda: len(browsers(engine, "renderer")) <= max(before, 1))


@pytest.mark.parametrize("how", ["stop", "SIGTERM", "SIGKILL"])
def test_no_browser_outlives_its_engine(target: Any, how: str) -> None:
    """Whatever way the engine ends."""
    with Engine() as engine, BBREClient(str(engine.api_key), engine.base_url, retries=0) as bbre:
        session = bbre.create_session("adaptive")
        bbre.request(session, "GET", target.url("/html"))
        below = psutil.Process(engine.pid).children(recursive=True)
        assert len(browsers(engine)) > 1
        if how == "stop":
            engine.stop()
        else:
            os.kill(engine.pid, getattr(signal, how))
        _, alive = psutil.wait_procs(below, timeout=LIMIT)
        assert alive == []


def test_the_engine_does_not_load_a_browser_before_it_is_asked_for_one(target: Any) -> None:
    """A passive session starts no process."""
    with Engine() as engine, BBREClient(str(engine.api_key), engine.base_url, retries=0) as bbre:
        bbre.request(bbre.create_session("passive"), "GET", target.url("/html"))
        assert psutil.Process(engine.pid).children(recursive=True) == []


def test_a_page_travels_whole() -> None:
    """What the engine writes is what the client reads."""
    page = _wire.RenderedPage("a title", ["an error"], b"\x89PNG")
    assert _wire.RenderedPage.from_json(page.to_json()) == page
    assert _wire.RenderedPage.from_json(None) is None


def test_a_handle_keeps_the_last_picture(engine: Engine, target: Any) -> None:
    """For a report, after a test has failed; a request without one leaves it as it is."""
    settings = Settings.resolve(environ={**engine.environ(), "BBRE_GUARD": "0"})
    with managed_session(mode="adaptive", settings=settings) as session:
        assert session.last_screenshot is None
        picture = session.get(target.url("/html"), screenshot=True).bbre_page.screenshot
        session.get(target.url("/html"))
        assert session.last_screenshot == picture
        assert picture.startswith(b"\x89PNG")
