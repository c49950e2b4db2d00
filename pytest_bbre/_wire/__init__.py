"""Knows the shapes of BBRE's requests and answers: paths, field names, codes, and every choice the vendor left open.
Must not know how they travel (client) or what is done with them (engine): both sides share this folder.

A fact marked "stated" or "public" comes from the vendor's pages; "chosen" is ours, and stands in this folder and in
`_facts.py`, and nowhere else. Reading accepts every reasonable spelling; writing uses one.
"""

from __future__ import annotations

from .._facts import (
    DEFAULT_BASE_URL,
    DEFAULT_MAX_REDIRECTS,
    DEFAULT_MODE,
    DEFAULT_REQUEST_TIMEOUT,
    DEFAULT_SENSIBILITY,
    DEFAULT_TIMEOUT,
    ENDPOINTS,
    FAILURES,
    HINTS,
    KEY_HEADERS,
    MAX_BODY,
    MAX_SESSIONS,
    MAX_TIMEOUT,
    MODES,
    PAGE_SIZE,
    PATHS,
    SENSIBILITIES,
    SERVICE,
    STATUSES,
)
from .bodies import Headers, charset, read_body, read_headers, write_body, write_headers
from .envelope import Failure, Json, failure, payload, read_failure, success
from .sessions import Page, SessionInfo, read_page, read_session
from .targets import RenderedPage, TargetAnswer, TargetRequest, read_result

__all__ = [
    "DEFAULT_BASE_URL",
    "DEFAULT_MAX_REDIRECTS",
    "DEFAULT_MODE",
    "DEFAULT_REQUEST_TIMEOUT",
    "DEFAULT_SENSIBILITY",
    "DEFAULT_TIMEOUT",
    "ENDPOINTS",
    "FAILURES",
    "HINTS",
    "KEY_HEADERS",
    "MAX_BODY",
    "MAX_SESSIONS",
    "MAX_TIMEOUT",
    "MODES",
    "PAGE_SIZE",
    "PATHS",
    "SENSIBILITIES",
    "SERVICE",
    "STATUSES",
    "Failure",
    "Headers",
    "Json",
    "Page",
    "RenderedPage",
    "SessionInfo",
    "TargetAnswer",
    "TargetRequest",
    "charset",
    "failure",
    "payload",
    "read_body",
    "read_failure",
    "read_headers",
    "read_page",
    "read_result",
    "read_session",
    "success",
    "write_body",
    "write_headers",
]
