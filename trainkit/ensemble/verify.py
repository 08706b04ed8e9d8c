"""Reading the files of an ensemble, which may be a stranger's: every value is looked at before it is believed."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from trainkit import checkpoint
from trainkit.ensemble.artefact import (
    FORMAT,
    MANIFEST,
    RECIPES,
    STATE,
    WEIGHTS,
    Artefact,
    Piece,
    StoredMember,
    manifest_sha256,
)
from trainkit.ensemble.manifest import count_of, digest_of, number_of, spec_of, text_of
from trainkit.ensembler import Cost
from trainkit.errors import CheckpointError, RecipeError, UsageError
from trainkit.files import Unfit, kind_of, links_out, read_regular
from trainkit.forms import check_state, cut, is_names, object_in
from trainkit.recipe import parse_toml
from trainkit.verified import memory
from trainkit.weights import not_finite

MAX_MANIFEST = 64 * 1024**2
MAX_RECIPE = 4 * 1024**2
MAX_MEMBERS = 10_000
MAX_TEMPERATURE = 1e6
_NAME = re.compile(rf"{STATE}|{WEIGHTS}/[0-9a-f]{{64}}\.safetensors|{RECIPES}/[0-9a-f]{{64}}\.toml")
_CURE = "make the ensemble again, or bring its folder back as it was written"


def read_artefact(folder: Path) -> Artefact:
    """The ensemble that a folder holds.

    Raises:
        UsageError: if it holds none.
        CheckpointError: if a file is missing, altered, or of another form; the message names it.
    """
    if not os.path.lexists(folder / MANIFEST):
        cure = "name a folder that a recipe with [ensemble] made, or trainkit ensemble"
        if (folder / "recipe.toml").is_file():
            cure = f"if one is being made there, go on with: trainkit resume {folder}"
        raise UsageError(f"{folder}: no finished ensemble (there is no {MANIFEST})\n  {cure}")
    with _Reading(folder) as reading:
        return reading.artefact()
    raise AssertionError("what is wrong is raised above")


class _Reading:
    """An ensemble folder while it is read; errors name the file that was last looked at."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / MANIFEST
        self.files: dict[str, tuple[int, str]] = {}

    def __enter__(self) -> _Reading:
        return self

    def __exit__(self, kind: object, error: BaseException | None, tb: object) -> None:
        match error:
            case FileNotFoundError():
                raise CheckpointError(f"{self.file}: not a whole ensemble: there is no such file\n  {_CURE}") from None
            case OSError():
                raise CheckpointError(f"{self.file}: cannot be read: {error.strerror or error}") from error
            case MemoryError():
                raise CheckpointError(f"{self.file}: there is not enough memory to read it") from error
            case RecipeError():
                raise CheckpointError(f"{self.file}: {error}\n  {_CURE}") from error
            case Unfit():
                raise CheckpointError(f"{self.file}: {error}\n  {_CURE}") from error
            case ValueError() | RecursionError() | LookupError() | TypeError() | ArithmeticError():
                raise CheckpointError(f"{self.file}: {cut(error) or type(error).__name__}\n  {_CURE}") from error

    def artefact(self) -> Artefact:
        for link, target in links_out(self.folder, WEIGHTS, RECIPES):
            self.file = link
            raise Unfit(f"it is a link out of the ensemble, to {target}")
        for part in (WEIGHTS, RECIPES):
            self.file = self.folder / part
            if (kind := kind_of(os.lstat(self.file).st_mode) or "a file") != "a folder":
                raise Unfit(f"it is {kind}, not a folder")
        self.file = self.folder / MANIFEST
        found = object_in(read_regular(self.file, MAX_MANIFEST))
        if found.get("sha256") != manifest_sha256(found):
            raise Unfit("the file is damaged or altered (its SHA-256 is not the one that it ends with)")
        if type(found.get("format")) is not int or not 1 <= found["format"] <= FORMAT:
            raise Unfit(f"it has format {cut(found.get('format'))}, which this version does not read; use a newer one")
        self.files = dict(_files(found.get("files")))
        members = _members(found.get("members"))
        settings, seed = found.get("ensembler"), found.get("seed")
        if not isinstance(settings, dict) or not isinstance(settings.get("use"), str) or type(seed) is not int:
            raise Unfit("it must have the ensembler's settings and a seed")
        temperature: Any = found.get("temperature")
        if type(temperature) not in (int, float) or not 0 < temperature < MAX_TEMPERATURE:
            shown = cut(temperature)[:40]
            raise Unfit(f"the temperature is {shown}, and must be a number above 0 and below {MAX_TEMPERATURE:g}")
        base, spec = digest_of(found.get("recipe"), "recipe"), spec_of(found.get("spec"))
        pieces = {piece.recipe for member in members for piece in member.pieces}
        recipes = {digest: self.recipe(digest) for digest in sorted({base, *pieces})}
        weights = {digest: self.weights(digest) for digest in sorted({member.weights for member in members})}
        tensors = self.tensors(STATE)
        self.file = self.folder / MANIFEST
        state = found.get("state")
        if not isinstance(state, dict):
            raise Unfit("the state must be a table")
        check_state({"ensembler": state}, set(tensors))  # one deeper: its names are the ensembler's own
        return Artefact(
            settings,
            seed,
            base,
            spec,
            members,
            float(temperature),
            checkpoint.join_state(state, tensors),
            recipes,
            weights,
            str(found["sha256"]),
        )

    def bytes_of(self, name: str, most: int) -> bytes:
        """A file whose length and SHA-256 are those that the manifest says."""
        if name not in self.files:
            raise Unfit(f"it does not say the SHA-256 of {name}")
        length, sha256 = self.files[name]
        self.file = self.folder / name
        if length > most:
            raise Unfit(f"the manifest gives it {length:,} bytes, and it may have {most:,} here")
        data = read_regular(self.file, length)
        if len(data) != length or hashlib.sha256(data).hexdigest() != sha256:
            raise Unfit("the file is damaged or altered (its SHA-256 is not the manifest's)")
        return data

    def recipe(self, digest: str) -> str:
        data = self.bytes_of(f"{RECIPES}/{digest}.toml", MAX_RECIPE)
        if hashlib.sha256(data).hexdigest() != digest:
            raise Unfit("its SHA-256 is not its name")
        text = data.decode()
        if {"extends", "search", "ensemble"} & set(parse_toml(text, str(self.file))):
            raise Unfit("the recipe of a member stands alone, without extends, search and ensemble")
        return text

    def weights(self, digest: str) -> dict[str, Tensor]:
        tensors = self.tensors(f"{WEIGHTS}/{digest}.safetensors")
        if checkpoint.tensors_sha256(tensors) != digest:
            raise Unfit("the SHA-256 of the weights is not its name")
        if name := not_finite(tensors):
            raise Unfit(f"'{name}' is not finite")
        return tensors

    def tensors(self, name: str) -> dict[str, Tensor]:
        return checkpoint.from_safetensors(bytearray(self.bytes_of(name, memory())))


