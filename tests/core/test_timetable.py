"""Products, schedules of other numbers, and reactions: a run is trained with what the recipe's functions say."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from trainkit import RecipeError, Run, hookimpl
from trainkit.reactions import Reactions, Watch
from trainkit.run import StepResult

Train = Callable[..., Any]
Load = Callable[..., Any]


class Numbers:
    """Notes a number of the run as each update was made with it."""

    def __init__(self, read: Callable[[Run], float]) -> None:
        self.read = read
        self.seen: list[float] = []

    @hookimpl
    def trainkit_step_end(self, run: Run, result: StepResult) -> None:
        self.seen.append(self.read(run))


def test_a_product_has_the_clock_of_the_schedule_behind_the_warmup(train: Train) -> None:
    numbers = Numbers(lambda run: run.optimizer.param_groups[0]["lr"])
    train(
        more='[schedule]\nuse = "linear"\nwarmup = "4ba"\nmultiply = [{use = "step", every = "6ba", gamma = 0.5}]\n',
        listeners=[numbers],
    )
    expected = [0.1 * (t + 1) / 5 if t < 4 else 0.1 * (1 - (t - 4) / 12) * 0.5 ** ((t - 4) // 6) for t in range(16)]
    assert numbers.seen == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("target", "start", "read", "changes"),
    [
        (
            "weight_decay",
            0.5,
            lambda run: run.optimizer.param_groups[0]["weight_decay"],
            ["optimizer.weight_decay=0.5"],
        ),
        ("momentum", 0.5, lambda run: run.optimizer.param_groups[0]["momentum"], ["optimizer.momentum=0.5"]),
        ("loss.label_smoothing", 0.2, lambda run: run.loss.label_smoothing, ["loss.label_smoothing=0.2"]),
        ("model.*.p", 0.5, lambda run: run.model.body[2].p, ["model.dropout=0.5"]),
        ("betas.0", 0.9, lambda run: run.optimizer.param_groups[0]["betas"][0], ['optimizer.use="adam"']),
    ],
)
def test_any_number_follows_its_own_schedule(
    train: Train, target: str, start: float, read: Callable[[Run], float], changes: list[str]
) -> None:
    numbers = Numbers(read)
    more = f'[[schedule.also]]\ntarget = "{target}"\nuse = "linear"\n'
    finished = train(*changes, "run.log_every=1ba", more=more, listeners=[numbers])
    expected = [start * (1 - t / 16) for t in range(16)]
    assert numbers.seen == pytest.approx(expected, rel=1e-12)
    (label,) = {
        key for line in finished.of("train") for key in line if key.startswith(target) and not key.endswith("/1")
    }
    assert [line[label] for line in finished.of("train")] == numbers.seen


def test_a_setting_of_a_callback_follows_its_schedule(train: Train) -> None:
    more = '[[callback]]\nuse = "clip_norm"\nmax_norm = 2.0\n'
    more += '[[schedule.also]]\ntarget = "callback.clip_norm.max_norm"\nuse = "step"\nevery = "8ba"\ngamma = 0.5\n'
    finished = train(more=more)
    assert [line["callback.clip_norm.max_norm"] for line in finished.of("train")] == [2.0, 1.0]


def test_what_has_no_decay_gets_none_from_a_schedule_of_values(train: Train) -> None:
    more = '[[schedule.also]]\ntarget = "weight_decay"\nuse = "ramp"\nstart = 0.04\nend = 0.4\n'
    finished = train("optimizer.weight_decay=0.01", more=more)
    last = finished.of("train")[-1]
    assert last["weight_decay/0"] == pytest.approx(0.04 + 0.36 * 15 / 16, rel=1e-12)
    assert last["weight_decay/1"] == 0.0


def test_a_decay_that_only_the_schedule_has_spares_biases_too(train: Train) -> None:
    more = '[[schedule.also]]\ntarget = "weight_decay"\nuse = "ramp"\nstart = 0.1\nend = 0.1\n'
    finished = train("optimizer.weight_decay=0.0", more=more)
    decays = {name: group["weight_decay"] for group in finished.run.optimizer.param_groups for name in group["names"]}
    assert {name for name, decay in decays.items() if decay == 0.1} == {"body.0.weight", "head.weight"}
    assert {name for name, decay in decays.items() if decay == 0.0} == {"body.0.bias", "head.bias"}


def test_match_leaves_other_groups_as_they_are(train: Train) -> None:
    more = '[[optimizer.group]]\nmatch = "head.*"\nmomentum = 0.8\n'
    more += '[[schedule.also]]\ntarget = "momentum"\nmatch = "head.*"\nuse = "linear"\nend = 0.5\n'
    finished = train("optimizer.momentum=0.9", more=more)
    moving = [g for g in finished.run.optimizer.param_groups if "head.weight" in g["names"]]
    still = [g for g in finished.run.optimizer.param_groups if "head.weight" not in g["names"]]
    assert moving[0]["momentum"] == pytest.approx(0.8 * (1 - 0.5 * 15 / 16), rel=1e-12)
    assert [group["momentum"] for group in still] == [0.9]


HEAD = '[[optimizer.group]]\nmatch = "head.*"\nlr_scale = 2.0\n'
OWN_RATE = '[[schedule.also]]\ntarget = "lr"\nmatch = "head.*"\n'


def rates(finished: Any) -> dict[str, list[float]]:
    """The rates of all updates by the first parameter of their group."""
    run = finished.run
    return {
        run.optimizer.param_groups[value.group]["names"][0]: [value.at(t, 16) for t in range(16)]
        for value in run.schedules
        if value.name == "lr"
    }


def test_a_group_can_have_a_schedule_of_its_own_for_its_rate(train: Train) -> None:
    own = OWN_RATE + 'use = "piecewise"\nat = ["0ba", "4ba"]\nfactors = [1.0, 0.0]\n'
    finished = train('schedule.use="cosine"', 'schedule.warmup="2ba"', more=HEAD + own)
    plain = train('schedule.use="cosine"', 'schedule.warmup="2ba"', more=HEAD)
    found, expected = rates(finished), rates(plain)
    assert found.pop("head.weight") == pytest.approx([0.2 * max(0.0, 1 - t / 4) for t in range(16)], abs=1e-15)
    del expected["head.weight"]
    assert found == expected, "the others follow [schedule]"
    assert [value.label for value in finished.run.schedules] == [value.label for value in plain.run.schedules]
    logged = {key: line[key] for line in finished.of("train")[-1:] for key in line if key.startswith("lr/")}
    assert 0.0 in logged.values()


def test_a_schedule_of_values_keeps_to_the_scale_of_a_group(train: Train) -> None:
    finished = train(more=HEAD + OWN_RATE + 'use = "ramp"\nstart = 0.1\nend = 0.5\n')
    assert rates(finished)["head.weight"] == pytest.approx([2 * (0.1 + 0.4 * t / 16) for t in range(16)], rel=1e-12)


def test_a_rate_follows_one_schedule_of_its_own(train: Train) -> None:
    with pytest.raises(RecipeError, match=r"lr/\d is scheduled twice"):
        train(more=HEAD + (OWN_RATE + 'use = "linear"\n') * 2)


def test_reactions_leave_a_rate_with_a_schedule_of_its_own_alone(train: Train) -> None:
    more = HEAD + OWN_RATE + 'use = "constant"\n' + PLATEAU
    finished = train('run.evaluate_every="4ba"', "logger=[]", more=more, listeners=[Falling(1.0, 0.5, 0.6, 0.4)])
    assert finished.run.events == [(12, "plateau:reduce")]
    last = {group["names"][0]: group["lr"] for group in finished.run.optimizer.param_groups}
    assert last.pop("head.weight") == 0.2
    assert set(last.values()) == {0.05}


def test_momentum_that_begins_at_zero_is_that_of_torch(train: Train) -> None:
    more = '[[schedule.also]]\ntarget = "momentum"\nuse = "piecewise"\n'
    more += 'at = ["0ba", "7ba", "8ba"]\nfactors = [0.0, 0.0, 1.0]\nbase = 0.5\n'
    finished = train(more=more)
    assert finished.run.optimizer.param_groups[0]["momentum"] == 0.5
    held = finished.run.optimizer.state[next(iter(finished.run.model.parameters()))]
    assert any(isinstance(value, torch.Tensor) and bool(value.any()) for value in held.values())


@pytest.mark.parametrize(
    ("more", "message", "cure"),
    [
        ('target = "weight_decy"', "no such number", "did you mean 'weight_decay'?"),
        ('target = "lr"', "the learning rate follows [schedule] itself", "multiply"),
        (
            'target = "lr"\nmatch = "*.weight"',
            'match = "*.weight" is for a part of a group, which body.0.bias is in too',
            "write [[optimizer.group]]",
        ),
        ('target = "lr"\nmatch = "tail.*"', 'match = "tail.*" holds for no parameter', "head.weight"),
        ('target = "loss.smoothing"', "has no number 'smoothing'", "did you mean 'label_smoothing'?"),
        ('target = "model.body.9.p"', "the model has no number 'body.9.p'", "its numbers"),
        ('target = "callback.ema.decay"', "there is no callback 'ema'", "callbacks of this recipe: none"),
        ('target = "data.workers"', "only the batch size", "data.batch_size"),
        ('target = "momentum"\nmatch = "tail.*"', 'match = "tail.*" holds for no parameter', "head.weight"),
        ('target = "loss.label_smoothing"\nmatch = "head.*"', "match chooses among the optimizer's groups", "leave"),
        ('target = "momentum"\nbase = 1.5', "momentum/0 comes to 1.5 at update 0; it must be at least 0", "base"),
    ],
)
def test_a_target_that_cannot_be_is_a_problem_before_the_run(train: Train, more: str, message: str, cure: str) -> None:
    with pytest.raises(RecipeError) as caught:
        train(more=f'[[schedule.also]]\n{more}\nuse = "linear"\n')
    (problem,) = caught.value.problems
    assert message in problem.message
    assert cure in problem.cure
    key = "use" if "base" in more else more.splitlines()[-1].split()[0]
    assert problem.place.source.startswith(f"{key} = "), "the line of what is wrong"


def test_one_number_cannot_follow_two_schedules(train: Train) -> None:
    more = '[[schedule.also]]\ntarget = "momentum"\nuse = "linear"\n' * 2
    with pytest.raises(RecipeError, match="momentum/0 is scheduled twice"):
        train("optimizer.momentum=0.9", more=more)


def test_compiled_steps_leave_numbers_outside_the_optimizer_to_eager_ones(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    more = '[[schedule.also]]\ntarget = "loss.label_smoothing"\nuse = "linear"\n'
    changes = ["loss.label_smoothing=0.2"]
    eager = train(*changes, more=more)
    compiled = train(*changes, 'run.compile="step"', more=more)
    assert "loss.label_smoothing is scheduled" in capsys.readouterr().err
    assert compiled.report.weights_sha256 == eager.report.weights_sha256


# ---------------------------------------------------------------- reactions


class Falling:
    """An evaluation that gives the figures of a list, one after the other."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)

    @hookimpl(tryfirst=True)
    def trainkit_evaluate(self, run: Run, split: str) -> dict[str, float]:
        return {"loss": self.values.pop(0) if self.values else 9.0, "accuracy": 0.5}


