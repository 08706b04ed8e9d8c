"""Reading a checkpoint of anybody's: every length, name, type and checksum is looked at before a byte is believed.

Checksums find accidents, not attackers, who can make their own. So the form is checked too: what lies in the folder,
how long each file may be, where each tensor lies in its file, and of what type each value of the state is.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from trainkit.errors import CheckpointError, TrainkitError
from trainkit.files import Unfit, kind_of, read_regular

TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "MANIFEST"
MAX_MANIFEST = 64 * 1024
MAX_STATE = 256 * 1024**2
MAX_HEADER = 32 * 1024**2
MAX_THREADS = 1024
MAX_DEPTH = 64
MAX_EMPTY = 2**31  # elements that the other dimensions of an empty tensor may come to
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_Method = TypeVar("_Method", bound=Callable[..., Any])
_SYSTEM = (".nfs", ".DS_Store")  # what file systems and desktops leave in any folder


def read_checkpoint(folder: Path) -> tuple[bytes, dict[str, Any]]:
    """The bytes of a checkpoint's tensors, in a file that `tensors_in` has found right, and its state.

    The bytes that were verified are those that are returned: no file is opened twice.

    Raises:
        CheckpointError: naming the file and what is wrong with it.
    """
    file = folder
    try:
        if kind := kind_of(os.lstat(folder).st_mode):
            if kind != "a folder":
                raise Unfit(f"it is {kind}, not a folder")
        else:
            raise Unfit("it is a file, not a folder")
        names = {name for name in os.listdir(folder) if not name.startswith(_SYSTEM)}
        if extra := sorted(names - {TENSORS, STATE, MANIFEST}):
            file = folder / extra[0]
            raise Unfit("a checkpoint has no such file")
        file = folder / MANIFEST
        known = _manifest(read_regular(file, MAX_MANIFEST))
        contents = {}
        for name, most in ((STATE, MAX_STATE), (TENSORS, memory())):
            file = folder / name
            length, checksum = known[name]
            if length > most:
                raise Unfit(f"the manifest gives it {length:,} bytes, and it may have {most:,} here")
            data = read_regular(file, length)
            if len(data) != length:
                raise Unfit(f"the file is damaged (it has {len(data):,} bytes, the manifest says {length:,})")
            if hashlib.sha256(data).hexdigest() != checksum:
                raise Unfit("the file is damaged (its SHA-256 is not the manifest's)")
            contents[name] = data
        file = folder / TENSORS
        names = set(tensors_in(contents[TENSORS]))
        file = folder / STATE
        state = _object(contents[STATE])
        _check_state(state, names)
        return contents[TENSORS], state
    except FileNotFoundError:
        raise CheckpointError(f"{file}: not a whole checkpoint: there is no such file") from None
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise CheckpointError(f"{file}: there is not enough memory to read it") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: {error}") from error


def memory() -> int:
    """Bytes of memory that this machine has: a file that is longer cannot be loaded, whatever its manifest says."""
    try:
        return int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return 2**40


def _manifest(data: bytes) -> dict[str, tuple[int, str]]:
    """Length and SHA-256 of each file, of a manifest whose own checksum is right."""
    lines = data.split(b"\n")
    if len(lines) != 3 or lines[2] or hashlib.sha256(lines[0]).hexdigest().encode() != lines[1]:
        raise Unfit("the manifest is damaged")
    found = _object(lines[0])
    if type(found.get("format")) is not int or found["format"] < 1:
        raise Unfit("the manifest is of another form: it has no format")
    if found["format"] > 1:
        raise Unfit(f"it has format {found['format']}, which this version does not read; use a newer one")
    known = {}
    files = found.get("files")
    for name in (TENSORS, STATE):
        entry = files.get(name) if isinstance(files, dict) else None
        length, checksum = (entry.get("bytes"), entry.get("sha256")) if isinstance(entry, dict) else (None, None)
        if type(length) is not int or length < 0 or not isinstance(checksum, str):
            raise Unfit(f"the manifest is of another form: it lacks bytes and sha256 of {name}")
        known[name] = length, checksum
    return known


def tensors_in(data: bytes | mmap.mmap) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of each tensor of a file in the safetensors format, if the file is right to its last byte.

    Raises:
        Unfit: if the header is too long or of another form, if a name comes twice, if a type is unknown, or if the
            tensors do not lie one behind the other from the header to the end of the file.

    Source: the format's description, github.com/huggingface/safetensors#format.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(len(data) - 8, MAX_HEADER):
        raise Unfit(f"the header claims {length:,} bytes, and may have {max(0, min(len(data) - 8, MAX_HEADER)):,}")
    spans: list[tuple[int, int, str]] = []
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, entry in _object(bytes(data[8 : 8 + length])).items():
        if name == "__metadata__":
            continue
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise Unfit(f"tensor '{name}' must have dtype, shape and data_offsets alone")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in BYTES:
            raise Unfit(f"tensor '{name}' has the type {_cut(dtype)}; checkpoints have {', '.join(BYTES)}")
        if not _counts(shape) or not _counts(offsets) or len(offsets) != 2 or len(shape) > 64:
            raise Unfit(f"tensor '{name}' has the shape {_cut(shape)} and the offsets {_cut(offsets)}")
        begin, end = offsets
        size = math.prod(shape) * BYTES[dtype]
        if end - begin != size:
            raise Unfit(
                f"tensor '{name}' of {dtype} {_cut(shape)} needs {_cut(size)} bytes and has {_cut(end - begin)}"
            )
        if not size and math.prod(filter(None, shape)) > MAX_EMPTY:
            raise Unfit(f"tensor '{name}' is empty and has the shape {_cut(shape)}")
        spans.append((begin, end, name))
        found[name] = dtype, tuple(shape)
    at = 0
    for begin, end, name in sorted(spans):
        if begin != at:
            raise Unfit(f"tensor '{name}' {'overlaps another' if begin < at else 'lies behind a hole'}")
        at = end
    if at != len(data) - 8 - length:
        raise Unfit(f"the tensors end {len(data) - 8 - length - at:,} bytes before the file")
    return found


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _cut(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _object(data: bytes) -> dict[str, Any]:
    """Parse a JSON object in which no key comes twice and every number is one.

    Raises:
        Unfit: if it is something else.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            raise Unfit(f"'{_cut(next(name for name in names if names.count(name) > 1))}' comes twice")
        return found

    def no_number(text: str) -> Any:
        raise Unfit(f"{text} is no number")

    try:
        parsed = json.loads(data, object_pairs_hook=unique, parse_constant=no_number)
    except Unfit:
        raise
    except RecursionError:
        raise Unfit("it is nested too deep") from None
    except ValueError as error:
        raise Unfit(f"it is not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise Unfit("it is not a JSON object")
    return parsed


# ---------------------------------------------------------------- the state


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


# Keys that some version of trainkit has written, where they are there; what they must be.
_FORMS: Mapping[str, tuple[Any, str]] = {
    **dict.fromkeys(
        ("step", "epoch", "batch_in_epoch", "skipped", "total_updates", "schedule_updates", "batches_per_epoch"),
        (_is_count, "a whole number"),
    ),
    **dict.fromkeys(("samples_in_epoch", "metrics_bytes"), (_is_count, "a whole number")),
    "threads": (lambda value: _is_count(value) and 1 <= value <= MAX_THREADS, f"a number from 1 to {MAX_THREADS}"),
    "device": (lambda value: isinstance(value, str), "text"),
    "on_cpu": (_is_names, "a list of names"),
    "optimizer": (lambda value: isinstance(value, dict), "a table"),
    "plugins": (lambda value: isinstance(value, dict), "a table"),
    "random": (lambda value: isinstance(value, dict), "a table"),
    "bases": (_is_tables, "a list of tables"),
    "groups": (
        lambda value: _is_tables(value) and all(_is_names(group.get("names")) for group in value),
        "a list of tables with names",
    ),
    "events": (
        lambda value: isinstance(value, list) and all(isinstance(e, list) and e and _is_count(e[0]) for e in value),
        "a list of events",
    ),
}


def _check_state(state: Mapping[str, Any], names: set[str]) -> None:
    for key, (fits, form) in _FORMS.items():
        if key in state and not fits(state[key]):
            raise Unfit(f"'{key}' must be {form}, and is {_cut(json.dumps(state[key]))}")
    _check_marks(state, names, 0)


def _check_marks(value: Any, names: set[str], depth: int) -> None:
    """Check what stands for a tensor or an exact float: `trainkit.checkpoint.join_state` then finds them all."""
    if depth > MAX_DEPTH:
        raise Unfit(f"it is nested more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        if "__tensor__" in value and (not isinstance(value["__tensor__"], str) or value["__tensor__"] not in names):
            raise Unfit(f"it names the tensor {_cut(json.dumps(value['__tensor__']))}, which {TENSORS} does not have")
        if "__float__" in value:
            text = value["__float__"]
            if not isinstance(text, str) or len(text) > 40:
                raise Unfit(f"{_cut(json.dumps(text))} is no number in hexadecimal")
            float.fromhex(text)
        for item in value.values():
            _check_marks(item, names, depth + 1)
    elif isinstance(value, list):
        for item in value:
            if type(item) is dict or type(item) is list:
                _check_marks(item, names, depth + 1)


@contextlib.contextmanager
def fitting(folder: Path) -> Iterator[None]:
    """Whatever goes wrong while a verified state is put to use means that it does not fit.

    Raises:
        CheckpointError: naming the checkpoint.
    """
    try:
        yield
    except CheckpointError as error:
        if str(folder) in str(error):
            raise
        raise CheckpointError(f"{folder}: {error}") from error
    except TrainkitError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        if "OutOfMemory" in type(error).__name__:
            raise
        said = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{folder / STATE}: the state does not fit the run: {_cut(said)}") from error


def must_fit(method: _Method) -> _Method:
    """Let a method of something that has a ``folder`` be guarded by `fitting`."""

    @functools.wraps(method)
    def guarded(self: Any, *given: Any, **named: Any) -> Any:
        with fitting(self.folder):
            return method(self, *given, **named)

    return guarded  # type: ignore[return-value]
