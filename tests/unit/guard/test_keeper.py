"""keeper.py, desk.py, hold.py: what the ledger is told of the sessions that this process opens, uses and closes."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from _scripted import KEY, LIMIT, Scripted, fails, reply

from pytest_bbre import BBREClient, Settings, errors, managed_session, open_session
from pytest_bbre._host import host
from pytest_bbre._tracker import tracker
from pytest_bbre.guard import owners
from pytest_bbre.guard.leases import CLOSING, FAILED, OPEN, OPENING, Lease
from pytest_bbre.guard.ledger import SqliteLedger
from pytest_bbre.guard.place import open_ledger

OPENED = reply({"success": True, "session": {"id": "session_1"}, "engine": {"instance": "e1"}})
GONE = reply({"success": True, "data": {"session": {"id": "session_1", "status": "closed"}}})


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """A folder for a ledger of the test's own."""
    return str(tmp_path / "state")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What people are told."""
    lines: list[str] = []
    monkeypatch.setattr(host, "tell", lines.append)
    return lines


@pytest.fixture
def client(service: Scripted, folder: str, told: list[str]) -> Iterator[BBREClient]:
    """A client of a scripted service, whose sessions are in the test's ledger and have no guardian."""
    options = {"state_dir": folder, "guard": False, "retries": 0, "connect_timeout": LIMIT, "read_timeout": LIMIT}
    settings = Settings.resolve({"api_key": KEY, "base_url": service.base_url, **options}, environ={})
    with BBREClient(settings=settings) as made:
        yield made
        tracker.keeper.leave()


@pytest.fixture
def ledger(folder: str) -> Iterator[SqliteLedger]:
    """The test's own look at the ledger."""
    opened = open_ledger(folder, lambda line: None)
    yield opened
    opened.close()


def only(ledger: SqliteLedger) -> Lease:
    (lease,) = ledger.leases()
    return lease


def test_a_lease_is_written_before_the_create_leaves(client: BBREClient, service: Scripted, ledger: SqliteLedger):
    """When the service hears of the session, the ledger knows of it."""
    seen: list[Lease] = []

    def look(arrived: Any) -> Any:
        seen.append(only(ledger))
        return OPENED

    service.answer("create", look)
    service.answer("close", GONE)
    with managed_session(client=client, mode="adaptive", timeout=77):
        pass
    (lease,) = seen
    assert (lease.state, lease.session_id, lease.wanted.owner) == (OPENING, None, str(owners.here()))
    assert (lease.wanted.mode, lease.wanted.timeout, lease.wanted.patience) == ("adaptive", 77.0, 2 * LIMIT)


def test_an_open_session_is_a_lease_with_its_id(client: BBREClient, service: Scripted, ledger: SqliteLedger):
    """Its id, the engine that runs it, and the test that opened it; after the close nothing is left of it."""
    service.answer("create", OPENED)
    service.answer("close", GONE)
    with managed_session(client=client):
        lease = only(ledger)
        assert (lease.state, lease.session_id, lease.engine) == (OPEN, "session_1", "e1")
        assert "test_an_open_session_is_a_lease_with_its_id" in lease.wanted.place
        assert lease.wanted.scoped
    assert ledger.leases() == []


def test_a_lease_is_closing_while_the_close_is_under_way(client: BBREClient, service: Scripted, ledger: SqliteLedger):
    """So whoever looks knows that its owner is at it."""
    states: list[str] = []

    def look(arrived: Any) -> Any:
        states.append(only(ledger).state)
        return GONE

    service.answer("create", OPENED)
    service.answer("close", look)
    open_session(client=client).close()
    assert states == [CLOSING]


@pytest.mark.parametrize("code", ["SESSION_CLOSED", "SESSION_NOT_FOUND"])
def test_what_holds_no_slot_ends_the_lease(client: BBREClient, service: Scripted, ledger: SqliteLedger, code: str):
    """Closed before, or not known to the service: both are an end."""
    service.answer("create", OPENED)
    service.answer("close", fails(code))
    open_session(client=client).close()
    assert ledger.leases() == []


def test_a_failed_close_keeps_the_lease_and_its_reason(client: BBREClient, service: Scripted, ledger: SqliteLedger):
    """Somebody can try again: here its owner does."""
    service.answer("create", OPENED)
    service.answer("close", fails("SERVICE_ERROR"))
    service.answer("close", GONE)
    session = open_session(client=client)
    with pytest.raises(errors.ServiceError):
        session.close()
    lease = only(ledger)
    assert (lease.state, lease.session_id) == (FAILED, "session_1")
    assert "SERVICE_ERROR" in str(lease.reason)
    session.close()
    assert ledger.leases() == []


@pytest.mark.parametrize("code", ["INVALID_API_KEY", "SERVICE_ERROR", "RATE_LIMIT_EXCEEDED"])
def test_a_refused_create_leaves_no_lease(client: BBREClient, service: Scripted, ledger: SqliteLedger, code: str):
    """There is no session, and no slot is taken."""
    service.answer("create", fails(code))
    with pytest.raises(errors.BBREError, match=code):
        open_session(client=client)
    assert ledger.leases() == []


