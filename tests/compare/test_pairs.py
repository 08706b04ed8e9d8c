"""Tests between recipes, and what ``--require`` asks."""

from __future__ import annotations

import pytest

from tests.compare.conftest import write_run
from trainkit.compare.comparison import compare_runs
from trainkit.compare.pairs import verdict
from trainkit.compare.require import parse
from trainkit.errors import UsageError
from trainkit.evidence import holm, paired

LOSSES = {"a": (0.50, 0.55, 0.45, 0.52), "b": (0.40, 0.46, 0.34, 0.41), "c": (0.49, 0.56, 0.46, 0.50)}


@pytest.fixture
def found(tmp_path, plugins):
    def found(losses, **options):
        for number, (name, values) in enumerate(losses.items()):
            for seed, loss in values.items():
                write_run(tmp_path / f"{name}/s{seed}", seed, (2.0, loss), (0.1, 1 - loss), lr=0.1 * (number + 1))
        folders = [str(folder) for folder in sorted(tmp_path.glob("*/*"))]
        return compare_runs(folders, plugins, print, **options)

    return found


def test_every_two_recipes_are_tested_by_pairs_of_seeds_with_holm_over_all(found):
    made = found({name: dict(enumerate(values)) for name, values in LOSSES.items()}, metrics=["val.loss"])
    plain = [paired(LOSSES[one], LOSSES[other]) for one, other in ("ab", "ac", "bc")]
    assert [test.paired.p for test in made.tests] == pytest.approx([result.p for result in plain])
    assert [test.p for test in made.tests] == pytest.approx(holm([result.p for result in plain]))
    assert [test.better and test.better.name for test in made.tests] == ["b", None, "b"]
    assert verdict(made.tests, "val.loss") == (
        "val.loss: b is better than a, c; no evidence of a difference between a and c"
    )


def test_of_accuracy_the_higher_one_is_better(found):
    made = found({"a": {0: 0.5, 1: 0.51, 2: 0.49}, "b": {0: 0.1, 1: 0.12, 2: 0.09}}, metrics=["val.accuracy"])
    assert [test.better.name for test in made.tests] == ["b"]


def test_only_common_seeds_are_pairs(found):
    made = found({"a": {0: 0.5, 1: 0.51, 2: 0.49}, "b": {5: 0.1, 2: 0.12, 1: 0.2}}, metrics=["val.loss"])
    (test,) = made.tests
    assert test.paired.difference.n == 2
    assert test.paired.difference.mean == pytest.approx((0.51 - 0.2 + 0.49 - 0.12) / 2)


def test_without_common_seeds_it_is_said_that_there_is_no_test(found):
    made = found({"a": {0: 0.5, 1: 0.51}, "b": {5: 0.1, 6: 0.12}})
    assert made.tests == []
    assert "too few seeds or folds in common to compare in pairs: a and b" in made.notes


def test_one_seed_each_is_no_evidence(found):
    made = found({"a": {0: 0.5}, "b": {0: 0.1}})
    assert made.tests == []
    assert sum(note.startswith("one seed each: no evidence") for note in made.notes) == 1


def test_one_seed_beside_several_is_named(found):
    made = found({"a": {0: 0.5, 1: 0.4}, "b": {0: 0.1}})
    assert "one seed alone, which is no evidence: b/s0" in made.notes


def test_pairs_that_differ_by_the_same_are_no_test(found):
    made = found({"a": {0: 0.5, 1: 0.75}, "b": {0: 0.25, 1: 0.5}}, metrics=["val.loss"])
    assert (made.tests[0].p, made.tests[0].better) == (None, None)
    assert made.tests[0].words.startswith("all pairs differ by the same")


def test_folds_are_tested_with_the_correction_and_only_with_folds_of_the_same_cut(tmp_path, plugins):
    values = {"a": (0.5, 0.6, 0.4), "b": (0.3, 0.45, 0.26)}
    for number, (name, losses) in enumerate(values.items()):
        for fold, loss in enumerate(losses):
            write_run(
                *(tmp_path / f"{name}/f{fold}", 0, (2.0, loss), (0.1, 0.2)),
                lr=0.1 * (number + 1),
                data=f"folds = 3\nfold = {fold}",
            )
    for fold in range(4):
        write_run(tmp_path / f"c/f{fold}", lr=0.9, data=f"folds = 4\nfold = {fold}")
    folders = [str(folder) for folder in sorted(tmp_path.glob("*/*"))]
    made = compare_runs(folders, plugins, print, metrics=["val.loss"])
    assert [(test.one.name, test.other.name) for test in made.tests] == [("a", "b")]
    assert made.tests[0].paired.p == pytest.approx(paired(*values.values(), folds=3).p)
    assert any("Nadeau & Bengio" in note for note in made.notes)


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("val.loss<=0.4", True),
        ("val.loss < 0.4", False),
        ("val.accuracy >= 0.6", True),
        ("best val.accuracy>0.6", False),
        ("gap val.loss>=0.09", True),
        ("updates/s>1e3", False),
        ("seconds<inf", True),
    ],
)
def test_requirements_are_held_against_any_figure(found, text, met):
    made = found({"a": {0: 0.4}}, required=[text])
    assert (made.met, [answer.met for answer in made.answers]) == (met, [met])


def test_a_requirement_is_for_the_mean_of_every_row(found):
    made = found({"a": {0: 0.5, 1: 0.25}, "b": {0: 0.9, 1: 0.7}}, required=["val.loss<0.5"])
    assert [(answer.row.name, answer.value, answer.met) for answer in made.answers] == [
        ("a", 0.375, True),
        ("b", pytest.approx(0.8), False),
    ]
    assert made.answers[1].words == "b: 0.8, the mean of 2"
    assert not made.met


def test_a_run_that_is_not_done_meets_nothing(tmp_path, plugins):
    for name, status in (("on", ""), ("failed", "failed")):
        run = write_run(tmp_path / name, status=status)
        made = compare_runs([str(run)], plugins, print, required=["val.loss<100", "val.f1>0"])
        assert [answer.met for answer in made.answers] == [False, False]
        assert "no such figure" in made.answers[1].words


def test_a_row_of_which_one_run_failed_meets_nothing(tmp_path, plugins):
    runs = [str(write_run(tmp_path / f"r{n}", n, status=status)) for n, status in enumerate(("finished", "failed"))]
    assert not compare_runs(runs, plugins, print, required=["val.loss<100"]).met


@pytest.mark.parametrize("text", ["val.loss", "val.loss=1", "val.loss>=high", "<=1", "val.loss>=nan", "a<b<3", ""])
def test_what_is_no_requirement_is_refused(text):
    with pytest.raises(UsageError, match=r"--require .*write a figure, one of >= <= > <, and a number"):
        parse([text])


def test_a_requirement_of_a_figure_that_no_finished_run_has_is_a_slip_of_the_pen(tmp_path, plugins):
    run = str(write_run(tmp_path / "r"))
    with pytest.raises(UsageError, match=r"did you mean 'val.accuracy'\?  figures: seconds, train.accuracy"):
        compare_runs([run], plugins, print, required=["val.acuracy>=0.9"])
