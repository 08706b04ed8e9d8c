"""What all tests share: the environment, and the markers of tests that need a CUDA device or a compiler."""

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
    config.addinivalue_line("markers", "compiler: needs torch's compiler to work; skipped where it does not")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for name, is_there, reason in (
        ("cuda", has_cuda, "there is no CUDA device"),
        ("compiler", can_compile, "torch cannot compile here"),
    ):
        marked = [item for item in items if item.get_closest_marker(name)]
        if not marked or is_there():
            continue
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=reason))


def has_cuda() -> bool:
    """Whether there is a CUDA device."""
    import torch

    return torch.cuda.is_available()


def can_compile() -> bool:
    """Whether torch finds a C++ compiler; from a path with blanks it passes the compiler broken options."""
    import torch
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        return bool(get_cpp_compiler()) and " " not in torch.__file__
    except Exception:  # each release has its own
        return False
