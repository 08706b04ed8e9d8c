"""What all tests share: the environment, how many processes run them, and the markers of tests that need a device."""

from __future__ import annotations

import gc
import os
import tarfile
from pathlib import Path

# One thread, here and in the processes that tests start: results then do not depend on the machine's cores, and on a
# crowded one threads that wait for each other cost more than the work. It must be set before torch is imported; the
# processes of pytest-xdist have it from the one that starts them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Compiled programs are tried without vector instructions: they compute the same, and take the C++ compiler a third less
# time, which is most of what these tests cost.
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "0")
# The user's own cache stays as it is; tests/cli/test_catalogue.py has one for each test.
os.environ["TRAINKIT_PLUGIN_CACHE"] = "off"

import pytest

# Distributions of their own, which are tested where they are installed: .ci/third_party.
collect_ignore = ["third_party"]

# Each process imports torch and collects all tests: seconds, and most of a gigabyte in the end. More than so many cost
# more than they save; and a container may see more cores than it may use.
MOST_PROCESSES = 8


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """As many processes as there are cores; none beside this one where single files are named, or one core is there."""
    if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return None  # pytest-xdist takes what the user has set
    if not all((config.invocation_params.dir / name.partition("::")[0]).is_dir() for name in config.args):
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Some tests wait for processes of their own: where cores are few, one process more has work for them meanwhile.
    return min(cores + (cores <= 4), MOST_PROCESSES) if cores > 1 else 0


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


def pytest_collection_finish(session: pytest.Session) -> None:
    """Look through what was collected, millions of objects that stay, no more whenever garbage is looked for."""
    gc.collect()
    gc.freeze()


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


@pytest.fixture
def few_pictures(tmp_path: Path) -> Path:
    """A folder with 200 pictures of ten classes to train on and 40 for the test."""
    published = Path(__file__).parents[2] / "shared" / "data" / "cifar10-jpeg.tar.gz"
    if not published.is_file():
        pytest.skip(f"{published.name} is not beside the project")
    each = {"train": 20, "test": 4}
    with tarfile.open(published) as archive:
        taken: dict[str, int] = {}
        for member in archive:
            folder, split = str(Path(member.name).parent), Path(member.name).parts[1:2]
            if not member.isfile() or not split or taken.get(folder, 0) >= each.get(split[0], 0):
                continue
            taken[folder] = taken.get(folder, 0) + 1
            archive.extract(member, tmp_path / "data", filter="data")
    assert len(taken) == 20, "ten classes in each of two splits"
    return tmp_path / "data"
