"""Runs on folds, and on all samples: what they measure, what seeds they follow, and when they may go on."""

from __future__ import annotations

from typing import Any

import pytest

from trainkit import RecipeError, Run, hookimpl


class Stop:
    """Asks the run to end after an update."""

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        if run.step == 5:
            run.stop_reason = "the test asked for it"


def test_a_fold_is_measured_as_validation(train: Any) -> None:
    runs = [train("data.folds=4", f"data.fold={fold}").run for fold in range(4)]
    assert [run.feed.spec.sizes for run in runs[:2]] == [{"train": 115, "val": 39, "test": 38}] * 2
    assert sum(run.feed.spec.sizes["val"] for run in runs) == 116 + 38
    assert len({run.feed.spec.fingerprint for run in runs}) == 4
    assert len({run.clock.total_updates for run in runs}) == 1


def test_folds_follow_the_seed_of_the_data_where_it_has_one(train: Any) -> None:
    def mark(*changes: str) -> str:
        return str(train("data.folds=4", "run.duration=1ba", *changes).run.feed.spec.fingerprint)

    assert mark() != mark("seed=6")
    assert mark("data.seed=5") == mark("seed=6", "data.seed=5") == mark()
    assert mark("data.seed=7") != mark()


def test_the_order_of_batches_keeps_the_recipes_seed(train: Any) -> None:
    def order(*changes: str) -> list[int]:
        return [
            int(number) for batch in train("run.duration=1ba", *changes).run.feed.train(0) for number in batch.index
        ]

    assert order("data.seed=7") == order() != order("seed=6")


def test_a_run_on_all_samples_measures_nothing_but_the_test(train: Any) -> None:
    finished = train('data.train_on="train+val"')
    assert finished.run.feed.spec.sizes == {"train": 154, "test": 38}
    assert not finished.of("val")
    assert finished.of("test")
    assert finished.report.best is None


def test_another_fold_is_other_data_for_a_run_that_goes_on(train: Any, load: Any, plugins: Any) -> None:
    from trainkit.launch import launch

    begun = train("data.folds=4", listeners=[Stop()])
    with pytest.raises(RecipeError, match="the data is not the data this run was trained on"):
        launch(load("data.folds=4", "data.fold=1"), plugins, folder=begun.folder, resume=True)
    launch(load("data.folds=4"), plugins, folder=begun.folder, resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.folds=200"], r"\[data\] folds = 200, but there are 154 samples"),
        (["data.folds=3", 'data.fold_by="group"'], r'\[data\] fold_by = "group", but the data has no groups'),
        (
            ['data.train_on="train+val"', "callback=[{use='early_stop'}]"],
            "early_stop looks at 'val.loss', and train_on",
        ),
        (
            ['data.train_on="train+val"', "schedule.react=[{use='plateau'}]"],
            "plateau looks at 'val.loss', and train_on = \"train\\+val\" leaves no validation samples",
        ),
    ],
)
def test_what_the_data_cannot_do_is_a_problem_of_the_recipe(train: Any, changes: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        train(*changes)


@pytest.mark.parametrize(
    "watching", ["[[callback]]\nuse = 'early_stop'", "[[schedule.react]]\nuse = 'plateau'"], ids=["stop", "react"]
)
def test_a_search_that_refits_is_refused_what_its_last_run_could_not_follow(load: Any, watching: str) -> None:
    search = "\n[search]\nuse = 'random'\nrefit = true\n[search.space]\n\"optimizer.lr\" = {low = 0.01, high = 0.1}\n"
    with pytest.raises(RecipeError, match=r"looks at 'val\.loss', and refit = true leaves no validation samples"):
        load(more=f"\n{watching}{search}")
    load(more=f"\n{watching}{search.replace('refit = true', '')}")
    load(more=search)
