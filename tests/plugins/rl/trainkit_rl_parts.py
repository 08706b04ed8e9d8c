"""Environments of a user's own, as a module given with -p registers them."""

from __future__ import annotations

import gymnasium
import numpy
from gymnasium import spaces


class Corridor(gymnasium.Env):
    """Six places in a row; the last one is worth 1, each step costs a tenth. Where it begins follows from the seed."""

    observation_space = spaces.Box(0, 1, (2,), numpy.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, jitter: float = 0.0, broken: bool = False) -> None:
        self.jitter, self.broken = jitter, broken
        self.seen = numpy.zeros(2, numpy.float32)  # one array for all observations, as some environments have it

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(4))
        return self.look(), {}

    def step(self, action):
        self.place = max(0, self.place + (1 if action else -1))
        ended = self.place == 5
        return self.look(), float("nan") if self.broken else 1.0 if ended else -0.1, ended, False, {}

    def look(self):
        noise = self.jitter * numpy.random.default_rng().random()
        self.seen[:] = self.place / 5 + noise, 1.0
        return self.seen


class Endless(Corridor):
    """The same, whose first place nobody leaves."""

    def step(self, action):
        self.place = 0
        return super().step(0)


class Dot(Corridor):
    """The same, whose place is seen as one number without an axis."""

    observation_space = spaces.Box(0, 1, (), numpy.float32)

    def look(self):
        return numpy.float32(self.place / 5)


class Numbers(Corridor):
    """The same, seen as a number from 3 to 8, with actions 1 and 2."""

    observation_space = spaces.Discrete(6, start=3)
    action_space = spaces.Discrete(2, start=1)

    def step(self, action):
        return super().step(action - 1)

    def look(self):
        return 3 + self.place


def registered() -> None:
    for name, made, options in (
        ("Corridor", Corridor, {}),
        ("Jittery", Corridor, {"jitter": 0.01}),
        ("Broken", Corridor, {"broken": True}),
        ("Numbers", Numbers, {}),
        ("Dot", Dot, {}),
        ("Endless", Endless, {}),
    ):
        if f"tests/{name}-v0" not in gymnasium.registry:
            limit = None if name == "Endless" else 12
            gymnasium.register(f"tests/{name}-v0", made, max_episode_steps=limit, kwargs=options)


registered()
