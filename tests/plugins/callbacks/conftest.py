"""The small recipe of the core's tests, for callbacks that take part in whole runs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_spec = importlib.util.spec_from_file_location("core_conftest", Path(__file__).parents[2] / "core" / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
core = sys.modules[_spec.name] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(core)

one_thread, plugins, load, train = core.one_thread, core.plugins, core.load, core.train
