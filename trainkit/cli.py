"""The command line: one command from its words to its exit code, and the verbs that take a recipe or continue a run.

Each verb imports what it needs; only those that train import torch. The other verbs are in `trainkit.verbs`.
"""

from __future__ import annotations

import gc
import sys

from trainkit.arguments import (
    STUDY_ENSEMBLE,
    STUDY_LOG,
    VERBS,
    first_positional,
    help_text,
    holds_ensemble,
    make_parser,
    may_be_recipe,
    near,
    run_folder,
    split_words,
    usage_error,
)
from trainkit.console import emit, emit_json, prepare_streams, say

TYPE_CHECKING = False  # as in trainkit/__init__.py: typing is not worth its import for ``--help``
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trainkit.errors import Problem
    from trainkit.manager import Plugins
    from trainkit.plugin import Plugin
    from trainkit.recipe import Recipe
    from trainkit.signals import Signals


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after the program's name; those of this process if not given.

    Returns:
        The exit code, as in `trainkit.errors.Exit`.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    prepare_streams()
    session = Session(words, whole_process=argv is None)
    if session.whole_process:
        # What is imported stays: looking through it for garbage, again and again while it grows and once more at the
        # end, takes a third of the time that importing torch takes. `Session.imported` turns it on again.
        gc.disable()
    try:
        return session.act()
    except BaseException as error:  # the one place where errors become messages
        from trainkit.failures import report_failure

        return report_failure(error, session)
    finally:
        if session.whole_process and not gc.isenabled():
            gc.freeze()


