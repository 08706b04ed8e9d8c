"""Reading NumPy's files, never their pickles."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from trainkit import DataError, Dataset, split_by_fraction
from trainkit_data.pixels import images
from trainkit_data.tabular import fractions, tabular

Task = Literal["classification", "binary", "regression"]
_SPLITS = ("train", "val", "test")


def load_arrays(
    path: Path,
    targets_path: Path | None,
    *,
    task: Task | Literal["auto"],
    classes: Sequence[str],
    shares: Mapping[str, float],
    split_seed: int,
    standardise: bool,
    standardise_targets: bool,
) -> Dataset:
    """Make a data set of NumPy files; see `trainkit_data.files.arrays`."""
    found = read_arrays(path)
    if targets_path is not None:
        found = {"inputs": _only(found, path), "targets": _only(read_arrays(targets_path), targets_path)}
    inputs, targets, parts = join(found, path)
    if not len(targets):
        raise DataError(f"{path} holds no samples")
    check_rows(inputs, f"{path}: inputs")
    check_rows(targets, f"{path if targets_path is None else targets_path}: targets")
    if task == "auto":
        task = "regression" if targets.is_floating_point() or targets.dim() > 1 else "classification"
    if task != "regression":
        if targets.dim() != 1 or not bool((targets == targets.long()).all()):
            raise DataError(f"{path}: targets of a {task} are whole numbers (samples,), got {_describe(targets)}")
        targets = targets.long()
        top = int(targets.max())
        if int(targets.min()) < 0 or (classes and top >= len(classes)) or (task == "binary" and top > 1):
            most = len(classes) - 1 if classes else 1
            raise DataError(f"{path}: targets go from {int(targets.min())} to {top}; they must be from 0 to {most}")
        classes = classes or [str(number) for number in range(2 if task == "binary" else top + 1)]
    if not parts:
        parts = split_by_fraction(targets, fractions(**shares), split_seed)
    if inputs.dtype == torch.uint8 and inputs.dim() == 4 and task == "classification":
        return images(inputs, targets, parts, classes=classes, standardise=standardise)
    return tabular(
        inputs,
        targets,
        task=task,
        parts=parts,
        classes=() if task == "regression" else classes,
        scale_inputs=standardise,
        scale_targets=standardise_targets,
    )


def read_arrays(path: Path) -> dict[str, Any]:
    """Read an ``.npz`` or ``.npy``; a lone array has the name ``""``.

    Raises:
        DataError: if it is missing, damaged, or holds Python objects.
    """
    try:
        # Opened here: NumPy leaves a file open that it cannot read.
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"": loaded}
            with loaded:
                return {name: loaded[name] for name in loaded.files}
    except FileNotFoundError:
        raise DataError(
            f"there is no file {path}; relative paths start at TRAINKIT_DATA or the current folder"
        ) from None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read as NumPy arrays of numbers ({error})") from error


def join(found: Mapping[str, Any], path: Path) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Inputs, targets and, where the file holds them, the parts.

    Raises:
        DataError: if arrays are missing or do not belong together.
    """
    if "inputs" in found and "targets" in found:
        pairs = {"": (found["inputs"], found["targets"])}
    elif "train_inputs" in found:
        held = [name for name in _SPLITS if f"{name}_inputs" in found]
        if lacking := [name for name in held if f"{name}_targets" not in found]:
            raise DataError(f"{path} has {lacking[0]}_inputs but no {lacking[0]}_targets")
        pairs = {name: (found[f"{name}_inputs"], found[f"{name}_targets"]) for name in held}
    else:
        shown = ", ".join(name or "one array without a name" for name in found) or "nothing"
        raise DataError(
            f"{path} needs arrays 'inputs' and 'targets', or 'train_inputs' and 'train_targets'; it holds: {shown}"
        )
    tensors = {}
    for name, (inputs, targets) in pairs.items():
        tensors[name] = _tensor(inputs, path), _tensor(targets, path)
        if len(tensors[name][0]) != len(tensors[name][1]):
            raise DataError(
                f"{path}: {len(tensors[name][0])} inputs, but {len(tensors[name][1])} targets"
                + f" in {name}" * bool(name)
            )
    shapes = {tuple(inputs.shape[1:]) for inputs, _ in tensors.values()}
    if len(shapes) > 1:
        raise DataError(f"{path}: samples of the splits differ in shape: {', '.join(map(str, shapes))}")
    parts = {}
    first = 0
    for name, (_, targets) in tensors.items():
        if name:
            parts[name] = torch.arange(first, first + len(targets))
        first += len(targets)
    everything = list(tensors.values())
    return torch.cat([inputs for inputs, _ in everything]), torch.cat([targets for _, targets in everything]), parts


def check_rows(values: Tensor, what: str) -> None:
    """Refuse NaN and infinity.

    Raises:
        DataError: naming the first such row.
    """
    bad = ~values.isfinite().reshape(len(values), -1).all(1)
    if bad.any():
        row = int(bad.nonzero()[0])
        raise DataError(f"{what}: row {row} (from 0) holds NaN or infinity, as do {int(bad.sum())} rows in all")


def _tensor(array: Any, path: Path) -> Tensor:
    if array.dtype.kind not in "biuf" or array.ndim == 0:
        raise DataError(f"{path} holds an array of {array.dtype} {array.shape}; use arrays of numbers (samples, ...)")
    if array.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(array))
    return torch.from_numpy(np.ascontiguousarray(array, np.float64 if array.dtype.kind == "f" else np.int64))


def _only(found: Mapping[str, Any], path: Path) -> Any:
    if list(found) != [""]:
        raise DataError(f"{path} is no .npy file; leave out targets where path is an .npz")
    return found[""]


def _describe(values: Tensor) -> str:
    return f"{str(values.dtype).removeprefix('torch.')} {tuple(values.shape)}"
