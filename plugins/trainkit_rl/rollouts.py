"""What is played between two updates of a policy, and what its rewards say of each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy
import torch
from torch import Tensor

from trainkit import CheckpointError
from trainkit_rl.environment import Player, seed_of

# Gives preferences of actions (count, actions) and values (count,) of observations (count, ...), on the processor.
Policy = Callable[[Tensor], tuple[Tensor, Tensor]]
_ENVIRONMENTS, _ACTIONS = 1, 2  # what seeds are of


@dataclass(frozen=True)
class Bootstrapped:
    """Advantages by differences of values, over parts of episodes; see `trainkit_rl.ppo`."""

    gamma: float
    gae_lambda: float
    normalise: bool
    whole = False

    def judge(self, played: Played) -> tuple[Tensor, Tensor]:
        """Advantages and returns, ``(steps, environments)``."""
        advantages = generalised(played.rewards, played.values, played.after, played.over, self.gamma, self.gae_lambda)
        return advantages, advantages + played.values


@dataclass(frozen=True)
class Complete:
    """Advantages by the returns that episodes came to; see `trainkit_rl.reinforce`."""

    gamma: float
    baseline: bool
    normalise: bool
    whole = True

    def judge(self, played: Played) -> tuple[Tensor, Tensor]:
        """Advantages and returns, ``(steps, environments)``."""
        returns = discounted(played.rewards, played.rest, played.over, self.gamma)
        return returns - played.values if self.baseline else returns, returns


@dataclass
class Played:
    """Steps ``(steps, environments)``, float64 but for observations and actions.

    Args:
        observations: ``(steps, environments, ...)`` before each step.
        actions: int64.
        logs: logarithms of the probabilities with which they were taken.
        values: of the observations.
        rewards: of the steps.
        over: whether the episode was over after the step, at its end or cut off.
        after: value of what was observed next: 0 where an episode had come to its end.
        rest: ``(environments,)`` what episodes that go on still bring, discounted, where they are played to the end.
    """

    observations: Tensor
    actions: Tensor
    logs: Tensor
    values: Tensor
    rewards: Tensor
    over: Tensor
    after: Tensor
    rest: Tensor


@dataclass
class Told:
    """What there is to tell of episodes that have ended since the last line.

    Args:
        rewards: the sum of each.
        steps: made in all, those of the whole run.
    """

    rewards: list[float] = field(default_factory=list)
    steps: int = 0


def generalised(
    rewards: Tensor, values: Tensor, after: Tensor, over: Tensor, gamma: float, gae_lambda: float
) -> Tensor:
    """Generalised advantages: the sum over k of (gamma lambda)^k times delta(t + k), to the end of the episode.

    Args:
        rewards: ``(steps, ...)``.
        values: of the observations before the steps.
        after: of those after them; 0 where the episode has come to its end.
        over: whether the episode is over after the step.
        gamma: discount.
        gae_lambda: lambda.

    Source: Schulman et al. 2016, arXiv 1506.02438, eq. 16.
    """
    differences = rewards + gamma * after - values
    advantages = torch.empty_like(differences)
    later = torch.zeros_like(differences[0])
    for step in range(len(differences) - 1, -1, -1):
        later = differences[step] + gamma * gae_lambda * torch.where(over[step], 0.0, later)
        advantages[step] = later
    return advantages


def discounted(rewards: Tensor, rest: Tensor, over: Tensor, gamma: float) -> Tensor:
    """What each step and those after it in its episode bring, discounted; ``rest`` is what comes after the last one."""
    returns = torch.empty_like(rewards)
    later = rest
    for step in range(len(rewards) - 1, -1, -1):
        later = rewards[step] + gamma * torch.where(over[step], 0.0, later)
        returns[step] = later
    return returns


class Stage:
    """Copies of an environment that are played side by side.

    Args:
        name: the environment.
        copies: how many.
        seed: the run's; episodes follow from it, from the copy's number and their own.
    """

    def __init__(self, name: str, copies: int, seed: int) -> None:
        self.players = [Player(name) for _ in range(copies)]
        self.seed = seed
        self.episodes = [0] * copies  # begun, of each copy

    def play(self, policy: Policy, steps: int, number: int, told: Told, *, whole: bool, gamma: float) -> Played:
        """Play with actions drawn from the policy.

        Args:
            policy: the policy.
            steps: of each copy.
            number: of this call, from 0; what is drawn follows from it.
            told: gets the episodes that end, and the steps.
            whole: whether to begin with new episodes and play the last ones to their ends.
            gamma: discount of what these still bring.
        """
        players = self.players
        chance = torch.Generator().manual_seed(seed_of(self.seed, _ACTIONS, number))
        for copy in range(len(players)):
            if whole or not self.episodes[copy]:
                self._begin(copy)
        seen, rows = [], []
        cut: list[tuple[int, int, numpy.ndarray]] = []
        for step in range(steps):
            observed = torch.from_numpy(numpy.stack([player.observed for player in players]))
            preferences, values = policy(observed)
            actions, logs = drawn(preferences, torch.rand(len(players), generator=chance, dtype=torch.float64))
            rewards, over, ended = torch.zeros(3, len(players), dtype=torch.float64)
            for copy, player in enumerate(players):
                rewards[copy], at_end, cut_off = player.act(int(actions[copy]))
                if at_end or cut_off:
                    over[copy], ended[copy] = 1.0, float(at_end)
                    if not at_end:
                        cut.append((step, copy, player.observed))
                    told.rewards.append(player.reward)
                    self._begin(copy)
            seen.append(observed)
            rows.append((actions, logs, values, rewards, over.bool(), ended.bool()))
        told.steps += steps * len(players)
        acts, logs, values, rewards, over, ended = (torch.stack(part) for part in zip(*rows, strict=True))
        last = torch.from_numpy(numpy.stack([player.observed for player in players]))
        after = torch.cat((values[1:], policy(last)[1].unsqueeze(0)))
        if cut:
            found = policy(torch.from_numpy(numpy.stack([observed for *_, observed in cut])))[1]
            for (step, copy, _), value in zip(cut, found, strict=True):
                after[step, copy] = value
        after = torch.where(ended, 0.0, after)
        rest = torch.zeros(len(players), dtype=torch.float64)
        if whole:
            rest = self._finish(policy, chance, gamma, told)
        return Played(torch.stack(seen), acts, logs, values, rewards, over, after, rest)

    def _finish(self, policy: Policy, chance: torch.Generator, gamma: float, told: Told) -> Tensor:
        """Play every episode that has begun to its end; what each still brings, discounted."""
        rest = torch.zeros(len(self.players), dtype=torch.float64)
        going = [copy for copy, player in enumerate(self.players) if player.taken]
        weight = 1.0
        while going:
            observed = torch.from_numpy(numpy.stack([self.players[copy].observed for copy in going]))
            actions, _ = drawn(policy(observed)[0], torch.rand(len(going), generator=chance, dtype=torch.float64))
            told.steps += len(going)
            still = []
            for copy, action in zip(going, actions.tolist(), strict=True):
                reward, over = self.players[copy].to_its_end(action)
                rest[copy] += weight * reward
                if over:
                    told.rewards.append(self.players[copy].reward)
                else:
                    still.append(copy)
            going, weight = still, weight * gamma
        for player in self.players:
            player.forget()
        return rest

    def _begin(self, copy: int) -> None:
        self.players[copy].begin(seed_of(self.seed, _ENVIRONMENTS, copy, self.episodes[copy]))
        self.episodes[copy] += 1

    def save(self, whole: bool) -> dict[str, Any]:
        """Where each copy stands: the episodes begun, the seed of its own, the actions since, what it observes.

        Args:
            whole: whether every call begins with new episodes, so that the number of those begun is enough.
        """
        state: dict[str, Any] = {str(copy): {"episodes": begun} for copy, begun in enumerate(self.episodes)}
        for copy, player in enumerate(() if whole else self.players):
            state[str(copy)] |= {
                "seed": player.seed,
                "taken": torch.tensor(player.taken, dtype=torch.int64),
                "observed": torch.from_numpy(player.observed.copy()),
            }
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Bring each copy to where it stood, by its actions.

        Raises:
            CheckpointError: if there are others, or they come to something else.
        """
        if len(state) != len(self.players):
            raise CheckpointError(
                f"the checkpoint has {len(state)} environments, and the recipe environments = {len(self.players)}"
            )
        for copy, player in enumerate(self.players):
            held = state[str(copy)]
            self.episodes[copy] = held["episodes"]
            if "taken" in held:
                player.replay(held["seed"], held["taken"].tolist(), held["observed"].numpy())

    def close(self) -> None:
        """Close all copies."""
        for player in self.players:
            player.close()


