"""What the parts of a run hold beside what they save, as text: two runs that are alike hold the same."""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from trainkit.checkpoint import raw_bytes
from trainkit.hooking import hook_names
from trainkit.run import Run
from trainkit.stateful import hooked

_DEEPEST = 4  # objects inside objects that are looked into
_MOST = 500  # items of a list or table
_NOT_HELD = ("__", "_parameters", "_buffers", "_modules", "_optimizer_")
_LIBRARIES = ("torch", "numpy", "pluggy", "builtins", "trainkit")


def held_by(run: Run) -> Iterator[tuple[str, str]]:
    """Everything that parts of a run hold in attributes, as text: ``callback.0.counter: count``."""
    parts = {
        label: part
        for label, part in hooked(run.hook, tuple(hook_names()))
        if not label.startswith(("listener.", "trainkit"))
    }
    parts |= {"loss": run.loss, "optimizer": run.optimizer}
    known = {tensor.data_ptr() for tensor in run.model.state_dict().values()}
    for label, part in parts.items():
        for name, text in _inside(part, "", known, {}, 0):
            yield f"{label}: {name}", text
    for place, module in run.model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, bool | int | float | str) and name not in ("training", "call_super_init"):
                yield f"model: {place}.{name}".replace(": .", ": "), repr(value)
        for name in module._non_persistent_buffers_set:
            if (buffer := module._buffers.get(name)) is not None:
                yield f"model: {place}.{name}".replace(": .", ": "), _digest(buffer)


def _inside(part: Any, name: str, known: set[int], seen: dict[int, Any], depth: int) -> Iterator[tuple[str, str]]:
    """What one thing holds; what was looked into already is in ``seen``, since things may hold each other."""
    if part is None or isinstance(part, bool | int | float | str):
        yield name, repr(part)
    elif isinstance(part, Tensor):
        if part.layout == torch.strided and part.numel() and part.data_ptr() not in known:
            yield name, _digest(part)
    elif isinstance(part, numpy.ndarray) and not part.dtype.hasobject:
        yield name, hashlib.sha256(part.tobytes()).hexdigest()[:16]
    elif isinstance(part, torch.Generator):
        yield name, _digest(part.get_state())
    elif isinstance(part, random.Random):
        yield name, hashlib.sha256(repr(part.getstate()).encode()).hexdigest()[:16]
    elif id(part) in seen:
        return
    elif isinstance(part, list | tuple | deque | set | frozenset | numpy.ndarray):
        seen[id(part)] = part
        items = sorted(part, key=repr) if isinstance(part, set | frozenset) else list(part)
        yield f"{name} (length)", str(len(items))
        for number, item in enumerate(items[:_MOST]):
            yield from _inside(item, f"{name}[{number}]", known, seen, depth + 1)
    elif isinstance(part, Mapping):
        seen[id(part)] = part
        plain = [(key, value) for key, value in part.items() if isinstance(key, str | int | float)]
        for key, value in plain[:_MOST]:
            yield from _inside(value, f"{name}[{key!r}]", known, seen, depth + 1)
    elif depth == 0 or (depth < _DEEPEST and not callable(part) and not isinstance(part, type | Run | nn.Module)):
        seen[id(part)] = part
        yield from _attributes(part, name, known, seen, depth)


def _attributes(part: Any, name: str, known: set[int], seen: dict[int, Any], depth: int) -> Iterator[tuple[str, str]]:
    """The attributes of an object of a plugin's; of a library's own kinds, those that a plugin's class added."""
    own = type(part).__module__.partition(".")[0] not in _LIBRARIES
    if not own and depth:
        return
    for attribute, value in list(getattr(part, "__dict__", {}).items()):
        if attribute.startswith(_NOT_HELD) or isinstance(value, ModuleType):
            continue
        if attribute in ("state", "param_groups", "defaults") and hasattr(part, "param_groups"):
            continue  # an optimizer's, which checkpoints hold
        yield from _inside(value, f"{name}.{attribute}".lstrip("."), known, seen, depth + 1)


def _digest(tensor: Tensor) -> str:
    if tensor.numel() == 1:
        return repr(tensor.item())
    return f"{list(tensor.shape)} {hashlib.sha256(raw_bytes(tensor)).hexdigest()[:16]}"
