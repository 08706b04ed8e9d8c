"""The command line: one command from its words to its exit code.

Verbs that train are in `trainkit.training`, those that look at recipes or carry them elsewhere in
`trainkit.recipe_verbs`, those on folders of runs in `trainkit.run_verbs`, the others in `trainkit.verbs`. Each imports
what it needs.
"""

from __future__ import annotations

import gc
import os
import sys

from trainkit.arguments import may_be_recipe, near, split_words, usage_error
from trainkit.console import emit, prepare_streams, say
from trainkit.menu import VERBS, first_positional, help_text
from trainkit.parsers import make_parser

TYPE_CHECKING = False  # as in trainkit/__init__.py: typing is not worth its import for ``--help``
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainkit.display import Display
    from trainkit.manager import Plugins
    from trainkit.plugin import Plugin
    from trainkit.processes.worker import Worker
    from trainkit.recipe import Recipe


_TRAINING = ("run", "resume")
_OF_RECIPES = (
    *("validate", "fill", "preview", "verify-resume", "bench", "probe", "lr-find"),
    *("new-recipe", "lock", "migrate", "pack", "diff"),
)
_OF_ONE_RUN = ("preview", "verify-resume", "bench", "probe", "lr-find", "hooks")  # of searches and ensembles too
_ON_RUNS = ("compare", "runs", "report", "ensemble", "evaluate", "predict", "export")


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
        if os.environ.get("WORLD_SIZE", "1") != "1":
            from trainkit.processes.worker import worker_of

            session.worker = worker_of(session)
        return session.act() if session.worker is None else session.worker.act()
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
        self.worker: Worker | None = None  # where this process is one of several

    @property
    def command(self) -> str:
        """What the user typed."""
        import shlex

        typed = "" if self.worker is None else self.worker.command
        return typed or shlex.join(["trainkit", *self.words])

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
        if self.worker is not None:
            if verb not in _TRAINING:
                raise usage_error(
                    f"{verb} is for one process, and this is one of {self.worker.size}; start it without torchrun"
                )
            if self.worker.rank:  # the first process says what there is to say
                self.args.quiet, self.args.verbose = True, 0
        if verb in _TRAINING:
            from trainkit.training import ACTS
        elif verb in _OF_RECIPES:
            from trainkit.recipe_verbs import ACTS
        elif verb in _ON_RUNS:
            from trainkit.run_verbs import ACTS
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

    def display(self) -> Display:
        """Shows how far something long has come; with ``with``, once all it needs is imported."""
        from trainkit.display import Display

        self.imported()
        return Display(-1 if self.args.quiet else 0)

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
        if self.args.verb in _OF_ONE_RUN and not recipe.tables.keys().isdisjoint(OF_SEVERAL_RUNS):
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


def _warn(plugin: Plugin) -> None:
    from trainkit.errors import printable

    say(printable(f"warning: {plugin.error}".splitlines()[0]))
