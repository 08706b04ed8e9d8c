"""How many lanes fit into memory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainkit.dataset import Batch
from trainkit.lanes.probe import small_batch
from trainkit.run import Run
from trainkit.seeding import put_back_generators, random_generators

SHARE = 0.5  # of the free memory that the lanes of one group may take: the estimate is a rough one


def lanes_that_fit(run: Run) -> int:
    """How many runs like this one can be trained at once in the memory that is free now; at least one."""
    return max(1, int(SHARE * free_bytes(run.device) / max(1, bytes_of(run))))


def bytes_of(run: Run) -> int:
    """About how many bytes one more lane takes.

    These are weights, gradients, state, what a batch leaves for the backward, and the model's outputs for the
    validation split, which evaluations of all lanes keep. What a forward pass leaves is taken for twice the outputs of
    all modules that hold no others, measured on one sample: of the validation split, else of the test split, else of
    the training split.

    Raises:
        Exception: what making that sample or computing the model raises.
    """
    model = run.model
    weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    slots = max((_slots(run, group) for group in run.optimizer.param_groups), default=2)
    left, given = _outputs_of_a_sample(run)
    kept = run.feed.spec.sizes.get("val", 0) * given
    return weights * (2 + slots) + 2 * run.feed.batch_sizes[1] * left + kept


def _slots(run: Run, group: dict[str, Any]) -> int:
    rule: Any = getattr(run.optimizer, "rule", None)
    return len(rule.slots(group)) if rule is not None else 2


def _outputs_of_a_sample(run: Run) -> tuple[int, int]:
    """Bytes that all modules give for one sample, and those that the model gives; nothing of the run changes."""
    found = [0]

    def count(module: nn.Module, given: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            found[0] += output.nbytes

    before = random_generators(run.device)
    leaves = [module for module in run.model.modules() if not any(True for _ in module.children())]
    handles = [module.register_forward_hook(count) for module in leaves]
    training = [(module, module.training) for module in run.model.modules()]
    try:
        run.model.eval()
        with torch.no_grad(), run.precision.context():
            output = run.model(_first(run).inputs[:1].clone())
    finally:
        for handle in handles:
            handle.remove()
        for module, trains in training:
            module.training = trains
        put_back_generators(before, run.device)
    return found[0], output.nbytes if isinstance(output, Tensor) else 0


def _first(run: Run) -> Batch:
    for split in ("val", "test"):
        if run.feed.spec.sizes.get(split):
            return next(run.feed.evaluate(split))
    return small_batch(run)


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device; of the machine's own, what its control group and its other programs leave."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    found = [1 << 40]
    with contextlib.suppress(OSError, ValueError, AttributeError):
        found.append(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/meminfo", encoding="ascii") as file:
        available = [line for line in file if line.startswith("MemAvailable:")]
        found[-1] = int(available[0].split()[1]) << 10  # pages of files that can be dropped count as free
    with contextlib.suppress(OSError, ValueError):
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text("ascii")) for name in ("max", "current"))
        found.append(max(0, limit - used))
    return min(found)
