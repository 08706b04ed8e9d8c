"""early_stop: when it ends a run, and that a continued run decides alike."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest

from trainkit import RecipeError, checkpoint, hookimpl
from trainkit_callbacks import early_stop

SAID: list[str] = []
RUN = SimpleNamespace(higher_is_better=lambda figure: figure == "val.accuracy", step=7, say=SAID.append)


def stops_at(callback, values, figure="val.loss"):
    """The number, from 0, of the first value that ends the run; None if none does."""
    for number, value in enumerate(values):
        if callback.trainkit_stop_reason(RUN, {figure: value}) is not None:
            return number
    return None


@pytest.mark.parametrize("patience", [0, 1, 3])
def test_patience_counts_the_evaluations_that_are_borne(patience):
    assert stops_at(early_stop(patience=patience), [1.0] + [1.0] * 10) == patience + 1


def test_each_improvement_starts_the_count_again():
    assert stops_at(early_stop(patience=2), [5, 4, 4, 4, 3, 3, 3, 2, 2, 2, 2, 1]) == 10


def test_a_figure_that_should_rise_is_good_when_it_rises():
    callback = early_stop(monitor="val.accuracy", patience=1)
    assert stops_at(callback, [0.5, 0.6, 0.7, 0.7, 0.6, 0.9], "val.accuracy") == 4
    assert callback.best == 0.7


def test_min_delta_is_what_an_improvement_must_exceed():
    assert stops_at(early_stop(patience=1, min_delta=0.5), [3.0, 2.5, 2.5]) == 2
    assert stops_at(early_stop(patience=1, min_delta=0.5), [3.0, 2.75, 2.49, 2.4, 2.3]) == 4
    rising = early_stop(monitor="val.accuracy", patience=0, min_delta=0.1)
    assert stops_at(rising, [0.5, 0.61, 0.7], "val.accuracy") == 2


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_never_better(bad):
    callback = early_stop(patience=1)
    assert stops_at(callback, [1.0, bad, bad, 0.5]) == 2
    assert callback.best == 1.0
    assert stops_at(early_stop(monitor="val.accuracy", patience=1), [bad, bad], "val.accuracy") == 1
    assert stops_at(early_stop(patience=1), [bad, 3.0, 2.0, bad, 1.0]) is None, "a first bad one bars nothing"


def test_a_figure_that_turns_nan_is_told_once_also_when_continued():
    SAID.clear()
    callback = early_stop(patience=9)
    assert stops_at(callback, [1.0, math.nan, math.inf, math.nan]) is None
    again = early_stop(patience=9)
    again.trainkit_restore(callback.trainkit_save())
    assert stops_at(again, [math.nan]) is None
    assert SAID == ["early_stop: val.loss is nan at update 7: that counts as no improvement"]


def test_a_figure_that_turns_nan_ends_a_run_with_the_best_checkpoint_kept(train, capfd):
    class Scripted:
        @hookimpl
        def trainkit_evaluate(self, run, split):
            return {"loss": math.nan if run.step > 16 else 1.0}

    more = '[[callback]]\nuse = "early_stop"\npatience = 3\n'
    finished = train("run.duration=9ep", more=more, listeners=[Scripted()])
    assert finished.report.status == "stopped"
    assert finished.report.steps == 40, "evaluations at 16, 24 and 32 are borne"
    assert finished.report.best == {"step": 8, "metric": "val.loss", "value": 1.0}
    said = capfd.readouterr().err
    assert said.count("early_stop: val.loss is nan at update 24: that counts as no improvement") == 1
    assert said.count("val.loss is nan at update 24: that is never the best") == 1


def test_an_evaluation_without_the_figure_does_not_count():
    callback = early_stop(patience=0)
    assert callback.trainkit_stop_reason(RUN, {"val.loss": 1.0}) is None
    for _ in range(5):
        assert callback.trainkit_stop_reason(RUN, {"train.loss": 9.0}) is None
    assert callback.waited == 0


def test_the_reason_shows_figure_count_and_values():
    callback = early_stop(patience=1)
    for value in (0.25, 0.5):
        callback.trainkit_stop_reason(RUN, {"val.loss": value})
    reason = callback.trainkit_stop_reason(RUN, {"val.loss": 0.75})
    assert reason == "early_stop: val.loss has not improved for 2 evaluations (best 0.25, now 0.75)"
    never = early_stop(patience=0).trainkit_stop_reason(RUN, {"val.loss": math.nan})
    assert "never finite" in never


@pytest.mark.parametrize("cut", range(8))
def test_its_state_goes_through_a_checkpoint(cut):
    values = [5.0, 4.0, math.nan, 4.0, 3.0, 3.5, 3.5, 3.5]
    straight = early_stop(patience=2)
    expected = stops_at(straight, values)
    first, second = early_stop(patience=2), early_stop(patience=2)
    assert stops_at(first, values[:cut]) in (None, expected)
    tensors: dict = {}
    written = json.dumps(checkpoint.split_state(first.trainkit_save(), "plugin", tensors))
    second.trainkit_restore(checkpoint.join_state(json.loads(written), tensors))
    rest = stops_at(second, values[cut:])
    assert rest is not None
    assert rest + cut == expected


@pytest.mark.parametrize("monitor", ["val.loss", "train.loss", "val.accuracy", "val.accuracy.macro"])
def test_a_figure_that_the_recipe_gives_is_right(load, monitor):
    load(more=f'[[callback]]\nuse = "early_stop"\nmonitor = "{monitor}"\n')


@pytest.mark.parametrize("use", ["early_stop", "trainkit_callbacks:early_stop"])
def test_a_figure_that_nothing_gives_is_a_problem_that_names_the_nearest(load, use):
    more = f'[[callback]]\nuse = "time_limit"\nminutes = 1\n[[callback]]\nuse = "{use}"\nmonitor = "val.acuracy"\n'
    with pytest.raises(RecipeError) as raised:
        load(more=more)
    (problem,) = raised.value.problems
    assert problem.message == "[[callback]] early_stop: nothing gives the figure 'val.acuracy'"
    assert problem.cure.startswith("did you mean 'val.accuracy'?  figures of this recipe: val.loss, val.accuracy,")
    assert problem.place.source == 'monitor = "val.acuracy"'
