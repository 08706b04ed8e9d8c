"""The command line: one command from its words to its exit code, and the verbs that look at a recipe.

Each verb imports what it needs. Those that train are in `trainkit.training`, the others in `trainkit.verbs`.
"""

from __future__ import annotations

import gc
import sys

from trainkit.arguments import (
    VERBS,
    first_positional,
    help_text,
    make_parser,
    may_be_recipe,
    near,
    split_words,
    usage_error,
)
from trainkit.console import emit, emit_json, prepare_streams, say

TYPE_CHECKING = False  # as in trainkit/__init__.py: typing is not worth its import for ``--help``
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainkit.errors import Problem
    from trainkit.manager import Plugins
    from trainkit.plugin import Plugin
    from trainkit.recipe import Recipe


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
        import shlex

        return shlex.join(["trainkit", *self.words])

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
        if verb in ("run", "resume"):
            from trainkit.training import ACTS
        else:
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
        recipe = load_recipe(
            *(sources[0], [*overrides, *more], self.plugins(whole=False), self._told_of_changes()),
            show=self.show,
            locked=getattr(self.args, "locked", False),
        )
        self.show_notes(recipe)
        if self.args.verb in ("preview", "verify-resume", "bench", "hooks") and not recipe.tables.keys().isdisjoint(
            OF_SEVERAL_RUNS
        ):
            pack = recipe.pack
            recipe = trial_recipe(recipe, {})  # what it says of several runs is nothing to look at in one
            recipe.pack = pack
        return recipe

    def _told_of_changes(self) -> Callable[[str], None] | None:
        """What is told of changes since a pack was made; nothing where a run is to be refused for them."""
        if self.args.verb == "run" and not self.args.accept_drift:
            return None
        return lambda text: None if self.args.quiet else say(f"warning: {text}")

    def show(self, text: str) -> None:
        """Say what is worth knowing, unless errors alone are wanted."""
        if not self.args.quiet:
            say(text)

    def show_notes(self, recipe: Recipe) -> None:
        """Say what was noted while the recipe was checked, where the user wants to know."""
        if self.args.verbose:
            for note in recipe.notes:
                say(f"note: {note}")

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
                recipe = load_recipe(source, overrides, plugins, show=self.show, locked=self.args.locked)
                if recipe.search is not None:
                    from trainkit.search.ready import check_searcher

                    check_searcher(recipe)
                if "ensemble" in recipe.tables:
                    from trainkit.ensemble.ready import check_ensembler

                    check_ensembler(recipe)
            except RecipeError as error:
                problems.extend(error.problems)
            else:
                self.show_notes(recipe)
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
