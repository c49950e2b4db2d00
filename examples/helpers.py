"""Knows how the shop is used: what a form needs, where a page says what.
Must not know pytest, so that it serves scripts and notebooks as well.
"""

from __future__ import annotations

import re
from typing import Any

import requests
from urllib3 import encode_multipart_formdata

from pytest_bbre import BBRESession, with_session


def submit(session: BBRESession, page: str, action: str, **fields: str) -> requests.Response:
    """Loads a page, and sends its form with the token that the page carries."""
    return session.post(action, data={"csrf": csrf_of(session.get(page)), **fields})


def csrf_of(page: requests.Response) -> str:
    """The token that guards a page's forms."""
    page.raise_for_status()
    found = re.search(r'name="csrf" value="([^"]+)"', page.text)
    assert found, f"{page.url} has no form"
    return found[1]


def log_in(session: BBRESession, shop: str, name: str = "ada", password: str = "lovelace") -> requests.Response:
    """Logs in, and gives the page where that leads."""
    return submit(session, f"{shop}/login", f"{shop}/login", name=name, password=password)


def add_to_cart(session: BBRESession, shop: str, product: str, quantity: int = 1) -> requests.Response:
    """Puts a product into the cart, and gives the cart's page."""
    return submit(session, shop, f"{shop}/cart", product=product, quantity=str(quantity))


def order(session: BBRESession, shop: str) -> requests.Response:
    """Orders what is in the cart, and gives the order's page."""
    return submit(session, f"{shop}/cart", f"{shop}/orders")


def cart_of(session: BBRESession, shop: str) -> list[str]:
    """The lines of the cart, such as "2 x Cup"."""
    return re.findall("<li>(.*?)</li>", session.get(f"{shop}/cart").text)


def multipart(**parts: str | tuple[str, bytes, str]) -> dict[str, Any]:
    """A form with files, as `data` and `headers` of a request. A file is its name, content and content type."""
    body, content_type = encode_multipart_formdata(parts)
    return {"data": body, "headers": {"Content-Type": content_type}}


@with_session
def buy(session: BBRESession, shop: str, product: str) -> bytes:
    """Logs in with a session of its own, buys one product, and gives the invoice."""
    log_in(session, shop)
    add_to_cart(session, shop, product)
    page = order(session, shop)
    return session.get(f"{page.url}/invoice").content


@with_session(timeout=60)
def is_open(shop: str, session: BBRESession) -> bool:
    """Whether the shop serves its catalogue; asked with a session that the service would end after a minute."""
    return session.get(shop).ok