def drawn(preferences: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Actions of a policy, and the logarithms of their probabilities.

    Args:
        preferences: ``(count, actions)``.
        numbers: ``(count,)`` uniform in [0, 1): each action follows from one.
    """
    logs = torch.log_softmax(preferences.double(), -1)
    actions = (logs.exp().cumsum(-1) <= numbers.unsqueeze(-1)).sum(-1).clamp(max=preferences.shape[-1] - 1)
    return actions, logs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def returns_of(
    name: str, seeds: Sequence[int], act: Callable[[Tensor], Tensor], between: Callable[[int], None] = lambda over: None
) -> tuple[list[float], list[int]]:
    """Play one episode for each seed to its end.

    Args:
        name: the environment.
        seeds: of the episodes.
        act: actions ``(count,)`` for observations ``(count, ...)``.
        between: told before each step how many are over; may end all by raising.

    Returns:
        The sum of rewards of each, and its steps.
    """
    players = [Player(name) for _ in seeds]
    try:
        for player, seed in zip(players, seeds, strict=True):
            player.begin(seed)
        going = list(players)
        while going:
            between(len(players) - len(going))
            actions = act(torch.from_numpy(numpy.stack([player.observed for player in going]))).tolist()
            going = [player for player, action in zip(going, actions, strict=True) if not player.to_its_end(action)[1]]
        return [player.reward for player in players], [len(player.taken) for player in players]
    finally:
        for player in players:
            player.close()
