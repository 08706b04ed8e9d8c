"""Everything outside the recipe that results can depend on: recorded, and compared when a run is continued."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Mapping
from typing import Any

# Nothing depends on them: they are recorded for people.
_FREE = {"bases", "command", "platform", "seed"}
# They round sums in other places, which is asked for where they are changed, and said.
_FREE |= {"processes", "strategy"}
# What follows from a key of the recipe: where that was changed on purpose, the difference is the one asked for.
_FOLLOWS = {
    "run.device": ("device", "device_name", "cpu", "cuda", "cudnn", "cublas_workspace", "precision"),
    "run.precision": ("precision",),
}


def environment(
    seed: int,
    device: str,
    command: str,
    distributions: Mapping[str, str],
    precision: str = "float32",
    bases: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What ``environment.json`` holds.

    Args:
        seed: the recipe's.
        device: as torch writes it.
        command: what the user typed.
        distributions: versions of the distributions that the recipe uses.
        precision: the number format of forward and backward.
        bases: SHA-256 of the recipes that the recipe extends, by name.
    """
    import numpy
    import torch

    import trainkit

    cuda = device.startswith("cuda") and torch.cuda.is_available()  # where there is none, the run itself says it
    return {
        "trainkit": trainkit.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "plugins": dict(sorted(distributions.items())),
        "bases": dict(bases or {}),
        "device": device,
        "device_name": torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,  # type: ignore[no-untyped-call]
        "threads": torch.get_num_threads(),
        "precision": precision,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG") if cuda else None,
        "seed": seed,
        "command": command or " ".join(sys.argv),
    }


def drift(before: Mapping[str, Any], now: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs and may change numbers, as ``{key: (was, is)}``.

    What only one of the two has is left out: an older version did not record it, or the recipe uses other plugins. So
    is the number of threads: it is the checkpoint's unless the recipe says one.

    Args:
        before: ``environment.json`` of the run's last process.
        now: the environment as it is.
        changed: keys of the recipe that were changed.
    """
    meant = {name for key in changed for name in _FOLLOWS.get(key, ())} | _FREE | {"threads"}
    had, has = dict(_flat(before)), dict(_flat(now))
    return {
        key: (had[key], value)
        for key, value in has.items()
        if key in had and had[key] != value and key.partition(".")[0] not in meant
    }


def _flat(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}.{name}", item) for name, item in value.items())
        else:
            yield key, value