def _files(value: Any) -> Iterator[tuple[str, tuple[int, str]]]:
    if not isinstance(value, dict):
        raise Unfit("it must name its files")
    total = 0
    for name, entry in value.items():
        if not _NAME.fullmatch(name):
            raise Unfit(f"it names the file '{cut(name)}', which is none of an ensemble's")
        length = entry.get("bytes") if isinstance(entry, dict) else None
        if type(length) is not int or length < 0:
            raise Unfit(f"it does not say how many bytes {name} has")
        total += length
        yield name, (length, digest_of(entry.get("sha256"), f"SHA-256 of {name}"))
    if total > memory():
        raise Unfit(f"its files have {total:,} bytes, and may have {memory():,} here")


def _members(value: Any) -> list[StoredMember]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_MEMBERS:
        raise Unfit(f"it must have 1 to {MAX_MEMBERS:,} members")
    return [_member(entry, number) for number, entry in enumerate(value)]


def _member(entry: Any, number: int) -> StoredMember:
    what = f"member {number}"
    if not isinstance(entry, dict):
        raise Unfit(f"{what} must be a table")
    pieces, cost = entry.get("pieces"), entry.get("cost")
    if not isinstance(pieces, list) or not 1 <= len(pieces) <= MAX_MEMBERS or not isinstance(cost, dict):
        raise Unfit(f"{what} must have pieces and a cost")
    mean, fold, figures = entry.get("mean"), entry.get("fold"), entry.get("figures")
    if type(mean) is not bool or (len(pieces) > 1 and not mean):
        raise Unfit(f"{what} must say whether it is a mean")
    if fold is not None:
        fold = count_of(fold, f"fold of {what}")
    if not isinstance(figures, dict) or not all(type(one) in (int, float) for one in figures.values()):
        raise Unfit(f"the figures of {what} must be numbers")
    ancestors = entry.get("ancestors")
    if not is_names(ancestors):
        raise Unfit(f"the ancestors of {what} must be text")
    assert isinstance(ancestors, list)
    return StoredMember(
        text_of(entry.get("name"), f"name of {what}"),
        tuple(_piece(piece, what) for piece in pieces),
        digest_of(entry.get("weights"), f"SHA-256 of the weights of {what}"),
        mean,
        text_of(entry.get("source"), f"source of {what}"),
        count_of(entry.get("step"), f"step of {what}"),
        fold,
        {name: float(one) for name, one in figures.items()},
        tuple(ancestors),
        Cost(
            count_of(cost.get("updates"), f"updates of {what}"),
            number_of(cost.get("epochs"), f"epochs of {what}"),
            number_of(cost.get("seconds"), f"seconds of {what}"),
        ),
    )


def _piece(entry: Any, what: str) -> Piece:
    if not isinstance(entry, dict):
        raise Unfit(f"a piece of {what} must be a table")
    name = text_of(entry.get("name"), f"name of a piece of {what}")
    return Piece(digest_of(entry.get("recipe"), f"recipe of {what}"), spec_of(entry.get("spec")), name)
