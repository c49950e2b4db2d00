"""A shop, tested by a visitor who logs in, buys and leaves. Each test has a session, and so cookies, of its own."""

from __future__ import annotations

import hashlib

import pytest
from helpers import add_to_cart, cart_of, csrf_of, log_in, multipart, order, submit

from pytest_bbre import BBRESession

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 100


@pytest.fixture
def customer(bbre_session: BBRESession, shop: str) -> BBRESession:
    """A session that is logged in."""
    log_in(bbre_session, shop)
    return bbre_session


def test_login_leads_to_the_account(bbre_session, shop):
    """A login answers with a redirect, and the session follows it to the account."""
    page = log_in(bbre_session, shop)
    assert page.url == f"{shop}/account"
    assert "Logged in as ada" in page.text
    assert [step.status_code for step in page.history] == [303]


def test_account_needs_the_cookie(bbre_session, shop):
    """A visitor without a login is sent to the login form."""
    page = bbre_session.get(f"{shop}/account")
    assert page.url == f"{shop}/login"


def test_login_is_kept_between_requests(customer, shop):
    """The session keeps the login's cookie and sends it with each request."""
    for _ in range(3):
        assert "Logged in as ada" in customer.get(f"{shop}/account").text


@pytest.mark.parametrize(("name", "password"), [("ada", "wrong"), ("nobody", "lovelace"), ("", "")])
def test_wrong_login_is_refused(bbre_session, shop, name, password):
    """A wrong name or password gets no login."""
    assert log_in(bbre_session, shop, name, password).status_code == 401
    assert bbre_session.get(f"{shop}/account").url == f"{shop}/login"


def test_form_without_token_is_refused(customer, shop):
    """A form that lacks its page's token changes nothing, though the cookie is right."""
    answer = customer.post(f"{shop}/cart", data={"product": "tea"})
    assert answer.status_code == 400
    assert cart_of(customer, shop) == []


def test_cart_adds_up(customer, shop):
    """The cart shows what was put into it, and the total."""
    add_to_cart(customer, shop, "tea", quantity=3)
    page = add_to_cart(customer, shop, "pot")
    assert cart_of(customer, shop) == ["3 x Green tea", "1 x Tea pot"]
    assert "Total: 60 EUR" in page.text


def test_order_redirects_to_its_page(customer, shop):
    """An order is answered with 303, so that loading its page again does not order twice."""
    add_to_cart(customer, shop, "cup", quantity=2)
    page = order(customer, shop)
    (posted,) = page.history
    assert (posted.status_code, posted.request.method) == (303, "POST")
    assert page.request.method == "GET"
    assert page.url == shop + posted.headers["Location"]
    assert "Total: 24 EUR" in page.text
    assert cart_of(customer, shop) == []


def test_redirect_can_be_looked_at(bbre_session, shop):
    """With allow_redirects=False the redirect itself is the answer."""
    answer = bbre_session.get(f"{shop}/account", allow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/login"
    assert answer.history == []


def test_invoice_arrives_byte_for_byte(customer, shop):
    """A downloaded invoice is what the shop sent, whatever bytes are in it."""
    add_to_cart(customer, shop, "pot")
    answer = customer.get(f"{order(customer, shop).url}/invoice")
    assert answer.headers["Content-Type"] == "application/pdf"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert set(answer.content) == set(range(256))
    assert hashlib.sha256(answer.content).hexdigest() == answer.headers["X-Checksum"]


def test_avatar_arrives_byte_for_byte(customer, shop):
    """An uploaded picture is served again as it was."""
    token = csrf_of(customer.get(f"{shop}/account"))
    form = multipart(csrf=token, avatar=("ada.png", PICTURE, "image/png"))
    assert customer.post(f"{shop}/account/avatar", **form).history[0].status_code == 303
    avatar = customer.get(f"{shop}/account/avatar")
    assert avatar.headers["Content-Type"] == "image/png"
    assert avatar.content == PICTURE


def test_logout_ends_the_login(customer, shop):
    """After a logout the account is closed to the session that was logged in."""
    assert submit(customer, f"{shop}/account", f"{shop}/logout").url == f"{shop}/"
    assert customer.get(f"{shop}/account").url == f"{shop}/login"
