"""The global generators of random numbers: seeded anew for each purpose, kept, and put back."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from typing import Any

import numpy
import torch


def seed_everything(seed: int, purpose: str) -> None:
    """Seed every global generator with a number of its own for each purpose.

    Building the model then draws the same numbers whatever the data drew before it.
    """
    number = int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:4], "little")
    random.seed(number)
    numpy.random.seed(number)
    # Where there is none, torch would note for each kind of device from where it was seeded: half a millisecond.
    torch.manual_seed(number) if torch.accelerator.is_available() else torch.default_generator.manual_seed(number)


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of every global random generator."""
    version, internal, gauss = random.getstate()
    drawn: Any = numpy.random.get_state()
    kind, keys, position, has_gauss, cached = drawn
    state: dict[str, Any] = {
        "python": [version, torch.from_numpy(numpy.array(internal, dtype=numpy.int64)), gauss],
        "numpy": [kind, torch.from_numpy(keys.astype(numpy.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def random_generators(device: torch.device) -> tuple[Any, ...]:
    """The state of every global random generator as it is, for `put_back_generators` in the same process."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return random.getstate(), numpy.random.get_state(), torch.get_rng_state(), cuda


def put_back_generators(state: tuple[Any, ...], device: torch.device) -> None:
    """Undo what was drawn since `random_generators`."""
    random.setstate(state[0])
    numpy.random.set_state(state[1])
    torch.set_rng_state(state[2])
    if state[3] is not None:
        torch.cuda.set_rng_state(state[3], device)


def restore_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Set every global random generator to what `random_state` gave."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal.tolist()), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    numpy.random.set_state((kind, keys.numpy().astype(numpy.uint32), position, has_gauss, cached))
    # Copies: torch reads the state as a C structure, and the process dies where a part of a file has an odd address.
    torch.set_rng_state(state["torch"].clone())
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].clone(), device)
