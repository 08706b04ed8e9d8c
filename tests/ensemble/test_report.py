"""What ``report.json`` of an ensemble holds: figures beside those computed independently, test left out of choices."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainkit.cli import main
from trainkit.dataset import DataSpec
from trainkit.ensemble import costs, table
from trainkit.ensemble.base import Base
from trainkit.ensemble.held_out import validation_of
from trainkit.ensemble.measured import Measured
from trainkit.ensemble.opened import Ensemble
from trainkit.ensemble.report import measured_report, report_of
from trainkit.ensemble.table import Shown, read_report, show_ensemble, summary_lines
from trainkit.ensemble.temperature import fit_temperature
from trainkit.ensembler import Cost, Member
from trainkit.errors import MachineError, UsageError
from trainkit.instantiate import Builder
from trainkit.manager import Plugins
from trainkit.protocols import silent
from trainkit.recipe import Recipe, load_recipe, trial_recipe
from trainkit.scoring import score, scores

RECIPE = """\
recipe = 1
seed = 5
[run]
duration = "1ep"
device = "cpu"
[data]
use = "synthetic"
samples = 700
{data}
[model]
use = "linear"
[loss]
use = "{loss}"
[optimizer]
use = "sgd"
lr = 0.1
[ensemble]
use = "{use}"
bootstrap = 50
{settings}
"""


class Making:
    """Stands for the session that makes an ensemble."""

    def __init__(self, path: Path, recipe: Recipe, plugins: Plugins) -> None:
        self.path = path
        self.recipe = recipe
        self.plugins = plugins
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def at_once(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


@functools.cache
def plugins() -> Plugins:
    found = Plugins()
    found.load()
    return found


class Made:
    """An ensemble of linear models, each fitted to its own draw of the training samples."""

    def __init__(
        self,
        folder: Path,
        use: str = "seeds",
        settings: str = "",
        members: int = 4,
        data: str = "",
        longer: bool = False,
        folds: bool = False,
        bags: bool = False,
    ) -> None:
        self.plugins = plugins()
        loss = "mse" if "regression" in data else "cross_entropy"
        (folder / "recipe.toml").write_text(RECIPE.format(use=use, settings=settings, data=data, loss=loss))
        self.recipe = load_recipe(folder / "recipe.toml", [], self.plugins)
        self.base = Base(trial_recipe(self.recipe, {}), self.plugins, name="the recipe", say=lambda text: None)
        self.members = [self.member(number) for number in range(members)]
        for number, member in enumerate(self.members if folds else ()):
            data = {**self.base.recipe.tables["data"], "folds": members, "fold": number}
            member.recipe, member.fold = {**member.recipe, "data": data}, number
        for number, member in enumerate(self.members if bags else ()):
            member.recipe = {**member.recipe, "data": {**self.base.recipe.tables["data"], "bag": number}}
        self.longer = self.member(99, steps=60) if longer else None
        self.ensembler = Builder(self.recipe, self.plugins, silent).make("ensemble")
        for member in self.members:
            self.ensembler.add(member)
        self.validation = validation_of(self.members, self.base, lambda text: None)
        self.ensembler.fit(self.validation)
        self.settings = self.recipe.tables["ensemble"]
        self.making: Any = Making(folder, self.recipe, self.plugins)
        raw = self.ensemble(1.0)
        temperature = 1.0
        if self.settings["calibrate"] == "temperature" and members > 1 and not folds:
            given, targets = self.base.measure(raw, "val"), self.base.targets("val")
            temperature = fit_temperature(given, targets, self.base.spec)
        self.whole = self.ensemble(temperature)

    def ensemble(self, temperature: float) -> Ensemble:
        tables = self.base.recipe.tables
        chosen = self.ensembler.members()
        return Ensemble(self.ensembler, chosen, temperature, self.base.spec, self.settings, tables, sha256="ab" * 32)

    def member(self, number: int, steps: int = 8) -> Member:
        spec: DataSpec = self.base.spec
        batches = list(self.base.batches("train"))
        inputs = torch.cat([batch.inputs for batch in batches]).flatten(1)
        targets = torch.cat([batch.targets for batch in batches])
        generator = torch.Generator().manual_seed(number)
        rows = torch.randint(len(inputs), (40,), generator=generator)
        model = nn.Sequential(nn.Flatten(), nn.Linear(inputs.shape[1], spec.outputs))
        nn.init.normal_(model[1].weight, std=0.5, generator=generator)
        nn.init.zeros_(model[1].bias)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(steps):
            optimizer.zero_grad()
            if spec.task == "regression":
                loss = nn.functional.mse_loss(model(inputs[rows]), targets[rows].reshape(len(rows), -1))
            else:
                loss = nn.functional.cross_entropy(model(inputs[rows]), targets[rows])
            loss.backward()
            optimizer.step()
        recipe = {key: value for key, value in self.base.recipe.tables.items()}
        return Member(f"member {number}", model.eval(), recipe, spec, cost=Cost(steps, steps / 4, 0.5))

    def report(self) -> dict[str, Any]:
        measured = Measured(self.whole, self.members, self.base, self.settings, 5, self.longer)
        return json.loads(json.dumps(measured_report(measured, self.making), allow_nan=False))

    def drawn_report(self) -> dict[str, Any]:
        found = report_of(self.whole, self.members, self.base, self.settings, self.longer, self.making)
        return json.loads(json.dumps(found, allow_nan=False))

    def given(self, module: nn.Module, split: str) -> Tensor:
        inputs = torch.cat([batch.inputs for batch in self.base.batches(split)])
        with torch.no_grad():
            return module(inputs)

    def scores(self, outputs: Tensor, split: str) -> dict[str, float]:
        return scores(outputs, self.base.targets(split), self.base.spec)

    def close(self) -> None:
        self.base.close()


@pytest.fixture(autouse=True)
def clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs are looked at in tests of their own."""
    monkeypatch.setattr(costs, "latency_ms", lambda module, inputs: 0.5)
    monkeypatch.setattr(costs, "multiplications", lambda module, inputs: 7)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Any]:
    there: list[Made] = []

    def maker(**more: Any) -> Made:
        folder = tmp_path / str(len(there))
        folder.mkdir()
        there.append(Made(folder, **more))
        return there[-1]

    yield maker
    for made in there:
        made.close()


