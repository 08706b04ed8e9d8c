"""``trainkit ensemble``, ``evaluate`` and ``predict`` on the command line: finished runs in, one model out."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from tests.ensemble.of_runs import base_of_run
from trainkit.cli import main
from trainkit.ensemble.folder import EnsembleFolder
from trainkit.ensemble.opened import load_ensemble
from trainkit.ensemble.temperature import fit_temperature
from trainkit.ensemble.unchosen import unchosen
from trainkit.finished import predict_run
from trainkit.manager import Plugins
from trainkit.scoring import scores

RunOf = Callable[[str], Path]
QUICK = ("bootstrap=10", "--without", "reports")  # nothing is drawn
SEARCH = """\
recipe = 1
seed = 1
[run]
duration = "2ep"
device = "cpu"
[data]
use = "wine"
batch_size = 32
seed = 0
[model]
use = "mlp"
widths = [8]
[loss]
use = "cross_entropy"
[[metric]]
use = "accuracy"
[optimizer]
use = "adam"
lr = 0.01
[search]
use = "random"
trials = 3
executor = "serial"
[search.space]
"optimizer.lr" = { low = 1e-3, high = 1e-1, scale = "log" }
"""


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Done]:
    monkeypatch.setenv("TRAINKIT_RUNS", str(tmp_path / "made"))

    def act(*words: object) -> Done:
        quick = QUICK if words[0] == "ensemble" and len(words) > 1 else ()
        code = main([str(word) for word in (*words, *quick)])
        said = capsys.readouterr()
        return Done(int(code), said.out, said.err)

    return act


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A finished search, made when it is first asked for."""
    home = tmp_path_factory.mktemp("studies")

    def folder(name: str, *changes: str) -> Path:
        path = home / name
        if not path.exists():
            (home / "search.toml").write_text(SEARCH)
            assert main(["run", str(home / "search.toml"), *changes, "--run-dir", str(path), "-q", *QUICK[1:]]) == 0
        return path

    return folder


def names_of(folder: Path) -> list[str]:
    return [member["name"] for member in json.loads((folder / "ensemble.json").read_text())["members"]]


# ------------------------------------------------------------ what it is made of


def test_finished_runs_of_different_models_become_one(command, run_of: RunOf, tmp_path: Path, plugins: Plugins):
    runs = [run_of(name) for name in ("a", "b", "wide", "averaged")]
    done = command("ensemble", *runs, "--use", "seeds", "combine=probability", "--out", tmp_path / "it", "--json")
    assert done.code == 0
    assert done.json["status"] == "finished"
    assert done.json["folder"] == str(tmp_path / "it")
    assert names_of(tmp_path / "it") == [str(run) for run in runs]
    opened = load_ensemble(tmp_path / "it", plugins)
    base = base_of_run(run_of("a"), plugins)
    each = torch.stack([predict_run(run, "test", plugins)["probabilities"] for run in runs])
    wanted = each.double().mean(0)
    given = (base.measure(opened, "test") * opened.temperature).double().softmax(1)
    torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-6)


def test_one_run_alone_is_what_it_was(command, run_of: RunOf, tmp_path: Path, plugins: Plugins):
    assert command("ensemble", run_of("a"), "--out", tmp_path / "it").code == 0
    base = base_of_run(run_of("a"), plugins)
    given = base.measure(load_ensemble(tmp_path / "it", plugins), "test")
    own = predict_run(run_of("a"), "test", plugins)["outputs"]
    torch.testing.assert_close(given.log_softmax(1), own.log_softmax(1), rtol=1e-5, atol=1e-6)


def test_checkpoints_are_members(command, train_run, tmp_path: Path):
    run = train_run(tmp_path / "run", 'run.save_every="1ep"', "run.keep=5")
    steps = sorted((run / "checkpoints").glob("step-*"))
    done = command("ensemble", *steps[:2], run, "--use", "seeds", "--out", tmp_path / "it")
    assert done.code == 0
    assert names_of(tmp_path / "it") == [f"{run} at update 8", f"{run} at update 16", str(run)]


