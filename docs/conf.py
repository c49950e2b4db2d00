"""Knows how the documentation is built. It needs no network: everything comes from this repository."""

from __future__ import annotations

from importlib.metadata import version as installed_version
from typing import Any

project = "pytest-bbre"
copyright = "pytest-bbre contributors"
release = version = installed_version("pytest-bbre")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "decisions/README.md"]
html_theme = "furo"
html_title = "pytest-bbre"

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


def setup(app: Any) -> None:
    """Sphinx calls this."""
    app.connect("autodoc-process-docstring", _module_head)
