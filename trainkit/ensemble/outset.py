"""What an ensemble begins with, and what it ends with: finished runs, what its folder holds already, how it went."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainkit import changes
from trainkit.aside import put_aside
from trainkit.ensemble.folder import MADE_OF, EnsembleFolder, digest_of
from trainkit.ensemble.members import Source
from trainkit.ensemble.training import FREE
from trainkit.errors import MachineError, UsageError
from trainkit.recipe import Recipe, fill_toml, parse_toml
from trainkit.rundir import read_text


@dataclass(frozen=True)
class Ready:
    """What an ensemble is made of beside its recipe.

    Args:
        given: the finished runs that the user named.
        trials: the done trials of a search, the best first.
        name: what messages call the base: the recipe, run or study whose data counts.
    """

    given: Sequence[Source] | None = None
    trials: Sequence[Source] | None = None
    name: str = ""

    def as_dict(self, recipe: Mapping[str, Any]) -> dict[str, Any]:
        """What ``made_of.json`` says of it."""
        named = {
            key: None
            if sources is None
            else [{"name": source.name, "paths": [str(path.resolve()) for path in source.paths]} for source in sources]
            for key, sources in (("given", self.given), ("trials", self.trials))
        }
        return {"recipe": digest_of(recipe), "base": self.name, **named}


def given_before(folder: Path) -> Ready | None:
    """The finished runs that the ensemble in a folder was to be made of; ``None`` if its members are trained."""
    try:
        found = json.loads(read_text(folder / MADE_OF))
        given = found["given"]
        if given is None:
            return None
        sources = [Source(str(one["name"]), tuple(map(Path, one["paths"]))) for one in given]
        return Ready(given=sources, name=str(found["base"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


class EnsembleFinished(UsageError):
    """The ensemble is there, and its recipe asks for no other."""


@dataclass
class Made:
    """How the making of an ensemble ended.

    Args:
        folder: the ensemble folder.
        status: ``finished``, or ``interrupted`` by a signal, to be continued.
        reason: why, in words.
        report: what ``report.json`` has; empty where it was interrupted.
        notes: what a reader should know.
    """

    folder: Path
    status: str
    reason: str
    report: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """What is shown as JSON."""
        return {"status": self.status, "reason": self.reason, **self.report, "folder": str(self.folder)}


def compared(recipe: Recipe, made_of: Mapping[str, Any], place: EnsembleFolder, note: Callable[[str], None]) -> bool:
    """Look whether what a folder holds is of this recipe and these runs.

    Args:
        recipe: the recipe.
        made_of: what `Ready.as_dict` says.
        place: the folder.
        note: tells the user something.

    Returns:
        Whether it is to hold another ensemble, of the same members or of others beside them. A process that was killed
        while it removed what the earlier one has left is told so again.

    Raises:
        UsageError: if its members are of another recipe.
        EnsembleFinished: if it is finished, and what is asked for is what is there.
    """
    path = place.path
    try:
        before = parse_toml(read_text(path / "recipe.toml"), "recipe.toml")
    except (OSError, ValueError) as error:
        raise MachineError(f"{path / 'recipe.toml'}: cannot be read: {error}") from error
    found = changes.compare(before, parse_toml(fill_toml(recipe), "the recipe"), recipe)
    ours = [change for change in found if change.key.split(".")[0] == "ensemble"]
    refused = [
        change
        for change in found
        if change not in ours and not any(change.key == key or change.key.startswith(f"{key}.") for key in FREE)
    ]
    if refused and made_of["trials"] is not None:  # of a search that has another winner now
        aside = put_aside(path)
        place.continues = False
        note(f"the search has another winner: the ensemble that was here is kept in {aside}")
        return False
    if refused:
        lines = [f"{path}: the ensemble was not continued, as its members are of another recipe"]
        lines += [f"  {change.key} = {change.now} (was {change.was})" for change in refused[:12]]
        lines += ["  put it back, or name a new folder; settings of [ensemble] may change"]
        raise UsageError("\n".join(lines))
    # Where members are trained changes nothing in them.
    other = (
        any(not change.key.startswith("ensemble.executor") for change in ours) or _was_made_of(path, made_of) != made_of
    )
    if place.finished and not other:
        raise EnsembleFinished(
            f"{path}: the ensemble is finished; its report is {path / 'report.json'}\n"
            f"  to make another one of the same members, change [ensemble]: trainkit resume {path} ensemble=greedy"
        )
    if place.finished:
        note(
            "an ensemble was made here before, and measured on the test samples; what is chosen now because of that "
            "proves nothing"
        )
    return other


def _was_made_of(path: Path, made_of: Mapping[str, Any]) -> Any:
    """What the folder's ensemble was made of; its base is called as it is now, from wherever it was named then."""
    try:
        return {**json.loads(read_text(path / MADE_OF)), "base": made_of["base"]}
    except (OSError, ValueError, TypeError, RecursionError):
        return None
