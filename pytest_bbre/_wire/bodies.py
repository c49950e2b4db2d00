"""Knows how bytes and headers are written in JSON, so that the very same come out at the other end.
Must not know whose bytes and headers they are.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import InvalidAnswerError
from .envelope import Json

Headers = list[tuple[str, str]]


# Bodies. Chosen: text where the bytes are UTF-8 and no other charset was named, else base64 and ``bodyEncoding``.


def write_body(body: bytes, charset: str | None = None) -> Json:
    """``body`` (and ``bodyEncoding``) such that the very same bytes come out at the other end."""
    if charset in (None, "utf-8", "utf8", "us-ascii", "ascii"):
        try:
            return {"body": body.decode("utf-8")}
        except UnicodeDecodeError:
            pass
    return {"body": base64.b64encode(body).decode("ascii"), "bodyEncoding": "base64"}


def read_body(body: Any, encoding: str | None) -> bytes:
    """The bytes of a body. A JSON value that is no string (a service that parsed it) is written as JSON again."""
    if body is None:
        return b""
    if not isinstance(body, str):
        return json.dumps(body).encode()
    if encoding != "base64":
        return body.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidAnswerError("The body is said to be base64 and is not.") from error


# Headers. Chosen: an object; a header that occurs more than once has a list of values.


def write_headers(headers: Headers) -> dict[str, str | list[str]]:
    """An object of headers, in order of first occurrence."""
    gathered: dict[str, tuple[str, list[str]]] = {}
    for name, value in headers:
        gathered.setdefault(name.lower(), (name, []))[1].append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in gathered.values()}


def read_headers(headers: Any) -> Headers:
    """Reads headers as an object, as pairs, or as a list of ``{"name", "value"}`` (as HAR has them)."""
    return list(_header_pairs(headers))


def _header_pairs(headers: Any) -> Iterator[tuple[str, str]]:
    entries: Iterable[Any] = headers.items() if isinstance(headers, dict) else headers or ()
    if not isinstance(headers, dict | list | tuple | None):
        return
    for entry in entries:
        if isinstance(entry, dict):
            entry = (entry.get("name"), entry.get("value"))
        if not isinstance(entry, list | tuple) or len(entry) != 2 or entry[0] is None:
            continue
        name, value = entry
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                yield str(name), str(one)


def charset(headers: Headers) -> str | None:
    """The charset that a Content-Type names, in lower case."""
    for name, value in headers:
        if name.lower() == "content-type":
            for part in value.split(";")[1:]:
                key, _, given = part.partition("=")
                if key.strip().lower() == "charset":
                    return given.strip().strip("\"'").lower() or None
    return None
