"""Knows the facts of BBRE's API: paths, codes, limits, and which of them are the vendor's and which our choice.
Must not know the shapes of requests and answers (`_wire`). Light: pytest's header line is made from it in every run.
"""

from __future__ import annotations

# Stated.
SERVICE = "MyDisct Solver BBRE"
DEFAULT_BASE_URL = "https://bbre-solver-api.mydisct.com"
KEY_HEADERS = ("x-api-key", "apikey")
MODES = ("passive", "adaptive")
MAX_SESSIONS = 10
PATHS = {
    "create": "/session/create",
    "request": "/session/request",
    "status": "/session/status",
    "close": "/session/close",
    "list": "/account/sessions",
}
ENDPOINTS = tuple(PATHS)

# Public.
SENSIBILITIES = ("low", "medium", "high")
STATUSES = ("active", "expired", "closed")

# Chosen: what the vendor's examples use where they use something, else what a user would expect.
DEFAULT_MODE = "passive"  # the lighter one
DEFAULT_SENSIBILITY = "medium"  # the vendor's examples
DEFAULT_TIMEOUT = 300.0  # seconds a session lives: the vendor's examples
MAX_TIMEOUT = 86_400.0  # seconds: a day, to catch milliseconds given for seconds
DEFAULT_REQUEST_TIMEOUT = 30.0  # seconds for a target to answer
DEFAULT_MAX_REDIRECTS = 30  # as requests
EMBEDDED = "embedded"  # as base_url: start the embedded engine as a child process
PAGE_SIZE = 100  # records a page when listing
MAX_BODY = 32 * 1024 * 1024  # bytes: a target's body, either way

# code: (HTTP status, the message it is sent with). The first nine codes are stated with their status, and the messages
# of the three about sessions that end; the other codes and messages are chosen.
FAILURES: dict[str, tuple[int, str]] = {
    "API_KEY_REQUIRED": (401, "API key is required."),
    "INVALID_API_KEY": (403, "Invalid API key."),
    "ACCOUNT_SUSPENDED": (403, "Account is suspended."),
    "ACCOUNT_INACTIVE": (403, "Account is inactive."),
    "SESSION_LIMIT_REACHED": (429, "Active session limit reached."),
    "SESSION_CLOSED": (400, "Session is already closed."),
    "SESSION_NOT_FOUND": (404, "Session not found."),
    "SESSION_ID_REQUIRED": (400, "Session ID is required."),
    "SERVICE_ERROR": (500, "Service error."),
    "SESSION_EXPIRED": (400, "Session has expired."),
    "VALIDATION_ERROR": (400, "Invalid request."),
    "RATE_LIMIT_EXCEEDED": (429, "Too many requests."),
    "TARGET_UNREACHABLE": (502, "The target could not be reached."),
    "TARGET_TIMEOUT": (504, "The target did not answer in time."),
    "TOO_MANY_REDIRECTS": (502, "The target redirected too often."),
    "TARGET_TOO_LARGE": (502, "The target's answer is too large."),
}
HINTS = {"SESSION_ID_REQUIRED": "Session ID is returned when you create a session"}  # stated


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"BBRE_{name.upper()}"
