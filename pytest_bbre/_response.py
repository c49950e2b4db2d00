"""Knows how a target's answer becomes a real requests.Response.
Must not know sessions, settings or the network.
"""

from __future__ import annotations

import contextlib
from datetime import timedelta
from email.message import Message
from http.client import responses as reasons
from io import BytesIO
from types import SimpleNamespace
from typing import Any, TypeGuard
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPHeaderDict, HTTPResponse

from . import _wire

_adapter = HTTPAdapter()  # for its build_response alone: it opens nothing


def build(prepared: requests.PreparedRequest, answer: _wire.TargetAnswer, elapsed: float) -> requests.Response:
    """The answer as requests would have given it, with its history.

    Args:
        prepared: the request that was asked for.
        answer: what the service told.
        elapsed: seconds the call took, for where the service does not tell the target's own time.
    """
    history: list[requests.Response] = []
    for step in answer.history:
        one = _one(_follow(prepared, step), step, elapsed)
        one.history = list(history)
        history.append(one)
    final = prepared if not history else _follow(prepared, answer)
    response = _one(final, answer, elapsed)
    response.history = history
    response._next = _next(final, response)
    response.bbre_page = answer.page  # type: ignore[attr-defined]  # requests has no place for it
    return response


def _next(prepared: requests.PreparedRequest, response: requests.Response) -> requests.PreparedRequest | None:
    """The request that a redirect asks for, where nobody followed it; requests itself works it out."""
    if not response.is_redirect:
        return None
    with contextlib.suppress(requests.RequestException, ValueError), requests.Session() as session:
        session.trust_env = False
        found: Any = next(session.resolve_redirects(response, prepared, yield_requests=True), None)
        return found if isinstance(found, requests.PreparedRequest) else None
    return None


def _follow(prepared: requests.PreparedRequest, step: _wire.TargetAnswer) -> requests.PreparedRequest:
    """The request of one step in a chain of redirects."""
    if not _is_url(step.url) or (step.url == prepared.url and step.method in (None, prepared.method)):
        return prepared
    request = prepared.copy()
    request.url = step.url
    if step.method and step.method != request.method:  # a POST that became a GET lost its body on the way
        request.method = step.method
        request.body = None
        for name in ("Content-Length", "Content-Type"):
            request.headers.pop(name, None)
    return request


def _is_url(url: str | None) -> TypeGuard[str]:
    """Whether cookies can be looked up for it; a service may tell anything."""
    try:
        return url is not None and bool(urlsplit(url).netloc.encode() and url.encode())
    except ValueError:
        return False


def _one(prepared: requests.PreparedRequest, answer: _wire.TargetAnswer, elapsed: float) -> requests.Response:
    headers = HTTPHeaderDict()
    message = Message()  # where requests looks for cookies
    for name, value in answer.headers:
        headers.add(name, value)
        message.add_header(name, value)
    reason = answer.reason or reasons.get(answer.status, "")
    raw = HTTPResponse(
        BytesIO(answer.body), status=answer.status, reason=reason, preload_content=False, decode_content=False
    )
    raw.headers = headers  # told afterwards: they speak of the connection to the target, not of these bytes
    raw._original_response = SimpleNamespace(msg=message, close=lambda: None, isclosed=lambda: True)  # type: ignore[assignment]
    response = _adapter.build_response(prepared, raw)
    response.url = answer.url or response.url
    response._content = answer.body  # decoded already by who fetched it, whatever Content-Encoding says
    if answer.body_was_text:  # then it travelled as text, whatever charset the target's header names
        response.encoding = "utf-8"
    response.elapsed = _duration(elapsed if answer.elapsed is None else answer.elapsed)
    return response


def _duration(seconds: float) -> timedelta:
    return timedelta(seconds=min(max(seconds, 0.0), 86_400.0))
