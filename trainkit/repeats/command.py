"""One recipe, seeds, folds, to one folder of runs: begun, or continued as if it had never stopped."""

from __future__ import annotations

import contextlib
import time
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainkit import changes, rundir
from trainkit.console import emit_json
from trainkit.ensemble.training import FREE, Stopped, check_same
from trainkit.environment import environment
from trainkit.errors import Exit, MachineError, TrainkitError, UsageError
from trainkit.recipe import Recipe, Written, fill_toml, parse_toml
from trainkit.recipe.paths import users_paths
from trainkit.repeats.elsewhere import executor_elsewhere
from trainkit.repeats.folder import RepeatsFolder
from trainkit.repeats.plan import Plan, Repeat, is_plain, planned, recipe_of
from trainkit.repeats.report import is_over, made_report, report_lines
from trainkit.repeats.runs import Training, make_executor, watched
from trainkit.repeats.show import RepeatsDisplay
from trainkit.repeats.whole import WholeRuns
from trainkit.results import read_object
from trainkit.rundir import read_text
from trainkit.search.locked import REPORT
from trainkit.signals import Signals, StopNow
from trainkit.work import Executor, Job, Site

if TYPE_CHECKING:
    from trainkit.manager import Plugins

# What changes no weight of a run that is over: the plan of a study may not change, where its trials are trained may.
_FREE = (*FREE, "search.executor", "ensemble.executor")
_SHOWN = 12  # differences that are named one by one


def repeat(
    recipe: Recipe,
    plugins: Plugins,
    folder: Path | None,
    args: Any,
    signals: Signals,
    command: str,
    resume: bool,
) -> int:
    """Make the runs that ``--seeds`` and ``--folds`` ask for, or go on with those of a folder; the exit code.

    Args:
        recipe: the checked recipe: of a run, a search or an ensemble.
        plugins: the plugins of this process.
        folder: the folder; a new one under `rundir.runs_root` if not given.
        args: the options of ``run`` or ``resume``.
        signals: what catches signals.
        command: what the user typed.
        resume: whether the runs of the folder are continued.

    Raises:
        TrainkitError: whatever kept all of them from starting; those that are made are kept.
    """
    asked = None
    if getattr(args, "seeds", None) is not None or getattr(args, "folds", None) is not None:
        asked = planned(args.seeds, args.folds, recipe.tables["seed"])
        if asked.folds and recipe.search is not None and recipe.search.settings["folds"]:
            raise UsageError("--folds and search.folds both cut the samples: leave one of them out")
        for one in (asked.repeats[0], asked.repeats[-1]):  # what no run could be made of leaves no folder
            recipe_of(recipe, one, asked.folds)
    name = getattr(args, "executor", None)
    if name is not None and not is_plain(recipe):
        table = "ensemble" if recipe.search is None else "search"
        raise UsageError(f"--executor is for plain runs; where this recipe trains is {table}.executor={name}")
    if args.profile:
        raise UsageError("--profile is for a run; profile the recipe alone")
    if getattr(args, "on", None) and is_plain(recipe):
        name = executor_elsewhere(plugins, name)
    executor = make_executor(plugins, name) if is_plain(recipe) else None
    path = folder or rundir.runs_root() / rundir.new_folder_name(recipe.path)
    display = RepeatsDisplay(-1 if args.quiet else args.verbose)
    try:
        with users_paths(recipe), RepeatsFolder(path, resume, getattr(args, "fresh", False)) as place:
            report = _Session(recipe, plugins, place, display, signals, args, command).run(asked, executor)
    except StopNow as stop:
        raise stop.told from None
    finally:
        display.close()
    display.summarise(report_lines(path, report))
    if args.json:
        emit_json({**report, "folder": str(path)})
    if report["status"] == "interrupted":
        return Exit.STOPPED
    return Exit.FAILED if report["status"] == "failed" else Exit.DONE


def first_of(recipe: Recipe, args: Any) -> Recipe:
    """The recipe of the first of the runs that the options ask for."""
    plan = planned(args.seeds, args.folds, recipe.tables["seed"])
    return recipe_of(recipe, plan.repeats[0], plan.folds)


