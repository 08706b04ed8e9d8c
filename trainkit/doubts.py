"""State of a checkpoint that is no state of the object it is given to: seen before it is used, or met in its use.

A checkpoint whose checksums are right may be made up, or another run's. What an object's state must be only the object
knows. What can be said without asking it is said when the state is put back; whatever it fails with afterwards is held
against the state until the run has saved a checkpoint of its own.
"""

from __future__ import annotations

import contextlib
import math
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from trainkit import snapshot
from trainkit.elementwise import ElementwiseOptimizer
from trainkit.errors import CheckpointError, PluginDefect, TrainkitError
from trainkit.forms import STATE, cut
from trainkit.reactions import Reactions
from trainkit.run import Run
from trainkit.stateful import optimizers_in

OPTIMIZER = "the optimizer"
_DEPTH = 3  # of objects within objects whose attributes are looked at


def refusal(folder: Path, label: str, why: str) -> CheckpointError:
    """The error for state that is not the object's."""
    return CheckpointError(f"{folder / STATE}: the state of {label} does not fit the run: {why}")


def unlike(own: Any, saved: Any, strict: bool = False) -> str:
    """What keeps a saved value from standing where an object's own stood; empty if nothing does.

    Lengths of lists, what was unset or a switch and what is unset now say nothing; names that only one of them has
    neither.

    Args:
        own: the value as the object was made with it.
        saved: the value that takes its place.
        strict: whether it is a setting, whose kind never changes: a finite number stays one, a tensor and a tuple keep
            their shape and length.
    """
    if own is None or (not strict and (saved is None or isinstance(own, bool))):
        return ""
    if isinstance(own, Tensor) or isinstance(saved, Tensor):
        if not strict or _shape(own) == _shape(saved):
            return ""
        return f"it must be {_said(own)}, and is {_said(saved)}"
    kind = _kind(own)
    if kind and (_kind(saved) or ("nothing" if saved is None else kind)) != kind:
        return f"it must be {kind}, and is {cut(repr(saved))}"
    if kind == "a number" and not _may_be(saved, own, strict):
        return f"it must be a finite number, and is {saved}"
    if kind == "a list":
        if len(own) != len(saved):
            return f"it must be {len(own)} values, and is {len(saved)}" if strict and isinstance(own, tuple) else ""
        pairs = [(str(place), *pair) for place, pair in enumerate(zip(own, saved, strict=True))]
    elif kind == "a table":
        pairs = [(name, own[name], saved[name]) for name in own if isinstance(name, str) and name in saved]
    else:
        return ""
    return next((f"'{name}': {why}" for name, one, other in pairs if (why := unlike(one, other, strict))), "")


def _may_be(saved: float, own: float, strict: bool) -> bool:
    """Whether a number may have become this one: a counter may end at infinity, and never at NaN."""
    if isinstance(saved, int):  # however long
        return True
    if strict:
        return math.isfinite(saved) or not math.isfinite(own)
    return not (math.isnan(saved) and type(own) is int)


def _kind(value: Any) -> str:
    """What a value is, as far as state is plain data; empty for everything else."""
    for types, word in (
        ((bool, int, float), "a number"),
        (str, "text"),
        ((list, tuple), "a list"),
        (Mapping, "a table"),
    ):
        if isinstance(value, types):
            return word
    return ""


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else () if _kind(value) == "a number" else None


def _said(value: Any) -> str:
    return f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else cut(repr(value))


def makers(run: Run) -> dict[int, ElementwiseOptimizer]:
    """The optimizers of ours, which say what they keep of a parameter, by the id of each that they update."""
    ours = [part for part in optimizers_in(run.optimizer) if isinstance(part, ElementwiseOptimizer)]
    return {id(parameter): part for part in ours for group in part.param_groups for parameter in group["params"]}


def check_setting(part: ElementwiseOptimizer | None, own: Any, key: str, saved: Any) -> str:
    """What keeps a saved value from being a setting of a parameter group.

    Ours set numbers to numbers. Others keep there what they like, such as an estimate that begins as a number and goes
    on as a tensor; of theirs only the rate is looked at, which everybody reads.

    Args:
        part: the optimizer, if it is ours.
        own: the value as the optimizer was made with it.
        key: its name.
        saved: the value that takes its place.
    """
    if part is not None:
        return unlike(own, saved, strict=True)
    if key == "lr" and _single(own) and not _single(saved):
        return f"it must be a number, and is {_said(saved)}"
    return ""


