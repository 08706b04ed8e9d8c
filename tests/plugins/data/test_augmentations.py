"""Augmentations against slow references and the laws they claim."""

from typing import Any

import pytest
import torch
from torch.nn import functional

import trainkit_data
from trainkit import Batch, DataError, DataSpec, Draw
from trainkit.feed.order import Chance
from trainkit_data.changes import cutmix, cutout, flip, mixup, random_crop
from trainkit_data.crops import below
from trainkit_data.mixing import symmetric_beta

SPEC = DataSpec((3, 10, 12), "classification", 4, tuple("abcd"))
SAMPLES = 24


def drawing(samples: int = SAMPLES, seed: int = 0) -> Draw:
    return Chance(seed, 0, torch.arange(samples)).draw(0, 0, samples)


@pytest.fixture(params=[torch.uint8, torch.float32], ids=["bytes", "floats"])
def batch(request: pytest.FixtureRequest) -> Batch:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(1, 256, (SAMPLES, 3, 10, 12), dtype=torch.uint8, generator=generator)
    return Batch(pixels.to(request.param), torch.arange(SAMPLES) % 4, torch.arange(SAMPLES))


@pytest.mark.parametrize("mode", ["zero", "reflect"])
@pytest.mark.parametrize("padding", [0, 1, 4])
def test_crop_is_what_padding_and_cutting_each_image_gives(batch: Batch, mode: Any, padding: int) -> None:
    draw = drawing()
    result = random_crop(SPEC, padding=padding, mode=mode)(batch, draw)
    how = "reflect" if mode == "reflect" else "constant"
    padded = functional.pad(batch.inputs.float(), (padding,) * 4, mode=how).to(batch.inputs.dtype)
    places = below(draw("place", 2), 2 * padding + 1).tolist()
    for number, (row, column) in enumerate(places):
        assert torch.equal(result.inputs[number], padded[number, :, row : row + 10, column : column + 12])
    assert torch.equal(result.targets, batch.targets)


def test_crop_reaches_every_place_equally_often() -> None:
    places = below(drawing(81_000)("place", 2), 9)
    counts = torch.bincount(places[:, 0] * 9 + places[:, 1], minlength=81).double()
    assert len(counts) == 81
    assert ((counts - 1000) ** 2 / 1000).sum() < 125  # 80 degrees of freedom: 0.1 % point


def test_flip_mirrors_whole_images(batch: Batch) -> None:
    result = flip(SPEC, probability=0.5)(batch, drawing()).inputs
    mirrored = batch.inputs.flip(-1)
    kinds = [
        (torch.equal(one, old), torch.equal(one, new))
        for one, old, new in zip(result, batch.inputs, mirrored, strict=True)
    ]
    assert set(kinds) == {(True, False), (False, True)}
    assert torch.equal(flip(SPEC, probability=1.0)(batch, drawing()).inputs, mirrored)
    assert torch.equal(flip(SPEC, probability=0.0)(batch, drawing()).inputs, batch.inputs)


def test_alternating_flip_shows_both_sides_in_any_two_epochs(batch: Batch) -> None:
    mirrored = batch.inputs.flip(-1)
    alternating = flip(SPEC, probability=0.5, alternate=True)
    epochs = [alternating(batch, Chance(3, epoch, batch.index).draw(0, 0, SAMPLES)).inputs for epoch in range(4)]
    sides = [[torch.equal(one, new) for one, new in zip(shown, mirrored, strict=True)] for shown in epochs]
    assert set(sides[0]) == {True, False}
    assert sides[1] == sides[3] == [not side for side in sides[0]]
    assert sides[2] == sides[0]
    # Of the sample, whatever its place, and of the seed.
    backwards = Chance(3, 0, batch.index.flip(0)).draw(0, 0, SAMPLES)
    turned = Batch(batch.inputs.flip(0), batch.targets, batch.index.flip(0))
    assert torch.equal(alternating(turned, backwards).inputs.flip(0), epochs[0])
    assert not torch.equal(alternating(batch, Chance(4, 0, batch.index).draw(0, 0, SAMPLES)).inputs, epochs[0])


