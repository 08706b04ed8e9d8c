"""What training batches yielded since the last log line, gathered without waiting for the device."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trainkit import checkpoint
from trainkit.errors import NotFinite
from trainkit.evaluate import Meter
from trainkit.protocols import Metric
from trainkit.run import Metrics, Run, StepResult
from trainkit.uploading import filled, sent
from trainkit.weights import not_finite

FOLD_EVERY = 128  # calls whose results are taken in together: metrics cost one operation for many batches
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
        self._calls = 0  # how many results are held back; one that a checkpoint gave stands for many
        self._numbers = 0
        self._start_again()

    def _start_again(self) -> None:
        self._meter = Meter(self._metrics, self.run.loss)
        self._measured = False  # a plugin that makes the step itself may give no outputs
        self._losses: list[Tensor] = []
        self._weights: list[Tensor] = []
        self._first_step = self.run.position

    def room(self, numbers: int) -> int:
        """After how many calls with so many outputs each results are taken in, which is where losses are looked at."""
        return max(1, min(FOLD_EVERY - self._calls, (FOLD_NUMBERS - self._numbers) // max(1, numbers) + 1))

    def add(self, result: StepResult, calls: int = 1) -> None:
        """Take in what one call did.

        Args:
            result: losses, and outputs where they are wanted.
            calls: how many calls it stands for.
        """
        self._held.append(result)
        self._calls += calls
        for output in result.outputs:
            self._numbers += output.numel()
        if self._calls >= FOLD_EVERY or self._numbers > FOLD_NUMBERS:
            self._fold()

    def _fold(self) -> None:
        held = self._held
        self._held, self._calls, self._numbers = [], 0, 0
        if not held:
            return
        losses, weights, outputs, targets = _joined(held)
        self._losses.append(losses)
        self._weights.append(weights)
        if outputs is not None and targets is not None:
            self._meter.update_metrics(outputs, targets)
            self._measured = True
        if losses.device.type == "cpu":  # nothing to wait for: say it at once
            self._check(losses)

    @staticmethod
    def add_together(tallies: Sequence[Tally], results: Sequence[StepResult], outputs: Tensor, targets: Tensor) -> bool:
        """Take in what the last updates before a log line did, for several runs whose metrics were made alike.

        Args:
            tallies: of the runs.
            results: of each run, its updates as one.
            outputs: the same outputs as one tensor ``(runs, samples, ...)``.
            targets: theirs.

        Returns:
            Whether it was done; else nothing has changed.
        """
        if any(tally._held or tally._losses or tally._measured for tally in tallies):
            return False
        losses = torch.stack([result.losses for result in results])
        if losses.device.type == "cpu" and not bool(losses.isfinite().all()):
            return False  # each run says by itself what is wrong; on other devices at its log line, which comes now
        meters = [tally._meter for tally in tallies]
        try:
            if not Meter.update_together(meters, outputs, targets):
                return False
        except Exception:  # likewise
            for tally in tallies:
                tally._meter = Meter(tally._metrics, tally.run.loss)
            return False
        for tally, result in zip(tallies, results, strict=True):
            tally._losses.append(result.losses)
            tally._weights.append(_weights(result))
            tally._measured = True
        return True

    def save(self) -> dict[str, Any] | None:
        """What a checkpoint within the interval needs; ``None`` where nothing was gathered.

        What is held back stays so: taken in now, sums of metrics would be rounded in other places than without the
        checkpoint.
        """
        if not self._held and not self._losses:
            return None
        losses, weights, outputs, targets = _joined(self._held) if self._held else (None, None, None, None)
        if losses is not None:
            self._check(losses, len(losses))
        # One tensor: a checkpoint names each that it holds, and a long interval would give it thousands.
        self._losses = [torch.cat(self._losses)] if self._losses else []
        self._weights = [torch.cat(self._weights)] if self._weights else []
        state: dict[str, Any] = _as_bits(
            {
                "first_step": self._first_step,
                "measured": self._measured,
                "losses": self._losses,
                "weights": self._weights,
                "metrics": {name: state_of(metric) for name, metric in self._metrics.items()} if self._measured else {},
                "calls": self._calls,
                "held": {"losses": losses, "weights": weights, "outputs": outputs, "targets": targets},
            }
        )
        return state

    def look(self) -> None:
        """Look at the losses that are held back, as `save` does.

        Raises:
            NotFinite: if one is not finite, naming the update.
        """
        if self._held:
            losses = torch.cat([result.losses.reshape(-1) for result in self._held])
            self._check(losses, len(losses))

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Undo `save`."""
        self._held, self._calls, self._numbers = [], 0, 0
        self._start_again()
        if state is None:
            return
        state, device = _from_bits(state), self.run.device
        self._first_step, self._calls = state["first_step"], state["calls"]
        self._losses, self._weights = ([part.to(device) for part in state[name]] for name in ("losses", "weights"))
        self._measured = state["measured"] and state["metrics"].keys() == self._metrics.keys()
        if self._measured:
            for name, metric in self._metrics.items():
                put_back(metric, state["metrics"][name], device)
        held = _on(device, state["held"])
        if held["losses"] is not None:
            outputs = [] if held["outputs"] is None else [held["outputs"]]
            targets = [] if held["targets"] is None else [held["targets"]]
            self._held = [StepResult(held["losses"], held["weights"], outputs, targets)]
            self._numbers = sum(output.numel() for output in outputs)

    def _check(self, losses: Tensor, held: int = 0) -> None:
        if self.run.recipe["run"]["nonfinite"] != "skip" and not self.run.precision.scaler.is_enabled():
            finite = losses.isfinite()
            if not bool(finite.all()):
                before = sum(len(part) for part in self._losses) + held - len(losses)
                wrong = int((~finite).nonzero()[0, 0])
                bad = not_finite(checkpoint.weights_of(self.run.model))
                raise NotFinite(
                    f"the loss is not finite at update {self._first_step + before + wrong} (epoch {self.run.epoch}): "
                    f"got {float(losses[wrong])}"
                    + (f"; the first tensor that is not finite is '{bad}'" if bad else "; the weights are finite")
                    + "\n"
                    '  lower optimizer.lr, add [[callback]] use = "clip_norm", or in [run] leave such updates out with '
                    'nonfinite = "skip", or go back by itself with nonfinite = "rollback"'
                )

    def check(self) -> None:
        """Look at every loss since the last line; waits for the device.

        Raises:
            NotFinite: if one was not finite, naming the update.
        """
        self._fold()
        if self._losses and self._losses[0].device.type != "cpu":  # on the CPU each was looked at when it was taken in
            self._losses = [torch.cat(self._losses)]
            self._check(self._losses[0])

    def figures(self) -> Metrics:
        """Mean loss and metrics since the last call; waits for the device.

        Raises:
            NotFinite: if a loss was not finite, naming the update.
        """
        self.check()
        if not self._losses:
            return {}
        losses, weights = torch.cat(self._losses), torch.cat(self._weights)
        mean = float((losses.double() * weights).sum() / weights.sum())
        if not math.isfinite(mean):  # updates were left out
            finite = losses.isfinite()
            mean = float((losses.double() * weights)[finite].sum() / weights[finite].sum())
        figures = {"loss": mean, **(self._meter.compute_metrics() if self._measured else {})}
        self._start_again()
        return figures


