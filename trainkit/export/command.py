"""``trainkit export``: one file that predicts as a finished run or ensemble does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import trainkit
from trainkit.console import emit, emit_json
from trainkit.errors import MachineError, RunError, UsageError
from trainkit.export import programs
from trainkit.export.subjects import Subject, ensemble_subject, run_subject
from trainkit.manager import Plugins
from trainkit.predictions import check_writable
from trainkit.protocols import Progress, silent
from trainkit.rundir import write_atomically

SUFFIXES = (".pt2", ".onnx")
FORMAT = 1  # of the metadata


def export(
    path: Path,
    out: Path,
    batch: int | None,
    plugins: Plugins,
    *,
    is_ensemble: bool = False,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Write a finished run or ensemble as one program, which is checked before it gets its name.

    Args:
        path: a run folder, one of its checkpoints, or an ensemble folder.
        out: the file, by whose ending the format is chosen.
        batch: samples of each call; ``None`` for any number.
        plugins: the plugins of this process.
        is_ensemble: whether the folder is that of an ensemble.
        progress: told about long work.
        say: tells the user something.

    Returns:
        What was written, and how near it comes.

    Raises:
        UsageError: if the path holds nothing to export.
        MachineError: if a library is missing, or the file cannot be written.
        RunError: if the module cannot be exported, or the program gives something else; nothing is written.
    """
    subject = ensemble_subject(path, plugins, progress, say) if is_ensemble else run_subject(path, plugins, progress)
    data, metadata, checked = _made(subject, out.suffix, batch, say)
    try:
        write_atomically(out, data)
    except OSError as error:
        raise MachineError(f"--out {out}: cannot be written: {error.strerror or error}") from error
    return {
        "out": str(out),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "inputs": metadata["inputs"],
        "outputs": metadata["outputs"],
        "samples": len(subject.samples),
        "origin": subject.origin,
        "checked": checked,
        "difference": max(checked.values()),
    }


def check_out(text: str) -> Path:
    """Refuse a file before the work is done.

    Raises:
        UsageError: if its name does not end in a known format, or names a folder.
        MachineError: if it cannot be written there, or what writes the format is not installed.
    """
    out = Path(text)
    if out.suffix not in SUFFIXES:
        raise UsageError(f"--out {text}: write a name that ends in .pt2 (torch.export) or .onnx (ONNX)")
    check_writable(text)
    programs.check_libraries(out.suffix)
    return out


def check_batch(text: str) -> int | None:
    """The number of samples of each call; ``None`` for any.

    Raises:
        UsageError: if it is neither a number nor ``dynamic``.
    """
    if text == "dynamic":
        return None
    if not (text.isdecimal() and text.isascii() and 1 <= int(text) <= 1 << 20):
        raise UsageError(f"--batch {text}: write dynamic, or a whole number of samples, at least 1")
    return int(text)


def show_exported(path: str, made: dict[str, Any], as_json: bool) -> None:
    """What was written, for a person or a program."""
    if as_json:
        emit_json({"run": path, **made})
        return
    lines = [f"{made['out']}  {made['bytes']:,} bytes"]
    shapes = {**made["inputs"], **made["outputs"]}
    lines += [f"{name}  {' x '.join(map(str, shape))}" for name, shape in shapes.items()]
    lines += [
        f"largest difference {apart:.2g} on {made['samples']} {made['origin']} samples, in {by}"
        for by, apart in made["checked"].items()
    ]
    emit("\n".join(lines))


def _made(
    subject: Subject, suffix: str, batch: int | None, say: Callable[[str], None]
) -> tuple[bytes, dict[str, Any], dict[str, float]]:
    """The file, what it says of itself, and the largest difference in each program that read it."""
    program = programs.trace(subject, batch)
    size = "batch" if batch is None else batch
    with torch.no_grad():
        shapes = {name: [size, *given.shape[1:]] for name, given in subject.module(subject.samples[:2]).items()}
    dtype = str(subject.samples.dtype).removeprefix("torch.")
    metadata: dict[str, Any] = {
        "format": FORMAT,
        "trainkit": trainkit.__version__,
        **subject.metadata,
        "inputs": {"inputs": [size, *subject.samples.shape[1:]]},
        "dtype": dtype,
        "outputs": shapes,
    }
    of_torch = f"torch {torch.__version__}"
    checked: dict[str, float] = {}

    def check(by: str, read: programs.Program) -> None:
        checked[by] = programs.compare(subject.module, read, subject.samples, batch, by)

    if suffix == ".pt2":
        data = programs.to_pt2(program, metadata)
        check(of_torch, programs.from_pt2(data))
        return data, metadata, checked
    data = programs.to_onnx(program, metadata, list(shapes), batch)
    try:
        found = programs.from_onnx(data)
    except Exception as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise RunError(f"onnxruntime cannot read the program: {why}; nothing was written") from error
    if found is None:
        say(f"warning: the file is not checked: onnxruntime is not installed; install it with: {programs.INSTALL}")
        check(of_torch, lambda inputs: program.module()(inputs))
    else:
        check(found[1], found[0])
    return data, metadata, checked
