"""Whether a run's updates can be one compiled program, and how many of them one call should make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from trainkit.artefact import fingerprint
from trainkit.elementwise import ElementwiseOptimizer
from trainkit.recipe import Recipe
from trainkit.run import Run
from trainkit.steps import implemented

# Unrolled updates make the program, and the time to compile it, longer; above this size the arithmetic of one update
# outweighs what is saved between two.
SMALL_MODEL = 1_000_000
FEWEST, MOST = 6, 12


def choose_updates_per_call(run: Run, intervals: Sequence[int]) -> int:
    """How many updates one call makes: what leaves the fewest over at the end of an interval.

    Args:
        run: the run.
        intervals: updates between two logs, evaluations, saves and epoch ends, where a call has to end.
    """
    if sum(parameter.numel() for parameter in run.model.parameters()) > SMALL_MODEL:
        return 1
    shortest = min(intervals)
    if shortest < FEWEST:
        return max(1, shortest)
    return min(range(MOST, FEWEST - 1, -1), key=lambda count: shortest % count)


def held_by(model: nn.Module) -> Iterator[Tensor]:
    """The model's parameters and buffers."""
    yield from model.parameters()
    yield from model.buffers()


def untraceable(recipe: Recipe, run: Run) -> str:
    """Why the gradients' way to the optimizer cannot be part of a compiled step; empty if it can."""
    able = {
        f"{path[0]}.{path[1]}.{recipe.components[path].name}"
        for path in recipe.order
        if recipe.components[path].capabilities.get("compiles")
    }
    for path, component in recipe.components.items():
        if component.capabilities.get("compiles") is False and path[0] in ("model", "loss", "callback"):
            return f"{component.name} says that it cannot be compiled"
    for impl in run.hook.trainkit_gradients.get_hookimpls():
        if impl.plugin_name not in able or impl.wrapper or impl.hookwrapper:
            name = impl.plugin_name.split(".", 2)[-1]  # the label of a built object is kind, number and name
            return f"{name} takes part in the gradients of each update and does not say that it can be compiled"
    return ""


def obstacle(run: Run) -> str:
    """Why this run cannot be compiled as a whole, as far as the run itself shows it; empty if it can."""
    if not isinstance(run.optimizer, ElementwiseOptimizer):
        return "the optimizer's update cannot be traced"
    if implemented(run, "trainkit_loss") is not None:
        return "a plugin computes the loss in a hook"
    if outside := [value.label for value in run.schedules if value.group is None]:
        # Numbers outside the optimizer's groups are burnt into a program.
        return f"{outside[0]} is scheduled"
    if len(devices := {str(part.device) for part in held_by(run.model)}) > 1:
        return f"the model is spread over {' and '.join(sorted(devices))}"
    if zero := sometimes_zero(run, run.optimizer):
        return f"{zero} is scheduled and 0 for a while, and the update another with it"
    return ""


def hooked(model: nn.Module) -> str:
    """Whether someone hooked in where a parameter gets its gradient, which no program sees; empty if nobody did."""
    for name, parameter in model.named_parameters():
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            return f"a hook is set on the gradient of {name}"
    return ""


def burnt_in(run: Run) -> str:
    """The `fingerprint` of all that takes part in a run's updates."""
    return fingerprint(run.model, run.loss, *(impl.plugin for impl in run.hook.trainkit_gradients.get_hookimpls()))


def lacking() -> str:
    """What this torch lacks; imports its compiler."""
    import torch._dynamo

    if not hasattr(torch._dynamo.config, "trace_autograd_ops"):
        return f"torch {torch.__version__} cannot trace gradients; 2.13 can"
    return ""


def sometimes_zero(run: Run, optimizer: ElementwiseOptimizer) -> str:
    """A scheduled number, such as momentum, that is 0 at some updates, which then need less state; empty if none is."""
    rule = optimizer.rule
    for value in run.schedules:
        if value.group is None or value.name == "lr":
            continue
        group = optimizer.param_groups[value.group]
        if rule.slots({**group, value.name: 0.0}) == rule.slots({**group, value.name: 0.5}):
            continue
        if not all(value.at(t, run.schedule_updates) for t in range(run.total_updates)):
            return value.label
    return ""
