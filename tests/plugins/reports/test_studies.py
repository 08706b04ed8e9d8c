"""Pictures of searches: made for whatever a search can be, and none hides a good value."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("matplotlib")

from trainkit import Dimension, Objective, Record, Space, Study, Trial, visible_limits
from trainkit_reports import trainkit_study_end
from trainkit_reports.studies import draw_study, label

RATE = Dimension("optimizer.lr", "float", 1e-4, 1.0, "log")
SIZE = Dimension("model.widths.0", "int", 4, 64)
LOSS = (Objective("val.loss"),)


def searched(
    folder: Path,
    space: Space,
    value: Callable[[Mapping[str, Any], int], tuple[float, ...]],
    objectives: tuple[Objective, ...] = LOSS,
    trials: int = 24,
) -> Study:
    """A random search over a formula; where it gives nothing, the trial failed."""
    chance = random.Random(1)
    study = Study(folder, "random", space, objectives, trials, 0)
    for number in range(trials):
        point = space.at([chance.random() for _ in space.dimensions])
        figures = value(point, number)
        values = tuple(-f if o.mode == "max" else f for f, o in zip(figures, objectives, strict=False))
        trial = Trial(number, point, "done" if figures else "nan", values)
        study.records.append(Record(trial, figures))
    return study


def drawn(study: Study) -> list[str]:
    """The names of the pictures, each of which has a picture's size."""
    made = draw_study(study)
    for picture in made:
        data = picture.read_bytes()
        assert data.startswith(b"\x89PNG")
        assert len(data) > 5000
    assert sorted(picture.name for picture in made) == sorted(path.name for path in study.folder.glob("*.png"))
    return [picture.name for picture in made]


ALL = ["history.png", "slices.png", "parallel.png", "contour.png"]
WITH_IMPORTANCE = [*ALL[:3], "importance.png", "contour.png"]


def test_numbers_and_choices(tmp_path: Path) -> None:
    kinds = (
        Dimension("schedule.use", "choice", choices=("cosine", "linear")),
        Dimension("model.widths", "choice", choices=([64], [64, 64])),
        Dimension("loss.clip", "choice", choices=(True, False)),
        Dimension("run.duration", "int", 2, 20, unit="ep"),
        Dimension("optimizer.betas.1", "float", 0.9, 0.999, "logit"),
    )
    study = searched(
        tmp_path, Space((RATE, SIZE, *kinds)), lambda p, n: (abs(math.log10(p["optimizer.lr"]) + 2) + 0.1,)
    )
    study.findings = {"importances": {"optimizer.lr": {"value": 0.9, "low": 0.5, "high": 1.0}}}
    assert drawn(study) == WITH_IMPORTANCE


def test_settings_that_count_with_one_choice_alone(tmp_path: Path) -> None:
    choices = Dimension("optimizer", "choice", choices=({"use": "sgd"}, {"use": "adamw"}))
    inner = [
        Dimension(f"optimizer#{place}.lr", "float", 1e-4, 1.0, "log", when={"optimizer": (place,)}) for place in (0, 1)
    ]
    study = searched(tmp_path, Space((choices, *inner, SIZE)), lambda p, n: (1.0 + n,))
    assert {len(record.trial.point) for record in study.records} == {3}
    assert drawn(study) == ALL


def test_one_setting(tmp_path: Path) -> None:
    assert drawn(searched(tmp_path, Space((RATE,)), lambda p, n: (p["optimizer.lr"],))) == ["history.png", "slices.png"]


def test_one_trial(tmp_path: Path) -> None:
    assert drawn(searched(tmp_path, Space((RATE, SIZE)), lambda p, n: (0.0,), trials=1)) == ALL[:3]


def test_failures_alone(tmp_path: Path) -> None:
    assert drawn(searched(tmp_path, Space((RATE, SIZE)), lambda p, n: ())) == ["history.png"]


def test_nothing_yet(tmp_path: Path) -> None:
    assert drawn(searched(tmp_path, Space((RATE, SIZE)), lambda p, n: (), trials=0)) == []


def test_values_that_are_not_finite_or_huge(tmp_path: Path) -> None:
    values = {3: math.inf, 5: math.nan, 7: 1e300, 9: -1e-300}
    assert drawn(searched(tmp_path, Space((RATE, SIZE)), lambda p, n: (values.get(n, 1.0 + n),))) == ALL


