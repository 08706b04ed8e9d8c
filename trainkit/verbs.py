"""Verbs that leave no run behind: on what is installed, on other programs' weights, on finished runs.

As in `trainkit.cli`, each imports what it needs, so that none waits for what another needs.
"""

from __future__ import annotations

from trainkit.arguments import STUDY_ENSEMBLE, STUDY_LOG, holds_ensemble, run_folder, split_words, usage_error
from trainkit.console import emit, emit_json, emit_table, say, write_file

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
        return _trace(session)
    if session.args.words:
        raise usage_error(
            f"hooks takes values for a recipe alone, such as: trainkit hooks --trace r.toml {session.args.words[0]}"
        )
    from trainkit.show import show_hooks

    show_hooks(session.plugins(), session.json)
    return 0


def _trace(session: Session) -> int:
    import dataclasses

    from trainkit.signals import Signals

    session.args.words.insert(0, session.args.trace)
    with Signals(session.whole_process) as signals, signals.at_once("while it looked; nothing was written"):
        from trainkit.hook_trace import CHANGES, trace

        recipe = session.recipe(CHANGES)
        assert session.loaded is not None
        from trainkit.display import Display

        session.imported()
        display = Display(-1 if session.args.quiet else 0)
        try:
            calls = trace(recipe, session.loaded, display.progress)
        finally:
            display.close()
    if session.json:
        emit_json({"calls": [dataclasses.asdict(call) for call in calls]})
        return 0
    rows = []
    for call in calls:
        asked = ", ".join(f"{name}={value}" for name, value in call.arguments.items())
        who = f"{call.by} ({call.plugin})" if call.plugin else call.by
        rows.append(
            (str(call.update), f"{call.hook}({asked})", who, f"around: {call.answer}" if call.around else call.answer)
        )
    emit_table(("update", "hook", "who", "answer"), rows)
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


def _new_recipe(session: Session) -> int:
    from trainkit.reuse import new_recipe

    args = session.args
    made = new_recipe(args.source, args.out, args.derive, session.plugins(whole=False), session.show)
    if session.json:
        emit_json({"recipe": made.text, "requires": made.requires, "out": None if made.out is None else str(made.out)})
    elif made.out is None:
        emit(made.text)
    else:
        session.show(f"recipe written to {made.out}; trainkit validate {made.out} checks it, trainkit run runs it")
    return 0


def _lock(session: Session) -> int:
    from trainkit.reuse import write_lock

    recipe = session.recipe()
    written = write_lock(recipe)
    bases, distributions = written.lock.bases, written.lock.distributions
    if session.json:
        facts = {"bases": bases, "distributions": distributions, "changed": written.changed}
        emit_json({"lock": str(written.file), **facts})
        return 0
    for line in written.changed:
        session.show(f"note: {line}")
    count = f"{len(bases)} base{'' if len(bases) == 1 else 's'}"
    session.show(f"{count} and {len(distributions)} distributions locked in {written.file}")
    return 0


def _migrate(session: Session) -> int:
    from trainkit.reuse import renew
    from trainkit.tables import FORMAT_VERSION

    name = session.args.recipe
    found = renew(name, session.args.write, session.plugins(whole=False))
    if session.json:
        facts = {"from": found.before, "to": FORMAT_VERSION, "diff": found.diff, "older_bases": found.older}
        emit_json({"recipe": name, **facts, "written": found.out is not None})
        return 0
    if found.diff:
        emit(found.diff)
        if said := found.cure if found.out is None else f"written to {found.out}":
            session.show(said)
    else:
        session.show(f"{name} has format {FORMAT_VERSION}, the newest: there is nothing to change")
    for base in found.older:
        session.show(f"note: its base {base} has an older format too")
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
    from trainkit.display import Display

    if holds_ensemble(folder):
        from trainkit.ensemble.inference import evaluate_ensemble as evaluate_run
    else:
        from trainkit.finished import evaluate_run

    session.imported()

    display = Display(-1 if session.args.quiet else 0)
    try:
        metrics = evaluate_run(folder, session.args.split, plugins, display.progress)
    finally:
        display.close()
    if session.json:
        emit_json({"run": session.args.run, "split": session.args.split, "metrics": metrics})
    else:
        emit("\n".join(f"{session.args.split}.{name} {value:.6g}" for name, value in metrics.items()))
    return 0


