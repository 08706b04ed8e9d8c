"""``trainkit import-weights``: weights of another program, which are a pickle, made safetensors in a process apart."""

from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from trainkit.console import aligned, emit, emit_json
from trainkit.errors import CheckpointError, MachineError, UsageError, printable
from trainkit.files import Unfit, create, kind_of
from trainkit.forms import tensors_in
from trainkit.verified import memory

SUFFIX = ".safetensors"
# What a process needs to start and find its libraries; everything else, such as a switch that turns weights_only off,
# stays behind.
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "TEMP", "TMP", "LANG", "LC_ALL")
_SET = {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
_CODE = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from trainkit.foreign import main; main()"
_SECONDS = 600
_LONGEST_ANSWER = 1 << 20


@dataclass(frozen=True)
class Imported:
    """What was made of a file.

    Args:
        out: the new file.
        key: the table of the old one that it holds; empty for the whole.
        tensors: type and shape by name.
        left_out: names of what was no tensor.
    """

    out: Path
    key: str
    tensors: dict[str, tuple[str, tuple[int, ...]]]
    left_out: list[str]


def import_weights(file: Path, out: Path, key: str = "") -> Imported:
    """Read a file that `torch.save` made, in a process of its own, and write its tensors as safetensors.

    Args:
        file: the ``.pt``, ``.pth`` or ``.bin`` file.
        out: the new file, or the folder for it.
        key: the table of weights in it, such as ``"state_dict"``; empty to look for the only one.

    Raises:
        UsageError: if a name is wrong.
        CheckpointError: if the file cannot be read as weights alone; nothing of it has run in this process.
        MachineError: if the new file cannot be written.
    """
    if out.is_dir():
        out = out / f"{file.stem}{SUFFIX}"
    if out.suffix != SUFFIX:
        raise UsageError(f"--out {out}: name a folder, or a file whose name ends in {SUFFIX}")
    if os.path.lexists(out):
        raise UsageError(f"--out {out}: it is there already; name another, or remove it")
    with _opened(file) as source:
        if source.read(9)[8:] == b"{":
            raise UsageError(f"{file}: it is a safetensors file already")
        source.seek(0)
        temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
        try:
            temporary.unlink(missing_ok=True)
            with os.fdopen(create(temporary, os.O_RDWR | os.O_EXCL), "r+b") as target:
                found, left_out = _read_apart(file, source, target, key)
                tensors = _look_at(file, target)
                os.fsync(target.fileno())
            os.replace(temporary, out)
        except OSError as error:
            raise MachineError(f"{out}: cannot be written: {error.strerror or error}") from error
        finally:
            temporary.unlink(missing_ok=True)
    return Imported(out, found, tensors, left_out)


def _opened(file: Path) -> IO[bytes]:
    try:
        if kind := kind_of(os.stat(file).st_mode):  # a link to a file is what a cache of downloads has
            raise UsageError(f"{file}: it is {kind}, not a file")
        if (length := os.stat(file).st_size) > memory():
            raise CheckpointError(f"{file}: it has {length:,} bytes, more than this machine has memory")
        return open(file, "rb")
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}") from None


def _read_apart(file: Path, source: IO[bytes], target: IO[bytes], key: str) -> tuple[str, list[str]]:
    """Let another process write the tensors; return where they were, and what was left out."""
    command = [sys.executable, "-I", "-c", _CODE, json.dumps(sys.path), key]
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | _SET
    with tempfile.TemporaryFile() as said:
        try:
            done = subprocess.run(
                command, stdin=source, stdout=target, stderr=said, env=environment, timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise CheckpointError(f"{file}: reading it took more than {_SECONDS} seconds") from None
        said.seek(0)
        lines = said.read(_LONGEST_ANSWER).decode("utf-8", "replace").strip().splitlines()
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise CheckpointError(f"{file}: the process that read it died of {name}; the file is damaged or means harm")
    try:
        answer = json.loads(lines[-1])
        if "error" in answer:
            raise CheckpointError(f"{file}: {answer['error']}")
        return str(answer["key"]), [str(name) for name in answer["left_out"]]
    except (IndexError, ValueError, KeyError, TypeError):
        last = printable(lines[-1][:300]) if lines else "nothing"
        raise CheckpointError(f"{file}: the process that read it ended with {done.returncode}, saying {last}") from None


def _look_at(file: Path, target: IO[bytes]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """What the new file holds, by its own words; the process that wrote it is not believed."""
    try:
        with mmap.mmap(target.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return tensors_in(data)
    except (Unfit, ValueError) as error:
        raise CheckpointError(f"{file}: what was read of it is no file of tensors: {error}") from None


def show_imported(file: Path, made: Imported, as_json: bool) -> None:
    """List the tensors of the new file."""
    rows = [(name, dtype, list(shape)) for name, (dtype, shape) in made.tensors.items()]
    if as_json:
        listed = [{"name": name, "dtype": dtype, "shape": shape} for name, dtype, shape in rows]
        names = {"file": str(file), "out": str(made.out), "key": made.key}
        emit_json({**names, "tensors": listed, "left_out": made.left_out})
        return
    emit("\n".join(aligned([(name, dtype, "x".join(map(str, shape)) or "scalar") for name, dtype, shape in rows])))
