"""The samples of an environment before a policy plays it: steps of random actions, and where episodes begin."""

from __future__ import annotations

import numpy
import torch
from torch import Tensor

from trainkit import DataError, Dataset, DataSpec, Split, fingerprint
from trainkit_rl.environment import Player, seed_of

# Of episodes that evaluations play; no seed of a run makes them.
SEEDS = {"val": 1_000_000, "test": 2_000_000, "train": 3_000_000}


def slots(environment: str, environments: int, steps: int, val: int, test: int) -> Dataset:
    """See `trainkit_rl.gym`."""
    if environments * steps < 2:
        raise DataError(
            "environments = 1 with steps = 1 is one sample\na policy is updated with several: let steps be 128"
        )
    players = [Player(environment) for _ in range(environments)]
    try:
        first = players[0]
        chance = torch.Generator().manual_seed(0)
        drawn = torch.randint(first.actions, (environments * steps,), generator=chance)
        seen = []
        for number, player in enumerate(players):
            player.begin(seed_of(0, number, 0))
        for step in range(steps):
            for number, player in enumerate(players):
                seen.append(player.observed)
                _, ended, cut = player.act(int(drawn[step * environments + number]))
                if ended or cut:
                    player.begin(seed_of(0, number, step + 1))
        rule = _Rule(torch.from_numpy(numpy.stack(seen)), first.actions, chance)
        splits = {"train": Split(rule.inputs, rule.targets)}
        for name, count in (("val", val), ("test", test)):
            if count:
                inputs = _beginnings(first, SEEDS[name], count)
                splits[name] = Split(inputs, rule(inputs))
    finally:
        for player in players:
            player.close()
    spec = DataSpec(
        input_shape=first.shape,
        task="classification",
        outputs=first.actions,
        classes=tuple(str(action) for action in range(first.actions)),
        class_counts=tuple(torch.bincount(rule.targets, minlength=first.actions).tolist()),
        sizes={name: len(split) for name, split in splits.items()},
        fingerprint=fingerprint(
            {f"{name}.{part}": getattr(split, part) for name, split in splits.items() for part in ("inputs", "targets")}
        ),
    )
    return Dataset(spec, splits)


class _Rule:
    """Targets that follow from observations: by parts of the order along a drawn direction, one part for each action.

    Args:
        inputs: ``(samples, ...)``; parts are of equal sizes in these.
        actions: how many there are.
        chance: draws the direction.
    """

    def __init__(self, inputs: Tensor, actions: int, chance: torch.Generator) -> None:
        self.inputs = inputs
        flat = inputs.flatten(1).double()
        self._scale = torch.randn(flat.shape[1], generator=chance, dtype=torch.float64) / (flat.std(0) + 1e-6)
        places = (flat @ self._scale).argsort(stable=True)
        self.targets = torch.empty(len(flat), dtype=torch.int64)
        self.targets[places] = torch.arange(len(flat)) * actions // len(flat)
        firsts = (torch.arange(1, actions) * len(flat) + actions - 1) // actions  # where each further part begins
        self._bounds = (flat @ self._scale)[places][firsts.clamp(max=len(flat) - 1)]

    def __call__(self, inputs: Tensor) -> Tensor:
        """The targets of other observations."""
        return torch.searchsorted(self._bounds, inputs.flatten(1).double() @ self._scale, right=True)


def _beginnings(player: Player, seed: int, count: int) -> Tensor:
    """First observations of episodes."""
    seen = []
    for number in range(count):
        player.begin(seed + number)
        seen.append(player.observed)
    return torch.from_numpy(numpy.stack(seen))
