"""How a process of a study begins: with the first line of a new log, or where the log of the last one ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainkit.errors import MachineError, RecipeError, UsageError
from trainkit.recipe import Recipe, fill_toml, problem_at, search_of
from trainkit.rundir import read_text
from trainkit.search import resume
from trainkit.search.folder import StudyFolder
from trainkit.search.ledger import Ledger, read_study, replayed, study_of
from trainkit.search.log import FORMAT, NAME, Event, StudyLog, space_as_json
from trainkit.search.plan import parts_of
from trainkit.trial import Searcher

Say = Callable[[str], None]


class StudyFinished(UsageError):
    """The study is over, and its recipe asks for no more."""

    def __init__(self, message: str, folder: Path) -> None:
        super().__init__(message)
        self.folder = folder


def begun(
    recipe: Recipe, place: StudyFolder, searcher: Searcher, now: Mapping[str, Any], note: Say
) -> tuple[Ledger, StudyLog]:
    """Begin a study in a new folder.

    Args:
        recipe: its recipe.
        place: its folder.
        searcher: which is ready.
        now: the environment.
        note: tells the user what a reader of the report should know.

    Raises:
        RecipeError: if an earlier study that it is to be told of cannot be used.
    """
    head = _head(recipe)
    if warm := _warm(recipe, note):
        head["warm"] = warm
    place.describe(fill_toml(recipe), now)
    log = StudyLog(place.path / NAME)
    ledger = Ledger(study_of(place.path, head), searcher, bool(head["batch"]))
    _write(ledger, log, head)
    return ledger, log


def continued(
    recipe: Recipe, place: StudyFolder, searcher: Searcher, now: Mapping[str, Any], accept: bool
) -> tuple[Ledger, StudyLog]:
    """Go on with the study that a folder holds: its log is played to the new searcher; what has changed is kept.

    Args:
        recipe: its recipe, which may be wider than before.
        place: its folder.
        searcher: which is ready.
        now: the environment.
        accept: whether it goes on where results may not compare.

    Raises:
        UsageError: if there is nothing to continue, or it would be another study.
        MachineError: if the environment has changed.
    """
    path, head = place.path, _head(recipe)
    before, space = read_study(path), search_of(recipe).space
    resume.check_values(before, search_of(recipe).objectives, head["parts"])
    changed = resume.check_changes(path, recipe, accept)
    differs = resume.check_environment(path, now, changed, accept)
    resume.check_wider(path, before.space, space, len(before.records), head["trials"], accept)
    wider: Event = {}
    if before.trials != head["trials"]:
        wider["trials"] = head["trials"]
    if space_as_json(before.space) != head["space"]:
        wider["space"] = head["space"]
    if _status(path) == "finished" and not wider and not changed:
        raise StudyFinished(
            f"{path}: the study is finished ({before.trials} trials were asked for); to go on, let it be longer:\n"
            f"  trainkit resume {path} search.trials={2 * before.trials}",
            path,
        )
    ledger = replayed(path, searcher)
    log = StudyLog(path / NAME)
    place.reopen()
    # First the log, then the files: a process that is killed between the two finds the change once more.
    if changed or differs or ledger.batch != bool(head["batch"]):
        pairs = {key: {"was": was, "is": value} for key, (was, value) in {**changed, **differs}.items()}
        event: Event = {"event": "changed", "changed": pairs, "batch": head["batch"], "drift": bool(differs)}
        if before.searcher != head["searcher"]:
            event["searcher"] = head["searcher"]
        _write(ledger, log, event)
    if wider or ledger.over:
        _write(ledger, log, {"event": "widen", **wider})
    if changed or differs:
        place.describe(fill_toml(recipe), now)
    return ledger, log


def _head(recipe: Recipe) -> Event:
    """The first event of a study's log."""
    search = search_of(recipe)
    return {
        "event": "study",
        "format": FORMAT,
        "searcher": search.settings["use"],
        "seed": recipe.tables["seed"],
        "trials": search.settings["trials"],
        "objectives": [[objective.figure, objective.mode] for objective in search.objectives],
        "parts": parts_of(search.settings),
        "batch": search.settings["batch"] or 0,
        "space": space_as_json(search.space),
    }


def _warm(recipe: Recipe, note: Say) -> list[dict[str, Any]]:
    """The done trials of earlier studies, for the searcher to be told of before its own.

    Raises:
        RecipeError: if a folder holds no study, or one with other objectives.
    """
    search, left_out = search_of(recipe), 0
    told: list[dict[str, Any]] = []
    for place, name in enumerate(search.settings["warm_start"]):
        key = f"search.warm_start.{place}"
        try:
            earlier = read_study(Path(name))
        except MachineError as error:
            message = f'warm_start "{name}": {error}'
            raise RecipeError([problem_at(recipe.tables, key, message, "name the folder of a study")]) from error
        if earlier.objectives != search.objectives:
            had = ", ".join(f"{objective.figure} ({objective.mode})" for objective in earlier.objectives)
            message = f'warm_start "{name}" is a study of {had}, with whose values those of this one do not compare'
            raise RecipeError([problem_at(recipe.tables, key, message)])
        for trial in (record.trial for record in earlier.records):
            if trial.status == "done" and trial.values and trial.final:
                if search.space.holds(trial.point):
                    told.append({"point": dict(trial.point), "values": list(trial.values)})
                else:
                    left_out += 1
    if told or left_out:
        more = f"; {left_out} lie outside this space and are left out" if left_out else ""
        note(f"the searcher is told of {len(told)} earlier trials{more}")
    return told


def _status(path: Path) -> str:
    try:
        return str(json.loads(read_text(path / "report.json"))["status"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def _write(ledger: Ledger, log: StudyLog, event: Event) -> None:
    log.add(event)
    ledger.put(event)
    log.sync()
