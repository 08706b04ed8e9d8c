"""The page of an ensemble: how good it is beside its members, how many would do, how they differ, what all costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainkit.errors import MachineError
from trainkit.page import Block, Cell, Curves, Facts, Heatmap, Line, Section, Table, Text, render
from trainkit.report.parts import recipe_sections, relative, wilson
from trainkit.run_text import clock_text
from trainkit.rundir import write_atomically

PAGE = "report.html"
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


def write_ensemble_page(folder: Path, report: Mapping[str, Any]) -> Path:
    """Write ``report.html`` into an ensemble folder: one file that opens in a browser without a network.

    Args:
        folder: the ensemble folder.
        report: what its ``report.json`` holds, as ``trainkit_ensemble_end`` is given it.

    Returns:
        Where it lies.

    Raises:
        MachineError: if the report is not as an ensemble's is.
        OSError: if it cannot be written.
    """
    path = folder / PAGE
    write_atomically(path, ensemble_page(folder, report, folder), durable=False)
    return path


def ensemble_page(folder: Path, report: Mapping[str, Any], where: Path) -> str:
    """The page of an ensemble.

    Args:
        folder: the ensemble folder.
        report: what its ``report.json`` holds.
        where: the folder that the page will lie in, for its links.

    Raises:
        MachineError: if the report is not as an ensemble's is.
    """
    try:
        sections = ensemble_sections(folder, report, where)
        count = len(report["members"])
        subtitle = f"{report['ensembler']} of {count} member{'s' * (count != 1)}"
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise MachineError(f"{folder / 'report.json'}: this is not the report of an ensemble ({error!r})") from error
    return render(f"Ensemble {folder.resolve().name}", sections, subtitle)


def ensemble_sections(folder: Path, report: Mapping[str, Any], where: Path) -> list[Section]:
    """What the page of an ensemble is made of.

    Args:
        folder: the ensemble folder.
        report: what its ``report.json`` holds.
        where: the folder that the page will lie in, for its links.
    """
    made = [Section("What came of it", _summary(folder, report))]
    made.append(Section("Members", _members(folder, report, where)))
    made.append(Section("Number of members", _curve(report)))
    if blocks := _reliability(report):
        made.append(Section("Calibration", blocks))
    if blocks := _diversity(report):
        made.append(Section("How members differ", blocks))
    made.append(Section("Cost", _costs(report)))
    if report.get("classes"):
        heads = ["class", "samples", "ensemble", "best member"]
        cells = [[str(c["class"]), c["samples"], c["ensemble"], c["best_member"]] for c in report["classes"]]
        made.append(Section("Classes", [Table(heads, cells, "Share of samples that is right")]))
    return [*made, *recipe_sections(folder)]


# ------------------------------------------------------------ what came of it


def _summary(folder: Path, report: Mapping[str, Any]) -> list[Block]:
    kept, count = sum(bool(member["kept"]) for member in report["members"]), len(report["members"])
    samples = ", ".join(f"{number} {split}" for split, number in report["samples"].items())
    facts: list[tuple[str, Cell]] = [
        ("folder", str(folder)),
        ("ensembler", str(report["ensembler"])),
        ("members", f"{count}, of which {kept} are kept" if kept < count else count),
        ("samples", samples),
    ]
    if report["validation_is"] == "out of fold":
        facts.append(("validation", "out of fold: each member by the samples that it was not trained on"))
    if report["task"] != "regression":
        facts.append(("temperature", report["temperature"]))
    facts.append(("intervals", f"{report['level']:.0%} of {report['bootstrap']} bootstrap draws of the samples"))
    said = [str(text) for text in report["words"]]
    blocks: list[Block] = [Facts(facts), *(Text(text[:1].upper() + text[1:]) for text in said)]
    return [*blocks, *(Text(str(text), "note") for text in report.get("notes", []))]


def _split(report: Mapping[str, Any]) -> str:
    return "test" if "test" in report["samples"] else "validation"


def _figures(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures that there are of the models, and whether after temperature."""
    split = _split(report)
    there = report["ensemble"].get(split) or report["best_member"][split]
    wanted = _NUMBERS if report["task"] == "regression" else _CLASSES
    return [(figure, kind) for figure, kind in wanted if figure in there.get(kind, {})]


def _title(figure: str, kind: str) -> str:
    return NAMES.get(figure, figure) + ("" if kind == "raw" else ", each after its own temperature")


def _value(figure: Mapping[str, Any] | None, key: str = "value") -> float | None:
    """A figure; nothing where it is missing, or was not finite."""
    found = None if figure is None else figure.get(key)
    return None if found is None else float(found)


# ------------------------------------------------------------ members


def _members(folder: Path, report: Mapping[str, Any], where: Path) -> list[Block]:
    split, columns = _split(report), _figures(report)
    figure, kind = report["chosen_by"], report["kind"]
    heads = ["model"]
    for name, own in columns:
        heads += [name if own == "raw" else f"{name} T"]
        if (name, own) == (figure, kind) or name == "accuracy":
            heads += ["from", "to"]
    beside = split == "test"
    heads += [f"val {figure}" + (" T" if kind != "raw" else "")] * beside + ["kept", "epochs", "seconds"]

    def row(name: str, model: Mapping[str, Any], kept: Cell = None) -> list[Cell]:
        made: list[Cell] = [name]
        for one, own in columns:
            found = model.get(split, {}).get(own, {}).get(one)
            made.append(_value(found))
            if (one, own) == (figure, kind) or one == "accuracy":
                made += [_value(found, "low"), _value(found, "high")]
        if beside:
            made.append(_value(model.get("validation", {}).get(kind, {}).get(figure)))
        cost = model.get("cost", {})
        return [*made, kept, cost.get("epochs"), cost.get("seconds")]

    cells = [row(label, report[key]) for key, label in MODELS.items() if key in report and split in report[key]]
    links = [""] * len(cells)
    cells += [row(str(member["name"]), member, bool(member["kept"])) for member in report["members"]]
    for number in range(len(report["members"])):
        page = folder / "members" / f"{number:04d}" / PAGE
        links.append(relative(page, where) if page.is_file() else "")
    level = f"{report['level']:.0%}"
    said = f"T: after each model's own temperature. From, to: {level} bootstrap interval of the figure before them."
    return [Table(heads, cells, f"On {report['samples'][split]} {split} samples", links), Text(said, "note")]


