"""Checkpoints: tensors as safetensors, the rest as JSON, a manifest with checksums; whole or absent, never a pickle."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainkit import store
from trainkit.distributed.sharding import rows_here, whole
from trainkit.errors import CheckpointError
from trainkit.forms import STATE, TENSORS, places_in
from trainkit.pieces import SHARDS, Pieces
from trainkit.store import folder_name, newest_first, prune, set_aside, tidy
from trainkit.verified import read_checkpoint

__all__ = ["folder_name", "newest_first", "prune", "set_aside", "tidy"]  # of the store, for those who have a checkpoint
_SMALL = 1 << 16  # bytes of a tensor that is joined with others before it is written
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_PLAIN = frozenset((type(None), bool, int, str))
_JSON = json.JSONEncoder(allow_nan=False)
OF_NAME = {name: dtype for dtype, name in _DTYPES.items()}


def can_save(tensor: Tensor) -> bool:
    """Whether the format knows the tensor's type."""
    return tensor.dtype in _DTYPES


def raw_bytes(tensor: Tensor) -> bytes:
    """The tensor's bytes in row-major order, whatever its layout on the device."""
    flat = tensor.detach().to("cpu").contiguous()
    return flat.reshape(-1).view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name; of what is divided among processes, the rows that are here."""
    return {name: rows_here(tensor) for name, tensor in model.state_dict(keep_vars=False).items()}


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of parameters and buffers, in name order.

    Collective where parameters are divided among processes: it is that of the whole ones.
    """
    return tensors_sha256(model.state_dict(keep_vars=False))


def tensors_sha256(tensors: Mapping[str, Tensor], prefix: str = "") -> str:
    """As `weights_sha256`, of tensors by name; of those whose names begin so, without that beginning."""
    named = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    digest = hashlib.sha256()
    for name, held in sorted(named.items()):
        tensor = whole(held)
        digest.update(f"{name} {list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}\n".encode())
        digest.update(raw_bytes(tensor))
    return digest.hexdigest()


