"""Trains recipes one after another, in groups of several sizes at once: each group is started once for all of them.

Called as ``python equality_worker.py PLAN OUT``. ``PLAN`` is a JSON file: a list of jobs, each with a name and the
numbers of processes that do it. A job has a recipe as text, or names a check of `layers_check`.
``OUT/<name>-<processes>.json`` then says how it went.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import sys
import traceback
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # some optimizers import it, for seconds
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parent))
import layers_check

from trainkit import Run, TrainkitError, hookimpl, snapshot
from trainkit.distributed import Group
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe

PARTS = Path(__file__).with_name("trainkit_distributed_parts.py")
SILENCE = timedelta(seconds=60)


class Catch:
    """Keeps the run that it takes part in."""

    stateless = True
    run: Run

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        self.run = run


def train(job: Mapping[str, Any], group: Group, plugins: Plugins, folder: Path) -> dict[str, Any]:
    """Train one recipe; how that went."""
    place = folder / f"{job['name']}-{group.size}"
    text = folder / f"{job['name']}-{group.size}-{group.rank}.toml"
    text.write_text(job["recipe"], encoding="utf-8")
    said: list[str] = []
    listener = Catch()
    try:
        recipe = load_recipe(text, [], plugins)
        report = launch(recipe, plugins, folder=place, listeners=[listener], say=said.append, group=group)
    except TrainkitError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    except Exception:
        return {"error": traceback.format_exc()}
    digests = group.all_of(dict(digest(listener.run)))
    differing = sorted({key for other in digests for key in digests[0] if other.get(key) != digests[0][key]})
    found: dict[str, Any] = {"said": said, "differing": differing, "status": report.status, "reason": report.reason}
    if group.first:
        found["lines"] = [json.loads(line) for line in (place / "metrics.jsonl").read_text("utf-8").splitlines()]
        weights = listener.run.model.state_dict()
        found["weights"] = {name: weights[name].double().flatten().tolist() for name in sorted(weights)}
    return found


def digest(run: Run) -> Iterator[tuple[str, str]]:
    """All that a checkpoint of the run would hold, as short texts that differ where it does."""
    tensors, state = snapshot.capture(run, {})
    for name, tensor in tensors.items():
        held = tensor.detach().cpu().contiguous()
        yield name, f"{tuple(held.shape)} {hashlib.sha256(held.reshape(-1).view(torch.uint8).numpy()).hexdigest()[:16]}"
    for name, value in state.items():
        yield name, str(value)


def serve(jobs: list[dict[str, Any]], folder: Path, rank: int, size: int) -> None:
    """Do all jobs for groups of one size, as one process of such a group."""
    torch.set_num_threads(1)
    if size > 1:
        store = f"file://{folder / f'group-{size}'}"
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size, timeout=SILENCE)
    group, plugins = Group(rank, size, rank, size), Plugins([str(PARTS)], without=["reports"])
    for job in jobs:
        if size in job["processes"]:
            check = job.get("check")
            found = getattr(layers_check, check)(group) if check else train(job, group, plugins, folder)
            name = f"{job['name']}-{size}" + (f"-rank{rank}" if rank else "")
            if rank == 0 or "error" in found:
                (folder / f"{name}.json").write_text(json.dumps(found), encoding="utf-8")
    if size > 1:
        dist.destroy_process_group()


def main() -> None:
    """Start the groups, whose processes share what is imported here."""
    jobs, folder = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2])
    Plugins([str(PARTS)])
    fork = multiprocessing.get_context("fork")
    sizes = sorted({size for job in jobs for size in job["processes"]})
    workers = [fork.Process(target=serve, args=(jobs, folder, rank, size)) for size in sizes for rank in range(size)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    sys.exit(max(abs(worker.exitcode or 0) for worker in workers))


if __name__ == "__main__":
    main()