def _joined(held: list[StepResult]) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Several results as one: losses and weights ``(updates,)``, outputs and targets of all that were made."""
    single = all(result.losses.dim() == 0 for result in held)
    losses = torch.stack([r.losses for r in held]) if single else torch.cat([r.losses.reshape(-1) for r in held])
    # An update that was left out is looked at and not measured: it weighs nothing.
    if single and not any(isinstance(result.weights, Tensor) for result in held):
        given = [r.weights if r.updates else 0.0 for r in held]
        weights = sent(torch.tensor(given, dtype=torch.float64), losses.device)
    else:
        shaped = [_weights(result) for result in held]
        weights = torch.cat([part.reshape(-1) * bool(r.updates) for r, part in zip(held, shaped, strict=True)])
    made = [result for result in held if result.updates]
    outputs = [output for result in made for output in result.outputs]
    if not outputs:
        return losses, weights, None, None
    return losses, weights, torch.cat(outputs), torch.cat([target for result in made for target in result.targets])


def _weights(result: StepResult) -> Tensor:
    """The weights of a result as a tensor of the shape of its losses, where these are."""
    losses, weights = result.losses, result.weights
    if isinstance(weights, Tensor):
        return sent(weights, losses.device).double().expand(losses.shape)
    return filled(losses.shape, weights, losses.device)


def state_of(metric: Metric) -> dict[str, Any]:
    """What a metric holds that can be saved; the rest, such as functions, its factory made and does not change."""
    return {name: value for name, value in getattr(metric, "__dict__", {}).items() if _plain(value)}


def put_back(metric: Metric, state: Mapping[str, Any], device: torch.device) -> None:
    """Undo `state_of`, in a metric that was made alike."""
    for name, value in state.items():
        own = getattr(metric, name, None)  # what the factory put on the CPU stays there
        setattr(metric, name, _on(own.device if isinstance(own, Tensor) else device, value))


def _plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _plain(part) for key, part in value.items())
    if isinstance(value, Tensor):
        return checkpoint.can_save(value)
    return value is None or isinstance(value, bool | int | float | str)


def _as_bits(state: Any) -> Any:
    """State whose tensors are finite: those that are not, such as outputs that mask classes, as whole numbers.

    No checkpoint holds a tensor that is not finite, so that one that does is known to be wrong.
    """
    if isinstance(state, Tensor) and state.is_floating_point() and not bool(state.isfinite().all()):
        return {"bits": state.view(_WHOLE[state.element_size()]), "dtype": str(state.dtype).removeprefix("torch.")}
    if isinstance(state, list | tuple):
        return [_as_bits(part) for part in state]
    return {key: _as_bits(part) for key, part in state.items()} if isinstance(state, dict) else state


_WHOLE = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def _from_bits(state: Any) -> Any:
    if isinstance(state, list):
        return [_from_bits(part) for part in state]
    if not isinstance(state, Mapping):
        return state
    if state.keys() == {"bits", "dtype"}:
        return state["bits"].view(getattr(torch, state["dtype"]))
    return {key: _from_bits(part) for key, part in state.items()}


def _on(device: torch.device, state: Any) -> Any:
    if isinstance(state, Tensor):
        return state.to(device)
    if isinstance(state, list):
        return [_on(device, part) for part in state]
    if isinstance(state, dict):
        return {key: _on(device, part) for key, part in state.items()}
    return state
