"""Order and random numbers are functions of their key alone."""

import pytest
import torch

from trainkit.feed import order
from trainkit.feed.order import Chance, key_of, permutation, scramble_, uniform


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_permutation_holds_every_number_once(count: int) -> None:
    assert permutation(count, "order", 1, 2).sort().values.tolist() == list(range(count))


@pytest.mark.parametrize("count", [1, 2, 1000])
def test_the_processors_order_is_that_of_devices(count: int) -> None:
    states = torch.arange(count).mul_(0x9E3779B97F4A7C15 - (1 << 64)).add_(key_of("order", 3, 4))
    assert torch.equal(permutation(count, "order", 3, 4), scramble_(states).argsort())


def test_permutation_depends_on_every_part_of_the_key() -> None:
    orders = {tuple(permutation(50, *key).tolist()) for key in [("a", 0, 0), ("a", 0, 1), ("a", 1, 0), ("b", 0, 0)]}
    assert len(orders) == 4


def scrambled(state: int) -> int:
    """SplitMix64's output function in plain integers."""
    mask = (1 << 64) - 1
    state &= mask
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & mask
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB & mask
    return state ^ (state >> 31)


def test_numbers_are_those_of_splitmix64() -> None:
    # The first outputs for seed 0 in the reference implementation. A change would silently break the exact
    # continuation of every saved run.
    step = 0x9E3779B97F4A7C15
    assert [scrambled(step * n) for n in (1, 2)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]
    key = key_of("draw", 17)
    assert key == -1323714234397192518
    expected = [[(scrambled(key + step * n + 0xD1B54A32D192ED03 * c) >> 40) / 2**24 for c in (0, 1)] for n in (0, 9)]
    assert uniform(torch.tensor([0, 9]), 2, "draw", 17).tolist() == expected
    hashes = [scrambled(key + step * n) for n in range(50)]
    signed = [value - (1 << 64) if value >> 63 else value for value in hashes]
    assert permutation(50, "draw", 17).tolist() == sorted(range(50), key=signed.__getitem__)


def test_first_places_are_uniform() -> None:
    firsts = torch.stack([permutation(10, "order", seed, 0) for seed in range(4000)])
    counts = torch.stack([torch.bincount(column, minlength=10) for column in firsts.T]).double()
    chi_squared = ((counts - 400) ** 2 / 400).sum(1)
    assert chi_squared.max() < 35  # 9 degrees of freedom: 27.9 is the 0.1 % point, and there are ten columns


def test_draws_are_uniform_and_uncorrelated() -> None:
    draws = uniform(torch.arange(100_000), 3, "x")
    assert draws.dtype == torch.float32
    assert draws.min() >= 0
    assert draws.max() < 1
    ordered = draws.sort(0).values
    distance = (ordered - torch.linspace(0, 1, 100_000)[:, None]).abs().max()
    assert distance < 0.0062  # Kolmogorov-Smirnov, 0.1 % point
    assert (torch.corrcoef(draws.T).fill_diagonal_(0)).abs().max() < 0.012
    assert torch.corrcoef(torch.stack((draws[:-1, 0], draws[1:, 0])))[0, 1].abs() < 0.012


@pytest.mark.parametrize("at_once", [1, 5, 12, 4096])
def test_draws_do_not_depend_on_the_batch_they_are_made_in(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(order, "DRAWN_AT_ONCE", at_once)
    index = permutation(40, "order", 0, 0)
    whole = Chance(5, 2, index)
    for first in range(0, 40, 8):
        alone = Chance(5, 2, index[first : first + 8])
        for _ in range(2):  # a batch may be drawn for again
            assert torch.equal(whole.draw(0, first, first + 8)("crop", 2), alone.draw(0, 0, 8)("crop", 2))


def test_draws_differ_by_name_scope_epoch_and_seed() -> None:
    index = torch.arange(6)
    draws = [
        Chance(0, 0, index).draw(0, 0, 6)("a"),
        Chance(0, 0, index).draw(0, 0, 6)("b"),
        Chance(0, 0, index).draw(1, 0, 6)("a"),
        Chance(0, 1, index).draw(0, 0, 6)("a"),
        Chance(1, 0, index).draw(0, 0, 6)("a"),
    ]
    assert len({tuple(draw.flatten().tolist()) for draw in draws}) == 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_same_bits() -> None:
    assert torch.equal(permutation(1000, "order", 1, 1, device="cuda").cpu(), permutation(1000, "order", 1, 1))
    index = torch.arange(1000)
    assert torch.equal(uniform(index.cuda(), 3, "x").cpu(), uniform(index, 3, "x"))
