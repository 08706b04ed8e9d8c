"""Losses of policies: what the steps that were played say of the probabilities of their actions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from trainkit import DataError, DataSpec

COLUMNS = 4  # of targets: action, advantage, return, log of the probability with which the action was taken


class Gradient:
    """See `trainkit_rl.reinforce_loss`. Outputs ``(batch, actions + 1)`` end with the value."""

    # Of the first observations of episodes nobody knows the right action.
    no_truth = "what a policy does is measured by playing: there are no right actions to hold it against"

    def __init__(self, data_spec: DataSpec, value: float, entropy: float) -> None:
        if data_spec.task != "classification":
            raise DataError(
                f"policies choose among actions, and the data's task is {data_spec.task}: use [data] gym, or a loss of "
                f"{data_spec.task}"
            )
        self.outputs = data_spec.outputs + 1
        self.value = value
        self.entropy = entropy

    def predictions(self, outputs: Tensor) -> Tensor:
        """The preferences of the actions, ``(..., actions)``, as logits of classes."""
        return outputs[..., :-1]

    def details(self, outputs: Tensor) -> dict[str, Tensor]:
        """The value of each observation, ``(...)``."""
        return {"value": outputs[..., -1]}

    def equal(self, targets: Tensor) -> Tensor:
        """Outputs that prefer no action."""
        return torch.zeros(len(targets), self.outputs, device=targets.device)

    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """The mean loss of steps that were played, ``(batch, 4)``, or of actions ``(batch,)`` that return nothing."""
        outputs = outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs
        logs = functional.log_softmax(outputs[..., :-1], -1)
        if targets.dim() == 1:
            right = -logs.gather(-1, targets.long().unsqueeze(-1)).mean()
            return right + self.value * outputs[..., -1].square().mean()
        if targets.shape[-1] != COLUMNS:
            raise DataError(
                f"targets {tuple(targets.shape)} are no steps that were played: (batch, {COLUMNS}) of action, "
                "advantage, return and log probability, or actions (batch,)"
            )
        targets = targets.to(outputs.dtype) if outputs.dtype == torch.float64 else targets
        actions, advantages, returns, before = targets.unbind(-1)
        taken = logs.gather(-1, actions.long().unsqueeze(-1)).squeeze(-1)
        loss = self.surrogate(taken, before, advantages)
        loss = loss + self.value * (outputs[..., -1] - returns).square().mean()
        return loss + self.entropy * (logs.exp() * logs).sum(-1).mean()

    def surrogate(self, taken: Tensor, before: Tensor, advantages: Tensor) -> Tensor:
        """What is minimised of the policy, from log probabilities of the actions taken, now and when they were."""
        return -(taken * advantages).mean()


class Clipped(Gradient):
    """See `trainkit_rl.ppo_loss`."""

    def __init__(self, data_spec: DataSpec, value: float, entropy: float, clip: float) -> None:
        super().__init__(data_spec, value, entropy)
        self.clip = clip

    def surrogate(self, taken: Tensor, before: Tensor, advantages: Tensor) -> Tensor:
        """The worse of the gain and of that with a ratio within 1 +- clip."""
        ratio = (taken - before).exp()
        return -torch.minimum(ratio * advantages, ratio.clamp(1 - self.clip, 1 + self.clip) * advantages).mean()
