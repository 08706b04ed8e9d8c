"""A run in words: the block at its start, parameter groups, where its time went."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainkit.console import aligned

if TYPE_CHECKING:
    from trainkit.run import Run

_SHOWN_SHARE = 1e-3  # what takes less of the run is left out of its profile
_INSIDE_STEP = ("train_step", "loss", "gradients")


def start_block(run: Run, name: str) -> list[str]:
    """What is about to run: recipe, device, data, model, parameter groups, folder."""
    recipe, spec = run.recipe, run.feed.spec
    splits = "  ".join(f"{split} {size}" for split, size in spec.sizes.items())
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    free = sum(parameter.numel() for parameter in run.model.parameters() if parameter.requires_grad)
    shape = "x".join(map(str, spec.input_shape))
    outputs = f"{spec.outputs} classes" if spec.task == "classification" else f"{spec.outputs} outputs"
    threads = f", {_threads()} threads" if run.device.type == "cpu" else ""
    rows = [
        ("recipe", name),
        ("data", f"{recipe['data']['use']}  {splits}  ({shape}, {outputs})"),
        (
            "model",
            f"{recipe['model']['use']}  {parameters:,} parameters" + (f", {free:,} free" if free != parameters else ""),
        ),
        ("device", f"{run.device}, {run.precision.name}{threads}"),
        ("length", f"{run.total_updates} updates of {run.clock.samples_per_update} samples, seed {run.seed}"),
        ("folder", str(run.folder)),
    ]
    return [*aligned(rows), *group_lines(run)]


def group_lines(run: Run) -> list[str]:
    """The optimizer's groups as a table: names, parameters, learning rate, weight decay."""
    bases = {value.group: value.base for value in run.schedules if value.name == "lr"}
    rows = [(f"{run.recipe['optimizer']['use']}", "parameters", "lr", "weight_decay", "names")]
    for number, group in enumerate(run.optimizer.param_groups):
        names = [str(name) for name in group.get("names", ())]
        few = ", ".join(names[:3]) + (f", ... ({len(names)})" if len(names) > 3 else "")
        count = sum(parameter.numel() for parameter in group["params"])
        lr = bases.get(number, group.get("lr"))
        rows.append((f"group {number}", f"{count:,}", _number(lr), _number(group.get("weight_decay")), few))
    return aligned(rows)


def profile_lines(profile: Mapping[str, float], updates: int, seconds: float) -> list[str]:
    """A table of where the time went: seconds, share of the run, microseconds per update.

    Hooks that are called inside the step stand below it, indented; their time is part of the step's. What is called
    at the very end stands last: the run's own clock has stopped by then.
    """
    inside = {label: spent for label, spent in profile.items() if _hook(label) in _INSIDE_STEP}
    after = {label: spent for label, spent in profile.items() if _hook(label) == "run_end"}
    top = {label: spent for label, spent in profile.items() if label not in inside and label not in after}
    top["everything else"] = max(0.0, seconds - sum(top.values()))
    rows = [("where", "seconds", "share", "us/update")]
    for label, spent in sorted(top.items(), key=lambda item: -item[1]):
        if spent < _SHOWN_SHARE * seconds and label != "step":
            continue
        rows.append(_profile_row(label, spent, updates, seconds))
        if label == "step":
            rows += [_profile_row(f"  {name}", part, updates, seconds) for name, part in inside.items()]
    rows += [(label, f"{spent:.3f}", "after", "-") for label, spent in after.items() if spent >= _SHOWN_SHARE * seconds]
    return aligned(rows)


def _profile_row(label: str, spent: float, updates: int, seconds: float) -> tuple[str, str, str, str]:
    return label, f"{spent:.3f}", f"{spent / max(seconds, 1e-9):.1%}", f"{spent / max(updates, 1) * 1e6:.1f}"


def _hook(label: str) -> str:
    return label.rpartition(": ")[2]


def train_figures(run: Run) -> dict[str, float]:
    """The newest training loss."""
    for line in reversed(run.history):
        if line["split"] == "train" and isinstance(line.get("loss"), float):
            return {"train.loss": line["loss"]}
    return {}


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
