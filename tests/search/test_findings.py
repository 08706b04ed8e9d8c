"""What a study says beside its winner: edges, ties, importances, gaps and failures, on studies made by formula."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy
import pytest

from trainkit.search.edges import edges
from trainkit.search.findings import Findings, findings
from trainkit.search.importance import importances
from trainkit.space import Dimension, Space
from trainkit.trial import Objective, Record, Study, Trial, TrialStatus

CUBE = Space(tuple(Dimension(name, "float", 0.0, 1.0) for name in "abc"))


def study_of(
    value: Callable[[Mapping[str, float]], float], trials: int, seed: int, space: Space = CUBE, noise: float = 0.02
) -> Study:
    """A random search over a formula."""
    chance = numpy.random.default_rng(seed)
    study = Study(Path("study"), "random", space, (Objective("val.loss"),), trials, seed)
    for number in range(trials):
        point = space.at(chance.uniform(size=len(space)))
        found = value(point) + noise * chance.normal()
        study.records.append(Record(Trial(number, point, "done", (found,)), (found,)))
    return study


def guided(optimum: tuple[float, float, float], seed: int, trials: int = 60) -> Study:
    """A search that follows what is good, over a bowl around the optimum."""
    optuna = pytest.importorskip("optuna")
    chance = numpy.random.default_rng(seed)
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    inner = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    optuna.logging.set_verbosity(before)
    study = Study(Path("study"), "bayesian", CUBE, (Objective("val.loss"),), trials, seed)
    for number in range(trials):
        asked = inner.ask()
        point = {name: asked.suggest_float(name, 0.0, 1.0) for name in "abc"}
        value = sum((point[n] - best) ** 2 for n, best in zip("abc", optimum, strict=True)) + 0.02 * chance.normal()
        inner.tell(asked, value)
        study.records.append(Record(Trial(number, point, "done", (value,)), (value,)))
    return study


def test_an_optimum_outside_is_told_and_one_inside_is_not():
    outside = [[edge.setting for edge in edges(guided((1.3, 0.5, 0.5), seed))] for seed in range(10)]
    inside = [edges(guided((0.5, 0.4, 0.7), seed)) for seed in range(10)]
    assert sum(found == ["a"] for found in outside) >= 9
    assert sum(bool(found) for found in inside) <= 1


def test_random_trials_show_an_edge_by_the_slope_towards_it():
    def bowl(point: Mapping[str, float]) -> float:
        return sum((point[name] - best) ** 2 for name, best in zip("abc", (1.3, 0.5, 0.5), strict=True))

    found = [[edge.setting for edge in edges(study_of(bowl, 60, seed))] for seed in range(10)]
    assert sum(settings == ["a"] for settings in found) >= 9


@pytest.mark.parametrize(
    ("dimension", "end", "proposed"),
    [
        (Dimension("x", "float", 1e-4, 1e-1, "log"), "upper", 1.0),
        (Dimension("x", "float", 1e-4, 1e-1, "log"), "lower", 1e-5),
        (Dimension("x", "int", 16, 256, "log"), "upper", 2560),
        (Dimension("x", "int", 2, 20, unit="ep"), "upper", "29ep"),
        (Dimension("x", "float", 0.5, 0.99, "logit"), "upper", 0.999),
    ],
)
def test_the_proposed_end_is_further_on_the_scale(dimension: Dimension, end: str, proposed: object):
    def better(point: Mapping[str, float]) -> float:
        share = dimension.share(point["x"])
        return -share if end == "upper" else share

    (edge,) = edges(study_of(better, 60, 0, Space((dimension,)), noise=0.0))
    assert (edge.end, edge.setting) == (end, "x")
    assert edge.proposed == pytest.approx(proposed) if isinstance(proposed, float) else edge.proposed == proposed


def test_a_range_that_begins_at_zero_is_not_continued_below_it():
    study = study_of(lambda point: point["x"], 60, 0, Space((Dimension("x", "float", 0.0, 1.0),)), noise=0.0)
    assert edges(study) == []


def test_the_setting_that_matters_is_the_most_important_one():
    optuna = pytest.importorskip("optuna")
    study = study_of(lambda point: (point["b"] - 0.3) ** 2, 80, 1)
    optuna.logging.set_verbosity(optuna.logging.INFO)  # as it is from the beginning
    first, *others = importances(study)
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
    assert first.setting == "b"
    assert first.low <= first.value <= 1.0
    assert first.value > 0.8 > 0.2 > max(other.value for other in others)
    assert sum(item.value for item in (first, *others)) == pytest.approx(1.0)
    assert importances(study) == importances(study)


def test_importances_of_few_trials_are_said_to_be_unsure():
    pytest.importorskip("optuna")
    about = [finding.about for finding in findings(study_of(lambda point: point["a"], 16, 0)).list]
    assert "importance" in about
    assert "trials" in about


def record(number: int, figure: float, spread: float = 0.0, status: TrialStatus = "done") -> Record:
    point = {"a": 0.1 * number, "b": 0.5, "c": 0.5}
    return Record(Trial(number, point, status, (-figure,)), (figure,), (spread,))


def accuracies(*figures: float, spread: float = 0.0, parts: int = 1) -> Study:
    records = [record(number, figure, spread) for number, figure in enumerate(figures)]
    objective = Objective("val.accuracy", "max")
    return Study(Path("study"), "random", CUBE, (objective,), len(figures), 0, records, parts)


def test_trials_within_the_standard_error_of_folds_tie_with_the_winner():
    # Standard error of a mean of 4 with spread 0.02: 0.01; of a difference of two: 0.0141.
    found = findings(accuracies(0.90, 0.95, 0.937, 0.935, spread=0.02, parts=4))
    assert found.ties == [2]
    assert "trial 1 is within noise of trial 2" in next(f.text for f in found.list if f.about == "ties")
    shorter = accuracies(0.90, 0.95, 0.937, 0.935, spread=0.02, parts=4)
    shorter.records[2].trial.final = False  # a shorter run is not to be compared
    assert findings(shorter).ties == []


def test_accuracies_of_one_run_each_tie_by_the_number_of_samples():
    # Standard errors of 0.95 and 0.93 of 400 samples: 0.0109 and 0.0128; of the difference: 0.0168.
    assert findings(accuracies(0.90, 0.95, 0.935, 0.93), samples=400).ties == [2]
    assert findings(accuracies(0.90, 0.95, 0.935, 0.93), samples=40).ties == [2, 3, 0]


def test_without_any_measure_of_noise_the_reader_is_told_so():
    study = accuracies(0.9, 0.95)
    study.objectives = (Objective("val.loss"),)
    assert "no evidence" in next(f.text for f in findings(study).list if f.about == "ties")


def texts(found: Findings, about: str) -> list[str]:
    return [finding.text for finding in found.list if finding.about == about]


def test_overfitting_and_the_test_beside_the_validation_are_told():
    study = accuracies(0.90, 0.94)
    study.records[1].metrics = {"train.accuracy": 1.0, "val.accuracy": 0.94}
    study.winner = {"test": {"test.accuracy": 0.91}}
    found = findings(study)
    assert "100.0%" in texts(found, "gap")[0]
    assert texts(found, "bias") == [
        "val.accuracy of the winner was the best of 2 trials, 0.94; test.accuracy, which nothing was chosen by, is 0.91"
    ]
    study.records[1].metrics["train.accuracy"] = 0.95
    assert texts(findings(study), "gap") == []


def test_failures_are_counted_by_cause_and_placed():
    study = study_of(lambda point: point["b"], 40, 0)
    for one in study.records:
        if one.trial.point["a"] > 0.7:
            one.trial.status, one.trial.values, one.figures = "oom", (), ()
    (text,) = texts(findings(study), "failures")
    failed = [one.trial.point["a"] for one in study.records if one.trial.status == "oom"]
    assert text == (
        f"{len(failed)} of 40 trials failed ({len(failed)} oom); all of them have a of at least {min(failed):.3g}"
    )


def test_failures_are_placed_where_all_of_them_have_the_setting_as_a_number():
    length = Dimension("run.duration", "int", 5, 50, unit="ep")
    kind = Dimension("use", "choice", choices=("x", "y"))
    space = Space((length, kind, Dimension("b", "float", 0.0, 1.0, when={"use": (0,)})))

    def text(*points: Mapping[str, object]) -> str:
        study = study_of(lambda point: 0.5, 0, 0, space)
        for number, point in enumerate(points):
            status: TrialStatus = "nan" if number < 3 else "done"
            study.records.append(Record(Trial(number, point, status, (), trained=1.0)))
        study.records[-1].trial.values = (0.5,)
        return texts(findings(study), "failures")[0]

    good = [{"run.duration": "10ep", "use": "x", "b": 0.5}] * 4
    long = [{"run.duration": f"{n}ep", "use": "y"} for n in (40, 45)]
    assert text(*long, {"run.duration": "50ep", "use": "y"}, *good).endswith(
        "; all of them have run.duration of at least 40ep"
    )
    assert text(*long, {"run.duration": "900ba", "use": "y"}, *good).endswith("(3 nan)")
    three = [{"run.duration": "10ep", "use": "x", "b": 0.9}] * 2
    assert text(*three, {"run.duration": "10ep", "use": "y"}, *good).endswith("(3 nan)")


def test_a_range_below_zero_is_widened_downwards():
    space = Space((Dimension("a", "int", -10, 0),))
    study = study_of(lambda point: float(point["a"]), 60, 0, space)
    assert [(edge.end, edge.proposed) for edge in edges(study)] == [("lower", -15)]


def test_a_study_without_a_finished_trial_tells_of_failures_alone():
    study = accuracies(0.9)
    study.records[0].trial.status = "nan"
    found = findings(study)
    assert [finding.about for finding in found.list] == ["failures"]
    assert found.as_dict()["importances"] == {}
