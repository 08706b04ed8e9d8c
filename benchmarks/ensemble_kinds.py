"""Every kind of ensemble on digits, made as a user makes it: from the recipes in `recipes/ensemble`, or of a search.

What each gives for the test samples, after temperature, and what it cost. `ensembles.py` makes the table of it.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import mean_cell

from trainkit.cli import main

ROOT = Path(__file__).parents[1]
# Of each figure, how the tables write it.
FIGURES = {"accuracy": "{:.2%}", "nll": "{:.4f}", "ece": "{:.4f}"}
# The split of all figures here: 719 samples to train on, 359 to choose by, 719 to measure.
SPLIT = ("data.val=0.2", "data.test=0.4")
UNIT = 30  # epochs of mlp_digits.toml: what training cost is counted in
# None of these changes what is trained, chosen or measured: intervals by bootstrap are not looked at here.
FAST = ("ensemble.bootstrap=10",)


@dataclass
class Row:
    """One kind, once.

    Args:
        label: what the table calls it.
        members: models in it.
        epochs: what was trained for it, over all runs.
        passes: what one prediction costs, in passes of one MLP 64-128-10.
        figures: of the test samples, after temperature.
        raw: the same without.
    """

    label: str
    members: float
    epochs: float
    passes: float
    figures: Mapping[str, float]
    raw: Mapping[str, float] = field(default_factory=dict)


def called(*words: str) -> Any:
    """What one command of trainkit prints as JSON; it says nothing else."""
    told, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(said):
        code = main([*words, "--json", "-q", "--without", "reports"])
    if code:
        raise RuntimeError(f"trainkit {' '.join(words)}\n{said.getvalue()}{told.getvalue()[-2000:]}")
    return json.loads(told.getvalue())


def figures_of(model: Mapping[str, Any], kind: str = "calibrated") -> dict[str, float]:
    """The figures of the test samples."""
    return {name: model["test"][kind][name]["value"] for name in FIGURES}


@contextlib.contextmanager
def without_curves() -> Iterator[None]:
    """Reports without what takes long and is not looked at here: ensembles of fewer members, and timings."""
    from trainkit.ensemble import costs, retrying

    find, latency = retrying.Retrying._find, costs.latency_ms

    def nothing(self: Any) -> None:
        self.reason = "it is left out"

    retrying.Retrying._find = nothing  # type: ignore[method-assign]
    costs.latency_ms = lambda module, inputs: 0.0
    try:
        yield
    finally:
        retrying.Retrying._find = find  # type: ignore[method-assign]
        costs.latency_ms = latency


class Kinds:
    """Makes every kind with one seed.

    Args:
        seed: of the recipes; the split does not depend on it.
        folder: an empty one.
        changes: laid over every recipe.
        searched: laid over recipes with a search.
        only: labels to make; all if empty.
    """

    def __init__(
        self, seed: int, folder: Path, changes: Sequence[str], searched: Sequence[str], only: Sequence[str] = ()
    ) -> None:
        self.seed, self.folder, self.only = seed, folder, only
        self.changes = (*SPLIT, *changes, f"seed={seed}", "run.threads=1")
        self.searched = searched
        self.rows: list[Row] = []

    def made(self) -> list[Row]:
        """One row of each kind."""
        for part in (self.of_seeds, self.of_runs, self.of_one_run, self.of_search, self.inside):
            part()
        return self.rows

    def wants(self, *labels: str) -> bool:
        """Whether one of these is to be made."""
        return not self.only or any(label in self.only for label in labels)

    def run(self, recipe: str, *words: str) -> Any:
        """An ensemble from a shipped recipe."""
        folder = self.folder / recipe
        path = str(ROOT / "recipes" / "ensemble" / f"{recipe}.toml")
        return called("run", path, *self.changes, *FAST, *words, "--run-dir", str(folder))

    def add(self, label: str, report: Mapping[str, Any], epochs: float | None = None, passes: float = 0) -> None:
        """A row from the report of an ensemble."""
        cost, made = report["cost"], report["ensemble"]
        trained = cost["training"]["all"]["epochs"] if epochs is None else epochs
        kept = (
            sum(bool(member["kept"]) for member in report["members"]) or 1
        )  # of an average or a student: one new model
        paid = passes or cost["ensemble"]["macs"] / PLAIN_MACS
        self.rows.append(Row(label, kept, trained, paid, figures_of(made), figures_of(made, "raw")))

    def of_seeds(self) -> None:
        """Runs that differ in their seed, one of them alone, and one longer run."""
        labels = ("one run", "one run, five times as long", "`seeds`")
        if not self.wants(*labels):
            return
        report = self.run("seeds")
        each, longer = report["members"], report["longer"]
        mean = {name: statistics.mean(figures_of(member)[name] for member in each) for name in FIGURES}
        training = report["cost"]["training"]
        self.rows.append(Row(labels[0], 1, training["member"]["epochs"], 1, mean))
        self.rows.append(Row(labels[1], 1, training["longer"]["epochs"], 1, figures_of(longer)))
        self.add(labels[2], report)

    def of_runs(self) -> None:
        """Runs on other parts of the samples."""
        for label, recipe in (("`folds`", "folds"), ("`bagging`", "bagging")):
            if self.wants(label):
                self.add(label, self.run(recipe))

    def of_one_run(self) -> None:
        """Members from one run's way, and averages of it."""
        for label, recipe in (
            ("`snapshots`", "snapshots"),
            ("`seeds`, as cheap as these snapshots", "seeds_for_snapshots"),
            ("`fge`", "fge"),
            ("`average`, swa", "average"),
        ):
            if self.wants(label):
                self.add(label, self.run(recipe))
        student = "`distil`, a quarter of the size"
        if self.wants(student):
            report = self.run("distil")
            training = report["cost"]["training"]  # of the teachers; the student takes as long as one of them
            self.add(student, report, training["all"]["epochs"] + training["member"]["epochs"])
        if self.wants("`mc_dropout`"):
            self.add("`mc_dropout`", self.run("mc_dropout"), passes=30)

    def of_search(self) -> None:
        """The trials of one search, chosen and combined in every way; and a soup of fine-tuned trials."""
        if self.wants("the best trial of a search", "`greedy`", "`topk`", "`convex`", "`vote`, of all trials"):
            study = self.run("search_then_greedy", *self.searched)
            report, folder = study["ensemble"], str(self.folder / "search_then_greedy")
            epochs = report["cost"]["training"]["all"]["epochs"]
            self.rows.append(Row("the best trial of a search", 1, epochs, 1, figures_of(report["best_member"])))
            self.add("`greedy`", report)
            for use, label, *words in (
                ("topk", "`topk`", "k=5"),
                ("convex", "`convex`"),
                ("vote", "`vote`, of all trials"),
            ):
                out = str(self.folder / use)
                made = called("ensemble", folder, "--use", use, *words, "bootstrap=10", "--out", out)
                self.add(label, made, epochs)
        if self.wants("`stacking`, of folds"):
            self.add("`stacking`, of folds", self.run("stacking", *self.searched)["ensemble"])
        if self.wants("`average`, greedy soup"):
            self.add("`average`, greedy soup", self.run("soup", *self.searched)["ensemble"])

    def inside(self) -> None:
        """Runs of one model that has members inside, or averages itself; each as an ensemble of one."""
        for label, recipe, members in (
            ("`packed` (a model)", "packed", 4),
            ("`batch_ensemble` (a model)", "batch_ensemble", 4),
            ("`switch_ema` (a callback)", "switch_ema", 1),
        ):
            if not self.wants(label):
                continue
            folder = self.folder / recipe
            path = str(ROOT / "recipes" / "ensemble" / f"{recipe}.toml")
            called("run", path, *self.changes, "logger=[]", "--run-dir", str(folder))
            report = called("ensemble", str(folder), "--use", "seeds", "bootstrap=10", "--out", f"{folder}-alone")
            cost, alone = report["cost"], report["members"][0]
            paid = cost["ensemble"]["macs"] / PLAIN_MACS
            trained = cost["training"]["all"]["epochs"]
            self.rows.append(Row(label, members, trained, paid, figures_of(alone), figures_of(alone, "raw")))


