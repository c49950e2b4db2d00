"""Knows the HTTP verbs that a session offers, each with its async twin.
Must not know how a request is sent: that is `request`, which the session brings.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ._aio import to_thread

if TYPE_CHECKING:
    import requests

__tracebackhide__ = True  # a failing test shows its own lines; pytest --full-trace shows ours


class Verbs:
    """get, post and the others, all by way of `request`."""

    def request(self, method: str, url: str, *positional: Any, **options: Any) -> requests.Response:
        """Sends a web request; the session says how."""
        raise NotImplementedError

    def get(self, url: str, params: Any = None, **options: Any) -> requests.Response:
        """GET; see `request`."""
        return self.request("GET", url, params=params, **options)

    def post(self, url: str, data: Any = None, json: Any = None, **options: Any) -> requests.Response:
        """POST; see `request`."""
        return self.request("POST", url, data=data, json=json, **options)

    def put(self, url: str, data: Any = None, **options: Any) -> requests.Response:
        """PUT; see `request`."""
        return self.request("PUT", url, data=data, **options)

    def patch(self, url: str, data: Any = None, **options: Any) -> requests.Response:
        """PATCH; see `request`."""
        return self.request("PATCH", url, data=data, **options)

    def delete(self, url: str, **options: Any) -> requests.Response:
        """DELETE; see `request`."""
        return self.request("DELETE", url, **options)

    def head(self, url: str, **options: Any) -> requests.Response:
        """HEAD; as in requests, it follows no redirect unless asked to. See `request`."""
        return self.request("HEAD", url, **{"allow_redirects": False, **options})

    def options(self, url: str, **options: Any) -> requests.Response:
        """OPTIONS; see `request`."""
        return self.request("OPTIONS", url, **options)

    async def arequest(self, method: str, url: str, *positional: Any, **options: Any) -> requests.Response:
        """`request` without holding up the event loop. Cancelling stops the waiting; the target may get it still."""
        return await to_thread(partial(self.request, method, url, *positional, **options))

    async def aget(self, url: str, params: Any = None, **options: Any) -> requests.Response:
        """GET; see `arequest`."""
        return await to_thread(partial(self.get, url, params, **options))

    async def apost(self, url: str, data: Any = None, json: Any = None, **options: Any) -> requests.Response:
        """POST; see `arequest`."""
        return await to_thread(partial(self.post, url, data, json, **options))

    async def aput(self, url: str, data: Any = None, **options: Any) -> requests.Response:
        """PUT; see `arequest`."""
        return await to_thread(partial(self.put, url, data, **options))

    async def apatch(self, url: str, data: Any = None, **options: Any) -> requests.Response:
        """PATCH; see `arequest`."""
        return await to_thread(partial(self.patch, url, data, **options))

    async def adelete(self, url: str, **options: Any) -> requests.Response:
        """DELETE; see `arequest`."""
        return await to_thread(partial(self.delete, url, **options))

    async def ahead(self, url: str, **options: Any) -> requests.Response:
        """HEAD; see `head` and `arequest`."""
        return await to_thread(partial(self.head, url, **options))

    async def aoptions(self, url: str, **options: Any) -> requests.Response:
        """OPTIONS; see `arequest`."""
        return await to_thread(partial(self.options, url, **options))
