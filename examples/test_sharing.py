"""One session for a whole module, several for one test, and sessions that helper code opens for itself."""

from __future__ import annotations

import pytest
from helpers import add_to_cart, buy, cart_of, is_open, log_in, order

from pytest_bbre import managed_session


class TestOneSessionForTheModule:
    """These tests go on where the one before ended: all use the module's session."""

    def test_first_logs_in(self, bbre_module_session, shop):
        """The login is made once, for all tests of the module."""
        assert "Logged in as grace" in log_in(bbre_module_session, shop, "grace", "hopper").text

    def test_second_fills_the_cart(self, bbre_module_session, shop):
        """The next test is still logged in, and leaves a full cart."""
        assert "Logged in as grace" in bbre_module_session.get(f"{shop}/account").text
        add_to_cart(bbre_module_session, shop, "tea")

    def test_third_orders(self, bbre_module_session, bbre_session, shop):
        """The module's session has the cart; a session of the test's own has none."""
        assert cart_of(bbre_session, shop) == []
        assert "Total: 7 EUR" in order(bbre_module_session, shop).text


def test_carts_of_two_customers_do_not_mix(bbre_session_factory, shop):
    """Two sessions at once are two visitors, each with a login and a cart."""
    ada, grace = bbre_session_factory(), bbre_session_factory()
    log_in(ada, shop, "ada", "lovelace")
    log_in(grace, shop, "grace", "hopper")
    add_to_cart(ada, shop, "cup")
    add_to_cart(grace, shop, "pot", quantity=2)
    assert cart_of(ada, shop) == ["1 x Cup"]
    assert cart_of(grace, shop) == ["2 x Tea pot"]


def test_order_of_another_customer_is_hidden(bbre_session_factory, shop):
    """A customer's order page is not found by another customer."""
    ada, grace = bbre_session_factory(), bbre_session_factory()
    log_in(ada, shop, "ada", "lovelace")
    log_in(grace, shop, "grace", "hopper")
    add_to_cart(ada, shop, "cup")
    page = order(ada, shop)
    assert grace.get(page.url).status_code == 404


def test_helper_brings_its_own_session(shop):
    """A function with @with_session is called without one, and closes what it opened."""
    assert buy(shop, "tea").endswith(b"%%EOF\n")


def test_helper_uses_the_session_it_is_given(bbre_session, shop):
    """A session passed to such a function is used, and left open: here it is logged in afterwards."""
    buy(session=bbre_session, shop=shop, product="tea")
    assert bbre_session.is_active
    assert "Logged in as ada" in bbre_session.get(f"{shop}/account").text


def test_helper_with_options(shop):
    """@with_session takes the session's options."""
    assert is_open(shop)


def test_block_closes_its_session(bbre_engine, shop):
    """A session of managed_session is active within its block, and closed after it."""
    with managed_session() as session:
        assert session.get(shop).ok
        assert session.id in {one.id for one in bbre_engine.sessions("active")}
    assert session.id not in {one.id for one in bbre_engine.sessions("active")}


def test_block_that_fails_closes_its_session(bbre_engine):
    """The session is closed as well if the block fails, and the block's error is what the caller gets."""
    used = []

    def fail() -> None:
        with managed_session() as session:
            used.append(session)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert used[0].id not in {one.id for one in bbre_engine.sessions("active")}


@pytest.mark.bbre(sensibility="high", timeout=60)
def test_marker_sets_options(bbre_session):
    """The marker bbre sets what a test's session is opened with."""
    told = bbre_session.status()
    assert (told.status, told.sensibility, told.timeout) == ("active", "high", 60)
