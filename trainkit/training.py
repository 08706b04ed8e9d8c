"""The verbs that train: a recipe, or what was begun of one - a single run, a search, an ensemble.

As in `trainkit.cli`, each imports what it needs; torch is imported when a run is about to begin.
"""

from __future__ import annotations

from trainkit.arguments import (
    REPEATS,
    run_folder,
    split_words,
    usage_error,
)
from trainkit.begun import check_kind, of_several_runs, recipe_of_repeats, recipe_of_several_runs, study_of
from trainkit.console import emit_json

TYPE_CHECKING = False  # as in trainkit/__init__.py: typing is not worth its import
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from trainkit.cli import Session
    from trainkit.distributed import Group
    from trainkit.recipe import Recipe
    from trainkit.signals import Signals


def _run(session: Session) -> int:
    from pathlib import Path

    if session.args.resume and not session.args.run_dir:
        raise usage_error("--resume needs --run-dir DIR: the folder of the run to continue")
    if session.args.fresh and not session.args.run_dir:
        raise usage_error("--fresh needs --run-dir DIR: the folder whose run is put aside")
    if session.args.fresh and (session.args.resume or session.args.smoke):
        other = "--resume" if session.args.resume else "--smoke"
        raise usage_error(f"--fresh begins a run anew, which {other} does not: name one of them")
    if session.args.resume and session.args.smoke:
        raise usage_error("--smoke leaves nothing behind that --resume could continue: name one of them")
    several = session.args.seeds is not None or session.args.folds is not None
    _check_place(session)
    if several:
        _check_alone(session, "the runs of --seeds and --folds")
    if session.worker is not None and "-" in session.args.words:
        raise usage_error("a recipe on standard input is read by one process, and several were started: name a file")
    if session.args.executor is not None and not several and session.args.on is None:
        raise usage_error("--executor says where the runs of --seeds and --folds are trained, and there is one run")
    from trainkit.signals import Signals

    with Signals(session.whole_process) as signals:
        with signals.at_once(importing=True):
            recipe = _placed(session, session.recipe())
        folder = Path(session.args.run_dir) if session.args.run_dir else None
        if folder is not None and session.args.resume:
            check_kind(folder, recipe, several)
        if several:
            return _repeat(session, recipe, folder, session.args.resume, signals)
        return _train(session, recipe, folder, session.args.resume, signals)


def _resume(session: Session) -> int:
    runs, overrides = split_words(session.args.words)
    if len(runs) != 1:
        got = ", ".join(runs) or "none"
        raise usage_error(f"resume takes one run folder and any number of key=value, got folders: {got}")
    _check_place(session)
    from trainkit.signals import Signals

    with Signals(session.whole_process) as signals:
        with signals.at_once(importing=True):
            folder, plugins = run_folder(runs[0]), session.plugins(whole=False)
            folder = study_of(folder) or folder  # the ensemble of a study goes on with it
            if repeated := (folder / REPEATS).is_file():
                _check_alone(session, "the runs of --seeds and --folds")
                recipe = recipe_of_repeats(session, folder, overrides, plugins)
            elif (what := of_several_runs(folder)) is not None:
                recipe = recipe_of_several_runs(session, folder, overrides, plugins, *what)
            else:
                from trainkit.resuming import recipe_of

                recipe = recipe_of(folder, overrides, plugins, session.args.extend or "", session.show)
            session.show_notes(recipe)
            recipe = _placed(session, recipe)
        return (_repeat if repeated else _train)(session, recipe, folder, True, signals)


def _check_place(session: Session) -> None:
    """Hold that ``--on`` is not named with what only this process can do."""
    args = session.args
    for option in ("profile", "smoke"):
        if args.on and getattr(args, option, False):
            raise usage_error(f"--{option} looks at a run in this process, and --on trains elsewhere: name one of them")
    if args.on == "":
        raise usage_error("--on takes an address, such as ray://HOST:10001, auto, or local")
    if args.on:
        _check_alone(session, "runs that --on trains elsewhere")


def _check_alone(session: Session, what: str) -> None:
    """Hold that nobody has started several processes for what starts its own."""
    if session.worker is not None:
        raise usage_error(
            f"{what} are started by one process, and torchrun has started {session.worker.size}; leave torchrun out: "
            "each of them is made by as many processes as [run] processes says"
        )


def _placed(session: Session, recipe: Recipe) -> Recipe:
    """The recipe with an executor that takes the place that ``--on`` names, where it trains many runs."""
    if not session.args.on:
        return recipe
    from trainkit.repeats.elsewhere import placed

    assert session.loaded is not None
    return placed(recipe, session.loaded)


def _repeat(session: Session, recipe: Recipe, folder: Path | None, resume: bool, signals: Signals) -> int:
    assert session.loaded is not None
    with signals.at_once(importing=True):
        if recipe.pack is not None:
            from trainkit.pack import begin
            from trainkit.protocols import silent

            begin(recipe, recipe.pack, silent, session.args.quiet)
        from trainkit.repeats.command import first_of, repeat

        session.imported()
    if getattr(session.args, "smoke", False):
        return _train(session, first_of(recipe, session.args), None, False, signals)
    return repeat(recipe, session.loaded, folder, session.args, signals, session.command, resume)


