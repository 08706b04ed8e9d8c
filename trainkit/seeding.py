"""The global generators of random numbers, seeded anew for each purpose."""

from __future__ import annotations

import hashlib
import random

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
