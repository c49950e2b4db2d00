"""_settings.py: which layer wins, what is refused, and what is never shown."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

from pytest_bbre import BBREError, Settings
from pytest_bbre._settings import Secret, variable
from pytest_bbre.errors import SettingsError

KEY = "abc-DEF_123"
LAYERED = {
    "api_key": ("k-ini", "k-env", "k-arg"),
    "base_url": ("http://ini", "http://env", "http://arg"),
    "mode": ("adaptive", "passive", "adaptive"),
    "sensibility": ("low", "high", "low"),
    "timeout": (1.0, 2.0, 3.0),
    "connect_timeout": (1.0, 2.0, 3.0),
    "read_timeout": (1.0, 2.0, 3.0),
    "request_timeout": (1.0, 2.0, 3.0),
    "retries": (1, 2, 3),
    "retry_min": (0.1, 0.2, 0.3),
    "retry_max": (6.0, 7.0, 8.0),
    "retry_total": (1.0, 2.0, 3.0),
    "exit_timeout": (1.0, 2.0, 3.0),
    "guard": (False, True, False),
    "max_sessions": (1, 2, 3),
    "slot_timeout": (1.0, 2.0, 3.0),
    "account_scope": ("exclusive", "shared", "exclusive"),
    "state_dir": ("/ini", "/env", "/arg"),
    "evictable": (True, False, True),
    "evict": ("idle", "idle", "idle"),
    "evict_after": (1.0, 2.0, 3.0),
}


def test_every_setting_is_tested_here():
    """A new setting has to say how its layers behave."""
    assert set(LAYERED) == {field.name for field in dataclasses.fields(Settings)}


@pytest.mark.parametrize("name", LAYERED)
def test_argument_over_environment_over_ini_over_default(name: str):
    """The strongest layer that has a value wins, for every setting."""
    ini, env, argument = LAYERED[name]
    environ = {variable(name): str(env)}
    default = next(field.default for field in dataclasses.fields(Settings) if field.name == name)
    assert getattr(Settings.resolve(environ={}), name) == default
    assert getattr(Settings.resolve(environ={}, ini={name: ini}), name) == ini
    assert getattr(Settings.resolve(environ=environ, ini={name: ini}), name) == env
    assert getattr(Settings.resolve({name: argument}, environ=environ, ini={name: ini}), name) == argument


def test_the_environment_is_the_process_s_own(monkeypatch: pytest.MonkeyPatch):
    """Without another one given, os.environ is read."""
    monkeypatch.setenv("BBRE_MODE", "adaptive")
    assert Settings.resolve().mode == "adaptive"


def test_none_and_empty_variables_are_not_given():
    """None as an argument, and an empty variable, leave the word to the layers below."""
    settings = Settings.resolve({"mode": None}, environ={"BBRE_TIMEOUT": "", "BBRE_API_KEY": ""}, ini={"retries": None})
    assert settings == Settings()


def test_settings_are_frozen():
    """Nobody changes the settings of a session that runs."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().mode = "adaptive"  # type: ignore[misc]


def test_an_override_is_a_checked_copy():
    """override changes a copy, checks it, and takes None for "not given"."""
    settings = Settings()
    assert settings.override(mode="adaptive", timeout=None) == dataclasses.replace(settings, mode="adaptive")
    assert settings.mode == "passive"
    with pytest.raises(SettingsError):
        settings.override(mode="fast")


@pytest.mark.parametrize("word", [str, repr, lambda s: f"{s}", lambda s: f"{s!r:>200}", lambda s: repr([s, {"s": s}])])
def test_the_key_is_in_no_repr(word):
    """Settings can be printed and logged."""
    shown = word(Settings(api_key=KEY))  # type: ignore[arg-type]
    assert KEY not in shown
    assert "***" in shown


def test_the_key_itself_is_a_string_that_hides_from_repr():
    """The key can be sent, compared and hashed, but a traceback's locals don't show it."""
    key = Settings(api_key=KEY).api_key  # type: ignore[arg-type]
    assert key == KEY
    assert str(key) == KEY
    assert hash(key) == hash(KEY)
    assert repr(key) == "'***'"


@pytest.mark.parametrize("again", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))], ids=["copy", "pickle"])
def test_settings_survive_copying_and_pickling(again):
    """What crosses a process border still hides the key."""
    settings = again(Settings(api_key=Secret(KEY)))
    assert settings == Settings(api_key=Secret(KEY))
    assert isinstance(settings.api_key, Secret)


@pytest.mark.parametrize(
    "key", [f" {KEY}", f"{KEY}\n", f"{KEY}\r\n", "a b", "a\tb", "a\nb", "ключ", "a\x00", "a\x7f", "​a"]
)
def test_a_key_with_stray_characters_is_refused_without_being_shown(key: str):
    """What copying brings along is told before it is sent, and the key is not told with it."""
    with pytest.raises(SettingsError) as caught:
        Settings.resolve({"api_key": key}, environ={})
    assert "api_key" in str(caught.value)
    assert "BBRE_API_KEY" in str(caught.value)
    assert key.strip() not in str(caught.value)