def test_lasting_numbers_are_their_own_and_not_those_of_any_epoch() -> None:
    index = torch.arange(SAMPLES)
    draws = [Chance(0, epoch, index).draw(1, 0, SAMPLES) for epoch in range(3)]
    assert [draw.epoch for draw in draws] == [0, 1, 2]
    lasting = [draw.lasting("side", 2) for draw in draws]
    assert all(torch.equal(one, lasting[0]) for one in lasting)
    assert all(not torch.equal(draw("side", 2), lasting[0]) for draw in draws)


@pytest.mark.parametrize("size", [1, 4, 5, 40])
def test_cutout_blackens_one_square(batch: Batch, size: int) -> None:
    draw = drawing()
    before = batch.inputs.clone()
    result = cutout(SPEC, size=size)(batch, draw).inputs
    assert torch.equal(batch.inputs, before)
    rows = below(draw("centre", 2)[:, 0], 10)
    columns = below(draw("centre", 2)[:, 1], 12)
    for number in range(SAMPLES):
        expected = batch.inputs[number].clone()
        top, left = int(rows[number]) - size // 2, int(columns[number]) - size // 2
        expected[:, max(0, top) : top + size, max(0, left) : left + size] = 0
        assert torch.equal(result[number], expected)


@pytest.mark.parametrize("size", [1, 4, 10])
def test_cutout_inside_takes_whole_squares_everywhere(size: int) -> None:
    count = 4000
    whole = Batch(torch.ones(count, 1, 10, 12), torch.zeros(count, dtype=torch.int64), torch.arange(count))
    holes = cutout(SPEC, size=size, inside=True)(whole, drawing(count)).inputs == 0
    assert torch.equal(holes.sum((1, 2, 3)), torch.full((count,), size * size))
    corners = {tuple(hole.nonzero()[0].tolist()) for hole in holes[:, 0]}
    assert corners == {(row, column) for row in range(11 - size) for column in range(13 - size)}


def test_cutout_fills_bytes_with_the_mean_that_they_are_standardised_by(batch: Batch) -> None:
    spec = DataSpec((3, 10, 12), "classification", 4, tuple("abcd"), input_mean=(10.4, 20.0, 30.6))
    filled = cutout(spec, size=4, fill="mean")(batch, drawing()).inputs
    holes = cutout(SPEC, size=4)(batch, drawing()).inputs == 0
    for channel, mean in enumerate((10, 20, 31)):
        expected = mean if batch.inputs.dtype is torch.uint8 else 0
        assert (filled[:, channel][holes[:, channel]] == expected).all()
    assert torch.equal(filled[~holes], batch.inputs[~holes])
    with pytest.raises(DataError, match="needs size up to the image's 10x12, got 11"):
        cutout(SPEC, size=11, inside=True)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0])
def test_weights_follow_the_beta_distribution(alpha: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    weights = symmetric_beta(drawing(50_000)("weight", 2), alpha)
    assert stats.kstest(weights.double().numpy(), stats.beta(alpha, alpha).cdf).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [1e-3, 1e3])
def test_extreme_weights_stay_in_range(alpha: float) -> None:
    corners = torch.tensor([0.0, 0.25, 0.5, 0.75, 1 - 2**-24])
    weights = symmetric_beta(torch.cartesian_prod(corners, corners), alpha)
    assert weights.isfinite().all()
    assert weights.min() >= 0
    assert weights.max() <= 1


