"""What no single table shows: components that exclude each other, order of hooks, settings that do not go together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trainkit.clock import Span
from trainkit.component import Component, own_figures
from trainkit.errors import Problem
from trainkit.recipe.cutting import check_chosen, check_cut
from trainkit.recipe.dividing import check_divided
from trainkit.recipe.filled import Recipe, named
from trainkit.recipe.optimizing import check_optimizers
from trainkit.recipe.scheduling import check_schedules, monitors
from trainkit.recipe.text import Path, did_you_mean, shown, shown_value

_TIMES = ("duration", "evaluate_every", "log_every", "save_every")


def check_pairs(recipe: Recipe) -> list[Problem]:
    """Find problems between tables; tables that are wrong themselves may lack values here."""
    return [
        *_times(recipe),
        *_owners(recipe),
        *_conflicts(recipe),
        *_step(recipe),
        *_microbatch(recipe),
        *_rollback(recipe),
        *check_optimizers(recipe),
        *check_schedules(recipe),
        *_figures(recipe),
        *check_cut(recipe),
        *check_chosen(recipe),
        *check_divided(recipe),
    ]


def hook_order(recipe: Recipe) -> tuple[list[Path], list[Problem]]:
    """Sort callbacks, then loggers, so that ``before`` and ``after`` hold; else they stay as written."""
    order: list[Path] = []
    problems: list[Problem] = []
    for kind in ("callback", "logger"):
        waiting: list[Path] = [path for path in recipe.components if path[0] == kind and len(path) == 2]
        while waiting:
            free = next((p for p in waiting if not any(_first(recipe, q, p) for q in waiting if q != p)), None)
            if free is None:
                names = _circle(recipe, waiting)
                message = f"the {kind}s {' and '.join(names)} must each come before the other"
                problems.append(Problem(recipe.tables.place((*waiting[-1], "use")), message, "leave one of them out"))
                break
            order.append(free)
            waiting.remove(free)
    return order, problems


def _first(recipe: Recipe, one: Path, other: Path) -> bool:
    """Whether ``one`` must be called before ``other``."""
    first, second = recipe.components[one], recipe.components[other]
    # A component that stands twice cannot come before itself.
    return first.name != second.name and (second.name in first.before or first.name in second.after)


def _circle(recipe: Recipe, waiting: list[Path]) -> list[str]:
    """The names on one circle among those that all wait for another."""
    walk = [waiting[0]]
    while True:
        walk.append(next(q for q in waiting if q != walk[-1] and _first(recipe, q, walk[-1])))
        if walk[-1] in walk[:-1]:
            circle = walk[walk.index(walk[-1]) + 1 :]
            return sorted({f"'{recipe.components[path].name}'" for path in circle})


def _times(recipe: Recipe) -> Iterator[Problem]:
    for name in _TIMES:
        written = recipe.tables.get("run", {}).get(name)
        if not isinstance(written, str):
            continue
        span = Span.parse(written)
        place = recipe.tables.place(("run", name))
        if not span.amount:
            yield Problem(place, f'[run] {name} must be longer than nothing, got "{shown(written)}"', "")
        elif name == "duration" and span.unit == "dur":
            cure = "write it in ep (epochs), ba (updates), sp (samples) or tok (tokens)"
            yield Problem(place, f'[run] duration cannot be a fraction of itself, got "{shown(written)}"', cure)


def _owners(recipe: Recipe) -> Iterator[Problem]:
    owners: dict[str, Path] = {}
    for path, component in recipe.components.items():
        for thing in component.owns:
            if thing in owners:
                first = named(owners[thing], recipe.components[owners[thing]])
                message = f"{named(path, component)} takes over the {thing.replace('_', ' ')}, as {first} does"
                yield Problem(recipe.tables.place((*path, "use")), message, "leave one of them out")
            owners.setdefault(thing, path)


def _conflicts(recipe: Recipe) -> Iterator[Problem]:
    seen: list[tuple[Path, Component]] = []
    for path, component in recipe.components.items():
        for earlier_path, earlier in seen:
            if earlier.kind == component.kind and (
                earlier.name in component.conflicts or component.name in earlier.conflicts
            ):
                message = f"{named(path, component)} cannot be in one recipe with {named(earlier_path, earlier)}"
                yield Problem(recipe.tables.place((*path, "use")), message, "leave one of them out")
        seen.append((path, component))


def _step(recipe: Recipe) -> Iterator[Problem]:
    """What the step program cannot do with these components."""
    run: dict[str, Any] = recipe.tables.get("run", {})
    makers = recipe.making_updates()
    compiled = run.get("compile") == "step"
    at = recipe.tables.place
    asking = [part for part in makers if part[1].capabilities.get("needs_closure")]
    untraced = [part for part in makers if part[1].capabilities.get("compiles") is not True]
    if asking:
        asks = f"{named(*asking[0])} computes the loss again within a step"
        if run.get("precision") == "float16":
            message = f'{asks}, which the loss scaler of precision = "float16" cannot follow'
            yield Problem(at(("run", "precision")), message, 'write precision = "bfloat16" or "float32"')
        if run.get("nonfinite") == "skip":
            message = f'{asks}, so that there is no single update that nonfinite = "skip" could leave out'
            yield Problem(at(("run", "nonfinite")), message, 'write nonfinite = "error", or leave it out')
        if compiled:
            message = f'{asks}, which compile = "step" cannot follow'
            yield Problem(at(("run", "compile")), message, 'write compile = "model" or compile = false')
    elif compiled and untraced:
        message = f'{named(*untraced[0])} cannot be part of the compiled program of compile = "step"'
        yield Problem(at(("run", "compile")), message, 'write compile = "model" or compile = false')
    if compiled:
        if run.get("nonfinite") == "skip":
            message = 'compile = "step" cannot leave single updates out, which nonfinite = "skip" asks for'
            yield Problem(at(("run", "nonfinite")), message, 'write nonfinite = "error", or compile = "model"')
        if run.get("precision") == "float16":
            message = 'compile = "step" cannot follow the loss scaler of precision = "float16"'
            yield Problem(at(("run", "precision")), message, 'write precision = "bfloat16", or compile = "model"')
        for path, component in recipe.components.items():
            if "step" in component.owns:
                message = (
                    f'{named(path, component)} makes steps of its own, so that compile = "step" has none to compile'
                )
                yield Problem(at(("run", "compile")), message, 'write compile = "model" or compile = false')
    calls = run.get("updates_per_call", 1)
    if isinstance(calls, int) and calls > 1:
        if run.get("compile") not in ("step", "auto"):
            message = f"[run] updates_per_call = {calls} is of compiled steps alone"
            yield Problem(at(("run", "updates_per_call")), message, 'write compile = "step" too, or leave it out')
        for path, component in recipe.components.items():
            if component.capabilities.get("every_update"):
                message = f"{named(path, component)} must be called at every update, not every {calls}"
                yield Problem(at(("run", "updates_per_call")), message, "write updates_per_call = 1")


def _microbatch(recipe: Recipe) -> Iterator[Problem]:
    """What cannot let a batch through the model in parts."""
    run: dict[str, Any] = recipe.tables.get("run", {})
    if run.get("microbatch") is None:
        return
    written, at = f"microbatch = {shown_value(run['microbatch'])}", recipe.tables.place(("run", "microbatch"))
    if run.get("compile") == "step":
        message = f'[run] {written}: compile = "step" has whole batches in its program'
        yield Problem(at, message, 'write compile = "model" or compile = false, or raise accumulate instead')
    for path, component in recipe.components.items():
        if component.capabilities.get("whole_batches"):
            message = f"[run] {written}: {named(path, component)} compares the samples of a batch with each other"
            yield Problem(at, message, "leave it out, and write a smaller batch_size")
        if "step" in component.owns:
            message = f"[run] {written}: {named(path, component)} makes steps of its own, of whole batches"
            yield Problem(at, message, "leave one of them out")
    asking = [p for p in recipe.making_updates() if p[1].capabilities.get("needs_closure")]
    if asking and run["microbatch"] == "auto":
        message = f"[run] {written}: {named(*asking[0])} changes weights between the gradients of one update"
        yield Problem(at, message, "write the number of samples")


def _rollback(recipe: Recipe) -> Iterator[Problem]:
    """A run that goes back needs a learning rate that can be made smaller."""
    own = next((part for part in recipe.making_updates() if part[1].capabilities.get("own_lr")), None)
    if own is not None and recipe.tables.get("run", {}).get("nonfinite") == "rollback":
        message = f'{named(*own)} sets its own learning rate, which nonfinite = "rollback" cannot make smaller'
        cure = 'write nonfinite = "error" or "skip"'
        yield Problem(recipe.tables.place(("run", "nonfinite")), message, cure)


def _figures(recipe: Recipe) -> Iterator[Problem]:
    """Names of metrics, and the figures that settings ask for."""
    names: list[str] = []
    for path, component in recipe.components.items():
        if component.kind == "metric" and len(path) == 2:
            if component.name in names:
                message = f"[[metric]] {component.name} is there twice: both would give the figure '{component.name}'"
                yield Problem(recipe.tables.place((*path, "use")), message, "leave one of them out")
            names.append(component.name)
    if any(item is None for item in recipe.tables.get("metric", [])):
        return
    figures = [f"{split}.{name}" for split in ("val", "train") for name in ("loss", *dict.fromkeys(names))]
    figures += [f"val.{name}" for name in own_figures(recipe.components.values())]
    # One metric may give several figures, named after it.
    several = tuple(f"{figure}{mark}" for figure in figures if figure[-5:] != ".loss" for mark in "._")
    for at, what, monitor in monitors(recipe):
        if isinstance(monitor, str) and monitor not in figures and not monitor.startswith(several):
            cure = did_you_mean(monitor, figures) + f"figures of this recipe: {', '.join(figures)}"
            message = f"{what}: nothing gives the figure '{shown(monitor)}'"
            yield Problem(recipe.tables.place(at), message, cure)
