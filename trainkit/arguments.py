"""The words of a command: recipes, values to set, and folders, which are known by the files that they hold."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # as in trainkit/__init__.py: typing is not worth its import for ``--help``
if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

STUDY_LOG = "study.jsonl"  # the folder that has it holds a study
STUDY_ENSEMBLE = "ensemble"  # in a study: the folder of the ensemble of its trials
ENSEMBLE = "ensemble.json"  # the folder that has it holds an ensemble that predicts
REPEATS = "repeats.json"  # the folder that has it holds runs of one recipe: {"over": "seed", "runs": ["seed-17", ...]}


def may_be_recipe(word: str) -> bool:
    """Whether a word that is no verb can stand for a recipe, or for a value to set in one."""
    return word == "-" or any(mark in word for mark in "./:=\\") or os.path.exists(word)


def split_words(words: list[str]) -> tuple[list[str], list[str]]:
    """Tell recipes from ``key=value``; a file whose name holds an equals sign is a recipe."""
    overrides = [word for word in words if "=" in word and not os.path.exists(word)]
    return [word for word in words if word not in overrides], overrides


def near(word: str, known: Iterable[str]) -> str:
    """The question ``did you mean 'x'?  ``, or nothing where no known word is near."""
    import difflib

    found = difflib.get_close_matches(word, list(known), 1, cutoff=0.5)
    return f"did you mean '{found[0]}'?  " if found else ""


def run_folder(text: str) -> Path:
    """The run folder that a word names, which must exist."""
    from pathlib import Path

    path = Path(text)
    if not path.is_dir():
        parent = path.parent if path.parent.is_dir() else Path()
        nearby = near(path.name, [entry.name for entry in parent.iterdir() if entry.is_dir()])
        raise usage_error(f"{text}: no such run folder; {nearby}".rstrip("; "))
    return path


def holds_ensemble(folder: Path) -> bool:
    """Whether a folder holds an ensemble, whole or on the way; of a study, its ensemble has a folder of its own."""
    if (folder / ENSEMBLE).is_file():
        return True
    if (folder / STUDY_LOG).is_file():
        return False
    try:
        with open(folder / "recipe.toml", encoding="utf-8", errors="replace") as file:
            return "[ensemble]" in map(str.strip, file.read(1 << 20).splitlines())  # no recipe of a single run has it
    except OSError:
        return False


def usage_error(message: str) -> Exception:
    """The error of a wrong command line."""
    from trainkit.errors import UsageError

    return UsageError(message)
