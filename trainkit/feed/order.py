"""Order and chance as pure functions: of (seed, epoch), and of (seed, epoch, sample index, name).

Everything rests on a hash of 64-bit integers, which every device computes alike. So workers, batch sizes, resumes and
restarts change nothing, and no random state is kept anywhere.
"""

from __future__ import annotations

import hashlib

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

# SplitMix64: the odd step between states, and the multipliers of its output function.
# Source: Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators", figure 16.
_STEP = 0x9E3779B97F4A7C15
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_SHIFTS = (30, 27, 31)
_MASK = (1 << 64) - 1
_COLUMN_STEP = 0xD1B54A32D192ED03

DRAWN_AT_ONCE = 4096  # samples, whose numbers still lie in the caches
_NONE = torch.empty(0)


def _signed(value: int) -> int:
    """The same 64 bits as torch's int64 holds them."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def key_of(*parts: int | str) -> int:
    """Hash numbers and words to 64 bits, signed."""
    text = "\0".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little", signed=True)


def _shifted(values: Tensor, bits: int) -> Tensor:
    # torch shifts the sign in; the mask takes it out again.
    return (values >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def scramble_(values: Tensor) -> Tensor:
    """Apply SplitMix64's output function in place: a bijection of int64 whose result looks random."""
    for bits, multiplier in zip(_SHIFTS, _MULTIPLIERS, strict=False):
        values.bitwise_xor_(_shifted(values, bits)).mul_(_signed(multiplier))
    return values.bitwise_xor_(_shifted(values, _SHIFTS[2]))


def permutation(count: int, *key: int | str, device: torch.device | str = "cpu") -> Tensor:
    """The numbers below ``count`` in an order that ``key`` alone decides, the same on every device.

    Args:
        count: how many.
        key: what the order is a function of, such as ``"train", seed, epoch``.
        device: where the result lives and is computed.

    Returns:
        ``(count,)`` int64.
    """
    # A bijection of distinct numbers has no ties, so every sorting algorithm gives the same order. NumPy's is up to
    # four times as fast as torch's on one processor, and its operations on short arrays are cheaper.
    if torch.device(device).type == "cpu":
        states = numpy.arange(count, dtype=numpy.uint64)
        states *= _STEP
        states += key_of(*key) & _MASK
        return torch.from_numpy(_scrambled(states).argsort())
    hashes = torch.arange(count, dtype=torch.int64, device=device).mul_(_signed(_STEP)).add_(key_of(*key))
    return scramble_(hashes).argsort()


def permutations(count: int, first: int, number: int, *key: int | str) -> Tensor:
    """Several orders of the numbers below ``count``: row r is a function of ``key`` and ``first + r``.

    Returns:
        ``(number, count)`` int64.
    """
    states = numpy.arange(count, dtype=numpy.uint64)
    states *= _STEP
    states += key_of(*key) & _MASK
    rows = numpy.arange(first, first + number, dtype=numpy.uint64)
    rows *= _COLUMN_STEP
    return torch.from_numpy(_scrambled(states + _scrambled(rows).view(numpy.uint64)[:, None]).argsort(axis=1))


def draws(count: int, below: int, *key: int | str) -> Tensor:
    """Whole numbers from 0 to ``below - 1`` with replacement, a function of ``key`` alone.

    Returns:
        ``(count,)`` int64. What 2**64 leaves over makes no number likelier by more than ``below`` in 2**64.
    """
    states = numpy.arange(count, dtype=numpy.uint64)
    states *= _STEP
    states += key_of(*key) & _MASK
    return torch.from_numpy((_scrambled(states).view(numpy.uint64) % numpy.uint64(below)).astype(numpy.int64))


def _scrambled(states: NDArray[numpy.uint64]) -> NDArray[numpy.int64]:
    """As `scramble_`, in NumPy."""
    for bits, multiplier in zip(_SHIFTS, _MULTIPLIERS, strict=False):
        states ^= states >> bits
        states *= multiplier
    states ^= states >> _SHIFTS[2]
    return states.view(numpy.int64)  # in the order of signed numbers, which torch sorts


def uniform(index: Tensor, count: int, *key: int | str) -> Tensor:
    """Uniform float32 numbers in [0, 1), a function of each index, the column and ``key`` alone.

    Args:
        index: ``(batch,)`` int64.
        count: numbers for each index.
        key: what else the numbers are a function of.

    Returns:
        ``(batch, count)`` float32, multiples of 2**-24, on the device of ``index``.
    """
    states = (index * _signed(_STEP)).add_(key_of(*key)).unsqueeze(1)
    if count != 1:
        states = states + torch.arange(count, device=index.device).mul_(_signed(_COLUMN_STEP))
    return _shifted(scramble_(states), 40).to(torch.float32).mul_(2.0**-24)


class Chance:
    """The random numbers of the samples of an epoch, in its order or in a part of it.

    Numbers are made for many samples at once and handed out batch by batch: few operations a batch.

    Args:
        seed: the recipe's seed.
        epoch: the epoch's number.
        index: ``(samples,)`` int64, each sample's number in its split; one that comes again in the epoch has a number
            of samples added each time.
        samples: that number of samples, where some come again; 0 where each comes once.
    """

    def __init__(self, seed: int, epoch: int, index: Tensor, samples: int = 0) -> None:
        self.epoch = epoch
        self._seed = seed
        self._index = index
        self._samples = samples
        self._made: dict[tuple[int, str, int, bool], tuple[int, Tensor]] = {}

    def draw(self, scope: int, first: int, end: int) -> Drawer:
        """Give the `Draw` of rows ``first`` to ``end`` for the augmentation at position ``scope``."""
        return Drawer(self, scope, first, end)

    def numbers(self, scope: int, first: int, end: int, name: str, count: int, lasting: bool) -> Tensor:
        """``(end - first, count)`` numbers of the rows ``first`` to ``end``."""
        made = scope, name, count, lasting
        begin, numbers = self._made.get(made, (0, _NONE))
        if not begin <= first <= end <= begin + len(numbers):
            begin, rows = first, self._index[first : max(end, first + DRAWN_AT_ONCE)]
            key = ("lasting", self._seed) if lasting else ("draw", self._seed, self.epoch)
            if lasting and self._samples:
                rows = rows % self._samples
            numbers = uniform(rows, count, *key, scope, name)
            self._made[made] = begin, numbers
        return numbers[first - begin : end - begin]


class Drawer:
    """The `Draw` of a batch: rows ``first`` to ``end`` of a chance, for one augmentation."""

    __slots__ = ("_chance", "_end", "_first", "_scope")

    def __init__(self, chance: Chance, scope: int, first: int, end: int) -> None:
        self._chance = chance
        self._scope = scope
        self._first = first
        self._end = end

    @property
    def epoch(self) -> int:
        """The epoch's number, from 0."""
        return self._chance.epoch

    def __call__(self, name: str, count: int = 1, /) -> Tensor:
        """``count`` numbers a sample, of this epoch."""
        return self._chance.numbers(self._scope, self._first, self._end, name, count, False)

    def lasting(self, name: str, count: int = 1, /) -> Tensor:
        """``count`` numbers a sample, the same in every epoch."""
        return self._chance.numbers(self._scope, self._first, self._end, name, count, True)
