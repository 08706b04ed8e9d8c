"""One recipe with ``[search]`` to one study folder: begun, or continued as if it had never stopped."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from trainkit import rundir
from trainkit.environment import environment
from trainkit.errors import MachineError, RecipeError, TrainkitError, UsageError
from trainkit.hooking import new_hook_manager
from trainkit.instantiate import Builder
from trainkit.manager import Plugins
from trainkit.protocols import silent
from trainkit.recipe import Recipe, fill_toml, problem_at, search_of, to_toml
from trainkit.run import Report
from trainkit.search import resume as resuming
from trainkit.search.budget import budget_lines
from trainkit.search.driver import Driver, Plan
from trainkit.search.ending import crown
from trainkit.search.failures import StudyStopped
from trainkit.search.folder import StudyFolder, trial_folder
from trainkit.search.ledger import Ledger, read_study, replayed, study_of
from trainkit.search.log import FORMAT, NAME, Event, StudyLog, space_as_json
from trainkit.search.plan import parts_of, plan_of, settled
from trainkit.search.report import StudyReport, report_of
from trainkit.search.show import StudyDisplay
from trainkit.signals import Signals
from trainkit.space import Space
from trainkit.trial import Objective, Record, Searcher, Study
from trainkit.work import Executor, Site


def run_study(
    recipe: Recipe,
    plugins: Plugins,
    folder: Path | None = None,
    *,
    modules: Sequence[str] = (),
    without: Sequence[str] = (),
    display: StudyDisplay | None = None,
    command: str = "",
    resume: bool = False,
    fresh: bool = False,
    accept_drift: bool = False,
    signals: Signals | None = None,
) -> StudyReport:
    """Search as a recipe says, from an empty folder, or from where the study that the folder holds has stopped.

    Args:
        recipe: the checked recipe, with ``[search]``.
        plugins: the plugins of this process.
        folder: the study folder; a new one under `rundir.runs_root` if not given.
        modules: plugins given with ``-p``, for the processes that train.
        without: plugins left out with ``--without``, for the same.
        display: shows the study; nobody does if not given.
        command: what the user typed, kept in ``environment.json``.
        resume: continue the study that ``folder`` holds; where it holds none, begin it.
        fresh: put a study that ``folder`` holds aside, and begin anew.
        accept_drift: continue the study also where its recipe or what it runs on has changed.
        signals: what catches signals already; by default they are caught until the study ends.

    Returns:
        How the study ended, or that a signal or the time limit stopped it.

    Raises:
        TrainkitError: whatever kept it from starting, or ended it; all results so far are kept.
    """
    display, signals = display or StudyDisplay(-1), signals or Signals()
    recipe = settled(recipe, plugins)
    path = folder or rundir.runs_root() / rundir.new_folder_name(recipe.path)
    with signals, StudyFolder(path, resume, fresh) as place:
        if place.aside is not None:
            display.say(f"note: the study that was here is kept in {place.aside}; this one starts from the beginning")
        return _Session(recipe, plugins, place, display, signals, modules, without).run(command, accept_drift)


class _Session:
    """One process of a study."""

    def __init__(
        self,
        recipe: Recipe,
        plugins: Plugins,
        place: StudyFolder,
        display: StudyDisplay,
        signals: Signals,
        modules: Sequence[str],
        without: Sequence[str],
    ) -> None:
        self.recipe = recipe
        self.plugins = plugins
        self.place = place
        self.display = display
        self.signals = signals
        self.modules = modules
        self.without = without
        self.search = recipe.tables["search"]
        self.began = time.monotonic()
        self.notes: list[str] = []

    def run(self, command: str, accept_drift: bool) -> StudyReport:
        builder = Builder(self.recipe, self.plugins, silent)
        searcher: Searcher = builder.make("search")
        self.executor: Executor = builder.make("search", "executor")
        space, objectives = search_of(self.recipe).space, search_of(self.recipe).objectives
        begin_searcher(searcher, self.recipe)
        versions = dict(plugin.recorded_version for plugin in self.recipe.plugins_in_use())
        settings = self.recipe.tables["run"]
        now = environment(self.recipe.tables["seed"], settings["device"], command, versions, settings["precision"])
        head = self._head(space, objectives)
        plan = plan_of(self.recipe)
        if self.place.continues:
            ledger, log = self._continued(head, searcher, space, now, accept_drift)
        else:
            head["warm"] = list(self._warm(space, objectives))
            self.place.describe(fill_toml(self.recipe), now)
            log = StudyLog(self.place.path / NAME)
            ledger = Ledger(study_of(self.place.path, head), searcher, bool(plan.batch))
            self._put(ledger, log, head)
        with contextlib.closing(log):
            return self._searched(plan, ledger, log)

    def _head(self, space: Space, objectives: Sequence[Objective]) -> Event:
        return {
            "event": "study",
            "format": FORMAT,
            "searcher": self.search["use"],
            "seed": self.recipe.tables["seed"],
            "trials": self.search["trials"],
            "objectives": [[objective.figure, objective.mode] for objective in objectives],
            "parts": parts_of(self.search),
            "batch": self.search["batch"] or 0,
            "space": space_as_json(space),
        }

    # ------------------------------------------------------------ going on

    def _continued(
        self, head: Event, searcher: Searcher, space: Space, now: dict[str, Any], accept: bool
    ) -> tuple[Ledger, StudyLog]:
        """Replay the log for the new searcher, and keep what has changed since.

        Raises:
            UsageError: if there is nothing to continue, or it would be another study.
            MachineError: if the environment has changed.
        """
        path = self.place.path
        changed = resuming.check_changes(path, self.recipe, accept)
        differs = resuming.check_environment(path, now, changed, accept)
        before = read_study(path)
        resuming.check_wider(path, before.space, space, len(before.records), self.search["trials"], accept)
        ledger = replayed(path, searcher)
        study, wider = ledger.study, Event()
        if study.trials != head["trials"]:
            wider["trials"] = head["trials"]
        if space_as_json(study.space) != head["space"]:
            wider["space"] = head["space"]
        done = (path / "report.json").exists() and _status(path) == "finished"
        if done and not wider and not changed and study.trials <= len(study.records):
            raise UsageError(
                f"{path}: the study is finished, all {study.trials} trials are made; to go on, let it be longer:\n"
                f"  trainkit resume {path} search.trials={2 * study.trials}"
            )
        if changed:
            self.place.describe(fill_toml(self.recipe), now)
        log = StudyLog(path / NAME)
        self.place.reopen()
        if wider or ledger.over:
            self._put(ledger, log, {"event": "widen", **wider})
        if changed or differs:
            pairs = {key: {"was": was, "is": value} for key, (was, value) in {**changed, **differs}.items()}
            self._put(ledger, log, {"event": "changed", "changed": pairs})
        self.display.say(f"the study goes on: {len(study.records)} trials so far")
        return ledger, log

    def _warm(self, space: Space, objectives: Sequence[Objective]) -> Iterator[dict[str, Any]]:
        """The done trials of earlier studies, for the searcher to be told of before its own.

        Raises:
            RecipeError: if a folder holds no study, or one with other objectives.
        """
        taken, left_out = 0, 0
        for place, name in enumerate(self.search["warm_start"]):
            try:
                earlier = read_study(Path(name))
            except MachineError as error:
                problem = problem_at(
                    self.recipe.tables, f"search.warm_start.{place}", f'warm_start "{name}": {error}',
                    "name the folder of a study",
                )  # fmt: skip
                raise RecipeError([problem]) from error
            if list(earlier.objectives) != list(objectives):
                had = ", ".join(objective.figure for objective in earlier.objectives)
                message = f'warm_start "{name}" is a study of {had}, which this one does not compare with'
                raise RecipeError([problem_at(self.recipe.tables, f"search.warm_start.{place}", message)])
            for record in earlier.records:
                trial = record.trial
                if trial.status != "done" or not trial.values or not trial.final:
                    continue
                if not _holds(space, trial.point):
                    left_out += 1
                    continue
                taken += 1
                yield {"point": dict(trial.point), "values": list(trial.values)}
        if taken or left_out:
            more = f"; {left_out} lie outside this space and are left out" if left_out else ""
            self._note(f"the searcher is told of {taken} earlier trials{more}")

    # ------------------------------------------------------------ searching

    def _searched(self, plan: Plan, ledger: Ledger, log: StudyLog) -> StudyReport:
        study, search = ledger.study, self.search
        assert ledger.searcher is not None
        name, length = search["use"], self.recipe.tables["run"]["duration"]
        for line in budget_lines(ledger.searcher, name, study.space, study.trials, length, study.parts):
            self.display.say(line)
        hook = self._trial_hook()

        def rested(record: Record) -> None:
            self.display.rested(study, record)
            if record.trial.over:
                hook(record)

        driver = Driver(plan, ledger, log, self.executor, self._stopping, rested)
        recipe = to_toml({key: value for key, value in self.recipe.tables.items() if key != "search"})
        site = Site(
            self.place.path, tuple(self.modules), tuple(self.without), study.seed, self._note, driver.measured, recipe
        )
        try:
            self.executor.open(site)
            self.signals.also = self.executor.stop
            self.display.begin(study)
            stopped = driver.run()
            if not stopped:
                stopped = self._end(ledger, log)
        except (StudyStopped, MachineError, OSError) as error:
            self._failed(ledger, log, error)
            if isinstance(error, TrainkitError):
                raise
            raise MachineError(
                f"{error.filename or self.place.path}: {error.strerror or error}\n  all results so far are kept; make "
                f"room, or put it right, and go on: trainkit resume {self.place.path}"
            ) from error
        finally:
            self.signals.also = None
            self.display.close()
            self.executor.close()
        seconds = time.monotonic() - self.began
        self._put(ledger, log, {"event": "session", "seconds": round(seconds, 3)})
        status = "interrupted" if stopped else "finished"
        report = report_of(study, status, stopped or ledger.over, ledger.seconds, self.notes)
        self.place.report(report.as_dict())
        return report

    def _end(self, ledger: Ledger, log: StudyLog) -> str:
        """The search is over: say why, and do with the winner what is asked for; why that was stopped, if it was."""
        study = ledger.study
        if len(study.records) >= study.trials:
            reason = f"all {study.trials} trials made"
        else:
            exhausted: Callable[[], str] | None = getattr(ledger.searcher, "exhausted", None)
            reason = (exhausted() if exhausted is not None else "") or "the searcher has no more to try"
        self._put(ledger, log, {"event": "end", "reason": reason})
        stopped = crown(self.recipe, self.plugins, ledger, log, self.executor, self._stopping, self._note)
        if not stopped:
            study_ended(study, self.recipe, self._note)
        return stopped

    def _failed(self, ledger: Ledger, log: StudyLog, error: Exception) -> None:
        with contextlib.suppress(OSError):  # a full disk has no room for these either
            self._put(ledger, log, {"event": "session", "seconds": round(time.monotonic() - self.began, 3)})
            report = report_of(ledger.study, "failed", str(error), ledger.seconds, self.notes)
            self.place.report(report.as_dict())

    def _stopping(self) -> str:
        if self.signals.name:
            return f"signal {self.signals.name}"
        limit = self.search["time_limit"]
        if limit and time.monotonic() - self.began > limit:
            return f"the time limit of {limit:g} s is over"
        return ""

    def _trial_hook(self) -> Callable[[Record], None]:
        """Calls ``trainkit_trial_end`` of the plugins in use; their errors are shown and change nothing."""
        manager = new_hook_manager()
        for plugin in self.recipe.plugins_in_use():
            if plugin.module is not None:
                manager.register(plugin.module, plugin.name)
        hook = manager.hook.trainkit_trial_end
        if not hook.get_hookimpls():
            return lambda record: None

        def call(record: Record) -> None:
            number = record.trial.number
            for part in range(parts_of(self.search)):
                folder = trial_folder(self.place.path, number, part, parts_of(self.search))
                try:
                    report = Report(**json.loads(rundir.read_text(folder / "report.json")))
                except (OSError, ValueError, TypeError):
                    status: Any = "failed"
                    report = Report(status, record.message, 0, record.epochs, record.seconds, {}, None, "")
                try:
                    hook(trial=number, report=report)
                except Exception as error:
                    blamed = self.plugins.blame(error) or error
                    self._note(f"after trial {number}: {blamed}")

        return call

    def _note(self, text: str) -> None:
        self.notes.append(text)
        self.display.say(f"note: {text}")

    def _put(self, ledger: Ledger, log: StudyLog, *events: Event) -> None:
        for event in events:
            log.add(event)
            ledger.put(event)
        log.sync()


def begin_searcher(searcher: Searcher, recipe: Recipe) -> None:
    """Let a new searcher get ready for a recipe's space.

    Raises:
        RecipeError: if it cannot search it.
    """
    search = search_of(recipe)
    try:
        searcher.begin(search.space, search.objectives, search.settings["trials"])
    except ValueError as error:
        message, _, cure = str(error).partition("\n")
        text = f"[search] {search.settings['use']}: {message}"
        raise RecipeError([problem_at(recipe.tables, "search.use", text, cure.strip())]) from error


def study_ended(study: Study, recipe: Recipe, say: Callable[[str], None]) -> None:
    """The place for what is found out about a finished study: warnings, tables, pictures."""


def _holds(space: Space, point: Any) -> bool:
    try:
        return space.holds(point)
    except (KeyError, ValueError, StopIteration):
        return False


def _status(path: Path) -> str:
    try:
        return str(json.loads(rundir.read_text(path / "report.json"))["status"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
