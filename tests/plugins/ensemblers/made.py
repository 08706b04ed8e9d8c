"""Members, validation samples and a workshop without any training: outputs are looked up by number."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainkit import DataSpec, Ensembler, Member, Validation
from trainkit.checkpoint import join_state, split_state

CLASSES = DataSpec((1,), "classification", 3, ("a", "b", "c"), (5, 5, 5))
BINARY = DataSpec((1,), "binary", 1, ("no", "yes"), (5, 5))
NUMBERS = DataSpec((1,), "regression", 2)


class LookedUp(nn.Module):
    """Gives for sample number n, which is its input, row n of a table."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table.float())

    def forward(self, inputs: Tensor) -> Tensor:
        """``(batch, 1)`` numbers of samples to ``(batch, outputs)``."""
        return self.table[inputs[:, 0].long()]


def member(table: Tensor, name: str, spec: DataSpec = CLASSES, **more: Any) -> Member:
    """A member that gives these outputs."""
    recipe = {"seed": 0, "data": {"use": "digits", "seed": None, "folds": None, "fold": 0, "bag": None}}
    return Member(name, LookedUp(table).eval(), recipe, spec, **more)


def members_of(outputs: Tensor, spec: DataSpec = CLASSES) -> list[Member]:
    """A member for each of ``(members, samples, outputs)``."""
    return [member(table, f"m{number}", spec) for number, table in enumerate(outputs)]


@dataclass
class Told:
    """What was said."""

    lines: list[str] = field(default_factory=list)

    def __call__(self, text: str) -> None:
        """Keep it."""
        self.lines.append(text)

    def __contains__(self, part: str) -> bool:
        return any(part in line for line in self.lines)


def validation(
    outputs: Tensor, targets: Tensor, spec: DataSpec = CLASSES, held_out: Tensor | None = None, say: Any = None
) -> Validation:
    """Samples whose input is their number; without a mask no member was trained on any."""
    count = outputs.shape[1]
    numbers = torch.arange(count).float()[:, None]

    def measure(module: nn.Module) -> Tensor:
        with torch.no_grad():
            given: Tensor = module(numbers)
        return given.float().reshape(count, -1)

    held = torch.ones(outputs.shape[:2], dtype=torch.bool) if held_out is None else held_out
    return Validation(
        outputs.float(),
        targets,
        held,
        torch.arange(count),
        spec,
        lambda given, wanted: (given - wanted).square().mean(),
        measure,
        lambda module: False,
        say or Told(),
    )


def fitted(ensembler: Any, outputs: Tensor, targets: Tensor, spec: DataSpec = CLASSES, **more: Any) -> Any:
    """The ensembler with a member for each of the outputs, fitted to them."""
    for one in members_of(outputs, spec):
        ensembler.add(one)
    ensembler.fit(validation(outputs, targets, spec, **more))
    return ensembler


def given_by(ensembler: Ensembler, count: int) -> Tensor:
    """What it predicts for the first samples."""
    with torch.no_grad():
        return ensembler.predict(torch.arange(count).float()[:, None])


def weights_of(ensembler: Any) -> dict[str, float]:
    """The weight of each member that is kept."""
    return {one.name: weight for one, weight in zip(ensembler.members(), ensembler.state()["weights"], strict=True)}


def stored(ensembler: Any, make: Callable[[], Any]) -> Any:
    """A new ensembler with the members and the state of another one, as a file would give them back."""
    tensors: dict[str, Tensor] = {}
    plain = json.loads(json.dumps(split_state(ensembler.state(), "state", tensors)))
    held = {name: tensor.clone() for name, tensor in tensors.items()}
    opened = make()
    for one in ensembler.members():
        opened.add(replace(one, module=copy.deepcopy(one.module)))
    opened.load_state(join_state(plain, held))
    return opened


def drawn(
    members: int, samples: int, spec: DataSpec = CLASSES, seed: int = 0, worst: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Outputs of members whose skill rises from the first to the last, and targets."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(members, samples, spec.outputs, generator=generator)
    skill = torch.linspace(worst, 2.5, members)[:, None, None]
    if spec.task == "regression":
        targets = torch.randn(samples, spec.outputs, generator=generator)
        return targets + noise / skill, targets
    if spec.task == "binary":
        classes = torch.randint(0, 2, (samples,), generator=generator)
        return (2 * classes[:, None] - 1) * skill + 1.5 * noise, classes.float()
    classes = torch.randint(0, spec.outputs, (samples,), generator=generator)
    return torch.nn.functional.one_hot(classes, spec.outputs) * skill + noise, classes


class Bench:
    """A workshop that writes down what it is asked to train, and gives members for it."""

    def __init__(
        self,
        given: Sequence[Member] | None = None,
        trials: Sequence[Member] | None = None,
        seed: int = 7,
        data_seed: int | None = None,
    ) -> None:
        self.recipe: Mapping[str, Any] = {"seed": seed, "data": {"use": "digits", "seed": data_seed}}
        self.given = given
        self.trials = trials
        self.seed = seed
        self.folder = Path("nowhere")
        self.spec = CLASSES
        self.asked: list[Mapping[str, Any]] = []

    def train(self, changes: Sequence[Mapping[str, Any]], parent: Member | None = None) -> list[Member]:
        """Write it down."""
        first = len(self.asked)
        self.asked += changes
        return [member(torch.zeros(1, 3), f"run {first + number}") for number in range(len(changes))]

    def checkpoints(self, member: Member) -> list[Member]:
        """None."""
        raise AssertionError("nobody asked for checkpoints")

    def say(self, text: str) -> None:
        """Nobody listens."""
