"""Knows the command `bbre`: what it prints and its exit codes. Thin: the client does the work.
Must not know the wire, nor how closing is repeated.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import wraps
from importlib.metadata import version
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from ._client import BBREClient
from ._facts import EMBEDDED
from ._settings import Settings
from ._wire import SessionInfo
from .errors import BBREError, SettingsError
from .guard import describe, keeper
from .guard.reaper import Report


def _telling(command: Callable[..., Any]) -> Callable[..., Any]:
    """Our own errors are told in one line, with exit code 1, and no traceback."""

    @wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except BBREError as error:
            raise click.ClickException(str(error)) from None

    return wrapper


def _settings() -> Settings:
    """Those of the account that the environment names.

    Raises:
        SettingsError: there is no key, or the address is the embedded engine's.
    """
    settings = Settings.resolve()
    if settings.base_url == EMBEDDED:
        raise SettingsError(
            f"BBRE_BASE_URL is {EMBEDDED!r}: that engine belongs to the process that started it, and ends with it. "
            "Set BBRE_BASE_URL and BBRE_API_KEY to those of a service."
        )
    if settings.api_key is None:
        raise SettingsError("No API key is set. Set BBRE_API_KEY to that of the account.")
    return settings


def _client() -> BBREClient:
    return BBREClient(settings=_settings())


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pytest-bbre")
def main() -> None:
    """Sees and closes the BBRE sessions of an account.

    The account is that of BBRE_API_KEY, at BBRE_BASE_URL.
    """


@main.command("version")
def version_() -> None:
    """Print the version of pytest-bbre."""
    click.echo(version("pytest-bbre"))


@main.command()
@click.option("--all", "everything", is_flag=True, help="Also those that expired or were closed.")
@_telling
def sessions(everything: bool) -> None:
    """List the account's sessions, newest first."""
    with _client() as client:
        found = list(client.list_sessions(None if everything else "active"))
    if not found:
        click.echo("No sessions." if everything else "No active sessions.")
        return
    table = Table(box=None, pad_edge=False)
    for title in ("ID", "STATUS", "MODE", "AGE", "LEFT", "REQUESTS"):
        table.add_column(title, no_wrap=title == "ID")
    now = datetime.now(timezone.utc)
    for one in found:
        table.add_row(*_row(one, now))
    # An id is opaque: what looks like markup or an emoji in it is part of it.
    Console(width=None if sys.stdout.isatty() else 200, markup=False, emoji=False, highlight=False).print(table)


def _row(one: SessionInfo, now: datetime) -> tuple[str, ...]:
    age = _seconds(now - one.created_at) if one.created_at else "?"
    left = _seconds(one.expires_at - now) if one.expires_at and one.status == "active" else "-"
    requests = "?" if one.request_count is None else str(one.request_count)
    return one.id, one.status or "?", one.mode or "?", age, left, requests


def _seconds(duration: timedelta) -> str:
    return f"{max(duration.total_seconds(), 0):.0f} s"


@main.command()
@click.argument("ids", nargs=-1, metavar="ID...", required=True)
@_telling
def close(ids: tuple[str, ...]) -> None:
    """Close sessions by their ids; closed or unknown ones count as closed.

    Exits with 1 if any could not be closed.
    """
    with _client() as client:
        results = client.close_sessions(ids)
    for result in results:
        click.echo(str(result), err=not result.success)
    if not all(result.success for result in results):
        raise SystemExit(1)


@main.command()
@click.option("--dry-run", is_flag=True, help="Say what would be closed, and why; close nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_telling
def reap(dry_run: bool, yes: bool) -> None:
    """Close what processes left behind that have died.

    For each session of the ledger it says why it may be closed, which is the proof that its process is dead, or why it
    is left alone. Exits with 1 if any could not be closed.
    """
    reaper, ledger = keeper.reaper(_settings(), lambda line: click.echo(line, err=True))
    try:
        cases = reaper.plan()
        for case in cases:
            told = f"{describe.session(case.lease)}: {describe.safe(case.reason)}"
            click.echo(f"{told}; {'to be closed' if case.may_be_closed else 'left alone'}")
        due = sum(case.may_be_closed for case in cases)
        if not due:
            click.echo("Nothing to reap.")
        elif not dry_run:
            if not yes:
                click.confirm(f"Close {due}?", abort=True)
            _tell_report(reaper.sweep())
    finally:
        ledger.close()


def _tell_report(report: Report) -> None:
    for session_id in (*report.closed, *report.gone):
        click.echo(f"{describe.safe(session_id)}: closed")
    for suspect in report.lost:
        click.echo(f"{describe.safe(suspect)}: nobody here knows whose it is")
    for failed in report.failed:
        click.echo(f"{describe.safe(failed.session_id)}: failed: {describe.safe(failed.reason)}", err=True)
    if report.failed:
        raise SystemExit(1)
