"""Tensors of a checkpoint that several processes wrote: in which file each lies, and which rows of it.

Each process writes a file of its own in the safetensors format. A tensor that no process has as a whole lies in several
of them, neighbouring rows in each, under its own name; ``shards`` in the checkpoint's state says which.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from trainkit.files import Unfit
from trainkit.forms import TENSORS, cut

SHARDS = "shards"
_FILE = re.compile(r"tensors-(\d{5})-of-(\d{5})\.safetensors")

Place = tuple[str, tuple[int, ...], int]  # type, shape and first byte


class Piece(NamedTuple):
    """Neighbouring rows of a tensor.

    Args:
        file: the file that holds them.
        first: the number of the first one in the tensor.
        shape: theirs together.
        begin: their first byte in the file.
    """

    file: str
    first: int
    shape: tuple[int, ...]
    begin: int


class Pieces(NamedTuple):
    """A tensor as it lies in files.

    Args:
        kind: its type, as the format writes it.
        shape: that of the whole.
        parts: in the order of rows; one of a tensor that lies in one file.
    """

    kind: str
    shape: tuple[int, ...]
    parts: tuple[Piece, ...]


def shard_file(number: int, count: int) -> str:
    """The name of a process's file, by its number from 1 and that of the processes."""
    return f"tensors-{number:05d}-of-{count:05d}.safetensors"


def is_shard_file(name: str) -> bool:
    """Whether a file is called as `shard_file` calls one."""
    return _FILE.fullmatch(name) is not None


def check_names(names: Iterable[str]) -> None:
    """Check that the tensor files of a checkpoint are one, or those of all processes of a group.

    Raises:
        Unfit: if they are not.
    """
    names = sorted(names)
    whole = [shard_file(number + 1, len(names)) for number in range(len(names))]
    if not names or names not in ([TENSORS], whole):
        raise Unfit(f"the manifest has the tensor files {cut(', '.join(names) or 'none')}, which make no checkpoint")


def put_together(files: Mapping[str, Mapping[str, Place]], state: Mapping[str, Any]) -> dict[str, Pieces]:
    """Where each tensor lies, if its pieces are all of it and nothing comes twice.

    Args:
        files: what lies where in each tensor file.
        state: the checkpoint's state.

    Raises:
        Unfit: if the pieces are not those that the state speaks of, or do not make the tensor that it says.
    """
    shards = state.get(SHARDS, {})
    if not isinstance(shards, dict) or (shards and TENSORS in files):
        raise Unfit(f"'{SHARDS}' must be a table, of a checkpoint in several files")
    found: dict[str, Pieces] = {}
    for file, places in files.items():
        for name, (kind, shape, begin) in places.items():
            if name in shards:
                continue
            if name in found:
                raise Unfit(f"tensor '{cut(name)}' lies in {found[name].parts[0].file} and in {file}")
            found[name] = Pieces(kind, shape, (Piece(file, 0, shape, begin),))
    for name, entry in shards.items():
        found[name] = _joined(name, entry, files)
    return found


def _joined(name: str, entry: Any, files: Mapping[str, Mapping[str, Place]]) -> Pieces:
    """The pieces of one tensor, as the state has them."""
    said = f"'{SHARDS}' of tensor '{cut(name)}'"
    if not isinstance(entry, dict) or set(entry) != {"shape", "first"}:
        raise Unfit(f"{said} must be a table of shape and first")
    shape, first = entry["shape"], entry["first"]
    if not _counts(shape) or not shape or not isinstance(first, dict) or not _counts(list(first.values())):
        raise Unfit(f"{said} must have whole numbers, and has {cut(entry)}")
    if not first:
        raise Unfit(f"{said} names no file")
    holders = {file for file, places in files.items() if name in places}
    if holders != set(first):
        raise Unfit(f"{said} names the files {cut(sorted(first))}; the tensor lies in {cut(sorted(holders))}")
    kinds = {files[file][name][0] for file in holders}
    if len(kinds) != 1:
        raise Unfit(f"tensor '{cut(name)}' has several types: {cut(sorted(kinds))}")
    parts = sorted(Piece(file, first[file], *files[file][name][1:]) for file in holders)
    parts.sort(key=lambda part: part.first)
    end = 0
    for part in parts:
        if len(part.shape) != len(shape) or list(part.shape[1:]) != shape[1:] or part.first != end:
            raise Unfit(f"{said}: {part.shape} at row {part.first} of {part.file} does not continue it at row {end}")
        end += part.shape[0]
    if end != shape[0]:
        raise Unfit(f"{said}: the pieces have {end} rows, the tensor {shape[0]}")
    return Pieces(kinds.pop(), tuple(shape), tuple(parts))


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)
