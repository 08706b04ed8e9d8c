"""Where members come from: runs that are there, trials of a search, checkpoints of one run, or training for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainkit import Member, UsageError, Workshop

UNLESS_SAID = 5  # members that are trained where nothing says how many


def choose_from(workshop: Workshop, members: int | None) -> Sequence[Member]:
    """What is chosen from: the given runs, else the best trials, else runs that differ in their seed.

    Args:
        workshop: where members come from.
        members: how many of the runs or trials, or of runs to train; ``None``: all that are there, or 5 to train.
    """
    if workshop.given is not None:
        return workshop.given[:members]
    if workshop.trials is not None:
        return workshop.trials[:members]
    return train_seeds(workshop, members or UNLESS_SAID)


def train_seeds(workshop: Workshop, count: int) -> list[Member]:
    """Train the recipe with so many seeds, its own first: other weights to begin with, another order of samples."""
    return workshop.train([seeded(workshop, number) for number in range(count)])


def seeded(workshop: Workshop, number: int, **data: Any) -> Mapping[str, Any]:
    """The changes that make member ``number``: a seed of its own, with the data cut by the seed that the recipe has.

    Args:
        workshop: where members come from.
        number: of the member, from 0; number 0 has the recipe's seed.
        data: settings of ``[data]``.
    """
    own = workshop.recipe["data"].get("seed")
    cut = {f"data.{key}": value for key, value in data.items()}
    return {"seed": workshop.seed + number, "data.seed": workshop.seed if own is None else own, **cut}


def require_cut(members: Sequence[Member], key: str, what: str) -> None:
    """Refuse given runs that are not what an ensembler is about.

    Args:
        members: the given runs.
        key: setting of ``[data]`` that each must have.
        what: how messages call such a run.

    Raises:
        UsageError: naming the first that has not.
    """
    for member in members:
        if member.recipe["data"].get(key) is None:
            cure = f"name runs with data.{key}, or use seeds, which takes the mean of any runs"
            raise UsageError(f"{member.name} was trained on no {what}: its recipe has no data.{key}\n  {cure}")


# ------------------------------------------------------------ checkpoints of one run


def is_pinned(member: Member) -> bool:
    """Whether a checkpoint has a file beside it that lets it stay."""
    if member.folder is None:
        return False
    return (member.folder / "checkpoints" / f"step-{member.step:012d}.pin").exists()


def keeping(recipe: Mapping[str, Any], **settings: Any) -> list[Mapping[str, Any]]:
    """The callbacks of a recipe, with one that keeps checkpoints at the given times in place of those that do."""
    name = "keep_checkpoints"
    others = [dict(table) for table in recipe.get("callback", ()) if table["use"].rpartition(":")[2] != name]
    return [*others, {"use": name, **settings}]


def train_and_keep(
    workshop: Workshop, changes: Mapping[str, Any], parent: Member | None = None, **settings: Any
) -> Sequence[Member]:
    """Train one run that keeps checkpoints, and give those.

    Args:
        workshop: trains.
        changes: of the recipe's settings.
        parent: a run that it begins from.
        settings: of ``keep_checkpoints``.
    """
    callbacks = keeping(workshop.recipe, **settings)
    (trained,) = workshop.train([{**changes, "callback": callbacks}], parent)
    return workshop.checkpoints(trained)
