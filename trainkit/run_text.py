"""A run in words: the block at its start, parameter groups, where its time went."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainkit.console import aligned
from trainkit.run import Spent

if TYPE_CHECKING:
    from trainkit.run import Run

_SHOWN_SHARE = 1e-3  # what takes less of the run is left out of its profile
MOST_GROUPS = 16  # a table of more rows is not read by anybody
_INSIDE_STEP = ("train_step", "loss", "gradients")


def start_block(run: Run, name: str) -> list[str]:
    """What is about to run: recipe, device, data, model, parameter groups, folder."""
    recipe, spec = run.recipe, run.feed.spec
    splits = "  ".join(f"{split} {size}" for split, size in spec.sizes.items())
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    free = sum(parameter.numel() for parameter in run.model.parameters() if parameter.requires_grad)
    shape = "x".join(map(str, spec.input_shape))
    called = {"classification": "classes", "tokens": "different tokens"}.get(spec.task, "outputs")
    outputs = f"{spec.outputs} {called}"
    threads = f", {_threads()} threads" if run.device.type == "cpu" else ""
    rows = [
        ("recipe", name),
        ("data", f"{recipe['data']['use']}  {splits}  ({shape}, {outputs})"),
        (
            "model",
            f"{recipe['model']['use']}  {parameters:,} parameters" + (f", {free:,} free" if free != parameters else ""),
        ),
        ("device", f"{run.device}, {run.precision.name}{threads}"),
        ("length", f"{run.total_updates} updates of {_samples(run)} samples, seed {run.seed}"),
        ("folder", str(run.folder)),
    ]
    return [*aligned(rows), *group_lines(run)]


def group_lines(run: Run) -> list[str]:
    """The optimizer's groups as a table: parameters, rate, weight decay, names; what few runs have, where they have it.

    That is: the optimizer, where there are two; the layer, where the rate falls from layer to layer; the factor on the
    rate, where groups differ in it. Of many groups the first and the last are shown.
    """
    bases = {value.group: value.base for value in run.schedules if value.name == "lr"}
    groups = run.optimizer.param_groups
    extra = [key for key in ("optimizer", "layer") if any(key in group for group in groups)]
    scaled = len({group.get("lr_scale", 1.0) for group in groups}) > 1
    head = ["parameters", "lr", *(["lr_scale"] if scaled else []), "weight_decay", "names"]
    table = run.recipe["optimizer"]
    title = " in ".join([table["use"], *(wrapper["use"] for wrapper in table.get("wrap", ()))])
    rows = [(title, *extra, *head)]
    for number, group in enumerate(groups):
        names = [str(name) for name in group.get("names", ())]
        few = ", ".join(names[:3]) + (f", ... ({len(names)})" if len(names) > 3 else "")
        cells = [str(group.get(key, "-")) for key in extra]
        cells.append(f"{sum(parameter.numel() for parameter in whole_parameters(run, group)):,}")
        cells.append(_number(bases.get(number, group.get("lr"))))
        cells += [_number(group.get("lr_scale", 1.0))] if scaled else []
        rows.append((f"group {number}", *cells, _number(group.get("weight_decay")), few))
    if len(rows) > MOST_GROUPS + 1:
        left_out = len(rows) - 1 - MOST_GROUPS
        half = MOST_GROUPS // 2
        rows[1 + half : -half] = [(f"... {left_out} more", *[""] * (len(rows[0]) - 1))]
    return [*aligned(rows), *_batch_rule(run)]


def whole_parameters(run: Run, group: Mapping[str, Any]) -> Sequence[Any]:
    """The parameters of a group; whole ones also where this process has some of their rows."""
    return group["params"] if run.sharded is None else [run.sharded.whole[name] for name in group["names"]]


def _samples(run: Run) -> str:
    """Samples in an update, from the fewest to the most."""
    sizes = dict.fromkeys(size * run.clock.accumulate for size in run.feed.batch_sizes)
    return " to ".join(map(str, sizes))


def _batch_rule(run: Run) -> list[str]:
    """What ``lr_for_batch`` did to the rates, in numbers."""
    settings, batch = run.recipe["optimizer"], run.clock.samples_per_update
    if settings["lr_for_batch"] is None:
        return []
    from trainkit.composite import batch_factor

    rule, factor = settings["lr_rule"] or "linear", batch_factor(settings, batch)
    return [f"lr x {factor:g}  {rule} rule: rates for {settings['lr_for_batch']} samples an update, which has {batch}"]


def preview_lines(run: Run, times: Sequence[int], values: Mapping[str, Sequence[float]]) -> list[str]:
    """A preview as tables: the optimizer's groups, then a line for each time and a column for each value.

    Values that are the same at all these times share a column.
    """
    columns: dict[tuple[float, ...], list[str]] = {}
    for label, points in values.items():
        columns.setdefault(tuple(points), []).append(label)
    rows = [("update", "epoch", *(" ".join(labels) for labels in columns.values()))]
    for place, t in enumerate(times):
        epoch = f"{run.clock.epochs_at(t):.4g}"
        rows.append((str(t), epoch, *(f"{points[place]:.6g}" for points in columns)))
    head = f"length  {run.total_updates} updates, {run.clock.updates_per_epoch} an epoch"
    if run.clock.epoch_starts:
        epochs = run.clock.epochs_at(run.total_updates)
        head = f"length  {run.total_updates} updates of {_samples(run)} samples, {epochs:g} epochs"
    events = [f"update {at}  {kind.replace(':', ' ')}" for at, kind in run.events]
    return [head, *group_lines(run), "", *aligned(rows), *(["", *events] if events else [])]


def profile_lines(profile: Mapping[str, Spent], updates: int, seconds: float) -> list[str]:
    """Two tables of where the time went: by part of the run, and by object.

    In the first, hooks that are called inside the step stand below it, indented; their time is part of the step's. What
    is called at the very end stands last: the run's own clock has stopped by then. The second has every object that
    implements hooks, with all its hooks together.
    """
    inside = {label: spent for label, spent in profile.items() if _hook(label) in _INSIDE_STEP}
    after = {label: spent for label, spent in profile.items() if _hook(label) == "run_end"}
    top = {label: spent for label, spent in profile.items() if label not in inside and label not in after}
    if "step" in top:
        whole = top["step"].seconds + sum(spent.seconds for spent in inside.values())
        top["step"] = dataclasses.replace(top["step"], seconds=whole)
    rest = max(0.0, seconds - sum(spent.seconds for spent in top.values()))
    rows = [("where", "calls", "seconds", "share", "us/update")]
    least = _SHOWN_SHARE * seconds

    def row(label: str, spent: Spent) -> tuple[str, str, str, str, str]:
        micros = f"{spent.seconds / max(updates, 1) * 1e6:.1f}"
        return label, str(spent.calls or "-"), f"{spent.seconds:.3f}", _share(spent.seconds, seconds), micros

    for label, spent in sorted(top.items(), key=lambda item: -item[1].seconds):
        if spent.seconds >= least or label == "step":
            rows.append(row(label, spent))
        if label == "step":
            rows += [row(f"  {name}", part) for name, part in inside.items() if part.calls]
    rows += [row("everything else", Spent(rest)), row("the whole run", Spent(seconds))]
    rows += [(*row(label, spent)[:3], "after", "-") for label, spent in after.items() if spent.seconds >= least]
    return [*aligned(rows), *_object_lines(profile, seconds)]


def _object_lines(profile: Mapping[str, Spent], seconds: float) -> list[str]:
    """What each callback, logger and other object costs, the most expensive first."""
    calls: dict[str, int] = {}
    during: dict[str, float] = {}
    after: dict[str, float] = {}
    for label, spent in profile.items():
        owner, colon, hook = label.rpartition(": ")
        if colon:
            calls[owner] = calls.get(owner, 0) + spent.calls
            for sums, counts in ((during, hook != "run_end"), (after, hook == "run_end")):
                sums[owner] = sums.get(owner, 0.0) + (spent.seconds if counts else 0.0)
    rows = [("object", "calls", "seconds", "share", "us/call")]
    for owner in sorted(calls, key=lambda owner: -during[owner] - after[owner]):
        total = during[owner] + after[owner]
        share = "after" if after[owner] > 0.0 == during[owner] else _share(during[owner], seconds)
        micros = f"{total / calls[owner] * 1e6:.1f}" if calls[owner] else "-"
        rows.append((owner, str(calls[owner]), f"{total:.3f}", share, micros))
    return ["", *aligned(rows)] if len(rows) > 1 else []


def _share(spent: float, seconds: float) -> str:
    return f"{spent / max(seconds, 1e-9):.1%}"


def _hook(label: str) -> str:
    return label.rpartition(": ")[2]


def paths_line(folder: Path, **paths: Sequence[str]) -> str:
    """The paths that matter when something is over: what to look at, the figures, and what comes third.

    Args:
        folder: where they lie.
        paths: by the word before them, names of files; the first that is there is named.
    """
    parts = []
    for word, names in {"see": (), "figures": ("report.json",), **paths}.items():
        found = next((name for name in names if (folder / name).exists()), None)
        parts += [] if found is None else [f"{word} {folder / found}"]
    return "  ".join(parts)


def weights_at(folder: Path) -> str:
    """Where in a run folder the best checkpoint lies, else the newest one; empty where there is none."""
    try:
        best = json.loads((folder / "best.json").read_text(encoding="utf-8"))["checkpoint"]
        if Path(str(best)).name == best and (folder / "checkpoints" / best).is_dir():
            return f"checkpoints/{best}"
    except (OSError, ValueError, KeyError, TypeError):
        pass
    newest = max((path.name for path in folder.glob("checkpoints/step-*") if path.is_dir()), default="")
    return f"checkpoints/{newest}" if newest else ""


def clock_text(seconds: float) -> str:
    """Seconds as ``0:04`` or ``1:02:03``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def short(number: float) -> str:
    """A number in at most four characters and a suffix: ``3.1k``."""
    for suffix in ("", "k", "M"):
        if number < 1000:
            return f"{number:.3g}{suffix}"
        number /= 1000
    return f"{number:.3g}G"


def _number(value: Any) -> str:
    return "-" if value is None else f"{float(value):g}"


def _threads() -> int:
    torch = sys.modules.get("torch")  # a run has imported it
    return torch.get_num_threads() if torch is not None else os.cpu_count() or 1
