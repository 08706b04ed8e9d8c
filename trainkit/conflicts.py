"""What a checkpoint and the recipe that goes on from it do not agree on, as ``on_conflict`` settles it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainkit import checkpoint, doubts
from trainkit.errors import Problem, RecipeError
from trainkit.recipe import problem_at
from trainkit.run import Run

_ABSENT = object()
_LISTED = 8  # names in one message


class Conflicts:
    """Compares a checkpoint with the run that is built from the recipe.

    Args:
        folder: the checkpoint.
        tensors: its tensors.
        state: its plain data.
        tables: the recipe that the run goes on with.
    """

    def __init__(
        self, folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any], tables: Mapping[str, Any]
    ) -> None:
        self.folder = folder
        self.tensors = tensors
        self.state = state
        self.tables = tables
        self.policy: str = tables["run"]["on_conflict"]
        self.notes: list[str] = []

    @property
    def position(self) -> int:
        """Updates tried when the checkpoint was saved."""
        return int(self.state["step"] + self.state["skipped"])

    def settle(self, run: Run) -> None:
        """Compare the hyperparameters of the groups as the recipe has them with those that the checkpoint knows.

        Base values are compared, before any schedule. Groups are matched by the names of their parameters.

        Raises:
            RecipeError: naming what differs, where ``on_conflict`` does not say which one counts; and parameters
                without a counterpart.
        """
        problems = list(self._strangers(run))
        for number, group in enumerate(run.optimizer.param_groups):
            for key, own, saved in self.differing(run, number):
                held = ", ".join(map(_shown, saved))
                what = f"{key} is {_shown(own)} here and {held} in the checkpoint, for {_listed(group['names'])}"
                if self.policy == "recipe":
                    self.notes.append(f"{what}: the recipe counts")
                elif self.policy == "checkpoint" and len(saved) == 1 and saved[0] is not _ABSENT:
                    self.notes.append(f"{what}: the checkpoint counts")
                    if why := doubts.unlike(group.get(key), saved[0]):
                        raise doubts.refusal(self.folder, doubts.OPTIMIZER, f"'{key}' of a group: {why}")
                    put(group, key, saved[0])
                    run.bases[number][key] = saved[0]
                else:
                    at = f"optimizer.{key}" if key in self.tables["optimizer"] else "optimizer"
                    cure = 'on_conflict = "recipe" in [run] goes on with the value here, "checkpoint" with the other'
                    if self.policy == "checkpoint":
                        cure = 'one group cannot have several values: group as before, or write on_conflict = "recipe"'
                    problems.append(problem_at(self.tables, at, what, cure))
        if problems:
            raise RecipeError(problems)

    def _strangers(self, run: Run) -> Iterator[Problem]:
        """Parameters that only one of optimizer and checkpoint knows, and data that is another."""
        own = [name for group in run.optimizer.param_groups for name in group["names"]]
        saved = [name for group in self.state["groups"] for name in group["names"]]
        new, gone = [name for name in own if name not in saved], [name for name in saved if name not in own]
        said = []
        if new:
            said.append(("optimizer", f"the checkpoint has no optimizer state for {_listed(new)}", "begins anew"))
        if gone:
            said.append(("optimizer", f"the optimizer no longer has {_listed(gone)}", "leaves their state out"))
        if self.state["data"] != run.feed.spec.fingerprint:
            message = "the data is not the data this run was trained on (their SHA-256 differ)"
            said.append(("data", message, "goes on with the new data"))
        for at, message, done in said:
            if self.policy == "recipe":
                self.notes.append(message)
            else:
                yield problem_at(self.tables, at, message, f'put it back, or on_conflict = "recipe" in [run] {done}')
        within, batches = self.state["batch_in_epoch"], run.feed.batches_per_epoch
        if within and batches != self.state["batches_per_epoch"]:
            message = (
                f"an epoch has {batches} batches here; the checkpoint lies within one of "
                f"{self.state['batches_per_epoch']}, after {within}"
            )
            cure = "keep batch_size until the run has come to the end of an epoch"
            yield problem_at(self.tables, "data.batch_size", message, cure)
        elif not self._same_batches(run):
            message = f"the batches up to update {self.position} are not those that the checkpoint's run had"
            cure = (
                "keep batch_size and accumulate until the run has come to the end of an epoch, and a schedule of the "
                'batch size to the end; where it follows the length of the run, on_length_change = "keep" in [run] does'
            )
            yield problem_at(self.tables, "data.batch_size", message, cure)

    def _same_batches(self, run: Run) -> bool:
        """Whether the run's plan of batches has the checkpoint's place in its epoch at the checkpoint's update."""
        epoch, within, starts = self.state["epoch"], self.state["batch_in_epoch"], run.clock.epoch_starts
        if starts and (epoch >= len(starts) or starts[epoch] - (-within // run.clock.accumulate) != self.position):
            return False
        if within > run.feed.batches_in(epoch):
            return False
        return not within or run.feed.samples_before(epoch, within) == self.state["samples_in_epoch"]

    def differing(self, run: Run, number: int) -> Iterator[tuple[str, Any, list[Any]]]:
        """The hyperparameters of one group that the checkpoint has other base values of: key, own value, saved ones."""
        own = run.bases[number]
        saved = [self.joined("bases")[i] for i in self.groups_of(run, number) if i < len(self.state["bases"])]
        for key in dict.fromkeys([*own, *(key for base in saved for key in base)]):
            value = own.get(key, _ABSENT)
            others: list[Any] = []
            for base in saved:
                other = base.get(key, _ABSENT)
                if not any(_same(other, known) for known in others):
                    others.append(other)
            if not all(_same(value, other) for other in others):
                yield key, value, others

    def groups_of(self, run: Run, number: int) -> list[int]:
        """The saved groups that hold the parameters of one of the run's, by name."""
        homes = {name: i for i, group in enumerate(self.state["groups"]) for name in group["names"]}
        names = run.optimizer.param_groups[number]["names"]
        return list(dict.fromkeys(homes[name] for name in names if name in homes))

    def joined(self, key: str) -> list[dict[str, Any]]:
        """Groups or base values of the checkpoint, with their tensors."""
        joined: list[dict[str, Any]] = checkpoint.join_state(self.state[key], self.tensors)
        return joined


def put(group: dict[str, Any], key: str, value: Any) -> None:
    """Set a group's value as what it was: a tensor is filled, which others may hold too, and a tuple stays one.

    A tensor of another shape or number format takes its place, and so does what is no tensor and no number.
    """
    held = group.get(key)
    if isinstance(held, Tensor):
        fills = isinstance(value, int | float)
        if isinstance(value, Tensor):
            fills = value.shape == held.shape and value.dtype == held.dtype
        if fills:
            held.copy_(torch.as_tensor(value))
            return
    group[key] = _as(held, value)


def _as(held: Any, value: Any) -> Any:
    """Plain data with tuples where they were; JSON has lists alone."""
    if isinstance(held, Mapping) and isinstance(value, dict):
        return {name: _as(held.get(name), part) for name, part in value.items()}
    if not (isinstance(held, list | tuple) and isinstance(value, list)):
        return value
    parts = [_as(one, part) for one, part in zip_longest(held[: len(value)], value)]
    return tuple(parts) if isinstance(held, tuple) else parts


def _same(one: Any, other: Any) -> bool:
    """Whether two values are one, as JSON has them; NaN is itself."""
    one, other = _plain(one), _plain(other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(value, other[name]) for name, value in one.items())
    return bool(one == other or (one != one and other != other))


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    return "absent" if value is _ABSENT else str(_plain(value))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
