"""The task of tokens from the recipe to predictions: shapes, figures, batches of evaluations, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy
import pytest
import torch

from trainkit.cli import main
from trainkit.dataset import Dataset, DataSpec, Split
from trainkit.errors import DataError
from trainkit.export.subjects import run_subject
from trainkit.feed.checks import check_dataset
from trainkit.feed.folds import cut_anew
from trainkit.feed.make import EVAL_OUTPUT_BYTES, choose_eval_batch_size
from trainkit.finished import evaluate_run, predict_run
from trainkit.manager import Plugins
from trainkit.protocols import silent

RECIPE = """\
recipe = 1
seed = 3
logger = []
[run]
duration = "1000tok"
device = "cpu"
threads = 1
[data]
use = "synthetic"
task = "tokens"
features = [10]
classes = 5
samples = 100
batch_size = 10
[model]
use = "gpt"
layers = 1
width = 8
heads = 1
[loss]
use = "cross_entropy"
[[metric]]
use = "accuracy"
[[metric]]
use = "perplexity"
[optimizer]
use = "adamw"
lr = 0.01
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "tokens.toml").write_text(RECIPE, encoding="utf-8")
    assert main(["run", str(folder / "tokens.toml"), "--run-dir", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    plugins = Plugins()
    plugins.load()
    return plugins


def test_a_duration_in_tokens_is_counted_in_those_of_samples(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text(encoding="utf-8"))
    assert report["steps"] == 1000 // (10 * 10)


def test_predictions_are_of_each_position_and_bear_the_figures_out(finished: Path, plugins: Plugins) -> None:
    found = predict_run(finished, "val", plugins)
    assert {name: tuple(part.shape) for name, part in found.items()} == {
        "index": (20,),
        "targets": (20, 10),
        "predicted": (20, 10),
        "log_probability": (20, 10),
    }
    figures = evaluate_run(finished, "val", plugins)
    assert figures["accuracy"] == float((found["predicted"] == found["targets"]).double().mean())
    assert figures["loss"] == pytest.approx(-float(found["log_probability"].double().mean()), rel=1e-6)
    assert figures["perplexity"] == pytest.approx(float(numpy.exp(figures["loss"])), rel=1e-6)


def test_a_program_of_tokens_gives_chances_of_each_position(finished: Path, plugins: Plugins) -> None:
    subject = run_subject(finished, plugins, silent)
    assert subject.samples.dtype == torch.int64
    with torch.no_grad():
        given = subject.module(subject.samples[:3])
    assert given["outputs"].shape == (3, 10, 5)
    torch.testing.assert_close(given["probabilities"].sum(-1), torch.ones(3, 10))


def test_a_model_that_takes_no_tokens_is_refused_with_a_cure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tokens.toml").write_text(RECIPE, encoding="utf-8")
    assert main(["run", str(tmp_path / "tokens.toml"), 'model={use="mlp"}', "--run-dir", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "[model] mlp does not take inputs (2, 10) of data 'synthetic'" in said
    assert "choose a model that takes numbers of tokens and says something of each position, such as gpt" in said


def data(rows: torch.Tensor, classes: int) -> Dataset:
    spec = DataSpec((rows.shape[1] - 1,), "tokens", classes, sizes={"train": len(rows)})
    return Dataset(spec, {"train": Split(rows[:, :-1], rows[:, 1:])})


def test_batches_of_evaluations_are_small_where_outputs_are_many() -> None:
    few, many = (data(torch.randint(4, (20, 129)), classes) for classes in (4, 50_000))
    assert choose_eval_batch_size(many, 8) == 8  # as large as in training, where they fit
    count = choose_eval_batch_size(few, 8)
    assert count * 128 * 4 * 4 <= EVAL_OUTPUT_BYTES < 2 * count * 128 * 4 * 4


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (torch.tensor([[0, 1, 5], [1, 2, 0]]), "targets of split 'train' go from 0 to 5; .* must lie in 0 to 3"),
        (torch.tensor([[0, -1, 3], [1, 2, 0]]), "go from -1 to 3"),
        (torch.tensor([[0, 1, 1], [1, 1, 1]]), "every token to foretell in the training split is 1; .* at least two"),
    ],
)
def test_tokens_that_are_none_of_the_classes_are_refused(rows: torch.Tensor, said: str) -> None:
    with pytest.raises(DataError, match=said):
        check_dataset(data(rows, 4), 1)


def test_folds_of_tokens_are_dealt_without_classes() -> None:
    rows = data(torch.randint(4, (20, 9)), 4)
    cut = cut_anew(rows, folds=4, fold=0, fold_by="auto", train_on="train", seed=1)
    assert dict(cut.spec.sizes) == {"train": 15, "val": 5}
    assert cut.splits["val"].targets.shape == (5, 8)
    with pytest.raises(DataError, match='fold_by = "class", but samples of tokens have many'):
        cut_anew(rows, folds=4, fold=0, fold_by="class", train_on="train", seed=1)
