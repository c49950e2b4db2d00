"""Knows a small shop: a login, a catalogue, carts, orders, invoices. All its state is in one `Shop`, and ends with it.
Must not know who visits it: people, browsers and tests are alike.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import secrets
from collections import Counter
from dataclasses import dataclass, field

from flask import Flask, Response, abort, g, redirect, render_template_string, request, url_for
from werkzeug.wrappers import Response as AnyResponse

COOKIE = "shop_visitor"
PRODUCTS = {"tea": ("Green tea", 7), "cup": ("Cup", 12), "pot": ("Tea pot", 39)}  # id: name, price in euros
CUSTOMERS = {"ada": "lovelace", "grace": "hopper"}  # name: password

PAGE = """<!doctype html>
<title>{{ title }} - Shop</title>
<h1>{{ title }}</h1>
{% macro form(action, button) %}
<form method="post" action="{{ action }}">
  <input type="hidden" name="csrf" value="{{ visitor.csrf }}">{{ caller() }}<button>{{ button }}</button>
</form>
{% endmacro %}
"""
LOGIN = """{% call form("/login", "Log in") %}
  <input name="name"><input name="password" type="password">
{% endcall %}"""
CATALOGUE = """{% for id, (name, price) in products.items() %}
<h2>{{ name }}, {{ price }} EUR</h2>
{% call form("/cart", "Add to cart") %}
  <input name="product" value="{{ id }}"><input name="quantity" value="1">
{% endcall %}
{% endfor %}"""
CART = """<ul>
{% for id, quantity in visitor.cart.items() %}<li>{{ quantity }} x {{ products[id][0] }}</li>{% endfor %}
</ul>
<p>Total: {{ total }} EUR</p>
{% call form("/orders", "Order") %}{% endcall %}"""
ACCOUNT = """<p>Logged in as {{ visitor.name }}</p>
{% call form("/logout", "Log out") %}{% endcall %}"""
ORDER = """<p>Total: {{ order.total }} EUR</p>
<p><a href="/orders/{{ order.number }}/invoice">Invoice</a></p>"""


@dataclass
class Visitor:
    """Somebody with a cookie of ours; logged in once `name` is set."""

    csrf: str = field(default_factory=secrets.token_urlsafe)
    name: str = ""
    cart: Counter[str] = field(default_factory=Counter)


@dataclass
class Order:
    """What a customer bought."""

    number: int
    customer: str
    total: int

    @property
    def invoice(self) -> bytes:
        """A document that begins like a PDF, and holds every value a byte can have."""
        return b"%%PDF-1.7\n%% order %d, %d EUR\n" % (self.number, self.total) + bytes(range(256)) * 64 + b"\n%%EOF\n"


class Shop:
    """One shop with its own customers' data. `app` is its WSGI application."""

    def __init__(self) -> None:
        self.visitors: dict[str, Visitor] = {}
        self.orders: dict[int, Order] = {}
        self.avatars: dict[str, tuple[str, bytes]] = {}  # customer: content type, content
        self._numbers = itertools.count(1)
        self.app = Flask("shop")
        self.app.before_request(self._know_visitor)
        self.app.after_request(self._keep_cookie)
        for path, method, page in (
            ("/", "GET", self.catalogue),
            ("/login", "GET", self.login_form),
            ("/login", "POST", self.log_in),
            ("/logout", "POST", self.log_out),
            ("/account", "GET", self.account),
            ("/account/avatar", "GET", self.avatar),
            ("/account/avatar", "POST", self.change_avatar),
            ("/cart", "GET", self.cart),
            ("/cart", "POST", self.add_to_cart),
            ("/orders", "POST", self.order),
            ("/orders/<int:number>", "GET", self.order_page),
            ("/orders/<int:number>/invoice", "GET", self.invoice),
        ):
            self.app.add_url_rule(path, view_func=page, methods=[method])

    # Every request.

    def _know_visitor(self) -> None:
        """Finds the visitor by the cookie. A form without the visitor's own token is not served."""
        g.token = request.cookies.get(COOKIE, "")
        if g.token not in self.visitors:
            self._new_token(Visitor())
        g.visitor = self.visitors[g.token]
        if request.method == "POST" and not _same(request.form.get("csrf", ""), g.visitor.csrf):
            abort(400, "The form has expired. Load the page again.")

    def _keep_cookie(self, response: Response) -> Response:
        if request.cookies.get(COOKIE) != g.token:
            response.set_cookie(COOKIE, g.token, httponly=True, samesite="Lax")
        return response

    def _new_token(self, visitor: Visitor) -> None:
        self.visitors.pop(g.token, None)
        g.token = secrets.token_urlsafe()
        self.visitors[g.token] = visitor

    def _customer(self) -> str:
        """The customer's name; who is not logged in is sent to the login."""
        if not g.visitor.name:
            abort(redirect(url_for("login_form"), 303))
        return str(g.visitor.name)

    def _render(self, title: str, content: str, **values: object) -> str:
        return render_template_string(PAGE + content, title=title, visitor=g.visitor, products=PRODUCTS, **values)

    # Pages.

    def catalogue(self) -> str:
        return self._render("Catalogue", CATALOGUE)

    def login_form(self) -> str:
        return self._render("Log in", LOGIN)

    def log_in(self) -> AnyResponse:
        name, password = request.form.get("name", ""), request.form.get("password", "")
        if not _same(password, CUSTOMERS.get(name, secrets.token_urlsafe())):
            abort(401, "Unknown name or wrong password.")
        self._new_token(Visitor(name=name, cart=g.visitor.cart))
        return redirect(url_for("account"), 303)

    def log_out(self) -> AnyResponse:
        self._new_token(Visitor())
        return redirect(url_for("catalogue"), 303)

    def account(self) -> str:
        self._customer()
        return self._render("Account", ACCOUNT)

    def avatar(self) -> Response:
        kind, content = self.avatars.get(self._customer()) or abort(404)
        return Response(content, content_type=kind)

    def change_avatar(self) -> AnyResponse:
        upload = request.files.get("avatar") or abort(400, "No avatar was sent.")
        self.avatars[self._customer()] = (upload.mimetype, upload.read())
        return redirect(url_for("account"), 303)

    def cart(self) -> str:
        return self._render("Cart", CART, total=self._total())

    def add_to_cart(self) -> AnyResponse:
        product, quantity = request.form.get("product", ""), request.form.get("quantity", 1, int)
        if product not in PRODUCTS or quantity < 1:
            abort(400, "There is no such product.")
        g.visitor.cart[product] += quantity
        return redirect(url_for("cart"), 303)

    def order(self) -> AnyResponse:
        customer, total = self._customer(), self._total()
        if not total:
            abort(409, "The cart is empty.")
        number = next(self._numbers)
        self.orders[number] = Order(number, customer, total)
        g.visitor.cart.clear()
        return redirect(url_for("order_page", number=number), 303)

    def order_page(self, number: int) -> str:
        return self._render(f"Order {number}", ORDER, order=self._own_order(number))

    def invoice(self, number: int) -> Response:
        response = Response(self._own_order(number).invoice, content_type="application/pdf")
        response.headers["Content-Disposition"] = f"attachment; filename=invoice-{number}.pdf"
        response.headers["X-Checksum"] = hashlib.sha256(response.data).hexdigest()
        return response

    def _own_order(self, number: int) -> Order:
        customer, order = self._customer(), self.orders.get(number)
        if order is None or order.customer != customer:
            abort(404)
        return order

    def _total(self) -> int:
        return sum(PRODUCTS[product][1] * quantity for product, quantity in g.visitor.cart.items())


def _same(given: str, secret: str) -> bool:
    """Compares without telling by the time it takes how much was right."""
    return hmac.compare_digest(given.encode(), secret.encode())