def test_a_used_session_is_noted_as_used(client: BBREClient, service: Scripted, ledger: SqliteLedger, monkeypatch: Any):
    """Its idle time, as others see it, begins with the last request."""
    monkeypatch.setattr("pytest_bbre.guard.hold.NOTED_EACH", 0.0)
    service.answer("create", OPENED)
    service.answer("close", GONE)
    result = {"statusCode": 200, "body": "", "headers": {}}
    service.answer("request", reply({"success": True, "data": {"task": {"result": result}}}))
    with managed_session(client=client) as session:
        before = only(ledger)
        session.get("http://example.org/")
        after = only(ledger)
    assert after.used.steady > before.used.steady
    assert after.opened == before.opened


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="looks at descriptors by /proc")
def test_a_session_that_closes_after_the_end_leaves_no_ledger_open(
    client: BBREClient, service: Scripted, ledger: SqliteLedger
):
    """A thread may be late: its lease ends all the same, and what it opened for that is closed again."""
    service.answer("create", OPENED)
    service.answer("close", GONE)
    with managed_session(client=client):
        tracker.keeper.leave()
        assert only(ledger).state == OPEN
    assert ledger.leases() == []
    ledger.close()
    assert not [path for path in open_files() if path.startswith(ledger.path)]


def open_files() -> Iterator[str]:
    """The paths of this process's descriptors."""
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            yield os.readlink(f"/proc/self/fd/{number}")


def test_the_key_is_not_in_the_folder(client: BBREClient, service: Scripted, folder: str):
    """No file of the ledger holds it, while a session is open and after it."""
    service.answer("create", OPENED)
    service.answer("close", GONE)

    def search() -> list[str]:
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        assert any(path.name == "ledger.db" for path in files)
        return [path.name for path in files if KEY.encode() in path.read_bytes()]

    with managed_session(client=client):
        assert search() == []
    assert search() == []


def test_without_a_ledger_sessions_are_opened_all_the_same(service: Scripted, tmp_path: Path, told: list[str]):
    """It is said once, with the remedy, and nothing else changes."""
    (tmp_path / "file").write_text("")
    options = {"state_dir": str(tmp_path / "file" / "state"), "guard": False}
    settings = Settings.resolve({"api_key": KEY, "base_url": service.base_url, **options}, environ={})
    for _ in range(2):
        service.answer("create", OPENED)
        service.answer("close", GONE)
        with managed_session(settings=settings) as session:
            assert session.id == "session_1"
    (line,) = told
    assert "BBRE_STATE_DIR" in line


def test_a_ledger_that_goes_away_is_written_anew(
    client: BBREClient, service: Scripted, ledger: SqliteLedger, folder: str
):
    """What this process holds stands in the new one, before anything else is done."""
    service.answer("create", OPENED)
    service.answer("create", reply({"success": True, "session": {"id": "session_2"}}))
    service.always("close", GONE)
    first = open_session(client=client)
    key = only(ledger).key
    for path in Path(folder).glob("ledger.db*"):
        path.unlink()
    second = open_session(client=client)
    assert {lease.session_id for lease in ledger.leases()} == {first.id, second.id}
    assert key in {lease.key for lease in ledger.leases()}
    first.close()
    second.close()
    assert ledger.leases() == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_s_child_is_another_owner(client: BBREClient, service: Scripted, ledger: SqliteLedger):
    """Its own sessions are its own; its parent's lease is left alone."""
    service.always("create", OPENED)
    service.always("close", GONE)
    session = open_session(client=client)
    pid = os.fork()
    if pid == 0:
        try:
            with managed_session(client=client):
                mine = [one for one in ledger.leases() if one.wanted.owner == str(owners.here())]
            os._exit(0 if len(mine) == 1 and len(ledger.leases()) == 1 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert only(ledger).wanted.owner == str(owners.here())
    session.close()


def test_an_evicted_session_says_for_whom(client: BBREClient, service: Scripted, ledger: SqliteLedger):
    """Its owner's next request is not sent, and names who has it now, and when."""
    service.answer("create", OPENED)
    service.answer("close", fails("SESSION_CLOSED"))
    session = open_session(client=client, evictable=True)
    lease = only(ledger)
    now = lease.used._replace(steady=lease.used.steady + 60)
    assert ledger.evict(lease.wanted.account, "pytest, process 12", str(owners.here()), 30.0, now) is not None
    ledger.end(lease.key)
    with pytest.raises(errors.SessionEvictedError, match=r"closed for pytest, process 12 at \d\d:\d\d"):
        session.get("http://example.org/")
    assert service.calls("request") == []
    assert not session.is_active
    session.close()


def test_waiting_for_a_slot_ends_when_nobody_wants_it_any_more(client: BBREClient, service: Scripted, told: list[str]):
    """Closing everything ends the waiting at once, and the place in the queue is given up."""
    service.always("create", OPENED)
    service.always("close", GONE)
    settings = client.settings.override(max_sessions=1)
    failed: list[BaseException] = []

    def wait() -> None:
        with pytest.raises(errors.ShuttingDownError) as caught:
            open_session(settings=settings)
        failed.append(caught.value)

    open_session(settings=settings)
    waiting = threading.Thread(target=wait)
    waiting.start()
    while len(tracker.held()) < 2:
        waiting.join(0.01)
    tracker.close_all(LIMIT)
    waiting.join(LIMIT)
    assert len(failed) == 1
    assert tracker.held() == []