def values(figures: dict[str, dict[str, float]]) -> dict[str, float]:
    return {name: figure["value"] for name, figure in figures.items()}


def test_every_model_has_the_figures_of_its_outputs(make: Any) -> None:
    made = make(longer=True)
    report = made.report()
    models = [member.module for member in made.members]
    for split in ("validation", "test"):
        own = "val" if split == "validation" else split
        each = [made.scores(made.given(model, own), own) for model in models]
        for entry, expected in zip(report["members"], each, strict=True):
            assert values(entry[split]["raw"]) == pytest.approx(expected, rel=1e-5)
        mean = {name: sum(one[name] for one in each) / 4 for name in each[0]}
        assert values(report["mean_member"][split]["raw"]) == pytest.approx(mean, rel=1e-5)
        ensemble = made.given(made.whole, own)
        found = report["ensemble"][split]
        assert values(found["calibrated"]) == pytest.approx(made.scores(ensemble, own), rel=1e-5)
        raw = ensemble * made.whole.temperature
        assert values(found["raw"]) == pytest.approx(made.scores(raw, own), rel=1e-5)
        longer = made.scores(made.given(made.longer.module, own), own)
        assert values(report["longer"][split]["raw"]) == pytest.approx(longer, rel=1e-5)
        apart = report["differences"]["longer"][split]["raw"]
        assert apart["nll"]["value"] == pytest.approx(found["raw"]["nll"]["value"] - longer["nll"], rel=1e-4)
        for figure in found["calibrated"].values():
            assert figure["low"] <= figure["value"] + 0.05
            assert figure["low"] <= figure["high"]


def test_the_best_member_is_that_of_validation_and_each_has_its_own_temperature(make: Any) -> None:
    made = make()
    report = made.report()
    targets, spec = made.base.targets("val"), made.base.spec
    figures = []
    for number, member in enumerate(made.members):
        outputs = made.given(member.module, "val")
        temperature = fit_temperature(outputs, targets, spec)
        assert report["members"][number]["temperature"] == pytest.approx(temperature)
        figures.append(made.scores(outputs / temperature, "val")["nll"])
    best = figures.index(min(figures))
    assert report["best_member"]["number"] == best
    assert report["best_member"]["name"] == made.members[best].name
    gap = report["optimism"]["best_member"]["calibrated"]["nll"]
    tested = made.scores(made.given(made.members[best].module, "test") / report["members"][best]["temperature"], "test")
    assert gap == pytest.approx(tested["nll"] - figures[best], abs=1e-6)


