"""What ``report.json`` holds of an ensemble that was never made."""

from __future__ import annotations

import copy
from typing import Any


def figure(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def model(shift: float = 0.0) -> dict[str, Any]:
    raw = {"accuracy": 0.9 - shift, "nll": 0.3 + shift, "brier": 0.1, "ece": 0.05 + shift}
    after = raw | {"nll": 0.25 + shift, "ece": 0.02 + shift}
    kinds = {
        kind: {name: figure(value) for name, value in own.items()}
        for kind, own in (("raw", raw), ("calibrated", after))
    }
    return {"test": kinds, "validation": copy.deepcopy(kinds)}


def bins(*counts: int) -> list[dict[str, float]]:
    return [
        {"low": n / 15, "high": (n + 1) / 15, "samples": c, "confidence": (n + 0.5) / 15, "accuracy": n / 15}
        for n, c in enumerate(counts)
        if c
    ]


def report(members: int = 3, longer: bool = True) -> dict[str, Any]:
    """What ``report.json`` holds of an ensemble of models for classes."""
    cost = {"updates": 80, "epochs": 4.0, "seconds": 0.4}
    once = {"parameters": 1810, "macs": None, "latency_ms": {"1": 0.06, "64": 0.002}, "device": "cpu", "threads": 1}
    matrix = [[0.0 if row == column else 0.1 * (row + 1) for column in range(members)] for row in range(members)]
    both = {"raw": bins(0, 3, 0, 9, 20), "calibrated": bins(0, 0, 5, 30)}
    points = [
        {
            "members": size,
            "sets": 1,
            "raw": {"accuracy": 0.8 + size / 100, "nll": 1 / size, "ece": 0.1 / size},
            "calibrated": {"accuracy": 0.8, "nll": 0.9 / size, "ece": 0.05 / size},
        }
        for size in range(1, members + 1)
    ]
    made = {
        "status": "finished",
        "ensembler": "greedy",
        "task": "classification",
        "chosen_by": "nll",
        "kind": "calibrated",
        "temperature": 1.25,
        "bins": 15,
        "bootstrap": 1000,
        "level": 0.95,
        "validation_is": "held out",
        "samples": {"validation": 50, "test": 100},
        "members": [
            {"name": f"runs/{n}", "kept": n > 0, "temperature": 1.5, "cost": cost, **model(n / 100)}
            for n in range(members)
        ],
        "mean_member": model(0.05),
        "best_member": {"name": "runs/1", "number": min(1, members - 1), **model(0.02)},
        "ensemble": {"temperature": 1.25, **model()},
        "curve": {"split": "test", "sets": "drawn", "points": points},
        "reliability": {"split": "test", "ensemble": both, "best_member": both},
        "diversity": {
            "split": "test",
            "members": [f"runs/{number}" for number in range(members)],
            **{name: {"matrix": matrix, "mean": 0.15} for name in ("disagreement", "error_correlation", "kl")},
        },
        "classes": [{"class": "cat", "samples": 40, "ensemble": 0.9, "best_member": 0.8}],
        "cost": {
            "member": once,
            "ensemble": once | {"parameters": 3620, "latency_ms": {"1": 0.1, "64": 0.005}},
            "passes": 2,
            "training": {"member": cost, "all": cost | {"updates": 240, "seconds": 1.2}},
        },
        "words": ["the ensemble is better than the best member"],
        "notes": ["member 7 was left out"],
    }
    if longer:
        made["longer"] = model(-0.05)
        made["cost"]["training"]["longer"] = cost | {"updates": 240}  # type: ignore[index]
    return copy.deepcopy(made)