PLATEAU = '[[schedule.react]]\nuse = "plateau"\nfactor = 0.5\npatience = 0\n'


def test_a_reaction_acts_from_the_update_after_its_figure(train: Train) -> None:
    numbers = Numbers(lambda run: run.optimizer.param_groups[0]["lr"])
    figures = Falling(1.0, 0.5, 0.6, 0.4)
    finished = train('run.evaluate_every="4ba"', "logger=[]", more=PLATEAU, listeners=[numbers, figures])
    assert finished.run.events == [(12, "plateau:reduce")]
    assert numbers.seen == [0.1] * 12 + [0.05] * 4


def test_figures_of_the_warmup_are_not_looked_at(train: Train) -> None:
    figures = Falling(1.0, 2.0, 1.5, 1.4)
    finished = train('run.evaluate_every="4ba"', 'schedule.warmup="9ba"', more=PLATEAU, listeners=[figures])
    # The first figure that counts is that of update 12, and the next one is better.
    assert finished.run.events == []
    finished = train(
        'run.evaluate_every="4ba"',
        'schedule.warmup="9ba"',
        more=PLATEAU + 'after = "0ba"\n',
        listeners=[Falling(1.0, 2.0, 1.5, 0.4)],
    )
    assert finished.run.events == [(8, "plateau:reduce"), (12, "plateau:reduce")]


