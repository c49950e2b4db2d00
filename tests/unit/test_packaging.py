"""The front door, what importing costs, and that the project's papers agree with each other."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import pytest_bbre
from pytest_bbre import Settings
from pytest_bbre._settings import variable

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(pytest_bbre.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")

# What takes time to load, and is therefore loaded with the first session, or by the command that needs it.
HEAVY = {
    *("IPython", "aiohttp", "asyncio", "click", "http.client", "ipywidgets", "platformdirs", "playwright", "psutil"),
    *("requests", "rich", "sqlite3", "ssl", "urllib3", "wrapt"),
}
# All of the package that a run of pytest loads before the first test asks for a session.
PLUGIN_LOADS = {f"pytest_bbre{room}" for room in ("", "._choices", "._host", "._run", "._signals", ".plugin")}


def loaded_by(statement: str, *, before: str = "") -> set[str]:
    """The modules that a new interpreter loads for a statement."""
    code = (
        f"import sys, json; {before}\nbefore = set(sys.modules)\n{statement}\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(done.stdout))


def ours(modules: set[str]) -> set[str]:
    """Those of this package."""
    return {name for name in modules if name.partition(".")[0] == "pytest_bbre"}


def foreign(modules: set[str]) -> set[str]:
    """The top-level names of those that neither this package nor Python brings."""
    return {name.partition(".")[0] for name in modules - ours(modules)} - set(sys.stdlib_module_names)


def test_all_is_what_can_be_imported():
    """Every name in __all__ can be imported, and no public name is missing from it."""
    for name in pytest_bbre.__all__:
        assert getattr(pytest_bbre, name).__name__ == name
    submodules = {path.stem for path in MODULES} | {path.name for path in PACKAGE.iterdir()}
    public = {name for name in dir(pytest_bbre) if name[0].isalpha()} - submodules
    assert public - {"TYPE_CHECKING", "Any", "annotations", "import_module"} == set(pytest_bbre.__all__)


def test_a_name_that_is_none_is_told():
    """A name that the package does not have is an AttributeError that names it."""
    with pytest.raises(AttributeError, match="managed_sessions"):
        pytest_bbre.managed_sessions  # noqa: B018


def test_errors_are_all_below_the_base():
    """Every public class of pytest_bbre.errors is a BBREError, and stands in the tree that its docstring draws."""
    errors = importlib.import_module("pytest_bbre.errors")
    classes = {
        name for name, one in vars(errors).items() if isinstance(one, type) and one.__module__ == errors.__name__
    }
    assert all(issubclass(getattr(errors, name), pytest_bbre.BBREError) for name in classes)
    assert classes == set(re.findall(r"\b(\w+Error)\b(?!\))", errors.__doc__ or ""))


@pytest.mark.parametrize("name", pytest_bbre.__all__)
def test_each_public_name_is_documented(name):
    """Each public name, and each public method of it, has a docstring that was written for it."""
    thing = getattr(pytest_bbre, name)
    assert thing.__doc__
    assert not thing.__doc__.startswith(f"{name}(")  # what dataclass puts where nothing was written
    if isinstance(thing, type):
        methods = [member for member in dir(thing) if not member.startswith("_") and callable(getattr(thing, member))]
        assert [member for member in methods if not getattr(thing, member).__doc__] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_each_module_says_what_it_knows(path):
    """The head of each module says what it knows and what it must not know."""
    told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    head = told.split("\n\n")[0]
    assert head.startswith("Knows ")
    assert re.search(r"^Must not know ", head, re.MULTILINE)


def test_importing_the_package_loads_only_its_front_door():
    """`import pytest_bbre` loads no other module of ours, nothing from outside Python, and nothing heavy."""
    modules = loaded_by("import pytest_bbre")
    assert ours(modules) == {"pytest_bbre"}
    assert foreign(modules) == set()
    assert modules & (HEAVY | {"pytest"}) == set()


def test_importing_the_plugin_loads_only_what_is_listed():
    """The plugin's import adds to pytest's own what is listed here, nothing from outside Python, nothing heavy."""
    modules = loaded_by("import pytest_bbre.plugin", before="import pytest")
    assert ours(modules) <= PLUGIN_LOADS
    assert foreign(modules) == set()
    assert modules & HEAVY == set()


def test_a_run_that_uses_no_session_loads_nothing_heavy(tmp_path):
    """A pytest run whose tests ask for no session has loaded nothing heavy when its process ends."""
    (tmp_path / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
    (tmp_path / "run.py").write_text(
        "import atexit, json, pathlib, sys\n"
        "before = set(sys.modules)\n"
        "told = pathlib.Path(__file__).with_name('loaded.json')\n"
        "atexit.register(lambda: told.write_text(json.dumps(sorted(set(sys.modules) - before))))\n"
        "import pytest\n"
        "sys.exit(pytest.main(['-p', 'pytest_bbre.plugin', '-p', 'no:cacheprovider']))\n"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("BBRE_", "PYTEST_"))}
    done = subprocess.run(
        [sys.executable, "run.py"],
        cwd=tmp_path,
        env={**environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    modules = set(json.loads((tmp_path / "loaded.json").read_text()))
    assert "pytest_bbre.plugin" in modules
    assert modules & HEAVY == set()


def test_lowest_pins_are_the_lower_bounds():
    """tests/lowest.txt pins each dependency, and each one of the extras that are tested, at its lower bound."""
    extras = PYPROJECT["project"]["optional-dependencies"]
    tested = [bound for name in ("engine", "adaptive", "examples") for bound in extras[name]]
    bounds = [*PYPROJECT["project"]["dependencies"], *(one for one in tested if not one.startswith("pytest-bbre"))]
    lines = (ROOT / "tests" / "lowest.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == sorted(bound.replace(">=", "==") for bound in bounds)


@pytest.mark.parametrize("module", ["pytest_bbre", "pytest_bbre.engine"])
def test_the_reference_names_what_is_public(module):
    """The documentation's reference describes each name in __all__ of the package and of its engine, and no other."""
    documented, current = [], ""
    for line in (ROOT / "docs" / "reference.md").read_text(encoding="utf-8").splitlines():
        if directive := re.match(r"\.\. (currentmodule|auto\w+):: (\S+)", line):
            if directive[1] == "currentmodule":
                current = directive[2]
            elif current == module:
                documented.append(directive[2])
    assert sorted(documented) == sorted(importlib.import_module(module).__all__)


@pytest.mark.parametrize("name", ["main-job", "tests"])
def test_the_readme_has_its_two_commands(name):
    """Each of the README's two commands is one line in a block of its own, where .ci/run finds it."""
    block = re.search(rf"^<!-- command: {name} -->\n```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert block
    (line,) = block[1].splitlines()
    assert line.startswith("python3 -m venv .venv && ")


def test_the_readme_names_every_setting():
    """The README's table of options has the environment variable of every setting."""
    told = set(re.findall(r"`(BBRE_\w+)`", README))
    assert {variable(item.name) for item in fields(Settings)} - told == set()


def test_workflows_run_only_pinned_actions():
    """Every action of the workflows is pinned to a commit or lies in this one; no workflow has rights by default."""
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    if not workflows:
        pytest.skip("not in a source distribution")
    for path in workflows:
        text = path.read_text(encoding="utf-8")
        assert "\npermissions: {}\n" in text
        for action in re.findall(r"uses: (\S+)", text):
            pinned = re.fullmatch(r"[\w/-]+@[0-9a-f]{40}|\./\.github/workflows/\w+\.yml", action)
            assert pinned, f"{path.name}: {action}"
