"""What the command line does with a study: search, go on, look at the winner."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainkit.console import emit_json
from trainkit.errors import Exit, UsageError
from trainkit.instantiate import Builder
from trainkit.protocols import silent
from trainkit.recipe import base_point, search_of, trial_recipe
from trainkit.search.ready import begin_searcher
from trainkit.search.show import StudyDisplay
from trainkit.search.study import run_study

if TYPE_CHECKING:
    from trainkit.manager import Plugins
    from trainkit.recipe import Recipe
    from trainkit.search.report import StudyReport
    from trainkit.signals import Signals


def search(
    recipe: Recipe, plugins: Plugins, folder: Path | None, args: Any, signals: Signals, command: str, resume: bool
) -> int:
    """Search as the recipe says; the exit code. The arguments are those of `search_report`."""
    report = search_report(recipe, plugins, folder, args, signals, command, resume)
    if args.json:
        emit_json({**report.as_dict(), "folder": str(report.folder)})
    return exit_code(report)


def exit_code(report: StudyReport) -> int:
    """The exit code of a search."""
    if report.status == "interrupted":
        return Exit.STOPPED
    return Exit.FAILED if report.best is None else Exit.DONE


def search_report(
    recipe: Recipe, plugins: Plugins, folder: Path | None, args: Any, signals: Signals, command: str, resume: bool
) -> StudyReport:
    """Search as the recipe says, and show how it ended.

    Args:
        recipe: a checked recipe with ``[search]``.
        plugins: the plugins of this process.
        folder: the study folder, if one is named.
        args: the options of ``run`` or ``resume``.
        signals: what catches signals.
        command: what the user typed.
        resume: whether the folder's study is continued.

    Raises:
        UsageError: if an option is for runs alone.
    """
    if args.profile:
        raise UsageError("--profile is for a run; profile the recipe of one of the study's trials")
    display = StudyDisplay(-1 if args.quiet else args.verbose)
    try:
        report = run_study(
            recipe,
            plugins,
            folder,
            modules=args.p,
            without=args.without,
            display=display,
            command=command,
            resume=resume,
            fresh=getattr(args, "fresh", False),
            accept_drift=args.accept_drift,
            signals=signals,
            where=getattr(args, "on", None) or "",
        )
    finally:
        display.close()
    display.summarise(report)
    if report.status == "finished" and report.best is None:
        display.say("  no trial is done, so that there is no winner")
    return report


def smoke(recipe: Recipe, train: Callable[[Recipe], int]) -> int:
    """Try the recipe as written, and the searcher's first point; nothing is left behind.

    Args:
        recipe: a checked recipe with ``[search]``.
        train: makes two updates, one evaluation, one save and load; gives the exit code.

    Returns:
        The exit code of the first that did not end as it should, such as by a signal; else 0.
    """
    plan = search_of(recipe)
    searcher = Builder(recipe, recipe.plugins, silent).make("search")
    begin_searcher(searcher, recipe)
    if code := train(trial_recipe(recipe, base_point(recipe, plan.space))):
        return code
    order = searcher.ask()
    return 0 if order is None else train(trial_recipe(recipe, order.point, order.changes))
