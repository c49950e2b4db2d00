"""The fixtures of the core's tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # helpers shared by the folders of tests
sys.path.insert(0, str(Path(__file__).resolve().parent))  # and those of this folder

from _core import client, default_settings, engine, isolated, on_threads, service, settings

__all__ = ["client", "default_settings", "engine", "isolated", "on_threads", "service", "settings"]