def test_trials_of_a_study_come_the_best_first(command, study, tmp_path: Path):
    path = study("plain")
    assert command("ensemble", path, "--use", "seeds", "--out", tmp_path / "it").code == 0
    listed = command("report", path, "--json").json["table"]
    assert names_of(tmp_path / "it") == [f"trial {entry['trial']}" for entry in listed]
    assert command("ensemble", path, "--use", "topk", "k=2", "--out", tmp_path / "two").code == 0
    assert len(names_of(tmp_path / "two")) == 2


def test_a_trial_on_folds_is_one_member(command, study, tmp_path: Path, plugins: Plugins):
    path = study("folded", "search.folds=3", "search.trials=2")
    assert command("ensemble", path, "--use", "seeds", "--out", tmp_path / "it").code == 0
    assert sorted(names_of(tmp_path / "it")) == ["trial 0", "trial 1"]
    opened = load_ensemble(tmp_path / "it", plugins)
    assert opened.members(torch.zeros(1, 13)).shape == (2, 1, 3)
    # Each sample was learnt by some run of each member: what the ensemble gives for it tells nothing.
    report = json.loads((tmp_path / "it" / "report.json").read_text())
    assert report["validation_is"] == "out of fold"
    assert set(report["ensemble"]) == {"temperature", "test"}
    assert report["temperature"] == report["ensemble"]["temperature"] == 1.0
    assert report["ensemble"]["test"]["calibrated"] == report["ensemble"]["test"]["raw"]
    assert "reason" in report["reselection"]
    assert len(report["curve"]["points"]) == 2


