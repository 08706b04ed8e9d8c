"""What every metric keeps."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from trainkit.component import Component
from trainkit.protocols import Metric
from trainkit.tally import put_back, state_of
from trainkit.testing.build import made
from trainkit.testing.samples import Case, OnData, on_any_device, refuses_in_words, said, told

SAMPLES = 24
Figures = dict[str, float]


class MetricContract(OnData):
    """A metric is a figure over a whole split, exact whatever the batches."""

    kind = "metric"

    def test_refuses_other_data_in_words(self, component: Component) -> None:
        """Data that it is not for is refused with a message: by DataError, or where the first samples come."""
        refuses_in_words(component)

    def test_gives_finite_numbers(self, component: Component, cases: list[Case]) -> None:
        """``compute`` gives a finite float, or floats by name."""
        for case, metric in built(component, cases):
            metric.reset()
            metric.update(case.outputs(SAMPLES), case.targets(SAMPLES))
            found = metric.compute()
            parts = list(found.values()) if isinstance(found, Mapping) else [found]
            assert all(isinstance(part, float) and math.isfinite(part) for part in parts), (
                f"metric '{component.name}' on {case}: compute() gives {found!r}; it must give a finite float, or "
                "floats by name"
            )

    def test_does_not_depend_on_batches(self, component: Component, cases: list[Case]) -> None:
        """The figure of a split is the same however it is cut into batches, and in whatever order they come."""
        for case, metric in built(component, cases):
            outputs, targets = case.outputs(SAMPLES), case.targets(SAMPLES)
            whole = figures(metric, [(outputs, targets)])
            for sizes in ([SAMPLES - 7, 7], [1] * SAMPLES, [10, 1, 1, 12]):
                parts = list(zip(torch.split(outputs, sizes), torch.split(targets, sizes), strict=True))
                for what, pairs in (("in batches of", parts), ("in the other order, in batches of", parts[::-1])):
                    found = figures(metric, pairs)
                    assert found == pytest.approx(whole, rel=1e-9, abs=1e-12), (
                        f"metric '{component.name}' on {case}: {whole} at once, {found} {what} {sizes}; "
                        f"{_cure(whole, found)}{case.advice}"
                    )

    def test_reset_forgets_everything(self, component: Component, cases: list[Case]) -> None:
        """After ``reset`` a metric is as it was when it was made."""
        for case, metric in built(component, cases):
            first = figures(metric, [(case.outputs(SAMPLES), case.targets(SAMPLES))])
            figures(metric, [(case.outputs(SAMPLES, 1), case.targets(SAMPLES, 1))])
            again = figures(metric, [(case.outputs(SAMPLES), case.targets(SAMPLES))])
            assert again == first, (
                f"metric '{component.name}' on {case}: {first} at first, {again} after other samples and reset()"
            )

    def test_compute_only_looks(self, component: Component, cases: list[Case]) -> None:
        """``compute`` may be called between two batches, and as often as one likes."""
        for case, metric in built(component, cases):
            pairs = [(case.outputs(SAMPLES, seed), case.targets(SAMPLES, seed)) for seed in (0, 1)]
            whole = figures(metric, pairs)
            metric.reset()
            for pair in pairs:
                metric.update(*pair)
                metric.compute()
            found = as_figures(metric.compute())
            assert found == pytest.approx(whole, rel=1e-12), (
                f"metric '{component.name}' on {case}: {whole}, but {found} where compute() was also called before"
            )

    def test_says_which_way_is_good(self, component: Component, cases: list[Case]) -> None:
        """``higher_is_better`` is a bool, which perfect outputs bear out, and the capability says the same."""
        declared = component.capabilities.get("higher_is_better")
        for case, metric in built(component, cases):
            what = f"metric '{component.name}'"
            says = getattr(metric, "higher_is_better", None)
            assert isinstance(says, bool), f"{what}: higher_is_better is {says!r}; it must be True or False"
            assert declared is says, (
                f"{what}: declare capabilities={{'higher_is_better': {says}}} on the component, as the object says; "
                "a search has to know before anything is built"
            )
            if case.width is not None:  # what perfect outputs are its loss alone knows
                continue
            targets = case.targets(SAMPLES)
            perfect, drawn = (
                figures(metric, [(outputs, targets)]) for outputs in (case.perfect(targets), case.outputs(SAMPLES))
            )
            worse = operator.lt if says else operator.gt
            wrong = [name for name in perfect if worse(perfect[name], drawn[name])]  # of easy figures both are equal
            assert not wrong, (
                f"{what} on {case}: {perfect} of perfect outputs, {drawn} of drawn ones: higher_is_better = {says} is "
                f"the other way round{case.advice}"
            )

    def test_leaves_its_arguments_alone(self, component: Component, cases: list[Case]) -> None:
        """Outputs and targets are not changed: other metrics see them afterwards."""
        for case, metric in built(component, cases):
            outputs, targets = case.outputs(SAMPLES), case.targets(SAMPLES)
            before = outputs.clone(), targets.clone()
            figures(metric, [(outputs, targets)])
            same = torch.equal(outputs, before[0]) and torch.equal(targets, before[1])
            assert same, f"metric '{component.name}' on {case}: changes outputs or targets in place"

    def test_bears_inference_mode(self, component: Component, cases: list[Case]) -> None:
        """What it has gathered in inference mode it goes on with outside, and the other way round."""
        for case, metric in built(component, cases):
            pairs = [(case.outputs(SAMPLES, seed), case.targets(SAMPLES, seed)) for seed in (0, 1)]
            whole = figures(metric, pairs)
            for quiet in (True, False):
                metric.reset()
                try:
                    for number, pair in enumerate(pairs):
                        with torch.inference_mode(quiet == (number == 0)):
                            metric.update(*pair)
                    found = as_figures(metric.compute())
                except RuntimeError as error:
                    raise AssertionError(
                        f"metric '{component.name}' on {case}: {said(error)}; add without changing in "
                        "place (total = total + x)"
                    ) from error
                assert found == pytest.approx(whole, rel=1e-12), f"metric '{component.name}' on {case}: another figure"

    def test_is_continued_within_an_interval(self, component: Component, cases: list[Case]) -> None:
        """A run that is stopped between two log lines goes on: all it has gathered are attributes that can be saved."""
        for case, metric in built(component, cases):
            pairs = [(case.outputs(SAMPLES, seed), case.targets(SAMPLES, seed)) for seed in (0, 1)]
            whole = figures(metric, pairs)
            metric.reset()
            metric.update(*pairs[0])
            state = state_of(metric)
            again = made(component, data_spec=case.spec)
            again.reset()
            put_back(again, copy.deepcopy(state), torch.device("cpu"))
            again.update(*pairs[1])
            found = as_figures(again.compute())
            held = sorted(set(getattr(metric, "__dict__", {})) - set(state))
            assert found == whole, (
                f"metric '{component.name}' on {case}: {whole}, but {found} where the run was continued between two "
                "batches; keep what is gathered as tensors, numbers, text, lists and dicts in attributes of the metric"
                + (f"; {', '.join(held)} cannot be saved" if held else "")
            )

    def test_is_copied_whole(self, component: Component, cases: list[Case]) -> None:
        """A copy counts by itself: training batches are measured by one while an evaluation resets the other."""
        for case, metric in built(component, cases):
            first = [(case.outputs(SAMPLES), case.targets(SAMPLES))]
            alone = figures(metric, first)
            metric.reset()
            other = copy.deepcopy(metric)
            metric.update(*first[0])
            figures(other, [(case.outputs(SAMPLES, 1), case.targets(SAMPLES, 1))])
            found = as_figures(metric.compute())
            assert found == alone, (
                f"metric '{component.name}' on {case}: {found} instead of {alone} where a copy of it was used; "
                "keep what is gathered in attributes of the object, not of the class or module"
            )

    def test_counts_lanes_apart(self, component: Component, cases: list[Case]) -> None:
        """Where it has ``update_lanes``: each of several metrics takes in its row, to the same figure as by update."""
        for case, metric in built(component, cases):
            if (together := getattr(metric, "update_lanes", None)) is None:
                continue
            lanes = [made(component, data_spec=case.spec) for _ in range(3)]
            rows = [(case.outputs(SAMPLES, seed), case.targets(SAMPLES, seed)) for seed in range(3)]
            for lane in lanes:
                lane.reset()
            outputs, targets = (torch.stack(part) for part in zip(*rows, strict=True))
            for start in (0, SAMPLES // 2):
                part = slice(start, start + SAMPLES // 2)
                together(lanes, outputs[:, part], targets[:, part])
            for lane, row in zip(lanes, rows, strict=True):
                found, alone = as_figures(lane.compute()), figures(metric, [row])
                assert found == pytest.approx(alone, rel=1e-12), (
                    f"metric '{component.name}' on {case}: {found} by update_lanes, {alone} by update"
                )

    def test_update_runs_on_any_device_without_waiting(self, component: Component, cases: list[Case]) -> None:
        """``update`` works where the outputs are, and never waits for a value; ``compute`` may."""
        for case, metric in built(component, cases):
            outputs, targets = case.outputs(SAMPLES).to("meta"), case.targets(SAMPLES).to("meta")
            metric.reset()
            with on_any_device(f"metric '{component.name}' on {case}: update"):
                metric.update(outputs, targets)
                metric.update(outputs, targets)


def built(component: Component, cases: list[Case]) -> list[tuple[Case, Metric]]:
    """The metric for each kind of data; outputs are those that its loss asks for, where it is given outputs."""
    metrics = [made(component, data_spec=case.spec) for case in cases]
    return [(told(case, metric), metric) for case, metric in zip(cases, metrics, strict=True)]


def figures(metric: Metric, pairs: list[tuple[Tensor, Tensor]]) -> Figures:
    """The figures over these batches."""
    metric.reset()
    for outputs, targets in pairs:
        metric.update(outputs, targets)
    return as_figures(metric.compute())


def _cure(whole: Figures, found: Figures) -> str:
    if found == pytest.approx(whole, rel=1e-4):
        return "it is rounded otherwise: add in float64 (outputs.double())"
    return "gather sums and counts in update, and divide in compute"


def as_figures(found: Any) -> Figures:
    """What ``compute`` gave, by name."""
    return {name: float(part) for name, part in found.items()} if isinstance(found, Mapping) else {"": float(found)}
