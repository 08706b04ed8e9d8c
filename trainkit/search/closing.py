"""After a search: what it says beside its winner is found out, written down, and shown to plugins that draw it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainkit.errors import RecipeError, TrainkitError
from trainkit.hooking import tell_each
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe, to_toml
from trainkit.rundir import write_atomically
from trainkit.search.edges import Edge
from trainkit.search.findings import Findings, findings, is_share
from trainkit.search.folder import WIDER
from trainkit.trial import Study

Say = Callable[[str], None]


def study_ended(study: Study, plugins: Plugins, say: Say) -> None:
    """Find out what there is to say about a finished study, write ``wider.toml``, and let plugins draw.

    Args:
        study: the study; its ``findings`` are filled in.
        plugins: the plugins of this process.
        say: told what a plugin could not do.
    """
    found = find_out(study, plugins)
    write_wider(study, found, plugins)
    tell_plugins(study, plugins, say)


def find_out(study: Study, plugins: Plugins) -> Findings:
    """Look a study through, with what its recipe and its winner's data say; its ``findings`` are filled in."""
    found = findings(study, val_samples(study, plugins), lambda edge: allowed(study, plugins, edge))
    study.findings = found.as_dict()
    return found


def val_samples(study: Study, plugins: Plugins) -> int:
    """How many validation samples the figures are of, where their noise follows from that; else 0."""
    if study.parts > 1 or len(study.objectives) > 1 or not is_share(study.objectives[0].figure) or study.best() is None:
        return 0
    from trainkit.finished import open_run
    from trainkit.search.ending import winner_folder

    with contextlib.suppress(TrainkitError):
        run = open_run(winner_folder(study.folder), plugins)
        with contextlib.closing(run.feed):
            return int(run.feed.spec.sizes.get("val", 0))
    return 0


def allowed(study: Study, plugins: Plugins, edge: Edge) -> bool:
    """Whether the settings' own limits leave room for what an edge proposes."""
    try:
        load_recipe(study.folder / "recipe.toml", [f"{_key(edge)}={_toml(edge.proposed)}"], plugins)
    except RecipeError:
        return False
    return True


def write_wider(study: Study, found: Findings, plugins: Plugins) -> None:
    """Write the recipe of a search over the wider ranges; remove that of an earlier end.

    Ranges inside a choice are left out: a recipe that is laid over another one can exchange all choices alone.
    """
    path = study.folder / WIDER
    path.unlink(missing_ok=True)
    ranges = [edge for edge in found.edges if "#" not in edge.setting]
    if not ranges:
        return
    space = {edge.setting: {"high" if edge.end == "upper" else "low": edge.proposed} for edge in ranges}
    text = to_toml({"extends": "recipe.toml", "search": {"space": space}})
    write_atomically(path, f"# The same search over the ranges whose ends the best trials crowd.\n{text}")
    try:
        load_recipe(path, [], plugins)
    except RecipeError:  # each range may become wider, and all of them together may not
        path.unlink()


def tell_plugins(study: Study, plugins: Plugins, say: Say) -> None:
    """Call ``trainkit_study_end`` of the modules of all plugins; their errors are shown and change nothing.

    Of all, not of those in use alone: a search has no loggers of its own, so that no recipe could name who draws it.
    """
    plugins.load()
    tell_each(
        plugins.plugins,
        lambda hook: hook.trainkit_study_end(study=study),
        lambda error: say(f"after the search: {plugins.blame(error) or error}"),
    )


def pictures(folder: Path) -> list[Path]:
    """What plugins have drawn of a study."""
    return sorted(folder.glob("*.png"))


def _key(edge: Edge) -> str:
    end = "high" if edge.end == "upper" else "low"
    base, number, inside = edge.setting.partition("#")
    if not number:
        return f'search.space."{base}".{end}'
    number, _, inside = inside.partition(".")
    return f'search.space."{base}".choices.{number}.{inside}.{end}'


def _toml(value: Any) -> str:
    return to_toml({"value": value}).partition("=")[2].strip()
