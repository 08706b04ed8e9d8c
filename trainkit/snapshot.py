"""What a checkpoint holds of a run, and putting weights and plugin state back; `restore` puts back the rest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from trainkit import checkpoint
from trainkit.errors import PluginError
from trainkit.protocols import Optimizer
from trainkit.run import Metrics, Run
from trainkit.seeding import random_state


def optimizer_state(optimizer: Optimizer) -> dict[str, Any]:
    """The optimizer's state by parameter name, so that it never depends on the order of parameters."""
    return {
        name: state
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
        if (state := optimizer.state.get(parameter))
    }


def settings_of(groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What parameter groups hold beside their parameters: names, hyperparameters, an optimizer's own counters."""
    return [{key: value for key, value in group.items() if key != "params"} for group in groups]


def capture(run: Run, recorded: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Everything that continuing needs: weights, optimizer state by name, random state, plugins' own state.

    Args:
        run: the run, on a step boundary.
        recorded: what the run's recorder needs to go on, such as the best figure so far.

    Returns:
        Tensors by name (``model/…``, ``optimizer/<parameter>/…``, ``plugin/<label>/…``), and the rest as plain data.
    """
    tensors = {f"model/{name}": tensor for name, tensor in checkpoint.weights_of(run.model).items()}
    plugins: dict[str, Any] = {}
    for impl in run.hook.trainkit_save.get_hookimpls():
        given = {"run": run}
        state = impl.function(*[given[name] for name in impl.argnames])
        if state is not None:
            plugins[impl.plugin_name] = checkpoint.split_state(state, f"plugin/{impl.plugin_name}", tensors)
    held = dict[str, Tensor]()
    optimizer = checkpoint.split_state(optimizer_state(run.optimizer), "optimizer", held)
    groups = checkpoint.split_state(settings_of(run.optimizer.param_groups), "groups", held)
    tensors |= held
    state = {
        "step": run.step,
        "epoch": run.epoch,
        "batch_in_epoch": run.batch_in_epoch,
        "skipped": run.skipped,
        "skipped_in_a_row": run.skipped_in_a_row,
        "microbatch": run.microbatch,
        "total_updates": run.total_updates,
        "schedule_updates": run.schedule_updates,
        "batches_per_epoch": run.feed.batches_per_epoch,
        "samples_in_epoch": run.feed.samples_before(run.epoch, run.batch_in_epoch),
        "device": run.device.type,
        "threads": torch.get_num_threads(),
        "processes": run.group.size,
        "events": run.events,
        **{key: checkpoint.split_state(value, key, tensors) for key, value in recorded.items()},
        "optimizer": optimizer,
        "groups": groups,
        "bases": checkpoint.split_state(run.bases, "bases", tensors),
        # Counters that an optimizer keeps there would otherwise come back on the run's device.
        "on_cpu": [name for name, tensor in held.items() if tensor.device.type == "cpu" != run.device.type],
        "scaler": checkpoint.split_state(run.precision.scaler.state_dict(), "scaler", tensors),
        "random": checkpoint.split_state(random_state(run.device), "random", tensors),
        "plugins": plugins,
        "data": run.feed.spec.fingerprint,
    }
    state["strides"] = strides_of(tensors)
    return tensors, state


def strides_of(tensors: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """How those tensors lie in memory that do not lie row by row: sums and products are rounded by it."""
    return {
        name: list(tensor.stride())
        for name, tensor in tensors.items()
        if not tensor.is_contiguous() and _is_dense(tensor.shape, tensor.stride())
    }


def laid_out(tensors: Mapping[str, Tensor], strides: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """The tensors, each lying in memory as `strides_of` says.

    Raises:
        ValueError: if strides do not fit their tensor.
    """
    found = dict(tensors)
    for name, stride in strides.items():
        tensor = tensors[name]
        if len(stride) != tensor.dim() or not _is_dense(tensor.shape, stride):
            raise ValueError(f"the strides {list(stride)} do not fit {name}, which is {tuple(tensor.shape)}")
        found[name] = torch.empty_strided(tensor.shape, tuple(stride), dtype=tensor.dtype).copy_(tensor)
    return found


def _is_dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether elements lie one behind the other, in whatever order of dimensions."""
    expected = 1
    for stride, size in sorted(zip(strides, shape, strict=True)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


def measured_weights(run: Run) -> dict[str, Tensor]:
    """Parameters and saved buffers as evaluations measure them, on the CPU: averages of weights are in their place.

    Raises:
        PluginError: if a plugin measures in a way of its own that shows no weights.
    """
    kept: dict[str, Tensor] = {}

    def keeping(run: Run, split: str) -> Metrics:
        kept.update({name: tensor.detach().cpu().clone() for name, tensor in checkpoint.weights_of(run.model).items()})
        return dict.fromkeys(("loss", *run.metrics), float("nan"))

    split = "val" if "val" in run.feed.spec.sizes else "train"
    # An evaluation that measures nothing: whoever exchanges the weights around evaluations does it here too.
    run.hook.trainkit_evaluate.call_extra([keeping], {"run": run, "split": split})
    if not kept:
        raise PluginError("a plugin measures in a way of its own, before all others, and shows no weights to keep")
    return kept


def restore_weights(run: Run, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Put saved weights into the model, and saved plugin state into the objects that gave it.

    Raises:
        CheckpointError: if the weights do not fit the model.
    """
    checkpoint.load_weights(run.model, tensors)
    restore_plugins(run, tensors, state)


def restore_plugins(
    run: Run,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    within: Callable[[str, object], AbstractContextManager[None]] = lambda label, part: contextlib.nullcontext(),
) -> None:
    """Give saved plugin state back to the objects that it came from, each ``within`` what that makes of it."""
    labels = takers(run, state["plugins"])
    for impl in run.hook.trainkit_restore.get_hookimpls():
        label = labels.get(impl.plugin_name)
        if label is not None:
            given = {"run": run, "state": checkpoint.join_state(state["plugins"][label], tensors)}
            with within(impl.plugin_name, impl.plugin):
                impl.function(*[given[name] for name in impl.argnames])


def takers(run: Run, saved: Mapping[str, Any]) -> dict[str, str]:
    """Which saved label's state each object that takes some back gets.

    The same label; where a list of callbacks has changed, the only one of that name.
    """
    present = [impl.plugin_name for impl in run.hook.trainkit_restore.get_hookimpls()]
    found = {label: label for label in present if label in saved}
    free, left = [label for label in present if label not in found], [label for label in saved if label not in found]
    for label in free:
        alike = [other for other in left if _name(other) == _name(label)]
        if len(alike) == 1 and sum(_name(other) == _name(label) for other in free) == 1:
            found[label] = alike[0]
    return found


def _name(label: str) -> str:
    """``callback.0.ema`` without its place in the list."""
    kind, _, rest = label.partition(".")
    return f"{kind}.{rest.partition('.')[2]}"
