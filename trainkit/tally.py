"""What training batches yielded since the last log line, gathered without waiting for the device."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from trainkit.errors import RunError
from trainkit.evaluate import Meter
from trainkit.run import Metrics, Run, StepResult

FOLD_EVERY = 64  # calls whose results are taken in together: metrics cost one operation for many batches
FOLD_NUMBERS = 1 << 22  # outputs held back at the most, so that large outputs do not pile up


class Tally:
    """Losses and metrics of training batches between two log lines.

    Args:
        run: the run.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        # Copies: an evaluation within the interval resets the run's own metrics and fills them.
        self._metrics = copy.deepcopy(dict(run.metrics))
        self._held: list[StepResult] = []
        self._numbers = 0
        self._start_again()

    def _start_again(self) -> None:
        self._meter = Meter(self._metrics, self.run.loss)
        self._measured = False  # a plugin that makes the step itself may give no outputs
        self._losses: list[Tensor] = []
        self._weights: list[Tensor] = []
        self._first_step = self.run.position

    def add(self, result: StepResult) -> None:
        """Take in what one call did."""
        self._held.append(result)
        for output in result.outputs:
            self._numbers += output.numel()
        if len(self._held) >= FOLD_EVERY or self._numbers > FOLD_NUMBERS:
            self._fold()

    def _fold(self) -> None:
        held, self._held, self._numbers = self._held, [], 0
        if not held:
            return
        single = all(result.losses.dim() == 0 for result in held)
        losses = torch.stack([r.losses for r in held]) if single else torch.cat([r.losses.reshape(-1) for r in held])
        self._losses.append(losses)
        # An update that was left out is looked at and not measured: it weighs nothing.
        if single and not any(isinstance(result.weights, Tensor) for result in held):
            weights = torch.tensor(
                [r.weights if r.updates else 0.0 for r in held], dtype=torch.float64, device=losses.device
            )
        else:
            shaped = [torch.as_tensor(r.weights, device=losses.device).double().expand(r.losses.shape) for r in held]
            weights = torch.cat([part.reshape(-1) * bool(r.updates) for r, part in zip(held, shaped, strict=True)])
        self._weights.append(weights)
        made = [result for result in held if result.updates]
        outputs = [output for result in made for output in result.outputs]
        if outputs:
            targets = [target for result in made for target in result.targets]
            self._meter.update_metrics(torch.cat(outputs), torch.cat(targets))
            self._measured = True
        if losses.device.type == "cpu":  # nothing to wait for: say it at once
            self._check(losses)

    def _check(self, losses: Tensor) -> None:
        if self.run.recipe["run"]["nonfinite"] == "error" and not self.run.precision.scaler.is_enabled():
            finite = losses.isfinite()
            if not bool(finite.all()):
                before = sum(len(part) for part in self._losses) - len(losses)
                wrong = int((~finite).nonzero()[0, 0])
                raise RunError(
                    f"the loss is not finite at update {self._first_step + before + wrong} (epoch {self.run.epoch}): "
                    f"got {float(losses[wrong])}\n"
                    '  lower optimizer.lr, add [[callback]] use = "clip_norm", or leave such updates out with '
                    'nonfinite = "skip" in [run]'
                )

    def check(self) -> None:
        """Look at every loss since the last line; waits for the device.

        Raises:
            RunError: if one was not finite, naming the update.
        """
        self._fold()
        if self._losses and self._losses[0].device.type != "cpu":  # on the CPU each was looked at when it was taken in
            self._losses = [torch.cat(self._losses)]
            self._check(self._losses[0])

    def figures(self) -> Metrics:
        """Mean loss and metrics since the last call; waits for the device.

        Raises:
            RunError: if a loss was not finite, naming the update.
        """
        self.check()
        if not self._losses:
            return {}
        losses, weights = torch.cat(self._losses), torch.cat(self._weights)
        finite = losses.isfinite()
        mean = float((losses.double() * weights)[finite].sum() / weights[finite].sum())
        figures = {"loss": mean, **(self._meter.compute_metrics() if self._measured else {})}
        self._start_again()
        return figures
