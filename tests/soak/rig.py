"""What the soak's faults share: a small recipe with everything that resuming has to keep, and how two runs compare."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import tomli_w
import torch

from trainkit import checkpoint

# 116 samples of training, 8 updates an epoch of 2 batches of 8 with a short one; 24 updates.
RECIPE: dict[str, Any] = {
    "recipe": 1,
    "seed": 5,
    "logger": [],
    "run": {
        "duration": "3ep",
        "device": "cpu",
        "threads": 1,
        "accumulate": 2,
        "log_every": "3ba",
        "evaluate_every": "4ba",
        "save_every": "5ba",
        "save_pause": 0,
    },
    "data": {
        "use": "synthetic",
        "samples": 192,
        "features": [6],
        "batch_size": 8,
        "augment": [{"use": "mixup"}],
    },
    "model": {"use": "mlp", "widths": [8], "dropout": 0.3, "norm": "batch"},
    "loss": {"use": "cross_entropy"},
    "metric": [{"use": "accuracy"}],
    "optimizer": {"use": "adamw", "lr": 0.01},
    "schedule": {"use": "cosine", "warmup": "2ba", "react": [{"use": "plateau", "monitor": "val.loss", "patience": 0}]},
    "callback": [{"use": "ema"}],
}


def write(path: Path, **tables: Any) -> Path:
    """Write the recipe with other tables; ``run`` and ``data`` are merged key by key."""
    filled = RECIPE | tables
    for name in ("run", "data", "model"):
        filled[name] = RECIPE[name] | tables.get(name, {})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tomli_w.dumps(filled), encoding="utf-8")
    return path


def command(*words: str | Path) -> list[str]:
    """The program with these words."""
    return [sys.executable, "-m", "trainkit", *map(str, words)]


def start(*words: str | Path, folder: Path) -> subprocess.Popen[str]:
    """Start the program in a process group of its own."""
    return subprocess.Popen(
        command(*words),
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def report_of(folder: Path) -> dict[str, Any]:
    """The run's ``report.json``."""
    report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return report


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """``metrics.jsonl`` without its times."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "time"} for line in lines]


def differences(straight: Path, broken: Path) -> list[str]:
    """What of a finished run is not that of the uninterrupted one."""
    found = []
    one, other = report_of(straight), report_of(broken)
    found += [
        f"{key}: {other[key]} and not {one[key]}"
        for key in ("status", "steps", "metrics", "best", "weights_sha256")
        if one[key] != other[key]
    ]
    if lines_of(straight) != lines_of(broken):
        found.append("metrics.jsonl differs")
    states = [checkpoint.load_newest(folder / "checkpoints") for folder in (straight, broken)]
    (_, tensors, _), (_, tensors_too, _) = states
    if tensors.keys() != tensors_too.keys():
        found.append(f"tensors differ: {sorted(tensors.keys() ^ tensors_too.keys())[:3]}")
    else:
        found += [f"{name} differs" for name, tensor in tensors.items() if not _same(tensor, tensors_too[name])][:3]
    return found


def not_finite_on_disk(folder: Path) -> list[str]:
    """Tensors of the run's checkpoints that hold NaN or infinity."""
    return [
        f"{path.name}: {name}"
        for path in checkpoint.newest_first(folder / "checkpoints")
        for name, tensor in checkpoint.load(path)[0].items()
        if tensor.is_floating_point() and not bool(tensor.isfinite().all())
    ]


def whole_checkpoints(folder: Path) -> list[str]:
    """What is wrong with a run's checkpoints: none, or one that does not verify."""
    found = []
    for path in checkpoint.newest_first(folder / "checkpoints"):
        try:
            checkpoint.load(path)
        except Exception as error:
            found.append(f"{path.name}: {error}")
    return found


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and checkpoint.raw_bytes(one) == checkpoint.raw_bytes(other)
