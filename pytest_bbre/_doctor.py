"""Knows what to look at when something is wrong: settings, service, slots, ledger, guardian, system.
Must not know how the findings are shown. Changes nothing.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Final, NamedTuple

from ._facts import EMBEDDED
from ._settings import Settings
from ._survey import LEFT, UNKNOWN, Account
from .engine import chromium
from .engine.refused import Refused
from .errors import BBREError, LedgerError
from .guard import describe, owners
from .guard.door import Listing
from .guard.place import open_ledger

OK: Final = "ok"
NOTE: Final = "note"  # works, and you may want to know
BAD: Final = "bad"  # does not work

CLOCKS_APART: Final = 5.0  # seconds after which a difference of clocks is worth a word; our choice


class Check(NamedTuple):
    """One finding: what was looked at, OK, NOTE or BAD, and what is to be said, with the remedy."""

    name: str
    state: str
    words: str


def examine(settings: Settings) -> Iterator[Check]:
    """Looks at everything, and gives each finding as soon as it is there. Never raises for what it finds.

    Args:
        settings: as the environment says; a key may be missing.
    """
    yield _software()
    yield _system()
    yield _extra("engine", "aiohttp", "the embedded engine")
    yield _extra("adaptive", "playwright", "its adaptive mode")
    yield _browser()
    if settings.base_url == EMBEDDED:
        yield Check("service", NOTE, "embedded: each process that opens a session runs an engine of its own")
        yield _ledger(settings)
        return
    if settings.api_key is None:
        yield Check("service", BAD, f"{settings.base_url}; no API key is set. Set BBRE_API_KEY to that of the account")
        yield _ledger(settings)
        return
    yield from _account(settings)


def _software() -> Check:
    return Check("pytest-bbre", OK, f"{version('pytest-bbre')}, Python {platform.python_version()}")


def _system() -> Check:
    name = f"{platform.system()} {platform.release()}"
    if not sys.platform.startswith("linux"):
        return Check("system", NOTE, f"{name}: owners are judged by psutil; by design only, proven on Linux alone")
    if owners.judge(str(owners.here())).state != owners.ALIVE:
        return Check("system", BAD, f"{name}: /proc can't be read, so that nobody can be told to be dead")
    watched = owners.watch(str(owners.here()))
    if watched is None:
        return Check("system", NOTE, f"{name}: it has no pidfd, so that deaths are noticed within a second")
    os.close(watched)
    return Check("system", OK, f"{name}: deaths are noticed at once")


def _extra(extra: str, distribution: str, what: str) -> Check:
    try:
        return Check(extra, OK, f"{what} can run: {distribution} {version(distribution)}")
    except PackageNotFoundError:
        return Check(extra, NOTE, f'{what} is not installed. Install it with: pip install "pytest-bbre[{extra}]"')


def _browser() -> Check:
    try:
        path = chromium.find(None)
    except Refused as refused:
        return Check("browser", BAD, str(refused))
    if path is None:
        return Check("browser", NOTE, str(chromium.missing()))
    sandbox = "" if chromium.may_use_sandbox() else ", without its sandbox, since root has none"
    return Check("browser", OK, f"{path}{sandbox}")


def _ledger(settings: Settings) -> Check:
    told: list[str] = []
    try:
        ledger = open_ledger(settings.state_dir, told.append)
    except LedgerError as error:
        return Check("ledger", BAD, error.message)
    try:
        words = f"{ledger.path}: whole; {len(ledger.leases())} leases of {len(ledger.enrolled())} processes"
    except LedgerError as error:
        return Check("ledger", BAD, error.message)
    finally:
        ledger.close()
    return Check("ledger", NOTE if told else OK, "; ".join([words, *told]))


def _account(settings: Settings) -> Iterator[Check]:
    with Account(settings, lambda line: None) as account:
        began = time.monotonic()
        listing = None
        try:
            listing = account.visit.door.active()
        except BBREError as error:
            yield Check("service", BAD, f"{settings.base_url}: {error}")
        else:
            yield _service(settings, listing, time.monotonic() - began)
        yield _ledger(settings)
        yield _guardian(account, settings)
        yield from _slots(account, listing)


def _service(settings: Settings, listing: Listing, seconds: float) -> Check:
    words = f"{settings.base_url} answers in {seconds * 1000:.0f} ms, and accepts the key"
    if abs(listing.offset) > CLOCKS_APART + listing.uncertainty:
        apart = f"{describe.age(abs(listing.offset))} {'ahead of' if listing.offset > 0 else 'behind'} this machine's"
        return Check("service", NOTE, f"{words}; its clock is {apart}, which does no harm")
    return Check("service", OK, words)


def _guardian(account: Account, settings: Settings) -> Check:
    ledger, name = account.visit.ledger, account.visit.account
    if ledger is None:
        return Check("guardian", BAD, "there is none without a ledger; SIGKILL leaves sessions open")
    serving = ledger.guardian(name)
    if not settings.guard:
        words = "off (BBRE_GUARD is 0): what SIGKILL leaves is closed by the next program that opens a session"
        return Check("guardian", NOTE, words)
    if serving is not None and owners.judge(serving).state == owners.ALIVE:
        return Check("guardian", OK, f"serves, as {describe.owner(serving)}")
    if ledger.enrolled(name) or ledger.leases(name):
        return Check("guardian", NOTE, "none serves; the next program that opens a session starts one")
    return Check("guardian", OK, "none serves, since there is nothing to guard")


def _slots(account: Account, listing: Listing | None) -> Iterator[Check]:
    if listing is None:
        yield Check("slots", BAD, "they can't be counted, since the service does not list them")
        return
    try:
        survey = account.look(listing)
    except LedgerError as error:
        yield Check("slots", BAD, f"they can't be counted: {error.message}")
        return
    words = f"{survey.in_use} of {survey.limit} in use, {len(survey.waiting)} waiting"
    yield Check("slots", OK if survey.in_use < survey.limit else NOTE, words)
    left = [row for row in survey.rows if row.group == LEFT]
    if left:
        yield Check("left over", NOTE, f"{len(left)} of processes that have died. Close them with: bbre reap")
    unknown = [row for row in survey.rows if row.group == UNKNOWN]
    if unknown:
        words = f"{len(unknown)} that no ledger of this machine knows. See them with: bbre sessions"
        yield Check("unknown", NOTE, words)
