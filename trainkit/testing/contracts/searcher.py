"""What every searcher keeps: its points are of the space, it asks without a trace, and a study can go on.

Searches are carried out without runs, see `trainkit.testing.simulated`. Their spaces are those of
`trainkit.testing.spaces`; a searcher may refuse some of them.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from trainkit.component import Component
from trainkit.space import Space
from trainkit.testing.contract import Contract
from trainkit.testing.searches import (
    LOSS,
    TRIALS,
    accepted,
    begun,
    counts,
    exhausted,
    name_of,
    once_more,
    refusal,
    searched,
    searcher_of,
    study_of,
)
from trainkit.testing.simulated import Simulated, ToldAsWorst, shown, simulate
from trainkit.testing.spaces import EMPTY, SPACES, any_figure
from trainkit.trial import FAILURES, Objective, Order, Searcher, Trial

Fails = Callable[[Trial], str | None]


class SearcherContract(Contract):
    """A searcher's orders follow from its seed and from what it was told; asking for them changes nothing."""

    kind = "searcher"

    @pytest.fixture
    def name(self, component: Component) -> str:
        """How messages call it."""
        return name_of(component)

    @pytest.fixture
    def space(self, component: Component) -> Space:
        """The first of the spaces that it accepts."""
        return next(iter(accepted(component).values()))

    def test_refuses_spaces_with_a_cure(self, component: Component, name: str) -> None:
        """A space that it cannot search is refused in begin, by ValueError with a cure on the second line."""
        for space in SPACES.values():
            refused = refusal(component, space)
            if refused is None:
                continue
            kind, (message, _, cure) = type(refused).__name__, str(refused).partition("\n")
            assert isinstance(refused, ValueError), f"{name}: begin raised {kind}; raise ValueError to refuse a space"
            assert cure.strip(), f'{name}: begin refuses with "{message}" and no cure; add a second line with one'
        assert accepted(component)

    def test_keeps_within_the_space(self, component: Component, name: str) -> None:
        """Each point has just the settings that count there, each within its range, and meets the constraints."""
        for key, space in accepted(component).items():
            for workers in counts(component, key):
                for trial in study_of(component, key, workers).trials:
                    assert space.holds(trial.point), f"{name}: {dict(trial.point)} is no point of the space '{key}'"

    def test_asking_leaves_no_trace(self, component: Component, name: str) -> None:
        """Whoever asks once or many times gets the same orders: only took and tell change a searcher."""
        key, space = next(iter(accepted(component).items()))
        for workers in (1, 3):
            often = searched(component, ToldAsWorst(searcher_of(component)), space, workers=workers, pure=True)
            seldom = study_of(component, key, workers)
            assert often.orders == seldom.orders, f"{name}: asking changes what it orders later; only took and tell may"

    def test_same_seed_same_study(self, component: Component, name: str) -> None:
        """Two searchers with one seed that are told the same order the same."""
        one, other = study_of(component, next(iter(accepted(component))), 3), once_more(component)[0]
        assert one.orders == other.orders, (
            f"{name}: two searches with one seed differ; draw from the generator of (seed, trial) alone"
        )

    def test_another_seed_another_study(self, component: Component, name: str, space: Space) -> None:
        """With another seed other points are tried."""
        one, other = (
            study_of(component, next(iter(accepted(component)))),
            searched(component, searcher_of(component, 4), space),
        )
        assert one.points != other.points, f"{name}: the seed decides nothing; its factory may ask for seed before /"

    def test_draws_from_no_global_generator(self, component: Component, name: str) -> None:
        """No number is taken from the generators of Python, NumPy and torch that everybody shares."""
        drawn = once_more(component)[1]
        assert not drawn, f"{name}: it draws from the global generator of {', '.join(drawn)}; seed one of its own"

    def test_trains_a_trial_to_its_end(self, component: Component, name: str) -> None:
        """Where no trial fails, one at least is done that may be the search's best."""
        for key in accepted(component):
            for workers in counts(component, key):
                study = study_of(component, key, workers)
                assert any(trial.status == "done" and trial.final for trial in study.trials), (
                    f"{name}: in the space '{key}' no trial is trained to its end, of {study.statuses()}"
                )

    def test_trains_no_more_than_it_plans(self, component: Component, name: str) -> None:
        """Its plan, where it has one, is of rungs that can be, and covers what it trains."""
        for key, space in accepted(component).items():
            searcher = begun(component, space)
            if not hasattr(searcher, "plan"):
                return
            plan = searcher.plan()
            for rung in plan:
                assert rung.trials >= 0, f"{name}: {rung} has no trials; plan how many are trained"
                assert 0 <= rung.since < rung.until <= 1, f"{name}: {rung} is no part of a run from 0 to 1"
            study, planned = study_of(component, key), sum(rung.trials * (rung.until - rung.since) for rung in plan)
            slack = len(study.trials) / 27  # a trial pauses at the first evaluation after its rung
            assert any(rung.about for rung in plan) or study.trained <= planned + slack, (
                f"{name}: it plans {planned:.2f} runs' worth of training, and trained {study.trained:.2f}"
            )

    def test_takes_points_that_are_not_its_own(self, component: Component, name: str, space: Space) -> None:
        """Given points take the place of the first that it proposes; one may lie outside the space."""
        outside = {**space.at([0.3] * len(space)), space.dimensions[0].name: 7.0}
        given = [outside, space.at([0.6] * len(space))]
        study = searched(component, searcher_of(component), space, given=given)
        assert study.points[:2] == given, f"{name}: it changed a given point"
        fresh = [trial for trial in study.trials[2:] if trial.parent is None]
        wrong = [dict(trial.point) for trial in fresh if not space.holds(trial.point)]
        assert not wrong, f"{name}: after a given point outside the space its own are outside too: {wrong}"
        assert fresh, f"{name}: after given points it proposes none of its own"

    def test_takes_results_of_an_earlier_study(self, component: Component, name: str, space: Space) -> None:
        """Trials of an earlier study, with numbers below 0, are taken when they are over, and told before its own."""
        searcher = begun(component, space)
        for number in range(1, 5):
            point, value = space.at([0.2 * number] * len(space)), float(number)
            trial = Trial(-number, point, "done", (value,), [(1.0, value)], trained=1.0)
            searcher.took(Order(point), trial)
            searcher.tell(trial)
        study = searched(component, searcher, space, begun=True)
        assert len(study.trials) > 4, f"{name}: told of an earlier study it begins {len(study.trials)} trials"

    def test_takes_results_in_any_order(self, component: Component, name: str, space: Space) -> None:
        """Trials may come to rest in another order than they were begun in."""
        searcher, taken = begun(component, space), list[tuple[Trial, float]]()
        while len(taken) < 8 and (order := searcher.ask()) is not None:
            trial = Trial(len(taken), order.point, "running", changes=order.changes, final=order.final)
            searcher.took(order, trial)
            taken.append((trial, order.until))
        for trial, until in reversed(taken):
            value = any_figure(trial.point, until)
            trial.status, trial.trained = ("done" if until == 1 else "paused"), until
            trial.values, trial.reports = (value,), [(until, value)]
            searcher.tell(trial)
        following = searcher.ask()
        assert following is not None, f"{name}: told of {len(taken)} of {TRIALS} trials, the last first, it waits"
        if following.trial is not None:
            known = 0 <= following.trial < len(taken) and taken[following.trial][0].status == "paused"
            assert known, f"{name}: told in another order it goes on with trial {following.trial}, which is not paused"
        else:
            assert space.holds(following.point), f"{name}: told in another order it leaves the space: {following.point}"

    def test_trials_that_fail_stop_nothing(self, component: Component, name: str, space: Space) -> None:
        """Where trials fail, are pruned or never go on the search takes its way; where all do it ends."""
        well = len(study_of(component, next(iter(accepted(component)))).trials)
        for status in ("pruned", "paused", *FAILURES):
            rests = Counter[int]()

            def every(trial: Trial, status: str = status, rests: Counter[int] = rests) -> str | None:
                rests[trial.number] += 1  # who lets a trial go on at once need not do it for ever
                return status if rests[trial.number] <= 5 else None

            def some(trial: Trial, status: str = status, every: Fails = every) -> str | None:
                early = status in FAILURES and trial.number % 4 == 1  # before anything is measured
                return every(trial) if trial.number % 2 and (trial.reports or early) else None

            half = searched(component, ToldAsWorst(searcher_of(component)), space, fails=some)
            assert len(half.trials) >= well // 2, (
                f"{name}: when every second trial is {status} it begins {len(half.trials)} trials, else {well}"
            )
            searched(component, ToldAsWorst(searcher_of(component)), space, fails=every)

    def test_goes_on_as_if_it_had_never_stopped(self, component: Component, name: str) -> None:
        """A new searcher that is told of a study's log without being asked orders what the study went on with."""
        key, space = next(iter(accepted(component).items()))
        for workers, fails in ((1, False), (3, True)):
            study = study_of(component, key, workers, fails)
            for half in (1, len(study.calls) // 2, len(study.calls) * 3 // 4):
                self._go_on(name, ToldAsWorst(begun(component, space)), study, half)

    def _go_on(self, name: str, searcher: Searcher, study: Simulated, half: int) -> None:
        for call in study.calls[:half]:
            call.make(searcher)
        for call in study.calls[half:]:
            if call.order is not None:
                asked: Order | None = searcher.ask()
                assert asked == call.order, (
                    f"{name}: continued after {half} calls it orders {shown(asked)}, and had ordered "
                    f"{shown(call.order)}; what it keeps must come from took and tell"
                )
            call.make(searcher)

    def test_says_why_there_is_no_more(self, component: Component, name: str) -> None:
        """Where it has nothing to order before all trials have begun, exhausted says why."""
        key = "small" if "small" in accepted(component) else next(iter(accepted(component)))
        study, why = exhausted(component, key)
        assert len(study.trials) == 2 * TRIALS or (isinstance(why, str) and why), (
            f"{name}: in the space '{key}' it ended after {len(study.trials)} of {2 * TRIALS} trials; give it "
            "exhausted() -> str that says why"
        )

    def test_tries_no_point_of_a_small_space_twice(self, component: Component, name: str) -> None:
        """In a space of 13 points none is tried twice, by trials that begin anew."""
        if "small" not in accepted(component):
            return
        study, _ = exhausted(component, "small")
        tried = [f"{sorted(trial.point.items())} {trial.changes}" for trial in study.trials if trial.parent is None]
        twice = sorted({one for one in tried if tried.count(one) > 1})
        assert not twice, f"{name}: it tried {twice[0]} twice; remember the points of a space with few"

    def test_ends_where_there_is_no_point(self, component: Component, name: str) -> None:
        """A space whose constraints no point meets is refused, or ends the search with a reason."""
        if refusal(component, EMPTY) is not None:
            return
        searcher = begun(component, EMPTY)
        order = searcher.ask()
        assert order is None, f"{name}: no point meets the constraints, and it orders {order.point}"
        assert getattr(searcher, "exhausted", lambda: "")(), f"{name}: exhausted does not say that there is no point"

    def test_changes_nothing_that_it_is_told(self, component: Component, name: str, space: Space) -> None:
        """Orders, and trials that it is told of, stay as they are."""
        searcher = begun(component, space)
        order = searcher.ask()
        assert order is not None, f"{name}: it orders nothing"
        before, trial = copy.deepcopy(order), Trial(0, order.point, "running")
        searcher.took(order, trial)
        trial.status, trial.values, trial.reports, trial.trained = "done", (1.0,), [(1.0, 1.0)], 1.0
        told = copy.deepcopy(trial)
        searcher.tell(trial)
        searcher.ask()
        assert order == before, f"{name}: it changed an order from {shown(before)} to {shown(order)}"
        assert trial == told, f"{name}: it changed a trial that it was told of from {told} to {trial}"

    def test_prunes_with_a_reason(self, component: Component, name: str, space: Space) -> None:
        """Where it has stop, that gives text, the same each time, and changes neither trial nor orders."""
        searcher = searcher_of(component)
        if not hasattr(searcher, "stop"):
            return
        asked: Callable[[Trial], Any] = searcher.stop

        def stop(trial: Trial) -> str:
            before = copy.deepcopy(trial)
            reasons = [asked(trial) for _ in range(2)]
            assert all(isinstance(one, str) for one in reasons), f"{name}: stop gave {reasons[0]!r}; give text"
            assert reasons[0] == reasons[1], f"{name}: stop gave {reasons[0]!r} and then {reasons[1]!r}"
            assert trial == before, f"{name}: stop changed the trial"
            return str(reasons[0])

        searcher.stop = stop
        searched(component, searcher, space, workers=3)

    def test_weighs_several_objectives(self, component: Component, name: str, space: Space) -> None:
        """One that declares multi_objective searches with two objectives; its orders follow from both."""
        if not component.capabilities.get("multi_objective"):
            return
        objectives = (*LOSS, Objective("parameters"))
        searched: list[Simulated] = []
        for sign in (1.0, -1.0):

            def curve(point: Any, share: float, sign: float = sign) -> tuple[float, ...]:
                value = any_figure(point, share)
                return value, sign * value

            settings: dict[str, Any] = {"trials": 2 * TRIALS, "space": space, "objectives": objectives, "name": name}
            searched.append(simulate(searcher_of(component), curve, **settings))
        assert all(space.holds(point) for study in searched for point in study.points), f"{name}: it leaves the space"
        assert searched[0].points != searched[1].points, (
            f"{name}: it declares multi_objective, and the second objective decides nothing"
        )

    def test_is_repeatable_as_it_declares(self, component: Component, name: str) -> None:
        """One that declares repeatable has the same study with any number of workers."""
        if not component.capabilities.get("repeatable"):
            return
        for key in accepted(component):
            alone, many = (
                [
                    (trial.point, trial.parent, trial.status, trial.values)
                    for trial in study_of(component, key, n).trials
                ]
                for n in (1, 3)
            )
            assert alone == many, f"{name}: it declares repeatable, and three workers make another study than one"
