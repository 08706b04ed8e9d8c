"""Verbs on what is installed, and on other programs' weights.

As in `trainkit.cli`, each imports what it needs, so that none waits for what another needs.
"""

from __future__ import annotations

from trainkit.arguments import usage_error
from trainkit.console import emit_json, say, write_file

TYPE_CHECKING = False  # as in trainkit/__init__.py: typing is not worth its import
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
}
