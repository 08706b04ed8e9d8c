"""A checkpoint on its way into a run: length, hyperparameters, weights, and optimizer state by parameter name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainkit import checkpoint, doubts, snapshot
from trainkit.changes import Change
from trainkit.conflicts import Conflicts, put
from trainkit.errors import CheckpointError, RecipeError
from trainkit.forms import TENSORS
from trainkit.recipe import Recipe, problem_at
from trainkit.run import Run
from trainkit.scheduled import set_values
from trainkit.seeding import restore_random_state
from trainkit.verified import fitting, must_fit
from trainkit.weights import not_finite

_NEEDED = {
    *("step", "epoch", "batch_in_epoch", "skipped", "total_updates", "schedule_updates", "batches_per_epoch"),
    "samples_in_epoch",
    *("device", "threads", "events", "best", "newest", "seconds", "metrics_bytes", "tally", "optimizer", "groups"),
    *("bases", "on_cpu", "scaler", "random", "plugins", "data"),
}


class Continued:
    """A checkpoint that a run goes on from.

    The calls come in this order: `schedule_updates` and `settle` while the run is built, `restore` when it is,
    `wake` when plugins have got ready.

    Args:
        folder: the checkpoint.
        tensors: its tensors.
        state: its plain data.
        recipe: the recipe that the run goes on with.

    Raises:
        CheckpointError: if the checkpoint lacks what continuing needs.
    """

    def __init__(self, folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any], recipe: Recipe) -> None:
        if lacking := sorted(_NEEDED - state.keys()):
            raise CheckpointError(
                f"{folder}: a run cannot be continued from this checkpoint; it lacks {', '.join(lacking)}\n"
                "  it was written by another version of trainkit: continue it with that one"
            )
        self.folder = folder
        # Those that lie on the disk yet are asked for when the model is built, which knows which rows are needed.
        self.tensors = snapshot.laid_out(tensors, state.get("strides", {})) if isinstance(tensors, dict) else tensors
        self.state = state
        self.tables = recipe.tables
        self.settings: Mapping[str, Any] = recipe.tables["run"]
        self.changes: list[Change] = []
        self.matched = ""
        self.refused: dict[Path, str] = {}  # newer checkpoints that do not verify, and why
        self.conflicts = Conflicts(folder, self.tensors, state, recipe.tables)
        self.notes = self.conflicts.notes

    @property
    def position(self) -> int:
        """Updates tried when the checkpoint was saved."""
        return self.conflicts.position

    # ------------------------------------------------------------ while the run is built

    @must_fit
    def schedule_updates(self, total: int) -> int:
        """``T`` as schedules see it, in a run that the recipe makes ``total`` updates long.

        Raises:
            RecipeError: if the length has changed and ``on_length_change`` does not say what that means, or if the
                checkpoint lies behind the end.
        """
        before, planned = self.state["total_updates"], self.state["schedule_updates"]
        policy, written = self.settings["on_length_change"], self.settings["duration"]
        if self.position > total:
            message = f'duration = "{written}" is {total} updates, and the checkpoint is at update {self.position}'
            self._refuse("run.duration", message, "lengthen the run")
        if policy == "rescale":
            return total
        if total != before and policy == "error":
            message = f'duration = "{written}" is {total} updates; the run was planned with {before}'
            cure = (
                'on_length_change = "rescale" in [run] lets schedules go on with the new length, "keep" with the old '
                f"one ({planned} updates), after which those that depend on it hold their last value"
            )
            self._refuse("run.duration", message, cure)
        return int(planned)

    @must_fit
    def settle(self, run: Run) -> None:
        """Let the recipe and the checkpoint agree on hyperparameters, parameters and data.

        Raises:
            RecipeError: where ``on_conflict`` does not say which one counts.
        """
        self.conflicts.settle(run)

    # ------------------------------------------------------------ when it is built

    @must_fit
    def restore(self, run: Run) -> None:
        """Put weights, optimizer, loss scaler and counters back.

        Raises:
            CheckpointError: if the weights do not fit the model.
            RecipeError: if state of a callback would be lost.
        """
        state = self.state
        self._check_plugins(run)
        if run.sharded is not None:
            on_disk: Any = self.tensors
            self.tensors = on_disk.of_this_process(run.sharded)
        if bad := not_finite(self.tensors):
            raise CheckpointError(f"{self.folder / TENSORS}: '{bad}' is not finite, and no run saves such a tensor")
        checkpoint.load_weights(run.model, self.tensors)
        matched = self._restore_optimizer(run)
        if scaler := checkpoint.join_state(state["scaler"], self.tensors):
            run.precision.scaler.load_state_dict(scaler)
        run.step, run.skipped = state["step"], state["skipped"]
        run.skipped_in_a_row = state.get("skipped_in_a_row", 0)  # not in checkpoints of before it was saved
        run.epoch, run.batch_in_epoch = state["epoch"], state["batch_in_epoch"]
        if self.settings["microbatch"] == "auto":
            run.microbatch = state.get("microbatch")
        # Where a signal cut an evaluation short, the end of the epoch is still to come.
        if run.batch_in_epoch >= run.feed.batches_in(run.epoch) and state.get("cut") is None:
            run.epoch, run.batch_in_epoch = run.epoch + 1, 0
        run.events[:] = [tuple(event) for event in state["events"]]
        if run.step:  # numbers outside the optimizer, such as a loss's, count in evaluations too
            set_values(run, run.optimizer.param_groups, run.step - 1)
        weights = sum(name.startswith("model/") for name in self.tensors)
        self.matched = f"{weights} weights and the optimizer's state of {matched} parameters matched by name"

    def _check_plugins(self, run: Run) -> None:
        taken = snapshot.takers(run, self.state["plugins"]).values()
        # What a program lent this process as a listener is not the recipe's.
        lost = [label for label in self.state["plugins"] if label not in taken and not label.startswith("listener.")]
        if lost:
            message = f"the checkpoint holds state of {', '.join(lost)}, which nothing here takes back"
            if self.settings["on_conflict"] != "recipe":
                cure = 'put it back into the recipe, or on_conflict = "recipe" in [run] leaves the state out'
                self._refuse("callback", message, cure)
            self.notes.append(message)

    def _restore_optimizer(self, run: Run) -> int:
        """Fill the optimizer's state and the groups' values; say for how many parameters."""
        saved, optimizer = self.conflicts.joined("groups"), run.optimizer
        makers = doubts.makers(run)
        matched = 0
        for number, group in enumerate(optimizer.param_groups):
            ours = next((makers.get(id(parameter)) for parameter in group["params"]), None)
            changed = {key for key, _, _ in self.conflicts.differing(run, number)}
            for home in reversed(self.conflicts.groups_of(run, number)):
                for key, value in saved[home].items():
                    if key == "names" or key in changed:
                        continue
                    if why := doubts.check_setting(ours, group.get(key), key, value):
                        raise doubts.refusal(self.folder, doubts.OPTIMIZER, f"'{key}' of a group: {why}")
                    put(group, key, value.to(run.device, copy=True) if isinstance(value, Tensor) else value)
            for name, parameter in zip(group["names"], group["params"], strict=True):
                if name in self.state["optimizer"]:
                    placed = self._placed(self.state["optimizer"][name], name, parameter, group, run)
                    if why := doubts.check_optimizer(makers.get(id(parameter)), name, parameter, group, placed):
                        raise doubts.refusal(self.folder, doubts.OPTIMIZER, why)
                    optimizer.state[parameter] = placed
                    matched += 1
        return matched

    def _placed(
        self, state: Any, owner: str, parameter: Tensor, group: Mapping[str, Any], run: Run, key: str = ""
    ) -> Any:
        """State of one parameter: what lay in memory as the parameter did does so again, which optimizers rely on."""
        if isinstance(state, list):
            return [self._placed(part, owner, parameter, group, run) for part in state]
        if not isinstance(state, dict) or "__float__" in state:
            return checkpoint.join_state(state, self.tensors)
        if "__tensor__" not in state:
            return {name: self._placed(part, owner, parameter, group, run, name) for name, part in state.items()}
        tensor = self.tensors[state["__tensor__"]]
        device = run.device
        if self.state["device"] == device.type:
            on_cpu = state["__tensor__"] in self.state["on_cpu"]
        else:  # torch's optimizers count on the CPU, unless their update is one kernel
            on_cpu = key == "step" and tensor.dim() == 0 and not (group.get("fused") or group.get("capturable"))
        if on_cpu:
            device = torch.device("cpu")
        strides = self.state.get("strides", {})
        alike = strides.get(f"model/{owner}") == strides.get(state["__tensor__"])
        if tensor.shape == parameter.shape and alike:
            return torch.empty_like(parameter, dtype=tensor.dtype, device=device, requires_grad=False).copy_(tensor)
        return tensor.to(device, copy=True)

    # ------------------------------------------------------------ when plugins have got ready

    def wake(self, run: Run) -> None:
        """Give plugins their state back, then the random generators, which nobody may use in between."""
        snapshot.restore_plugins(run, self.tensors, self.state, partial(doubts.taking_back, self.folder))
        with fitting(self.folder):
            restore_random_state(checkpoint.join_state(self.state["random"], self.tensors), run.device)

    @property
    @must_fit
    def recorded(self) -> dict[str, Any]:
        """What the recorder goes on with."""
        keys = ("best", "newest", "seconds", "metrics_bytes", "tally", "cut")
        return {key: checkpoint.join_state(self.state.get(key), self.tensors) for key in keys}

    def _refuse(self, at: str, message: str, cure: str) -> None:
        raise RecipeError([problem_at(self.tables, at, message, cure)])