def _predict(session: Session) -> int:
    folder, plugins = _folder_to_measure(session.args.run), session.plugins(whole=False)
    from trainkit.predictions import check_out, write_predictions

    check_out(session.args.out)
    from trainkit.display import Display

    if holds_ensemble(folder):
        from trainkit.ensemble.inference import predict_ensemble as predict_run
    else:
        from trainkit.finished import predict_run

    session.imported()

    display = Display(-1 if session.args.quiet else 0)
    try:
        arrays = predict_run(folder, session.args.split, plugins, display.progress)
    finally:
        display.close()
    write_predictions(arrays, session.args.run, session.args.split, session.args.out, session.json)
    return 0


def _export(session: Session) -> int:
    args = session.args
    folder, plugins = _folder_to_measure(args.run), session.plugins(whole=False)
    from trainkit.display import Display
    from trainkit.export.command import check_batch, check_out, export, show_exported

    batch, out = check_batch(args.batch), check_out(args.out)
    session.imported()

    display = Display(-1 if args.quiet else 0)
    try:
        made = export(
            *(folder, out, batch, plugins),
            is_ensemble=holds_ensemble(folder),
            progress=display.progress,
            say=lambda text: None if args.quiet else say(text),
        )
    finally:
        display.close()
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
    show(folder, plugins, args.top, session.json, lambda text: None if args.quiet else say(f"note: {text}"))
    if not session.json and (folder / STUDY_LOG).is_file() and holds_ensemble(folder / STUDY_ENSEMBLE):
        emit(f"\nits ensemble: trainkit report {folder / STUDY_ENSEMBLE}")
    return 0


# ------------------------------------------------------------ recipes that travel


def _pack(session: Session) -> int:
    args = session.args
    recipe = session.recipe()
    sources, overrides = split_words(args.words)
    from trainkit.pack import look_at_data, out_file, write_pack
    from trainkit.recipe.packed import PackedData

    out, data = out_file(args.out, sources[0]), PackedData()
    if not args.no_data:
        from trainkit.display import Display

        session.imported()
        display = Display(-1 if args.quiet else 0)
        try:
            data = look_at_data(recipe, display.progress)
        finally:
            display.close()
    write_pack(recipe, overrides, data, out, session.json, args.quiet)
    return 0


def _diff(session: Session) -> int:
    from trainkit.diff import diff

    words = session.args.words
    if len(words) != 2:
        raise usage_error(f"diff takes two recipes, packs or folders, got: {', '.join(words) or 'none'}")
    if session.json and session.args.markdown:
        raise usage_error("diff writes --json or --markdown, not both")
    found = diff(words[0], words[1], session.plugins(whole=False))
    if session.json:
        emit_json(found.as_dict())
    else:
        emit("\n".join(found.markdown() if session.args.markdown else found.lines()))
    return 0


# ------------------------------------------------------------ a recipe timed


def _bench(session: Session) -> int:
    from trainkit.bench import CHANGES, bench
    from trainkit.signals import Signals

    args = session.args
    for option, least in (("updates", 0), ("rounds", 1)):
        if (given := getattr(args, option)) < least:
            raise usage_error(f"--{option} {given}: write a whole number, at least 1")
    with Signals(session.whole_process) as signals, signals.at_once("while it measured; nothing was written"):
        recipe = session.recipe(CHANGES)
        from trainkit.display import Display

        session.imported()

        display = Display(-1 if args.quiet else 0)
        try:
            found = bench(recipe, args.p, args.without, args.updates, args.rounds, display.progress)
        finally:
            display.close()
    if session.json:
        emit_json(found.as_dict())
    else:
        emit("\n".join(found.lines()))
    return 0


ACTS: Mapping[str, Callable[[Session], int]] = {
    "list": _list,
    "describe": _describe,
    "docs": _docs,
    "hooks": _hooks,
    "plugins": _plugins,
    "new-recipe": _new_recipe,
    "lock": _lock,
    "migrate": _migrate,
    "schema": _schema,
    "pack": _pack,
    "diff": _diff,
    "bench": _bench,
    "new-plugin": _new_plugin,
    "doctor": _doctor,
    "import-weights": _import_weights,
    "report": _report,
    "ensemble": _ensemble,
    "evaluate": _evaluate,
    "predict": _predict,
    "export": _export,
}
