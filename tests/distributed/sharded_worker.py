"""Trains with a model that is divided among processes: each group is started once for all that is done in it.

Called as ``python sharded_worker.py FOLDER``. Groups of several sizes work at the same time, and leave in the folder
what `test_sharded` looks at.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from trainkit import Run, RunError, StepResult, TrainkitError, checkpoint, hookimpl, store
from trainkit.distributed import ONE, Group, sharding
from trainkit.divided import DividedStep
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe

sharding.LEAST = 20  # numbers: layers of these small models are gathered one by one, as large ones are

RECIPE = """\
recipe = 1
seed = {seed}
logger = []
[run]
duration = "{length}ba"
device = "cpu"
precision = "float64"
log_every = "3ba"
evaluate_every = "4ba"
save_every = "4ba"
save_best = false
save_pause = 0.0
keep = 9
strategy = "{strategy}"
on_length_change = "keep"
{run}
[data]
use = "synthetic"
samples = 190
features = [6]
task = "classification"
classes = 3
batch_size = 16
eval_batch_size = 12
[model]
use = "mlp"
widths = [9, 7]
norm = "{norm}"
[loss]
use = "cross_entropy"
[[metric]]
use = "accuracy"
[optimizer]
{optimizer}
{more}
"""
ADAMW = 'use = "adamw"\nlr = 0.01\nweight_decay = 0.1\n'
ALL = """\
[[optimizer.wrap]]
use = "lookahead"
[[callback]]
use = "clip_norm"
max_norm = 0.5
[[callback]]
use = "agc"
clipping = 0.02
[[callback]]
use = "gradient_centralization"
[[callback]]
use = "norms"
groups = true
weights = true
[[callback]]
use = "update_ratio"
every = "3ba"
[[callback]]
use = "freeze"
match = ["body.0.*"]
unfreeze = { "body.0.weight" = "7ba" }
[[callback]]
use = "ema"
decay = 0.9
"""
PARTS = "accumulate = 2\nmicrobatch = 2\n"


class Catch:
    """Keeps the run that it takes part in, and looks at what a process has of its weights."""

    stateless = True
    run: Run
    rows = 0

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        self.run = run

    @hookimpl
    def trainkit_step_end(self, run: Run, result: StepResult) -> None:
        held = [p for group in run.optimizer.param_groups for p in group["params"]]
        self.rows = sum(parameter.numel() for parameter in held)


class Leaving:
    """Ends the run after an update, as the recipe could."""

    stateless = True

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        if run.step == 6:
            run.stop_reason = "six updates are enough"


class Looking:
    """Calls the model when the run is over, as pages about runs do."""

    stateless = True
    seen = ""

    @hookimpl
    def trainkit_run_end(self, run: Run) -> None:
        run.model.eval()
        try:
            with torch.no_grad():
                self.seen = str(list(run.model(torch.ones(1, 6, dtype=torch.float64)).shape))
        except RunError as error:
            self.seen = str(error)


class Worker:
    """One process of a group.

    Args:
        folder: where all groups leave what they have found.
        group: the group.
    """

    def __init__(self, folder: Path, group: Group) -> None:
        self.folder, self.group = folder, group
        self.plugins = Plugins(without=["reports"])

    def train(
        self, name: str, listeners: tuple[object, ...] = (), resume: bool = False, **parts: Any
    ) -> dict[str, Any]:
        """Train a recipe in the folder of this name; how that went."""
        given = {
            "strategy": "fsdp",
            "length": 12,
            "run": "",
            "optimizer": ADAMW,
            "more": "",
            "norm": "batch",
            "seed": 5,
            **parts,
        }
        text = self.folder / f"{name}-{self.group.rank}.toml"
        text.write_text(RECIPE.format(**given), encoding="utf-8")
        catch, said = Catch(), list[str]()
        report = launch(
            load_recipe(text, [], self.plugins),
            self.plugins,
            folder=self.folder / name,
            listeners=[catch, *listeners],
            say=said.append,
            resume=resume,
            group=self.group,
        )
        return {"report": report.as_dict(), "rows": catch.rows, "said": said}

    def raises(self, work: Callable[[], Any]) -> str:
        """What somebody says who fails."""
        try:
            work()
        except TrainkitError as error:
            return f"{type(error).__name__}: {error}"
        return "nothing"

    # ------------------------------------------------------------ what is done

    def one(self) -> dict[str, Any]:
        """What one process makes, to compare with."""
        strategy = {"strategy": "ddp"}
        self.train("middle", length=8, more=ALL, **strategy)
        return {
            "plain": self.train("plain-1", **strategy),
            "all": self.train("all-1", more=ALL, length=17, **strategy),
            "parts": self.train("parts-1", run=PARTS, norm="layer", length=5, **strategy),
        }

    def several(self) -> dict[str, Any]:
        """What several make."""
        size, looking = self.group.size, Looking()
        found = {"plain": self.train(f"plain-{size}", (looking,))}
        found["seen"] = looking.seen  # type: ignore[assignment]
        return found

    def two(self) -> dict[str, Any]:
        """Several, and what any number would do alike."""
        found = self.several()
        found["stopped"] = self.train("moved", (Leaving(),), more=ALL, length=17)
        found["agreed"] = [self.agreed(True), self.agreed(self.group.first)]
        found["not finite"] = self.raises(lambda: self.train("wild", optimizer='use = "sgd"\nlr = 1e200\n'))
        found["others"] = self.raises(lambda: self.train("others", seed=self.group.rank))
        found["disk"] = self.raises(lambda: self.full_disk())
        found["left"] = sorted(path.name for path in (self.folder / "full" / "checkpoints").iterdir())
        found["first's disk"] = self.raises(lambda: self.bad_disk())
        found["tied"] = self.tied()
        return found

    def tied(self) -> list[str]:
        """The tensors of a model with tied weights that a checkpoint has in rows."""
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.BatchNorm1d(4))
        model[1].weight = model[0].weight
        divided = sharding.Sharded(model, self.group, torch.ones(1, 4))
        tensors = {f"model/{name}": tensor for name, tensor in checkpoint.weights_of(model).items()}
        return sorted(name for name, tensor in divided.divided(tensors).items() if hasattr(tensor, "full_tensor"))

    def agreed(self, finite: bool) -> bool:
        """Whether all found what they looked at finite."""
        step = object.__new__(DividedStep)
        step.run = type("Stub", (), {"group": self.group})()
        return step.agreed(finite)

    def full_disk(self) -> None:
        """Save where the second process has no room at the third checkpoint."""
        real, wrote = store.write_file, list[str]()

        def write(path: str, parts: Any, fresh: bool = True) -> Any:
            wrote.append(path)
            if self.group.rank == 1 and len(wrote) > 2:
                raise OSError(28, "No space left on device", path)
            return real(path, parts, fresh)

        store.write_file = write  # type: ignore[assignment]
        try:
            self.train("full")
        finally:
            store.write_file = real

    def bad_disk(self) -> None:
        """Train where the first process, which alone does so, cannot remove what is no longer wanted."""
        real = store.prune

        def prune(*given: Any, **named: Any) -> None:
            raise OSError(5, "Input/output error")

        store.prune = prune if self.group.first else real
        try:
            self.train("bad")
        finally:
            store.prune = real

    def three(self) -> dict[str, Any]:
        """Several, with microbatches of which some processes have fewer; and what two had begun, and one."""
        found = self.several()
        found["parts"] = self.train("parts-3", run=PARTS, norm="layer", length=5)
        self.wait_for("moved/report.json")
        found["moved"] = self.train("moved", resume=True, more=ALL, length=17)
        self.wait_for("middle/report.json")
        found["middle"] = self.train("middle", resume=True, more=ALL, length=17)
        return found

    def wait_for(self, name: str) -> None:
        """Come back when another group has come so far."""
        while not (self.folder / name).exists():
            time.sleep(0.05)
        self.group.wait()


def serve(folder: Path, rank: int, size: int) -> None:
    """Be one process of a group."""
    torch.set_num_threads(1)
    group = ONE
    if size > 1:
        meeting = f"file://{folder / f'group-{size}'}"
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size, timeout=timedelta(seconds=100))
        group = Group(rank, size, rank, size)
    worker = Worker(folder, group)
    try:
        found = {1: worker.one, 2: worker.two, 3: worker.three}[size]()
    except BaseException:
        found = {"error": traceback.format_exc()}
    (folder / f"found-{size}-{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    sys.stdout.flush()
    os._exit("error" in found)  # the others of a group wait for nobody who has failed


def main() -> None:
    """Start the groups, whose processes share what is imported here."""
    folder = Path(sys.argv[1])
    for module in ("checkpoint", "fsdp", "tensor", "device_mesh"):
        importlib.import_module(f"torch.distributed.{module}")
    importlib.import_module("torch._dynamo")  # which fsdp imports when it is used, else in every process
    Plugins(without=["reports"])
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=serve, args=(folder, rank, size)) for size in (1, 2, 3) for rank in range(size)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    sys.exit(max(abs(worker.exitcode or 0) for worker in workers))


if __name__ == "__main__":
    main()
