"""threshold: chosen on validation samples by what the recipe asks for, kept in checkpoints, used where it counts."""

from __future__ import annotations

import math
from typing import Any

import pytest
import sklearn.metrics
import torch
from torch import Tensor

from trainkit import DataError, DataSpec, RecipeError
from trainkit.finished import evaluate_run, predict_run
from trainkit.manager import Plugins
from trainkit.report.look import look_at
from trainkit_callbacks import threshold
from trainkit_callbacks.thresholds import CRITERIA, Choosing, choose

BINARY = ["data.task=binary", "data.classes=1", "loss={use='binary'}", "data.samples=120"]
METRICS = '[[metric]]\nuse = "f1"\n[[metric]]\nuse = "auroc"\n[[metric]]\nuse = "ece"\n'
THRESHOLD = '[[callback]]\nuse = "threshold"\nmaximise = "f1"\n'
OURS = {
    "accuracy": sklearn.metrics.accuracy_score,
    "balanced_accuracy": sklearn.metrics.balanced_accuracy_score,
    "f1": lambda truth, taken: sklearn.metrics.f1_score(truth, taken, average="macro", labels=[0, 1]),
    "positive_f1": lambda truth, taken: sklearn.metrics.f1_score(truth, taken, zero_division=0.0),
    "mcc": sklearn.metrics.matthews_corrcoef,
}


