"""A subset of the classes of another data set."""

from __future__ import annotations

import pytest
import torch

from trainkit import DataError
from trainkit.feed.folds import cut_anew
from trainkit_data.shipped import digits, wine
from trainkit_data.wrapped import subset


def test_classes_are_left_out_of_every_split_and_numbered_anew():
    whole, part = digits(), subset(of=digits(), classes=["8", "9"])
    assert part.spec.classes == ("8", "9")
    assert part.spec.outputs == 2
    for name, split in whole.splits.items():
        stays = split.targets >= 8
        assert torch.equal(part.splits[name].inputs[:], split.inputs[stays])
        assert torch.equal(part.splits[name].targets, split.targets[stays] - 8)
        assert part.spec.sizes[name] == int(stays.sum())
    assert part.spec.class_counts == whole.spec.class_counts[8:]
    assert subset(of=digits(), without=[str(n) for n in range(8)]).spec == part.spec


def test_so_many_training_samples_of_each_class_are_drawn_and_fewer_are_among_more():
    whole = digits()
    few = subset(of=whole, classes=["3", "8", "9"], per_class=10)
    more = subset(of=whole, classes=["8", "9"], per_class=60)
    assert few.spec.class_counts == (10, 10, 10)
    assert few.spec.sizes["val"] == int((whole.splits["val"].targets == 3).sum()) + more.spec.sizes["val"]
    rows = {bytes(image.flatten().tolist()) for image in more.splits["train"].inputs}
    eights = few.splits["train"].inputs[few.splits["train"].targets == 1]
    assert all(bytes(image.flatten().tolist()) in rows for image in eights)
    other = subset(of=whole, classes=["8", "9"], per_class=60, draw_seed=1)
    assert other.spec.fingerprint != more.spec.fingerprint


def test_what_is_fitted_is_fitted_on_all_that_does_not_validate():
    whole = wine()
    part = subset(of=whole, classes=["class_0", "class_2"], per_class=12)
    assert part.spec.input_mean == whole.spec.input_mean
    cut = cut_anew(part, folds=4, fold=1, fold_by="auto", train_on="train", seed=3, say=print)
    assert cut.spec.sizes["train"] + cut.spec.sizes["val"] == part.spec.sizes["train"] + part.spec.sizes["val"]
    raw = [whole.splits[name].inputs * torch.tensor(whole.spec.input_std) + torch.tensor(whole.spec.input_mean)
           for name in ("train", "val")]  # fmt: skip
    everything = torch.cat(raw)
    scaled = cut.splits["val"].inputs * torch.tensor(cut.spec.input_std) + torch.tensor(cut.spec.input_mean)
    held = torch.cdist(scaled, everything).argmin(1)
    fits = torch.ones(len(everything), dtype=torch.bool)
    fits[held] = False
    assert torch.allclose(torch.tensor(cut.spec.input_mean), everything[fits].mean(0), rtol=1e-5)
    targets = torch.cat([whole.splits[name].targets for name in ("train", "val")])
    assert torch.equal(cut.splits["val"].targets, targets[held] // 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": ["8", "ten"]}, "the data has no class 'ten'\nits classes: 0, 1"),
        ({"classes": ["8"]}, "1 of 10 classes are left"),
        ({"classes": ["8", "9"], "per_class": 1000}, "per_class = 1000, and class '8' has 1"),
    ],
)
def test_what_cannot_be_chosen_is_said(settings, message):
    with pytest.raises(DataError, match="^" + message.replace("(", "\\(")):
        subset(of=digits(), **settings)


def test_only_classes_can_be_chosen():
    from trainkit_data.shipped import diabetes

    with pytest.raises(DataError, match="the data is a regression"):
        subset(of=diabetes(), per_class=3)
