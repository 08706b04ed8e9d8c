"""Packs: a recipe with all that it extends in one file, which holds no code and is read as carefully as a recipe."""

from __future__ import annotations

import functools
import hashlib
import json
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from trainkit.errors import Place, Problem, RecipeError
from trainkit.files import Unfit
from trainkit.forms import cut, object_in
from trainkit.recipe.pack_form import FORMAT, MAX_PACK, check_form
from trainkit.recipe.positions import LONGEST_LINE, Source
from trainkit.recipe.read import parse, parse_text, read_bytes
from trainkit.recipe.text import shown

SUFFIX = ".pack"
PACKAGED = re.compile(r"(?P<package>[A-Za-z][A-Za-z0-9_.-]*):(?P<name>[A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+)*)")


@dataclass(frozen=True)
class PackedData:
    """What is known of the data that a pack was made beside.

    Args:
        fingerprint: SHA-256 of the data before it is cut, as its component gives it; empty if it was not looked at.
        sizes: samples of each split.
        files: the files that the recipe names, by key: length in bytes and SHA-256.
    """

    fingerprint: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, tuple[int, str]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As a pack holds it."""
        files = {key: {"bytes": length, "sha256": digest} for key, (length, digest) in self.files.items()}
        return {"fingerprint": self.fingerprint, "sizes": dict(self.sizes), "files": files}


@dataclass(eq=False)
class Pack:
    """What a pack holds.

    Args:
        recipe: the recipe's name in it.
        text: the recipe.
        bases: the texts of all bases, by name in it.
        overrides: what was laid over the recipe, as ``key=value``.
        requires: the distributions it needs, with the versions that are the least.
        environment: versions where it was made; ``plugins`` has those of distributions.
        data: the data it was made beside.
        filled: the recipe with all defaults, as it was filled where the pack was made.
        name: the pack, as the user named it.
        tell: told what has changed since; if not given, that is a problem.
        told: what it was told.
    """

    recipe: str
    text: str
    bases: Mapping[str, str]
    overrides: list[str]
    requires: list[str]
    environment: Mapping[str, Any]
    data: PackedData
    filled: str
    name: str = ""
    tell: Callable[[str], None] | None = None
    told: set[str] = field(default_factory=set)

    @functools.cached_property
    def before(self) -> dict[str, Any]:
        """The recipe with all defaults as they were where the pack was made.

        Raises:
            RecipeError: if it is not TOML.
        """
        return parse_text(Source(f"{self.name}/filled.toml", self.filled))

    def source(self) -> Source:
        """The recipe.

        Raises:
            RecipeError: if it is not TOML.
        """
        return self._source(self.recipe, self.text)

    def base(self, base: str, source: Source, place: Place) -> Source:
        """The base that a recipe of the pack extends by a name.

        Raises:
            RecipeError: if the pack does not hold it, or it is not TOML.
        """
        name = named_from(base, source.within)
        if name not in self.bases:
            message = f"extends: '{shown(base)}' is not in the pack"
            raise RecipeError([Problem(place, message, "a pack holds all bases; have it made anew")])
        return self._source(name, self.bases[name])

    def _source(self, name: str, text: str) -> Source:
        return parse(text.encode(), f"{self.name}/{name}", pack=self, within=name)

    def as_json(self) -> dict[str, Any]:
        """The whole as JSON holds it, with its hashes."""
        body = {
            "pack": FORMAT,
            "recipe": {"name": self.recipe, **_hashed(self.text)},
            "bases": {name: _hashed(text) for name, text in self.bases.items()},
            "overrides": self.overrides,
            "requires": self.requires,
            "environment": dict(self.environment),
            "data": self.data.as_json(),
            "filled": _hashed(self.filled),
        }
        return {**body, "sha256": _whole(body)}

    def as_bytes(self) -> bytes:
        """The file.

        Raises:
            Unfit: if it is more than a pack may hold.
        """
        data = (json.dumps(self.as_json(), indent=1) + "\n").encode()
        if len(data) > MAX_PACK:
            raise Unfit(f"it would have {len(data):,} bytes, and may have {MAX_PACK:,}")
        return data


@dataclass(frozen=True)
class PackedOverride:
    """A ``key=value`` that a pack brings with it: a stranger's, unlike one of the command line."""

    text: str
    name: str

    def place(self, path: object) -> Place:
        """The pack, whatever the key."""
        return Place(self.name, 0, shown(self.text, LONGEST_LINE))


def is_pack(name: str) -> bool:
    """Whether the name of a recipe is that of a pack."""
    return name.endswith(SUFFIX)


def named_from(base: str, name: str) -> str:
    """What a pack calls a base.

    Args:
        base: what ``extends`` says.
        name: what the pack calls the recipe that says it.
    """
    if PACKAGED.fullmatch(base):
        return base
    if (packaged := PACKAGED.fullmatch(name)) is not None:
        folder = posixpath.dirname(packaged["name"])
        return f"{packaged['package']}:{posixpath.normpath(posixpath.join(folder, base.removesuffix('.toml')))}"
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), base))


def read_pack(name: str) -> Pack:
    """Read a pack.

    Raises:
        RecipeError: with one problem, if it cannot be read, is of another form or a newer one, or was altered.
        FileNotFoundError: if there is none.
    """
    data = read_bytes(FilePath(name), name, MAX_PACK)
    try:
        if len(data) > MAX_PACK:
            raise Unfit(f"it has more than the {MAX_PACK:,} bytes that a pack may have")
        body = object_in(data)
        version = body.get("pack")
        if type(version) is int and version > FORMAT:
            message = f"the pack has format {cut(version)}; this trainkit reads formats up to {FORMAT}"
            raise RecipeError([Problem(Place(name), message, "install a newer trainkit")])
        check_form(body)
    except Unfit as error:
        cure = "a pack is what 'trainkit pack RECIPE' writes; get it anew from where it came from"
        raise RecipeError([Problem(Place(name), f"not a pack: {shown(str(error), 300)}", cure)]) from None
    if altered := _altered(body):
        cure = "get it anew from where it came from; to change a recipe, lay key=value over it, or pack another"
        raise RecipeError([Problem(Place(name), f"the pack was altered after it was made: {altered}", cure)])
    pack = _pack_of(body)
    pack.name = name
    return pack


def _pack_of(body: Mapping[str, Any]) -> Pack:
    data = body["data"]
    return Pack(
        recipe=body["recipe"]["name"],
        text=body["recipe"]["text"],
        bases={name: table["text"] for name, table in body["bases"].items()},
        overrides=body["overrides"],
        requires=body["requires"],
        environment=body["environment"],
        data=PackedData(
            data["fingerprint"],
            data["sizes"],
            {key: (file["bytes"], file["sha256"]) for key, file in data["files"].items()},
        ),
        filled=body["filled"]["text"],
    )


def _hashed(text: str) -> dict[str, str]:
    return {"text": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def _whole(body: Mapping[str, Any]) -> str:
    """SHA-256 of everything but itself, as JSON in one line with the keys of every table sorted."""
    plain = {key: value for key, value in body.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _altered(body: Mapping[str, Any]) -> str:
    """What of a pack does not have the hash that it says; empty if all does."""
    parts = {f"the recipe '{body['recipe']['name']}'": body["recipe"], "the filled recipe": body["filled"]}
    parts |= {f"the base '{name}'": table for name, table in body["bases"].items()}
    for what, table in parts.items():
        if _hashed(table["text"])["sha256"] != table["sha256"]:
            return f"{shown(what)} is not the text whose SHA-256 it has"
    return "" if _whole(body) == body["sha256"] else "its SHA-256 is not that of what it holds"
