"""What lies in a folder that a verb which trains goes on with, and the recipe of it.

As in `trainkit.cli`, each imports what it needs.
"""

from __future__ import annotations

from trainkit.arguments import REPEATS, STUDY_ENSEMBLE, STUDY_LOG, holds_ensemble, usage_error

TYPE_CHECKING = False  # as in trainkit/__init__.py: typing is not worth its import
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trainkit.cli import Session
    from trainkit.manager import Plugins
    from trainkit.recipe import Recipe


def study_of(folder: Path) -> Path | None:
    """The study whose ensemble lies in a folder."""
    here = folder.resolve()  # the word may be a dot
    return here.parent if here.name == STUDY_ENSEMBLE and (here.parent / STUDY_LOG).is_file() else None


def of_several_runs(folder: Path) -> tuple[str, str] | None:
    """What a folder holds that is made of several runs, and the table that says it; ``None`` if it is nothing such."""
    if (folder / STUDY_LOG).is_file():
        return "a study", "search"
    return ("an ensemble", "ensemble") if holds_ensemble(folder) else None


def check_kind(folder: Path, recipe: Recipe, several: bool) -> None:
    """Hold that a run does not go on where a study or an ensemble lies, nor an ensemble alone where it is a study's.

    Nor does one run go on where several of one recipe lie, nor they where one lies.
    """
    if (folder / REPEATS).is_file() != several and (folder / "recipe.toml").is_file():
        if several:
            raise usage_error(
                f"{folder}: it holds no runs of --seeds or --folds; name another folder, or leave them out"
            )
        raise usage_error(
            f"{folder}: it holds several runs of one recipe; to go on with them: trainkit resume {folder}"
        )
    if (study := study_of(folder)) is not None:
        raise usage_error(f"{folder}: it holds the ensemble of a study, which goes on with it: trainkit resume {study}")
    what, table = of_several_runs(folder) or ("", "")
    if table and recipe.search is None and table not in recipe.tables:
        raise usage_error(f"{folder}: it holds {what}, and the recipe has no [{table}]; name another folder")


def recipe_of_several_runs(
    session: Session, folder: Path, overrides: Sequence[str], plugins: Plugins, what: str, table: str
) -> Recipe:
    """The recipe of a study or an ensemble, with changes."""
    from trainkit.recipe import load_recipe

    if session.args.extend:
        more = {"search": "longer with search.trials=N", "ensemble": "larger with ensemble.members=N"}[table]
        raise usage_error(f"--extend is for a run; {what} becomes {more}")
    recipe = load_recipe(folder / "recipe.toml", overrides, plugins, show=session.show)
    if table not in recipe.tables:
        raise usage_error(f"{folder / 'recipe.toml'}: it has no [{table}], and the folder holds {what}")
    return recipe


def recipe_of_repeats(session: Session, folder: Path, overrides: Sequence[str], plugins: Plugins) -> Recipe:
    """The recipe of the runs of ``--seeds`` or ``--folds`` in a folder, with changes."""
    from trainkit.recipe import load_recipe

    file = folder / "recipe.toml"
    if session.args.extend:
        raise usage_error(
            f"--extend is for a run; for more runs: trainkit run {file} --seeds N --run-dir {folder} --resume"
        )
    return load_recipe(file, overrides, plugins, show=session.show)
