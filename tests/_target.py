"""Knows a small web site for tests to send requests to. Must not know pytest, BBRE, or who asks.

Tests get it by the fixture `target` (tests/conftest.py), which runs this file as a process of its own on loopback:
`target.url("/echo")` is an address, `target.base_url` the site. It listens on a free port, prints its address as one
line of JSON, and ends when its standard input does. With a certificate's file (and its key in it) it speaks HTTPS.

    /echo               any method: JSON of method, raw target, query, headers (pairs), body (base64), as they came
    /cookies            JSON: the Cookie header as it came, or null
    /set-cookie?h=...   sets cookies: each `h` is a whole Set-Cookie header; `to=` redirects there afterwards
    /login              POST of a form with user and password ("ada", "secret"): a cookie, then a redirect to /private
    /private            200 with the cookie of /login, else 401
    /redirect/N         N redirects, then /echo; `status=` says which (302)
    /redirect-to?url=   one redirect; `status=` says which (302)
    /status/N           that status
    /bytes/N            N bytes: 0 to 255, over and over
    /stream/N           the same, chunked
    /gzip, /deflate     {"ok": true}, compressed
    /bomb/N             N zeros, compressed
    /latin1             "é" in ISO-8859-1
    /html               a page in UTF-8
    /repeated           a header that occurs twice
    /long-header/N      a header of N characters
    /basic-auth/U/P     200 with these credentials, else 401
    /slow/S             answers after S seconds
    /waiting/S          how many were asked for with this S
    /drop               cuts the connection instead of answering
    /half               cuts the connection in the middle of the body
    /page?script=...    a page that runs the script; `show(value)` in it writes JSON into <div id="out" class="done">;
                        document.body.dataset.own is the header X-Own that the page was asked for with
    /cached             a number that is another one each time it is asked for, and may be kept by who asked
    /sw.js              a service worker that does nothing
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import ssl
import sys
import threading
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import BasicAuth, web

Handler = Callable[[web.BaseRequest, str], Awaitable[web.StreamResponse]]
HANDLERS: dict[str, Handler] = {}


def at(name: str) -> Callable[[Handler], Handler]:
    """Answers the paths whose first part is `name`; the handler gets what follows."""

    def register(handler: Handler) -> Handler:
        HANDLERS[name] = handler
        return handler

    return register


def reply(value: Any, **options: Any) -> web.Response:
    return web.Response(body=json.dumps(value).encode(), content_type="application/json", **options)


@at("echo")
async def echo(request: web.BaseRequest, _: str) -> web.StreamResponse:
    body = b"".join([chunk async for chunk in request.content.iter_any()])
    return reply(
        {
            "method": request.method,
            "target": request.raw_path,
            "query": list(request.query.items()),
            "headers": list(request.headers.items()),
            "body": base64.b64encode(body).decode(),
        }
    )


@at("cookies")
async def cookies(request: web.BaseRequest, _: str) -> web.StreamResponse:
    return reply({"cookie": request.headers.get("Cookie")})


@at("set-cookie")
async def set_cookie(request: web.BaseRequest, _: str) -> web.StreamResponse:
    to = request.query.get("to")
    answer = web.Response(status=302, headers={"Location": to}) if to else reply({"ok": True})
    for header in request.query.getall("h", []):
        answer.headers.add("Set-Cookie", header)
    return answer


@at("login")
async def login(request: web.BaseRequest, _: str) -> web.StreamResponse:
    form = await request.post()
    if (form.get("user"), form.get("password")) != ("ada", "secret"):
        return reply({"error": "wrong name or password"}, status=401)
    return web.Response(status=303, headers={"Location": "/private", "Set-Cookie": "login=ada; Path=/; HttpOnly"})


@at("private")
async def private(request: web.BaseRequest, _: str) -> web.StreamResponse:
    user = request.cookies.get("login")
    return reply({"user": user}, status=200 if user else 401)


@at("redirect")
async def redirect(request: web.BaseRequest, rest: str) -> web.StreamResponse:
    left, status = int(rest) - 1, request.query.get("status", "302")
    to = f"/redirect/{left}?status={status}" if left > 0 else "/echo"
    return web.Response(status=int(status), headers={"Location": to, "X-Left": str(left)}, text=f"{left} left")


@at("redirect-to")
async def redirect_to(request: web.BaseRequest, _: str) -> web.StreamResponse:
    headers = {"Location": request.query["url"]}
    return web.Response(status=int(request.query.get("status", "302")), headers=headers)


@at("status")
async def status(_: web.BaseRequest, rest: str) -> web.StreamResponse:
    return web.Response(status=int(rest), text="" if rest in ("204", "304") else f"status {rest}")


def pattern(count: int) -> bytes:
    return (bytes(range(256)) * (count // 256 + 1))[:count]


@at("bytes")
async def some_bytes(_: web.BaseRequest, rest: str) -> web.StreamResponse:
    return web.Response(body=pattern(int(rest)), content_type="application/octet-stream")


@at("stream")
async def stream(request: web.BaseRequest, rest: str) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    answer.enable_chunked_encoding()
    await answer.prepare(request)
    left, piece = int(rest), pattern(256 * 256)
    while left > 0:
        await answer.write(piece[:left])
        left -= len(piece)
    await answer.write_eof()
    return answer


@at("gzip")
async def gzipped(_: web.BaseRequest, rest: str) -> web.StreamResponse:
    headers = {"Content-Encoding": "gzip"}
    return web.Response(body=gzip.compress(b'{"ok": true}'), content_type="application/json", headers=headers)


@at("deflate")
async def deflated(_: web.BaseRequest, rest: str) -> web.StreamResponse:
    headers = {"Content-Encoding": "deflate"}
    return web.Response(body=zlib.compress(b'{"ok": true}'), content_type="application/json", headers=headers)


@at("bomb")
async def bomb(_: web.BaseRequest, rest: str) -> web.StreamResponse:
    body = await asyncio.to_thread(gzip.compress, bytes(int(rest)), 1)
    return web.Response(body=body, headers={"Content-Encoding": "gzip"})


@at("latin1")
async def latin1(_: web.BaseRequest, rest: str) -> web.StreamResponse:
    return web.Response(body="é".encode("latin-1"), headers={"Content-Type": "text/plain; charset=ISO-8859-1"})


@at("html")
async def html(_: web.BaseRequest, rest: str) -> web.StreamResponse:
    return web.Response(text="<!doctype html><title>Grüße</title><h1>Grüße</h1>", content_type="text/html")


@at("repeated")
async def repeated(_: web.BaseRequest, rest: str) -> web.StreamResponse:
    answer = reply({"ok": True})
    answer.headers.add("X-Twice", "one")
    answer.headers.add("X-Twice", "two")
    return answer


@at("long-header")
async def long_header(_: web.BaseRequest, rest: str) -> web.StreamResponse:
    return reply({"ok": True}, headers={"X-Long": "x" * int(rest)})


@at("basic-auth")
async def basic_auth(request: web.BaseRequest, rest: str) -> web.StreamResponse:
    user, _, password = rest.partition("/")
    if request.headers.get("Authorization") != BasicAuth(user, password).encode():
        return reply({"ok": False}, status=401, headers={"WWW-Authenticate": 'Basic realm="target"'})
    return reply({"ok": True})


WAITING: list[str] = []


@at("slow")
async def slow(_: web.BaseRequest, rest: str) -> web.StreamResponse:
    WAITING.append(rest)
    await asyncio.sleep(float(rest))
    return reply({"ok": True})


@at("waiting")
async def waiting(_: web.BaseRequest, rest: str) -> web.StreamResponse:
    return reply(WAITING.count(rest))


@at("drop")
async def drop(request: web.BaseRequest, rest: str) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@at("half")
async def half(request: web.BaseRequest, rest: str) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Length": "100"})
    await answer.prepare(request)
    await answer.write(b"x" * 50)
    assert request.transport is not None
    request.transport.close()
    return answer


@at("page")
async def page(request: web.BaseRequest, rest: str) -> web.StreamResponse:
    show = "const show = v => { const e = document.getElementById('out'); e.textContent = JSON.stringify(v);"
    show += " e.className = 'done'; };"
    body = f'<body data-own="{request.headers.get("X-Own", "")}"><div id="out"></div>'
    text = f"<!doctype html><title>A page</title>{body}<script>{show}{request.query['script']}</script>"
    return web.Response(text=text, content_type="text/html", status=int(request.query.get("status", "200")))


ASKED: list[int] = []


@at("cached")
async def cached(_: web.BaseRequest, rest: str) -> web.StreamResponse:
    ASKED.append(1)
    return reply(len(ASKED), headers={"Cache-Control": "max-age=3600"})


@at("sw.js")
async def service_worker(_: web.BaseRequest, rest: str) -> web.StreamResponse:
    return web.Response(
        text="self.addEventListener('install', () => self.skipWaiting())", content_type="text/javascript"
    )


async def handle(request: web.BaseRequest) -> web.StreamResponse:
    name, _, rest = request.path.removeprefix("/").partition("/")
    handler = HANDLERS.get(name)
    return await handler(request, rest) if handler else reply({"error": "not found"}, status=404)


async def main(files: list[str]) -> None:
    loop, owner_gone = asyncio.get_running_loop(), asyncio.Event()
    context = None
    if files:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*files)
    runner = web.ServerRunner(web.Server(handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    scheme = "https" if files else "http"
    print(json.dumps({"base_url": f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"}), flush=True)

    def wait_for_owner() -> None:
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(owner_gone.set)

    threading.Thread(target=wait_for_owner, daemon=True).start()
    await owner_gone.wait()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
