"""Knows how a web request and its answer travel through a session.
Must not know the sessions themselves.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._facts import DEFAULT_MAX_REDIRECTS
from ..errors import InvalidAnswerError
from .bodies import Headers, charset, read_body, read_headers, write_body, write_headers
from .envelope import Json, payload
from .fields import number, pick, text, whole


@dataclass(frozen=True)
class TargetRequest:
    """A web request to be sent through a session. `timeout` is in seconds, None for the service's own."""

    url: str
    method: str = "GET"
    headers: Headers = field(default_factory=list)
    body: Json | bytes | None = None
    params: Mapping[str, Any] | None = None
    cookies: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    follow_redirects: bool = True
    max_redirects: int = DEFAULT_MAX_REDIRECTS
    verify: bool = True
    auth: tuple[str, str] | None = None
    proxy: str | None = None
    wait_for: str | None = None  # extensions of the embedded engine, for adaptive sessions: our choice
    screenshot: bool = False

    def to_json(self, session_id: str) -> Json:
        """The request as the client sends it. An object stays an object (stated); bytes go as text or base64."""
        wire: Json = {"sessionId": session_id, "url": self.url, "method": self.method}
        if isinstance(self.body, dict):
            wire["body"] = self.body
        elif self.body is not None:
            wire.update(write_body(self.body))
        if not self.follow_redirects:
            wire["followRedirects"] = False
        if self.max_redirects != DEFAULT_MAX_REDIRECTS:
            wire["maxRedirects"] = self.max_redirects
        if not self.verify:
            wire["verifySsl"] = False
        if self.auth is not None:
            wire["auth"] = {"username": self.auth[0], "password": self.auth[1]}
        optional = {
            "headers": write_headers(self.headers),
            "params": dict(self.params or {}),
            "cookies": dict(self.cookies),
            "timeout": self.timeout,
            "proxy": self.proxy,
            "waitFor": self.wait_for,
            "screenshot": self.screenshot,
        }
        return wire | {name: value for name, value in optional.items() if value}


@dataclass(frozen=True)
class RenderedPage:
    """What an adaptive session tells of a page that it rendered: an extension of the embedded engine.

    Attributes:
        title: of the document, after its scripts ran.
        errors: what its console shows as errors.
        screenshot: a picture of it as PNG, if one was asked for.
    """

    title: str = ""
    errors: Sequence[str] = ()
    screenshot: bytes | None = None

    def to_json(self) -> Json:
        """The page as the engine sends it."""
        told: Json = {"title": self.title, "errors": list(self.errors)}
        if self.screenshot is not None:
            told["screenshot"] = base64.b64encode(self.screenshot).decode("ascii")
        return told

    @classmethod
    def from_json(cls, told: Any) -> RenderedPage | None:
        """Reads a page; None if there is none.

        Raises:
            InvalidAnswerError: its picture can't be decoded.
        """
        if not isinstance(told, dict):
            return None
        errors, picture = told.get("errors"), text(told.get("screenshot"))
        return cls(
            text(told.get("title")) or "",
            [str(one) for one in errors] if isinstance(errors, list) else [],
            None if picture is None else read_body(picture, "base64"),
        )


@dataclass(frozen=True)
class TargetAnswer:
    """What the target answered. `history` holds the redirects before it, oldest first; `elapsed` is in seconds."""

    status: int
    reason: str = ""
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    body_was_text: bool = False
    url: str | None = None
    method: str | None = None
    elapsed: float | None = None
    history: tuple[TargetAnswer, ...] = ()
    page: RenderedPage | None = None

    def to_json(self) -> Json:
        """The result as the engine sends it; ``statusCode`` and ``body`` are stated."""
        told = {} if self.page is None else {"page": self.page.to_json()}
        return told | {
            "statusCode": self.status,
            "statusText": self.reason,
            "headers": write_headers(self.headers),
            # Named for text, too: then the bytes are the target's own, and so is the charset to read them by.
            **{"bodyEncoding": "utf-8", **write_body(self.body, charset(self.headers))},
            "url": self.url,
            "method": self.method,
            "elapsed": self.elapsed,
            "history": [step.to_json() for step in self.history],
        }

    @classmethod
    def from_json(cls, result: Any) -> TargetAnswer:
        """Reads ``data.task.result``.

        Raises:
            InvalidAnswerError: there is no status code in it, or its body can't be decoded.
        """
        status = whole(pick(result, "statusCode", "status_code", "status")) if isinstance(result, dict) else None
        if status is None:
            raise InvalidAnswerError("The answer to a request has no data.task.result.statusCode.")
        raw, history = result.get("body"), pick(result, "history", "redirects")
        encoding = text(pick(result, "bodyEncoding", "body_encoding"))
        return cls(
            status=status,
            reason=text(pick(result, "statusText", "reason")) or "",
            headers=read_headers(result.get("headers")),
            body=read_body(raw, encoding),
            body_was_text=isinstance(raw, str) and encoding is None,
            url=text(pick(result, "url", "finalUrl", "final_url")),
            method=text(result.get("method")),
            elapsed=number(result.get("elapsed")),
            history=tuple(cls.from_json(step) for step in history) if isinstance(history, list) else (),
            page=RenderedPage.from_json(result.get("page")),
        )


def read_result(answer: Any) -> TargetAnswer:
    """The target's answer in an answer to /session/request (``data.task.result`` is stated)."""
    body = payload(answer)
    task = body.get("task", body)
    return TargetAnswer.from_json(task.get("result", task) if isinstance(task, dict) else None)