def test_a_figure_that_is_better_when_higher_is_turned_round(train: Train) -> None:
    class Rising(Falling):
        @hookimpl(tryfirst=True)
        def trainkit_evaluate(self, run: Run, split: str) -> dict[str, float]:
            return {"loss": 1.0, "accuracy": self.values.pop(0) if self.values else 0.0}

    more = PLATEAU + 'monitor = "val.accuracy"\n'
    finished = train('run.evaluate_every="4ba"', more=more, listeners=[Rising(0.1, 0.2, 0.15, 0.3)])
    assert finished.run.events == [(12, "plateau:reduce")]


def test_a_clock_that_would_be_held_after_the_run_is_a_problem(train: Train) -> None:
    more = '[[schedule.react]]\nuse = "freeze"\nat = ["3ba", "16ba"]\nlength = "2ba"\n'
    with pytest.raises(RecipeError, match=r"\[schedule.react.0\] freeze: at.1 is update 16, the run has 16"):
        train(more=more)


def test_two_reactions_of_one_name_keep_their_events_apart(train: Train) -> None:
    more = PLATEAU + PLATEAU.replace("0.5", "0.1") + 'monitor = "val.accuracy"\n'
    finished = train('run.evaluate_every="4ba"', more=more, listeners=[Falling(1.0, 0.9, 0.8, 0.7)])
    # The loss falls all the time; the accuracy stays what it is.
    assert {kind for _, kind in finished.run.events} == {"plateau#2:reduce"}
    assert finished.run.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.1**2, rel=1e-12)