@pytest.mark.parametrize("make", [mixup, cutmix])
def test_mixed_targets_are_probabilities_of_what_the_inputs_hold(batch: Batch, make: Any) -> None:
    # Each sample holds nothing but its own number, so that the mixture can be read from it.
    inputs = batch.index.to(batch.inputs.dtype)[:, None, None, None].expand(-1, 3, 10, 12).contiguous()
    result = make(SPEC, alpha=1.0)(Batch(inputs, batch.targets, batch.index), drawing())
    assert result.targets.shape == (SAMPLES, 4)
    torch.testing.assert_close(result.targets.sum(1), torch.ones(SAMPLES))
    for number in range(SAMPLES):
        levels = result.inputs[number].float()
        if make is mixup:
            assert levels.min() == levels.max()
            continue
        share = (levels == number).float().mean()
        others = set(levels.unique().tolist()) - {float(number)}
        assert len(others) <= 1
        expected = functional.one_hot(batch.targets[number], 4) * share
        for other in others:
            expected = expected + functional.one_hot(batch.targets[int(other)], 4) * (1 - share)
        torch.testing.assert_close(result.targets[number], expected)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (DataSpec((8,), "tokens", 5), "between the numbers of two tokens"),
        (DataSpec((2,), "regression", 1, categories=(0, 3)), "between the numbers of two categories.*embed = false"),
    ],
)
def test_mixup_of_what_has_nothing_in_between_is_refused(spec: DataSpec, said: str) -> None:
    with pytest.raises(DataError, match=said):
        mixup(spec)


def test_mixup_mixes_inputs_and_targets_by_one_weight() -> None:
    targets = torch.arange(SAMPLES) % 4
    inputs = functional.one_hot(targets, 4).to(torch.uint8) * 200
    spec = DataSpec((4,), "classification", 4, tuple("abcd"))
    result = mixup(spec, alpha=1.0)(Batch(inputs, targets, torch.arange(SAMPLES)), drawing())
    torch.testing.assert_close(result.inputs / 200, result.targets)


@pytest.mark.parametrize("make", [mixup, cutmix])
def test_samples_that_are_not_chosen_stay(batch: Batch, make: Any) -> None:
    result = make(SPEC, alpha=1.0, probability=0.0)(batch, drawing())
    assert torch.equal(result.inputs, batch.inputs.to(result.inputs.dtype))
    assert torch.equal(result.targets, functional.one_hot(batch.targets, 4).float())


def test_mixing_twice_takes_probabilities(batch: Batch) -> None:
    once = mixup(SPEC, alpha=1.0)(batch, drawing())
    twice = cutmix(SPEC, alpha=1.0)(once, drawing(seed=1))
    torch.testing.assert_close(twice.targets.sum(1), torch.ones(SAMPLES))


@pytest.mark.parametrize("shape", [(SAMPLES,), (SAMPLES, 2)])
def test_mixup_of_regression_targets(shape: tuple[int, ...]) -> None:
    spec = DataSpec((5,), "regression", 1)
    targets = torch.arange(float(SAMPLES)).reshape(SAMPLES, *(1,) * (len(shape) - 1)).expand(shape)
    inputs = torch.arange(float(SAMPLES))[:, None].expand(-1, 5)
    result = mixup(spec, alpha=1.0)(Batch(inputs, targets, torch.arange(SAMPLES)), drawing())
    assert result.targets.shape == shape
    torch.testing.assert_close(result.targets.reshape(SAMPLES, -1)[:, 0], result.inputs[:, 0])


def test_data_that_an_augmentation_cannot_change_is_refused() -> None:
    table = DataSpec((13,), "classification", 3)
    for make in (random_crop, flip, cutout, cutmix):
        with pytest.raises(DataError, match=f"{make.__name__} needs images .*has \\(13,\\): leave it out"):
            make(table)
    with pytest.raises(DataError, match="cutmix mixes classes"):
        cutmix(DataSpec((3, 8, 8), "regression", 1))
    with pytest.raises(DataError, match="padding below the image size 10x12, got 10"):
        random_crop(SPEC, padding=10, mode="reflect")


ALONE = {"random_crop", "flip", "cutout"}


@pytest.mark.parametrize(
    "component", [c for c in trainkit_data.trainkit_components() if c.name in ALONE], ids=lambda c: c.name
)
def test_a_sample_is_changed_alike_in_any_batch(component: Any, batch: Batch) -> None:
    augmentation = component.factory(SPEC, **component.example)
    whole = augmentation(batch, drawing()).inputs
    index = torch.arange(8, 16)
    part = augmentation(Batch(*(value[8:16] for value in batch)), Chance(0, 0, index).draw(0, 0, 8)).inputs
    assert torch.equal(whole[8:16], part)
