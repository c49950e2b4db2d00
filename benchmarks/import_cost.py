"""Knows what a pytest run pays for having this plugin installed and not using it, and what `import pytest_bbre` takes.

Other plugins are switched off on both sides: one that loads the same modules would hide what ours loads. Compiled
modules are kept between the runs, as they are on anybody's machine; the first round, which compiles, is not counted.
Processor time is counted where the system tells it: the few milliseconds drown in what else a machine does meanwhile.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path

from ._measure import difference, goal, interleave, longer, table

HEAVY = ("aiohttp", "click", "ipywidgets", "psutil", "requests", "rich", "sqlite3", "urllib3", "wrapt")
LOADED = "import json, sys, pytest; pytest.main(sys.argv[1:]); print('\\n' + json.dumps(sorted(sys.modules)))"
CLOCK = "time by the clock" if sys.platform == "win32" else "processor time"
PATIENCE = 60.0  # seconds for one run


def run(*arguments: str, folder: str) -> str:
    """Runs this Python in a folder that also keeps compiled modules; what it printed."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environ["PYTHONPYCACHEPREFIX"] = str(Path(folder, "compiled"))
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return done.stdout


def spent_by_children() -> float:
    """Processor seconds of all children that ended so far; seconds of the clock where the system does not tell."""
    if sys.platform == "win32":
        return time.perf_counter()
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measures and prints."""
    others = {one.name for one in entry_points(group="pytest11")} - {"bbre"}
    quiet = [part for name in sorted({*others, "cacheprovider"}) for part in ("-p", f"no:{name}")]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "pytest.ini").write_text("[pytest]\n")
        Path(folder, "test_empty.py").write_text("def test_nothing():\n    pass\n")

        def timed(*arguments: str) -> float:
            before = spent_by_children()
            run(*arguments, folder=folder)
            return spent_by_children() - before

        with_plugin = ["test_empty.py", *quiet]
        without = [*with_plugin, "-p", "no:bbre"]
        runs = {
            "pytest -p no:bbre": partial(timed, "-m", "pytest", *without),
            "pytest": partial(timed, "-m", "pytest", *with_plugin),
        }
        found = interleave(runs, rounds=80, limit=38.0)
        imports = {
            "python -c pass": partial(timed, "-c", "pass"),
            "python -c 'import pytest_bbre'": partial(timed, "-c", "import pytest_bbre"),
        }
        bare = interleave(imports, rounds=60, limit=6.0)
        ours, theirs = (
            set(json.loads(run("-c", LOADED, *arguments, folder=folder).splitlines()[-1]))
            for arguments in (with_plugin, without)
        )
    table(f"A run of one empty test, {CLOCK}", found, base="pytest -p no:bbre")
    more, error = difference(found, "pytest", "pytest -p no:bbre")
    goal("longer by", more * 1000, 10.0, "ms", error=error * 1000)
    added = sorted(ours - theirs)
    print(f"  {len(added)} modules more: {', '.join(added)}")
    print(f"  heavy ones among them: {', '.join(name for name in HEAVY if name in added) or 'none'}")
    table(f"Importing the package, {CLOCK}", bare, base="python -c pass")
    longer(difference(bare, "python -c 'import pytest_bbre'", "python -c pass"))


if __name__ == "__main__":
    main()
