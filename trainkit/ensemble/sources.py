"""What the user names to make an ensemble of: finished runs, checkpoints of runs, and searches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainkit.ensemble.artefact import MANIFEST
from trainkit.ensemble.members import Source, name_of
from trainkit.errors import RecipeError, UsageError
from trainkit.finished import folder_of
from trainkit.recipe import parse_toml
from trainkit.rundir import read_text
from trainkit.search.folder import best_checkpoint, is_study, trial_folder
from trainkit.search.ledger import read_study
from trainkit.store import step_of


def sources_of(paths: Sequence[Path]) -> list[Source]:
    """One source for each run or checkpoint, and one for each done trial of a study, the best first; in this order.

    Raises:
        UsageError: if there is nothing at a path that a member could be made of.
        MachineError: if the log of a study cannot be read.
    """
    found: list[Source] = []
    for path in paths:
        if is_study(path):
            found += sources_of_study(path, f"{path} " if len(paths) > 1 else "")
        elif (path / MANIFEST).is_file():
            raise UsageError(f"{path}: it is an ensemble; name the runs that it was made of, and others")
        else:
            folder_of(path)
            found.append(Source(name_of(path, step_of(path.name) or 0), (path,)))
    return found


def sources_of_study(study: Path, prefix: str = "") -> list[Source]:
    """The done trials of a search, the best first, each with the weights that its value was measured with.

    Args:
        study: the study folder.
        prefix: comes before ``trial 7``, where there are trials of several studies.

    Raises:
        UsageError: if no trial is done.
    """
    found = read_study(study)
    if not (ranked := found.ranked()):
        raise UsageError(f"{study}: no trial of this study is done; there is nothing to make an ensemble of")
    best = _takes_best(study)
    sources = []
    for record in ranked:
        number = record.trial.number
        folders = [trial_folder(study, number, part, found.parts) for part in range(found.parts)]
        paths = tuple((best_checkpoint(folder) if best else None) or folder for folder in folders)
        sources.append(Source(f"{prefix}trial {number}", paths))
    return sources


def _takes_best(study: Path) -> bool:
    """Whether a trial counts as it was at its best evaluation."""
    try:
        search = parse_toml(read_text(study / "recipe.toml"), "recipe.toml")["search"]
        return bool(search["take"] == "best")
    except (OSError, ValueError, KeyError, TypeError, RecipeError):
        return False
