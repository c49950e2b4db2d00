"""Knows what every folder of tests shares: the web site that requests go to, certificates, processes unmeasured.
Must not know pytest-bbre's own plugin, so that what is below it can be tested without it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

_SITE = Path(__file__).with_name("_target.py")


_STATE = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """The suite's own ledger, shared by all that it starts; never that of the person who runs it."""
    if "PYTEST_XDIST_WORKER" not in os.environ:  # a worker has it from its controller
        config.stash[_STATE] = os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="pytest-bbre-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Nothing is left of it."""
    if _STATE in config.stash:
        shutil.rmtree(config.stash[_STATE], ignore_errors=True)


@dataclass(frozen=True)
class Target:
    """The running web site; tests/_target.py tells what it has."""

    base_url: str

    def url(self, path: str) -> str:
        """The address of one of its pages."""
        return self.base_url + path


@contextmanager
def run_target(*files: str) -> Iterator[Target]:
    """Runs the site as a process of its own; it ends with its input, so also with this process."""
    process = subprocess.Popen([sys.executable, str(_SITE), *files], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        try:
            yield Target(json.loads(process.stdout.readline())["base_url"])
        finally:
            process.stdin.close()
            process.wait(10)


@pytest.fixture(scope="session")
def target() -> Iterator[Target]:
    """A web site on loopback to send requests to: `target.url("/echo")`. tests/_target.py lists its pages."""
    with run_target() as running:
        yield running


@dataclass(frozen=True)
class Certificate:
    """A certificate for 127.0.0.1 that no machine trusts by itself: paths of files in PEM."""

    server: str  # with its key, as `load_cert_chain` takes it
    authority: str  # that signed it


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate of an authority of its own."""
    import trustme  # here: it loads much that few tests need

    folder = tmp_path_factory.mktemp("tls")
    made = Certificate(server=str(folder / "server.pem"), authority=str(folder / "authority.pem"))
    authority = trustme.CA()
    authority.cert_pem.write_to_path(made.authority)
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(made.server)
    return made


@pytest.fixture(scope="session")
def tls_target(certificate: Certificate) -> Iterator[Target]:
    """The same site over HTTPS, with a certificate that nobody trusts."""
    with run_target(certificate.server) as running:
        yield running


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test starts is not measured by coverage, which would put a handler of SIGTERM of its own into each
    process, where the test looks at what that signal does, and would look for the package where it is not.
    """
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        monkeypatch.delenv(name, raising=False)
