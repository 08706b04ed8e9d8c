"""The page of an ensemble: how good it is beside its members, how many would do, how they differ, what all costs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainkit.errors import MachineError
from trainkit.page import Block, Cell, Facts, Section, Table, Text, render
from trainkit.report.ensemble_figures import (
    MODELS,
    curve_blocks,
    diversity_blocks,
    figures_of,
    reliability_blocks,
    split_of,
    value_of,
)
from trainkit.report.parts import recipe_sections, relative
from trainkit.run_text import clock_text
from trainkit.rundir import PAGE, write_atomically


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
        return render(f"Ensemble {folder.resolve().name}", sections, subtitle)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise MachineError(f"{folder / 'report.json'}: this is not the report of an ensemble ({error!r})") from error


def ensemble_sections(folder: Path, report: Mapping[str, Any], where: Path) -> list[Section]:
    """What the page of an ensemble is made of.

    Args:
        folder: the ensemble folder.
        report: what its ``report.json`` holds.
        where: the folder that the page will lie in, for its links.
    """
    made = [Section("What came of it", _summary(folder, report))]
    made.append(Section("Members", _members(folder, report, where)))
    made.append(Section("Number of members", curve_blocks(report)))
    if blocks := reliability_blocks(report):
        made.append(Section("Calibration", blocks))
    if blocks := diversity_blocks(report):
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
        ("members", f"{count}, {kept} of them kept" if kept < count else count),
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


# ------------------------------------------------------------ members


def _members(folder: Path, report: Mapping[str, Any], where: Path) -> list[Block]:
    split, columns = split_of(report), figures_of(report)
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
            made.append(value_of(found))
            if (one, own) == (figure, kind) or one == "accuracy":
                made += [value_of(found, "low"), value_of(found, "high")]
        if beside:
            made.append(value_of(model.get("validation", {}).get(kind, {}).get(figure)))
        cost = model.get("cost", {})
        return [*made, kept, cost.get("epochs"), cost.get("seconds")]

    cells = [row(label, report[key]) for key, label in MODELS.items() if key in report and split in report[key]]
    links = [""] * len(cells)
    cells += [row(str(member["name"]), member, bool(member["kept"])) for member in report["members"]]
    for number in range(len(report["members"])):
        page = folder / "members" / f"{number:04d}" / PAGE
        links.append(relative(page, where) if page.is_file() else "")
    level = f"{report['level']:.0%}"
    said = f"From, to: {level} bootstrap interval of the figure before them."
    if any(own != "raw" for _, own in columns):
        said += " T: after each model's own temperature."
    return [Table(heads, cells, f"On {report['samples'][split]} {split} samples", links), Text(said)]


# ------------------------------------------------------------ cost


def _costs(report: Mapping[str, Any]) -> list[Block]:
    cost = report["cost"]
    sizes = list(cost["member"]["latency_ms"])
    heads = ["model", "parameters", "multiplications", *(f"ms a sample, batch {size}" for size in sizes)]
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
    seconds = trained["all"]["seconds"]
    said += f", {clock_text(seconds) if seconds >= 10 else f'{seconds:.2g} s'} in all."
    threads = one["threads"]
    said += f" Measured on {one['device']} with {threads} thread{'s' * (threads != 1)}."
    return [Table(heads, cells, "Prediction and training"), Text(said)]
