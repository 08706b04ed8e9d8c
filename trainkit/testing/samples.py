"""Kinds of data that components are tried with, and samples of each: inputs, targets, and outputs of a model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from trainkit.component import Component
from trainkit.dataset import Batch, DataSpec
from trainkit.errors import DataError, PluginDefect, RecipeError
from trainkit.feed.order import Chance
from trainkit.protocols import Draw
from trainkit.testing.build import made
from trainkit.testing.contract import Contract
from trainkit.testing.kept import once_for_each
from trainkit.testing.letters import Letters

# A batch of as many samples as nothing else has, so that shapes do not fit by chance, and the core's own first one.
TRIED = (11, 2)
OF_ANY_DATA = "; or refuse such data: ask for data_spec, and raise DataError"
# What the core takes for a refusal where it pushes the first samples through a run.
REFUSALS = (RuntimeError, ValueError, IndexError, DataError)


@dataclass(frozen=True)
class Case:
    """One kind of data.

    Args:
        name: as messages call it.
        spec: what is known of it.
        whole: whether inputs are stored as bytes, as pixels often are.
        tokens: whether inputs are numbers of tokens, int64: two, or as many as outputs where each token is a target.
        advice: for whoever takes any data, and fails on this.
        width: numbers that a loss asks the model for, where they are not those of targets.
    """

    name: str
    spec: DataSpec
    whole: bool = False
    tokens: bool = False
    advice: str = ""
    width: int | None = None

    def __str__(self) -> str:
        return self.name

    def inputs(self, count: int, seed: int = 0) -> Tensor:
        """Inputs as a model sees them, ``(count, ...)`` float32, or int64 of tokens."""
        if self.tokens:
            kinds = self.spec.outputs if self.spec.task == "tokens" else 2
            return torch.randint(kinds, (count, *self.spec.input_shape), generator=_drawn(seed))
        return torch.randn(count, *self.spec.input_shape, generator=_drawn(seed))

    def stored(self, count: int, seed: int = 0) -> Tensor:
        """Inputs as they are stored, which augmentations see."""
        if not self.whole:
            return self.inputs(count, seed)
        return torch.randint(256, (count, *self.spec.input_shape), dtype=torch.uint8, generator=_drawn(seed))

    def targets(self, count: int, seed: int = 0) -> Tensor:
        """Targets of every class, in a drawn order."""
        spec, draw = self.spec, _drawn(seed + 1000)
        if spec.task == "regression":
            return torch.randn((count, spec.outputs) if spec.outputs > 1 else (count,), generator=draw)
        classes = max(2, spec.outputs)
        if spec.task == "tokens":
            positions = count * spec.input_shape[0]
            return (torch.arange(positions) % classes)[torch.randperm(positions, generator=draw)].view(count, -1)
        labels = (torch.arange(count) % classes)[torch.randperm(count, generator=draw)]
        return labels.float() if spec.task == "binary" else labels

    def outputs(self, count: int, seed: int = 0) -> Tensor:
        """Outputs of a model that has learned nothing, float32; their shape is that of `output_shape`."""
        return 2 * torch.randn(self.output_shape(count), generator=_drawn(seed + 2000))

    def output_shape(self, count: int) -> tuple[int, ...]:
        """``(count, outputs)``; for tokens ``(count, positions, outputs)``."""
        positions = self.spec.input_shape[:1] if self.spec.task == "tokens" else ()
        return (count, *positions, self.width or self.spec.outputs)

    def under(self, loss: Any) -> Case:
        """The case of a model that gives what a loss asks for."""
        return replace(self, width=getattr(loss, "outputs", None))

    def perfect(self, targets: Tensor) -> Tensor:
        """Outputs of a model that knows the targets."""
        if self.spec.task in ("classification", "tokens"):
            return 20 * torch.nn.functional.one_hot(targets, self.spec.outputs).float()
        targets = targets.reshape(len(targets), self.spec.outputs)
        return 40 * targets - 20 if self.spec.task == "binary" else targets

    def batch(self, count: int, seed: int = 0) -> Batch:
        """A training batch as augmentations get it."""
        return Batch(self.stored(count, seed), self.targets(count, seed), torch.arange(count) + 100)


def _drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _classes(shape: tuple[int, ...], count: int) -> DataSpec:
    names = tuple("abcdefghij"[:count])
    counts = tuple(range(10, 10 + 5 * count, 5))
    return DataSpec(shape, "classification", count, names, counts, {"train": sum(counts), "val": 10})


CASES = (
    Case("a table of 5 classes", _classes((6,), 5)),
    Case("grey images of 10 classes", _classes((1, 28, 28), 10)),
    Case("colour images of 5 classes, stored as bytes", _classes((3, 32, 32), 5), whole=True),
    Case("a table of two classes with one logit", DataSpec((6,), "binary", 1, ("no", "yes"), (30, 10))),
    Case("a table with one number to predict", DataSpec((6,), "regression", 1)),
    Case(
        "a table with two numbers to predict",
        DataSpec((6,), "regression", 2, target_mean=(3.0, -1.0), target_std=(2.0, 5.0), naive_error=(1.5, 4.0)),
    ),
    Case(
        "text of 4 different tokens",
        DataSpec((9,), "tokens", 4, sizes={"train": 60, "val": 10}, tokens_per_sample=9, vocabulary=Letters(4)),
        tokens=True,
    ),
)
# Tried only with components that take none of these.
RARE = (
    Case("rows to give back", DataSpec((6,), "regression", 6)),
    Case("rows to give back, with two means and variances", DataSpec((6,), "regression", 10)),
    Case("series of 2 channels", _classes((2, 64), 5)),
    Case("volumes", _classes((1, 8, 8, 8), 5)),
    Case("rows of token numbers", _classes((16,), 5), tokens=True),
)

Try = Callable[[Any, Case, int], object]


class OnData(Contract):
    """Base of the contracts of components that are built for the data."""

    @pytest.fixture
    def cases(self, component: Component) -> list[Case]:
        """The kinds of data that the component takes."""
        return fitting(component)


Tried = list[tuple[Case, Exception | None]]


def fitting(component: Component) -> list[Case]:
    """The kinds of data that a component takes: it can be built, and does not refuse the first samples."""
    more = "" if "data_spec" in component.given else OF_ANY_DATA
    found = [replace(case, advice=more) for case, refusal in tried(component) if refusal is None]
    refused = "; ".join(f"{case}: {refusal}" for case, refusal in tried(component))
    assert found, f"{component.kind} '{component.name}' takes none of the data that it is tried with: {refused}"
    return found


@once_for_each
def tried(component: Component) -> Tried:
    """Each kind of data, and what the component raised that was built for it and given its first samples."""
    found = [(case, _refusal(component, case)) for case in CASES]
    if all(refusal is not None for case, refusal in found if case.spec.task != "tokens"):
        found += [(case, _refusal(component, case)) for case in RARE]
    return found


def _refusal(component: Component, case: Case) -> Exception | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for samples in TRIED:
                _TRIALS[component.kind](made(component, data_spec=case.spec), case, samples)
        except (RecipeError, PluginDefect, *REFUSALS) as error:
            return error
    return None


def _try_model(model: Any, case: Case, samples: int) -> None:
    with torch.no_grad():
        outputs = model.eval()(case.inputs(samples))
    # A model that takes numbers of tokens need not be one that says something of each: losses refuse its outputs.
    if case.spec.task == "tokens" and outputs.dim() == 2:
        raise DataError("it gives outputs of whole samples, not of each position")


def _try_metric(metric: Any, case: Case, samples: int) -> None:
    case = told(case, metric)
    metric.reset()  # as the core does
    metric.update(case.outputs(samples), case.targets(samples))


def _try_augmentation(augmentation: Any, case: Case, samples: int) -> None:
    batch = case.batch(samples)
    augmentation(batch, drawing(batch.index))


_TRIALS: dict[str, Try] = {
    "model": _try_model,
    "loss": lambda loss, case, samples: loss(case.under(loss).outputs(samples), case.targets(samples)),
    "metric": _try_metric,
    "augmentation": _try_augmentation,
}


def told(case: Case, metric: Any) -> Case:
    """The case of what a metric is told: outputs as its ``loss`` asks for them, or predictions."""
    return case.under(getattr(metric, "loss", None)) if getattr(metric, "of_outputs", False) else case


def refuses_in_words(component: Component) -> None:
    """See that data which the component cannot take is refused with a message, not with an error of its own code."""
    what = f"{component.kind} '{component.name}'"
    for case, refusal in tried(component):
        assert not isinstance(refusal, PluginDefect), (
            f"{what} raises on {case}; raise DataError and say which data it needs, or what to use instead: {refusal}"
        )
        assert refusal is None or str(refusal).strip(), (
            f"{what} refuses {case} without a word; say which data it needs, or what to use instead"
        )


def drawing(index: Tensor, seed: int = 0, epoch: int = 0) -> Draw:
    """The random numbers of a batch of samples."""
    return Chance(seed, epoch, index).draw(0, 0, len(index))


def said(error: BaseException) -> str:
    """The first line of what an exception says."""
    return (str(error).strip().splitlines() or ["no message"])[0]


@contextmanager
def on_any_device(what: str) -> Iterator[None]:
    """Explain what is raised on torch's device ``meta``, whose tensors have a place and a shape, and no values.

    There whoever mixes devices, or asks for a value and so would wait for the device, cannot go on.
    """
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        raise AssertionError(
            f"{what} does not work on a device whose values it cannot see: {said(error)}; put new tensors where the "
            "given ones are (new_zeros, device=x.device, register_buffer), and leave .item(), bool() and masks alone"
        ) from error
