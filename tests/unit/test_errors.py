"""errors.py: the tree, its codes, and the text that a person reads."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from pytest_bbre import _wire, errors
from pytest_bbre.errors import BY_CODE, BBREError, SessionLimitReachedError

TREE = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, BBREError)]


def test_every_code_of_the_wire_has_a_class_of_its_own():
    """No code falls back to the base class, and no two share one."""
    assert set(BY_CODE) == set(_wire.FAILURES)
    assert len(set(BY_CODE.values())) == len(BY_CODE)


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_the_docstring_of_the_module_draws_every_class_under_its_parent(kind: type[BBREError]):
    """The tree in the docstring is the tree of the code."""
    drawn: dict[str, str] = {}
    trail: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        name = next((word for word in line.split() if word.isidentifier() and word.endswith("Error")), None)
        if name is None or not (line.startswith("BBREError") or "── " in line):
            continue
        depth = line.index(name) // 4
        trail[depth:] = [name]
        drawn[name] = trail[depth - 1] if depth else "Exception"
    assert drawn[kind.__name__] == kind.__bases__[0].__name__


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_the_docstring_tells_each_code_and_status(code: str):
    """Who reads the tree finds the code and the HTTP status that lead to a class."""
    row = next(
        line for line in (errors.__doc__ or "").splitlines() if line.split()[-1:] == [code] or f" {code} " in line
    )
    assert BY_CODE[code].__name__ in row
    assert str(_wire.FAILURES[code][0]) in row


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_every_code_comes_with_a_remedy(code: str):
    """A person is told what to do about each failure of the service."""
    kind = BY_CODE[code]
    assert kind("It happened.").advice()
    assert str(kind("It happened.")).endswith(kind("It happened.").advice())


def test_the_text_holds_code_status_message_hint_session_and_remedy():
    """One text tells everything that is known."""
    error = errors.SessionNotFoundError(
        "Session not found.", code="SESSION_NOT_FOUND", status=404, hint="look again", session_id="session_9"
    )
    assert str(error) == (
        "SESSION_NOT_FOUND (404): Session not found. Hint: look again. Session: session_9. "
        "Check the id, and that the API key is of the account that opened the session."
    )


def test_what_is_not_known_is_not_told():
    """An error with a message alone is its message."""
    assert str(BBREError("Something happened.")) == "Something happened."


def test_the_limit_says_how_many_sessions_this_process_holds():
    """Only sessions held here can be freed from here, so their number is told."""
    error = SessionLimitReachedError("Active session limit reached.", code="SESSION_LIMIT_REACHED", status=429)
    assert "This process holds" not in str(error)
    error.held = 3
    assert "This process holds 3 of the account's active sessions." in str(error)
    assert "close_all_sessions()" in str(error)
    assert "bbre close ID" in str(error)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.SettingsError, ValueError),
        (errors.MisuseError, RuntimeError),
        (errors.UseAfterCloseError, RuntimeError),
        (errors.UnsupportedOptionError, TypeError),
        (errors.InvalidURLError, ValueError),
    ],
)
def test_misuse_is_also_what_python_calls_it(kind: type[BBREError], builtin: type[Exception]):
    """Who catches Python's own classes catches ours."""
    assert issubclass(kind, builtin)


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))], ids=["copy", "pickle"])
def test_errors_survive_copying_and_pickling(kind: type[BBREError], again):
    """An error that crosses a process border arrives whole."""
    error = kind("What.", code="C", status=418, hint="h", session_id="s", retry_after=2.0, answer={"a": 1})
    back = again(error)
    assert type(back) is kind
    assert (vars(back), str(back)) == (vars(error), str(error))
