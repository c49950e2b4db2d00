"""Knows every error this package raises, the code that leads to it and what a person can do about it.
Must not know who raises them, nor any other module: it imports nothing of ours.

BBREError                            also the class of a code that we have never heard of, kept whole
├── AuthenticationError
│   ├── ApiKeyRequiredError          401 API_KEY_REQUIRED
│   ├── InvalidApiKeyError           403 INVALID_API_KEY
│   ├── AccountSuspendedError        403 ACCOUNT_SUSPENDED
│   └── AccountInactiveError         403 ACCOUNT_INACTIVE
├── SessionError
│   ├── SessionLimitReachedError     429 SESSION_LIMIT_REACHED
│   │   └── SlotTimeoutError         none of the account's slots came free in time
│   │       └── SlotCircleError      all that hold one wait for another
│   ├── SessionEvictedError          closed for somebody else, as it was idle and evictable
│   ├── SessionClosedError           400 SESSION_CLOSED
│   ├── SessionExpiredError          400 SESSION_EXPIRED (chosen)
│   ├── SessionNotFoundError         404 SESSION_NOT_FOUND
│   └── SessionIdRequiredError       400 SESSION_ID_REQUIRED
├── InvalidRequestError              400 VALIDATION_ERROR (chosen)
├── RateLimitError                   429 RATE_LIMIT_EXCEEDED (chosen)
├── ServiceError                     500 SERVICE_ERROR
├── TargetError                      the web site asked for gave no answer (codes chosen)
│   ├── TargetUnreachableError       502 TARGET_UNREACHABLE
│   ├── TargetTimeoutError           504 TARGET_TIMEOUT
│   ├── TooManyRedirectsError        502 TOO_MANY_REDIRECTS
│   └── TargetTooLargeError          502 TARGET_TOO_LARGE
├── TransportError                   no answer from the service; the original is the cause
│   ├── ConnectionFailedError        nothing was sent
│   ├── ConnectionLostError          cut off after the request may have been sent
│   ├── TimedOutError                no answer in time
│   │   └── CloseTimedOutError       closing everything took longer than it may
│   ├── TLSError                     the service's certificate was not accepted
│   └── LostAnswerError              a create whose answer never came: a session may exist
├── InvalidAnswerError               an answer that is not BBRE's: no JSON, cut off, too large, no session in it
├── EngineError                      the embedded engine
│   ├── EngineExtraMissingError      aiohttp is not installed
│   └── EngineStartError             it did not come up
├── GuardError                       what outlives a process
│   ├── LedgerError                  the ledger can't be read or written
│   └── GuardianError                the guardian did not come up
├── SettingsError (ValueError)       a setting was refused before anything was sent
└── MisuseError (RuntimeError)       the program, not the service, is at fault
    ├── UseAfterCloseError           a request on a session that is closed
    ├── WrongProcessError            a forked child tried to end its parent's session
    ├── ShuttingDownError            a session was asked for while the process is ending
    ├── UnsupportedOptionError (TypeError)   an option of requests that cannot travel
    └── InvalidURLError (ValueError) a URL that is no URL
"""

from __future__ import annotations

from typing import Any, ClassVar


class BBREError(Exception):
    """Base of every error of this package.

    Attributes:
        code: the service's error code, e.g. ``"SESSION_CLOSED"``; None where no service spoke.
        status: the HTTP status of the answer; None where there was none.
        message: what happened, in the service's words or ours.
        hint: the service's own hint (``error.details.hint``), if it gave one.
        session_id: the session concerned, if known.
        retry_after: seconds the service asked to wait (``Retry-After``), if it did.
        answer: the whole decoded answer of the service, for codes unknown to us.
    """

    remedy: ClassVar[str] = ""

    def __init__(
        self,
        message: str = "",
        *,
        code: str | None = None,
        status: int | None = None,
        hint: str | None = None,
        session_id: str | None = None,
        retry_after: float | None = None,
        answer: Any = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status
        self.hint = hint
        self.session_id = session_id
        self.retry_after = retry_after
        self.answer = answer

    def __str__(self) -> str:
        """Everything a person needs in one text: code, message, hint, session, remedy."""
        head = self.code or ""
        if head and self.status is not None:
            head += f" ({self.status})"
        parts = [_sentence(f"{head}: {self.message}" if head else self.message)]
        if self.hint:
            parts.append(f"Hint: {_sentence(self.hint)}")
        if self.session_id:
            parts.append(f"Session: {self.session_id}.")
        if advice := self.advice():
            parts.append(advice)
        return " ".join(parts)

    def advice(self) -> str:
        """What to do about it; a class's fixed text unless it knows more."""
        return self.remedy


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) or not text else text + "."


