"""Knows what every folder of tests shares: the web site that requests go to.
Must not know pytest-bbre's own plugin, so that what is below it can be tested without it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

_SITE = Path(__file__).with_name("_target.py")


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


@pytest.fixture(scope="session")
def tls_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The same site over HTTPS, with a certificate that nobody trusts."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = str(folder / "certificate.pem"), str(folder / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    with run_target(certificate, key) as running:
        yield running