def test_trials_of_repeats_are_calibrated_by_samples_that_chose_nothing(
    command, study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    found: list[float] = []

    def noted(*given: Any) -> Any:
        rows, outputs = unchosen(*given)
        validation, raw = given[2], given[3]
        found.append(fit_temperature(outputs, validation.targets[rows], validation.spec))
        assert not torch.equal(outputs, validation.measure(raw)[rows]), "they chose"
        return rows, outputs

    monkeypatch.setattr("trainkit.ensemble.making.unchosen", noted)
    path = study("repeated", "search.repeats=2", "search.trials=2")
    assert command("ensemble", path, "--use", "stacking", "force=true", "--out", tmp_path / "it").code == 0
    assert found == [json.loads((tmp_path / "it" / "ensemble.json").read_text())["temperature"]]


def test_a_study_whose_best_evaluations_count_gives_those_weights(command, study, tmp_path: Path):
    path = study("best", 'search.take="best"', "search.trials=2", "optimizer.lr=0.05")
    assert command("ensemble", path, "--use", "seeds", "--out", tmp_path / "it").code == 0
    for member in json.loads((tmp_path / "it" / "ensemble.json").read_text())["members"]:
        run = path / "trials" / f"{int(member['name'].split()[1]):04d}"
        assert member["step"] == json.loads((run / "best.json").read_text())["step"]


def test_a_study_without_a_done_trial_has_nothing_to_give(command, study, tmp_path: Path):
    path = Path(shutil.copytree(study("plain"), tmp_path / "study"))
    lines = (path / "study.jsonl").read_text().splitlines()
    (path / "study.jsonl").write_text(lines[0] + "\n")
    done = command("ensemble", path)
    assert done.code == 2
    assert "no trial of this study is done" in done.err


# ------------------------------------------------------------ what is refused


def refused(done: Done, code: int, *texts: str) -> None:
    assert done.code == code
    for text in texts:
        assert text in done.err
    assert "Traceback" not in done.err


def test_wrong_words_are_said_to_be_wrong_and_nothing_is_written(command, run_of: RunOf, tmp_path: Path):
    run, out = run_of("a"), tmp_path / "it"
    refused(command("ensemble"), 2, "ensemble takes one run folder or more")
    refused(command("ensemble", tmp_path / "none"), 2, "no such run folder")
    refused(command("ensemble", run, "--use", "gredy", "--out", out), 2, "no ensembler named 'gredy'", "greedy")
    refused(command("ensemble", run, "rouns=3", "--out", out), 2, "has no setting 'rouns'", "did you mean 'rounds'")
    refused(command("ensemble", run, "rounds=many", "--out", out), 2, "rounds must be an integer")
    refused(command("ensemble", run, "use=vote", "--out", out), 2, "--use vote")
    refused(command("ensemble", run, run, "--out", out), 2, "named twice")
    assert not out.exists()
    assert not (tmp_path / "made").exists()


def test_runs_that_do_not_fit_are_named_and_nothing_is_written(command, run_of: RunOf, tmp_path: Path):
    done = command("ensemble", run_of("a"), run_of("other-data"), "--out", tmp_path / "it")
    refused(done, 2, str(run_of("a")), str(run_of("other-data")), "do not fit")
    assert not (tmp_path / "it").exists()


def test_an_unfinished_or_damaged_run_is_refused_and_nothing_is_written(command, own_run: RunOf, tmp_path: Path):
    run = own_run("a")
    newest = sorted((run / "checkpoints").glob("step-*"))[-1] / "tensors.safetensors"
    data = newest.read_bytes()
    newest.write_bytes(data[:-1])
    refused(command("ensemble", run, "--out", tmp_path / "it"), 5, str(run), "damaged")
    newest.write_bytes(data)
    (run / "report.json").unlink()
    refused(command("ensemble", run, "--out", tmp_path / "it"), 2, "not finished", f"trainkit resume {run}")
    assert not (tmp_path / "it").exists()


def test_a_folder_in_use_is_left_as_it_is(command, run_of: RunOf, tmp_path: Path):
    (tmp_path / "it").mkdir()
    (tmp_path / "it" / "mine").write_text("mine")
    refused(command("ensemble", run_of("a"), "--out", tmp_path / "it"), 3, "not empty", "--out")
    refused(command("ensemble", run_of("a"), "--out", tmp_path / "it" / "mine"), 3, "a file of this name")
    assert [path.name for path in (tmp_path / "it").iterdir()] == ["mine"]
    with EnsembleFolder(tmp_path / "new"):
        said = command("ensemble", run_of("a"), "--out", tmp_path / "new")
    refused(said, 3, "another process is writing to this ensemble folder; wait for it, or name another with --out")


def test_samples_that_were_trained_on_choose_nothing(command, run_of: RunOf, tmp_path: Path):
    done = command("ensemble", run_of("a"), run_of("all-samples"), "--out", tmp_path / "it")
    refused(done, 2, "it was trained on the validation samples too")
    done = command("ensemble", run_of("no-validation"), "--out", tmp_path / "it")
    assert done.code == 2
    assert "validation" in done.err


def test_without_out_it_goes_under_the_runs(command, run_of: RunOf, tmp_path: Path):
    done = command("ensemble", run_of("a"), run_of("b"), "--use", "vote", "--json")
    assert done.code == 0
    folder = Path(done.json["folder"])
    assert folder.parent == tmp_path / "made"
    assert "vote" in folder.name


# ------------------------------------------------------------ evaluate and predict


@pytest.fixture(scope="module")
def made(run_of: RunOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ensemble of two runs; nobody changes it."""
    folder = tmp_path_factory.mktemp("made") / "it"
    assert main(["ensemble", str(run_of("a")), str(run_of("b")), "--use", "seeds", "--out", str(folder), *QUICK]) == 0
    return folder


def test_evaluate_gives_the_recipes_figures_and_how_good_probabilities_are(command, made: Path, plugins: Plugins):
    for split in ("train", "val", "test"):
        figures = command("evaluate", made, "--split", split, "--json").json["metrics"]
        arrays = command("predict", made, "--split", split, "--json").json
        outputs, targets = torch.tensor(arrays["outputs"]), torch.tensor(arrays["targets"])
        wanted = scores(outputs, targets, load_ensemble(made, plugins).spec)
        assert figures == pytest.approx({**wanted, "loss": wanted["nll"]}, rel=1e-5)
    text = command("evaluate", made).out
    assert "test.loss " in text
    assert "test.ece " in text


def test_predict_writes_what_it_writes_of_a_run(command, made: Path, run_of: RunOf, tmp_path: Path):
    own, of_run = (command("predict", path, "--split", "val").out for path in (made, run_of("a")))
    rows, run_rows = (list(csv.DictReader(io.StringIO(text))) for text in (own, of_run))
    assert list(rows[0]) == list(run_rows[0])
    assert [row["targets"] for row in rows] == [row["targets"] for row in run_rows]
    assert [row["index"] for row in rows] == [row["index"] for row in run_rows]
    assert all(math.isclose(sum(float(row[f"probabilities.{n}"]) for n in range(3)), 1, rel_tol=1e-5) for row in rows)
    done = command("predict", made, "--out", tmp_path / "it.npz")
    assert done.code == 0
    with numpy.load(tmp_path / "it.npz") as held:
        assert set(held) == {"index", "targets", "outputs", "probabilities", "predicted"}
        assert (held["outputs"].argmax(1) == held["predicted"]).all()


def test_predictions_of_a_regression_have_a_variance(command, run_of: RunOf, tmp_path: Path):
    runs = [run_of("number"), run_of("number-fold-0")]
    assert command("ensemble", runs[0], "--use", "seeds", "--out", tmp_path / "one").code == 0
    done = command("predict", tmp_path / "one", "--json").json
    assert set(done) >= {"outputs", "variance", "targets"}
    figures = command("evaluate", tmp_path / "one", "--json").json["metrics"]
    assert {"mse", "mae", "r2", "loss"} <= set(figures)


def test_a_split_that_is_not_there_is_named(command, run_of: RunOf, tmp_path: Path, train_run):
    run = train_run(tmp_path / "run", "data.test=0.0")
    assert command("ensemble", run, "--use", "seeds", "--out", tmp_path / "it").code == 0
    refused(command("evaluate", tmp_path / "it"), 2, "the data has no such split; it has train, val")


def test_an_altered_ensemble_ends_with_one_message(command, made: Path, tmp_path: Path):
    copy = Path(shutil.copytree(made, tmp_path / "copy"))
    path = next((copy / "weights").iterdir())
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    for verb in ("evaluate", "predict"):
        refused(command(verb, copy), 5, str(path), "damaged or altered")


def test_an_ensemble_that_is_not_finished_says_how_to_go_on(command, made: Path, tmp_path: Path):
    copy = Path(shutil.copytree(made, tmp_path / "copy"))
    (copy / "ensemble.json").unlink()
    refused(command("evaluate", copy), 2, "no finished ensemble", f"trainkit resume {copy}")


def test_other_data_under_the_same_name_is_told(command, made: Path, tmp_path: Path, plugins: Plugins):
    from trainkit.ensemble.artefact import write_artefact
    from trainkit.ensemble.verify import read_artefact

    stored = read_artefact(made)
    tables = stored.recipes[stored.recipe]
    stored.recipes[stored.recipe] = tables  # type: ignore[index]
    import dataclasses
    import hashlib

    text = tables.replace("split_seed = 0", "split_seed = 1")
    digest = hashlib.sha256(text.encode()).hexdigest()
    other = dataclasses.replace(stored, recipe=digest, recipes={**stored.recipes, digest: text})
    (tmp_path / "it").mkdir()
    write_artefact(tmp_path / "it", other)
    done = command("evaluate", tmp_path / "it")
    assert done.code == 0
    assert "the data is not the data this ensemble was made with" in done.err


def test_a_study_means_its_winner_and_its_ensemble_the_ensemble(command, study, made: Path, tmp_path: Path):
    path = Path(shutil.copytree(study("plain"), tmp_path / "study"))
    before = command("evaluate", path, "--json").json["metrics"]
    shutil.copytree(made, path / "ensemble")
    assert command("evaluate", path, "--json").json["metrics"] == before
    assert "ece" not in before
    found = command("evaluate", path / "ensemble", "--json").json["metrics"]
    assert found == command("evaluate", made, "--json").json["metrics"]
