"""From members to a finished ensemble: chosen and calibrated on validation, frozen, and only then measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import torch

from trainkit.ensemble.artefact import MANIFEST, artefact_of, write_artefact
from trainkit.ensemble.asking import Asking
from trainkit.ensemble.base import Base
from trainkit.ensemble.held_out import unseen_by, unseen_by_all, validation_of
from trainkit.ensemble.opened import Ensemble, load_ensemble, unlike
from trainkit.ensemble.replay import anew
from trainkit.ensemble.temperature import fit_temperature
from trainkit.ensemble.unchosen import unchosen
from trainkit.ensemble.workshop import RecipeWorkshop
from trainkit.ensembler import Member
from trainkit.errors import TrainkitError, UsageError
from trainkit.instantiate import Builder
from trainkit.manager import Plugins
from trainkit.protocols import silent
from trainkit.recipe import Recipe
from trainkit.scoring import log_probabilities


class Making(Protocol):
    """What the making of an ensemble needs beside members: where it is made, and who is told."""

    recipe: Recipe
    plugins: Plugins
    again: str  # the command that goes on

    @property
    def path(self) -> Path:
        """The ensemble folder."""
        ...

    def note(self, text: str) -> None:
        """Tell the user, and readers of the report."""
        ...

    def begin(self) -> None:
        """Write down what is made, if that was not done."""
        ...

    def at_once(self) -> AbstractContextManager[None]:
        """Within this a signal ends what is done."""
        ...


def frozen_ensemble(
    asking: Asking, workshop: RecipeWorkshop, base: Base, making: Making
) -> tuple[list[Member], Ensemble]:
    """Gather the members, choose and calibrate, and write the ensemble; one that is written already stays as it is.

    Returns:
        The members that there were to choose from, and the ensemble as its folder has it.
    """
    members = asking.gather(workshop)
    making.begin()
    with making.at_once():
        if not (making.path / MANIFEST).is_file():
            base.progress(0, 2, "choosing members")
            try:
                asking.fit(members, lambda: validation_of(members, base, making.note))
            except UsageError as error:
                raise UsageError(f"{error}{_kept(workshop, making)}") from error
            base.progress(1, 2, "choosing members")
            settings = making.recipe.tables["ensemble"]
            chosen, state = asking.members(), asking.ensembler.state()
            raw = Ensemble(asking.ensembler, chosen, 1.0, base.spec, settings, base.recipe.tables)
            temperature = 1.0
            if settings["calibrate"] == "temperature":
                temperature = asking.predicting(lambda: _temperature(raw, members, base, making))
            made = artefact_of(settings, chosen, state, temperature, base.recipe.tables, base.spec)
            if why := unlike(made, chosen, making.plugins, making.path, base.samples(4)):
                raise asking.defect("members", why)
            try:
                write_artefact(making.path, made)
            except TypeError as error:
                raise asking.defect("state", str(error)) from error
        base.progress(2, 2, "")
        return members, load_ensemble(making.path, making.plugins)


def _kept(workshop: RecipeWorkshop, making: Making) -> str:
    """How members that were trained can still be used where they cannot be combined as was asked for."""
    if not workshop.trained:
        return ""
    return f"\n  the members are kept; to combine them in another way: {making.again} ensemble=greedy"


def longer_run(members: Sequence[Member], workshop: RecipeWorkshop, note: Callable[[str], None]) -> Member | None:
    """One run for as many updates as all members together; where it fails, the ensemble is made without it."""
    updates = updates_of(members)
    try:
        return workshop.longer(updates)
    except TrainkitError as error:
        note(f"there is no longer run to compare with: {error}")
        return None


def updates_of(members: Sequence[Member]) -> int:
    """Updates that were made for all members together; those of checkpoints of one run are made once."""
    runs: dict[Path | str, int] = {}
    for member in members:
        key = member.name if member.folder is None else member.folder
        runs[key] = max(runs.get(key, 0), member.cost.updates)
    return sum(runs.values())


def _temperature(raw: Ensemble, members: Sequence[Member], base: Base, making: Making) -> float:
    """The temperature of an ensemble, fitted on validation samples that no model in it was trained on.

    What the ensembler gives for them, it gives without their part in its choice, where it can be asked so.
    """
    if base.spec.task == "regression":
        return 1.0
    if len(members) == 1 and _equals(raw, members[0], base):
        return 1.0
    unseen = torch.stack([unseen_by(member, base) for member in [*members, *raw.made_of]]).all(0)
    rows = unseen[len(base.dataset.splits["train"]) :]
    if not base.has("val") or not bool(rows.any()):
        making.note(
            "each sample was trained on by some of the members, so that none can tell how sure the ensemble should be: "
            "its temperature stays 1"
        )
        return 1.0
    validation = validation_of(members, base, lambda text: None)
    builder = Builder(making.recipe, making.plugins, silent)
    numbers, outputs = unchosen(
        anew(raw.ensembler, lambda: builder.make("ensemble")),
        members,
        validation,
        raw,
        making.recipe.tables["seed"],
    )
    free = unseen_by_all(members, raw.made_of, base)[numbers]  # a student has learnt what its teachers were not shown
    return fit_temperature(outputs[free], validation.targets[numbers[free]], base.spec)


def _equals(raw: Ensemble, member: Member, base: Base) -> bool:
    """Whether an ensemble gives what its only member does: then it stays so."""
    if not base.has("val"):
        return True
    given, alone = (log_probabilities(base.measure(one, "val"), base.spec) for one in (raw, member.module))
    return torch.allclose(given, alone, rtol=1e-5, atol=1e-6)


def made_whole(asking: Asking, workshop: RecipeWorkshop, base: Base, making: Making) -> dict[str, Any]:
    """Make the ensemble and its report: what ``report.json`` has."""
    members, ensemble = frozen_ensemble(asking, workshop, base, making)
    settings = making.recipe.tables["ensemble"]
    longer = longer_run(members, workshop, making.note) if settings["longer"] else None
    with making.at_once():
        from trainkit.ensemble.report import report_of

        return report_of(ensemble, members, base, settings, longer, making)
