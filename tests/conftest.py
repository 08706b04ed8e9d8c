"""What all tests share: the environment, and the marker of tests that need a CUDA device."""

from __future__ import annotations

import os

# One thread, here and in the processes that tests start: results then do not depend on the machine's cores, and on a
# crowded one threads that wait for each other cost more than the work. It must be set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The user's own cache stays as it is; tests/cli/test_catalogue.py has one for each test.
os.environ["TRAINKIT_PLUGIN_CACHE"] = "off"

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cuda: needs a CUDA device; skipped where there is none")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("cuda")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))