def drawn(count: int = 60, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    positive = torch.rand(count, generator=draw) < 0.2
    logits = torch.randn(count, generator=draw, dtype=torch.float64) - 2 + 1.5 * positive
    return (logits * 4).round() / 4, positive  # some alike


@pytest.mark.parametrize("criterion", sorted(CRITERIA))
@pytest.mark.parametrize("seed", [0, 1])
def test_no_threshold_is_better_by_sklearns_figure(criterion: str, seed: int) -> None:
    logits, positive = drawn(seed=seed)
    found = choose(logits, positive, criterion)
    every = [found, *(logits.unique() + 1e-6).tolist(), float(logits.min()) - 1]
    figures = [OURS[criterion](positive, logits > value) for value in every]
    assert figures[0] == pytest.approx(max(figures))
    assert not (logits == found).any(), "it lies between samples"


def test_of_thresholds_that_are_as_good_the_one_nearest_to_one_half_is_taken() -> None:
    logits, positive = torch.tensor([-3.0, -1.0, 2.0, 5.0]).double(), torch.tensor([False, False, True, True])
    assert choose(logits, positive, "accuracy") == 0.5
    assert choose(logits + 4, positive, "accuracy") == 4.5
    assert choose(logits, torch.ones(4).bool(), "accuracy") == -4.0


@pytest.mark.parametrize(("recall", "precision"), [(0.9, 0.0), (0.0, 0.8), (0.5, 0.4)])
def test_what_is_asked_for_holds(recall: float, precision: float) -> None:
    logits, positive = drawn(200)
    taken = logits > choose(logits, positive, "f1", recall, precision)
    assert sklearn.metrics.recall_score(positive, taken) >= recall
    assert sklearn.metrics.precision_score(positive, taken, zero_division=1.0) >= precision


def test_a_precision_that_cannot_be_had_with_the_recall_gives_way() -> None:
    logits, positive = drawn(200)
    taken = logits > choose(logits, positive, "f1", 0.95, 0.99)
    assert sklearn.metrics.recall_score(positive, taken) >= 0.95
    best = max(
        sklearn.metrics.precision_score(positive, logits > value)
        for value in (logits.unique() - 1e-6).tolist()
        if sklearn.metrics.recall_score(positive, logits > value) >= 0.95
    )
    assert sklearn.metrics.precision_score(positive, taken) == pytest.approx(best)


@pytest.fixture(params=["binary", "two classes"])
def changes(request: pytest.FixtureRequest) -> list[str]:
    return BINARY if request.param == "binary" else ["data.classes=2", "data.samples=120"]


def test_figures_and_predictions_are_those_of_the_threshold(train: Any, changes: list[str]) -> None:
    finished = train(*changes, more=METRICS + THRESHOLD)
    plugins = Plugins(without=["reports"])
    value = finished.of("val")[-1]["threshold"]
    for split in ("val", "test"):
        made = predict_run(finished.folder, split, plugins)
        share = made["probabilities"].double()[:, -1]
        expected = (share > value).long()
        assert torch.equal(made["predicted"].reshape(-1), expected)
        line = finished.of(split)[-1]
        assert line["accuracy"] == pytest.approx(float((expected == made["targets"].reshape(-1)).double().mean()))
        assert line["f1"] == pytest.approx(sklearn.metrics.f1_score(made["targets"], expected, average="macro"))
        assert line["auroc"] == pytest.approx(sklearn.metrics.roc_auc_score(made["targets"], share), abs=1e-6)
        again = evaluate_run(finished.folder, split, plugins)
        assert {name: again[name] for name in ("accuracy", "f1", "loss")} == {
            name: line[name] for name in ("accuracy", "f1", "loss")
        }
        look = look_at(finished.run, split)
        assert look.figures["accuracy"] == pytest.approx(line["accuracy"])
        assert look.confusion.sum(0).tolist() == torch.bincount(expected, minlength=2).tolist()
    assert "threshold" not in finished.of("test")[-1]


def test_the_loss_the_training_and_figures_of_probabilities_stay_what_they_are(train: Any) -> None:
    plain, decided = train(*BINARY, more=METRICS), train(*BINARY, more=METRICS + THRESHOLD)
    assert decided.report.weights_sha256 == plain.report.weights_sha256
    for name in ("loss", "ece", "auroc"):
        assert [line[name] for line in decided.of("val")] == [line[name] for line in plain.of("val")]
    assert [line["f1"] for line in decided.of("train")] == [line["f1"] for line in plain.of("train")]
    better = [line["f1"] - other["f1"] for line, other in zip(decided.of("val"), plain.of("val"), strict=True)]
    assert min(better) >= 0
    assert max(better) > 0


def test_it_goes_on_after_a_stop(train: Any, halves: Any) -> None:
    whole, parts = train(*BINARY, more=THRESHOLD), halves(2, *BINARY, more=THRESHOLD)
    assert [line["threshold"] for line in whole.of("val")] == [line["threshold"] for line in parts.of("val")]
    assert whole.of("test")[-1]["accuracy"] == parts.of("test")[-1]["accuracy"]


def test_outputs_that_are_not_finite_leave_the_threshold_as_it_was() -> None:
    choosing = Choosing(lambda logits, positive: math.nan, 1.5)
    choosing.update(torch.tensor([[1.0], [math.nan]]), torch.tensor([1.0, 0.0]))
    assert choosing.compute() == pytest.approx(1 / (1 + math.exp(-1.5)))


@pytest.mark.parametrize(("target", "said"), [(0.0, "all 2 validation samples are of the first"), (1.0, "the second")])
def test_nothing_is_chosen_from_samples_of_one_class(target: float, said: str) -> None:
    choosing = Choosing(lambda logits, positive: math.nan, 0.0)
    choosing.update(torch.tensor([[1.0], [-1.0]]), torch.tensor([target, target]))
    with pytest.raises(DataError, match=said):
        choosing.compute()


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (DataSpec((5,), "classification", 3), "two classes, the data has 3 classes"),
        (DataSpec((5,), "regression", 1), "two classes, the data has the task regression"),
        (DataSpec((5,), "binary", 1, sizes={"train": 5, "val": 0}), "on validation samples, the data has none"),
    ],
)
def test_data_that_it_is_not_for_is_refused(spec: DataSpec, said: str) -> None:
    with pytest.raises(DataError, match=said):
        threshold(spec)


def test_a_problem_names_its_line(train: Any) -> None:
    with pytest.raises(RecipeError, match="callback threshold decides between two classes, the data has 3 classes"):
        train("data.classes=3", more=THRESHOLD)
