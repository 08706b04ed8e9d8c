"""That a test leaves no trace: SHA-256 of all that a run of the recipe begins with, before and after."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from trainkit.build import make_ready, prepare
from trainkit.checkpoint import raw_bytes, tensors_sha256
from trainkit.datasets import Datasets
from trainkit.device import choose_device
from trainkit.held import held_by
from trainkit.protocols import Progress, silent
from trainkit.recipe import Recipe
from trainkit.run import Run
from trainkit.seeding import put_back_generators, random_generators, random_state
from trainkit.snapshot import capture

PARTS = ("model", "optimizer", "scaler", "random", "data", "callbacks", "process")
BATCHES = 8  # of the first epoch, whose samples and order are looked at
# Where in a checkpoint each part is kept: beginnings of names of tensors, and keys of the rest.
_HOMES = {
    "model": (("model/",), ()),
    "optimizer": (("optimizer/", "groups/", "bases/"), ("optimizer", "groups", "bases", "step", "events")),
    "scaler": (("scaler/",), ("scaler",)),
    "random": (("random/",), ("random",)),
    "callbacks": (("plugin/",), ("plugins",)),
}


@dataclass(frozen=True)
class Traces:
    """The hashes of the parts before and after a test.

    Args:
        before: by part, in hexadecimal.
        after: the same.
    """

    before: Mapping[str, str]
    after: Mapping[str, str]

    @property
    def left(self) -> list[str]:
        """The parts that are others afterwards."""
        return [part for part in self.before if self.before[part] != self.after.get(part)]


def hashes_of(run: Run) -> dict[str, str]:
    """What a run holds, part by part: two runs with the same hashes train alike.

    Args:
        run: a run on a step boundary. Its feed begins its first epoch, and is closed.
    """
    tensors, state = capture(run, {})
    held: dict[str, list[str]] = {}
    for name, text in held_by(run):
        part = name.partition(":")[0]
        held.setdefault(part if part in _HOMES else "callbacks", []).append(f"{name} {text}")
    found = {}
    for part, (beginnings, keys) in _HOMES.items():
        digest = hashlib.sha256()
        for beginning in beginnings:
            digest.update(
                tensors_sha256({name: t for name, t in tensors.items() if name.startswith(beginning)}).encode()
            )
        digest.update(json.dumps([state[key] for key in keys], sort_keys=True, default=repr).encode())
        digest.update("\n".join(sorted(held.get(part, ()))).encode())
        found[part] = digest.hexdigest()
    found["data"] = _data(run)
    return found


def _data(run: Run) -> str:
    """Samples and order of the first batches, as the model would see them."""
    digest = hashlib.sha256(str((run.feed.spec.fingerprint, run.feed.batches_per_epoch, run.feed.batch_size)).encode())
    try:
        for batch in islice(run.feed.train(0), BATCHES):
            for tensor in batch:
                digest.update(f"{list(tensor.shape)} {tensor.dtype}\n".encode())
                digest.update(raw_bytes(tensor))
    finally:
        run.feed.close()
    return digest.hexdigest()


def hashes_of_process(device: torch.device) -> str:
    """The global random generators, and how torch computes, in this process."""
    random = random_state(device)
    digest = hashlib.sha256()
    for name in ("torch", "cuda"):
        if name in random:
            digest.update(raw_bytes(random[name]))
    for name in ("python", "numpy"):
        digest.update(
            str([value.tolist() if isinstance(value, torch.Tensor) else value for value in random[name]]).encode()
        )
    switches: tuple[Any, ...] = (
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.allow_tf32,
        torch.get_float32_matmul_precision(),
    )
    digest.update(str(switches).encode())
    return digest.hexdigest()


class Watch:
    """Looks at a recipe's run before and after a test, and puts this process back to where it was.

    A run is built of the recipe for each look, and thrown away: what a test could spoil for the next run in this
    process is what that run is built of. No two models are in memory at once.

    Args:
        recipe: the recipe.
        progress: told about long work.
        datasets: keeps the data between the looks and the test.
    """

    def __init__(self, recipe: Recipe, progress: Progress, datasets: Datasets) -> None:
        self.recipe, self.progress, self.datasets = recipe, progress, datasets
        self.before: dict[str, str] = {}
        self.after: dict[str, str] = {}

    @contextmanager
    def around(self) -> Iterator[None]:
        """Look, let the test be made, put the process back, and look again."""
        device = choose_device(self.recipe.tables["run"]["device"])
        generators, threads = random_generators(device), torch.get_num_threads()
        process = hashes_of_process(device)
        try:
            self.before = {**self._look(self.progress), "process": process}
            yield
            looked = self._look(silent)
        finally:
            put_back_generators(generators, device)
            torch.set_num_threads(threads)
        self.after = {**looked, "process": hashes_of_process(device)}

    def _look(self, progress: Progress) -> dict[str, str]:
        with tempfile.TemporaryDirectory(prefix="trainkit-lr-find-") as folder:
            plugins, datasets = self.recipe.plugins, self.datasets
            run = prepare(self.recipe, plugins, Path(folder), progress, say=_say_nothing, datasets=datasets)
            make_ready(run)
            return hashes_of(run)


def _say_nothing(text: str) -> None:
    """The test itself says what is to be said of the run."""
