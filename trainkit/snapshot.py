"""What a checkpoint holds of a run, and putting weights and plugin state back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainkit import checkpoint
from trainkit.protocols import Optimizer
from trainkit.run import Run

SMALL = 1 << 16


def not_finite(model: nn.Module) -> str:
    """The name of the first parameter or buffer that holds NaN or infinity; empty if none does."""
    floating = {n: t for n, t in checkpoint.weights_of(model).items() if t.is_floating_point() and t.numel()}
    # Small tensors together: one test for all costs no more than for each.
    parts: dict[Any, list[Tensor]] = {}
    for tensor in floating.values():
        parts.setdefault(tensor.dtype if tensor.numel() <= SMALL else id(tensor), []).append(tensor.reshape(-1))
    if all(bool(torch.cat(part).isfinite().all()) for part in parts.values()):
        return ""
    return next((name for name, tensor in floating.items() if not bool(tensor.isfinite().all())), "")


def optimizer_state(optimizer: Optimizer) -> dict[str, Any]:
    """The optimizer's state by parameter name, so that it never depends on the order of parameters."""
    return {
        name: state
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
        if (state := optimizer.state.get(parameter))
    }


def capture(run: Run, best: Mapping[str, Any] | None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Everything that continuing needs: weights, optimizer state by name, random state, plugins' own state.

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
    optimizer = checkpoint.split_state(optimizer_state(run.optimizer), "optimizer", tensors)
    groups = [{key: value for key, value in group.items() if key != "params"} for group in run.optimizer.param_groups]
    state = {
        "step": run.step,
        "epoch": run.epoch,
        "batch_in_epoch": run.batch_in_epoch,
        "skipped": run.skipped,
        "total_updates": run.total_updates,
        "events": run.events,
        "best": checkpoint.split_state(best, "best", tensors),
        "optimizer": optimizer,
        "groups": checkpoint.split_state(groups, "groups", tensors),
        "scaler": checkpoint.split_state(run.precision.scaler.state_dict(), "scaler", tensors),
        "random": checkpoint.split_state(checkpoint.random_state(run.device), "random", tensors),
        "plugins": plugins,
        "data": run.feed.spec.fingerprint,
    }
    return tensors, state


def restore_weights(run: Run, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Put saved weights into the model, and saved plugin state into the objects that gave it.

    Raises:
        CheckpointError: if the weights do not fit the model.
    """
    checkpoint.load_weights(run.model, tensors)
    for impl in run.hook.trainkit_restore.get_hookimpls():
        if impl.plugin_name in state["plugins"]:
            given = {"run": run, "state": checkpoint.join_state(state["plugins"][impl.plugin_name], tensors)}
            impl.function(*[given[name] for name in impl.argnames])
