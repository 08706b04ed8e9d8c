"""The figures of an ensemble's page: how many members would do, how sure it is and how right, how members differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from trainkit.evidence import wilson
from trainkit.page import Block, Cell, Curves, Heatmap, Line, Table, Text

NAMES = {
    "nll": "negative log likelihood",
    "mse": "mean squared error",
    "mae": "mean absolute error",
    "r2": "explained share (r2)",
    "brier": "Brier score",
    "ece": "calibration error",
}
MODELS = {
    "ensemble": "ensemble",
    "best_member": "best member",
    "mean_member": "mean of members",
    "longer": "one longer run",
}
_MATRICES = {
    "disagreement": "Disagreement: share of samples for which two give different classes",
    "error_correlation": "Correlation of errors",
    "kl": "KL divergence from the row's member to the column's, in nats",
}
_CLASSES = (("accuracy", "raw"), ("nll", "calibrated"), ("nll", "raw"), ("ece", "raw"), ("ece", "calibrated"))
_NUMBERS = (("mse", "raw"), ("mae", "raw"), ("r2", "raw"), ("nll", "raw"))
_MOST_MEMBERS = 30  # of a matrix


def split_of(report: Mapping[str, Any]) -> str:
    """The samples that models are judged by."""
    return "test" if "test" in report["samples"] else "validation"


def figures_of(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures that there are of the models, and whether after temperature."""
    split = split_of(report)
    there = report["ensemble"].get(split) or report["best_member"][split]
    wanted = _NUMBERS if report["task"] == "regression" else _CLASSES
    return [(figure, kind) for figure, kind in wanted if figure in there.get(kind, {})]


def _title(figure: str, kind: str) -> str:
    name = NAMES.get(figure, figure)
    return name[:1].upper() + name[1:] + ("" if kind == "raw" else ", each after its own temperature")


def value_of(figure: Mapping[str, Any] | None, key: str = "value") -> float | None:
    """A figure; nothing where it is missing, or was not finite."""
    found = None if figure is None else figure.get(key)
    return None if found is None else float(found)


def curve_blocks(report: Mapping[str, Any]) -> list[Block]:
    """Accuracy and calibration against the number of members, each other model as a line across."""
    found = report["curve"]
    if "reason" in found:
        return [Text(f"There is no curve, as {found['reason']}.", "note")]
    points, split = found["points"], found["split"]
    blocks: list[Block] = []
    for figure, kind in figures_of(report):
        if figure not in points[0].get(kind, {}):
            continue
        numbers = [float(point["members"]) for point in points]
        values = [_number(point[kind].get(figure)) for point in points]
        lines = [Line("ensemble", {"members": numbers}, values)]
        for model in ("best_member", "longer"):
            own = report.get(model, {}).get(split, {}).get(kind, {}).get(figure)
            if (level := value_of(own)) is not None:
                ends = [numbers[0], numbers[-1]]
                low, high = _band(own, len(ends)) if model == "longer" else ([], [])
                lines.append(Line(MODELS[model], {"members": ends}, [level] * len(ends), low, high, style="dashed"))
        better = "higher" if figure in ("accuracy", "r2") else "lower"
        blocks.append(Curves(_title(figure, kind), lines, f"{figure} ({better} is better)", smooth=False))
    sets = "the first so many members" if found["sets"] == "first" else "means over sets of members drawn at random"
    said = f"On {report['samples'][split]} {split} samples. Points: {sets}."
    if "longer" in report:
        said += f" Band: {report['level']:.0%} bootstrap interval."
    return [*blocks, Text(said)]


def _band(figure: Mapping[str, Any] | None, points: int) -> tuple[list[float], list[float]]:
    """The interval of a figure that is the same at so many points; nothing where it has none."""
    low, high = value_of(figure, "low"), value_of(figure, "high")
    return ([], []) if low is None or high is None else ([low] * points, [high] * points)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def reliability_blocks(report: Mapping[str, Any]) -> list[Block]:
    """How often a model is right where it is so sure."""
    found = report.get("reliability")
    if not found:
        return []
    blocks: list[Block] = []
    for kind, title in (("raw", "As they are"), ("calibrated", "Each after its own temperature")):
        lines = [Line("perfectly calibrated", {"confidence": [0.0, 1.0]}, [0.0, 1.0], style="dashed")]
        for model in ("ensemble", "best_member"):
            bins: Sequence[Mapping[str, Any]] = found[model][kind]
            places = [float(one["confidence"]) for one in bins]
            shares = [float(one["accuracy"]) for one in bins]
            ends = [wilson(share, float(one["samples"])) for share, one in zip(shares, bins, strict=True)]
            low, high = [end[0] for end in ends], [end[1] for end in ends]
            lines.append(Line(MODELS[model], {"confidence": places}, shares, low, high))
        blocks.append(Curves(title, lines, "share that is right", smooth=False))
    split = found["split"]
    said = f"On {report['samples'][split]} {split} samples in {report['bins']} bins. "
    said += "Bands: 95% intervals of a bin's share."
    rows: list[list[Cell]] = []
    for model in ("ensemble", "best_member"):
        errors = [report[model].get(split, {}).get(kind, {}).get("ece") for kind in ("raw", "calibrated")]
        whole = report[model] if model == "ensemble" else report["members"][report[model]["number"]]
        rows.append([MODELS[model], *(value_of(error) for error in errors), whole["temperature"]])
    heads = ["model", "calibration error", "after temperature", "temperature"]
    return [*blocks, Text(said), Table(heads, rows, "Mean distance between confidence and accuracy")]


def diversity_blocks(report: Mapping[str, Any]) -> list[Block]:
    """How members differ, pair by pair; a member beside itself is left empty."""
    found = report.get("diversity")
    if not found or len(found["members"]) < 2:
        return []
    names = [str(name) for name in found["members"]][:_MOST_MEMBERS]
    blocks: list[Block] = []
    for kind, title in _MATRICES.items():
        if kind not in found:
            continue
        rows = [
            [None if row == column else value for column, value in enumerate(values[: len(names)])]
            for row, values in enumerate(found[kind]["matrix"][: len(names)])
        ]
        mean = found[kind]["mean"]
        blocks.append(Heatmap(title + ("" if mean is None else f" (mean {mean:.3g})"), names, names, rows))
    said = f"On {found['split']} samples. Members that are wrong on the same samples add nothing to each other."
    return [*blocks, Text(said)]