@pytest.mark.parametrize("key", ["", 5, b"abc", object()])
def test_a_key_that_is_no_text_is_refused(key: object):
    """Bytes and numbers are no key."""
    with pytest.raises(SettingsError, match="BBRE_API_KEY"):
        Settings(api_key=key)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        (" https://example.org/api/ ", "https://example.org/api"),
        ("HTTPS://Example.org", "HTTPS://Example.org"),
        ("http://[::1]:80", "http://[::1]:80"),
        ("embedded", "embedded"),
    ],
)
def test_addresses_that_are_allowed(given: str, kept: str):
    """http and https addresses, without a trailing slash; and the word embedded."""
    assert Settings(base_url=given).base_url == kept


@pytest.mark.parametrize(
    "address",
    [
        "example.org", "localhost:8080", "//example.org", "ftp://example.org", "http://", "http:///path", "http://[::1",
        "http://h:port", "http://h:99999", "http://h:0", "http://a b/", "http://h/?q=1", "http://h/#f", "", "Embedded",
        5, None, b"http://h",
    ],
)  # fmt: skip
def test_addresses_that_are_refused(address: object):
    """An address without a scheme, or that is none at all, is told with its name, value and what is allowed."""
    with pytest.raises(SettingsError) as caught:
        Settings(base_url=address)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "base_url" in text
    assert "BBRE_BASE_URL" in text
    assert repr(address.strip() if isinstance(address, str) else address) in text
    assert "https://bbre-solver-api.mydisct.com" in text
    assert "embedded" in text


def test_a_password_in_the_address_is_refused_without_being_shown():
    """Who puts credentials into the address is told so, and does not find them in a log."""
    with pytest.raises(SettingsError, match="user name or password") as caught:
        Settings(base_url="https://user:hunter2@example.org")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["mode", "sensibility"])
@pytest.mark.parametrize("value", ["fast", "PASSIVE", "", 1, None, ["passive"]])
def test_unknown_words_are_refused(name: str, value: object):
    """Name, value, and the words that are allowed."""
    with pytest.raises(SettingsError) as caught:
        Settings(**{name: value})  # type: ignore[arg-type]
    text = str(caught.value)
    allowed = {"mode": ["'passive'", "'adaptive'"], "sensibility": ["'low'", "'medium'", "'high'"]}[name]
    for word in [name, repr(value), variable(name), *allowed]:
        assert word in text


SECONDS = ["timeout", "connect_timeout", "read_timeout", "request_timeout"]
SECONDS_OR_ZERO = ["retry_min", "retry_max", "retry_total", "exit_timeout"]


@pytest.mark.parametrize("name", [*SECONDS, *SECONDS_OR_ZERO])
@pytest.mark.parametrize("value", [-1, "-0.5", "soon", "", float("nan"), "inf", 1e9, True, None, [], 10**20])
def test_times_that_are_refused(name: str, value: object):
    """Negative, text, endless, milliseconds taken for seconds: name, value, what is allowed."""
    with pytest.raises(SettingsError) as caught:
        Settings(**{name: value})  # type: ignore[arg-type]
    for word in (name, repr(value), variable(name), "a number of seconds"):
        assert word in str(caught.value)


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", [0, 0.0, "0"])
def test_a_time_of_zero_is_refused_where_it_would_mean_nothing(name: str, value: object):
    """A session or a call of no time can't work."""
    with pytest.raises(SettingsError, match="more than 0"):
        Settings(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SECONDS_OR_ZERO)
def test_a_time_of_zero_is_allowed_where_it_means_at_once(name: str):
    """No delay, no second try, no waiting at the end."""
    assert getattr(Settings(**{"retry_min": 0, name: 0}), name) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [-1, 21, "three", 1.5, "1.5", True, None])
def test_counts_that_are_refused(value: object):
    """Retries are a whole number, and not endless."""
    with pytest.raises(SettingsError, match=r"retries is .* from 0 to 20.*BBRE_RETRIES"):
        Settings(retries=value)  # type: ignore[arg-type]


def test_delays_that_contradict_each_other_are_refused():
    """The greatest delay can't be less than the least."""
    with pytest.raises(SettingsError, match="BBRE_RETRY_MAX"):
        Settings(retry_min=3, retry_max=2)


def test_a_setting_that_does_not_exist_is_refused():
    """A misspelt name is told, as one of our errors or as Python's own for a wrong argument."""
    with pytest.raises((BBREError, TypeError), match="modus"):
        Settings.resolve({"modus": "passive"}, environ={})
