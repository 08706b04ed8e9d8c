"""The callback behind ``ppo`` and ``reinforce``: it plays, and puts what was played where the data's samples stood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trainkit import Batch, CheckpointError, DataSpec, Metrics, Run, cut_short, hookimpl, write_picture
from trainkit_rl.data import SEEDS
from trainkit_rl.losses import COLUMNS
from trainkit_rl.maps import maps
from trainkit_rl.rollouts import Bootstrapped, Complete, Policy, Stage, Told, drawn, returns_of

_EPISODES = 20  # of an evaluation of training seeds, for which no recipe says a number


class Playing:
    """See `trainkit_rl.ppo` and `trainkit_rl.reinforce`.

    Args:
        data_spec: the data's.
        seed: the recipe's.
        judging: what makes advantages of rewards.
        passes: epochs over what was played before it is played anew.
        greedy: whether evaluations take the likeliest actions.
    """

    def __init__(
        self, data_spec: DataSpec, seed: int, judging: Bootstrapped | Complete, passes: int, greedy: bool
    ) -> None:
        self.seed = seed
        self.judging = judging
        self.passes = passes
        self.greedy = greedy
        self.sizes = dict(data_spec.sizes)
        self.trains = False  # where a finished run is measured, its folder stays as it is
        self.stage: Stage | None = None
        self.told = Told()
        # What was played, (slots, ...) on the run's device; made of the run's first rollout.
        self.observations: Tensor | None = None
        self.targets: Tensor | None = None

    # ------------------------------------------------------------ training

    @hookimpl
    def trainkit_run_start(self) -> None:
        self.trains = True

    @hookimpl
    def trainkit_epoch_start(self, run: Run) -> None:
        # Within an epoch, what was played comes back with the checkpoint.
        if not run.batch_in_epoch and run.epoch % self.passes == 0:
            self._collect(run)

    @hookimpl
    def trainkit_train_step(self, run: Run, batches: Sequence[Batch]) -> None:
        if self.observations is None or self.targets is None:  # begun within an epoch with weights alone
            self._collect(run)
        assert self.observations is not None
        assert self.targets is not None
        for batch in batches:
            batch.inputs = self.observations.index_select(0, batch.index).to(batch.inputs.dtype)
            batch.targets = self.targets.index_select(0, batch.index)

    def _collect(self, run: Run) -> None:
        table, judging = run.recipe["data"], self.judging
        if self.stage is None:
            self.stage = Stage(table["environment"], table["environments"], self.seed)
        number = run.epoch // self.passes
        with _Acting(run) as policy:
            played = self.stage.play(
                policy, table["steps"], number, self.told, whole=judging.whole, gamma=judging.gamma
            )
        advantages, returns = judging.judge(played)
        if judging.normalise:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        parts = (played.actions.double(), advantages, returns, played.logs)
        self.observations = played.observations.flatten(0, 1).to(run.device)
        self.targets = torch.stack([part.flatten() for part in parts], -1).float().to(run.device)

    @hookimpl
    def trainkit_figures(self, run: Run) -> Metrics:
        figures = {"episodes": float(len(self.told.rewards)), "environment_steps": float(self.told.steps)}
        if self.told.rewards:
            figures["return"] = sum(self.told.rewards) / len(self.told.rewards)
        self.told.rewards = []
        return figures

    # ------------------------------------------------------------ measuring

    @hookimpl
    def trainkit_evaluate(self, run: Run, split: str) -> Metrics:
        count = self.sizes.get(split, 0) if split in ("val", "test") else _EPISODES
        first = SEEDS.get(split, 0)
        chance = torch.Generator().manual_seed(first)
        with _Acting(run) as policy:

            def act(observed: Tensor) -> Tensor:
                preferences, _ = policy(observed)
                if self.greedy:
                    return preferences.argmax(-1)
                return drawn(preferences, torch.rand(len(observed), generator=chance, dtype=torch.float64))[0]

            def between(over: int) -> None:
                cut_short(run)
                run.measuring(over, count)

            rewards, steps = returns_of(run.recipe["data"]["environment"], range(first, first + count), act, between)
            if split == "val" and self.trains and self.observations is not None and run.group.first:
                self._draw(run, policy, self.observations)
        run.measuring(count, count)
        spread = torch.tensor(rewards, dtype=torch.float64)
        return {
            "return": float(spread.mean()),
            "return_std": float(spread.std(correction=0)),
            "length": sum(steps) / len(steps),
        }

    def _draw(self, run: Run, policy: Policy, observations: Tensor) -> None:
        """Draw the policy; pictures over other numbers than before take the place of those."""
        drawn = [
            write_picture(run.folder, name, pixels) for name, pixels in maps(policy, observations.float().cpu()).items()
        ]
        for file in drawn:
            for other in file.parent.glob(f"{file.name.partition('_')[0]}_by_*.png"):
                if other not in drawn:
                    other.unlink()

    # ------------------------------------------------------------ going on

    @hookimpl
    def trainkit_save(self, run: Run) -> Mapping[str, Any]:
        state: dict[str, Any] = {"rewards": list(self.told.rewards), "steps": self.told.steps}
        if self.stage is not None:
            state["stage"] = self.stage.save(self.judging.whole)
        ahead = run.batch_in_epoch == 0 and run.epoch % self.passes == 0  # it will be played anew at once
        if self.observations is not None and self.targets is not None and not ahead:
            state |= {"observations": self.observations, "targets": self.targets}
        return state

    @hookimpl
    def trainkit_restore(self, run: Run, state: Mapping[str, Any]) -> None:
        table = run.recipe["data"]
        self.told = Told(list(state["rewards"]), state["steps"])
        if "stage" in state:
            if self.stage is None:
                self.stage = Stage(table["environment"], table["environments"], self.seed)
            self.stage.restore(state["stage"])
        if "observations" in state:
            slots = self.sizes["train"]
            found = state["observations"].shape, state["targets"].shape
            wanted = (slots, *run.feed.spec.input_shape), (slots, COLUMNS)
            if tuple(map(tuple, found)) != wanted:
                raise CheckpointError(
                    f"the checkpoint has steps {tuple(found[0])} with targets {tuple(found[1])}, and the recipe asks "
                    f"for {wanted[0]} with {wanted[1]}"
                )
            self.observations = state["observations"].to(run.device)
            self.targets = state["targets"].to(run.device)

    @hookimpl
    def trainkit_run_end(self) -> None:
        if self.stage is not None:
            self.stage.close()
            self.stage = None


class _Acting:
    """The run's model as a policy, in evaluation mode and without gradients; training mode is put back."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.dtype = torch.float64 if run.precision.name == "float64" else torch.float32

    def __enter__(self) -> Policy:
        self.training = self.run.model.training
        self.run.model.eval()
        return self._act

    def __exit__(self, *raised: object) -> None:
        self.run.model.train(self.training)

    def _act(self, observed: Tensor) -> tuple[Tensor, Tensor]:
        run = self.run
        with torch.no_grad(), run.precision.context():
            outputs = run.model(observed.to(run.device, self.dtype)).double().cpu()
        return outputs[..., :-1], outputs[..., -1]
