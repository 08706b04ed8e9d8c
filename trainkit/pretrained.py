"""Weights that a model begins with: matched by name with its own, said once, refused whole where they do not fit."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainkit import checkpoint
from trainkit.errors import CheckpointError, Problem, RecipeError, TrainkitError
from trainkit.parameters import fits
from trainkit.recipe import problem_at, toml_key
from trainkit.recipe.paths import weights_problems
from trainkit.rundir import PRETRAINED, read_text
from trainkit.weight_files import NoWeights, Weights, read_weights
from trainkit.weights import not_finite

# The weights that a run measures, of the run folder whose checkpoint was read.
Measure = Callable[[Path, Weights], Mapping[str, Tensor]]
_COUNTER = "num_batches_tracked"  # of BatchNorm: older files have none, and it counts nothing that is used
_MOST = 100  # tensors that a message lists


@dataclass(frozen=True)
class Pretrained:
    """What a model begins with.

    Args:
        about: what ``pretrained.json`` says: where from, and what of it matched.
        text: the same in a sentence or two.
    """

    about: Mapping[str, Any]
    text: str


def load_pretrained(tables: Mapping[str, Any], model: nn.Module, measure: Measure) -> Pretrained | None:
    """Put the weights that ``[model]`` names into a model; ``None`` where it names none.

    Args:
        tables: the recipe.
        model: as a run begins with it, every part of it in place.
        measure: gives the weights that a run's evaluations measure, where these are others than it trains.

    Raises:
        RecipeError: if there are no such weights, or they do not fit; every tensor at fault is listed.
        CheckpointError: if they are damaged.
    """
    table = tables["model"]
    written = table.get("weights")
    if written is None:
        if problems := list(_idle(tables)):
            raise RecipeError(problems)
        return None
    if problems := list(weights_problems(tables)):
        raise RecipeError(problems)
    try:
        found = read_weights(written)
    except NoWeights as error:
        message, _, cure = str(error).partition("\n")
        raise _refused(tables, f"[model] weights: {message}", cure) from error
    given = found.tensors
    if found.averages:
        given = _measured(tables, found, measure)
    if bad := not_finite(given):
        raise _refused(tables, f"[model] weights: '{bad}' in {found.place} is not finite")
    renamed = _renamed(tables, given, table.get("rename") or {})
    matched = _Matched(checkpoint.weights_of(model), given, renamed, table.get("head") or [])
    if problems := list(matched.problems(tables, str(found.place))):
        raise RecipeError(problems)
    with torch.no_grad():
        for name in matched.taken:
            matched.own[name].copy_(given[renamed[name]])
    about = {
        "weights": written,
        "place": str(found.place),
        **found.about,
        "sha256": checkpoint.tensors_sha256(given),
        **matched.about(),
        "first_sha256": checkpoint.weights_sha256(model),
    }
    return Pretrained(about, f"{_from(found)}: {matched.text()}")


def first_sha256(folder: Path) -> str:
    """SHA-256 of the weights that a run began with, where these were given; empty where it began anew."""
    try:
        found = json.loads(read_text(folder / PRETRAINED)).get("first_sha256")
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""
    return found if isinstance(found, str) else ""


def _from(found: Weights) -> str:
    step = found.about.get("step")
    return f"the model begins with {found.place}" + (f", step {step}" if step is not None else "")


def _idle(tables: Mapping[str, Any]) -> Iterator[Problem]:
    for key in ("head", "rename"):
        if tables["model"].get(key) is not None:
            cure = "name the weights too, or leave it out"
            yield problem_at(tables, f"model.{key}", f"[model] {key} is about weights, and there are none", cure)


def _refused(tables: Mapping[str, Any], message: str, cure: str = "") -> RecipeError:
    return RecipeError([problem_at(tables, "model.weights", message, cure)])


def _measured(tables: Mapping[str, Any], found: Weights, measure: Measure) -> Mapping[str, Tensor]:
    """What evaluations of the run measure, such as an average of its weights: its recipe is built again for it."""
    run = found.place.parent.parent
    try:
        return measure(run, found)
    except CheckpointError:
        raise
    except TrainkitError as error:
        message = f"[model] weights: what {run} measures is made by its recipe, which cannot be built here: {error}"
        raise _refused(tables, message, "name a safetensors file of the weights") from error


def _renamed(tables: Mapping[str, Any], given: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> dict[str, str]:
    """The names that weights are looked up by, and those that they have."""
    used: set[str] = set()
    names: dict[str, str] = {}
    for name in given:
        prefix = max((one for one in prefixes if name.startswith(one)), key=len, default=None)
        new = name
        if prefix is not None:
            used.add(prefix)
            new = prefixes[prefix] + name.removeprefix(prefix)
        if new in names:
            message = f"[model] rename: '{names[new]}' and '{name}' would both be '{new}'"
            raise RecipeError([problem_at(tables, "model.rename", message, "leave one of them as it is")])
        names[new] = name
    if idle := [one for one in prefixes if one not in used]:
        message = f"[model] rename: no name begins with '{idle[0]}'"
        raise RecipeError([problem_at(tables, "model.rename", message, f"they are named like {_some(given)}")])
    return names


class _Matched:
    """A model's weights beside given ones.

    Args:
        own: the model's, by name.
        given: those that were read.
        names: by the name that each is looked up by, its own.
        head: patterns of names, of either, that are left out.
    """

    def __init__(
        self, own: Mapping[str, Tensor], given: Mapping[str, Tensor], names: Mapping[str, str], head: Sequence[str]
    ) -> None:
        self.own, self.given, self.names, self.head = own, given, names, head
        self.new = [name for name in own if self._is_head(name)]
        self.left = [name for name in names if self._is_head(name)]
        wanted = [name for name in own if name not in set(self.new)]
        self.over = [name for name in names if name not in own and name not in set(self.left)]
        both = [name for name in wanted if name in names]
        self.other = [name for name in both if not self._alike(name)]
        self.taken = [name for name in both if self._alike(name)]
        known = {_place(own[name]) for name in both}
        # Tied weights are often saved under one of their names alone.
        tied = [name for name in wanted if name not in names and _place(own[name]) in known]
        self.lacking = [
            name for name in wanted if name not in names and name not in tied and not name.endswith(_COUNTER)
        ]

    def _is_head(self, name: str) -> bool:
        return any(fits(pattern, name) for pattern in self.head)

    def _alike(self, name: str) -> bool:
        own, given = self.own[name], self.given[self.names[name]]
        return own.shape == given.shape and own.is_floating_point() == given.is_floating_point()

    def _was(self, name: str) -> str:
        """What a given tensor is called, where that is not the name it is looked up by."""
        return f" (there {self.names[name]})" if self.names[name] != name else ""

    def about(self) -> dict[str, Any]:
        """What matched, as ``pretrained.json`` has it."""
        converted = [n for n in self.taken if self.own[n].dtype != self.given[self.names[n]].dtype]
        return {
            "numbers": sum(self.own[name].numel() for name in self.taken),
            "taken": {name: self.names[name] for name in self.taken},
            "converted": {name: str(self.given[self.names[name]].dtype).removeprefix("torch.") for name in converted},
            "new": {name: list(self.own[name].shape) for name in self.new},
            "left": {self.names[name]: list(self.given[self.names[name]].shape) for name in self.left},
        }

    def text(self) -> str:
        """What matched, for people."""
        numbers = sum(self.own[name].numel() for name in self.taken)
        said = f"{len(self.taken)} of its {len(self.own)} tensors matched by name ({numbers:,} numbers)"
        if self.new:
            said += f"; new: {_listed([f'{name} {_shape(self.own[name])}' for name in self.new])}"
        if self.left:
            left = [f"{self.names[name]} {_shape(self.given[self.names[name]])}" for name in self.left]
            said += f"; left there: {_listed(left)}"
        return said

    def problems(self, tables: Mapping[str, Any], place: str) -> Iterator[Problem]:
        """What does not fit: one problem that lists every tensor, and patterns that mean none."""
        for number, pattern in enumerate(self.head):
            if not any(fits(pattern, name) for name in (*self.own, *self.names)):
                near = difflib.get_close_matches(pattern, list({**self.own, **self.names}), 3, 0.4)
                cure = f"they are named like {', '.join(near) or _some(self.own)}"
                message = f'[model] head: "{pattern}" matches no name, neither the model\'s nor in {place}'
                yield problem_at(tables, f"model.head.{number}", message, cure)
        taken = {_place(self.own[name]): name for name in self.taken}
        for name in self.new:
            if (other := taken.get(_place(self.own[name]))) is not None:
                message = f"[model] head: {name} would not begin anew: it is one tensor with {other}, which is taken"
                yield problem_at(tables, "model.head", message, "name both of them, or neither")
        lines = [
            f"{name}: {_shape(self.given[self.names[name]])} there, {_shape(self.own[name])} in the model"
            + self._was(name)
            for name in self.other
        ]
        lines += [f"{name}: {_shape(self.own[name])} in the model, not there" for name in self.lacking]
        lines += [f"{name}: {_shape(self.given[self.names[name]])} there, not in the model" for name in self.over]
        if not self.taken and not lines:
            lines = ["head leaves nothing to take"]
        if not lines:
            return
        counts = [
            f"{len(names)} {what}"
            for names, what in (
                (self.other, "of another shape"),
                (self.lacking, "missing"),
                (self.over, "left over"),
            )
            if names
        ]
        message = f"[model] weights: {place} does not fit the model: {', '.join(counts) or 'nothing is taken'}"
        if len(lines) > _MOST:
            lines[_MOST:] = [f"and {len(lines) - _MOST} more"]
        yield problem_at(tables, "model.weights", message, "\n".join([*lines, *self._cure()]))

    def _cure(self) -> Iterator[str]:
        prefix = _prefix(self.lacking, self.over)
        back = _prefix(self.over, self.lacking)
        if self.lacking and prefix is not None:
            yield f'[model] rename = {{ {toml_key(prefix)} = "" }} takes that beginning off the names there'
        elif self.lacking and back is not None:
            yield f'[model] rename = {{ "" = "{back}" }} puts that beginning before the names there'
        elif self.taken:
            known = [one for one in self.head if any(fits(one, name) for name in (*self.own, *self.names))]
            owners = (_owner(name) for name in (*self.other, *self.lacking, *self.over))
            parts = list(dict.fromkeys((*known, *owners)))
            patterns = ", ".join(f'"{part}"' for part in parts[:8]) + (", ..." if len(parts) > 8 else "")
            yield f"[model] head = [{patterns}] begins these anew, and leaves out what is not in the model"
        else:
            yield "no name is the same: is it another model? [model] rename changes beginnings of names"


def _place(tensor: Tensor) -> tuple[int, tuple[int, ...]]:
    """What two names of one tensor have in common."""
    return tensor.data_ptr() if tensor.numel() else id(tensor), tuple(tensor.shape)


def _prefix(lacking: Sequence[str], over: Sequence[str]) -> str | None:
    """What names that are over must lose to be those that lack; ``None`` if there is no such beginning."""
    if not lacking:
        return None
    known = set(over)
    begins = [name.removesuffix(lacking[0]) for name in over if name != lacking[0] and name.endswith(lacking[0])]
    return next((begin for begin in begins if all(begin + name in known for name in lacking)), None)


def _owner(name: str) -> str:
    """The pattern of a tensor and those beside it: ``head.*`` of ``head.weight``."""
    module, _, _ = name.rpartition(".")
    return f"{module}.*" if module else name


def _shape(tensor: Tensor) -> str:
    sizes = "x".join(map(str, tensor.shape)) or "one number"
    return sizes if tensor.is_floating_point() else f"{sizes} {str(tensor.dtype).removeprefix('torch.')}"


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(texts[:4]) + (f" and {len(texts) - 4} more" if len(texts) > 4 else "")


def _some(names: Mapping[str, Any]) -> str:
    return ", ".join(list(names)[:3])
