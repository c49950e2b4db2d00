"""Knows the engine's accounts: their keys and whether they may be used.
Must not know their sessions, nor HTTP.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from .._child import new_key
from .._secret import Secret
from .options import check_key, check_state
from .refused import Refused

_REFUSALS: Final = {"suspended": "ACCOUNT_SUSPENDED", "inactive": "ACCOUNT_INACTIVE"}


@dataclass(frozen=True)
class Account:
    """One account: the key is no part of it, so that it can't be shown by accident."""

    id: str
    state: str


class Accounts:
    """Accounts by key."""

    def __init__(self, states: Mapping[str, str]) -> None:
        self._by_key: dict[bytes, Account] = {}
        for key, state in states.items():
            self.add(state, key)

    def add(self, state: str = "active", key: str | None = None) -> Secret:
        """Adds an account, or changes the state of one.

        Raises:
            SettingsError: no such state, or no such key as could be sent in a header.
        """
        key = check_key(new_key() if key is None else key)
        check_state(state)
        known = self._by_key.get(key.encode())
        account_id = known.id if known else "account_" + secrets.token_hex(8)
        self._by_key[key.encode()] = Account(account_id, state)
        return Secret(key)

    def authenticate(self, key: str | None) -> Account:
        """The account of a key.

        Raises:
            Refused: no key, an unknown key, or an account that may not be used.
        """
        if not key:
            raise Refused("API_KEY_REQUIRED")
        given, found = key.encode("utf-8", "surrogateescape"), None
        for known, account in self._by_key.items():  # all of them, so that the time taken tells nothing
            if hmac.compare_digest(known, given):
                found = account
        if found is None:
            raise Refused("INVALID_API_KEY")
        if found.state != "active":
            raise Refused(_REFUSALS[found.state])
        return found