def test_a_figure_that_nothing_gives_is_a_problem_with_the_nearest_name(load: Load) -> None:
    with pytest.raises(RecipeError) as caught:
        load(more=PLATEAU + 'monitor = "val.acuracy"\n')
    (problem,) = caught.value.problems
    assert "nothing gives the figure 'val.acuracy'" in problem.message
    assert "did you mean 'val.accuracy'?" in problem.cure


def test_a_figure_that_is_no_number_counts_as_not_better(train: Train) -> None:
    finished = train('run.evaluate_every="4ba"', more=PLATEAU, listeners=[Falling(1.0, math.nan, 0.9, 0.8)])
    assert finished.run.events == [(8, "plateau:reduce")]


class Shift:
    """A made-up reaction: from its event on, the body's clock is 10 updates behind."""

    def observe(self, t: int, value: float, /) -> str | None:
        return "shift"

    def react(self, body: Any, start: int, /) -> Any:
        def factor(t: int, T: int, events: Any = ()) -> float:
            mine = [at for at, kind in events if kind == "shift" and at <= t]
            behind = 10 if mine else 0
            return float(body(t - behind, T, [(at - behind, kind) for at, kind in events]))

        return factor

    def describe(self, kind: str, /) -> str:
        return "ten updates back"

    def save(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Any, /) -> None:
        return


def test_events_reach_the_reactions_inside_on_their_own_clock() -> None:
    seen: list[list[tuple[int, str]]] = []

    def body(t: int, T: int, events: Any = ()) -> float:
        seen.append([tuple(event) for event in events])
        return float(t)

    inner, outer = Watch("inner", Shift(), "val.loss", 0), Watch("outer", Shift(), "val.loss", 0)
    schedule = outer.reacting(inner.reacting(body, 0), 0)
    events = [(20, "outer:shift"), (30, "inner:shift"), (35, "other:thing")]
    assert schedule(19, 100, events) == 19
    assert schedule(29, 100, events) == 19
    assert schedule(30, 100, events) == 10  # ten for each of the two
    assert seen[-1] == [(15, "other:thing")]


def test_reactions_save_and_restore_by_label() -> None:
    class Counting(Shift):
        count = 0

        def save(self) -> dict[str, Any]:
            return {"count": self.count}

        def restore(self, state: Any, /) -> None:
            self.count = state["count"]

    one, two = Counting(), Counting()
    one.count, two.count = 3, 5
    run: Any = None
    state = Reactions([Watch("a", one, "val.loss", 0), Watch("b", two, "val.loss", 0)]).trainkit_save(run)
    again = [Watch("b", Counting(), "val.loss", 0), Watch("a", Counting(), "val.loss", 0)]
    Reactions(again).trainkit_restore(run, state)
    assert [watch.reaction.save()["count"] for watch in again] == [5, 3]
