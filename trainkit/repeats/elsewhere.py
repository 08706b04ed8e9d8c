"""What ``--on`` asks for: one run that is trained in another place, and recipes whose many runs are."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trainkit import rundir
from trainkit.component import Component
from trainkit.console import emit_json
from trainkit.display import Display
from trainkit.ensemble.training import Stopped
from trainkit.errors import Exit, MachineError, RunError, TrainkitError, UsageError
from trainkit.recipe import Recipe, Written, fill_toml
from trainkit.recipe.paths import users_paths
from trainkit.repeats.plan import changed
from trainkit.repeats.runs import Training, make_executor, watched
from trainkit.repeats.show import RepeatsDisplay
from trainkit.run import Report
from trainkit.signals import Signals, StopNow
from trainkit.tables import OF_SEVERAL_RUNS
from trainkit.work import Job, Outcome, Site

if TYPE_CHECKING:
    from trainkit.cli import Session
    from trainkit.manager import Plugins

_CODES = {"interrupted": Exit.STOPPED, "failed": Exit.FAILED}


def executor_elsewhere(plugins: Plugins, name: str | None = None) -> str:
    """The name of the executor that trains on other machines.

    Args:
        plugins: the plugins of this process.
        name: the one that the user named, if any.

    Raises:
        UsageError: if there is none, or several and none is named, or the one that is named does not.
    """
    able = [one for one, found in plugins.components("executor").items() if any(map(_is_elsewhere, found))]
    if name is not None:
        if name not in able:
            raise UsageError(f"--executor {name} takes no --on; executors that do: {', '.join(able) or 'none'}")
        return name
    if len(able) != 1:
        what = f"name one of them with --executor: {', '.join(able)}" if able else "no installed executor takes it"
        raise UsageError(f"--on: {what}")
    return able[0]


def placed(recipe: Recipe, plugins: Plugins) -> Recipe:
    """The recipe with an executor that takes ``--on`` wherever it trains many runs; of one run it is as it was.

    Raises:
        UsageError: if there is no such executor.
        RecipeError: if it cannot be.
    """
    lines = []
    for table in OF_SEVERAL_RUNS:
        own = recipe.components.get((table, "executor"))
        if table in recipe.tables and (own is None or not _is_elsewhere(own)):
            lines.append(f'{table}.executor="{executor_elsewhere(plugins)}"')
    return changed(recipe, lines)


def _is_elsewhere(component: Component) -> bool:
    return bool(component.capabilities.get("elsewhere"))


def train_elsewhere(session: Session, recipe: Recipe, folder: Path | None, signals: Signals, resume: bool) -> int:
    """Train one run in the place that ``--on`` names, as `trainkit.launch.launch` would here; the exit code.

    Args:
        session: the command.
        recipe: the checked recipe of one run.
        folder: the run folder; a new one under `rundir.runs_root` if not given.
        signals: what catches signals.
        resume: whether the run of the folder is continued.

    Raises:
        TrainkitError: whatever kept it from starting, or made it fail; its exit code says which.
    """
    args, plugins = session.args, session.loaded
    assert plugins is not None
    with signals.at_once(importing=True):
        executor = make_executor(plugins, executor_elsewhere(plugins, getattr(args, "executor", None)))
    path = folder or rundir.runs_root() / rundir.new_folder_name(recipe.path)
    display, shown = RepeatsDisplay(-1 if args.quiet else args.verbose), Display(-1 if args.quiet else 0)
    again = f"trainkit resume {path} --on {args.on}"
    name = "the run"
    try:
        with users_paths(recipe), contextlib.ExitStack() as closing:
            with signals.at_once():
                made = _make_ready(path, resume, getattr(args, "fresh", False), display)
                if made:
                    closing.callback(_forget_empty, path)
                closing.callback(display.close)
                closing.callback(executor.close)
                site = Site(
                    path,
                    tuple(args.p),
                    tuple(args.without),
                    recipe.tables["seed"],
                    lambda text: display.say(f"note: {text}"),
                    watched(display),
                    fill_toml(recipe),
                    1,
                    display.progress,
                    args.on,
                )
                executor.open(site)
            display.say(f"{recipe.path} on {args.on}: {path}")
            display.begin(0, 1)
            signals.also = executor.stop
            job = Job(
                *(0, 0, Written(recipe), path),
                objectives=(),
                accept_drift=args.accept_drift,
                named=name,
                command=session.command,
                test=True,
                longer=resume,
            )
            failed = Training(executor, signals, display, again).run([job], done=False)
    except StopNow as stop:
        raise stop.told from None
    except Stopped:
        failed = {}
    except TrainkitError as error:
        told = str(error).removeprefix(f"{path.name}: ")  # which many runs need, and one does not
        if told.startswith((f"{path}:", f"{path.absolute()}:", f"{name}:")):
            error.args = (told, *error.args[1:])
        raise
    finally:
        signals.also = None
        display.close()
    return _told(session, path, failed, shown)


def _make_ready(path: Path, resume: bool, fresh: bool, display: RepeatsDisplay) -> bool:
    """Hold that a run may begin or go on in a folder, which it opens itself where it is trained; whether it is new."""
    made = not path.exists()
    with rundir.RunFolder(path, resume, fresh) as place:
        if (aside := place.clear()) is not None:
            display.say(f"note: the run that was here is kept in {aside}; this one starts from the beginning")
    return made


def _forget_empty(path: Path) -> None:
    """Remove the folder of a run that never began."""
    with contextlib.suppress(OSError):
        if {entry.name for entry in path.iterdir()} <= {".lock", "log.txt", "history.jsonl"}:
            for entry in list(path.iterdir()):
                entry.unlink()
            path.rmdir()


def _told(session: Session, path: Path, failed: Mapping[Path, Outcome], shown: Display) -> int:
    """Show how the run ended, as its folder says it.

    Raises:
        RunError: if it failed.
        MachineError: if its report cannot be read.
    """
    for outcome in failed.values():
        raise _error_of(outcome, path)
    try:
        found = json.loads(rundir.read_text(path / "report.json"))
        known = {field.name for field in dataclasses.fields(Report)}
        report = Report(**{key: value for key, value in found.items() if key in known})
    except FileNotFoundError:
        raise NothingWritten(f"{path}: the run was stopped before its first update; nothing was written") from None
    except (OSError, ValueError, TypeError) as error:
        raise MachineError(f"{path / 'report.json'}: cannot be read: {error}") from error
    session.folder = str(path)
    shown.folder = path
    shown.summarise(report)
    if session.json:
        emit_json({**found, "folder": str(path)})
    return _CODES.get(report.status, Exit.DONE)


class NothingWritten(TrainkitError):
    """Stopped before anything was written."""

    exit_code = Exit.STOPPED


def _error_of(outcome: Outcome, path: Path) -> TrainkitError:
    """The error of a run that failed, with the exit code that it would have had here."""
    told = outcome.message.rstrip() or outcome.status
    if outcome.status != "error":
        return RunError(told if outcome.status != "killed" else f"{path}: {told}")
    error = TrainkitError(told)
    error.exit_code = Exit(outcome.code or (Exit.DEFECT if outcome.defect else Exit.FAILED))
    return error
