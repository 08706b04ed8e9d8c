"""What bridges have in common: names that a library knows, sizes that it refuses."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from trainkit import DataError, MachineError

if TYPE_CHECKING:
    from trainkit import DataSpec


def image_shape(data_spec: DataSpec, model: str) -> tuple[int, int, int]:
    """``(channels, height, width)`` of the data's images.

    Raises:
        DataError: if the samples are no images.
    """
    if len(data_spec.input_shape) != 3 or data_spec.task == "tokens":
        cure = "a model of tokens, such as gpt" if data_spec.task == "tokens" else "model mlp"
        raise DataError(
            f"model {model} needs images (channels, height, width), the data has {data_spec.input_shape}\nuse {cure}"
        )
    channels, height, width = data_spec.input_shape
    return channels, height, width


def known_name(name: str, known: Sequence[str], library: str) -> str:
    """The name itself, which is one of those that are known.

    Raises:
        DataError: if it is not; the nearest are named.
    """
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, 3, 0.5)
    if (bare := name.partition(".")[0]) in known:
        near = [bare]
    cure = f"did you mean {', '.join(near)}?  " if near else ""
    raise DataError(f"{library} has no model named '{name}'\n{cure}it has {len(known)}")


@contextlib.contextmanager
def importing(library: str) -> Iterator[None]:
    """Turn what is raised while a library that is installed is imported into a message.

    Raises:
        MachineError: saying what it said.
    """
    try:
        yield
    except Exception as error:  # a library that was made for another torch raises anything
        raise MachineError(
            f"{library} is installed and cannot be imported: {_said(error)}\n"
            "install one that goes with the installed torch, and all that it needs"
        ) from error


@contextlib.contextmanager
def refusing(what: str, library: str) -> Iterator[None]:
    """Turn what a library refuses into a message.

    Raises:
        DataError: saying what it said.
        MachineError: if a part of it cannot be imported.
    """
    try:
        yield
    except ImportError as error:
        with importing(library):
            raise error
    except (TypeError, ValueError, RuntimeError, AssertionError, KeyError, AttributeError) as error:
        raise DataError(f"{what} cannot be built for this data: {_said(error)}") from error


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300] or 'no message'}"
