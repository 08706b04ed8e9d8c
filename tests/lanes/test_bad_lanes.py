"""A run that cannot be sorted, stacked or measured with the others fails by itself, and the others go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lane_jobs import lines_of, recipe
from one_by_one import OneByOne
from test_group import RATES, alone, rest, same, together

from trainkit import LaneGroup, lane_speed
from trainkit.build import make_ready, prepare
from trainkit.lanes import memory
from trainkit.manager import Plugins
from trainkit.protocols import silent
from trainkit.recipe import recipe_from_text
from trainkit.run import Run
from trainkit.work import Job

# Normalisation over one sample, which torch refuses.
ONE_SAMPLE = {"model": 'norm = "batch"', "lr": 0.05}


def _one_sample(text: str) -> str:
    return text.replace("batch_size = 16", "batch_size = 1")


def _of_one_sample(made: Job) -> Job:
    return replace(made, recipe=_one_sample(made.recipe))


def test_a_batch_that_a_model_cannot_take_is_its_own_run_s_failure(job: Callable[..., Job], plugins: Plugins) -> None:
    said: list[str] = []
    jobs = [job(0), _of_one_sample(job(1, **ONE_SAMPLE)), job(2, lr=0.3), _of_one_sample(job(3, **ONE_SAMPLE))]
    outcomes = together(jobs, plugins, say=said.append)
    assert [outcomes[i].status for i in range(4)] == ["done", "error", "done", "error"]
    expected = alone(_of_one_sample(job(1, "alone", **ONE_SAMPLE)), plugins)
    assert (outcomes[1].message, outcomes[1].steps) == (expected.message, 0)
    assert "Expected more than 1 value per channel" in outcomes[1].message
    for i, values in ((0, {}), (2, {"lr": 0.3})):
        alone(other := job(i, "alone", **values), plugins)
        same(jobs[i], other)
    assert len(said) == 1
    assert said[0].startswith(
        "trials are trained one by one, not as lanes: whether they can be cannot be found out "
        "(ValueError: Expected more than 1 value per channel"
    )


@pytest.mark.parametrize("name", ["seen", "structure", "differing", "lanes_that_fit"])
@pytest.mark.parametrize("error", [RuntimeError("out of luck"), SystemExit("enough")], ids=["error", "exit"])
def test_what_goes_wrong_in_sorting_a_run_does_not_count_for_the_next(
    job: Callable[..., Job], plugins: Plugins, monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException
) -> None:
    import trainkit.lane_group

    asked: list[int] = []
    real = getattr(trainkit.lane_group, name)

    def once(*given: Any) -> Any:
        asked.append(1)
        if len(asked) == 1:
            raise error
        return real(*given)

    monkeypatch.setattr(trainkit.lane_group, name, once)
    stacks: list[OneByOne] = []

    def make(lanes: Any) -> OneByOne:
        stacks.append(OneByOne(lanes))
        return stacks[-1]

    outcomes = together([job(i, epochs=1, seed=i) for i in range(3)], plugins, make=make, say=lambda text: None)
    assert [outcomes[i].status for i in range(3)] == ["done"] * 3
    assert [stack.most for stack in stacks] == [2]


def test_a_recipe_that_no_small_batch_shows_is_measured_as_one_that_cannot_be_lanes(plugins: Plugins) -> None:
    speed = lane_speed(_one_sample(recipe(**ONE_SAMPLE)), plugins, 4)
    assert (speed.lanes, speed.alone, speed.together) == (1, 0.0, 0.0)
    assert speed.obstacle.startswith("ValueError: Expected more than 1 value per channel")


def test_a_recipe_with_worker_processes_is_measured_as_one_that_cannot_be_lanes(
    job: Callable[..., Job], plugins: Plugins
) -> None:
    said: list[str] = []
    data = {"data": 'loading = "streamed"\nworkers = 1', "epochs": 1}
    speed = lane_speed(recipe(**data), plugins, 4)
    assert speed.obstacle.startswith("worker processes make its batches")
    assert (speed.lanes, speed.together) == (1, 0.0)
    assert speed.alone > 0
    assert together([job(0, **data)], plugins, say=said.append)[0].status == "done"
    assert said == [f"trials are trained one by one, not as lanes: {speed.obstacle}"]


def test_a_lane_that_cannot_be_measured_ends_alone(job: Callable[..., Job], plugins: Plugins) -> None:
    def brittle(number: int, where: str, rate: float) -> Job:
        made = job(number, where, lr=rate)
        text = made.recipe.replace('use = "mlp"\nwidths = [8]', 'use = "brittle"')
        return replace(made, recipe=text)

    rates = (0.02, 0.1, 2000.0, 0.3)
    jobs = [brittle(i, "lanes", rate) for i, rate in enumerate(rates)]
    outcomes = together(jobs, plugins)
    assert [outcomes[i].status for i in range(4)] == ["done", "done", "error", "done"]
    for i, rate in enumerate(rates):
        lone = brittle(i, "alone", rate)
        expected = alone(lone, plugins)
        assert lines_of(jobs[i]) == lines_of(lone)
        assert outcomes[i].message.replace(str(jobs[i].folder), str(lone.folder)) == expected.message
    assert "the weights are too large" in outcomes[2].message


@pytest.mark.parametrize("at", [0, 1])
def test_outputs_that_a_stack_cannot_make_are_made_by_each_run(
    job: Callable[..., Job], plugins: Plugins, at: int
) -> None:
    class Fails(OneByOne):
        calls = 0

        def outputs(self, inputs: Any) -> Any:
            self.calls += 1
            if self.calls > at:
                raise torch.OutOfMemoryError("no room for all outputs")
            return super().outputs(inputs)

    more = {"data": "eval_batch_size = 16"}  # several batches: what was made of one does not count
    jobs = [job(i, lr=rate, **more) for i, rate in enumerate((0.02, 0.1, 0.3))]
    outcomes = together(jobs, plugins, make=Fails)
    assert {outcome.status for outcome in outcomes.values()} == {"done"}
    for i, rate in enumerate((0.02, 0.1, 0.3)):
        alone(lone := job(i, "alone", lr=rate, **more), plugins)
        same(jobs[i], lone)


def test_a_lane_that_ends_the_process_ends_alone(job: Callable[..., Job], plugins: Plugins) -> None:
    more = '[[callback]]\nuse = "leaves"\nupdate = 11'
    jobs = [job(0), job(1, more=more), job(2, lr=0.3)]
    outcomes = together(jobs, plugins)
    assert [outcomes[i].status for i in range(3)] == ["done", alone(job(1, "alone", more=more), plugins).status, "done"]
    assert outcomes[1].status == "error"
    assert outcomes[1].steps == 11


@pytest.mark.parametrize("where", ["make", "put", "update", "take"])
def test_a_stack_that_has_no_room_gives_way_to_single_runs(
    job: Callable[..., Job], plugins: Plugins, where: str
) -> None:
    """Not even tensors of their own can be made: those of the stack then serve."""

    class Full(OneByOne):
        def __init__(self, lanes: Any) -> None:
            if where == "make":
                raise torch.OutOfMemoryError("no room")
            super().__init__(lanes)

        def put(self, place: int, lane: Any) -> None:
            if where == "put":
                raise torch.OutOfMemoryError("no room")
            super().put(place, lane)

        def update(self, batches: Any) -> Any:
            raise torch.OutOfMemoryError("no room")

        def take(self, place: int) -> Any:
            if where == "take":
                raise torch.OutOfMemoryError("no room")
            return super().take(place)

    said: list[str] = []
    jobs = [job(i, lr=rate) for i, rate in enumerate((0.02, 0.1, 0.3))]
    outcomes = together(jobs, plugins, make=Full, say=said.append)
    assert {outcome.status for outcome in outcomes.values()} == {"done"}
    assert said == ["runs cannot be trained together after all, and are trained one by one: OutOfMemoryError: no room"]
    for i, rate in enumerate((0.02, 0.1, 0.3)):
        alone(lone := job(i, "alone", lr=rate), plugins)
        same(jobs[i], lone)


@pytest.mark.parametrize("blamed", [0, 1, 3])
def test_runs_are_trained_together_again_without_the_one_that_fails(
    job: Callable[..., Job], plugins: Plugins, blamed: int
) -> None:
    from trainkit.lanes.stack import Stack

    counts: list[int] = []

    class Counted(Stack):
        def update_stacked(self, batch: Any, shared: bool) -> Any:
            counts.append(len(self.active))
            return super().update_stacked(batch, shared)

    def more(number: int) -> str:
        return f'[[callback]]\nuse = "refuses"\nupdate = {11 if number == blamed else -1}'

    said: list[str] = []
    jobs = [job(i, lr=rate, more=more(i)) for i, rate in enumerate(RATES)]
    outcomes = together(jobs, plugins, make=Counted, say=said.append)
    assert [outcomes[i].status for i in range(4)] == ["error" if i == blamed else "done" for i in range(4)]
    assert "these gradients are refused" in outcomes[blamed].message
    assert outcomes[blamed].steps == 11
    # 11 updates of all, then one that fails; those before the blamed one make the rest of the epoch by themselves.
    assert counts == [4] * 12 + [3 - blamed] * (5 if blamed < 2 else 0) + [3] * 8
    assert [line.split(",")[0] for line in said] == [
        "runs cannot be trained together after all",
        "a run that failed by itself too was to blame",
    ]
    for i, rate in enumerate(RATES):
        alone(lone := job(i, "alone", lr=rate, more=more(i)), plugins)
        for got, expected in zip(lines_of(jobs[i]), lines_of(lone), strict=True):
            assert got.pop("split") == expected.pop("split")
            assert got == pytest.approx(expected, rel=2e-5, abs=2e-6)


def test_a_stack_that_cannot_let_a_run_go_gives_way_to_single_runs(job: Callable[..., Job], plugins: Plugins) -> None:
    class Holds(OneByOne):
        def take(self, place: int) -> Any:
            raise torch.OutOfMemoryError("no room")

    epochs = (1, 2, 2)
    jobs = [job(i, epochs=count) for i, count in enumerate(epochs)]
    outcomes = together(jobs, plugins, make=Holds, say=lambda text: None)
    assert {outcome.status for outcome in outcomes.values()} == {"done"}
    for i, count in enumerate(epochs):
        alone(lone := job(i, "alone", epochs=count), plugins)
        same(jobs[i], lone)


def test_closing_closes_every_run_whatever_one_of_them_raises(job: Callable[..., Job], plugins: Plugins) -> None:
    group = LaneGroup(plugins, make=OneByOne)  # type: ignore[arg-type]
    for i in range(3):
        group.add(job(i))
    closed: list[int] = []

    def closing(number: int) -> Callable[[], None]:
        def close() -> None:
            closed.append(number)
            raise OSError("the disk is full")

        return close

    for number, member in enumerate(group._queue):
        member.close = closing(number)  # type: ignore[method-assign]
    with pytest.raises(OSError, match="the disk is full"):
        group.close()
    assert sorted(closed) == [0, 1, 2]
    assert rest(LaneGroup(plugins)) == {}


@pytest.fixture
def run(plugins: Plugins) -> Iterator[Callable[[str], Run]]:
    """Build the run of recipes."""
    made: list[Run] = []

    def run(text: str) -> Run:
        made.append(prepare(recipe_from_text(text, "the recipe", [], plugins), plugins, Path("none"), silent))
        make_ready(made[-1])
        return made[-1]

    yield run
    for one in made:
        one.feed.close()


def test_what_a_lane_takes_counts_a_batch_and_the_outputs_of_the_validation_split(run: Callable[[str], Run]) -> None:
    built = run(recipe(width=8))
    weights = (6 * 8 + 8 + 8 * 3 + 3) * 4
    leaves = (6 + 8 + 8 + 3) * 4  # Flatten, Linear, ReLU, Linear
    samples = built.feed.spec.sizes["val"]
    assert samples == 38
    assert memory.bytes_of(built) == weights * 3 + 2 * 16 * leaves + samples * 3 * 4


def test_what_a_lane_takes_is_measured_on_a_training_sample_where_there_is_no_other(
    run: Callable[[str], Run],
) -> None:
    built = run(recipe(width=8, data='val = 0.0\ntest = 0.0\n[[data.augment]]\nuse = "mixup"'))
    assert {name: size for name, size in built.feed.spec.sizes.items() if size} == {"train": 192}
    before = torch.get_rng_state()
    weights = (6 * 8 + 8 + 8 * 3 + 3) * 4
    assert memory.bytes_of(built) == weights * 3 + 2 * 16 * (6 + 8 + 8 + 3) * 4
    assert torch.equal(torch.get_rng_state(), before)
    assert all(module.training for module in built.model.modules())
