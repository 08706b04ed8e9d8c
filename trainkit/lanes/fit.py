"""Which runs can be lanes, and which of them can share a stack."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

from torch import nn

from trainkit.compilable import sometimes_zero
from trainkit.elementwise import ElementwiseOptimizer
from trainkit.lanes.described import Description, Free, described, tensor_form
from trainkit.lanes.dropout import MASKED
from trainkit.lanes.probe import differing
from trainkit.recipe import Recipe
from trainkit.run import Run
from trainkit.steps import implemented


def obstacle(recipe: Recipe, run: Run) -> str:
    """Why a run cannot be a lane; empty if it can.

    What only the model itself can show is found by computing a small batch both ways.

    Args:
        recipe: its checked recipe.
        run: the run as `build.prepare` made it.
    """
    return seen(recipe, run) or differing(run)


def seen(recipe: Recipe, run: Run) -> str:
    """The part of `obstacle` that nothing need be computed for; the rest is the same for runs of one `structure`."""
    settings = run.recipe["run"]
    for path, component in recipe.components.items():
        if component.capabilities.get("lanes") is False:
            return f"{path[0]} {component.name} says that it cannot take part in lanes"
        if component.capabilities.get("needs_closure"):
            return f"{component.name} calls the loss itself, as often as it likes"
    if implemented(run, "trainkit_train_step") is not None:
        return "a plugin makes the updates itself"
    optimizer = run.optimizer
    if not isinstance(optimizer, ElementwiseOptimizer) or type(optimizer).step is not ElementwiseOptimizer.step:
        return f"the update of {_updating(recipe)} is no rule that each parameter follows by itself"
    if settings["processes"] > 1:
        return f"processes = {settings['processes']} make each run together, and lanes are many runs in one process"
    if settings["nonfinite"] != "error":
        return f'nonfinite = "{settings["nonfinite"]}" decides on single updates'
    if settings["microbatch"] is not None:
        return "microbatch takes each batch in parts"
    if settings["compile"] == "model":
        return 'compile = "model" compiles one model by itself; compile = "step" is for lanes too'
    if run.precision.scaler.is_enabled():
        return "the loss scale of float16 follows one run's gradients"
    if run.clock.accumulate > 1:
        return "accumulate puts several batches into an update"
    smallest, largest = run.feed.batch_sizes
    if smallest != largest:
        return "a schedule sets the batch size"
    if zero := sometimes_zero(run, optimizer):
        return f"{zero} is scheduled and 0 for a while, and the update another with it"
    if run.device.type != "cpu" and any(type(module) in MASKED for module in run.model.modules()):
        return f"dropout on {run.device.type} draws from the device's one generator"
    return _of_model(run.model)


def _of_model(model: nn.Module) -> str:
    for name, module in model.named_modules():
        label = f"{name or 'the model'} ({type(module).__name__})"
        if isinstance(module, nn.modules.dropout._DropoutNd) and type(module) not in MASKED:
            return f"{label} draws random numbers in a way of its own"
        for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
            if getattr(module, kind, None):
                return f"a hook is set on {label}"
    for name, parameter in model.named_parameters():
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            return f"a hook is set on the gradient of {name}"
        if parameter.is_sparse:
            return f"{name} is sparse"
    return ""


def _updating(recipe: Recipe) -> str:
    """What makes the updates: the outermost wrapper, or the optimizer."""
    wrapped = [part.name for _, part in recipe.components.items() if part.kind == "wrapper"]
    return (wrapped or [part.name for path, part in recipe.components.items() if path[0] == "optimizer"])[-1]


def structure(recipe: Recipe, run: Run) -> Hashable:
    """What runs that share a stack have in common: all but numbers, data and their order."""
    settings, optimizer = run.recipe["run"], run.optimizer
    assert isinstance(optimizer, ElementwiseOptimizer)
    spec = run.feed.spec
    return (
        tuple(Description().modules(run.model, rates=True)),
        tuple((name, *tensor_form(tensor)) for name, tensor in run.model.named_parameters()),
        tuple((name, *tensor_form(tensor)) for name, tensor in run.model.named_buffers()),
        described(optimizer.rule),
        tuple(
            (tuple(group["names"]), optimizer.rule.slots(group), tuple(sorted(_words(group))))
            for group in optimizer.param_groups
        ),
        described(run.loss, _free(recipe, run)),
        tuple(_hooks(recipe, run)),
        len(run.hook.trainkit_loss.get_hookimpls()),
        run.precision.name,
        run.device,
        bool(run.metrics),
        run.forward is run.model,
        settings["compile"],
        (spec.input_shape, spec.task, spec.outputs, run.feed.batch_size, run.recipe["data"].get("drop_last")),
    )


def _free(recipe: Recipe, run: Run) -> Free:
    """Which numbers of the loss may differ: all are each lane's own unless one loss speaks for several lanes."""
    able = any(path[0] == "loss" and part.capabilities.get("lanes") for path, part in recipe.components.items())
    if able:
        return "own"
    return "all" if getattr(run.loss, "weight", None) is None else "none"  # what weighs batches is asked of one


def _hooks(recipe: Recipe, run: Run) -> Iterator[Hashable]:
    """Who changes gradients; what is called lane by lane may hold what it likes."""
    together = {
        f"{path[0]}.{path[1]}.{recipe.components[path].name}"
        for path in recipe.order
        if recipe.components[path].capabilities.get("lanes")
    }
    for impl in run.hook.trainkit_gradients.get_hookimpls():
        kind = type(impl.plugin)
        held = described(impl.plugin, "own") if impl.plugin_name in together else ""
        yield impl.plugin_name, kind.__module__, kind.__qualname__, held


def _words(group: dict[str, Any]) -> Iterator[str]:
    """The settings of a group that are no numbers, and the names of those that are."""
    for key, value in group.items():
        if key not in ("params", "names"):
            plain = value is not None and not isinstance(value, int | float | tuple | list)
            yield f"{key}={value}" if plain or isinstance(value, bool) or value is None else key
