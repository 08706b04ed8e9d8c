"""A run that begins with the newest checkpoint of another one, whose settings it may change."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli

from trainkit import checkpoint, store
from trainkit.errors import CheckpointError
from trainkit.files import open_regular, read_regular
from trainkit.forms import STATE, TENSORS
from trainkit.history import entries, remember
from trainkit.rundir import check_links, read_text, write_atomically

_MOST = 1 << 40  # bytes of a file that was verified a moment ago


def begin_from(parent: Path, folder: Path) -> None:
    """Make a run folder that stands where the newest good checkpoint of another run does; nothing where it is made.

    The lines that the other run had written to ``metrics.jsonl`` until then are part of the new one's: its curves are
    whole. Its recipe and environment come along, and the new run is continued from them, as any run is whose recipe
    has changed.

    Args:
        parent: the other run's folder; it is not running.
        folder: the new one's.

    Raises:
        CheckpointError: if the other run has no checkpoint that can be used.
        OSError: if the disk refuses.
    """
    if (folder / "recipe.toml").exists():
        return
    if not (parent / "recipe.toml").is_file():
        raise CheckpointError(f"{parent}: there is no run to begin from (no recipe.toml)")
    check_links(parent)
    found, tensors, state, _ = checkpoint.find_newest(parent / "checkpoints")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("checkpoints", "metrics.jsonl", "history.jsonl", "environment.json"):  # of a process that was killed
        part = folder / name
        shutil.rmtree(part) if part.is_dir() and not part.is_symlink() else part.unlink(missing_ok=True)
    if (found / TENSORS).exists():
        contents: dict[str, list[store.Buffer]] = {
            name: [memoryview(read_regular(found / name, _MOST))] for name in (TENSORS, STATE)
        }
        store.write(os.fspath(folder / "checkpoints"), state["step"], contents)
    else:  # several processes wrote it: what they had together goes on as one file
        checkpoint.save(folder / "checkpoints", state["step"], tensors, state)
    write_atomically(folder / "metrics.jsonl", _first_bytes(parent / "metrics.jsonl", int(state["metrics_bytes"])))
    write_atomically(folder / "environment.json", read_text(parent / "environment.json"))
    # The other run may be gone when somebody asks whether two runs come from the same weights.
    weights = [checkpoint.tensors_sha256(tensors, "model/"), *begun_with(parent)]
    begun = {"parent": str(parent), "checkpoint": found.name, "weights": weights, "first": _first_of(parent)}
    remember(folder, "begin from", state["step"], "", True, **begun)
    write_atomically(folder / "recipe.toml", read_text(parent / "recipe.toml"))  # last: it says that the run is there


def parent_of(folder: Path) -> Path | None:
    """The run folder that a run began from; ``None`` where it began from nothing."""
    begun = _beginning(folder)
    return None if begun is None else Path(str(begun.get("parent", "")))


def is_there(folder: Path) -> bool:
    """Whether the run that a run began from still lies where it was: in its place may be one of other first weights."""
    begun, parent = _beginning(folder), parent_of(folder)
    if begun is None or parent is None:
        return False
    try:
        return bool(begun.get("first") == _first_of(parent)) and begun_with(folder)[1:] == begun_with(parent)
    except (OSError, ValueError):
        return False


def _first_of(run: Path) -> str:
    """SHA-256 of what decides with which weights a run begins, on given data."""
    text = read_text(run / "recipe.toml")
    try:
        tables = tomli.loads(text)
    except (ValueError, RecursionError):
        tables = {"model": text}
    first = {key: tables.get(key) for key in ("seed", "model")}
    return hashlib.sha256(json.dumps(first, sort_keys=True, default=str).encode()).hexdigest()


def begun_with(folder: Path) -> list[str]:
    """SHA-256 of the weights of each checkpoint that a run began from: its own, then those before it."""
    weights = (_beginning(folder) or {}).get("weights")
    return [text for text in weights if isinstance(text, str)] if isinstance(weights, list) else []


def _beginning(folder: Path) -> Mapping[str, Any] | None:
    try:
        events = entries(folder)
    except (OSError, ValueError):
        return None
    return next((entry for entry in events if entry.get("event") == "begin from"), None)


def _first_bytes(path: Path, length: int) -> bytes:
    if not length:
        return b""
    number, _ = open_regular(path, _MOST)
    with os.fdopen(number, "rb") as file:
        return file.read(length)