def test_the_test_split_is_left_alone_where_it_is_to_be(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(settings="test = false")
    asked: list[str] = []
    before = made.base.measure
    monkeypatch.setattr(made.base, "measure", lambda module, split: asked.append(split) or before(module, split))
    targets = made.base.targets
    monkeypatch.setattr(made.base, "targets", lambda split: asked.append(split) or targets(split))
    report = made.report()
    assert asked
    assert "test" not in asked
    assert "test" not in report["ensemble"]
    assert report["samples"].keys() == {"validation"}
    assert report["curve"]["split"] == "validation"
    assert any("nothing was measured on test samples" in text for text in report["words"])


def test_other_test_samples_change_no_choice(make: Any) -> None:
    made = make(use="greedy")
    first = made.report()
    made.base.dataset.splits["test"].targets.copy_(made.base.targets("test").flip(0))
    second = made.report()
    assert second["ensemble"]["test"] != first["ensemble"]["test"]
    for key in ("best_member", "members", "mean_member", "ensemble"):
        one, other = first[key], second[key]
        for entry in one if isinstance(one, list) else [one]:
            entry.pop("test")
        for entry in other if isinstance(other, list) else [other]:
            entry.pop("test")
        assert one == other
    assert first["reselection"] == second["reselection"]


def test_the_curve_ends_at_the_ensemble_and_begins_at_the_mean_member(make: Any) -> None:
    report = make().report()
    points = report["curve"]["points"]
    assert [point["members"] for point in points] == [1, 2, 3, 4]
    assert points[0]["raw"] == pytest.approx(values(report["mean_member"]["test"]["raw"]), rel=1e-5)
    assert points[-1]["raw"] == pytest.approx(values(report["ensemble"]["test"]["raw"]), rel=1e-5)
    assert points[-1]["calibrated"] == pytest.approx(values(report["ensemble"]["test"]["calibrated"]), rel=1e-5)


def test_every_point_of_the_curve_is_of_the_same_samples(make: Any) -> None:
    made = make(use="bagging", settings="test = false", bags=True)
    held = made.validation.held_out
    assert held.any(0).sum() > held.all(0).sum(), "a draw leaves out training samples that others were trained on"
    report = made.report()
    points = report["curve"]["points"]
    assert report["curve"]["split"] == "validation"
    assert points[0]["raw"] == pytest.approx(values(report["mean_member"]["validation"]["raw"]), rel=1e-5)
    assert points[-1]["raw"] == pytest.approx(values(report["ensemble"]["validation"]["raw"]), rel=1e-5)


def test_what_is_chosen_anew_is_measured_by_samples_that_had_no_part_in_it(make: Any) -> None:
    made = make(use="topk", settings="k = 1")
    again = made.report()["reselection"]
    outputs, targets, spec = made.validation.outputs, made.validation.targets, made.base.spec
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(5))
    pooled = torch.empty(outputs.shape[1:])
    for fold in range(5):
        held = order[fold::5]
        others = torch.ones(len(targets), dtype=torch.bool)
        others[held] = False
        figures = [score("nll", own[others], targets[others], spec) for own in outputs]
        pooled[held] = outputs[figures.index(min(figures))][held]
    assert again["folds"] == 5
    assert again["ensemble"]["raw"] == pytest.approx(scores(pooled, targets, spec), rel=1e-6)


def test_a_figure_that_is_infinite_is_nothing(make: Any) -> None:
    made = make()
    measured = Measured(made.whole, made.members, made.base, made.settings, 5)
    tested = measured.test()
    assert tested is not None
    tested.outputs[0, :, 0] = -torch.inf
    measured.test = lambda: tested  # type: ignore[method-assign]
    report = json.loads(json.dumps(measured_report(measured, made.making), allow_nan=False))
    assert report["members"][0]["test"]["raw"]["nll"]["value"] is None
    assert report["members"][0]["test"]["raw"]["accuracy"]["value"] is not None
    assert summary_lines(report)
    assert Shown(report).cells(10)


def test_one_member_is_the_ensemble(make: Any) -> None:
    report = make(members=1).report()
    assert report["ensemble"]["test"] == report["best_member"]["test"] == report["members"][0]["test"]
    assert report["curve"] == {"reason": "there is one member"}
    assert report["words"][0] == "one member: the ensemble is member 0"
    assert summary_lines(report)


def test_an_uncalibrated_ensemble_is_compared_as_if_it_were_not(make: Any) -> None:
    made = make(settings='calibrate = "none"')
    report = made.report()
    assert report["temperature"] == 1.0
    raw = made.given(made.whole, "val")
    assert report["ensemble"]["temperature"] == pytest.approx(
        fit_temperature(raw, made.base.targets("val"), made.base.spec)
    )


