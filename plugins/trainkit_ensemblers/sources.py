"""Members that are checkpoints of one run: those that it has kept, or those that a new one is to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainkit import Member, Workshop


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
