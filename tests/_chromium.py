"""Whether there is a Chromium here for tests of adaptive sessions, and what installs one."""

from __future__ import annotations

import importlib.util

import pytest

from pytest_bbre.engine import chromium

HAS_CHROMIUM = importlib.util.find_spec("playwright") is not None and chromium.find(None) is not None
needs_chromium = pytest.mark.skipif(
    not HAS_CHROMIUM, reason='needs a browser: pip install "pytest-bbre[adaptive]"; apt-get install chromium'
)
