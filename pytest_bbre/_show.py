"""Knows how the command `bbre` looks in a terminal and in a pipe: tables, JSON, progress.
Must not know where what it shows comes from.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from ._doctor import BAD, NOTE, OK, Check
from ._survey import LEFT, MINE, OTHERS, UNKNOWN, Row, Survey
from ._wire import SessionInfo
from .guard import describe

PIPED: Final = 10_000  # columns: in a pipe each session is one line, however long
_TITLES: Final = {
    MINE: "Mine: opened by living processes of this machine",
    LEFT: "Left over: their processes have died. Close them with: bbre reap",
    OTHERS: "Others': opened on other machines or in other containers",
    UNKNOWN: "Unknown: in no ledger of this machine. Close one with: bbre close ID",
}
_STYLES: Final = {OK: "green", NOTE: "yellow", BAD: "bold red"}


def _console(*, stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    # An id is opaque: what looks like markup or an emoji in it is part of it.
    return Console(file=stream, width=None if stream.isatty() else PIPED, markup=False, emoji=False, highlight=False)


def tables(survey: Survey, ended: Sequence[SessionInfo], *, everything: bool) -> None:
    """The sessions in groups, and how many slots are in use."""
    console = _console()
    if not survey.rows and not ended:
        console.print("No sessions." if everything else "No active sessions.")
    for group, title in _TITLES.items():
        rows = [row for row in survey.rows if row.group == group]
        if rows:
            console.print(title, style="bold")
            _print_rows(console, rows, owned=group != UNKNOWN)
    if ended:
        console.print("Ended", style="bold")
        console.print(_table_of_ended(ended))
        console.print()
    if survey.rows or survey.waiting:
        waiting = f", {len(survey.waiting)} waiting" if survey.waiting else ""
        console.print(f"{survey.in_use} of {survey.limit} slots in use{waiting}.")


def _print_rows(console: Console, rows: Sequence[Row], *, owned: bool) -> None:
    """A table where the terminal is wide enough for each session's line, else a few lines for each."""
    titles = ["ID", "STATE", "MODE", "AGE", "IDLE", "LEFT", "REQUESTS", *(["OWNER", "OPENED AT"] if owned else [])]
    table = _grid(*titles)
    for row in rows:
        table.add_row(*_cells(row), *([row.owner, row.place] if owned else []))
    needed = Measurement.get(console, console.options.update(max_width=PIPED), table).maximum
    if needed <= console.width:
        console.print(table)
    else:
        for row in rows:
            _print_block(console, row)
    console.print()


def _print_block(console: Console, row: Row) -> None:
    session_id, state, mode, age, idle, left, requests = _cells(row)
    console.print(session_id, style="bold", soft_wrap=True)
    told = f"{state}, {mode}, {age} old, idle {idle}, {left} left, requests: {requests}"
    for line in (told, row.owner, row.place):
        if line:
            console.print(Padding(line, (0, 0, 0, 2)))


def _grid(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in titles:
        table.add_column(title, no_wrap=True)
    return table


def _cells(row: Row) -> list[str]:
    """An id is not shortened: it is there to be copied."""
    durations = ["?" if seconds is None else describe.age(seconds) for seconds in (row.age, row.idle, row.left)]
    requests = "?" if row.requests is None else str(row.requests)
    words = [describe.printable(row.session_id or "-"), describe.safe(row.state), describe.safe(row.mode or "?")]
    return [*words, *durations, requests]


def _table_of_ended(ended: Sequence[SessionInfo]) -> Table:
    table = _grid("ID", "STATUS", "MODE", "REQUESTS")
    for one in ended:
        requests = "?" if one.request_count is None else str(one.request_count)
        table.add_row(
            describe.printable(one.id), describe.safe(one.status or "?"), describe.safe(one.mode or "?"), requests
        )
    return table


def to_json(survey: Survey, ended: Sequence[SessionInfo]) -> dict[str, Any]:
    """The same for programs. Durations are seconds; null is what nobody tells."""
    rows = [
        {
            "id": row.session_id,
            "group": row.group,
            "state": row.state,
            "mode": row.mode,
            "age": _rounded(row.age),
            "idle": _rounded(row.idle),
            "left": _rounded(row.left),
            "requests": row.requests,
            "owner": row.owner or None,
            "place": row.place or None,
            "reason": row.reason,
        }
        for row in survey.rows
    ]
    slots = {"in_use": survey.in_use, "limit": survey.limit, "waiting": len(survey.waiting)}
    return {"sessions": rows, "ended": [one.to_json() for one in ended], "slots": slots}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def checks(found: Sequence[Check]) -> None:
    """The findings of the doctor: each state by a word, not by a colour alone."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in found:
        table.add_row(Text(check.state, _STYLES[check.state]), check.name, describe.printable(check.words))
    _console().print(table)


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[], object]]:
    """A bar on stderr, if a person looks at it; what is given counts one step, from any thread."""
    if not sys.stderr.isatty():  # a bar that is switched off writes an empty line, in older versions
        yield lambda: None
        return
    columns = TextColumn(title), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=_console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)


def busy(title: str) -> AbstractContextManager[object]:
    """A sign of life on stderr, if a person looks at it."""
    return _console(stderr=True).status(title) if sys.stderr.isatty() else nullcontext()
