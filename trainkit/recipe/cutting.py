"""What ``[data]`` says about the samples that train and those that validate, as far as a recipe shows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trainkit.errors import Problem
from trainkit.recipe.filled import Recipe
from trainkit.recipe.text import Path, shown


def check_chosen(recipe: Recipe) -> Iterator[Problem]:
    """Find an ``[ensemble]`` that has no samples to choose by."""
    if "ensemble" in recipe.tables and (recipe.tables.get("data") or {}).get("train_on") == "train+val":
        message = (
            '[data] train_on = "train+val" leaves [ensemble] no validation samples to choose members, weights and the '
            "temperature by"
        )
        yield Problem(recipe.tables.place(("data", "train_on")), message, "leave one of the two out")


def check_cut(recipe: Recipe) -> Iterator[Problem]:
    """Find draws and folds that cannot be, and figures that are waited for although nothing is measured."""
    table: dict[str, Any] = recipe.tables.get("data") or {}
    at, folds, fold = recipe.tables.place, table.get("folds"), table.get("fold", 0)
    if table.get("sampling") == "balanced" and table.get("shuffle") is False:
        message = '[data] sampling = "balanced" draws each epoch anew, and shuffle = false keeps their order'
        yield Problem(at(("data", "sampling")), message, "leave one of them out")
    if folds is None:
        for key, default in (("fold", 0), ("fold_by", "auto")):
            if (value := table.get(key, default)) != default:
                written = f'"{shown(value)}"' if isinstance(value, str) else value
                message = f"[data] {key} = {written} is of folds, and there are none"
                yield Problem(at(("data", key)), message, f"write folds = 5 too, or leave {key} out")
    elif isinstance(fold, int) and isinstance(folds, int) and fold >= folds:
        message = f"[data] fold = {fold}, but with folds = {folds} the last one is {folds - 1}"
        yield Problem(at(("data", "fold")), message, f"folds are numbered from 0: write 0 to {folds - 1}")
    alone = 'train_on = "train+val"'
    if table.get("train_on") != "train+val":
        if (recipe.tables.get("search") or {}).get("refit") is not True:
            return
        alone = "refit = true"  # of a search, whose last run trains on both: that would be found at its end
    elif folds is not None:
        message = f'[data] train_on = "train+val" holds nothing out, and folds = {folds} holds out one part'
        yield Problem(at(("data", "train_on")), message, "leave one of them out")
    for number, reaction in enumerate((recipe.tables.get("schedule") or {}).get("react") or ()):
        if not isinstance(reaction, dict):
            continue
        figure = reaction.get("monitor") or recipe.tables.get("run", {}).get("monitor")
        if isinstance(figure, str) and figure.startswith("val."):
            path: Path = ("schedule", "react", number)
            message = (
                f"[[schedule.react]] {shown(str(reaction.get('use')))} looks at '{shown(figure)}', and {alone} "
                "leaves no validation samples to measure it on"
            )
            cure = (
                'write monitor = "train.loss" there, or a schedule that looks at nothing: a run on all samples cannot'
                " follow a validation figure"
            )
            yield Problem(at((*path, "monitor") if reaction.get("monitor") else (*path, "use")), message, cure)
