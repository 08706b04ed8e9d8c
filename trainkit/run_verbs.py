"""Verbs on the folders of runs, studies and ensembles.

As in `trainkit.cli`, each imports what it needs, so that none waits for what another needs.
"""

from __future__ import annotations

from trainkit.arguments import REPEATS, STUDY_ENSEMBLE, STUDY_LOG, holds_ensemble, run_folder, split_words, usage_error
from trainkit.console import emit, emit_json

TYPE_CHECKING = False  # as in trainkit/__init__.py: typing is not worth its import
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from trainkit.cli import Session
    from trainkit.continuing import Wanted
    from trainkit.manager import Plugins


def _folder_to_measure(text: str, verb: str) -> Path:
    """The run or ensemble folder that a word names; of a study, the run folder of its winner."""
    folder = run_folder(text)
    if (folder / REPEATS).is_file():
        from trainkit.repeats.folder import check_single

        check_single(folder, verb)
    if not (folder / STUDY_LOG).is_file():
        return folder
    from trainkit.search.ending import winner_folder

    return winner_folder(folder)


def _evaluate(session: Session) -> int:
    folder, plugins = _folder_to_measure(session.args.run, session.args.verb), session.plugins(whole=False)
    if holds_ensemble(folder):
        from trainkit.ensemble.inference import evaluate_ensemble as evaluate_run
    else:
        from trainkit.finished import evaluate_run

    split = session.args.split or "test"
    with session.display() as display:
        metrics = evaluate_run(folder, split, plugins, display.progress)
    if session.json:
        emit_json({"run": session.args.run, "split": split, "metrics": metrics})
    else:
        emit("\n".join(f"{split}.{name} {value:.6g}" for name, value in metrics.items()))
    return 0


def _predict(session: Session) -> int:
    from trainkit.continuing import check_wanted

    wanted = check_wanted(session.args)
    folder, plugins = _folder_to_measure(session.args.run, session.args.verb), session.plugins(whole=False)
    if wanted is not None:
        return _continue(session, folder, plugins, wanted)
    from trainkit.predictions import check_out, write_predictions

    check_out(session.args.out)
    if holds_ensemble(folder):
        from trainkit.ensemble.inference import predict_ensemble as predict_run
    else:
        from trainkit.finished import predict_run

    split = session.args.split or "test"
    with session.display() as display:
        arrays = predict_run(folder, split, plugins, display.progress)
    write_predictions(arrays, session.args.run, split, session.args.out, session.json)
    return 0


def _continue(session: Session, folder: Path, plugins: Plugins, wanted: Wanted) -> int:
    """Let a run write on from a text."""
    from trainkit.continuing import continue_run, show_written

    if holds_ensemble(folder):
        raise usage_error(
            f"--prompt is for single runs, and {session.args.run} holds an ensemble: name the folder of a member"
        )
    with session.display() as display:
        written = continue_run(folder, wanted, plugins, display.progress)
    show_written(written, wanted, session.args.run, session.args.out, session.json)
    return 0


def _export(session: Session) -> int:
    args = session.args
    folder, plugins = _folder_to_measure(args.run, args.verb), session.plugins(whole=False)
    from trainkit.export.command import check_batch, check_out, export, show_exported

    batch, out = check_batch(args.batch), check_out(args.out)
    with session.display() as display:
        made = export(
            *(folder, out, batch, plugins),
            is_ensemble=holds_ensemble(folder),
            progress=display.progress,
            say=session.show,
        )
    show_exported(args.run, made, session.json)
    return 0


def _ensemble(session: Session) -> int:
    from trainkit.signals import Signals

    runs, settings = split_words(session.args.words)
    if not runs:
        raise usage_error("ensemble takes one run folder or more, and any number of key=value")
    with Signals(session.whole_process) as signals:
        with signals.at_once(importing=True):
            from trainkit.repeats.folder import runs_of

            folders = [run for text in runs for run in runs_of(run_folder(text))]
            plugins = session.plugins(whole=False)
            from trainkit.ensemble.given import ensemble_of_runs

            session.imported()
        return ensemble_of_runs(folders, settings, plugins, session.args, signals, session.command)


def _report(session: Session) -> int:
    args = session.args
    if args.top < 1:
        raise usage_error(f"--top {args.top}: write a whole number, at least 1")
    folder = run_folder(args.run)
    from trainkit.report.command import check_page
    from trainkit.results import kind_of

    check_page(args.html)
    kind = kind_of(folder)
    if kind == "repeats":
        raise usage_error(f"{args.run}: it holds several runs of one recipe: trainkit compare {args.run} shows them")
    plugins = session.plugins(whole=False)
    if kind == "run":
        return _report_run(session, folder, plugins)
    if args.split:
        raise usage_error(
            f"--split {args.split} is for runs, and {args.run} holds {'an' if kind[0] in 'aeiou' else 'a'} {kind}"
        )
    if holds_ensemble(folder):
        from trainkit.ensemble.table import show_ensemble as show
    else:
        from trainkit.search.table import show_study as show

    session.imported()
    page = _whole_page(session, folder, plugins) if args.html or args.watch else None
    show(folder, plugins, args.top, session.json, lambda text: session.show(f"note: {text}"), page)
    if not session.json and (folder / STUDY_LOG).is_file() and holds_ensemble(folder / STUDY_ENSEMBLE):
        emit(f"\nits ensemble: trainkit report {folder / STUDY_ENSEMBLE}")
    return 0


def _whole_page(session: Session, folder: Path, plugins: Plugins) -> Path:
    """Write the page of a study or an ensemble, and follow it where that is asked for; return where it lies."""
    from trainkit.report.watch import make_way, watch
    from trainkit.report.whole import write_page

    args = session.args
    if args.watch and session.whole_process:
        make_way()
    return write_page(folder, plugins, args.html, watch if args.watch else None, session.show)


def _report_run(session: Session, folder: Path, plugins: Plugins) -> int:
    from trainkit.report.command import report_run
    from trainkit.report.watch import make_way, watch

    args = session.args
    if args.watch and session.whole_process:
        make_way()
    with session.display() as display:
        report_run(
            folder,
            plugins,
            name=args.run,
            html=args.html,
            split=args.split,
            live=watch if args.watch else None,
            progress=display.progress,
            as_json=session.json,
            say=session.show,
        )
    return 0


def _compare(session: Session) -> int:
    from trainkit.compare.command import compare

    plugins = session.plugins(whole=False)
    return compare(session.args.runs, session.args, plugins, session.show, session.display())


def _runs(session: Session) -> int:
    from pathlib import Path

    from trainkit.rundir import runs_root
    from trainkit.runs.command import show_runs

    root = runs_root() if session.args.folder is None else Path(session.args.folder)
    return show_runs(session.args, root, session.show)


ACTS: Mapping[str, Callable[[Session], int]] = {
    "compare": _compare,
    "runs": _runs,
    "report": _report,
    "ensemble": _ensemble,
    "evaluate": _evaluate,
    "predict": _predict,
    "export": _export,
}
