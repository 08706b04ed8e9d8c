"""Where weights lie that a model begins with: a run, one of its checkpoints, a study's winner, safetensors files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from trainkit import checkpoint
from trainkit.errors import CheckpointError
from trainkit.files import read_regular
from trainkit.forms import MANIFEST, TENSORS
from trainkit.rundir import check_links, read_text
from trainkit.verified import memory

_SUFFIX = ".safetensors"
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
_NEWEST = ("newest", "latest")
# The files of a model that was saved in parts, as transformers names them.
_PART = re.compile(r"(.+)-\d{5}-of-\d{5}\.safetensors")


class NoWeights(ValueError):
    """No weights lie where a recipe says; the text says why, and how to put it right."""


@dataclass(frozen=True)
class Weights:
    """Weights that were read.

    Args:
        place: the checkpoint or file that they come from.
        tensors: by name.
        about: what is known of them: ``kind``, and of a run ``run``, ``step``.
        averages: whether the run measures other weights than these, which its recipe and its state say.
        state: of a checkpoint, what it holds beside tensors.
        everything: of a checkpoint, all its tensors.
    """

    place: Path
    tensors: Mapping[str, Tensor]
    about: Mapping[str, Any]
    averages: bool = False
    state: Mapping[str, Any] = field(default_factory=dict)
    everything: Mapping[str, Tensor] = field(default_factory=dict)


def read_weights(written: str) -> Weights:
    """Read what a recipe names.

    Args:
        written: a path, relative to the working directory: a run folder (its best checkpoint, else its newest), one
            with ``/best``, ``/newest`` or ``/step-...`` behind it, a checkpoint, a study folder (its best trial), a
            safetensors file, or a folder with one.

    Raises:
        NoWeights: if nothing of that kind is there.
        CheckpointError: if what is there is damaged.
    """
    path = Path(written).expanduser()
    if path.name == TENSORS and (path.parent / MANIFEST).exists():
        path = path.parent
    if path.is_dir():
        if (path / MANIFEST).exists():
            return _of_checkpoint(path)
        if (path / "recipe.toml").is_file():
            return _of_run(_run_of(path), "")
        return _of_files(path, _files_in(path))
    if path.exists():
        if path.suffix in _PICKLES:
            raise NoWeights(
                f"{path} may be a pickle, which is never read\n"
                f"make a file of tensors of it: trainkit import-weights {path} --out {path.with_suffix(_SUFFIX)}"
            )
        return _of_files(path, [path])
    if (path.parent / "recipe.toml").is_file():
        return _of_run(_run_of(path.parent), path.name)
    raise NoWeights(
        f"there is no {path}\nname a run folder, one of its checkpoints, or a {_SUFFIX} file; relative paths start at "
        "the working directory"
    )


def _run_of(folder: Path) -> Path:
    """The run that a folder stands for: of a study its winner's."""
    for name, what in (("ensemble.json", "an ensemble, which has several models"), ("repeats.json", "several runs")):
        if (folder / name).is_file():
            raise NoWeights(f"{folder} holds {what}\nname the folder of one run")
    if not (folder / "study.jsonl").is_file():
        return folder
    try:
        best = json.loads(read_text(folder / "report.json"))["best"]
        trial = folder / "trials" / f"{int(best['trial']):04d}"
        if (best.get("refit") or {}).get("status") == "done":
            trial = folder / "refit"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NoWeights(f"{folder} is a study without a winner\nname the folder of one of its trials") from error
    trial = trial / "run-0" if (trial / "run-0").is_dir() else trial
    _within(folder, trial)
    return trial


def _within(folder: Path, path: Path) -> None:
    """Refuse what leads out of a folder that was named: by that name, one reads elsewhere.

    Raises:
        NoWeights: saying where it leads.
    """
    home, target = os.path.realpath(folder), os.path.realpath(path)
    if os.path.commonpath([home, target]) != home:
        raise NoWeights(f"{path} is a link out of the folder, to {target}\nname what it leads to")


def _of_run(folder: Path, which: str) -> Weights:
    """Weights of a run: of the checkpoint ``which``, else of the best, else of the newest."""
    check_links(folder)
    kept = checkpoint.newest_first(folder / "checkpoints")
    if not kept:
        raise NoWeights(f"{folder} has no checkpoint yet\nlet the run come to one, or name another")
    if which in ("", "best"):
        try:
            name = str(json.loads(read_text(folder / "best.json"))["checkpoint"])
        except FileNotFoundError:
            if which:
                raise NoWeights(
                    f"{folder} has no best checkpoint: nothing was measured there\nname {folder} alone, or a checkpoint"
                ) from None
            name = _NEWEST[0]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{folder / 'best.json'}: it names no checkpoint") from error
        which = name
    if which in _NEWEST:
        return _of_checkpoint(checkpoint.find_newest(folder / "checkpoints")[0])
    if not any(one.name == which for one in kept):
        names = ", ".join(one.name for one in kept)
        raise NoWeights(f"{folder} has no checkpoint named '{which}'\nit has best, newest, {names}")
    return _of_checkpoint(folder / "checkpoints" / which)


def _of_checkpoint(folder: Path) -> Weights:
    tensors, state = checkpoint.load(folder)
    own = {name.removeprefix("model/"): tensor for name, tensor in tensors.items() if name.startswith("model/")}
    averages = any(name.startswith("plugin/") for name in tensors)
    about = {"kind": "run", "run": str(folder.parent.parent), "step": state.get("step")}
    return Weights(folder, own, about, averages, state, tensors)


def _files_in(folder: Path) -> list[Path]:
    """The safetensors files of a folder that belong together."""
    files = sorted(path for path in folder.iterdir() if path.suffix == _SUFFIX)
    for path in files:
        _within(folder, path)
    whole = [path for path in files if not _PART.fullmatch(path.name)]
    if len(whole) == 1:
        return whole
    parts = {found[1] for path in files if (found := _PART.fullmatch(path.name))}
    if not whole and len(parts) == 1:
        return files
    if not files:
        raise NoWeights(f"{folder} holds no run and no {_SUFFIX} file\nname a run folder, a checkpoint, or a file")
    raise NoWeights(f"{folder} holds several {_SUFFIX} files\nname one of {', '.join(path.name for path in files)}")


def _of_files(place: Path, files: list[Path]) -> Weights:
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            # A file that is named may be a link, as in a cache of downloads: where it leads was looked at.
            data = read_regular(file.resolve(), memory())
            found = checkpoint.from_safetensors(bytearray(data))
        except OSError as error:
            raise NoWeights(f"{file} cannot be read: {error.strerror or error}") from error
        except ValueError as error:
            raise CheckpointError(f"{file}: no file of tensors in the safetensors format: {error}") from error
        if both := sorted(found.keys() & tensors.keys()):
            raise CheckpointError(f"{file}: '{both[0]}' is in another of the files too")
        tensors |= found
    return Weights(place, tensors, {"kind": "file", "files": [file.name for file in files]})
