"""The distributions that a release would upload: what is in them, and that the wheel works away from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments, cwd, **environ):
    """Runs this Python in a folder, without what a developer may have set, and gives back what it printed."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("BBRE_", "PYTEST_", "PYTHONPATH"))
    }
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=inherited | environ, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the source distribution, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run("-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT), cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    """The wheel's path."""
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def metadata(wheel):
    """The wheel's METADATA, parsed."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_wheel_holds_the_package_and_nothing_else(wheel):
    """The wheel holds every module of the package and py.typed, its own metadata, and no other file."""
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "pytest_bbre").rglob("*.py")}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    (info,) = {name.partition("/")[0] for name in names if ".dist-info/" in name}
    about = {f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")}
    assert names == package | {"pytest_bbre/py.typed"} | about


def test_wheel_is_for_every_platform(wheel):
    """One wheel serves every Python and platform."""
    assert wheel.name.endswith("-py3-none-any.whl")


def test_source_distribution_holds_what_the_checks_need(built):
    """Tests, documentation, examples and papers are in the source distribution, and nothing that a run left behind."""
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "tox.ini", "tests/lowest.txt", "docs/conf.py"}
    assert wanted - names == set()
    assert {f"tests/e2e/{Path(__file__).name}", "examples/pytest.ini", "pytest_bbre/py.typed"} - names == set()
    assert [name for name in names if "__pycache__" in name or name.startswith((".venv", ".tox", "docs/_build"))] == []


def test_metadata_names_entry_points_and_pythons(wheel, metadata):
    """The metadata registers the plugin under the name `bbre` and the command `bbre`, and tells the Pythons."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        told = archive.read(name).decode()
    assert "[pytest11]\nbbre = pytest_bbre.plugin\n" in told
    assert "[console_scripts]\nbbre = pytest_bbre.cli:main\n" in told
    assert metadata["Requires-Python"] == ">=3.10"
    assert {"Framework :: Pytest", "Framework :: Jupyter", "Typing :: Typed"} <= set(metadata.get_all("Classifier"))


def test_wheel_needs_no_extra_by_default(metadata):
    """Without an extra, neither the engine's server nor a browser nor a notebook is asked for."""
    plain = {one.partition(">")[0] for one in metadata.get_all("Requires-Dist") if "extra ==" not in one}
    assert plain == {"click", "platformdirs", "psutil", "pytest", "requests", "rich", "urllib3"}
    assert {"engine", "adaptive", "notebook", "all"} <= set(metadata.get_all("Provides-Extra"))


@pytest.mark.usefixtures("unmeasured")
def test_wheel_works_away_from_the_checkout(wheel, tmp_path):
    """Installed by itself, the wheel is what gets imported, and pytest finds its fixtures without being told."""
    target = tmp_path / "installed"
    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index")
    run(*install, "--target", str(target), str(wheel), cwd=tmp_path)
    (tmp_path / "test_it.py").write_text(
        "import pytest_bbre, pytest_bbre.plugin\n\n"
        "def test_it(request, bbre_session_options):\n"
        f"    assert pytest_bbre.__file__.startswith({str(target)!r})\n"
        "    assert request.config.pluginmanager.get_plugin('bbre') is pytest_bbre.plugin\n"
    )
    told = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py", cwd=tmp_path, PYTHONPATH=str(target))
    assert "1 passed" in told