def _train(session: Session, recipe: Recipe, folder: Path | None, resume: bool, signals: Signals) -> int:
    from trainkit.errors import Exit

    assert session.loaded is not None
    if recipe.pack is not None:
        with signals.at_once(importing=True):
            from trainkit.pack import begin
            from trainkit.protocols import silent

            begin(recipe, recipe.pack, silent, session.args.quiet)
    if recipe.search is not None:
        _check_alone(session, "the trials of a search")
        return _search(session, recipe, folder, resume, signals)
    if "ensemble" in recipe.tables:
        _check_alone(session, "the members of an ensemble")
        return _make_ensemble(session, recipe, folder, resume, signals)
    if session.args.on:
        from trainkit.repeats.elsewhere import train_elsewhere

        session.imported()
        return train_elsewhere(session, recipe, folder, signals, resume)
    with signals.at_once(importing=True):  # torch takes seconds to import
        from trainkit.display import Display
        from trainkit.launch import launch

        session.imported()

    smoke: bool = getattr(session.args, "smoke", False)  # `resume` has no such option
    if not smoke and (processes := _to_start(recipe)) > 1:
        from trainkit.processes.launcher import train_in_processes

        return train_in_processes(session, recipe, processes, signals)
    with signals.at_once():  # the others may never come
        group = _group(session, recipe, smoke)
    quiet = session.args.quiet or not group.first
    display = Display(-1 if quiet else session.args.verbose, str(recipe.path))
    try:
        report = launch(
            recipe,
            session.loaded,
            folder=folder,
            listeners=[display] if group.first else [],
            progress=display.progress,
            command=session.command,
            smoke=smoke,
            profile=session.args.profile,
            resume=resume,
            fresh=getattr(session.args, "fresh", False),
            accept_drift=session.args.accept_drift,
            signals=signals,
            group=group,
        )
        group.leave()
    finally:
        display.close()
        if display.folder is not None and not smoke:
            session.folder = str(display.folder)
    if not group.first:
        return {"interrupted": Exit.STOPPED, "failed": Exit.FAILED}.get(report.status, Exit.DONE)
    display.summarise(report, kept=not smoke)
    if session.args.profile:
        display.show_profile(report)
        if display.folder is not None and not smoke:
            _keep_profile(display.folder, {"seconds": report.seconds, "parts": display.profile()})
    if session.json:
        more = {"profile": display.profile()} if session.args.profile else {}
        emit_json({**report.as_dict(), "folder": session.folder, **more})
    return {"interrupted": Exit.STOPPED, "failed": Exit.FAILED}.get(report.status, Exit.DONE)


def _to_start(recipe: Recipe) -> int:
    """How many processes this one is to start for the run; none where torchrun has decided it."""
    import os

    from trainkit.distributed.group import asked_for

    processes: int = recipe.tables["run"]["processes"]
    return 1 if asked_for() or "TORCHELASTIC_RUN_ID" in os.environ else processes


def _group(session: Session, recipe: Recipe, smoke: bool) -> Group:
    """The processes that this one trains with, where it was started as one of several."""
    from trainkit.distributed.group import ONE

    if smoke or session.worker is None:
        return ONE
    from trainkit.device import choose_device
    from trainkit.distributed.joining import join
    from trainkit.processes.card import card_of

    worker = session.worker
    worker.group = join(
        lambda number: choose_device(recipe.tables["run"]["device"], number),
        card=card_of(recipe),
        parent=worker.started_by,
        at_end=worker.end,
    )
    return worker.group


def _keep_profile(folder: Path, profile: Mapping[str, object]) -> None:
    """Write down what was measured, for the run's page; a disk that is full is no failure of the run."""
    import contextlib
    import json

    from trainkit.rundir import PROFILE, write_atomically

    with contextlib.suppress(OSError):
        write_atomically(folder / PROFILE, json.dumps(profile, indent=2) + "\n", durable=False)


def _search(session: Session, recipe: Recipe, folder: Path | None, resume: bool, signals: Signals) -> int:
    assert session.loaded is not None
    with signals.at_once(importing=True):
        from trainkit.errors import Exit
        from trainkit.search.command import search, smoke

        if "ensemble" in recipe.tables:
            from trainkit.ensemble.command import search_and_ensemble as search
            from trainkit.ensemble.ready import check_ensembler

            check_ensembler(recipe)  # what it refuses would be found days later
        session.imported()
    if getattr(session.args, "smoke", False):
        as_json, session.json = session.json, False  # one object for both
        try:
            code = smoke(recipe, lambda trial: _train(session, trial, None, False, signals))
        finally:
            session.json = as_json  # a failure is told as JSON too
        if as_json:
            status = {0: "finished", int(Exit.STOPPED): "interrupted"}.get(code, "failed")
            emit_json({"status": status, "reason": "smoke: the recipe as written, and another point"})
        return code
    return search(recipe, session.loaded, folder, session.args, signals, session.command, resume)


def _make_ensemble(session: Session, recipe: Recipe, folder: Path | None, resume: bool, signals: Signals) -> int:
    assert session.loaded is not None
    with signals.at_once(importing=True):
        from trainkit.ensemble.command import ensemble_alone, smoke

        session.imported()
    if getattr(session.args, "smoke", False):
        return smoke(recipe, lambda member: _train(session, member, None, False, signals))
    return ensemble_alone(recipe, session.loaded, folder, session.args, signals, session.command, resume)


ACTS: Mapping[str, Callable[[Session], int]] = {"run": _run, "resume": _resume}
