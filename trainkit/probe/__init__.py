"""``trainkit probe``: the checks that a careful practitioner makes before a long run.

Each check says what a healthy recipe shows, what this one shows, and what to do about it. All of it happens in this
process, on runs that are thrown away; nothing is written but in a temporary folder.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from trainkit.device import choose_device
from trainkit.errors import PluginError, RecipeError, TrainkitError
from trainkit.manager import Plugins
from trainkit.microbatch import out_of_memory
from trainkit.probe import again, exactly, fitting, inputs, starting, updates
from trainkit.probe.checks import CHECKS
from trainkit.probe.finding import Finding, Probe
from trainkit.probe.page import sections
from trainkit.probe.subject import Subject
from trainkit.protocols import Progress, silent
from trainkit.recipe import Recipe
from trainkit.seeding import put_back_generators, random_generators

__all__ = ["CHECKS", "Finding", "Probe", "probe", "sections"]


class _Shared(Subject):
    """A subject whose first updates several checks look at, and which are made once."""

    _first: updates.First | Exception | None = None

    @property
    def first(self) -> updates.First:
        """The first updates."""
        if self._first is None:
            try:
                self._first = updates.first_updates(self)
            except Exception as error:
                self._first = error
        if isinstance(self._first, Exception):
            raise self._first
        return self._first


_ACTS: Mapping[str, Callable[[_Shared], Finding]] = {
    "inputs": inputs.input_statistics,
    "same-seed": again.same_seed,
    "initial-loss": starting.initial_loss,
    "gradient-check": exactly.gradient_check,
    "batch-independence": exactly.batch_independence,
    "all-parameters": lambda subject: updates.all_parameters(subject.first),
    "update-ratio": lambda subject: updates.update_ratio(subject.first),
    "dead-relus": lambda subject: updates.dead_relus(subject, subject.first),
    "time": lambda subject: updates.time_per_update(subject.first),
    "overfit": fitting.overfit,
    "shuffled-labels": fitting.shuffled_labels,
}


def probe(recipe: Recipe, plugins: Plugins, only: Sequence[str] = (), progress: Progress = silent) -> Probe:
    """Make the checks on a recipe.

    Args:
        recipe: the checked recipe of one run.
        plugins: the plugins of this process.
        only: the checks that are wanted, by name; all by default.
        progress: told which check is made.

    Raises:
        TrainkitError: if the recipe cannot be built at all.
    """
    names = [name for name in CHECKS if not only or name in only]
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="trainkit-probe-") as folder:
        device = choose_device(recipe.tables["run"]["device"])
        drawn = random_generators(device)
        subject = _Shared(recipe, plugins, Path(folder), progress)
        try:
            about = _about(subject)
            for number, name in enumerate(names):
                progress(number, len(names), f"probe: {name}")
                findings.append(_made(name, partial(_ACTS[name], subject), plugins))
            progress(len(names), len(names), "probe")
        finally:
            subject.close()
            put_back_generators(drawn, device)
    return Probe(recipe.path, about, findings)


def _about(subject: Subject) -> str:
    run, tables = subject.still, subject.recipe.tables
    count = sum(parameter.numel() for parameter in run.model.parameters())
    uses = ", ".join(f"{table} '{tables[table]['use']}'" for table in ("data", "model", "loss", "optimizer"))
    where = torch.cuda.get_device_name(run.device) if run.device.type == "cuda" else str(run.device)
    return (
        f"{uses}; {count:,} parameters; {run.total_updates:,} updates; {where}, {run.precision.name}, seed {run.seed}"
    )


def _made(name: str, act: Callable[[], Finding], plugins: Plugins) -> Finding:
    """One check; what it raises is a finding, too, unless it says that the recipe or the machine is at fault."""
    begun = time.perf_counter()
    try:
        finding = act()
    except (RecipeError, PluginError, MemoryError):
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        told = error if isinstance(error, TrainkitError) else plugins.blame(error, "training")
        said = str(told) if told is not None else f"{type(error).__name__}: {error}"
        first, _, rest = said.strip().partition("\n")
        cure = " ".join(rest.split()) or "the recipe does not train: `trainkit run --smoke` shows the same"
        finding = Finding("bad", "the check can be made", f"it ended with: {first}", cure, error=error)
    finding.name, finding.seconds = name, time.perf_counter() - begun
    return finding
