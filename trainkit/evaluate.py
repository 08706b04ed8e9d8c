"""Measuring a model on a split: exact over uneven batches, one wait for the device at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainkit.dataset import Batch
from trainkit.distributed.batchnorm import measured_together
from trainkit.heads import shown_to
from trainkit.hookspecs import hookimpl
from trainkit.run import Metrics, Run
from trainkit.signals import cut_short

if TYPE_CHECKING:
    from trainkit.protocols import Loss, Metric


def loss_weight(loss: Loss, targets: Tensor) -> Tensor | int:
    """What the loss divided its sum by: its own weight, or the number of samples."""
    weight = getattr(loss, "weight", None)
    return weight(targets) if weight is not None else targets.shape[0]


class Meter:
    """Gathers loss and metrics over batches without waiting for the device.

    Args:
        metrics: metrics by name; reset here.
        loss: the loss, for the weights of uneven batches.
    """

    def __init__(self, metrics: dict[str, Metric], loss: Loss) -> None:
        self._metrics = metrics
        self._loss = loss
        self._sum: Tensor | None = None
        self._weight: Tensor | float = 0.0
        for metric in metrics.values():
            metric.reset()

    def add(self, outputs: Tensor, targets: Tensor, value: Tensor) -> None:
        """Take in one batch: model outputs, targets and the batch's mean loss."""
        weight = loss_weight(self._loss, targets)
        part = value.detach().double() * weight
        self._sum = part if self._sum is None else self._sum + part
        self._weight = self._weight + weight
        self.update_metrics(outputs, targets)

    def update_metrics(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in outputs for the metrics alone."""
        outputs = outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs
        for metric in self._metrics.values():
            metric.update(shown_to(metric, self._loss, outputs), targets)

    @staticmethod
    def update_together(meters: Sequence[Meter], outputs: Tensor, targets: Tensor) -> bool:
        """Take in outputs of several runs whose metrics were made alike; False, and nothing done, where one cannot.

        Args:
            meters: one for each run.
            outputs: ``(runs, samples, ...)``.
            targets: ``(runs, samples, ...)``.
        """
        rows = list(zip(*[meter._metrics.values() for meter in meters], strict=True))
        updates = [getattr(row[0], "update_lanes", None) for row in rows]
        if None in updates:
            return False
        outputs = outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs
        for update, row in zip(updates, rows, strict=True):
            assert update is not None
            update(row, shown_to(row[0], meters[0]._loss, outputs), targets)
        return True

    def compute(self) -> Metrics:
        """The figures, loss first; this waits for the device."""
        figures: Metrics = {}
        if self._sum is not None:
            figures["loss"] = float(self._sum / self._weight)
        return figures | self.compute_metrics()

    def compute_metrics(self) -> Metrics:
        """The figures of the metrics alone."""
        figures: Metrics = {}
        for name, metric in self._metrics.items():
            value = metric.compute()
            if isinstance(value, Mapping):
                figures.update({f"{name}.{part}": float(number) for part, number in value.items()})
            else:
                figures[name] = float(value)
        return figures


def outputs_of(run: Run, batches: Iterable[Batch], samples: int) -> Iterator[tuple[Batch, Tensor]]:
    """Model outputs batch by batch, in evaluation mode and without gradients; training mode is put back.

    Args:
        run: the run.
        batches: what goes through the model.
        samples: how many samples all batches have together.

    Raises:
        CutShort: between two batches, if a signal has come and the evaluation can be made when the run goes on.
    """
    training = run.model.training
    modules = _plain_modules(run.model)
    _set_training(run.model, modules, False)
    try:
        forward = run.forward
        if run.folding is not None:
            forward = run.folding.forward(forward, samples, run.precision.dtype)
        # Folding looks at counts of changes in place, which tensors of inference mode do not have.
        # Nor can weights be trained that were gathered in it.
        folded_or_divided = forward is not run.forward or run.sharded is not None
        quiet = torch.no_grad() if folded_or_divided else torch.inference_mode()
        with quiet, run.precision.context():
            done = 0
            for batch in batches:
                cut_short(run)
                yield batch, forward(batch.inputs)
                done += batch.whole or len(batch)
                run.measuring(done, samples)
    finally:
        _set_training(run.model, modules, training)


def _plain_modules(model: nn.Module) -> list[nn.Module]:
    """All modules of a model, if each only keeps in mind whether it trains; else none."""
    modules = list(model.modules())
    for module in modules:
        kind, own = type(module), vars(module)
        if kind.train is not nn.Module.train or kind.eval is not nn.Module.eval or "training" not in own:
            return []
        if "train" in own or "eval" in own:
            return []
    return modules


def _set_training(model: nn.Module, modules: Iterable[nn.Module], training: bool) -> None:
    """``model.train(training)``, in half of its time where `_plain_modules` has found any."""
    if not modules:
        model.train() if training else model.eval()
    for module in modules:
        vars(module)["training"] = training


def measure(run: Run, split: str, keep: Callable[[Batch, Tensor], object] | None = None) -> Metrics:
    """Loss and metrics of the recipe over one split.

    Args:
        run: the run.
        split: the split.
        keep: told each batch and the model's outputs for it.
    """
    samples = run.feed.spec.sizes.get(split, 0)
    if run.group.size == 1:
        return figures_of(run, outputs_of(run, run.feed.evaluate(split), samples), keep)
    shares = measured_together(run.model, run.feed.evaluate(split, run.group.share))
    return figures_of(run, _gathered(run, outputs_of(run, shares, samples)), keep)


def _gathered(run: Run, given: Iterable[tuple[Batch, Tensor]]) -> Iterator[tuple[Batch, Tensor]]:
    """Outputs, targets and indices of whole batches, each process having computed its share of them.

    Every process takes in all of them, in the data's order: figures are those of one process, to the last bit of what
    the model gives. Inputs stay those of the process's own share.
    """
    for batch, outputs in given:
        counts = run.group.counts(batch.whole)
        own = counts[run.group.rank]
        whole = [run.group.concatenated(part[:own], counts) for part in (outputs, batch.targets, batch.index)]
        yield Batch(batch.inputs, whole[1], whole[2]), whole[0]


def figures_of(
    run: Run, given: Iterable[tuple[Batch, Tensor]], keep: Callable[[Batch, Tensor], object] | None = None
) -> Metrics:
    """Loss and metrics of the recipe over batches and the model's outputs for them; ``keep`` is told each."""
    meter = Meter(dict(run.metrics), run.loss)
    for batch, outputs in given:
        if keep is not None:
            keep(batch, outputs)
        with run.precision.context():
            value = run.loss(outputs, batch.targets)
        meter.add(outputs, batch.targets, value)
    return meter.compute()


class Defaults:
    """The core's own implementations of hooks, asked after all plugins."""

    stateless = True

    @hookimpl(trylast=True)
    def trainkit_evaluate(self, run: Run, split: str) -> Metrics:
        return measure(run, split)
