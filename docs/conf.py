"""Knows how the documentation is built. It needs no network: everything comes from this repository."""

from __future__ import annotations

from importlib.metadata import version as installed_version
from typing import Any

from pytest_bbre import BBREError, BBRESession

project = "pytest-bbre"
copyright = "pytest-bbre contributors"
release = version = installed_version("pytest-bbre")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "py:obj"  # single backticks in docstrings
html_theme = "furo"
html_title = "pytest-bbre"
html_static_path = ["_static"]
html_css_files = ["pages.css"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_use_rtype = False
napoleon_use_ivar = True  # "Attributes:" in a docstring describes, and does not declare the attribute again

myst_heading_anchors = 3


def _module_head(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """A module's head is for those who read the code; what follows it, as the errors' tree, is shown as it stands."""
    if what == "module":
        rest = lines[lines.index("") + 1 :] if "" in lines else []
        lines[:] = ["::", "", *(f"   {line}" for line in rest)] if any(rest) else []


def _not_to_be_called(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, None] | None:
    """Errors and sessions are given to people, who never make one: how they are made is left out."""
    hidden = isinstance(obj, type) and issubclass(obj, BBREError | BBRESession)
    return ("", None) if hidden else None


def _remedy(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """An error's remedy is part of its text, so it is part of its description."""
    if isinstance(obj, type) and issubclass(obj, BBREError) and obj.remedy:
        lines += ["", f"**What to do:** {obj.remedy}", ""]


def setup(app: Any) -> None:
    """Sphinx calls this."""
    app.connect("autodoc-process-signature", _not_to_be_called)
    app.connect("autodoc-process-docstring", _remedy)
    app.connect("autodoc-process-docstring", _module_head)