def check_optimizer(
    part: ElementwiseOptimizer | None,
    name: str,
    parameter: Tensor,
    group: Mapping[str, Any],
    state: Mapping[str, Any],
) -> str:
    """What is wrong with one parameter's state, as far as that can be said before the first update."""
    if part is None:  # of others it shows when they use it
        return f"'{name}': 'step' is NaN" if _is_nan(state.get("step")) else ""
    # What a number that is 0 makes needless is made when it is another, by a schedule or a changed recipe.
    numbers = {key: 0 if _kind(value) == "a number" else value for key, value in group.items()}
    if lacking := [key for key in ("step", *part.rule.slots(numbers)) if key not in state]:
        return f"'{name}' lacks '{lacking[0]}'"
    why = unlike(part.state_of(parameter, group), state, strict=True)
    return why and f"'{name}': {why}"


def _single(value: Any) -> bool:
    return value.numel() == 1 if isinstance(value, Tensor) else _kind(value) == "a number"


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


@contextlib.contextmanager
def taking_back(folder: Path, label: str, part: object) -> Iterator[None]:
    """Look at what an object is after it has taken its state back.

    Raises:
        CheckpointError: if an attribute was a number, text, a list or a table, and is another of these.
    """
    before = _attributes(part)
    yield
    if why := unlike(before, _attributes(part)):
        raise refusal(folder, label, why)


def _attributes(part: object, depth: int = 0) -> dict[str, Any]:
    """The attributes of an object that are plain data, and those of objects of its package within it."""
    if isinstance(part, Reactions):
        return {watch.label: _attributes(watch.reaction) for watch in part.watches}
    found: dict[str, Any] = {}
    for name, value in getattr(part, "__dict__", {}).items():
        if isinstance(value, dict | list):
            found[name] = value.copy()
        elif value is None or _kind(value):
            found[name] = value
        elif depth < _DEPTH and _package(value) == _package(part) and not isinstance(value, nn.Module | type):
            found[name] = _attributes(value, depth + 1)
    return found


def _package(part: object) -> str:
    return type(part).__module__.partition(".")[0]


def held_against_state(
    error: BaseException, said: TrainkitError | None, folder: Path, run: Run, state: Mapping[str, Any]
) -> CheckpointError | None:
    """The error to show in place of ``said`` where an object whose state came from a checkpoint has failed.

    Args:
        error: what it failed with, with its traceback; errors that trainkit itself raises are about something else.
        said: what would be shown.
        folder: the checkpoint.
        run: the run.
        state: the checkpoint's plain data.

    Returns:
        ``None`` where nobody with such state is on the traceback.
    """
    if isinstance(error, TrainkitError | OSError | MemoryError) or not isinstance(error, Exception):
        return None
    holders = _holders(run, state)
    label = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        for known in (frame.f_locals.get("self"), frame.f_globals):
            label = holders.get(id(known), label)
    if not label:
        return None
    lines = str(said).splitlines() if said is not None else []
    plugin = isinstance(said, PluginDefect)
    why = lines[0] if plugin else f"{type(error).__name__}: {cut(error)}"
    cure = "if it is the run's own state, this is a defect; --traceback shows the whole stack"
    return refusal(folder, label, "\n".join([why, *(lines[1:-1] if plugin else []), f"  {cure}"]))


def _holders(run: Run, state: Mapping[str, Any]) -> dict[int, str]:
    """Who was given state: the label of each object by its id; of a module by that of its namespace."""
    found: dict[int, str] = {}
    if state.get("optimizer"):
        found |= {id(part): OPTIMIZER for part in optimizers_in(run.optimizer)}
    takers = snapshot.takers(run, state["plugins"])
    for impl in run.hook.trainkit_restore.get_hookimpls():
        if impl.plugin_name in takers:
            part = impl.plugin
            found[id(vars(part) if isinstance(part, type(math)) else part)] = impl.plugin_name
            if isinstance(part, Reactions):
                found |= {id(watch.reaction): f"the reaction {watch.label}" for watch in part.watches}
    return found
