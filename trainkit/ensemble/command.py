"""What the command line does with ``[ensemble]``: make one, go on with it, make one of the trials of a search."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainkit.arguments import STUDY_ENSEMBLE
from trainkit.build_data import whole_dataset
from trainkit.console import emit_json
from trainkit.ensemble.base import refuse_tokens
from trainkit.ensemble.outset import EnsembleFinished, Made, Ready, given_before
from trainkit.ensemble.ready import check_ensembler
from trainkit.ensemble.session import make_ensemble
from trainkit.ensemble.show import EnsembleDisplay
from trainkit.ensemble.sources import sources_of_study
from trainkit.ensemble.table import read_report
from trainkit.errors import Exit, TrainkitError, UsageError
from trainkit.instantiate import Builder
from trainkit.protocols import silent
from trainkit.recipe import Recipe, ensemble_recipe, trial_recipe
from trainkit.recipe.paths import users_paths
from trainkit.search.begin import StudyFinished
from trainkit.search.command import exit_code as search_exit_code
from trainkit.search.command import search_report
from trainkit.search.ledger import read_study
from trainkit.search.plan import settled

if TYPE_CHECKING:
    from trainkit.manager import Plugins
    from trainkit.search.report import StudyReport
    from trainkit.signals import Signals


def ensemble(
    recipe: Recipe,
    plugins: Plugins,
    folder: Path | None,
    args: Any,
    signals: Signals,
    command: str,
    resume: bool,
    ready: Ready | None = None,
    again: str = "",
    option: str = "--run-dir",
) -> Made:
    """Make an ensemble as the recipe says, and show how it ended.

    Args:
        recipe: a checked recipe with ``[ensemble]``, without ``[search]``.
        plugins: the plugins of this process.
        folder: the ensemble folder, if one is named.
        args: the options of ``run`` or ``resume``.
        signals: what catches signals.
        command: what the user typed.
        resume: whether the folder's ensemble is continued.
        ready: finished runs that it is made of.
        again: the command that goes on after a signal.
        option: the one that names the folder.

    Raises:
        UsageError: if an option is for runs alone.
    """
    if getattr(args, "profile", False):
        raise UsageError("--profile is for a run; profile the recipe of one of the members")
    display = _display(args)
    try:
        made = make_ensemble(
            recipe,
            plugins,
            folder,
            ready=ready,
            modules=args.p,
            without=args.without,
            display=display,
            command=command,
            resume=resume,
            fresh=getattr(args, "fresh", False),
            accept_drift=getattr(args, "accept_drift", False),
            signals=signals,
            again=again,
            option=option,
            where=getattr(args, "on", None) or "",
        )
    finally:
        display.close()
    display.summarise(made, again)
    return made


def _display(args: Any) -> EnsembleDisplay:
    return EnsembleDisplay(-1 if args.quiet else args.verbose)


def ensemble_alone(
    recipe: Recipe, plugins: Plugins, folder: Path | None, args: Any, signals: Signals, command: str, resume: bool
) -> int:
    """As `ensemble`; the exit code."""
    ready = given_before(folder) if resume and folder is not None else None
    made = ensemble(recipe, plugins, folder, args, signals, command, resume, ready)
    if args.json:
        emit_json(made.as_dict())
    return exit_code(made)


def smoke(recipe: Recipe, train: Callable[[Recipe], int]) -> int:
    """Try the recipe that members are trained from, and whether the ensembler takes its settings; nothing is left.

    Args:
        recipe: a checked recipe with ``[ensemble]``.
        train: makes two updates, one evaluation, one save and load; gives the exit code.
    """
    check_ensembler(recipe)
    return train(trial_recipe(recipe, {}))


def exit_code(made: Made) -> int:
    """The exit code of an ensemble."""
    return Exit.STOPPED if made.status == "interrupted" else Exit.DONE


def search_and_ensemble(
    recipe: Recipe, plugins: Plugins, folder: Path | None, args: Any, signals: Signals, command: str, resume: bool
) -> int:
    """Search, then make the ensemble of the trials, or of the winner's recipe, in the study's folder; the exit code.

    A search that is finished is not searched again where its ensemble is not, nor is an ensemble made again of the same
    trials where the search went on, such as to a refit.

    Args:
        recipe: a checked recipe with ``[search]`` and ``[ensemble]``.
        plugins: as `ensemble`.
        folder: the study folder.
        args: as `ensemble`.
        signals: as `ensemble`.
        command: as `ensemble`.
        resume: whether the folder's study is continued.
    """
    recipe = settled(recipe, plugins)  # before it is compared with what the folder has
    _check_data(recipe, plugins)
    report: StudyReport | None = None
    try:
        report = search_report(recipe, plugins, folder, args, signals, command, resume)
        path = report.folder
    except StudyFinished as over:
        finished, path = over, over.folder
    if report is not None and (code := search_exit_code(report)):
        if args.json:
            emit_json({**report.as_dict(), "folder": str(path)})
        return code
    winner, ready = of_study(recipe, path)
    own, within = path / STUDY_ENSEMBLE, Namespace(**{**vars(args), "fresh": False})
    try:
        made = ensemble(winner, plugins, own, within, signals, command, own.is_dir(), ready, f"trainkit resume {path}")
    except EnsembleFinished:
        if report is None:
            raise finished from None
        made = Made(own, "finished", "it is of the same trials as before", read_report(own))
        _display(args).summarise(made)
    if args.json:
        study = report.as_dict() if report is not None else {}
        emit_json({**study, "folder": str(path), "ensemble": made.as_dict()})
    return exit_code(made)


def _check_data(recipe: Recipe, plugins: Plugins) -> None:
    """Refuse data that no ensemble takes, before days are spent on the search.

    Raises:
        UsageError: if the data is of tokens.
    """
    try:
        with users_paths(recipe):
            spec = whole_dataset(Builder(recipe, plugins, silent)).spec
    except TrainkitError:  # the trials say what is wrong with the data, or have it elsewhere
        return
    refuse_tokens(spec, str(recipe.path))


def of_study(recipe: Recipe, folder: Path) -> tuple[Recipe, Ready]:
    """The recipe of a study's winner, with its ``[ensemble]``, and its done trials, the best first.

    Raises:
        UsageError: if no trial is done.
    """
    sources = sources_of_study(folder)
    best = read_study(folder).ranked()[0]
    return ensemble_recipe(recipe, best.trial.point, best.trial.changes), Ready(trials=sources, name=str(folder))