class Session:
    """One command: its words, and what was found out on the way, which a failure's message needs.

    Args:
        words: the words of the command line after the program's name.
        whole_process: whether the process ends with the command.
    """

    def __init__(self, words: list[str], whole_process: bool = False) -> None:
        self.words = words
        self.whole_process = whole_process
        self.json = "--json" in words
        self.traceback = "--traceback" in words
        self.loaded: Plugins | None = None
        self.folder: str | None = None

    @property
    def command(self) -> str:
        """What the user typed."""
        return _command(self.words)

    def imported(self) -> None:
        """Look for garbage from now on, but not through what imported modules have made: it stays."""
        if self.whole_process:
            gc.freeze()
            gc.enable()

    def act(self) -> int:
        """Find the verb, read its options, and do it."""
        place = first_positional(self.words)
        if place is None:
            return self._act_without_verb()
        word = self.words[place]
        if word in VERBS:
            verb, rest = word, self.words[:place] + self.words[place + 1 :]
        elif may_be_recipe(word):
            verb, rest = "run", self.words
        else:
            raise usage_error(f"no verb named '{word}'; {near(word, VERBS)}verbs: {', '.join(VERBS)}")
        if "-h" in rest or "--help" in rest:
            emit(make_parser(verb).format_help())
            return 0
        self.args = make_parser(verb).parse_intermixed_args(rest)
        act: Callable[[], int] | None = getattr(self, f"_{verb.replace('-', '_')}", None)
        if act is not None:
            return act()
        from trainkit.verbs import ACTS

        return ACTS[verb](self)

    def _act_without_verb(self) -> int:
        if {"-h", "--help"} & set(self.words):
            emit(help_text())
            return 0
        if "--version" in self.words:
            from trainkit import __version__

            emit(f"trainkit {__version__}")
            return 0
        unknown = [word for word in self.words if word.startswith("-")]
        what = f" beside {unknown[0]}" if unknown else ""
        raise usage_error(
            f"name a recipe or a verb{what}, such as: trainkit recipes/mlp_digits.toml; --help lists the verbs"
        )

    def plugins(self, whole: bool = True) -> Plugins:
        """The plugins that this command may use; those that cannot be used are one warning each.

        Args:
            whole: whether all are imported; else those that turn out to be needed, where it is known what they supply.
        """
        from trainkit.catalogue import Catalogue
        from trainkit.manager import Plugins

        # In the process of another program, plugins may have been imported before their files changed.
        catalogue = Catalogue.open() if self.whole_process else None
        self.loaded = plugins = Plugins(self.args.p, self.args.without, catalogue, None if self.args.quiet else _warn)
        if whole or not plugins.remembered:
            plugins.load()
        return plugins

    # ------------------------------------------------------------ recipes

    def recipe(self, more: Sequence[str] = ()) -> Recipe:
        """The recipe that the words name, checked, with their changes and ``more``.

        For verbs that look at one run it is that of one run.
        """
        from trainkit.recipe import load_recipe, trial_recipe
        from trainkit.tables import OF_SEVERAL_RUNS

        sources, overrides = split_words(self.args.words)
        if len(sources) != 1:
            got = ", ".join(sources) or "none"
            raise usage_error(f"{self.args.verb} takes one recipe and any number of key=value, got recipes: {got}")
        recipe = load_recipe(sources[0], [*overrides, *more], self.plugins(whole=False))
        self._show_notes(recipe)
        if self.args.verb in ("preview", "verify-resume", "bench") and not recipe.tables.keys().isdisjoint(
            OF_SEVERAL_RUNS
        ):
            recipe = trial_recipe(recipe, {})  # what it says of several runs is nothing to look at in one
        return recipe

    def _show_notes(self, recipe: Recipe) -> None:
        if self.args.verbose:
            for note in recipe.notes:
                say(f"note: {note}")

    def _run(self) -> int:
        from pathlib import Path

        if self.args.resume and not self.args.run_dir:
            raise usage_error("--resume needs --run-dir DIR: the folder of the run to continue")
        if self.args.fresh and not self.args.run_dir:
            raise usage_error("--fresh needs --run-dir DIR: the folder whose run is put aside")
        if self.args.fresh and (self.args.resume or self.args.smoke):
            other = "--resume" if self.args.resume else "--smoke"
            raise usage_error(f"--fresh begins a run anew, which {other} does not: name one of them")
        if self.args.resume and self.args.smoke:
            raise usage_error("--smoke leaves nothing behind that --resume could continue: name one of them")
        from trainkit.signals import Signals

        with Signals(self.whole_process) as signals:
            with signals.at_once(importing=True):
                recipe = self.recipe()
            folder = Path(self.args.run_dir) if self.args.run_dir else None
            if folder is not None and self.args.resume and recipe.search is None and (folder / STUDY_LOG).is_file():
                raise usage_error(f"{folder}: it holds a study, and the recipe has no [search]; name another folder")
            return self._train(recipe, folder, self.args.resume, signals)

    def _resume(self) -> int:
        runs, overrides = split_words(self.args.words)
        if len(runs) != 1:
            got = ", ".join(runs) or "none"
            raise usage_error(f"resume takes one run folder and any number of key=value, got folders: {got}")
        from trainkit.signals import Signals

        with Signals(self.whole_process) as signals:
            with signals.at_once(importing=True):
                folder, plugins = run_folder(runs[0]), self.plugins(whole=False)
                if folder.name == STUDY_ENSEMBLE and (folder.parent / STUDY_LOG).is_file():
                    folder = folder.parent  # the ensemble of a study goes on with it
                if (folder / STUDY_LOG).is_file():
                    recipe = self._study_recipe(folder, overrides, plugins)
                elif holds_ensemble(folder):
                    recipe = self._ensemble_recipe(folder, overrides, plugins)
                else:
                    from trainkit.resuming import recipe_of

                    recipe = recipe_of(folder, overrides, plugins, self.args.extend or "")
                self._show_notes(recipe)
            return self._train(recipe, folder, True, signals)

    def _study_recipe(self, folder: Path, overrides: Sequence[str], plugins: Plugins) -> Recipe:
        from trainkit.recipe import load_recipe

        if self.args.extend:
            raise usage_error("--extend is for a run; a study becomes longer with search.trials=N")
        recipe = load_recipe(folder / "recipe.toml", overrides, plugins)
        if recipe.search is None:
            raise usage_error(f"{folder / 'recipe.toml'}: it has no [search], and the folder holds a study")
        return recipe

    def _ensemble_recipe(self, folder: Path, overrides: Sequence[str], plugins: Plugins) -> Recipe:
        from trainkit.recipe import load_recipe

        if self.args.extend:
            raise usage_error("--extend is for a run; an ensemble becomes larger with ensemble.members=N")
        return load_recipe(folder / "recipe.toml", overrides, plugins)

    def _train(self, recipe: Recipe, folder: Path | None, resume: bool, signals: Signals) -> int:
        from trainkit.errors import Exit

        assert self.loaded is not None
        if recipe.search is not None:
            return self._search(recipe, folder, resume, signals)
        if "ensemble" in recipe.tables:
            return self._make_ensemble(recipe, folder, resume, signals)
        with signals.at_once(importing=True):  # torch takes seconds to import
            from trainkit.display import Display
            from trainkit.launch import launch

            self.imported()

        smoke: bool = getattr(self.args, "smoke", False)  # `resume` has no such option
        display = Display(-1 if self.args.quiet else self.args.verbose, str(recipe.path))
        try:
            report = launch(
                recipe,
                self.loaded,
                folder=folder,
                listeners=[display],
                progress=display.progress,
                command=_command(self.words),
                smoke=smoke,
                profile=self.args.profile,
                resume=resume,
                fresh=getattr(self.args, "fresh", False),
                accept_drift=self.args.accept_drift,
                signals=signals,
            )
        finally:
            display.close()
            if display.folder is not None and not smoke:
                self.folder = str(display.folder)
        display.summarise(report, kept=not smoke)
        if self.args.profile:
            display.show_profile(report)
        if self.json:
            more = {"profile": display.profile()} if self.args.profile else {}
            emit_json({**report.as_dict(), "folder": self.folder, **more})
        return {"interrupted": Exit.STOPPED, "failed": Exit.FAILED}.get(report.status, Exit.DONE)

    def _search(self, recipe: Recipe, folder: Path | None, resume: bool, signals: Signals) -> int:
        assert self.loaded is not None
        with signals.at_once(importing=True):
            from trainkit.errors import Exit
            from trainkit.search.command import search, smoke

            if "ensemble" in recipe.tables:
                from trainkit.ensemble.command import search_and_ensemble as search
                from trainkit.ensemble.ready import check_ensembler

                check_ensembler(recipe)  # what it refuses would be found days later
            self.imported()
        if getattr(self.args, "smoke", False):
            as_json, self.json = self.json, False  # one object for both
            code = smoke(recipe, lambda trial: self._train(trial, None, False, signals))
            if as_json:
                status = {0: "finished", int(Exit.STOPPED): "interrupted"}.get(code, "failed")
                emit_json({"status": status, "reason": "smoke: the recipe as written, and another point"})
            return code
        return search(recipe, self.loaded, folder, self.args, signals, _command(self.words), resume)

    def _make_ensemble(self, recipe: Recipe, folder: Path | None, resume: bool, signals: Signals) -> int:
        assert self.loaded is not None
        with signals.at_once(importing=True):
            from trainkit.ensemble.command import ensemble_alone, smoke

            self.imported()
        if getattr(self.args, "smoke", False):
            return smoke(recipe, lambda member: self._train(member, None, False, signals))
        return ensemble_alone(recipe, self.loaded, folder, self.args, signals, _command(self.words), resume)

    def _validate(self) -> int:
        from trainkit.errors import RecipeError
        from trainkit.recipe import load_recipe

        sources, overrides = split_words(self.args.words)
        if not sources:
            raise usage_error("validate takes one recipe or more")
        plugins = self.plugins(whole=False)
        problems: list[Problem] = []
        for source in sources:
            try:
                recipe = load_recipe(source, overrides, plugins)
                if recipe.search is not None:
                    from trainkit.search.ready import check_searcher

                    check_searcher(recipe)
                if "ensemble" in recipe.tables:
                    from trainkit.ensemble.ready import check_ensembler

                    check_ensembler(recipe)
            except RecipeError as error:
                problems.extend(error.problems)
            else:
                self._show_notes(recipe)
                if not self.json and not self.args.quiet:
                    emit(f"{source}: no problems")
        if problems:
            raise RecipeError(problems)
        if self.json:
            emit_json({"problems": []})
        return 0

    def _fill(self) -> int:
        from trainkit.recipe import fill_toml, origin_lines

        recipe = self.recipe()
        if self.json:
            emit_json({"origin": origin_lines(recipe)} if self.args.origin else {"recipe": recipe.tables})
        else:
            emit("\n".join(origin_lines(recipe)) if self.args.origin else fill_toml(recipe))
        return 0

    def _preview(self) -> int:
        from pathlib import Path

        from trainkit.preview_plot import check_plot, draw_preview

        plot = Path(self.args.plot) if self.args.plot else None
        if plot is not None:
            check_plot(plot)
        recipe = self.recipe()
        assert self.loaded is not None
        from trainkit.display import Display
        from trainkit.preview import preview
        from trainkit.run_text import preview_lines

        self.imported()

        display = Display(-1 if self.args.quiet else 0)
        try:
            metrics = Path(self.args.metrics) if self.args.metrics else None
            made = preview(recipe, self.loaded, self.args.at, metrics, display.progress)
        finally:
            display.close()
        if plot is not None:
            draw_preview(made.run, plot, f"{Path(str(recipe.path)).stem}: {made.run.total_updates} updates")
        if self.json:
            emit_json(made.as_dict())
            return 0
        emit("\n".join(preview_lines(made.run, made.times, made.values)))
        if not self.args.quiet:
            for fault in made.lint:
                say(f"warning: {fault}")
            if plot is not None:
                say(f"picture written to {plot}")
        return 0

    def _verify_resume(self) -> int:
        from trainkit.verify_resume import CHANGES, verify

        recipe = self.recipe(CHANGES)
        from trainkit.display import Display

        self.imported()

        if self.args.updates < 0:
            raise usage_error(f"--updates {self.args.updates}: write the length of the trial in updates")
        display = Display(-1 if self.args.quiet else 0)
        try:
            verdict = verify(recipe, self.args.p, self.args.without, self.args.updates, display.progress)
        finally:
            display.close()
        if self.json:
            emit_json(verdict.as_dict())
        else:
            emit("\n".join(verdict.lines()))
        return 0 if verdict.equal else 1


def _warn(plugin: Plugin) -> None:
    from trainkit.errors import printable

    say(printable(f"warning: {plugin.error}".splitlines()[0]))


def _command(words: list[str]) -> str:
    import shlex

    return shlex.join(["trainkit", *words])
