"""Checkpoints: tensors as safetensors, the rest as JSON, a manifest with checksums; whole or absent, never a pickle."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor, nn

from trainkit.errors import CheckpointError
from trainkit.rundir import sync_folder
from trainkit.verified import MANIFEST, STATE, TENSORS, read_checkpoint

FORMAT = 1
SPARE = ".spare"
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


def can_save(tensor: Tensor) -> bool:
    """Whether the format knows the tensor's type."""
    return tensor.dtype in _DTYPES


def raw_bytes(tensor: Tensor) -> bytes:
    """The tensor's bytes in row-major order, whatever its layout on the device."""
    flat = tensor.detach().to("cpu").contiguous()
    return flat.reshape(-1).view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name."""
    return dict(model.state_dict(keep_vars=False))


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of parameters and buffers, in name order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights_of(model).items()):
        digest.update(f"{name} {list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}\n".encode())
        digest.update(raw_bytes(tensor))
    return digest.hexdigest()


def folder_name(step: int) -> str:
    """The folder of the checkpoint made after ``step`` updates."""
    return f"step-{step:012d}"


def save(parent: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> Path:
    """Write a checkpoint: everything into a temporary folder, each file made durable, then one rename.

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
    # Plain text paths: at the end of a short epoch, path objects would cost as much as the writing.
    top = os.fspath(parent)
    os.makedirs(top, exist_ok=True)
    final, temporary = os.path.join(top, folder_name(step)), os.path.join(top, f".tmp-{step}-{os.getpid()}")
    if os.path.exists(temporary):
        shutil.rmtree(temporary)
    try:
        # Writing over the files of a checkpoint that is no longer wanted costs half of making new ones.
        os.rename(os.path.join(top, SPARE), temporary)
    except OSError:
        os.mkdir(temporary)
    try:
        contents = {TENSORS: to_safetensors(tensors), STATE: json.dumps(state, allow_nan=False).encode()}
        files = {}
        for name, data in contents.items():
            _write_durably(os.path.join(temporary, name), data)
            files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        line = json.dumps({"files": files, "format": FORMAT, "step": step}, sort_keys=True, separators=(",", ":"))
        check = hashlib.sha256(line.encode()).hexdigest()
        _write_durably(os.path.join(temporary, MANIFEST), f"{line}\n{check}\n".encode())
        sync_folder(temporary)
        if os.path.exists(final):  # the same step was saved before, by this run
            shutil.rmtree(final)
        os.rename(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(top)
    return Path(final)


def to_safetensors(tensors: Mapping[str, Tensor]) -> bytes:
    """The tensors in the safetensors format, names in order.

    The library's own writer refuses tensors that share memory, as tied weights and views do, and costs several times
    this for a small model.

    Raises:
        TypeError: naming a tensor of a type that the format does not know.

    Source: the format's description, github.com/huggingface/safetensors#format.
    """
    header: dict[str, Any] = {}
    parts, end = [], 0
    for name in sorted(tensors):
        tensor = tensors[name]
        if not can_save(tensor):
            raise TypeError(f"{name}: tensors of {tensor.dtype} cannot be saved; use {', '.join(map(str, _DTYPES))}")
        data = raw_bytes(tensor)
        start, end = end, end + len(data)
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
        parts.append(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of eight
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def _write_durably(path: str, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(handle, left) :]
        os.ftruncate(handle, len(data))
        os.fsync(handle)
    finally:
        os.close(handle)


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint and verify every byte of it.

    Raises:
        CheckpointError: if anything is missing or differs from the manifest; the message names the file.
    """
    data, state = read_checkpoint(folder)
    try:
        return safetensors.load(data), state
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{folder / TENSORS}: cannot be read: {error}") from error


def newest_first(parent: Path) -> list[Path]:
    """Checkpoint folders, the newest first; by their number, since clocks are not trusted."""
    return sorted((path for path in parent.glob("step-*") if path.is_dir()), reverse=True)


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


def prune(parent: Path, keep: int, best: str | None) -> None:
    """Remove checkpoints older than the newest ``keep``, except the best one."""
    top = os.fspath(parent)
    listed = os.listdir(top)
    spare = os.path.join(top, SPARE)
    for name in sorted((name for name in listed if name.startswith("step-")), reverse=True)[keep:]:
        if name != best:
            if not os.path.exists(spare):
                os.rename(os.path.join(top, name), spare)
                continue
            doomed = os.path.join(top, f".del-{name}")
            os.rename(os.path.join(top, name), doomed)
            shutil.rmtree(doomed, ignore_errors=True)


def tidy(parent: Path) -> None:
    """Remove what is kept between saves only, and what a killed process left; under the run folder's lock."""
    for pattern in (SPARE, ".tmp-*", ".del-*"):
        for path in parent.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)


def set_aside(folder: Path) -> Path:
    """Rename a checkpoint that was refused, so that it counts no more and can still be looked at."""
    number = 0
    while (aside := folder.with_name(f"refused-{folder.name}{f'-{number}' if number else ''}")).exists():
        number += 1
    return folder.rename(aside)


# ---------------------------------------------------------------- plain data and random state


def split_state(state: Any, prefix: str, tensors: dict[str, Tensor]) -> Any:
    """Take the tensors out of nested state; JSON keeps ``{"__tensor__": name}`` in their place.

    Raises:
        TypeError: naming the place of whatever is neither a tensor nor plain data.
    """
    kind = type(state)
    if state is None or kind is int or kind is str or kind is bool:
        return state
    if kind is float:  # hexadecimal: exact, and defined for what JSON has no word for
        return {"__float__": state.hex()}
    if isinstance(state, Tensor):
        tensors[prefix] = state
        return {"__tensor__": prefix}
    if isinstance(state, Mapping):
        if bad := [key for key in state if not isinstance(key, str)]:
            raise TypeError(f"{prefix}: keys must be text, got {bad[0]!r}")
        return {key: split_state(value, f"{prefix}/{key}", tensors) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [split_state(value, f"{prefix}/{i}", tensors) for i, value in enumerate(state)]
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


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of every global random generator."""
    version, internal, gauss = random.getstate()
    drawn: Any = numpy.random.get_state()
    kind, keys, position, has_gauss, cached = drawn
    state: dict[str, Any] = {
        "python": [version, torch.tensor(internal, dtype=torch.int64), gauss],
        "numpy": [kind, torch.from_numpy(keys.astype(numpy.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Set every global random generator to what `random_state` gave."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal.tolist()), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    numpy.random.set_state((kind, keys.numpy().astype(numpy.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


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
