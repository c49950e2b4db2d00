"""Knows what a person chose for a pytest run: command line over environment over ini file, and what is allowed.
Must not know engines, sessions or fixtures. Loaded with every pytest run: settings are loaded only where any is set.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ._settings import Settings

_SETTINGS = ("mode", "sensibility", "timeout", "base_url", "max_sessions", "slot_timeout", "guard")
_NUMBERS = {"timeout": "a number of seconds", "slot_timeout": "a number of seconds", "max_sessions": "a whole number"}
_ENGINES = ("auto", "embedded", "service")


class Choices:
    """The options of one pytest run."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def _given(self, name: str) -> tuple[str, Any]:
        """The strongest place that has a value for an option, and the value; None if it stands nowhere."""
        from ._facts import variable

        places = (
            (f"--bbre-{name.replace('_', '-')}", self._option(name)),
            (variable(name), os.environ.get(variable(name))),
            (f"bbre_{name} in the ini file", self._ini(name)),
        )
        return next(((place, value) for place, value in places if value not in (None, "")), ("", None))

    def _choice(self) -> str:
        """The value of --bbre-engine, its environment variable, or its ini twin."""
        from .errors import SettingsError

        place, chosen = self._given("engine")
        if chosen is not None and chosen not in _ENGINES:
            raise SettingsError(f"{place} is {chosen!r}; allowed is {', '.join(_ENGINES)}.")
        return str(chosen or "auto")

    def resolved(self) -> tuple[Settings, bool]:
        """The settings as given by command line, environment and ini file, and whether the embedded engine is meant:
        asked for, or there is no key for anything else. Nothing is started.
        """
        from ._facts import EMBEDDED
        from ._settings import Settings

        given = {name: self._option(name) for name in _SETTINGS}
        settings = Settings.resolve(given, ini={name: self._ini(name) for name in _SETTINGS})
        choice = self._choice()
        nowhere_else = settings.api_key is None or settings.base_url == EMBEDDED
        return settings, choice == "embedded" or (choice == "auto" and nowhere_else)

    def _is_default(self) -> bool:
        """Whether nothing at all is set: then nothing has to be loaded to know that it is right."""
        return not (
            any(name.startswith("BBRE_") for name in os.environ)
            or any(self._given(name)[0] for name in (*_SETTINGS, "engine"))
        )

    def check(self) -> None:
        """Refuses bad options at once.

        Raises:
            pytest.UsageError: it names the option and what is allowed.
        """
        try:
            if not self._is_default():
                self._check_values()
        except Exception as error:
            from .errors import BBREError  # here: loaded for nothing in most runs

            if isinstance(error, BBREError):
                raise pytest.UsageError(f"bbre: {error}") from None
            raise

    def _check_values(self) -> None:
        from ._facts import EMBEDDED
        from ._settings import Settings
        from .errors import SettingsError

        for name in _SETTINGS:
            place, value = self._given(name)
            try:
                Settings(**{name: value} if place else {})
            except SettingsError as error:
                raise SettingsError(f"{place}: {error}") from None
        settings, embedded = self.resolved()
        place, _ = self._given("engine")
        if not embedded and settings.api_key is None:
            raise SettingsError(f"{place} is 'service', and there is no key. Set BBRE_API_KEY, or choose embedded.")
        if not embedded and settings.base_url == EMBEDDED:
            raise SettingsError(f"{place} is 'service', and the address is {EMBEDDED!r}. Leave one of them out.")

    def header(self) -> str:
        """One line: which engine, where, which mode, how many slots."""
        from ._facts import DEFAULT_MODE, MAX_SESSIONS

        slots, guard = MAX_SESSIONS, ""
        if self._is_default():
            mode, where = DEFAULT_MODE, "embedded engine, started on first use"
        else:
            from ._facts import EMBEDDED

            settings, embedded = self.resolved()
            mode = settings.mode
            where = "embedded engine, started on first use" if embedded else f"service at {settings.base_url}"
            place, address = self._given("base_url")
            if embedded and address not in (None, EMBEDDED) and settings.api_key is None:
                where += f" ({place} is not used: there is no BBRE_API_KEY)"
            slots = settings.max_sessions
            guard = "" if settings.guard else ", no guardian"
        return f"bbre: {where}, mode {mode}, {slots} slots{guard}"

    def _option(self, name: str) -> Any:
        return self._config.getoption(f"bbre_{name}", default=None)

    def _ini(self, name: str) -> Any:
        try:
            value = self._config.getini(f"bbre_{name}")
        except (ValueError, pytest.UsageError) as error:  # not of the type that it was declared with
            from .errors import SettingsError

            allowed = f"; allowed is {_NUMBERS[name]}" if name in _NUMBERS else ""
            raise SettingsError(f"bbre_{name} in the ini file: {error}{allowed}.") from None
        return None if value == "" else value
