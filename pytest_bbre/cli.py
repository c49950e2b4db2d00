"""Knows the command `bbre`: its options, what it prints, and its exit codes. Thin: the core does the work.
Must not know the wire, nor how sessions are told apart or closed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.metadata import version
from typing import Any

import click

from . import _show
from ._closing import CloseResult
from ._doctor import BAD, examine
from ._facts import EMBEDDED
from ._settings import Settings
from ._survey import LEFT, MINE, Account, Row
from .errors import BBREError, SettingsError
from .guard import describe
from .guard.reaper import Report

COMPLETED_WITHIN = 2.0  # seconds for ids to be completed: a person has pressed a key and waits; our choice


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


def _account() -> Account:
    return Account(_settings(), lambda line: click.echo(line, err=True))


def _complete_ids(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The active ids that begin so. Whatever goes wrong: nothing, since the person is in the middle of a line."""
    try:
        quick = {"connect_timeout": COMPLETED_WITHIN, "read_timeout": COMPLETED_WITHIN, "retries": 0}
        with Account(_settings().override(**quick), lambda line: None) as account:
            ids = [row.session_id for row in account.look().rows]
    except Exception:
        return []
    return [one for one in ids if one is not None and one.startswith(incomplete)]


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog='Completion of commands and ids, in bash: eval "$(_BBRE_COMPLETE=bash_source bbre)"; zsh_source and '
    "fish_source for those shells.",
)
@click.version_option(package_name="pytest-bbre")
def main() -> None:
    """Sees and closes the BBRE sessions of an account.

    The account is that of BBRE_API_KEY, at BBRE_BASE_URL. Who opened what is known from the ledger, which all
    programs of this user on this machine share.
    """


@main.command("version")
def version_() -> None:
    """Print the version of pytest-bbre."""
    click.echo(version("pytest-bbre"))


@main.command()
@click.option("--all", "everything", is_flag=True, help="Also those that expired or were closed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with durations in seconds.")
@_telling
def sessions(everything: bool, as_json: bool) -> None:
    """List the account's sessions, and who holds them.

    In groups: mine, of living processes of this machine; left over by processes that have died; others', of machines
    and containers that can't be seen from here; and those that no ledger here knows. The newest of each comes first.
    """
    with _account() as account:
        survey = account.look()
        ended = account.ended() if everything else []
    if as_json:
        click.echo(json.dumps(_show.to_json(survey, ended), indent=2))
    else:
        _show.tables(survey, ended, everything=everything)


@main.command()
@click.argument("ids", nargs=-1, metavar="ID...", shell_complete=_complete_ids)
@click.option("--all-mine", is_flag=True, help="All that processes of this machine opened, dead or alive.")
@click.option("--yes", is_flag=True, help="With --all-mine: do not ask.")
@_telling
def close(ids: tuple[str, ...], all_mine: bool, yes: bool) -> None:
    """Close sessions by their ids; closed or unknown ones count as closed.

    A session is closed whoever uses it. With --all-mine it names the processes that live, and asks first. Exits with
    1 if any could not be closed.
    """
    if bool(ids) == all_mine:
        raise click.UsageError("Give the ID... of sessions, or --all-mine.")
    with _account() as account:
        if all_mine:
            found = [row for row in account.look().rows if row.group in (MINE, LEFT) and row.session_id is not None]
            ids = tuple(str(row.session_id) for row in found)
            if not ids:
                click.echo("Nothing to close.")
                return
            if not yes:
                _ask(found)
        _tell_results(_close(account, ids))


def _ask(found: Sequence[Row]) -> None:
    for row in found:
        at = f", at {row.place}" if row.place else ""
        click.echo(f"{describe.safe(row.session_id)}: {row.owner}{at}; {row.reason}")
    click.confirm(f"Close {len(found)}?", abort=True)


def _close(account: Account, ids: Sequence[str]) -> list[CloseResult]:
    if len(ids) < 2:
        return account.close(ids)
    with _show.progress("Closing", len(set(ids))) as step:
        return account.close(ids, lambda result: step())


def _tell_results(results: Sequence[CloseResult]) -> None:
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
    with _account() as account:
        reaper = account.visit.reaper
        if reaper is None:  # why has been told
            raise SystemExit(1)
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
            with _show.busy("Closing"):
                report = reaper.sweep()
            _tell_report(report)


def _tell_report(report: Report) -> None:
    for session_id in (*report.closed, *report.gone):
        click.echo(f"{describe.safe(session_id)}: closed")
    for suspect in report.lost:
        click.echo(f"{describe.safe(suspect)}: nobody here knows whose it is")
    for failed in report.failed:
        click.echo(f"{describe.safe(failed.session_id)}: failed: {describe.safe(failed.reason)}", err=True)
    if report.failed:
        raise SystemExit(1)


@main.command()
@_telling
def doctor() -> None:
    """Look at everything that sessions need, and say what is wrong.

    Settings, service and key, slots, ledger, guardian, and what is by design only on this system. Exits with 1 if
    anything does not work.
    """
    with _show.busy("Looking"):
        found = list(examine(Settings.resolve()))
    _show.checks(found)
    if any(check.state == BAD for check in found):
        raise SystemExit(1)
