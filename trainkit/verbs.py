"""Verbs on what is installed, on other programs' weights, and on finished runs.

As in `trainkit.cli`, each imports what it needs, so that none waits for what another needs.
"""

from __future__ import annotations

from trainkit.arguments import STUDY_ENSEMBLE, STUDY_LOG, holds_ensemble, run_folder, split_words, usage_error
from trainkit.console import emit, emit_json, say, write_file

TYPE_CHECKING = False  # as in trainkit/__init__.py: typing is not worth its import
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from trainkit.cli import Session


# ------------------------------------------------------------ what is installed


def _list(session: Session) -> int:
    if session.args.plugins:
        if session.args.kind:
            raise usage_error(f"--plugins lists plugins, {session.args.kind} components: name one of them")
        return _plugins(session)
    from trainkit.listing import show_list

    show_list(session.plugins(whole=False), session.args.kind, session.json)
    return 0


def _describe(session: Session) -> int:
    from trainkit.show import show_component, show_source

    show = show_source if session.args.source else show_component
    show(session.plugins(whole=False), session.args.names, session.json)
    return 0


def _docs(session: Session) -> int:
    from trainkit.pages import show_docs

    show_docs(lambda: session.plugins(whole=False), session.args.words, session.json)
    return 0


def _hooks(session: Session) -> int:
    if session.args.trace:
        session.args.words.insert(0, session.args.trace)
        return _trace(session)
    if session.args.words:
        raise usage_error(
            f"hooks takes values for a recipe alone, such as: trainkit hooks --trace r.toml {session.args.words[0]}"
        )
    from trainkit.show import show_hooks

    show_hooks(session.plugins(), session.json)
    return 0


def _trace(session: Session) -> int:
    from trainkit.signals import Signals

    with Signals(session.whole_process) as signals, signals.at_once("while it looked; nothing was written"):
        from trainkit.hook_trace import CHANGES, show_calls, trace

        recipe = session.recipe(CHANGES)
        assert session.loaded is not None
        with session.display() as display:
            calls = trace(recipe, session.loaded, display.progress)
    show_calls(calls, session.json)
    return 0


def _plugins(session: Session) -> int:
    from trainkit.show import show_plugins

    session.args.quiet = True  # the table says what a warning would say
    show_plugins(session.plugins(), session.json)
    return 0


def _new_plugin(session: Session) -> int:
    from trainkit.new_plugin import new_plugin

    return new_plugin(session)


def _doctor(session: Session) -> int:
    from trainkit.doctor import diagnose

    session.args.quiet = True
    return diagnose(session.plugins(), session.json)


def _schema(session: Session) -> int:
    from trainkit.recipe import json_schema

    schema = json_schema(session.plugins())
    if not session.args.out:
        emit_json(schema)
        return 0
    import json

    write_file(session.args.out, json.dumps(schema, indent=2) + "\n")
    if session.json:
        emit_json({"out": session.args.out})
    elif not session.args.quiet:
        say(f'schema written to {session.args.out}; editors read it from a first line "#:schema {session.args.out}"')
    return 0


# ------------------------------------------------------------ weights of others


def _import_weights(session: Session) -> int:
    from pathlib import Path

    from trainkit.import_weights import import_weights, show_imported

    file = Path(session.args.file)
    made = import_weights(file, Path(session.args.out), session.args.key)
    show_imported(file, made, session.json)
    if not session.json and not session.args.quiet:
        where = f"; the table '{made.key}'" if made.key else ""
        say(f"{len(made.tensors)} tensors written to {made.out}{where}")
        if made.left_out:
            say(f"left out, being no tensors: {', '.join(made.left_out[:12])}{', ...' * (len(made.left_out) > 12)}")
    return 0


# ------------------------------------------------------------ finished runs


def _folder_to_measure(text: str) -> Path:
    """The run or ensemble folder that a word names; of a study, the run folder of its winner."""
    folder = run_folder(text)
    if not (folder / STUDY_LOG).is_file():
        return folder
    from trainkit.search.ending import winner_folder

    return winner_folder(folder)


def _evaluate(session: Session) -> int:
    folder, plugins = _folder_to_measure(session.args.run), session.plugins(whole=False)
    if holds_ensemble(folder):
        from trainkit.ensemble.inference import evaluate_ensemble as evaluate_run
    else:
        from trainkit.finished import evaluate_run

    with session.display() as display:
        metrics = evaluate_run(folder, session.args.split, plugins, display.progress)
    if session.json:
        emit_json({"run": session.args.run, "split": session.args.split, "metrics": metrics})
    else:
        emit("\n".join(f"{session.args.split}.{name} {value:.6g}" for name, value in metrics.items()))
    return 0


def _predict(session: Session) -> int:
    folder, plugins = _folder_to_measure(session.args.run), session.plugins(whole=False)
    from trainkit.predictions import check_out, write_predictions

    check_out(session.args.out)
    if holds_ensemble(folder):
        from trainkit.ensemble.inference import predict_ensemble as predict_run
    else:
        from trainkit.finished import predict_run

    with session.display() as display:
        arrays = predict_run(folder, session.args.split, plugins, display.progress)
    write_predictions(arrays, session.args.run, session.args.split, session.args.out, session.json)
    return 0


def _export(session: Session) -> int:
    args = session.args
    folder, plugins = _folder_to_measure(args.run), session.plugins(whole=False)
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
            folders, plugins = [run_folder(text) for text in runs], session.plugins(whole=False)
            from trainkit.ensemble.given import ensemble_of_runs

            session.imported()
        return ensemble_of_runs(folders, settings, plugins, session.args, signals, session.command)


def _report(session: Session) -> int:
    args = session.args
    if args.top < 1:
        raise usage_error(f"--top {args.top}: write a whole number, at least 1")
    folder, plugins = run_folder(args.study), session.plugins(whole=False)
    if holds_ensemble(folder):
        from trainkit.ensemble.table import show_ensemble as show
    else:
        from trainkit.search.table import show_study as show

    session.imported()
    show(folder, plugins, args.top, session.json, lambda text: session.show(f"note: {text}"))
    if not session.json and (folder / STUDY_LOG).is_file() and holds_ensemble(folder / STUDY_ENSEMBLE):
        emit(f"\nits ensemble: trainkit report {folder / STUDY_ENSEMBLE}")
    return 0


ACTS: Mapping[str, Callable[[Session], int]] = {
    "list": _list,
    "describe": _describe,
    "docs": _docs,
    "hooks": _hooks,
    "plugins": _plugins,
    "schema": _schema,
    "new-plugin": _new_plugin,
    "doctor": _doctor,
    "import-weights": _import_weights,
    "report": _report,
    "ensemble": _ensemble,
    "evaluate": _evaluate,
    "predict": _predict,
    "export": _export,
}
