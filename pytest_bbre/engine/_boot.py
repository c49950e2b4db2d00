"""Knows how to load this very package in a child Python that was started with -I, installed or not.
Must not know more: it runs as a plain file, before any package can be imported.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path


def load_package(folder: Path) -> None:
    """Puts the package that lies in `folder` in place, whatever else of that name could be imported."""
    spec = importlib.util.spec_from_file_location(
        folder.name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    sys.modules[folder.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def main() -> None:
    """Reads the owner's line, then runs the engine until the owner is gone."""
    config = json.loads(sys.stdin.buffer.readline())
    # At the end: these find what only the owner's path holds, and never come before the standard library.
    sys.path += [one for one in config["path"] if one not in sys.path]
    load_package(Path(__file__).resolve().parent.parent)
    from pytest_bbre.engine._owned import serve

    serve(config["owner"], config["options"])


if __name__ == "__main__":
    main()
