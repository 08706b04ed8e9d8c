"""Contracts take honest components that are unlike ours: none is refused for what it may be."""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.testing.mutants import held_to
from trainkit import (
    Component,
    DataError,
    Dataset,
    DataSpec,
    Metric,
    Objective,
    Order,
    Point,
    Run,
    Space,
    Split,
    Trial,
    fingerprint,
    hookimpl,
)
from trainkit.testing import (
    Contract,
    DataContract,
    FactoryContract,
    LoggerContract,
    MetricContract,
    ModelContract,
    SearcherContract,
    simulate,
)

# ------------------------------------------------------------ data


def cut(inputs: Tensor, targets: Tensor, sizes: list[int], prepare: Any = None) -> Dataset:
    """Samples of two classes, in the splits of these sizes."""
    parts = zip(torch.split(inputs, sizes), torch.split(targets, sizes), strict=True)
    splits = {name: Split(*part) for name, part in zip(("train", "val", "test"), parts, strict=True) if len(part[1])}
    arrays = {f"{name} {kind}": getattr(one, kind) for name, one in splits.items() for kind in ("inputs", "targets")}
    counts = tuple(torch.bincount(targets[: sizes[0]], minlength=2).tolist())
    lengths = {name: len(split) for name, split in splits.items()}
    shape = tuple(inputs.shape[1:])
    return Dataset(
        DataSpec(shape, "classification", 2, ("a", "b"), counts, lengths, fingerprint(arrays)), splits, prepare
    )


def answers(seed: int, /) -> Dataset:
    """Ask three yes-or-no questions: there are but eight different samples."""
    inputs = torch.randint(2, (90, 3), generator=torch.Generator().manual_seed(seed)).float()
    return cut(inputs, inputs.sum(1).long() % 2, [60, 15, 15])


@dataclass(frozen=True)
class Turned:
    """Turns samples, by a product of matrices: it is rounded otherwise in a batch of another size."""

    matrix: Tensor

    def __call__(self, inputs: Tensor) -> Tensor:
        return inputs @ self.matrix


def turned(seed: int, /) -> Dataset:
    """Turn samples."""
    draw = torch.Generator().manual_seed(seed)
    inputs, matrix = torch.randn(90, 300, generator=draw), torch.randn(300, 300, generator=draw)
    return cut(inputs, torch.arange(90) % 2, [60, 15, 15], Turned(matrix))


class Scaled:
    """Scales each sample; it never has an empty batch."""

    def __call__(self, inputs: Tensor) -> Tensor:
        assert len(inputs)
        return inputs.float() / inputs.float().abs().amax(1, keepdim=True)


def pair(seed: int, /) -> Dataset:
    """Have two samples to train on."""
    inputs = torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))
    return cut(inputs, torch.tensor([0, 1, 0]), [2, 1, 0], Scaled())


def brief(seed: int, /) -> Dataset:
    """Store samples in bfloat16."""
    inputs = torch.randn(90, 4, generator=torch.Generator().manual_seed(seed)).bfloat16()
    return cut(inputs, torch.arange(90) % 2, [60, 15, 15], Scaled())


# ------------------------------------------------------------ models


