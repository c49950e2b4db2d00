"""Promises of the jar: cookies are kept and sent as browsers do."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from pytest_bbre.engine.cookies import Jar

SITE = "http://shop.example.org/cart/items"


def sent(jar: Jar, url: str = SITE) -> str:
    return jar.header(urlsplit(url))


def jar_with(*headers: str, url: str = SITE, now: float = 1000.0) -> Jar:
    jar = Jar(now=lambda: now)
    jar.take(headers, urlsplit(url))
    return jar


@pytest.mark.parametrize("value", ["plain", '"quoted"', "a,b", '{"n":1}', "a=b=c", "", "ünï"])
def test_a_value_goes_back_just_as_it_came(value: str) -> None:
    """No quoting, no unquoting."""
    assert sent(jar_with(f"c={value}")) == f"c={value}"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://shop.example.org/cart/items", "c=1"),
        ("http://shop.example.org/cart", "c=1"),
        ("http://shop.example.org/cartoon", ""),
        ("http://shop.example.org/", ""),
        ("http://shop.example.org:8080/cart/x", "c=1"),
        ("http://example.org/cart/x", ""),
        ("http://a.shop.example.org/cart/x", ""),
    ],
)
def test_without_attributes_a_cookie_is_its_hosts_and_its_folders(url: str, expected: str) -> None:
    """Host only, any port, and the path of the page that set it."""
    assert sent(jar_with("c=1"), url) == expected


@pytest.mark.parametrize(
    ("domain", "accepted"),
    [
        ("example.org", True),
        (".example.org", True),
        ("shop.example.org", True),
        ("EXAMPLE.org", True),
        ("other.org", False),
        ("org", False),
        ("a.shop.example.org", False),
        ("ample.org", False),
    ],
)
def test_a_domain_is_taken_from_below_it_alone(domain: str, accepted: bool) -> None:
    """A site can set cookies for itself and what is above it, never for others or for a bare top domain."""
    assert bool(sent(jar_with(f"c=1; Domain={domain}; Path=/"))) is accepted


def test_a_domain_cookie_goes_to_subdomains() -> None:
    """Domain= widens a cookie to all hosts below."""
    assert sent(jar_with("c=1; Domain=example.org; Path=/"), "http://x.example.org/") == "c=1"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_hosts_without_a_dot_and_addresses_keep_cookies(host: str) -> None:
    """Cookies work on loopback, also where the site names itself as the domain."""
    url = f"http://{host}:8080/"
    assert sent(jar_with("c=1", f"d=2; Domain={host.strip('[]')}", url=url), url) == "c=1; d=2"


def test_an_address_has_no_subdomains() -> None:
    """0.0.1 is not above 127.0.0.1."""
    assert sent(jar_with("c=1; Domain=0.0.1", url="http://127.0.0.1/"), "http://127.0.0.1/") == ""


def test_longer_paths_come_first_then_older_cookies() -> None:
    """Two cookies of one name are both sent, the more specific one first; a new value keeps its place."""
    jar = jar_with("a=1; Path=/", "b=1; Path=/", "a=2; Path=/cart", "a=3; Path=/")
    assert sent(jar) == "a=2; a=3; b=1"


@pytest.mark.parametrize(
    "end",
    [
        "Max-Age=0",
        "Max-Age=-1",
        "Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        "expires=Thu, 01-Jan-1970 00:00:00 GMT",
        "Expires=Thursday, 01-Jan-70 00:00:00 GMT",
        "Expires=Thu Jan  1 00:00:00 1970",
    ],
)
def test_a_cookie_with_its_time_over_is_deleted(end: str) -> None:
    """Sites delete a cookie by setting one that has expired."""
    jar = jar_with("c=1", "d=2")
    jar.take([f"c=; {end}"], urlsplit(SITE))
    assert sent(jar) == "d=2"


def test_cookies_end_in_time_and_max_age_wins() -> None:
    """Max-Age goes before Expires, and a cookie is not sent after its end."""
    now = [1000.0]
    jar = Jar(now=lambda: now[0])
    jar.take(["c=1; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "d=1; Max-Age=nonsense"], urlsplit(SITE))
    now[0] += 59
    assert sent(jar) == "c=1; d=1"
    now[0] += 1
    assert (sent(jar), len(jar)) == ("d=1", 1)


@pytest.mark.parametrize(
    ("url", "kept"), [("https://example.org/", True), ("http://example.org/", False), ("http://localhost/", True)]
)
def test_secure_cookies_are_set_and_sent_on_safe_addresses(url: str, kept: bool) -> None:
    """Over HTTPS and on this machine; elsewhere they are neither taken nor sent."""
    assert bool(sent(jar_with("c=1; Secure", url=url), url)) is kept
    assert sent(jar_with("c=1; Secure", url="https://example.org/"), "http://example.org/") == ""


@pytest.mark.parametrize("header", ["", "=", ";Path=/", "c=a\x00b", "c=\udcff", "c=" + "x" * 5000])
def test_what_no_browser_keeps_is_left_out(header: str) -> None:
    """A broken header breaks nothing, and the others are kept."""
    assert sent(jar_with(header, "good=1")) == "good=1"


def test_merged_cookies_go_to_the_whole_host() -> None:
    """Cookies that came with a request are sent to every path of its host, and replace those of the same name."""
    jar = jar_with("c=1; Path=/")
    jar.merge({"c": "2", "d": "3"}, urlsplit(SITE))
    assert sent(jar, "http://shop.example.org/else") == "c=2; d=3"
    assert sent(jar, "http://example.org/") == ""


@pytest.mark.parametrize("expires", ["", "soon", "Thu, 45 Foo 2099 99:99:99 GMT", "Sat, 01 Jan 2050 00:00:00 GMT"])
def test_an_expiry_that_can_not_be_read_is_none(expires: str) -> None:
    """Then the cookie lives as long as the session, as one that expires far in the future does."""
    assert sent(jar_with(f"c=1; Expires={expires}")) == "c=1"


def test_a_jar_is_bounded() -> None:
    """An endless source of cookies pushes out the oldest."""
    jar = jar_with(*(f"c{number}=1" for number in range(3001)))
    assert len(jar) == 3000
    assert "c0=1;" not in sent(jar)
