"""Fixtures for jobs that are trained together."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from lane_jobs import PARTS, recipe

from trainkit.manager import Plugins
from trainkit.trial_run import open_plugins
from trainkit.work import Job


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    """The installed plugins and the parts of these tests."""
    return open_plugins([str(PARTS)])


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Job]:
    """Make a job; its folder is named by where and number."""

    def job(number: int, where: str = "lanes", until: float = 1.0, watched: bool = False, **values: Any) -> Job:
        folder = tmp_path / where / f"{number:04d}"
        return Job(number, 0, recipe(**values), folder, until=until, watched=watched)

    return job


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
