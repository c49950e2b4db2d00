"""Knows the way out of this machine, as requests finds it in the environment: proxies, and certificates to trust.
Must not know what is sent. Light: what few people have is loaded only where they have it.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, unquote, urlsplit

from .._secret import Secret

if TYPE_CHECKING:
    import ssl

_TOLD_BY_THE_SYSTEM: Final = ("darwin", "win32")  # where proxies are set outside the environment, too


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own."""
    return host in ("localhost", "::1") or host.endswith(".localhost") or _is_loopback_number(host)


def _is_loopback_number(host: str) -> bool:
    parts = host.split(".")
    return len(parts) == 4 and parts[0] == "127" and all(part.isdigit() and int(part) < 256 for part in parts)


def find_proxy(base_url: str) -> str | None:
    """The proxy for an address, from the environment, or from the system's settings where it has such."""
    told = any(name.lower().endswith("_proxy") for name in os.environ)
    if not told and sys.platform not in _TOLD_BY_THE_SYSTEM:
        return None
    from urllib.request import getproxies, proxy_bypass  # here: 1 MB of memory, for the few who have proxies

    url = urlsplit(base_url)
    proxies = getproxies()
    if proxy_bypass(url.netloc.rpartition("@")[2]) or _in_networks(url.hostname or "", proxies.get("no", "")):
        return None
    found = proxies.get(url.scheme) or proxies.get("all")
    return None if found is None else Secret(found)  # it may hold a password


def _in_networks(host: str, no_proxy: str) -> bool:
    """Whether a host is in one of the networks, such as 10.0.0.0/8, that no_proxy may name."""
    import ipaddress

    for name in no_proxy.split(","):
        try:
            if "/" in name and ipaddress.ip_address(host) in ipaddress.ip_network(name.strip(), strict=False):
                return True
        except ValueError:
            continue
    return False


def split_proxy(proxy: str) -> SplitResult:
    """The parts of a proxy's address, which may be a host and port alone."""
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def proxy_headers(proxy: SplitResult) -> dict[str, str]:
    """What tells a proxy who asks; the repr hides it."""
    if proxy.username is None:
        return {}
    import base64

    words = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
    return {"Proxy-Authorization": Secret("Basic " + base64.b64encode(words).decode())}


def certificates() -> str | None:
    """The certificates to trust: a file or folder; None for the system's."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if given := os.environ.get(name):
            return given
    from importlib.util import find_spec

    found = find_spec("certifi")  # found, not imported: only its file is of use
    folders = found.submodule_search_locations if found else None
    path = os.path.join(folders[0], "cacert.pem") if folders else ""
    return path if os.path.isfile(path) else None


def tls_context() -> ssl.SSLContext:
    """What a service's certificate is checked by."""
    import ssl  # it is loaded by http.client

    place = certificates()
    if place is not None and os.path.isdir(place):
        return ssl.create_default_context(capath=place)
    return ssl.create_default_context(cafile=place)
