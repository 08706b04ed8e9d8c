"""What a checkpoint may hold: where each tensor lies in its file, and of what type each value of the state is.

Nothing is opened here: `trainkit.verified` reads the files, and has their bytes looked at.
"""

from __future__ import annotations

import contextlib
import json
import math
import mmap
from collections.abc import Mapping
from typing import Any

from trainkit.files import Unfit

TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "MANIFEST"
MAX_HEADER = 32 * 1024**2
MAX_THREADS = 1024
MAX_DEPTH = 64
MAX_EMPTY = 2**31  # elements that the other dimensions of an empty tensor may come to
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


def tensors_in(data: bytes | memoryview | mmap.mmap) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of each tensor of a file in the safetensors format; see `places_in`."""
    return {name: (dtype, shape) for name, (dtype, shape, _) in places_in(data).items()}


def places_in(data: bytes | bytearray | memoryview | mmap.mmap) -> dict[str, tuple[str, tuple[int, ...], int]]:
    """Type, shape and first byte of each tensor of a file in the safetensors format, if it is right to its last byte.

    Raises:
        Unfit: if the header is too long or of another form, if a name comes twice, if a type is unknown, or if the
            tensors do not lie one behind the other from the header to the end of the file.

    Source: the format's description, github.com/huggingface/safetensors#format.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(len(data) - 8, MAX_HEADER):
        raise Unfit(f"the header claims {length:,} bytes, and may have {max(0, min(len(data) - 8, MAX_HEADER)):,}")
    spans: list[tuple[int, int, str]] = []
    found: dict[str, tuple[str, tuple[int, ...], int]] = {}
    for name, entry in object_in(bytes(data[8 : 8 + length])).items():
        if name == "__metadata__":
            continue
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise Unfit(f"tensor '{name}' must have dtype, shape and data_offsets alone")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in BYTES:
            raise Unfit(f"tensor '{name}' has the type {cut(dtype)}; checkpoints have {', '.join(BYTES)}")
        if not _counts(shape) or not _counts(offsets) or len(offsets) != 2 or len(shape) > 64:
            raise Unfit(f"tensor '{name}' has the shape {cut(shape)} and the offsets {cut(offsets)}")
        begin, end = offsets
        size = math.prod(shape) * BYTES[dtype]
        if end - begin != size:
            raise Unfit(f"tensor '{name}' of {dtype} {cut(shape)} needs {cut(size)} bytes and has {cut(end - begin)}")
        if not size and math.prod(filter(None, shape)) > MAX_EMPTY:
            raise Unfit(f"tensor '{name}' is empty and has the shape {cut(shape)}")
        spans.append((begin, end, name))
        found[name] = dtype, tuple(shape), 8 + length + begin
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


def cut(value: Any) -> str:
    """A value as a message shows it, which a stranger's may not fill."""
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def object_in(data: bytes) -> dict[str, Any]:
    """Parse a JSON object in which no key comes twice and every number is one.

    Raises:
        Unfit: if it is something else.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            seen: set[str] = set()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise Unfit(f"'{cut(twice)}' comes twice")
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


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def is_names(value: Any) -> bool:
    """Whether a value is a list of texts."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _is_best(value: Any) -> bool:
    if not isinstance(value, dict) or not _is_count(value.get("step")) or not isinstance(value.get("metric"), str):
        return False
    figure = value.get("value")
    return type(figure) in (int, float) or (isinstance(figure, dict) and set(figure) == {"__float__"})


def _is_number(value: Any) -> bool:
    """A finite number, as it is or in hexadecimal."""
    if isinstance(value, dict):
        text = value.get("__float__")
        with contextlib.suppress(ValueError, OverflowError, TypeError):
            return set(value) == {"__float__"} and math.isfinite(float.fromhex(text))  # type: ignore[arg-type]
        return False
    return type(value) in (int, float) and math.isfinite(value)


def _is_figures(value: Any) -> bool:
    """A table of numbers by name; those that were not finite are marks too."""
    return isinstance(value, dict) and all(
        type(figure) in (int, float) or (isinstance(figure, dict) and set(figure) == {"__float__"})
        for figure in value.values()
    )


# Keys that some version of trainkit has written, where they are there; what they must be.
_FORMS: Mapping[str, tuple[Any, str]] = {
    **dict.fromkeys(
        ("step", "epoch", "batch_in_epoch", "skipped", "total_updates", "schedule_updates", "batches_per_epoch"),
        (_is_count, "a whole number"),
    ),
    **dict.fromkeys(("samples_in_epoch", "metrics_bytes"), (_is_count, "a whole number")),
    "threads": (lambda value: _is_count(value) and 1 <= value <= MAX_THREADS, f"a number from 1 to {MAX_THREADS}"),
    "processes": (lambda value: _is_count(value) and value >= 1, "a whole number, at least 1"),
    "device": (lambda value: isinstance(value, str), "text"),
    "seconds": (_is_number, "a finite number"),
    "newest": (_is_figures, "a table of figures"),
    "cut": (lambda value: value is None or _is_figures(value), "a table of figures"),
    "tally": (lambda value: value is None or isinstance(value, dict), "a table"),
    "unsaved": (is_names, "a list of names"),
    "on_cpu": (is_names, "a list of names"),
    "optimizer": (
        lambda value: isinstance(value, dict) and all(isinstance(entry, dict) and entry for entry in value.values()),
        "a table of tables",
    ),
    "plugins": (lambda value: isinstance(value, dict), "a table"),
    "random": (lambda value: isinstance(value, dict), "a table"),
    "bases": (_is_tables, "a list of tables"),
    "strides": (
        lambda value: isinstance(value, dict) and all(map(_counts, value.values())),
        "a table of lists of whole numbers",
    ),
    "groups": (
        lambda value: _is_tables(value) and all(is_names(group.get("names")) for group in value),
        "a list of tables with names",
    ),
    "best": (
        lambda value: value is None or _is_best(value),
        "a table of step, metric and value",
    ),
    "events": (
        lambda value: isinstance(value, list) and all(isinstance(e, list) and e and _is_count(e[0]) for e in value),
        "a list of events",
    ),
}


def check_state(state: Mapping[str, Any], names: set[str]) -> None:
    """Check the state of a checkpoint that has tensors of these names.

    Raises:
        ValueError: saying which value is of another form, or which mark stands for nothing; mostly `Unfit`.
    """
    for key, (fits, form) in _FORMS.items():
        if key in state and not fits(state[key]):
            raise Unfit(f"'{key}' must be {form}, and is {cut(json.dumps(state[key]))}")
    _check_marks(state, names, 0)


def _check_marks(value: Any, names: set[str], depth: int) -> None:
    """Check what stands for a tensor or an exact float: `trainkit.checkpoint.join_state` then finds them all."""
    if depth > MAX_DEPTH:
        raise Unfit(f"it is nested more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        if "__tensor__" in value and (not isinstance(value["__tensor__"], str) or value["__tensor__"] not in names):
            raise Unfit(f"it names the tensor {cut(json.dumps(value['__tensor__']))}, which {TENSORS} does not have")
        if "__float__" in value:
            text = value["__float__"]
            if not isinstance(text, str) or len(text) > 40:
                raise Unfit(f"{cut(json.dumps(text))} is no number in hexadecimal")
            float.fromhex(text)
        for item in value.values():
            _check_marks(item, names, depth + 1)
    elif isinstance(value, list):
        for item in value:
            if type(item) is dict or type(item) is list:
                _check_marks(item, names, depth + 1)
