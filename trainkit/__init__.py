"""trainkit: one TOML recipe names everything a training needs; plugins supply it; a small core runs it.

The names listed here are the public ones. What needs torch is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from trainkit.component import Component
from trainkit.errors import (
    CheckpointError,
    DataError,
    MachineError,
    Place,
    PluginError,
    Problem,
    RecipeError,
    RunError,
    TrainkitError,
)
from trainkit.hookspecs import hookimpl
from trainkit.run import Batch, Dataset, DataSpec, Feed, Gatherable, Metrics, Report, Run, Split, StepResult
from trainkit.settings import (
    Between,
    Duration,
    Fraction,
    Nested,
    NonNegative,
    NonNegativeInt,
    Period,
    Positive,
    PositiveInt,
)

if TYPE_CHECKING:
    from trainkit.elementwise import ElementwiseOptimizer as ElementwiseOptimizer
    from trainkit.elementwise import Number as Number
    from trainkit.elementwise import Rule as Rule
    from trainkit.elementwise import add_scaled_ as add_scaled_
    from trainkit.feed.splits import fingerprint as fingerprint
    from trainkit.feed.splits import split_by_fraction as split_by_fraction
    from trainkit.feed.splits import standardise as standardise
    from trainkit.protocols import Augmentation as Augmentation
    from trainkit.protocols import Draw as Draw
    from trainkit.protocols import Events as Events
    from trainkit.protocols import Loss as Loss
    from trainkit.protocols import Metric as Metric
    from trainkit.protocols import Optimizer as Optimizer
    from trainkit.protocols import Progress as Progress
    from trainkit.protocols import Schedule as Schedule
    from trainkit.recipe import problem_at as problem_at

__version__ = "0.1.0"

# Imported at first use: some need torch, which takes over a second, and a listing of plugins does not need it.
_LAZY = {
    **{name: "trainkit.elementwise" for name in ("ElementwiseOptimizer", "Number", "Rule", "add_scaled_")},
    "fingerprint": "trainkit.feed.splits",
    "split_by_fraction": "trainkit.feed.splits",
    "standardise": "trainkit.feed.splits",
    "problem_at": "trainkit.recipe",
    **{
        name: "trainkit.protocols"
        for name in ("Augmentation", "Draw", "Events", "Loss", "Metric", "Optimizer", "Progress", "Schedule")
    },
}

__all__ = [
    "Batch",
    "Between",
    "CheckpointError",
    "Component",
    "DataError",
    "DataSpec",
    "Dataset",
    "Duration",
    "Feed",
    "Fraction",
    "Gatherable",
    "MachineError",
    "Metrics",
    "Nested",
    "NonNegative",
    "NonNegativeInt",
    "Period",
    "Place",
    "PluginError",
    "Positive",
    "PositiveInt",
    "Problem",
    "RecipeError",
    "Report",
    "Run",
    "RunError",
    "Split",
    "StepResult",
    "TrainkitError",
    "hookimpl",
    *_LAZY,
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'trainkit' has no attribute {name!r}")
