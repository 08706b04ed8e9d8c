"""What an ensemble costs beside one of its members: to train, to keep, and for each prediction."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainkit.ensembler import Cost, Member

BATCHES = (1, 64)  # samples at a time for which latency is measured
_ROUNDS = 7  # of which the median counts
_ROUND_S = 0.03  # that a round takes at least, so that a clock's steps do not matter
_MOST = 1000  # calls in a round


def parameters(modules: Iterable[nn.Module]) -> int:
    """Numbers that were trained, in all modules together; those that are shared count once."""
    return sum({id(part): part.numel() for module in modules for part in module.parameters()}.values())


def multiplications(module: nn.Module, inputs: Tensor) -> int | None:
    """Multiply-accumulate operations for one sample, counted while it goes through.

    Those of matrix products, convolutions and attention count, which are nearly all there are; what is computed for
    each number by itself does not.

    Args:
        module: gives ``(batch, outputs)``.
        inputs: ``(1, ...)``.

    Returns:
        How many; ``None`` where it cannot be counted.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    fused = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)  # attention in one call is counted by nobody
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            module(inputs)  # what is found out at the first call, such as which way is the fastest, does not count
            with FlopCounterMode(display=False) as counter:
                module(inputs)
    except Exception:  # a module of a plugin may do what cannot be watched; that ends no report
        return None
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return int(counter.get_total_flops()) // 2  # one multiplication and one addition


def latency_ms(module: nn.Module, inputs: Tensor) -> float:
    """Milliseconds for one sample, in a batch of these: the median of several rounds, the first calls left out.

    Args:
        module: gives ``(batch, outputs)``.
        inputs: ``(batch, ...)``, where it is to be measured.
    """

    def lasts(calls: int) -> float:
        began = time.perf_counter()
        for _ in range(calls):
            module(inputs)
        if inputs.device.type == "cuda":
            torch.cuda.synchronize(inputs.device)
        return time.perf_counter() - began

    with torch.inference_mode():
        lasts(2)
        calls = min(_MOST, max(1, round(_ROUND_S / max(lasts(1), 1e-7))))
        rounds = [lasts(calls) / calls for _ in range(_ROUNDS)]
    return 1000 * statistics.median(rounds) / len(inputs)


def of_inference(
    module: nn.Module, modules: Sequence[nn.Module], inputs: Tensor, device: torch.device
) -> dict[str, Any]:
    """What one model costs for each prediction, as ``report.json`` has it.

    Args:
        module: what is called.
        modules: what it is made of, whose parameters count.
        inputs: ``(samples, ...)`` of the data, as models see them; repeated where there are too few.
        device: where latency is measured; the model comes back to where it was.
    """
    macs = multiplications(module, inputs[:1])
    module.to(device)
    try:
        batches = [inputs[torch.arange(size) % len(inputs)].to(device) for size in BATCHES]
        took = {str(len(batch)): latency_ms(module, batch) for batch in batches}
    finally:
        module.to(inputs.device)
    return {
        "parameters": parameters(modules),
        "macs": macs,
        "latency_ms": took,
        "device": device.type,
        "threads": torch.get_num_threads(),
    }


def of_training(members: Sequence[Member]) -> Cost:
    """What training all members has taken; checkpoints of one run are one training, up to the latest of them."""
    runs: dict[Path | str, Cost] = {}
    for member in members:
        place = member.name if member.folder is None else member.folder
        if place not in runs or member.cost.updates > runs[place].updates:
            runs[place] = member.cost
    return Cost(
        sum(cost.updates for cost in runs.values()),
        sum(cost.epochs for cost in runs.values()),
        sum(cost.seconds for cost in runs.values()),
    )


def as_dict(cost: Cost) -> dict[str, float]:
    """A cost as ``report.json`` has it."""
    return {"updates": cost.updates, "epochs": round(cost.epochs, 6), "seconds": round(cost.seconds, 3)}