class AuthenticationError(BBREError):
    """The service did not accept who is asking."""


class ApiKeyRequiredError(AuthenticationError):
    """401 API_KEY_REQUIRED: the request carried no key."""

    remedy = (
        "Set BBRE_API_KEY to your key, or set BBRE_BASE_URL=embedded to run the embedded engine without an account."
    )


class InvalidApiKeyError(AuthenticationError):
    """403 INVALID_API_KEY: the service does not know this key."""

    remedy = "Check BBRE_API_KEY against the key in your account, and that BBRE_BASE_URL is the service it belongs to."


class AccountSuspendedError(AuthenticationError):
    """403 ACCOUNT_SUSPENDED."""

    remedy = "Ask the service's support why the account is suspended; no retry will help."


class AccountInactiveError(AuthenticationError):
    """403 ACCOUNT_INACTIVE."""

    remedy = "Activate the account at the service; no retry will help."


class SessionError(BBREError):
    """The service refused something about one session."""


class SessionLimitReachedError(SessionError):
    """429 SESSION_LIMIT_REACHED: the account has all its active sessions in use.

    Attributes:
        held: how many active sessions this process holds; None where it is not known.
    """

    held: int | None = None

    def advice(self) -> str:
        """Says how many sessions this process holds, since only those can be freed from here."""
        freeing = (
            "Free one: close a session you hold (close_all_sessions() closes all of them), see the account's with"
            " `bbre sessions`, close one with `bbre close ID`, or wait until one expires."
        )
        if self.held is None:
            return freeing
        return f"This process holds {self.held} of the account's active sessions. {freeing}"


class SlotTimeoutError(SessionLimitReachedError):
    """No slot of the account came free within `slot_timeout`. The message lists who holds them.

    Attributes:
        holders: one line for each slot: the session, who holds it, since when, and where it was opened.
    """

    holders: tuple[str, ...] = ()

    def advice(self) -> str:
        """The message says it already."""
        return self.remedy


class SlotCircleError(SlotTimeoutError):
    """Everybody who holds a slot waits for another one, so that none will ever come free."""


class SessionEvictedError(SessionError):
    """The session was closed for somebody else: it was opened as evictable, and idle."""

    remedy = "Open a new session; one that must not be taken away is opened without evictable=True."


class SessionClosedError(SessionError):
    """400 SESSION_CLOSED: the session was closed, here or elsewhere."""

    remedy = "A closed session can't be reopened: open a new one."


class SessionExpiredError(SessionError):
    """400 SESSION_EXPIRED: the session's own timeout has passed."""

    remedy = "Open a new session, with a longer timeout= if the work needs it."


class SessionNotFoundError(SessionError):
    """404 SESSION_NOT_FOUND: wrong id, another account's session, or a record already removed."""

    remedy = "Check the id, and that the API key is of the account that opened the session."


class SessionIdRequiredError(SessionError):
    """400 SESSION_ID_REQUIRED: the request named no session."""

    remedy = "Pass the id that creating the session returned."


class InvalidRequestError(BBREError):
    """400 VALIDATION_ERROR: the service refused a field of the request."""

    remedy = "Correct the field that the message names."


class RateLimitError(BBREError):
    """429 RATE_LIMIT_EXCEEDED: too many requests for this key or address."""

    remedy = "Wait (retry_after says how long, if the service did), then send fewer requests at a time."


class ServiceError(BBREError):
    """500 SERVICE_ERROR: a fault of the service."""

    remedy = "Try again in 2 to 5 seconds; a session that can't be closed ends by its own timeout."


class TargetError(BBREError):
    """The session is well, but the web site it was sent to gave no usable answer."""


class TargetUnreachableError(TargetError):
    """502 TARGET_UNREACHABLE: no connection, no such host, or a refused certificate."""

    remedy = "Check that the URL is reachable from where the sessions run, not only from here."


class TargetTimeoutError(TargetError):
    """504 TARGET_TIMEOUT: the target did not answer in time."""

    remedy = "Pass a longer timeout= to the request."


class TooManyRedirectsError(TargetError):
    """502 TOO_MANY_REDIRECTS."""

    remedy = "Pass allow_redirects=False to see where the chain goes."


