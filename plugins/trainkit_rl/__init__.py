"""Reinforcement learning: environments as data, policy gradients as losses, rollouts as callbacks.

Listing the components imports neither torch nor gymnasium.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from trainkit import (
    Component,
    Dataset,
    DataSpec,
    Fraction,
    NonNegative,
    NonNegativeInt,
    Positive,
    PositiveInt,
    hookimpl,
)

if TYPE_CHECKING:
    from torch import nn

    from trainkit import Loss, Problem

_GYMNASIUM = {"gymnasium": 'pip install "trainkit[rl]"'}
_OF_ROLLOUTS = {"builds_from_its_example": "it plays the environment of [data] gym, which other data have not"}


def gym(
    *,
    environment: str = "CartPole-v1",
    environments: PositiveInt = 8,
    steps: PositiveInt = 128,
    val: NonNegativeInt = 20,
    test: NonNegativeInt = 100,
) -> Dataset:
    """An environment of gymnasium that is played: an epoch is one pass over the newest environments x steps steps.

    What a run trains on ``[[callback]] ppo`` or ``reinforce`` plays, in the places of the samples. Those that are there
    before are steps of random actions, with a made-up rule as targets, so that a probe has something to learn. Samples
    for validation and test are the first observations of episodes whose seeds never change; the same callback plays
    these to their ends.

    Args:
        environment: the name with which it is registered, version included. Actions must be discrete, observations an
            array of numbers or one discrete number, of which a row of zeros and a one is made.
        environments: copies that are played side by side.
        steps: of each copy, before the policy is updated.
        val: episodes of an evaluation.
        test: episodes of the last one.

    Raises:
        DataError: if there is no such environment, or it has other actions or observations.
        MachineError: if the environment needs a library that is not installed.

    Source: Towers et al. 2024, "Gymnasium", arXiv 2407.17032.
    """
    from trainkit_rl.data import slots

    return slots(environment, environments, steps, val, test)


def actor_critic(
    data_spec: DataSpec, /, *, widths: tuple[PositiveInt, ...] = (64, 64), activation: Literal["tanh", "relu"] = "tanh"
) -> nn.Module:
    """Two networks of linear layers side by side: one gives the preferences of actions, one the value of the state.

    Args:
        widths: units of each hidden layer, of both networks.
        activation: the function after each hidden layer.

    Raises:
        DataError: if the data is no choice among actions.

    Source: two layers of 64 tanh units of Schulman et al. 2017, arXiv 1707.06347, section 6.1; orthogonal weights with
    gains sqrt(2), 0.01 for the policy's last layer and 1 for the value's of Andrychowicz et al. 2021, arXiv 2006.05990.
    """
    from trainkit_rl.models import ActorCritic

    return ActorCritic(data_spec, widths, activation)


def ppo_loss(
    data_spec: DataSpec, /, *, clip: Positive = 0.2, value: NonNegative = 0.5, entropy: NonNegative = 0.0
) -> Loss:
    """Clipped surrogate of proximal policy optimisation, with the value's squared error and a bonus for entropy.

    Its targets are steps that were played: ``(batch, 4)`` of action, advantage, return, and the logarithm of the
    probability with which the action was taken. Of actions alone it is the mean of -log of their probabilities, and of
    the squared value.

    Args:
        clip: how far the ratio of new to old probability may go from 1 before it stops counting.
        value: weight of the mean squared error of the value.
        entropy: weight of the entropy of the policy, which is subtracted.

    Raises:
        DataError: if the data is no choice among actions.

    Source: Schulman et al. 2017, arXiv 1707.06347, eq. 7 and 9.
    """
    from trainkit_rl.losses import Clipped

    return Clipped(data_spec, value, entropy, clip)


def reinforce_loss(data_spec: DataSpec, /, *, value: NonNegative = 0.5, entropy: NonNegative = 0.0) -> Loss:
    """The policy gradient: -log of an action's probability times its advantage, with the value's squared error.

    Targets are those of ``ppo``; the old probabilities are not used.

    Args:
        value: weight of the mean squared error of the value.
        entropy: weight of the entropy of the policy, which is subtracted.

    Raises:
        DataError: if the data is no choice among actions.

    Source: Williams 1992, "Simple statistical gradient-following algorithms for connectionist reinforcement learning".
    """
    from trainkit_rl.losses import Gradient

    return Gradient(data_spec, value, entropy)


def ppo(
    data_spec: DataSpec,
    seed: int,
    /,
    *,
    gamma: Fraction = 0.99,
    gae_lambda: Fraction = 0.95,
    passes: PositiveInt = 10,
    normalise: bool = True,
    greedy: bool = True,
) -> object:
    """Play with the policy as it is, then train on what was played for some epochs: proximal policy optimisation.

    Every ``passes`` epochs the environments are played on from where they stand, with actions drawn from the policy.
    Where an episode is cut off by its limit of steps, the value of its last observation stands for the rest.

    Args:
        gamma: discount of a reward for each step that it lies ahead.
        gae_lambda: 1 estimates advantages from rewards as far as they are known, 0 from the next value alone.
        passes: epochs over what was played before it is played anew.
        normalise: give the advantages of what was played mean 0 and standard deviation 1.
        greedy: evaluate the likeliest actions; false draws them, from fixed seeds.

    Source: Schulman et al. 2017, arXiv 1707.06347, algorithm 1; advantages of Schulman et al. 2016, arXiv 1506.02438,
    eq. 16.
    """
    from trainkit_rl.playing import Playing
    from trainkit_rl.rollouts import Bootstrapped

    return Playing(data_spec, seed, Bootstrapped(gamma, gae_lambda, normalise), passes, greedy)


def reinforce(
    data_spec: DataSpec,
    seed: int,
    /,
    *,
    gamma: Fraction = 0.99,
    baseline: bool = True,
    normalise: bool = True,
    greedy: bool = True,
) -> object:
    """Play episodes with the policy as it is, and train one epoch on them with the returns that they came to.

    Every epoch begins with new episodes. Those that are not over when all places are filled are played to their ends,
    so that every return is exact.

    Args:
        gamma: discount of a reward for each step that it lies ahead.
        baseline: subtract the value that the model gives from the return.
        normalise: give the advantages of what was played mean 0 and standard deviation 1.
        greedy: evaluate the likeliest actions; false draws them, from fixed seeds.

    Source: Williams 1992, "Simple statistical gradient-following algorithms for connectionist reinforcement learning".
    """
    from trainkit_rl.playing import Playing
    from trainkit_rl.rollouts import Complete

    return Playing(data_spec, seed, Complete(gamma, baseline, normalise), 1, greedy)


@hookimpl
def trainkit_check_recipe(recipe: Mapping[str, Any]) -> list[Problem]:
    """Find tables that belong together and are not."""
    from trainkit_rl.checks import problems

    return list(problems(recipe))


@hookimpl
def trainkit_components() -> list[Component]:
    """List the components."""
    plays: dict[str, Any] = {"owns": ("step",), "figures": {"return": True}, "libraries": _GYMNASIUM}
    return [
        Component(
            "data",
            gym,
            example={"environments": 4, "steps": 32, "val": 4, "test": 4},
            libraries=_GYMNASIUM,
            exempt={"builds_from_its_example": "it is refused where no callback plays it"},
        ),
        Component("model", actor_critic, example={"widths": [16]}),
        Component("loss", ppo_loss, name="ppo", example={"entropy": 0.01}),
        Component("loss", reinforce_loss, name="reinforce", example={"value": 0.25}),
        Component("callback", ppo, example={"gae_lambda": 0.9, "passes": 4}, exempt=_OF_ROLLOUTS, **plays),
        Component("callback", reinforce, example={"baseline": False}, exempt=_OF_ROLLOUTS, **plays),
    ]
