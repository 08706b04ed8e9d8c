"""Runs on a device that computes nothing: whoever asks it for a number is told that there is none.

The meta device is what a CUDA device is to the loop, a device that is not this process's memory, and needs no hardware.
It refuses every operation whose result somebody would wait for: ``.item()``, ``nonzero()``, a selection by mask,
a copy to the CPU. What it cannot refuse is looked for here: copies from the CPU that are not merely queued, which are
waited for where they are made.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainkit import Run, StepResult
from trainkit.build import make_ready, prepare
from trainkit.feed.resident import ResidentFeed
from trainkit.manager import Plugins
from trainkit.programs import make_program
from trainkit.recipe import Recipe
from trainkit.tally import Tally

META = torch.device("meta")
_COPIES = (torch.ops.aten._to_copy, torch.ops.aten.copy_)


def _where() -> str:
    frames = [f for f in traceback.extract_stack() if "/trainkit" in f.filename and "/tests/" not in f.filename]
    return ", ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-2:])


class _Made(TorchFunctionMode):
    """Notes tensors that are made of Python's numbers on the device: torch makes them here and copies them."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name, first = getattr(func, "__name__", ""), args[0] if args else None
        device = str(kwargs.get("device") or "cpu")
        if name in ("tensor", "as_tensor") and not isinstance(first, torch.Tensor) and device != "cpu":
            self.found.append(f"torch.{name} at {_where()}")
        if name == "new_tensor" and first.device.type != "cpu":
            self.found.append(f"new_tensor at {_where()}")
        return func(*args, **kwargs)


class _Copied(TorchDispatchMode):
    """Notes copies between the CPU and the device that are not queued, and tensors of both in one operation."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        tensors = [part for part in tree_leaves((args, kwargs, made)) if isinstance(part, torch.Tensor)]
        if len({tensor.device.type for tensor in tensors}) > 1:
            copy = func.overloadpacket in _COPIES
            queued = kwargs.get("non_blocking") or (len(args) > 2 and func.overloadpacket is _COPIES[1] and args[2])
            if copy and not queued:
                self.found.append(f"{func} at {_where()}")
            elif not copy and any(tensor.device.type == "cpu" and tensor.dim() for tensor in tensors):
                self.found.append(f"{func} of two devices at {_where()}")
        return made


def watched(work: Callable[[], object]) -> list[str]:
    """What waits for the device in a piece of work, as far as it does not raise there and then."""
    found: list[str] = []
    with _Made(found), _Copied(found):
        work()
    return list(dict.fromkeys(found))


def on_meta(recipe: Recipe, plugins: Plugins, folder: Path) -> Run:
    """A run that is ready to start, with its model and its data on the meta device."""
    run = prepare(recipe, plugins, folder, lambda *given, **more: None)  # type: ignore[arg-type]
    make_ready(run)
    run.device = META
    moved = {}
    for module in run.model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                new = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
                moved[id(parameter)] = module._parameters[name] = new
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty_like(buffer, device="meta")
    for group in run.optimizer.param_groups:
        group["params"] = [moved[id(parameter)] for parameter in group["params"]]
    run.feed = ResidentFeed(run.feed.plan, META)  # type: ignore[attr-defined]
    run.hook.trainkit_run_start(run=run)
    return run


def updates(run: Run, recipe: Recipe) -> Iterator[StepResult]:
    """What the loop does between two points at which something is due, update by update, without end."""
    program, tally, step_end = make_program(recipe, run), Tally(run), run.hook.trainkit_step_end
    while True:
        held = []
        for batch in run.feed.train(run.epoch):
            held.append(batch)
            if len(held) == run.clock.accumulate:
                result = program([held])
                run.step += result.updates
                run.batch_in_epoch += len(held)
                tally.add(result)
                step_end(run=run, result=result)
                yield result
                held = []
        run.epoch, run.batch_in_epoch = run.epoch + 1, 0


def waits(recipe: Recipe, plugins: Plugins, folder: Path, count: int = 12) -> list[str]:
    """What waits for the device in updates of a run, the first three left out: they move constants there.

    Raises:
        Exception: where the device is asked for a number.
    """
    made = updates(on_meta(recipe, plugins, folder), recipe)
    for _ in range(3):
        next(made)
    return watched(lambda: [next(made) for _ in range(count)])
