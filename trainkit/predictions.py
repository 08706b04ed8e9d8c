"""What ``trainkit predict`` writes: one row a sample."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trainkit.console import emit, emit_json, write_file
from trainkit.errors import MachineError, UsageError

if TYPE_CHECKING:
    from torch import Tensor


def check_out(out: str | None) -> None:
    """Refuse a file name before the work is done.

    Raises:
        UsageError: if the name's ending is not that of a known format.
        MachineError: if it cannot be written.
    """
    if out is None:
        return
    if Path(out).suffix not in (".csv", ".npz"):
        raise UsageError(f"--out {out}: write a name that ends in .csv (one row a sample) or .npz (arrays)")
    check_writable(out)


def check_writable(out: str) -> None:
    """Refuse the file that ``--out`` names before the work is done.

    Raises:
        UsageError: if it is a folder.
        MachineError: if no such file can be written.
    """
    file = Path(out)
    if file.is_dir():
        raise UsageError(f"--out {out}: it is a folder; name a file in it")
    try:
        # Permissions alone do not tell, as of a disk that is mounted for reading.
        with tempfile.TemporaryFile(dir=file.parent):
            pass
        if file.exists() and not os.access(file, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise MachineError(f"--out {out}: cannot be written: {error.strerror or error}") from error


def write_predictions(arrays: Mapping[str, Tensor], run: str, split: str, out: str | None, as_json: bool) -> None:
    """Write predictions to a file, or to standard output as CSV or JSON.

    Args:
        arrays: ``index``, ``targets``, ``outputs`` and more, each ``(samples, ...)``.
        run: the run folder, as the user wrote it.
        split: the split that was predicted.
        out: file to write; standard output if not given.
        as_json: write one JSON object to standard output: the arrays themselves, or what file they are in.
    """
    if out is not None:
        if Path(out).suffix == ".npz":
            import numpy

            packed = io.BytesIO()
            numpy.savez(packed, allow_pickle=False, **{name: array.numpy() for name, array in arrays.items()})
            write_file(out, packed.getvalue())
        else:
            write_file(out, as_csv(arrays))
    count = len(arrays["index"])
    if as_json:
        found = {"out": out} if out is not None else {name: array.tolist() for name, array in arrays.items()}
        emit_json({"run": run, "split": split, "samples": count, **found})
    elif out is None:
        emit(as_csv(arrays))
    else:
        emit(out)


def as_csv(arrays: Mapping[str, Tensor]) -> str:
    """One row a sample; what has several numbers a sample takes a column for each: ``outputs.0``, ``outputs.1``."""
    header: list[str] = []
    columns: list[list[float]] = []
    for name, array in arrays.items():
        flat = array.reshape(len(array), -1)
        header += [name] if array.dim() == 1 else [f"{name}.{number}" for number in range(flat.shape[1])]
        columns += flat.T.tolist()
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue()