class Gated(nn.Module):
    """Begins as nothing: gate and head are zero."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.body = nn.Linear(*spec.input_shape, 8)
        self.branch = nn.Linear(8, 8)
        self.gate = nn.Parameter(torch.zeros(()))
        self.head = nn.Linear(8, spec.outputs)
        nn.init.zeros_(self.head.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.body(inputs).tanh()
        found: Tensor = self.head(hidden + self.gate * self.branch(hidden).tanh())
        return found


class Shallow(nn.Module):
    """Leaves out each of its layers for every second batch of training, by chance."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.body = nn.Linear(*spec.input_shape, 8)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(6))
        self.head = nn.Linear(8, spec.outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.body(inputs).tanh()
        for layer in self.layers:
            share = (torch.rand(()) > 0.5).to(hidden) if self.training else 0.5
            hidden = hidden + share * layer(hidden).tanh()
        found: Tensor = self.head(hidden)
        return found


class Waves(nn.Module):
    """Takes series or volumes."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        kind = nn.Conv1d if len(spec.input_shape) == 2 else nn.Conv3d
        self.body = kind(spec.input_shape[0], 4, 3, padding=1)
        self.head = nn.Linear(4, spec.outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.head(self.body(inputs).relu().flatten(2).mean(2))
        return found


class Words(nn.Module):
    """Takes numbers of words."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 8)
        self.head = nn.Linear(8, spec.outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.head(self.words(inputs).mean(1))
        return found


def model(kind: Any, dimensions: int, lanes: bool = True) -> Component:
    def factory(data_spec: DataSpec, /) -> nn.Module:
        """Take samples of so many dimensions."""
        if len(data_spec.input_shape) != dimensions:
            raise DataError(f"needs samples of {dimensions} dimensions, the data has {data_spec.input_shape}")
        found: nn.Module = kind(data_spec)
        return found

    return Component("model", factory, f"{kind.__name__.lower()}{dimensions}", capabilities={"lanes": lanes})


# ------------------------------------------------------------ metrics


class Top:
    """Share of the samples whose class is among the first: of few classes all are. Before reset it has nothing."""

    higher_is_better = True

    def __init__(self, first: int) -> None:
        self.first = first

    def reset(self) -> None:
        self.hits, self.seen = torch.zeros((), dtype=torch.float64), 0

    def update(self, outputs: Tensor, targets: Tensor, /) -> None:
        among = (outputs.topk(self.first, 1).indices == targets[:, None]).any(1)
        self.hits, self.seen = self.hits.to(outputs.device) + among.double().sum(), self.seen + len(targets)

    def compute(self) -> float:
        return float(self.hits) / self.seen


def top(data_spec: DataSpec, /) -> Metric:
    """Look among the first five."""
    if data_spec.task != "classification":
        raise DataError(f"needs classes, the task is {data_spec.task}")
    return Top(min(5, data_spec.outputs))


# ------------------------------------------------------------ searchers


class Insisting:
    """Goes at once on with a trial that rests before its end."""

    def __init__(self, seed: int) -> None:
        self.seed, self.taken, self.resting = seed, 0, dict[int, Point]()

    def begin(self, space: Space, objectives: Sequence[Objective], trials: int) -> None:
        self.space = space

    def ask(self) -> Order | None:
        for number, point in self.resting.items():
            return Order(point, trial=number)
        source = random.Random(f"{self.seed} {self.taken}")
        points = (self.space.at([source.random() for _ in range(len(self.space))]) for _ in range(100))
        return next((Order(point) for point in points if self.space.allows(point)), None)

    def took(self, order: Order, trial: Trial) -> None:
        self.taken += 1
        self.resting.pop(trial.number, None)

    def tell(self, trial: Trial) -> None:
        if trial.status == "paused":
            self.resting[trial.number] = trial.point


def insisting(seed: int, /) -> Insisting:
    """Search at random."""
    return Insisting(seed)


def test_a_search_that_never_ends_is_said_to() -> None:
    with pytest.raises(AssertionError, match=r"the searcher: after .* calls it orders on"):
        simulate(Insisting(1), lambda point, share: share, trials=2, fails=lambda trial: "paused")


# ------------------------------------------------------------ loggers


class Configured:
    """Has a library that makes a folder for its settings, and a thread that writes and is joined in the end."""

    stateless = True

    def __init__(self) -> None:
        self.steps: queue.Queue[int] = queue.Queue()

    def write(self, file: Path) -> None:
        with file.open("a", encoding="utf-8") as opened:
            while step := self.steps.get():
                opened.write(f"{step}\n")

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        (Path.home() / ".config" / "library").mkdir(parents=True, exist_ok=True)
        self.thread = threading.Thread(target=self.write, args=(run.folder / "steps.txt",))
        self.thread.start()

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        self.steps.put(run.step)

    @hookimpl
    def trainkit_run_end(self) -> None:
        self.steps.put(0)
        self.thread.join()


def configured() -> Configured:
    """Write by a thread."""
    return Configured()


_CONFIGURED = Component("logger", configured)
_SERIES, _VOLUMES = model(Waves, 2, lanes=False), model(Waves, 4, lanes=False)
_WORDS = model(Words, 1, lanes=False)
HONEST: list[tuple[type[Contract], str, Component]] = [
    (DataContract, "splits_share_no_sample", Component("data", answers)),
    (DataContract, "prepare_looks_at_each_sample_alone", Component("data", turned)),
    (DataContract, "prepare_looks_at_each_sample_alone", Component("data", pair)),
    (DataContract, "same_seed_same_data", Component("data", brief)),
    (ModelContract, "gradients_reach_every_parameter", model(Gated, 1)),
    (ModelContract, "gradients_reach_every_parameter", model(Shallow, 1)),
    (ModelContract, "fits_the_data", _SERIES),
    (ModelContract, "fits_the_data", _VOLUMES),
    (FactoryContract, "builds_from_its_example", _SERIES),
    (ModelContract, "fits_the_data", _WORDS),
    (ModelContract, "evaluation_looks_at_each_sample_alone", _WORDS),
    (ModelContract, "computes_in_the_dtype_it_is_given", _WORDS),
    (SearcherContract, "trials_that_fail_stop_nothing", Component("searcher", insisting)),
    (LoggerContract, "writes_into_the_run_folder", _CONFIGURED),
    (LoggerContract, "closes_what_it_opens", _CONFIGURED),
    (LoggerContract, "may_fail", _CONFIGURED),
    (MetricContract, "says_which_way_is_good", Component("metric", top, capabilities={"higher_is_better": True})),
]


@pytest.mark.parametrize(("contract", "test", "component"), HONEST, ids=lambda part: getattr(part, "name", str(part)))
def test_an_honest_component_keeps_it(
    contract: type[Contract], test: str, component: Component, tmp_path: Path
) -> None:
    outcome = held_to(contract, test, component, tmp_path)
    assert outcome.passed, str(outcome)
