"""A compiled program as a library on the disk: what a process that compiles leaves, and another one calls.

The library is what inductor writes with its C++ wrapper. Its arguments are tensors by position; a label says for each
which one it is, so that a process that never traced anything can call it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ENTRY = "inductor_entry_cpp"
# How inductor's libraries find out where a tensor's data lies in Python's object.
_POINTER = "_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR"
RESULT = "result.json"


@dataclass(frozen=True)
class Artefact:
    """What a process that compiled tells.

    Args:
        library: path of the library.
        digest: SHA-256 of its bytes.
        module: the name it must be loaded under.
        arguments: label, shape, stride and dtype of each argument.
        results: for each result its place among what the library returns, or a number itself.
        fingerprint: what the model's Python values were.
        seconds: CPU seconds that it took.
    """

    library: str
    digest: str
    module: str
    arguments: list[tuple[str, list[int], list[int], str]]
    results: list[int | float]
    fingerprint: str
    seconds: float

    def write(self, folder: Path) -> None:
        """Leave it in a folder, whole or not at all."""
        answer(folder, asdict(self))


def answer(folder: Path, content: Mapping[str, Any]) -> None:
    """Leave a result in a folder, whole or not at all."""
    temporary = folder / f".{RESULT}"
    temporary.write_text(json.dumps(content), encoding="utf-8")
    os.replace(temporary, folder / RESULT)


def shape_of(tensor: Tensor) -> tuple[list[int], list[int], str]:
    """What a library relies on."""
    return list(tensor.shape), list(tensor.stride()), str(tensor.dtype)


def labels(model: nn.Module, loss: object, optimizer: Any) -> dict[str, Tensor]:
    """Every tensor that an update may read or change, beside its batches, by a name that every process gives it."""
    named: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        named[f"parameter {name}"] = parameter
        for slot, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                named[f"state {slot} of {name}"] = value
    for name, buffer in model.named_buffers():
        named[f"buffer {name}"] = buffer
    parts = dict(loss.named_buffers()) if isinstance(loss, nn.Module) else getattr(loss, "__dict__", {})
    named |= {f"loss {name}": value for name, value in parts.items() if isinstance(value, Tensor)}
    return named


def fingerprint(model: nn.Module, *others: object) -> str:
    """The Python values that a trace burns in: numbers, words and lists of them, and how many hooks are set.

    Args:
        model: the model, as it trains; all its modules are looked at.
        others: what takes part beside it, such as the loss.
    """
    parts: list[tuple[str, object]] = list(model.named_modules())
    for other in others:
        parts += other.named_modules() if isinstance(other, nn.Module) else [("", other)]
    words = []
    for name, part in parts:
        words.append(f"{name} {type(part).__qualname__}")
        for key, value in sorted(getattr(part, "__dict__", {}).items()):
            if isinstance(value, dict) and not value:  # most of what a module holds
                continue
            if _plain(value):
                words.append(f"{key}={value!r}")
            elif isinstance(value, dict):  # hooks, for one
                words.append(f"{key} of {len(value)}")
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            hooks = parameter._backward_hooks, getattr(parameter, "_post_accumulate_grad_hooks", None)
            words.append(f"{name} {[len(kind or ()) for kind in hooks]}")
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def _plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str | int) and _plain(part) for key, part in value.items())
    return value is None or isinstance(value, bool | int | float | str)


class Library:
    """A loaded library, called with tensors.

    Args:
        path: where it lies.
        module: the name it was built for.

    Raises:
        ImportError: if it cannot be loaded.
        AttributeError: if this torch lacks what libraries of its kind need.
    """

    def __init__(self, path: str, module: str) -> None:
        native: Any = torch._C
        aoti = native._aoti
        self._handles: Callable[[Sequence[Tensor]], Any] = aoti.unsafe_alloc_void_ptrs_from_tensors
        self._tensors: Callable[[Any], list[Tensor]] = aoti.alloc_tensors_by_stealing_from_void_ptrs
        os.environ[_POINTER] = str(native._dynamo.guards._torchinductor_pyobject_tensor_data_ptr)
        spec = importlib.util.spec_from_file_location(module, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} is no library")
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        self._entry: Callable[[Any], Any] = getattr(loaded, ENTRY)

    def __call__(self, arguments: Sequence[Tensor]) -> list[Tensor]:
        """Call it; the tensors it changes are changed in place."""
        with torch.no_grad():  # it calls torch's operations too, with parameters
            return self._tensors(self._entry(self._handles(arguments)))


def digest_of(path: str | Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
