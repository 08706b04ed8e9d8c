"""What a model makes of a split, gathered batch by batch: confusion, calibration, mistakes, errors, first weights."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from trainkit.dataset import Batch, DataSpec
from trainkit.evaluate import measure
from trainkit.heads import predicted
from trainkit.report.look_levels import LookingAtLevels
from trainkit.report.look_tokens import LookingAtTokens, TokensSeen
from trainkit.report.samples import Sample, Samples
from trainkit.run import Metrics, Run
from trainkit.scoring import bin_of, log_probabilities, scores, terms

BINS = 15
MOST_CLASSES = 1000  # of which every pair is counted
MOST_NUMBERS = 4_000_000  # of a regression's outputs that are kept
MOST_WEIGHTS = 4096  # of a first layer that is no picture
MOST_FILTERS = 64


@dataclass(frozen=True)
class Bin:
    """Samples for which a model was about equally sure: how many, how sure on average, and the share that is right."""

    low: float
    high: float
    samples: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Layer:
    """The weights that a model's inputs meet first.

    Args:
        name: of the parameter.
        shape: of the whole parameter.
        pictures: ``(units, height, width)`` or ``(units, height, width, 3)``, where they have the form of pictures.
        matrix: ``(units, inputs)`` where they have not.
    """

    name: str
    shape: tuple[int, ...]
    pictures: Any = None
    matrix: Any = None


@dataclass
class Look:
    """What came of it; plain numbers and numpy's arrays.

    Args:
        split: the split.
        samples: how many it has.
        task: ``classification``, ``binary``, ``regression`` or ``tokens``.
        parameters: numbers that the model learns.
        classes: names of the classes.
        figures: accuracy, calibration error and the like; errors for a regression.
        confusion: how many samples of each class (row) were taken for each class (column).
        bins: how sure and how right, where there are classes.
        worst: samples with the highest loss.
        sure: wrong ones of which the model was surest.
        truth: ``(samples, outputs)`` of a regression, in the units of the data.
        predicted: the same of what the model predicts.
        targets: names of the outputs of a regression, where the data names them.
        levels: where a model says how sure it is, shares of targets below its quantiles, as `LookingAtLevels` has them.
        tokens: what is seen of tokens alone.
        layer: the first weights.
        notes: what could not be seen, and why.
        events: what was decided on the way, as ``(update, what)``.
    """

    split: str
    samples: int = 0
    task: str = ""
    parameters: int = 0
    classes: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    confusion: Any = None
    bins: list[Bin] = field(default_factory=list)
    worst: list[Sample] = field(default_factory=list)
    sure: list[Sample] = field(default_factory=list)
    truth: Any = None
    predicted: Any = None
    targets: tuple[str, ...] = ()
    levels: list[tuple[float, float, int]] = field(default_factory=list)
    tokens: TokensSeen | None = None
    layer: Layer | None = None
    notes: list[str] = field(default_factory=list)
    events: list[tuple[int, str]] = field(default_factory=list)


def look_at(run: Run, split: str) -> Look:
    """Let a run's model predict a split, and look at what it makes of it and at its first weights.

    It is an evaluation like any other: with the weights that evaluations measure. Samples are looked at batch by batch;
    none but the few that are shown is kept.
    """
    spec = run.feed.spec
    looking = _looking(spec)
    looking.why = getattr(run.loss, "no_truth", "")
    found = Look(split, task=spec.task, events=[(int(at), str(kind)) for at, kind in run.events])

    levels = LookingAtLevels(run.loss)

    def adding(batch: Batch, outputs: Tensor) -> None:
        looking.add(batch, predicted(run.loss, outputs), run.decided)
        levels.add(outputs, batch.targets)

    def watching(run: Run, split: str) -> Metrics:
        figures = measure(run, split, adding)
        found.parameters = sum(parameter.numel() for parameter in run.model.parameters())
        found.layer = first_layer(run.model, spec)
        return figures

    # Whoever exchanges the weights around evaluations does it here too.
    run.hook.trainkit_evaluate.call_extra([watching], {"run": run, "split": split})
    if looking.why:
        found.notes.append(looking.why)
    elif looking.count:
        found.samples = looking.count
        found.levels, found.targets = levels.taken(), spec.targets
        looking.tell(found)
    else:
        found.notes.append("a plugin measures in a way of its own, before all others, and shows no outputs")
    return found


def _looking(spec: DataSpec) -> _Looking | LookingAtTokens:
    if spec.task == "tokens":
        return LookingAtTokens(spec)
    return _Classes(spec) if spec.task != "regression" else _Numbers(spec)


class _Looking(ABC):
    """Gathers what is to be seen of outputs.

    Attributes:
        count: samples so far.
        why: why nothing can be seen; empty if it can.
    """

    def __init__(self, spec: DataSpec) -> None:
        self.spec = spec
        self.count = 0
        self.why = ""
        self.decided: Tensor | None = None

    def add(self, batch: Batch, outputs: Tensor, decided: Callable[[Tensor], Tensor] | None = None) -> None:
        if self.why:
            return
        try:
            outputs = outputs.detach().float().cpu()
            self.decided = outputs if decided is None else decided(outputs)
            self._take_in(batch, outputs, batch.targets.cpu())
            self.count += len(batch)
        except (RuntimeError, ValueError, IndexError) as error:
            said = (str(error).splitlines() or ["no message"])[0]
            self.why = f"outputs of shape {tuple(outputs.shape)} are nothing that a report can show: {said}"

    @abstractmethod
    def _take_in(self, batch: Batch, outputs: Tensor, targets: Tensor) -> None:
        """Take in one batch."""

    @abstractmethod
    def tell(self, found: Look) -> None:
        """Put what was gathered where it belongs."""


class _Classes(_Looking):
    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self._classes = 2 if spec.task == "binary" else spec.outputs
        self._sums: Tensor | None = None
        self._figures: Callable[[Tensor], dict[str, Tensor]] | None = None
        self._bins = torch.zeros(BINS, 3, dtype=torch.float64)  # samples, confidence, right
        few = self._classes <= MOST_CLASSES
        self._confusion = torch.zeros(self._classes, self._classes, dtype=torch.int64) if few else None
        self._worst, self._sure = Samples(spec), Samples(spec)
        self._not_finite = 0
        self._decided_for: int | None = None  # right ones, where a plugin decides by other than equal odds

    def _take_in(self, batch: Batch, outputs: Tensor, targets: Tensor) -> None:
        made = terms(outputs, targets, self.spec, BINS)
        self._figures = made.figures
        total = made.values.sum(0)
        self._sums = total if self._sums is None else self._sums + total
        logarithms, classes = log_probabilities(outputs, self.spec), targets.long().reshape(-1)
        confidence, likeliest = logarithms.exp().max(1)
        finite = ~confidence.isnan()
        right = (likeliest == classes) & finite
        self._not_finite += int((~finite).sum())
        columns = torch.stack([torch.ones_like(confidence), confidence, right.double()], dim=1)[finite]
        self._bins.index_add_(0, bin_of(confidence[finite], BINS), columns)
        if self.decided is not None and self.decided is not outputs:
            likeliest = log_probabilities(self.decided, self.spec).argmax(1)
            confidence = logarithms.exp().gather(1, likeliest[:, None]).squeeze(1)
            right = (likeliest == classes) & finite
            self._decided_for = (self._decided_for or 0) + int(right.sum())
        if self._confusion is not None:
            cells = torch.bincount((classes * self._classes + likeliest)[finite], minlength=self._classes**2)
            self._confusion += cells.reshape(self._classes, self._classes)
        loss = -logarithms.gather(1, classes[:, None]).reshape(-1)
        told = {"truth": classes, "taken": likeliest, "confidence": confidence, "loss": loss}
        self._worst.add(batch, loss, told)
        self._sure.add(batch, confidence.masked_fill(right, -math.inf), told)

    def tell(self, found: Look) -> None:
        assert self._sums is not None
        assert self._figures is not None
        named = self.spec.classes
        found.classes = tuple(named[i] if i < len(named) else str(i) for i in range(self._classes))
        found.figures = {name: float(value) for name, value in self._figures(self._sums / self.count).items()}
        if self._decided_for is not None:
            found.figures["accuracy"] = self._decided_for / self.count
        found.confusion = None if self._confusion is None else self._confusion.numpy()
        for number, (samples, confidence, right) in enumerate(self._bins.tolist()):
            if samples:
                ends = number / BINS, (number + 1) / BINS
                found.bins.append(Bin(*ends, int(samples), confidence / samples, right / samples))
        found.worst, found.sure = self._worst.taken(), self._sure.taken()
        if self._not_finite:
            found.notes.append(f"{self._not_finite} samples have outputs that are not finite: they count as wrong")


class _Numbers(_Looking):
    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self._outputs: list[Tensor] = []
        self._targets: list[Tensor] = []
        self._worst = Samples(spec)

    def _take_in(self, batch: Batch, outputs: Tensor, targets: Tensor) -> None:
        if (self.count + len(batch)) * self.spec.outputs > MOST_NUMBERS:
            raise ValueError(f"there are more than {MOST_NUMBERS:,} of them")
        shape = len(outputs), self.spec.outputs
        made, true = outputs.reshape(shape), targets.float().reshape(shape)
        self._outputs.append(made)
        self._targets.append(true)
        error, worst = (made - true).abs().max(1)  # of several outputs each counts in its own standard deviation
        truth, taken = (self._in_units(of).gather(1, worst[:, None])[:, 0] for of in (true, made))
        self._worst.add(batch, error, {"output": worst, "truth": truth, "taken": taken, "error": taken - truth})

    def _in_units(self, numbers: Tensor) -> Tensor:
        """As the data has them: what was standardised is put back."""
        spec, wide = self.spec, numbers.double()
        std = torch.tensor(spec.target_std or (1.0,) * spec.outputs, dtype=torch.float64)
        mean = torch.tensor(spec.target_mean or (0.0,) * spec.outputs, dtype=torch.float64)
        return wide * std + mean

    def tell(self, found: Look) -> None:
        outputs, targets = torch.cat(self._outputs), torch.cat(self._targets)
        found.figures = scores(outputs, targets, self.spec)
        found.truth, found.predicted = self._in_units(targets).numpy(), self._in_units(outputs).numpy()
        found.worst = self._worst.taken()


def first_layer(model: nn.Module, spec: DataSpec) -> Layer | None:
    """The first weights of a model that stand for inputs one by one; ``None`` where it has none such."""
    for path, module in model.named_modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            return None  # rows of a table that tokens pick
        for name, weights in module.named_parameters(recurse=False):
            if weights.dim() >= 2:
                return _layer(f"{path}.{name}".lstrip("."), weights.detach().float().cpu(), spec)
    return None


def _layer(name: str, weights: Tensor, spec: DataSpec) -> Layer | None:
    shape = tuple(weights.shape)
    few = weights[:MOST_FILTERS]
    if len(shape) == 2 and len(spec.input_shape) == 3 and shape[1] == math.prod(spec.input_shape):
        few = few.reshape(len(few), *spec.input_shape)
    if few.dim() == 4:
        colours = few.shape[1] == 3 == spec.input_shape[0]
        if not colours and few.shape[1] != 1:
            few = few.mean(1, keepdim=True)
        height, width = few.shape[2:]
        if not 1 < height <= 64 or not 1 < width <= 64:
            return None
        # Each by its own largest weight, grey is nought: what a unit looks for, not how strongly.
        scaled = few / few.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12)
        pixels = (scaled * 127 + 128).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
        return Layer(name, shape, pictures=pixels if colours else pixels[..., 0])
    if len(shape) == 2 and shape[1] * len(few) <= MOST_WEIGHTS:
        return Layer(name, shape, matrix=few.numpy().astype(numpy.float64))
    return None
