"""Some classes of another data set against all its others."""

from __future__ import annotations

import pytest
import torch

from trainkit import DataError
from trainkit.feed.folds import cut_anew
from trainkit_data.shipped import diabetes, digits, wine
from trainkit_data.wrapped import one_against_rest


@pytest.mark.parametrize("task", ["binary", "classification"])
def test_the_classes_that_are_named_are_the_second_class(task):
    whole, made = digits(), one_against_rest(of=digits(), positive=["8", "3"], task=task)
    assert (made.spec.task, made.spec.outputs) == (task, 1 if task == "binary" else 2)
    assert made.spec.classes == ("rest", "3+8")
    for name, split in whole.splits.items():
        hits = (split.targets == 3) | (split.targets == 8)
        assert torch.equal(made.splits[name].targets, hits.float() if task == "binary" else hits.long())
        assert torch.equal(made.splits[name].inputs[:], split.inputs[:])
    counts = whole.spec.class_counts
    assert made.spec.class_counts == (sum(counts) - counts[3] - counts[8], counts[3] + counts[8])
    assert made.spec.fingerprint not in ("", whole.spec.fingerprint)


def test_folds_fit_what_is_fitted_on_their_own_samples():
    cut = {"folds": 3, "fold": 1, "fold_by": "class", "train_on": "train", "bag": None, "seed": 4}
    made = cut_anew(one_against_rest(of=wine(), positive=["class_0"]), **cut, say=print)
    inputs, targets = made.splits["train"].inputs[:], made.splits["train"].targets
    torch.testing.assert_close(inputs.mean(0), torch.zeros(13), atol=1e-5, rtol=0)
    assert made.spec.class_counts[1] == int(targets.sum())
    shares = [float(made.splits[name].targets.mean()) for name in ("train", "val")]
    assert abs(shares[0] - shares[1]) < 0.02, "classes come in equal shares"


@pytest.mark.parametrize(
    ("of", "positive", "said"),
    [
        (digits, ["8", "eight"], "no class 'eight'\nits classes: 0, 1"),
        (digits, [], "of 10 classes none is positive"),
        (wine, ["class_0", "class_1", "class_2"], "of 3 classes every one is positive"),
        (diabetes, ["1"], "chooses among classes, and the data is a regression"),
    ],
)
def test_what_makes_no_two_classes_is_refused(of, positive, said):
    with pytest.raises(DataError, match=said):
        one_against_rest(of=of(), positive=positive)
