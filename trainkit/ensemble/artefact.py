"""The files of a finished ensemble: written whole, and verified to the last byte before anything is made of them.

``ensemble.json`` says what it is and names every other file with its length and SHA-256; the last key is the SHA-256 of
the rest of it. Nothing else in the folder is read to predict: not the runs of the members, not the training data.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from trainkit import checkpoint
from trainkit.arguments import ENSEMBLE
from trainkit.dataset import DataSpec
from trainkit.ensemble.members import FoldedMember
from trainkit.ensembler import Cost, Member
from trainkit.files import sync_folder
from trainkit.recipe import to_toml
from trainkit.rundir import plain_number, write_atomically

FORMAT = 1
MANIFEST = ENSEMBLE
STATE = "state.safetensors"
WEIGHTS, RECIPES = "weights", "recipes"


@dataclass(frozen=True)
class Piece:
    """One model of a stored member, which may be the mean of several.

    Args:
        recipe: SHA-256 of its recipe as TOML.
        spec: the data that it was trained on.
        name: how messages call it.
    """

    recipe: str
    spec: DataSpec
    name: str = ""


@dataclass(frozen=True)
class StoredMember:
    """What an artefact holds of a member.

    Args:
        name: how messages and reports call it.
        pieces: the models that it is the mean of; mostly one.
        mean: whether it is a mean, also of one.
        weights: SHA-256 of its weights, by which they are stored once.
        source: the run folder or checkpoint that it was made of, as text; it may be gone.
        step, fold, figures, ancestors, cost: as those of `trainkit.ensembler.Member`; seconds of training are not kept.
    """

    name: str
    pieces: tuple[Piece, ...]
    weights: str
    mean: bool = False
    source: str = ""
    step: int = 0
    fold: int | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    ancestors: tuple[str, ...] = ()
    cost: Cost = field(default_factory=Cost)


@dataclass(frozen=True)
class Artefact:
    """A finished ensemble as its files hold it.

    Args:
        settings: the whole filled table ``[ensemble]``, with the ensembler's name as ``use``.
        seed: the recipe's seed.
        recipe: SHA-256 of the base's recipe.
        spec: the base's data: what inputs and outputs mean.
        members: in the order in which the ensembler is given them.
        temperature: what outputs are divided by; 1 where they are not.
        state: the ensembler's own.
        recipes: TOML text by SHA-256.
        weights: tensors by name, by SHA-256.
        sha256: of the manifest: what has this one is this very ensemble.
    """

    settings: Mapping[str, Any]
    seed: int
    recipe: str
    spec: DataSpec
    members: Sequence[StoredMember]
    temperature: float
    state: Mapping[str, Any]
    recipes: Mapping[str, str]
    weights: Mapping[str, Mapping[str, Tensor]]
    sha256: str = ""


def artefact_of(
    settings: Mapping[str, Any],
    members: Sequence[Member],
    state: Mapping[str, Any],
    temperature: float,
    recipe: Mapping[str, Any],
    spec: DataSpec,
) -> Artefact:
    """What is stored of an ensemble.

    Args:
        settings: the filled table ``[ensemble]``.
        members: those that the ensembler gave.
        state: what it gave beside.
        temperature: what outputs are divided by.
        recipe: the base's recipe, as filled tables.
        spec: the base's data.
    """
    recipes: dict[str, str] = {}
    weights: dict[str, Mapping[str, Tensor]] = {}

    def keep(tables: Mapping[str, Any]) -> str:
        text = to_toml({key: value for key, value in tables.items() if key not in ("search", "ensemble")})
        digest = hashlib.sha256(text.encode()).hexdigest()
        recipes[digest] = text
        return digest

    stored = []
    for member in members:
        runs = member.runs if isinstance(member, FoldedMember) else [member]
        held = {name: tensor.detach().cpu() for name, tensor in member.module.state_dict().items()}
        digest = checkpoint.tensors_sha256(held)
        weights.setdefault(digest, {name: tensor.clone() for name, tensor in held.items()})
        stored.append(
            StoredMember(
                member.name,
                tuple(Piece(keep(run.recipe), run.spec, run.name) for run in runs),
                digest,
                isinstance(member, FoldedMember),
                "" if member.folder is None else str(member.folder),
                member.step,
                member.fold,
                {name: value for name, value in member.figures.items() if math.isfinite(value)},
                tuple(sorted(member.ancestors)),
                member.cost,
            )
        )
    return Artefact(
        dict(settings), int(recipe["seed"]), keep(recipe), spec, stored, temperature, dict(state), recipes, weights
    )


def write_artefact(folder: Path, artefact: Artefact) -> str:
    """Write the files of an ensemble, the manifest last: without it there is no ensemble.

    Args:
        folder: the ensemble folder.
        artefact: the ensemble.

    Returns:
        SHA-256 of the manifest.

    Raises:
        OSError: if the disk refuses.
        TypeError: naming state that cannot be saved.
    """
    tensors: dict[str, Tensor] = {}
    state = checkpoint.split_state(artefact.state, "state", tensors)
    contents: dict[str, bytes] = {STATE: checkpoint.to_safetensors(tensors)}
    contents |= {f"{RECIPES}/{digest}.toml": text.encode() for digest, text in artefact.recipes.items()}
    files = {name: _described(data) for name, data in contents.items()}
    for part in (WEIGHTS, RECIPES):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        write_atomically(folder / name, data)
    for digest, held in artefact.weights.items():  # one after the other: together they may be large
        name = f"{WEIGHTS}/{digest}.safetensors"
        data = checkpoint.to_safetensors(held)
        files[name] = _described(data)
        write_atomically(folder / name, data)
    sync_folder(folder)
    manifest = {
        "format": FORMAT,
        "ensembler": artefact.settings,
        "seed": artefact.seed,
        "recipe": artefact.recipe,
        "spec": spec_as_json(artefact.spec),
        "temperature": artefact.temperature,
        "members": [_member_as_json(member) for member in artefact.members],
        "state": state,
        "files": dict(sorted(files.items())),
    }
    sha256 = manifest_sha256(manifest)
    write_atomically(folder / MANIFEST, json.dumps({**manifest, "sha256": sha256}, indent=1, allow_nan=False) + "\n")
    return sha256


def manifest_sha256(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest without its own, whatever the order of its keys and its blanks."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()


def spec_as_json(spec: DataSpec) -> dict[str, Any]:
    """What is known of data, in plain values; a vocabulary is not: it comes with the data."""
    known = dataclasses.asdict(dataclasses.replace(spec, vocabulary=None))
    del known["vocabulary"]
    return known | {"sizes": dict(spec.sizes)}


def _described(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _member_as_json(member: StoredMember) -> dict[str, Any]:
    return {
        "name": member.name,
        "source": member.source,
        "step": member.step,
        "fold": member.fold,
        "weights": member.weights,
        "mean": member.mean,
        "pieces": [
            {"name": piece.name, "recipe": piece.recipe, "spec": spec_as_json(piece.spec)} for piece in member.pieces
        ],
        # No seconds: the same members, trained again, would be another ensemble. report.json has them.
        "cost": {"updates": member.cost.updates, "epochs": plain_number(member.cost.epochs)},
        "figures": dict(member.figures),
        "ancestors": list(member.ancestors),
    }