def save(parent: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> Path:
    """Write a checkpoint, and come back when it is durable.

    Args:
        parent: the run's ``checkpoints`` folder.
        step: updates made.
        tensors: by name; of any device and layout.
        state: what JSON can hold.

    Returns:
        The checkpoint's folder.

    Raises:
        OSError: if the disk refuses; older checkpoints are untouched.
    """
    layout = Layout(tensors)
    contents: dict[str, Sequence[store.Buffer]] = {TENSORS: layout.parts(tensors), STATE: [state_text(state)]}
    return Path(store.write(os.fspath(parent), step, contents))


def state_text(state: Mapping[str, Any]) -> bytes:
    """The contents of ``state.json``."""
    return _JSON.encode(state).encode()


def to_safetensors(tensors: Mapping[str, Tensor]) -> bytes:
    """The tensors in the safetensors format.

    Raises:
        TypeError: naming a tensor of a type that the format does not know.
    """
    return b"".join(Layout(tensors).parts(tensors))


class Layout:
    """Where each of some tensors lies in a file of the safetensors format: the widest types first, then by name.

    The library's own writer refuses tensors that share memory, as tied weights and views do, and costs several times
    this for a small model.

    Raises:
        TypeError: naming a tensor of a type that the format does not know.

    Source: the format's description, github.com/huggingface/safetensors#format.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            if not can_save(tensor):
                known = ", ".join(map(str, _DTYPES))
                raise TypeError(f"{name}: tensors of {tensor.dtype} cannot be saved; use {known}")
        # In this order every tensor begins at a multiple of its type's width.
        self.names = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
        self.spans: list[tuple[int, int]] = []
        header: dict[str, Any] = {}
        end = 0
        for name in self.names:
            tensor = tensors[name]
            start, end = end, end + tensor.numel() * tensor.itemsize
            self.spans.append((start, end))
            header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self.header = len(text).to_bytes(8, "little") + text
        self.length = len(self.header) + end

    def parts(self, tensors: Mapping[str, Tensor]) -> list[bytes | memoryview]:
        """The file's contents, without a copy of what lies in the processor's memory row by row."""
        found: list[bytes | memoryview] = [self.header]
        small: list[bytes] = []
        for name in self.names:
            tensor = tensors[name]
            if tensor.numel() * tensor.itemsize < _SMALL:
                small.append(raw_bytes(tensor))
                continue
            if small:
                found.append(b"".join(small))
                small = []
            flat = tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8)
            found.append(flat.numpy().data)
        return [*found, b"".join(small)]


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint and verify every byte of it.

    Raises:
        CheckpointError: if anything is missing or differs from the manifest; the message names the file.
    """
    files, tensors, state = read_checkpoint(folder)
    state.pop(SHARDS, None)
    return {name: joined(files, pieces) for name, pieces in tensors.items()}, state


def joined(files: Mapping[str, memoryview], pieces: Pieces) -> Tensor:
    """A tensor of its pieces; what lies in one file shares its memory."""
    parts = [tensor_at(files[part.file], pieces.kind, part.shape, part.begin) for part in pieces.parts]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def from_safetensors(data: bytearray) -> dict[str, Tensor]:
    """The tensors of a file in the safetensors format; they share its memory.

    Raises:
        ValueError: if it is not right to its last byte.
    """
    return _tensors_at(memoryview(data), places_in(data))


def _tensors_at(data: memoryview, places: Mapping[str, tuple[str, tuple[int, ...], int]]) -> dict[str, Tensor]:
    return {name: tensor_at(data, *place) for name, place in places.items()}


def tensor_at(data: memoryview, kind: str, shape: tuple[int, ...], begin: int) -> Tensor:
    dtype, count = OF_NAME[kind], math.prod(shape)
    if not count:
        return torch.empty(shape, dtype=dtype)
    flat = torch.frombuffer(data, dtype=dtype, count=count, offset=begin)
    if begin % dtype.itemsize:  # another program's order
        flat = flat.clone()
    return flat if len(shape) == 1 else flat.view(shape)


def load_newest(parent: Path) -> tuple[Path, dict[str, Tensor], dict[str, Any]]:
    """Load the newest checkpoint that verifies.

    Raises:
        CheckpointError: if none does; the message has a line for each that was refused.
    """
    return find_newest(parent)[:3]


def find_newest(parent: Path) -> tuple[Path, dict[str, Tensor], dict[str, Any], dict[Path, str]]:
    """Load the newest checkpoint that verifies, and say which newer ones were refused, and why.

    Raises:
        CheckpointError: as `load_newest`.
    """
    refused: dict[Path, str] = {}
    for folder in newest_first(parent):
        try:
            return folder, *load(folder), refused
        except CheckpointError as error:
            refused[folder] = str(error)
    raise CheckpointError("\n".join([f"{parent}: no usable checkpoint", *refused.values()]))


# ---------------------------------------------------------------- plain data and random state


def split_state(state: Any, prefix: str, tensors: dict[str, Tensor]) -> Any:
    """Take the tensors out of nested state; JSON keeps ``{"__tensor__": name}`` in their place.

    Raises:
        TypeError: naming the place of whatever is neither a tensor nor plain data.
    """
    kind = type(state)
    if kind in _PLAIN:
        return state
    if kind is float:  # hexadecimal: exact, and defined for what JSON has no word for
        return {"__float__": state.hex()}
    # The exact types first: asking whether something is a mapping costs as much as all the rest.
    if kind is not dict and isinstance(state, Tensor):
        tensors[prefix] = state
        return {"__tensor__": prefix}
    if kind is list or kind is tuple or isinstance(state, list | tuple):
        if all(type(value) in _PLAIN for value in state):
            return list(state)
        return [split_state(value, f"{prefix}/{i}", tensors) for i, value in enumerate(state)]
    if kind is dict or isinstance(state, Mapping):
        found = {}
        for key, value in state.items():
            if not isinstance(key, str):
                raise TypeError(f"{prefix}: keys must be text, got {key!r}")
            found[key] = value if type(value) in _PLAIN else split_state(value, f"{prefix}/{key}", tensors)
        return found
    raise TypeError(f"{prefix}: {type(state).__name__} cannot be saved; use tensors, numbers, text, lists and dicts")


def join_state(state: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undo `split_state`; tuples come back as lists."""
    if isinstance(state, dict):
        if "__tensor__" in state:
            return tensors[state["__tensor__"]]
        if "__float__" in state:
            return float.fromhex(state["__float__"])
        return {key: join_state(value, tensors) for key, value in state.items()}
    if isinstance(state, list):
        return [join_state(value, tensors) for value in state]
    return state


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], prefix: str = "model/") -> None:
    """Copy saved weights into a model, exactly: the same names, shapes and dtypes, all finite or all as saved.

    Raises:
        CheckpointError: naming what is missing, left over or of another shape.
    """
    saved = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    own = weights_of(model)
    problems = [f"missing {name}" for name in own if name not in saved]
    problems += [f"left over {name}" for name in saved if name not in own]
    problems += [
        f"{name} is {tuple(saved[name].shape)} {saved[name].dtype}, "
        f"the model's {tuple(own[name].shape)} {own[name].dtype}"
        for name in own
        if name in saved and (saved[name].shape, saved[name].dtype) != (own[name].shape, own[name].dtype)
    ]
    if problems:
        raise CheckpointError("the checkpoint does not fit the model: " + "; ".join(problems[:8]))
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(saved[name])