class TargetTooLargeError(TargetError):
    """502 TARGET_TOO_LARGE: the target's answer is over the engine's limit."""

    remedy = "Ask for less at a time, for example with a Range header."


class TransportError(BBREError):
    """No answer came from the service. The original exception is the cause."""

    remedy = "Check BBRE_BASE_URL, the network and the proxy settings."


class ConnectionFailedError(TransportError):
    """No connection could be made, so nothing was sent."""


class ConnectionLostError(TransportError):
    """The connection broke after the request may have been sent."""


class TimedOutError(TransportError):
    """The service did not answer in time."""

    remedy = "Raise BBRE_READ_TIMEOUT, or see whether the service is overloaded."


class CloseTimedOutError(TimedOutError):
    """Closing many sessions took longer than the time limit for it."""

    remedy = "Raise BBRE_EXIT_TIMEOUT, or the timeout of close_all_sessions."


class TLSError(TransportError):
    """The service's certificate was not accepted."""

    remedy = "Check the address; for a private authority set REQUESTS_CA_BUNDLE to its certificates."


class LostAnswerError(TransportError):
    """A create was sent and its answer never came: the session may exist, with an id that nobody knows."""

    remedy = (
        "It was not sent a second time, since the first may have worked. `bbre sessions` lists the account's sessions;"
        " an unknown one ends by its own timeout."
    )


class InvalidAnswerError(BBREError):
    """What answered does not speak BBRE: no JSON, cut off, too large, or without the field that matters."""

    remedy = "Check that BBRE_BASE_URL is the address of a BBRE service, and that no proxy answers in its place."


class EngineError(BBREError):
    """The embedded engine could not do its work."""


class EngineExtraMissingError(EngineError):
    """The embedded engine needs aiohttp, which is not installed."""

    remedy = "Install it: pip install 'pytest-bbre[engine]'."


class EngineStartError(EngineError):
    """The embedded engine did not come up."""


class GuardError(BBREError):
    """The part that outlives a process failed. Sessions are closed by their own process all the same."""


class LedgerError(GuardError):
    """The ledger can't be read or written."""

    remedy = "Set BBRE_STATE_DIR to a folder of this machine that only you can write to."


class GuardianError(GuardError):
    """The guardian did not come up."""

    remedy = "BBRE_GUARD=0 does without it."


class SettingsError(BBREError, ValueError):
    """A setting has a value that can't be used. Nothing was sent."""


class MisuseError(BBREError, RuntimeError):
    """The program asked for something that can't be. Nothing was sent."""


class UseAfterCloseError(MisuseError):
    """A request was made on a session that is no longer open."""

    remedy = "A closed session can't be reopened: open a new one."


class WrongProcessError(MisuseError):
    """A forked child tried to close its parent's session."""

    remedy = "Sessions are closed by the process that opened them; open one of the child's own."


class ShuttingDownError(MisuseError):
    """A session was asked for while this process is ending."""

    remedy = "Open sessions before the process ends."


class UnsupportedOptionError(MisuseError, TypeError):
    """An option of requests that can't travel through a session."""


class InvalidURLError(MisuseError, ValueError):
    """A URL that is none."""

    remedy = "Give an absolute URL, such as https://example.org/path."


# One row per code. Codes after the gap are not stated by the vendor: they are this project's choice (see _facts.py).
BY_CODE: dict[str, type[BBREError]] = {
    "API_KEY_REQUIRED": ApiKeyRequiredError,
    "INVALID_API_KEY": InvalidApiKeyError,
    "ACCOUNT_SUSPENDED": AccountSuspendedError,
    "ACCOUNT_INACTIVE": AccountInactiveError,
    "SESSION_LIMIT_REACHED": SessionLimitReachedError,
    "SESSION_CLOSED": SessionClosedError,
    "SESSION_NOT_FOUND": SessionNotFoundError,
    "SESSION_ID_REQUIRED": SessionIdRequiredError,
    "SERVICE_ERROR": ServiceError,

    "SESSION_EXPIRED": SessionExpiredError,
    "VALIDATION_ERROR": InvalidRequestError,
    "RATE_LIMIT_EXCEEDED": RateLimitError,
    "TARGET_UNREACHABLE": TargetUnreachableError,
    "TARGET_TIMEOUT": TargetTimeoutError,
    "TOO_MANY_REDIRECTS": TooManyRedirectsError,
    "TARGET_TOO_LARGE": TargetTooLargeError,
}  # fmt: skip
