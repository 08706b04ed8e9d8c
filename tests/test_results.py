"""What is read from folders of runs that go on, were killed, or are a stranger's."""

from __future__ import annotations

import json

import pytest

from trainkit.errors import MachineError, UsageError
from trainkit.results import curves_of, kind_of, lines_of, read_result


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "recipe.toml").write_text("recipe = 1\nseed = 3\n")
    return tmp_path


def line(step, **more):
    return {"step": step, "epoch": step / 10, "split": "train", "time": step / 100, **more}


def test_a_run_that_goes_on_has_a_recipe_and_no_report(folder):
    found = read_result(folder, "mine")
    assert (found.name, found.kind, found.tables["seed"], found.report, found.notes) == ("mine", "run", 3, {}, [])


@pytest.mark.parametrize(
    ("file", "kind"), [("study.jsonl", "study"), ("ensemble.json", "ensemble"), ("repeats.json", "repeats")]
)
def test_a_folder_is_known_by_its_files(folder, file, kind):
    (folder / file).write_text("{}")
    assert kind_of(folder) == kind


def test_what_cannot_be_read_beside_the_recipe_is_noted(folder):
    (folder / "report.json").write_text("{")
    (folder / "environment.json").write_text("[" * 100)
    notes = read_result(folder).notes
    assert [note.split()[0] for note in notes] == ["environment.json", "report.json"]


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" + "0" * 400])
def test_numbers_that_are_too_large_are_none(folder, number):
    (folder / "report.json").write_text(f'{{"steps": [{number}]}}')
    found = read_result(folder)
    assert (found.report, found.notes) == ({}, ["report.json cannot be read: a number in it is too large"])
    lines = [
        f'{{"step": {step}, "epoch": 1, "split": "val", "time": 1, "loss": {loss}}}\n'
        for step, loss in [(1, number), (number, 2), (3, 4)]
    ]
    (folder / "metrics.jsonl").write_text("".join(lines))
    assert curves_of(lines_of(folder))["val.loss"].points == [(3.0, 1.0, 1.0, 4.0)]


def test_without_a_recipe_it_is_no_run(tmp_path):
    with pytest.raises(UsageError, match="holds no run"):
        read_result(tmp_path)


def test_a_link_out_of_the_folder_is_not_followed(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "report.json"
    elsewhere.write_text("{}")
    (folder / "report.json").symlink_to(elsewhere)
    with pytest.raises(MachineError, match="link out of the run folder"):
        read_result(folder)


def test_whole_lines_of_the_form_that_runs_write_are_read(folder):
    good = [line(1, loss=2.0), line(2, loss=None), line(3, loss=1.0)]
    bad = ['{"step": 1}', "[]", "{", '{"step": true, "epoch": 1, "time": 1, "split": "train"}', '{"step": 1, "epoch"']
    text = "\n".join([json.dumps(good[0]), *bad[:-1], *map(json.dumps, good[1:]), bad[-1]])
    (folder / "metrics.jsonl").write_text(text)
    assert list(lines_of(folder)) == good
    assert list(lines_of(folder / "nowhere")) == []


def test_curves_have_the_names_that_figures_have():
    lines = [line(1, loss=2.0, **{"lr/0": 0.1}), {**line(1, loss=3.0), "split": "val"}, line(2, loss=None, note="text")]
    curves = curves_of(lines)
    assert {name: curve.points for name, curve in curves.items()} == {
        "train.loss": [(1.0, 0.1, 0.01, 2.0)],
        "lr/0": [(1.0, 0.1, 0.01, 0.1)],
        "val.loss": [(1.0, 0.1, 0.01, 3.0)],
    }


def test_long_curves_keep_their_spikes_and_their_end():
    losses = {777: 9.0, 4997: 2.0, 4998: 0.5}
    curves = curves_of((line(step, loss=losses.get(step, 1.0)) for step in range(5000)), most=64)
    points = curves["train.loss"].points
    assert len(points) <= 128
    assert points[-1] == (4999.0, 499.9, 49.99, 1.0)
    assert (777.0, 77.7, 7.77, 9.0) in points
