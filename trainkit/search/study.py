"""One recipe with ``[search]`` to one study folder: begun, or continued as if it had never stopped."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trainkit import rundir
from trainkit.environment import environment
from trainkit.errors import MachineError, TrainkitError
from trainkit.hooking import new_hook_manager
from trainkit.instantiate import Builder
from trainkit.manager import Plugins
from trainkit.protocols import silent
from trainkit.recipe import Recipe, to_toml
from trainkit.recipe.paths import users_paths
from trainkit.run import Report
from trainkit.search.begin import begun, continued
from trainkit.search.budget import budget_lines
from trainkit.search.closing import study_ended
from trainkit.search.driver import Driver
from trainkit.search.ending import crown
from trainkit.search.failures import StudyStopped
from trainkit.search.folder import StudyFolder, trial_folder
from trainkit.search.ledger import Ledger
from trainkit.search.log import Event, StudyLog
from trainkit.search.plan import Plan, parts_of, plan_of, settled
from trainkit.search.ready import begin_searcher
from trainkit.search.report import StudyReport, report_of
from trainkit.search.show import StudyDisplay
from trainkit.signals import Signals
from trainkit.tables import OF_SEVERAL_RUNS
from trainkit.trial import Record, Searcher
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
    where: str = "",
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
        where: the place that the user named for the trials, where the recipe's executor takes one.

    Returns:
        How the study ended, or that a signal or the time limit stopped it.

    Raises:
        TrainkitError: whatever kept it from starting, or ended it; all results so far are kept.
    """
    display, signals = display or StudyDisplay(-1), signals or Signals()
    recipe = settled(recipe, plugins)
    path = folder or rundir.runs_root() / rundir.new_folder_name(recipe.path)
    with signals, users_paths(recipe), StudyFolder(path, resume, fresh) as place:
        return _Session(recipe, plugins, place, display, signals, modules, without, where).run(command, accept_drift)


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
        where: str,
    ) -> None:
        self.recipe = recipe
        self.plugins = plugins
        self.place = place
        self.display = display
        self.signals = signals
        self.modules = modules
        self.without = without
        self.where = where
        self.search = recipe.tables["search"]
        self.began = time.monotonic()
        self.notes: list[str] = []

    def run(self, command: str, accept_drift: bool) -> StudyReport:
        builder = Builder(self.recipe, self.plugins, silent)
        searcher: Searcher = builder.make("search")
        self.executor: Executor = builder.make("search", "executor")
        begin_searcher(searcher, self.recipe)
        versions = dict(plugin.recorded_version for plugin in self.recipe.plugins_in_use())
        settings = self.recipe.tables["run"]
        given = self.recipe.tables["seed"], settings["device"], command
        now = environment(*given, versions, settings["precision"], self.recipe.tables.bases)
        plan = plan_of(self.recipe)
        if self.place.continues:
            ledger, log = continued(self.recipe, self.place, searcher, now, accept_drift)
            self.display.say(f"the study goes on: {len(ledger.study.records)} trials so far")
        else:
            ledger, log = begun(self.recipe, self.place, searcher, now, self._note)
            if (aside := self.place.aside) is not None:
                self.display.say(
                    f"note: the study that was here is kept in {aside}; this one starts from the beginning"
                )
        with contextlib.closing(log):
            return self._searched(plan, ledger, log)

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
        recipe = to_toml({key: value for key, value in self.recipe.tables.items() if key not in OF_SEVERAL_RUNS})
        site = Site(
            self.place.path,
            tuple(self.modules),
            tuple(self.without),
            study.seed,
            self._note,
            driver.measured,
            recipe,
            progress=self.display.progress,
            where=self.where,
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
            if isinstance(error, MachineError) and (again := f"trainkit resume {self.place.path}") not in str(error):
                raise MachineError(f"{error}\n  all results so far are kept; to go on: {again}") from error
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
            study_ended(study, self.plugins, self._note)
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
