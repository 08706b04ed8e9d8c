"""Environments of gymnasium: opened with one message where that cannot be, and played with seeds of their own."""

from __future__ import annotations

import difflib
import math
from typing import Any

import numpy

from trainkit import CheckpointError, DataError, MachineError, RunError

_SHOWN = 6  # names of environments that a message lists
ENDLESS = 100_000  # steps after which an episode that no limit cuts off is taken for one without an end


def opened(name: str) -> Any:
    """An environment by the name it is registered with.

    Raises:
        DataError: if none has that name, or it cannot be made.
        MachineError: if it needs a library that is not installed.
    """
    import gymnasium

    if name not in gymnasium.registry:
        near = difflib.get_close_matches(name, gymnasium.registry, 1, 0.5)
        known = ", ".join(sorted(gymnasium.registry)[:_SHOWN])
        hint = f"did you mean '{near[0]}'?  " if near else ""
        raise DataError(
            f"gymnasium has no environment '{name}'\n  {hint}names bear their version; {len(gymnasium.registry)} are "
            f"registered, such as {known}. A package or a module given with -p may register more"
        )
    try:
        return gymnasium.make(name, disable_env_checker=True)
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise MachineError(f"[data] gym: environment '{name}' needs what is not installed here: {error}") from error
    except Exception as error:  # whatever a stranger's environment raises
        raise DataError(f"environment '{name}' cannot be made: {type(error).__name__}: {error}") from error


class Player:
    """One copy of an environment, its observations float32 arrays and its actions numbers from 0.

    Args:
        name: the environment.

    Attributes:
        shape: of an observation.
        actions: how many there are.
        seed: of the episode that is played.
        taken: actions since it began: with the seed they say where it stands.
        observed: the newest observation.
        reward: of the episode so far.

    Raises:
        DataError: if actions are not discrete, or observations no array and no discrete number.
        MachineError: if a library is missing.
    """

    def __init__(self, name: str) -> None:
        from gymnasium import spaces

        self.name = name
        self._environment = opened(name)
        seen, acts = self._environment.observation_space, self._environment.action_space
        if not isinstance(acts, spaces.Discrete):
            raise DataError(
                f"environment '{name}' has actions {_shown(acts)}\n  ppo and reinforce choose among discrete actions; "
                "take an environment that has them"
            )
        if not isinstance(seen, spaces.Box | spaces.Discrete):
            raise DataError(
                f"environment '{name}' has observations {_shown(seen)}\n  take one that observes an array of numbers "
                "(Box) or one number (Discrete); gymnasium.wrappers.FlattenObservation makes an array of others"
            )
        self._first = int(acts.start)
        self._ones = (int(seen.start), int(seen.n)) if isinstance(seen, spaces.Discrete) else None
        self._limited = getattr(self._environment.spec, "max_episode_steps", None) is not None
        self.actions = int(acts.n)
        self.shape = (self._ones[1],) if self._ones is not None else tuple(seen.shape or (1,))
        self.taken: list[int] = []
        self.forget()

    def begin(self, seed: int) -> None:
        """Begin an episode, which follows from the seed and the actions."""
        observed, _ = self._environment.reset(seed=seed)
        self.seed, self.reward, self.taken = seed, 0.0, []
        self.observed = self._array(observed)

    def act(self, action: int) -> tuple[float, bool, bool]:
        """Make a step: its reward, whether the episode has come to its end, and whether it was cut off.

        Raises:
            RunError: if the environment gives what is not finite.
        """
        observed, reward, ended, cut, _ = self._environment.step(action + self._first)
        self.observed, reward = self._array(observed), float(reward)
        if not (math.isfinite(reward) and numpy.isfinite(self.observed).all()):
            raise RunError(
                f"environment '{self.name}' gives what is not finite: reward {reward}, observation "
                f"{self.observed.ravel()[:8].tolist()}, at step {len(self.taken)} of the episode of seed {self.seed}"
            )
        self.taken.append(action)
        self.reward += reward
        return reward, bool(ended), bool(cut)

    def to_its_end(self, action: int) -> tuple[float, bool]:
        """Make a step of an episode that is played to its end: its reward, and whether the episode is over.

        Raises:
            RunError: as `act`, or if the episode has no end.
        """
        reward, ended, cut = self.act(action)
        if len(self.taken) >= ENDLESS and not (self._limited or ended or cut):
            raise RunError(
                f"environment '{self.name}' has no limit of steps, and its episode of seed {self.seed} is not over "
                f"after {ENDLESS:,}\n  register it with max_episode_steps, or, where only the likeliest actions go on "
                "forever, write greedy = false in [[callback]]"
            )
        return reward, ended or cut

    def forget(self) -> None:
        """Stand nowhere: the next episode begins anew."""
        self.seed, self.reward, self.taken = 0, 0.0, []
        self.observed = numpy.zeros(self.shape, numpy.float32)

    def replay(self, seed: int, taken: list[int], observed: numpy.ndarray) -> None:
        """Come to where an episode stood.

        Raises:
            CheckpointError: if it comes to something else.
        """
        self.begin(seed)
        for number, action in enumerate(taken):
            if not 0 <= action < self.actions:
                raise CheckpointError(f"environment '{self.name}' has no action {action}, which the checkpoint names")
            _, ended, cut = self.act(action)
            if ended or cut:
                raise CheckpointError(self._other(f"the episode ends after {number + 1} of {len(taken)} steps"))
        if not numpy.array_equal(self.observed, observed):
            raise CheckpointError(self._other("the last observation is another one"))

    def close(self) -> None:
        """Give back what the environment holds."""
        self._environment.close()

    def _other(self, what: str) -> str:
        return (
            f"environment '{self.name}' does not come back to where the checkpoint was saved: {what}\n  the same seed "
            "and actions must give the same observations: use the versions of the environment and of its libraries "
            "that the run began with"
        )

    def _array(self, observed: Any) -> numpy.ndarray:
        if self._ones is None:
            # A copy: some environments go on with their own.
            return numpy.array(observed, numpy.float32).reshape(self.shape)
        row = numpy.zeros(self._ones[1], numpy.float32)
        row[int(observed) - self._ones[0]] = 1.0
        return row


def seed_of(*numbers: int) -> int:
    """A seed that follows from numbers: of a run, a copy of the environment, an episode."""
    return int(numpy.random.SeedSequence(numbers).generate_state(1)[0])


def _shown(space: Any) -> str:
    return " ".join(str(space).split())[:80]