class _Session:
    """One process that makes runs of one recipe."""

    def __init__(
        self,
        recipe: Recipe,
        plugins: Plugins,
        place: RepeatsFolder,
        display: RepeatsDisplay,
        signals: Signals,
        args: Any,
        command: str,
    ) -> None:
        self.given = self.recipe = recipe
        self.plugins = plugins
        self.place = place
        self.display = display
        self.signals = signals
        self.args = args
        self.command = command
        self.path = place.path
        self.again = f"trainkit resume {place.path}"
        self.began = time.monotonic()
        self.plan = Plan()
        self.begun = False  # whether this process has written what it makes

    def run(self, asked: Plan | None, executor: Executor | None) -> dict[str, Any]:
        place = self.place
        if asked is None and not place.before.repeats:
            raise UsageError(f"{self.path}: it holds no runs to go on with")
        self.plan = place.before if asked is None else asked
        if place.continues:
            self._compare()
        if executor is None:
            return self._made_by(self._one_by_one)
        return self._made_by(lambda recipes: self._trained(recipes, executor))

    def _compare(self) -> None:
        """Hold that the folder's runs are of this recipe, and that all of them stay.

        The number of threads is that of the runs so far where the recipe says none: results depend on it.

        Raises:
            UsageError: naming what differs.
        """
        lost = [one.name for one in self.place.before.repeats if one not in self.plan.repeats]
        if lost or self.plan.folds != self.place.before.folds:
            had = ", ".join(one.name for one in self.place.before.repeats[:_SHOWN])
            raise UsageError(
                f"{self.path}: it holds runs that --seeds and --folds leave out: it has {had}\n"
                f"  to go on with these: {self.again}"
            )
        file = self.path / "recipe.toml"
        try:
            before = parse_toml(read_text(file), "recipe.toml")
        except (OSError, ValueError) as error:
            raise MachineError(f"{file}: cannot be read: {error}") from error
        now = parse_toml(fill_toml(self.recipe), "the recipe")
        found = [change for change in changes.compare(before, now, self.recipe) if not _is_free(change.key)]
        if found:
            lines = [f"{self.path}: the runs were not continued, as they are of another recipe"]
            lines += [f"  {change.key} = {change.now} (was {change.was})" for change in found[:_SHOWN]]
            lines += ["  put it back, or name a new folder with --run-dir"]
            raise UsageError("\n".join(lines))
        if self.recipe.tables["run"]["threads"] is None:
            self.recipe = _with_threads(self.recipe, Repeat(), 0, before)

    def _made_by(self, make: Callable[[dict[Repeat, Recipe]], dict[str, str]]) -> dict[str, Any]:
        """Make the runs that are not over, and report, whatever ends it."""
        with self.signals.at_once():
            recipes = {one: self._recipe_of(one) for one in self.plan.repeats}  # each is checked before any begins
            left = {
                one: recipe
                for one, recipe in recipes.items()
                if not (self.place.continues and is_over(self.path / one.name, recipe.tables))
            }
        if not left and _status(self.path) == "finished":
            more = self.path / "recipe.toml"
            raise UsageError(
                f"{self.path}: all {len(recipes)} runs are over; its report is {self.path / REPORT}\n"
                f"  for more of them: trainkit run {more} --seeds N --run-dir {self.path} --resume"
            )
        try:
            failed = make(left) if left else {}
        except (Stopped, KeyboardInterrupt) as stop:
            return self._report("interrupted", str(stop) or "interrupted", {})
        except (TrainkitError, OSError) as error:
            if self.begun:
                self._report("failed", str(error), {})
            told = str(error)
            if isinstance(error, OSError):
                told = f"{error.filename or self.path}: {error.strerror or error}; make room, or put it right"
            elif not isinstance(error, MachineError):
                raise
            if self.begun and self.place.holds_runs() and self.again not in told:
                told = f"{told}\n  all runs so far are kept; to go on: {self.again}"
            raise MachineError(told) from error
        finally:
            self.signals.also = None
            self.display.close()
        if failed:
            count = f"{len(failed)} run{'' if len(failed) == 1 else 's'} failed"
            return self._report("failed", count, failed)
        return self._report("finished", "all runs are over", {})

    def _report(self, status: str, reason: str, failed: Mapping[str, str]) -> dict[str, Any]:
        seconds = time.monotonic() - self.began
        report = made_report(self.path, self.plan, status, reason, seconds, failed)
        with contextlib.suppress(OSError) if status == "failed" else contextlib.nullcontext():
            self.place.report(report)
        return report

    def _recipe_of(self, one: Repeat) -> Recipe:
        """The recipe of a run; one that has begun keeps its number of threads, unless the user says one."""
        if self.given.tables["run"]["threads"] is None and self.place.continues and is_plain(self.recipe):
            with contextlib.suppress(OSError, ValueError):
                before = parse_toml(read_text(self.path / one.name / "recipe.toml"), "recipe.toml")
                return _with_threads(self.given, one, self.plan.folds, before)
        return recipe_of(self.recipe, one, self.plan.folds)

    def _begin(self) -> None:
        """Write what is made here, when it is certain that it can be."""
        recipe, text = self.recipe, fill_toml(self.recipe)
        settings = recipe.tables["run"]
        versions = dict(plugin.recorded_version for plugin in recipe.plugins_in_use())
        given = recipe.tables["seed"], settings["device"], self.command
        self.begun = True
        self.place.begin(self.plan, text, environment(*given, versions, settings["precision"], recipe.tables.bases))
        if self.place.aside is not None:
            self.display.say(f"note: what was here is kept in {self.place.aside}; these runs start from the beginning")

    # ------------------------------------------------------------ plain runs

    def _trained(self, recipes: dict[Repeat, Recipe], executor: Executor) -> dict[str, str]:
        first = next(iter(recipes.values()))
        said = set[str]()

        def note(text: str) -> None:
            if text not in said:
                said.add(text)
                self.display.say(f"note: {text}")

        site = Site(
            self.path,
            tuple(self.args.p),
            tuple(self.args.without),
            first.tables["seed"],
            note,
            watched(self.display),
            fill_toml(first),
            len(recipes),
            self.display.progress,
            getattr(self.args, "on", None) or "",
        )
        with contextlib.ExitStack() as closing:
            closing.callback(executor.close)
            with self.signals.at_once():
                executor.open(site)
                if executor.slots > 1 and self.recipe.tables["run"]["threads"] is None:
                    # Many at once share the cores. It stands in the recipe of each, which so gives the same weights
                    # wherever it is run again.
                    self.recipe = recipe_of(self.recipe, Repeat(), more=["run.threads=1"])
                recipes = {one: self._recipe_of(one) for one in recipes}
            jobs = [self._job(number, one, recipe) for number, (one, recipe) in enumerate(recipes.items())]
            if self.place.continues:
                for job, recipe in zip(jobs, recipes.values(), strict=True):
                    check_same(job, recipe)
            self._begin()
            self.signals.also = executor.stop
            over = len(self.plan.repeats) - len(jobs)
            self.display.begin(over, len(self.plan.repeats))
            training = Training(executor, self.signals, self.display, self.again)
            failed = training.run(jobs, over > 0)
        return {folder.name: outcome.message.rstrip() or outcome.status for folder, outcome in failed.items()}

    def _job(self, number: int, one: Repeat, recipe: Recipe) -> Job:
        return Job(
            number,
            0,
            Written(recipe),
            self.path / one.name,
            objectives=(),
            accept_drift=self.args.accept_drift,
            named=one.name,
            command=f"{self.command} # {one.name}",
            test=True,
        )

    # ------------------------------------------------------------ searches and ensembles

    def _one_by_one(self, recipes: dict[Repeat, Recipe]) -> dict[str, str]:
        self._begin()
        # One JSON object is written for all, and what is there of each goes on.
        args = Namespace(**{**vars(self.args), "json": False, "fresh": False, "profile": False})
        whole = WholeRuns(self.plugins, args, self.signals, self.display)
        folders = {one.name: (self.path / one.name, recipe) for one, recipe in recipes.items()}
        return whole.run(folders, len(self.plan.repeats), self.command)


def _status(folder: Path) -> str:
    """The status that the report of a folder has; empty where it has none."""
    return str(read_object(folder / REPORT, []).get("status", ""))


def _with_threads(recipe: Recipe, one: Repeat, folds: int, before: Mapping[str, Any]) -> Recipe:
    """The recipe of a run with the number of threads that another one says, if it does."""
    run = before.get("run")
    threads = run.get("threads") if isinstance(run, Mapping) else None
    return recipe_of(recipe, one, folds, [f"run.threads={threads}"] if isinstance(threads, int) else [])


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in _FREE)