PLAIN_MACS = 64 * 128 + 128 * 10


def of_one_seed(seed: int, changes: Sequence[str], searched: Sequence[str], only: Sequence[str]) -> list[Row]:
    """One row of each kind."""
    with tempfile.TemporaryDirectory() as folder, without_curves():
        return Kinds(seed, Path(folder), changes, searched, only).made()


def all_kinds(
    seeds: Sequence[int], jobs: int, changes: Sequence[str] = (), searched: Sequence[str] = (), only: Sequence[str] = ()
) -> dict[str, list[Row]]:
    """Rows of every kind by label, one for each seed; several seeds at once, which changes no figure."""
    found: dict[str, list[Row]] = {}
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as processes:
        for future in [processes.submit(of_one_seed, seed, changes, searched, only) for seed in seeds]:
            for row in future.result():
                found.setdefault(row.label, []).append(row)
    return found


def table_of_kinds(found: Mapping[str, Sequence[Row]]) -> str:
    """The table of the docs."""
    lines = ["| method | members | training | prediction | accuracy | NLL | ECE |", "|---|---|---|---|---|---|---|"]
    for label, rows in found.items():

        def mean(of: Callable[[Row], float], rows: Sequence[Row] = rows) -> float:
            return statistics.mean(map(of, rows))

        cells = [mean_cell([row.figures[name] for row in rows], form) for name, form in FIGURES.items()]
        cost = f"{mean(lambda row: row.epochs) / UNIT:.3g} | {mean(lambda row: row.passes):.3g}"
        lines.append(f"| {label} | {mean(lambda row: row.members):.3g} | {cost} | {' | '.join(cells)} |")
    return "\n".join(lines)