# ------------------------------------------------------------ figures


def _curve(report: Mapping[str, Any]) -> list[Block]:
    """Accuracy and calibration against the number of members, each other model as a line across."""
    found = report["curve"]
    if "reason" in found:
        return [Text(f"There is no curve, as {found['reason']}.", "note")]
    points, split = found["points"], found["split"]
    blocks: list[Block] = []
    for figure, kind in _figures(report):
        if figure not in points[0].get(kind, {}):
            continue
        numbers = [float(point["members"]) for point in points]
        values = [_number(point[kind].get(figure)) for point in points]
        lines = [Line("ensemble", {"members": numbers}, values)]
        for model in ("best_member", "longer"):
            own = report.get(model, {}).get(split, {}).get(kind, {}).get(figure)
            if (level := _value(own)) is not None:
                ends = {"members": [numbers[0], numbers[-1]] if len(numbers) > 1 else numbers}
                same = len(ends["members"])
                low, high = _value(own, "low"), _value(own, "high")
                band = ([low] * same, [high] * same) if low is not None and high is not None else ([], [])
                lines.append(Line(MODELS[model], ends, [level] * same, *band, style="dashed"))
        better = "higher" if figure in ("accuracy", "r2") else "lower"
        blocks.append(Curves(_title(figure, kind), lines, f"{figure} ({better} is better)", smooth=False))
    sets = "the first so many members" if found["sets"] == "first" else "means over sets of members drawn at random"
    said = f"On {report['samples'][split]} {split} samples. Points: {sets}. "
    said += f"Bands: {report['level']:.0%} bootstrap intervals."
    return [*blocks, Text(said, "note")]


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _reliability(report: Mapping[str, Any]) -> list[Block]:
    """How often a model is right where it is so sure."""
    found = report.get("reliability")
    if not found:
        return []
    blocks: list[Block] = []
    for kind, title in (("raw", "As they are"), ("calibrated", "Each after its own temperature")):
        lines = [Line("as sure as right", {"probability of the likeliest class": [0.0, 1.0]}, [0.0, 1.0], style="dots")]
        for model in ("ensemble", "best_member"):
            bins: Sequence[Mapping[str, Any]] = found[model][kind]
            places = [float(one["confidence"]) for one in bins]
            shares = [float(one["accuracy"]) for one in bins]
            ends = [wilson(share, float(one["samples"])) for share, one in zip(shares, bins, strict=True)]
            low, high = [end[0] for end in ends], [end[1] for end in ends]
            lines.append(Line(MODELS[model], {"probability of the likeliest class": places}, shares, low, high))
        blocks.append(Curves(title, lines, "share that is right", smooth=False))
    split = found["split"]
    said = f"On {report['samples'][split]} {split} samples in {report['bins']} bins. "
    said += "Bands: 95% intervals of a bin's share."
    rows: list[list[Cell]] = []
    for model in ("ensemble", "best_member"):
        errors = [report[model].get(split, {}).get(kind, {}).get("ece") for kind in ("raw", "calibrated")]
        rows.append([MODELS[model], *(_value(error) for error in errors), report[model].get("temperature")])
    heads = ["model", "calibration error", "after temperature", "temperature"]
    return [*blocks, Text(said, "note"), Table(heads, rows, "Mean distance between confidence and accuracy")]


def _diversity(report: Mapping[str, Any]) -> list[Block]:
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
    return [*blocks, Text(said, "note")]


# ------------------------------------------------------------ cost


def _costs(report: Mapping[str, Any]) -> list[Block]:
    cost = report["cost"]
    sizes = list(cost["member"]["latency_ms"])
    heads = ["", "parameters", "multiplications", *(f"ms a sample, batch {size}" for size in sizes)]
    heads += ["updates", "epochs", "seconds"]
    cells: list[list[Cell]] = []
    for name, label, training in (("member", "best member", "member"), ("ensemble", "ensemble", "all")):
        one, spent = cost[name], cost["training"][training]
        took = [one["latency_ms"].get(size) for size in sizes]
        cells.append(
            [label, one["parameters"], one["macs"], *took, spent["updates"], spent["epochs"], spent["seconds"]]
        )
    if "longer" in cost["training"]:
        spent = cost["training"]["longer"]
        cells.append(
            [MODELS["longer"], *[None] * (2 + len(sizes)), spent["updates"], spent["epochs"], spent["seconds"]]
        )
    one, whole = cost["member"], cost["ensemble"]
    size = sizes[-1]
    said = f"The ensemble takes {cost['passes']} pass{'es' * (cost['passes'] != 1)} of members for each prediction"
    if one["latency_ms"].get(size):
        times = whole["latency_ms"][size] / one["latency_ms"][size]
        said += f", and {times:.2g} times the best member's time in batches of {size}"
    trained = cost["training"]
    if trained["member"]["updates"]:
        said += f"; its training took {trained['all']['updates'] / trained['member']['updates']:.2g} times the updates"
    said += (
        f", {clock_text(trained['all']['seconds'])} in all. Measured on {one['device']} with {one['threads']} threads."
    )
    return [Table(heads, cells, "Prediction and training"), Text(said)]
