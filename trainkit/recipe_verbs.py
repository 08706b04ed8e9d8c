"""Verbs on recipes that train nothing to keep: looked at, changed, carried elsewhere, timed.

As in `trainkit.cli`, each imports what it needs, so that none waits for what another needs.
"""

from __future__ import annotations

from trainkit.arguments import split_words, usage_error
from trainkit.console import emit, emit_json, say, write_file

TYPE_CHECKING = False  # as in trainkit/__init__.py: typing is not worth its import
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trainkit.cli import Session
    from trainkit.errors import Problem


# ------------------------------------------------------------ one recipe looked at


def _validate(session: Session) -> int:
    from trainkit.errors import RecipeError
    from trainkit.recipe import load_recipe

    sources, overrides = split_words(session.args.words)
    if not sources:
        raise usage_error("validate takes one recipe or more")
    plugins = session.plugins(whole=False)
    problems: list[Problem] = []
    for source in sources:
        try:
            recipe = load_recipe(source, overrides, plugins, show=session.show, locked=session.args.locked)
            if recipe.search is not None:
                from trainkit.search.ready import check_searcher

                check_searcher(recipe)
            if "ensemble" in recipe.tables:
                from trainkit.ensemble.ready import check_ensembler

                check_ensembler(recipe)
        except RecipeError as error:
            problems.extend(error.problems)
        else:
            session.show_notes(recipe)
            if not session.json and not session.args.quiet:
                emit(f"{source}: no problems")
    if problems:
        raise RecipeError(problems)
    if session.json:
        emit_json({"problems": []})
    return 0


def _fill(session: Session) -> int:
    from trainkit.recipe import fill_toml, origin_lines

    recipe = session.recipe()
    if session.json:
        emit_json({"origin": origin_lines(recipe)} if session.args.origin else {"recipe": recipe.tables})
    else:
        emit("\n".join(origin_lines(recipe)) if session.args.origin else fill_toml(recipe))
    return 0


def _preview(session: Session) -> int:
    from pathlib import Path

    from trainkit.preview_plot import check_plot, draw_preview

    plot = Path(session.args.plot) if session.args.plot else None
    if plot is not None:
        check_plot(plot)
    recipe = session.recipe()
    assert session.loaded is not None
    from trainkit.preview import preview
    from trainkit.run_text import preview_lines

    with session.display() as display:
        metrics = Path(session.args.metrics) if session.args.metrics else None
        made = preview(recipe, session.loaded, session.args.at, metrics, display.progress)
    if plot is not None:
        draw_preview(made.run, plot, f"{Path(str(recipe.path)).stem}: {made.run.total_updates} updates")
    if session.json:
        emit_json(made.as_dict())
        return 0
    emit("\n".join(preview_lines(made.run, made.times, made.values)))
    if not session.args.quiet:
        for fault in made.lint:
            say(f"warning: {fault}")
        if plot is not None:
            say(f"picture written to {plot}")
    return 0


def _verify_resume(session: Session) -> int:
    from trainkit.verify_resume import CHANGES, verify

    if session.args.updates < 0:
        raise usage_error(f"--updates {session.args.updates}: write the length of the trial in updates")
    recipe = session.recipe(CHANGES)
    with session.display() as display:
        verdict = verify(recipe, session.args.p, session.args.without, session.args.updates, display.progress)
    if session.json:
        emit_json(verdict.as_dict())
    else:
        emit("\n".join(verdict.lines()))
    return 0 if verdict.equal else 1


def _bench(session: Session) -> int:
    from trainkit.bench import CHANGES, bench
    from trainkit.signals import Signals

    args = session.args
    for option, least in (("updates", 0), ("rounds", 1)):
        if (given := getattr(args, option)) < least:
            raise usage_error(f"--{option} {given}: write a whole number, at least 1")
    with Signals(session.whole_process) as signals, signals.at_once("while it measured; nothing was written"):
        recipe = session.recipe(CHANGES)
        with session.display() as display:
            found = bench(recipe, args.p, args.without, args.updates, args.rounds, display.progress)
    if session.json:
        emit_json(found.as_dict())
    else:
        emit("\n".join(found.lines()))
    return 0


def _probe(session: Session) -> int:
    from pathlib import Path

    from trainkit.probe.checks import CHANGES, chosen

    args = session.args
    only = chosen(args.only)
    from trainkit.page import render
    from trainkit.report.command import check_page
    from trainkit.signals import Signals

    check_page(args.html)
    with Signals(session.whole_process) as signals, signals.at_once("while it probed; nothing was written"):
        recipe = session.recipe(CHANGES)
        from trainkit.probe import probe, sections

        assert session.loaded is not None
        with session.display() as display:
            found = probe(recipe, session.loaded, only, display.progress)
        if session.traceback:
            import traceback

            for finding in found.findings:
                if finding.error is not None:
                    say("".join(traceback.format_exception(finding.error)))
    if session.json:
        emit_json(found.as_dict())
    else:
        emit("\n".join(found.lines()))
    if args.html is not None:  # last: what was found is there, whether or not a page can be written
        write_file(args.html, render(f"Probe of {Path(found.recipe).stem}", list(sections(found))))
        if not session.json:
            session.show(f"page written to {args.html}")
    return 0 if found.healthy else 1


def _lr_find(session: Session) -> int:
    from trainkit.signals import Signals

    with Signals(session.whole_process) as signals, signals.at_once("while it measured; nothing was written"):
        from trainkit.lr_find.command import CHANGES, check_options, lr_find
        from trainkit.report.command import check_page

        check_options(session.args)
        check_page(session.args.html)
        recipe = session.recipe(CHANGES)
        with session.display() as display:
            tell = lr_find(session.args, recipe, display.progress, session.show)
    return tell()


# ------------------------------------------------------------ recipes that travel


def _new_recipe(session: Session) -> int:
    import shlex

    from trainkit.reuse import new_recipe

    args = session.args
    made = new_recipe(args.source, args.out, args.derive, session.plugins(whole=False), session.show)
    if session.json:
        emit_json({"recipe": made.text, "requires": made.requires, "out": None if made.out is None else str(made.out)})
    elif made.out is None:
        emit(made.text)
    else:
        name = shlex.quote(str(made.out))
        session.show(f"recipe written to {made.out}; trainkit validate {name} checks it, trainkit run {name} runs it")
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


def _pack(session: Session) -> int:
    args = session.args
    recipe = session.recipe()
    sources, overrides = split_words(args.words)
    from trainkit.pack import look_at_data, out_file, write_pack
    from trainkit.recipe.packed import PackedData

    out, data = out_file(args.out, sources[0]), PackedData()
    if not args.no_data:
        with session.display() as display:
            data = look_at_data(recipe, display.progress)
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


ACTS: Mapping[str, Callable[[Session], int]] = {
    "validate": _validate,
    "fill": _fill,
    "preview": _preview,
    "verify-resume": _verify_resume,
    "bench": _bench,
    "lr-find": _lr_find,
    "probe": _probe,
    "new-recipe": _new_recipe,
    "lock": _lock,
    "migrate": _migrate,
    "pack": _pack,
    "diff": _diff,
}
