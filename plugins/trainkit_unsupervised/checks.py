"""What lies between the tables of a recipe that learns without labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainkit import Problem, problem_at


def problems(recipe: Mapping[str, Any]) -> list[Problem]:
    """Every problem: callbacks that look at another model than the recipe has, and views that are not compared."""
    needs: dict[str, dict[str, tuple[str, ...]]] = {
        "bound": {"model": ("vae",), "loss": ("elbo",)},
        "pictures": {"model": ("autoencoder", "vae")},
        "linear_probe": {"model": ("simclr",)},
    }
    found = []
    for number, callback in enumerate(recipe["callback"]):
        name = callback["use"].rpartition(":")[2]
        for table, known in needs.get(name, {}).items():
            used = recipe[table]["use"]
            if used.rpartition(":")[2] not in known:
                message = f"[callback] {name} looks at {table} {' or '.join(known)}, and the recipe's is '{used}'"
                found.append(problem_at(recipe, f"callback.{number}.use", message, "leave it out, or use that"))
    return found + without_views(recipe)


def without_views(recipe: Mapping[str, Any]) -> list[Problem]:
    """A problem where views are to be compared, and there are none, or the other way round."""
    loss, model = (recipe[table]["use"].rpartition(":")[2] for table in ("loss", "model"))
    there = [n for n, part in enumerate(recipe["data"]["augment"]) if part["use"].rpartition(":")[2] == "views"]
    if loss == "nt_xent" and not there:
        message, cure = "[loss] nt_xent compares views of a sample, and [data] makes none", "add [[data.augment]] views"
        return [problem_at(recipe, "loss.use", message, cure)]
    if loss == "nt_xent" and recipe["data"]["batch_size"] == 1:
        message = "[loss] nt_xent compares the samples of a batch, and batch_size = 1 leaves nothing to compare"
        return [problem_at(recipe, "data.batch_size", message, "let batch_size be 128, or so")]
    if loss == "nt_xent" and model != "simclr":
        message = f"[loss] nt_xent compares projections of views, which the model '{model}' does not give"
        return [problem_at(recipe, "model.use", message, f'use = "simclr", with encoder = {{ use = "{model}", ... }}')]
    if there and loss != "nt_xent":
        message = f"[[data.augment]] views gives several views of a sample, which the loss '{loss}' does not compare"
        return [problem_at(recipe, f"data.augment.{there[0]}.use", message, "leave it out, or use the loss nt_xent")]
    return []