def test_members_on_folds_are_judged_by_what_they_have_not_seen(make: Any) -> None:
    made = make(use="folds", settings="folds = 4", folds=True)
    report = made.report()
    assert report["validation_is"] == "out of fold"
    assert report["kind"] == "raw"
    sizes = made.base.spec.sizes
    assert report["samples"] == {"validation": sizes["train"] + sizes["val"], "test": sizes["test"]}
    held = made.validation.held_out
    assert held.sum(0).eq(1).all()
    for number, entry in enumerate(report["members"]):
        outputs, targets = made.validation.outputs[number, held[number]], made.validation.targets[held[number]]
        assert values(entry["validation"]["raw"]) == pytest.approx(scores(outputs, targets, made.base.spec), rel=1e-5)
    assert "validation" not in report["ensemble"]
    assert report["ensemble"]["temperature"] == 1.0
    assert set(report["differences"]["best_member"]) == {"test"}
    assert report["optimism"]["ensemble"] == {}
    assert "0 validation samples" in report["reselection"]["reason"]
    assert len(report["curve"]["points"]) == 4
    assert summary_lines(report)
    assert Shown(report).foot()


def test_folds_without_a_test_have_no_figures_of_the_ensemble(make: Any) -> None:
    report = make(use="folds", settings="folds = 4\ntest = false", folds=True).report()
    assert report["ensemble"] == {"temperature": 1.0}
    assert "diversity" not in report
    assert "reason" in report["curve"]
    assert summary_lines(report)
    assert Shown(report).foot()


def test_numbers_have_errors_and_no_temperature(make: Any) -> None:
    made = make(data='task = "regression"')
    report = made.report()
    assert report["chosen_by"] == "mse"
    assert set(report["ensemble"]["test"]) == {"raw"}
    assert set(report["ensemble"]["test"]["raw"]) == {"mse", "mae", "r2", "nll"}
    expected = made.scores(made.given(made.whole, "test"), "test")
    assert (
        expected.items()
        <= {k: pytest.approx(v, rel=1e-5) for k, v in values(report["ensemble"]["test"]["raw"]).items()}.items()
    )
    assert "error_correlation" in report["diversity"]
    assert "reliability" not in report
    assert report["variance_scale"] > 0
    assert summary_lines(report)
    assert Shown(report).foot()


def test_the_same_ensemble_has_the_same_report_but_for_clocks(make: Any) -> None:
    one, other = make(use="greedy").report(), make(use="greedy").report()
    assert one == other


def test_what_is_shown(make: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "tell_plugins", lambda *_: None)
    made = make(use="greedy", longer=True)
    report = made.report()
    folder = made.making.path
    (folder / "report.json").write_text(json.dumps({**report, "notes": ["a note"]}))
    told: list[str] = []
    show_ensemble(folder, made.plugins, 2, False, told.append)
    shown = capsys.readouterr().out
    assert f"{folder}: finished" in shown
    for text in (
        "mean member",
        "best member: ",
        "one longer run",
        "ensemble",
        "- a note",
        "against the number of members",
    ):
        assert text in shown
    assert shown.count("\nmember ") == 2
    assert not told
    show_ensemble(folder, made.plugins, 2, True, told.append)
    found = json.loads(capsys.readouterr().out)
    assert found["ensemble"] == report["ensemble"]
    assert found["folder"] == str(folder)


def test_the_verb_shows_it(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    made = make()
    folder = made.making.path
    assert main(["report", str(folder)]) == 2
    assert f"{folder}: the ensemble is not finished; go on with trainkit resume {folder}" in capsys.readouterr().err
    report = made.drawn_report()
    assert not made.making.notes
    assert {path.name for path in folder.glob("*.png")} == {"curve.png", "reliability.png", "diversity.png"}
    (folder / "report.json").write_text(json.dumps(report))
    for picture in folder.glob("*.png"):
        picture.unlink()
    assert main(["report", str(folder), "--top", "1"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("\nmember ") == 1
    assert str(folder / "curve.png") in shown
    assert main(["report", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["pictures"]) == 3
    assert found["html"] == str(folder / "report.html")
    assert "Number of members" in (folder / "report.html").read_text()


def test_what_is_no_report_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the ensemble is not finished; go on with trainkit resume"):
        read_report(tmp_path)
    for text in ("{", "[]", "{}", '{"ensembler": "seeds", "members": 3}'):
        (tmp_path / "report.json").write_text(text)
        with pytest.raises(MachineError, match=r"report\.json"):
            read_report(tmp_path)
    (tmp_path / "report.json").write_text('{"ensembler": "seeds", "members": [], "status": "finished"}')
    with pytest.raises(MachineError, match="this is not the report of an ensemble"):
        show_ensemble(tmp_path, Plugins(), 10, False, print)