def test_a_point_outside_of_the_space(tmp_path: Path) -> None:
    study = searched(tmp_path, Space((RATE, Dimension("a", "choice", choices=(1, 2)))), lambda p, n: (1.0 + n,))
    study.records[0].trial.point = {"optimizer.lr": 0.0, "a": 7}
    study.records[1].trial.point = {"optimizer.lr": "auto"}
    assert drawn(study) == ALL


def test_two_objectives(tmp_path: Path) -> None:
    both = (Objective("val.accuracy", "max"), Objective("parameters"))
    study = searched(
        tmp_path, Space((RATE, SIZE)), lambda p, n: (1 - 1 / p["model.widths.0"], p["model.widths.0"]), both
    )
    assert drawn(study) == ["front.png"]
    assert drawn(searched(tmp_path / "none", Space((RATE,)), lambda p, n: (), both)) == []


def test_names_that_are_formulas_or_long(tmp_path: Path) -> None:
    folder = tmp_path / "a_b$x_1$\\frac"
    folder.mkdir()
    odd = (
        Dimension("loss.$alpha_1$", "float", 0.0, 1.0),
        Dimension("metric.0.path", "choice", choices=("$x_{", "a\nb", "x" * 200)),
    )
    study = searched(folder, Space(odd), lambda p, n: (1.0 + n,), (Objective("val.$\\loss_"),))
    assert drawn(study) == ALL


def test_many_settings_are_the_most_important_ones(tmp_path: Path) -> None:
    space = Space(tuple(Dimension(f"loss.w{place}", "float") for place in range(30)))
    study = searched(tmp_path, space, lambda p, n: (1.0 + n,), trials=4)
    study.findings = {"importances": {f"loss.w{n}": {"value": 0.1, "low": 0.1, "high": 0.2} for n in range(29, 5, -1)}}
    assert drawn(study) == WITH_IMPORTANCE[:4], "four trials are too few for a surface"


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=40),
    lower=st.booleans(),
)
def test_limits_hide_no_good_value(values: list[float], lower: bool) -> None:
    low, high = visible_limits(values, lower)
    assert low < high
    ranked = sorted(values, reverse=not lower)
    for value in ranked[: math.ceil(0.8 * len(ranked))]:
        assert low <= value <= high


def test_limits_leave_out_what_would_hide_the_others() -> None:
    assert visible_limits([0.1, 0.2, 0.3, 0.4, 1e6], True)[1] > 1e6, "one of five is not few"
    good = [0.1 + 0.01 * place for place in range(10)]
    assert visible_limits([*good, 1e6], True)[1] < 1.0
    assert visible_limits([*good, -1e6], False)[0] > -1.0
    assert visible_limits([-1e6, *good], True)[0] < -1e6, "far better than the others, and the one to see"


def test_labels_are_short_and_no_formulas() -> None:
    assert label({"use": "adamw", "lr": 0.1}) == "adamw"
    assert label("$x$") == r"\$x\$"
    assert len(label("x" * 100)) == 16
    assert [label(True), label([64, 32]), label("a\nb")] == ["true", "[64, 32]", "a b"]


def test_a_timeline_of_what_the_log_has(tmp_path: Path) -> None:
    ends = [{"event": "done", "trial": n, "seconds": 2.0, "time": 2.0 * n + 3} for n in range(3)]
    lines = [{"event": "study", "time": 0.0}, *ends]
    (tmp_path / "study.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    study = searched(tmp_path, Space((RATE,)), lambda p, n: (), trials=3)
    assert drawn(study) == ["history.png", "timeline.png"]


def test_the_end_of_a_search_leaves_a_page_even_where_nothing_can_be_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = searched(tmp_path, Space((RATE, SIZE)), lambda p, n: (1.0 + n,))

    def fail(study: Study) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr("trainkit_reports.studies.draw_study", fail)
    with pytest.raises(RuntimeError, match="no ink"):
        trainkit_study_end(study)
    assert "Study " in (tmp_path / "report.html").read_text()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "report.html").unlink()
    trainkit_study_end(study)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
