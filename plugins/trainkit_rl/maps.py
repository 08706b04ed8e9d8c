"""Pictures of a policy: what it does, and what it expects, over the two observed numbers that it looks at most."""

from __future__ import annotations

from typing import Any

import numpy
import torch
from torch import Tensor

from trainkit_rl.rollouts import Policy

SIDE = 64  # places along each number
PIXELS = 5  # along the side of a place
REACH = 2.5  # standard deviations on each side of the mean
# Of actions, the first two black and white; Okabe & Ito's colours for more, which the colour-blind tell apart.
_TWO = ((0, 0, 0), (255, 255, 255))
_COLOURS = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (213, 94, 0), (204, 121, 167), (86, 180, 233), (240, 228, 66))


def maps(policy: Policy, observations: Tensor) -> dict[str, Any]:
    """Pixels of each picture by name, which says the numbers: those along the picture and from its foot to its head.

    The other numbers are at their means.

    Args:
        policy: the policy.
        observations: ``(steps, numbers)`` that were met; pictures reach as far as these.

    Returns:
        ``policy_...`` shows each action by its colour, as far as it is likely; ``value_...`` is bright where much is
        expected. Nothing where an observation is no row of two numbers at least, or all of them are 0 or 1.
    """
    if observations.dim() != 2 or observations.shape[1] < 2 or bool(((observations == 0) | (observations == 1)).all()):
        return {}
    observations = observations.double()
    mean, spread = observations.mean(0), observations.std(0)
    across, up = looked_at(policy, mean, spread)
    places = torch.linspace(-REACH, REACH, SIDE, dtype=torch.float64)
    rows = mean.repeat(SIDE, SIDE, 1)
    rows[..., across] += places * spread[across]
    rows[..., up] += (places * spread[up]).flip(0)[:, None]
    preferences, values = policy(rows.flatten(0, 1))
    chances = preferences.softmax(-1).numpy()
    of_actions = _TWO if chances.shape[1] == 2 else [_COLOURS[n % len(_COLOURS)] for n in range(chances.shape[1])]
    values = values - values.min()
    bright = (values / values.max().clamp(min=1e-12)).numpy()
    name = f"by_{across}_and_{up}"
    pictures = {f"policy_{name}": chances @ numpy.array(of_actions, float), f"value_{name}": 255 * bright}
    return {name: _large(pixels.reshape(SIDE, SIDE, -1).squeeze()) for name, pixels in pictures.items()}


def looked_at(policy: Policy, mean: Tensor, spread: Tensor) -> tuple[int, int]:
    """The two numbers of an observation whose spread moves the policy most, in their order.

    Args:
        policy: the policy.
        mean: of observations, ``(numbers,)``.
        spread: their standard deviations.
    """
    steps = torch.cat((torch.diag(spread), -torch.diag(spread)))
    chances = policy(torch.cat((mean[None], mean + steps)))[0].softmax(-1)
    moved = (chances[1:] - chances[0]).abs().sum(-1).view(2, -1).sum(0)
    first, second = sorted(moved.topk(2).indices.tolist())
    return first, second


def _large(pixels: numpy.ndarray) -> numpy.ndarray:
    return pixels.round().astype(numpy.uint8).repeat(PIXELS, axis=0).repeat(PIXELS, axis=1)
