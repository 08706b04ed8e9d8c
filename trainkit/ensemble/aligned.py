"""Models that were trained on other numbers of the same data: the same inputs in, outputs in the same units out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from trainkit.dataset import DataSpec
from trainkit.heads import Predicting

Change: TypeAlias = tuple[Tensor | None, Tensor | None]


class Aligned(nn.Module):
    """A model behind an exact change of units of its inputs, and before one of its outputs.

    Args:
        model: the model.
        input_scale: ``(features, 1, ...)``, what inputs are multiplied by; ``None``: nothing.
        input_shift: what is then added to them.
        output_scale: ``(outputs,)``, what the model's outputs are multiplied by; ``None``: nothing.
        output_shift: what is then added to them.
    """

    input_scale: Tensor | None
    input_shift: Tensor | None
    output_scale: Tensor | None
    output_shift: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        input_scale: Tensor | None = None,
        input_shift: Tensor | None = None,
        output_scale: Tensor | None = None,
        output_shift: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("input_scale", input_scale)
        self.register_buffer("input_shift", input_shift)
        self.register_buffer("output_scale", output_scale)
        self.register_buffer("output_shift", output_shift)

    def forward(self, inputs: Tensor) -> Tensor:
        """What the model gives for inputs in the ensemble's units, in the ensemble's units."""
        outputs: Tensor = self.model(changed(inputs, (self.input_scale, self.input_shift)))
        return changed(outputs, (self.output_scale, self.output_shift))


def variance_of(module: nn.Module, inputs: Tensor) -> Tensor | None:
    """What a member says of its own errors: the variance of each target, in the ensemble's units.

    Args:
        module: the member's.
        inputs: ``(batch, ...)``.

    Returns:
        ``(batch, targets)``; ``None`` of a member that gives predictions alone, as most do.
    """
    if isinstance(module, Predicting):
        return module.variance(inputs)
    if isinstance(module, Aligned):
        found = variance_of(module.model, changed(inputs, (module.input_scale, module.input_shift)))
        scale = module.output_scale
        return found if found is None or scale is None else found * scale.square()
    if isinstance(module, Averaged):
        each = [variance_of(model, inputs) for model in module.models]
        known = [one for one in each if one is not None]
        if len(known) < len(each):
            return None
        means = torch.stack([model(inputs) for model in module.models])
        return torch.stack(known).mean(0) + means.var(0, unbiased=False)
    return None


def align(model: nn.Module, own: DataSpec, base: DataSpec) -> nn.Module:
    """Let a model that was trained on one data set's numbers take those of another one, which holds the same samples.

    Args:
        model: takes inputs as ``own`` says, and gives outputs in its units.
        own: the data that it was trained on.
        base: the data whose inputs it is to take, and in whose units it is to answer.

    Returns:
        The model itself where the numbers are the same.
    """
    (input_scale, input_shift), (output_scale, output_shift) = input_change(own, base), output_change(own, base)
    if input_scale is None and output_scale is None:
        return model
    return Aligned(model, input_scale, input_shift, output_scale, output_shift).train(model.training)


def input_change(own: DataSpec, base: DataSpec) -> Change:
    """Scale and shift that make inputs as ``own`` says of inputs as ``base`` says; none where they are the same."""
    beside = (1,) * (len(base.input_shape) - 1)
    return _change(base.input_mean, base.input_std, own.input_mean, own.input_std, beside)


def output_change(own: DataSpec, base: DataSpec) -> Change:
    """Scale and shift that make outputs, or targets, as ``base`` says of those as ``own`` says."""
    if base.task != "regression":
        return None, None
    return _change(own.target_mean, own.target_std, base.target_mean, base.target_std, ())


def changed(values: Tensor, change: Change) -> Tensor:
    """Values in other units."""
    scale, shift = change
    return values if scale is None or shift is None else values * scale + shift


def _change(
    mean: Sequence[float],
    std: Sequence[float],
    new_mean: Sequence[float],
    new_std: Sequence[float],
    beside: tuple[int, ...],
) -> Change:
    """``(x * std + mean - new_mean) / new_std`` as a scale and a shift, rounded once; nothing where nothing changes."""
    count = max(map(len, (mean, std, new_mean, new_std)))
    means = [_wide(numbers or (0.0,), count) for numbers in (mean, new_mean)]
    stds = [_wide(numbers or (1.0,), count) for numbers in (std, new_std)]
    if means[0].equal(means[1]) and stds[0].equal(stds[1]):
        return None, None
    scale, shift = stds[0] / stds[1], (means[0] - means[1]) / stds[1]
    return scale.float().reshape(-1, *beside), shift.float().reshape(-1, *beside)


def _wide(numbers: Sequence[float], count: int) -> Tensor:
    wide = torch.tensor(numbers, dtype=torch.float64)
    return wide.expand(count) if len(numbers) == 1 else wide


class Averaged(nn.Module):
    """The mean of several models: of their probabilities, or of what they give for a regression.

    Args:
        models: each gives ``(batch, outputs)``.
        task: what the outputs mean.
    """

    def __init__(self, models: Sequence[nn.Module], task: str) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.task = task

    def forward(self, inputs: Tensor) -> Tensor:
        """``(batch, outputs)``: logarithms of probabilities, the logit of a binary task, or the mean."""
        return mean_outputs(torch.stack([model(inputs) for model in self.models]), self.task)


def mean_outputs(outputs: Tensor, task: str) -> Tensor:
    """The mean over the first dimension: of probabilities, as logarithms, or of what is given for a regression."""
    if task == "regression":
        return outputs.mean(0)
    count = torch.log(torch.tensor(float(outputs.shape[0]), dtype=outputs.dtype, device=outputs.device))
    if task == "binary":
        positive, negative = (nn.functional.logsigmoid(sign * outputs).logsumexp(0) for sign in (1, -1))
        return positive - negative
    return outputs.log_softmax(-1).logsumexp(0) - count
