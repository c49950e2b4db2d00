"""Knows the two things the guard asks of the service: close this session, and which sessions are active?
Must not know leases, nor why a session is to be closed. Light: every guardian loads it.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from .. import _wire
from ..errors import BBREError, InvalidAnswerError
from .post import Answer, Post, UnreachedError

CLOSED: Final = "closed"  # by this very call
ENDED: Final = "ended"  # closed before, expired, or not known to the service: it holds no slot
GONE: Final = "gone"  # with the embedded engine that ran it
REFUSED: Final = "refused"  # the key is not accepted: another try is of little use
FAILED: Final = "failed"  # another try may help

MOST_PAGES: Final = 50  # of a listing; an account has ten active sessions
_ENDED_CODES: Final = ("SESSION_CLOSED", "SESSION_NOT_FOUND", "SESSION_EXPIRED")
_KEY_CODES: Final = ("API_KEY_REQUIRED", "INVALID_API_KEY", "ACCOUNT_SUSPENDED", "ACCOUNT_INACTIVE")


class Service(NamedTuple):
    """How an account's service is reached.

    Attributes:
        base_url: its address.
        api_key: the key; repr does not show it.
        connect_timeout, read_timeout: seconds, to connect, and for a whole answer after that.
        retry_min, retry_max: seconds between which the first delay before another try lies. Default 2 to 5: the
            vendor asks for that.
    """

    base_url: str
    api_key: str | None
    connect_timeout: float = 10.0
    read_timeout: float = 30.0
    retry_min: float = 2.0
    retry_max: float = 5.0

    def __repr__(self) -> str:
        return f"<Service at {self.base_url}>"


class Closed(NamedTuple):
    """What became of closing a session: CLOSED, ENDED, GONE, REFUSED or FAILED, and why it failed."""

    outcome: str
    reason: str = ""

    @property
    def holds_no_slot(self) -> bool:
        """Whether the session is no more."""
        return self.outcome in (CLOSED, ENDED, GONE)


class Listing(NamedTuple):
    """The account's active sessions.

    Attributes:
        sessions: newest first.
        offset: what to add to this machine's clock to get the service's, in seconds.
        uncertainty: how far off that may be, in seconds; infinite where the service does not tell its time.
        engine: the instance of the embedded engine that answered; None from the service.
    """

    sessions: list[_wire.SessionInfo]
    offset: float
    uncertainty: float
    engine: str | None


class Door:
    """The guard's way to one account. Safe to use from many threads.

    Attributes:
        service: how it is reached.
        engine: the instance of the embedded engine that answered last; None as long as none has.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.engine: str | None = None
        self._post = Post(service.base_url, service.api_key or "", service.connect_timeout, service.read_timeout)

    def __repr__(self) -> str:
        return f"<Door to {self.service.base_url}>"

    def close(self, session_id: str, engine: str | None = None, *, within: float | None = None) -> Closed:
        """Closes a session. Never raises because of what the service does.

        Args:
            session_id: whose.
            engine: the instance of the embedded engine that runs it; None for the service.
            within: seconds, if fewer than the time limits allow.
        """
        try:
            answer = self._ask("close", {"sessionId": session_id}, within=within)
        except UnreachedError as error:
            gone = engine is not None and error.refused_here
            return Closed(GONE, "its engine does not run any more") if gone else Closed(FAILED, error.message)
        except BBREError as error:
            return Closed(FAILED, error.message)
        except Exception as error:  # a bug of ours must not stop the closing of others; its words may be about anything
            return Closed(FAILED, f"the guard failed with {type(error).__name__}")
        if engine is not None and answer.engine not in (None, engine):
            return Closed(GONE, "another engine runs in place of its own")
        return _closed(answer.failure)

    def active(self, *, within: float | None = None) -> Listing:
        """The account's active sessions.

        Args:
            within: seconds for each page, if fewer than the time limits allow.

        Raises:
            BBREError: they could not be listed.
        """
        found: dict[str, _wire.SessionInfo] = {}
        first: Answer | None = None
        for _ in range(MOST_PAGES):
            body = {"status": "active", "limit": _wire.PAGE_SIZE, "offset": len(found)}
            answer = self._ask("list", body, read=_wire.read_page, within=within)
            if answer.failure is not None:
                raise answer.failure
            first = first or answer
            page: _wire.Page = answer.value
            fresh = {one.id: one for one in page.sessions if one.id not in found}
            found |= fresh
            if not fresh or len(found) == page.total:
                active = [one for one in found.values() if one.status in (None, "active")]
                return Listing(active, *_clock(first), first.engine)
        raise InvalidAnswerError(f"The list of active sessions has no end after {len(found)} of them.")

    def _ask(self, endpoint: str, body: _wire.Json, *, read: Any = bool, within: float | None) -> Answer:
        answer = self._post(_wire.PATHS[endpoint], body, read=read, within=within)
        self.engine = answer.engine or self.engine
        return answer


def _closed(failure: BBREError | None) -> Closed:
    if failure is None:
        return Closed(CLOSED)
    if failure.code in _ENDED_CODES:
        return Closed(ENDED)
    reason = f"{failure.code}: {failure.message}" if failure.code else failure.message
    return Closed(REFUSED if failure.code in _KEY_CODES else FAILED, reason)


def _clock(answer: Answer) -> tuple[float, float]:
    """The service's clock less ours, and how far off that may be."""
    from email.utils import parsedate_to_datetime  # it is loaded by http.client

    try:
        told = parsedate_to_datetime(answer.date or "").timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0, float("inf")
    # The header has whole seconds, cut off: the answer was made half a second later, give or take as much. Another
    # half is for services that write times of sessions in whole seconds, too.
    middle, half = (answer.asked + answer.answered) / 2, abs(answer.answered - answer.asked) / 2
    return told + 0.5 - middle, 1.0 + half
