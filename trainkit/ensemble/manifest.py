"""Values of an ensemble's manifest: each is looked at before it is believed, since it may be a stranger's.

Each function raises `Unfit`, saying what is of another form.
"""

from __future__ import annotations

import math
import re
from typing import Any

from trainkit.dataset import DataSpec
from trainkit.files import Unfit
from trainkit.forms import cut, is_names

MAX_NUMBERS = 2**31  # of one sample; models are built for as many


def digest_of(value: Any, what: str) -> str:
    """A SHA-256, in hexadecimal digits."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
        raise Unfit(f"the {what} must be 64 hexadecimal digits, and is {cut(value)}")
    return value


def spec_of(value: Any) -> DataSpec:
    """What is known of data, as `trainkit.ensemble.artefact.spec_as_json` writes it."""
    if not isinstance(value, dict):
        raise Unfit("the spec must be a table")
    shape, sizes = value.get("input_shape"), value.get("sizes")
    if (
        not isinstance(shape, list)
        or not 1 <= len(shape) <= 8
        or not all(type(size) is int and size > 0 for size in shape)
    ):
        raise Unfit(f"the input_shape is {cut(shape)}")
    if math.prod(shape) > MAX_NUMBERS:
        raise Unfit(f"the input_shape {cut(shape)} has more than {MAX_NUMBERS:,} numbers")
    outputs = count_of(value.get("outputs"), "number of outputs")
    if not 1 <= outputs <= MAX_NUMBERS:
        raise Unfit(f"there are {cut(outputs)} outputs")
    task, classes = value.get("task"), value.get("classes")
    if task not in ("classification", "binary", "regression"):
        raise Unfit(f"the task is {cut(task)}")
    if not is_names(classes):
        raise Unfit("the classes must be text")
    assert isinstance(classes, list)
    if not isinstance(sizes, dict):
        raise Unfit("the sizes must be a table")
    tokens = value.get("tokens_per_sample")
    columns = {
        name: numbers_of(value.get(name), name) for name in ("target_mean", "target_std", "input_mean", "input_std")
    }
    naive = numbers_of(value.get("naive_error", []), "naive_error")
    for name, count in (("target", outputs), ("input", shape[0])):
        mean, std = columns[f"{name}_mean"], columns[f"{name}_std"]
        if {len(mean), len(std)} - {0, 1, count} or 0.0 in std:
            raise Unfit(f"{name}_mean and {name}_std do not fit the data")
    return DataSpec(
        input_shape=tuple(shape),
        task=task,
        outputs=outputs,
        classes=tuple(classes),
        class_counts=tuple(count_of(one, "class count") for one in list_of(value.get("class_counts"), "class_counts")),
        sizes={text_of(name, "split"): count_of(size, "size of a split") for name, size in sizes.items()},
        fingerprint=text_of(value.get("fingerprint"), "fingerprint"),
        tokens_per_sample=None if tokens is None else count_of(tokens, "number of tokens"),
        targets=_names(value.get("targets", []), outputs),
        categories=_categories(value.get("categories", []), shape),
        masked=value.get("masked") is True,
        naive_error=naive,
        vocabulary=None,
        **columns,
    )


def _names(value: Any, outputs: int) -> tuple[str, ...]:
    if not is_names(value) or len(value) not in (0, outputs):
        raise Unfit(f"the targets are {cut(value)}, and there are {outputs} outputs")
    return tuple(value)


def _categories(value: Any, shape: list[int]) -> tuple[int, ...]:
    found = tuple(count_of(one, "number of categories") for one in list_of(value, "categories"))
    if len(found) not in (0, shape[0]) or sum(found) > MAX_NUMBERS:
        raise Unfit(f"the categories are {cut(value)}, and there are {shape[0]} features")
    return found


def list_of(value: Any, what: str) -> list[Any]:
    """A list."""
    if not isinstance(value, list):
        raise Unfit(f"{what} must be a list")
    return value


def numbers_of(value: Any, what: str) -> tuple[float, ...]:
    """Several numbers."""
    return tuple(number_of(one, what) for one in list_of(value, what))


def number_of(value: Any, what: str) -> float:
    """A finite number; 0 where there is none."""
    if value is None:
        return 0.0
    if type(value) not in (int, float) or not math.isfinite(value):
        raise Unfit(f"the {what} is {cut(value)}, not a finite number")
    return float(value)


def count_of(value: Any, what: str) -> int:
    """A whole number, at least 0."""
    if type(value) is not int or not 0 <= value < 2**63:
        raise Unfit(f"the {what} is {cut(value)}, not a whole number")
    return value


def text_of(value: Any, what: str) -> str:
    """A text."""
    if not isinstance(value, str):
        raise Unfit(f"the {what} is {cut(value)}, not text")
    return value
