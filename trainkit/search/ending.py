"""The end of a search: the winner alone meets the test samples, is trained once more if asked, and becomes a recipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainkit.aside import put_aside
from trainkit.errors import MachineError, RunError, TrainkitError, UsageError
from trainkit.manager import Plugins
from trainkit.recipe import Recipe, fill_toml, parse_toml, to_toml
from trainkit.rundir import write_atomically
from trainkit.search.driver import WAIT_S
from trainkit.search.failures import RETRIES, machine_is_full
from trainkit.search.folder import REFIT, best_checkpoint, trial_folder
from trainkit.search.ledger import Ledger
from trainkit.search.log import StudyLog, finite
from trainkit.search.plan import run_recipe
from trainkit.tables import OF_SEVERAL_RUNS
from trainkit.trial import Record, Study
from trainkit.work import Executor, Job

Say = Callable[[str], None]


def crown(
    recipe: Recipe,
    plugins: Plugins,
    ledger: Ledger,
    log: StudyLog,
    executor: Executor,
    stopping: Callable[[], str],
    say: Say,
) -> str:
    """Do with the winner what the recipe asks for; what was done already is not done again.

    Returns:
        Why it was stopped before, to be continued; ``""`` if all is done.
    """
    study, search = ledger.study, recipe.tables["search"]
    best = study.best()
    if best is None:
        return ""
    write_best(recipe, study, best)
    if study.winner.get("trial") != best.trial.number:
        if (study.folder / REFIT).is_dir():  # of an earlier winner
            put_aside(study.folder / REFIT)
        _put(ledger, log, {"trial": best.trial.number})
    folder, of = trial_folder(study.folder, best.trial.number, 0, study.parts), "the trial's own run"
    if study.parts > 1:
        of = f"the first of the trial's {study.parts} runs"
    if search["refit"]:
        if "refit" not in study.winner:
            stopped, made = _refit(recipe, study, best, executor, stopping)
            if stopped:
                return stopped
            _put(ledger, log, {"refit": made})
        if study.winner["refit"]["status"] == "done":
            folder, of = study.folder / REFIT, "its refit on training and validation samples"
        else:
            say(f"the refit failed: {study.winner['refit'].get('message', 'no message')}")
    if search["test"] and "test" not in study.winner:
        if reason := stopping():
            return reason
        named = best_checkpoint(folder) if search["take"] == "best" else None
        figures = _test(named or folder, plugins, say)
        if figures is not None:
            of += " at its best evaluation" if named else ""
            _put(ledger, log, {"test": finite(figures), "test_of": of})
    return ""


def winner_folder(study: Path) -> Path:
    """The run folder of a finished study's winner: its refit where there is one.

    Raises:
        UsageError: if no trial is done.
    """
    from trainkit.search.ledger import read_study

    found = read_study(study)
    best = found.best()
    if best is None:
        raise UsageError(f"{study}: no trial of this study is done; there is nothing to look at")
    refit = found.winner.get("refit", {})
    if found.winner.get("trial") == best.trial.number and refit.get("status") == "done":
        return study / REFIT
    return trial_folder(study, best.trial.number, 0, found.parts)


def _put(ledger: Ledger, log: StudyLog, news: dict[str, Any]) -> None:
    event = {"event": "winner", **news}
    log.add(event)
    ledger.put(event)
    log.sync()


def _test(path: Path, plugins: Plugins, say: Say) -> dict[str, float] | None:
    """The figures of a run, or of one of its checkpoints, on the test samples; nothing where the data has none."""
    from trainkit.finished import evaluate_run

    try:
        return evaluate_run(path, "test", plugins)
    except UsageError:
        say("the data has no test samples to measure the winner on")
    except TrainkitError as error:
        say(f"the winner could not be measured on the test samples: {error}")
    return None


def _refit(
    recipe: Recipe, study: Study, best: Record, executor: Executor, stopping: Callable[[], str]
) -> tuple[str, dict[str, Any]]:
    """Train the winner once more, on all samples but those of the test."""
    text = run_recipe(recipe, best.trial, None, {"data.train_on": "train+val"})
    executor.submit(Job(best.trial.number, 0, text, study.folder / REFIT, objectives=()))
    told, tries = False, 0
    while True:
        for job, outcome in executor.wait(WAIT_S):
            if outcome.status == "interrupted":
                return stopping() or "the refit was interrupted", {}
            if machine_is_full(outcome):
                raise MachineError(f"{job.folder}: {outcome.message}")
            if outcome.status == "killed" and told:  # it did not stop in time, and goes on from its checkpoint
                return stopping() or "the refit was killed", {}
            if outcome.status == "killed" and tries < RETRIES:
                tries += 1
                executor.submit(job)
                break
            if outcome.status == "done":
                return "", {"status": "done", "metrics": finite(outcome.metrics), "seconds": round(outcome.seconds, 3)}
            return "", {"status": outcome.status, "message": outcome.message}
        if not told and stopping():
            told = True
            executor.stop()
            began = time.monotonic()
        if told and time.monotonic() - began > 120:
            raise RunError(f"{study.folder / REFIT}: the refit did not stop when it was told to; go on with resume")


def write_best(recipe: Recipe, study: Study, best: Record) -> None:
    """Write ``best.toml``: the study's recipe with the winner's values, of one run."""
    base = parse_toml(fill_toml(recipe), "the recipe")
    winner = parse_toml(run_recipe(recipe, best.trial, None), "the winner's recipe")
    several = [key for key in OF_SEVERAL_RUNS if base.pop(key, None) is not None]
    tables = {"extends": "recipe.toml", "drop": several, **difference(base, winner)}
    head = f"# The best of {len(study.records)} trials: trial {best.trial.number}, " + ", ".join(
        f"{objective.figure} {figure:.6g}" for objective, figure in zip(study.objectives, best.figures, strict=True)
    )
    write_atomically(study.folder / "best.toml", f"{head}.\n{to_toml(tables)}")


def difference(base: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The tables that make ``other`` of ``base`` when laid over it; a changed ``use`` starts a table afresh."""
    made: dict[str, Any] = {}
    for key, value in other.items():
        if key in base and base[key] == value and type(base[key]) is type(value):
            continue
        had = base.get(key)
        if isinstance(value, dict) and isinstance(had, dict) and had.get("use") == value.get("use"):
            made[key] = difference(had, value)
        else:
            made[key] = value
    return made
