"""One of several runs that are trained together, with the random numbers that it would have alone."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy
import torch

from trainkit.recipe import Recipe
from trainkit.run import Run
from trainkit.seeding import put_back_generators, random_generators


class Lane:
    """A run in a stack, and the states of the random generators that the run would have alone.

    When it is made, the global generators are taken for the run's own: make it right after `build.make_ready` or after
    a checkpoint's generators were put back.

    Args:
        run: the run, on a step boundary.
        recipe: its checked recipe.
    """

    def __init__(self, run: Run, recipe: Recipe) -> None:
        self.run = run
        self.recipe = recipe
        self.generator = torch.Generator()  # what dropout of the run's updates draws from
        self.hold()

    def hold(self) -> None:
        """Take the states of the global generators for this lane's."""
        self._python, self._numpy = random.getstate(), numpy.random.get_state()
        self.generator.set_state(torch.get_rng_state())
        self._device = torch.cuda.get_rng_state(self.run.device) if self.run.device.type == "cuda" else None

    def put(self) -> None:
        """Put this lane's states into the global generators."""
        random.setstate(self._python)
        numpy.random.set_state(self._numpy)
        torch.set_rng_state(self.generator.get_state())
        if self._device is not None:
            torch.cuda.set_rng_state(self._device, self.run.device)


@contextlib.contextmanager
def as_if_alone(lane: Lane) -> Iterator[None]:
    """Let whatever is called draw the random numbers that it would draw in this lane's run alone.

    The global generators are afterwards as they were before.
    """
    before, device = random_generators(lane.run.device), lane.run.device
    lane.put()
    try:
        yield
    finally:
        lane.hold()
        put_back_generators(before, device)
