"""The first hundred updates of the run: how large they are, what they take, whom they reach, whom they kill."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from trainkit.page.blocks import Bars, Curves, Line
from trainkit.probe import relus
from trainkit.probe.finding import Finding, Verdict
from trainkit.probe.stopwatch import Stopwatch
from trainkit.probe.subject import Deadline, Subject, drawn, drive, gradients_of, quiet, samples_of
from trainkit.run import Run

UPDATES = 100
SECONDS, LEAST = 30.0, 20  # after which no more are made, but not before so many
UNCOUNTED = 5  # first updates of a process, which are slow
REACHED_AFTER = 10  # updates: a layer behind one that begins at zero has its first gradient after the first of them
# Of the weights. Source: https://cs231n.github.io/neural-networks-3/, "Ratio of weights:updates": about 1e-3.
USUAL = (1e-5, 1e-1)
POSSIBLE = (1e-7, 0.5)
# Source: https://cs231n.github.io/neural-networks-1/, "ReLU": "as much as 40 % ... if the learning rate is too high".
DEAD = (0.4, 0.7)
WAITING = 0.5  # of an update's time
RISES = 1.5


@dataclass
class First:
    """What the first updates of a run left behind.

    Args:
        run: the run after them.
        losses: of each update.
        ratios: by parameter with two dimensions or more, the norm of each update that could change it over that of the
            weights before.
        seconds: by part of an update, in sum over those that count.
        counted: how many these are.
        unreached: parameters that are trained and never had a gradient other than zero.
        broken: parameters that had a gradient that is not finite.
        searches: whether the optimizer finds the size of its updates itself, by calling the loss again.
    """

    run: Run
    searches: bool = False
    losses: list[float] = field(default_factory=list)
    ratios: dict[str, list[float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    counted: int = 0
    unreached: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)


def first_updates(subject: Subject) -> First:
    """Make the first updates of the recipe's run as it is, and look at each."""
    built = subject.build()
    run = built.run
    closure = any(part.capabilities.get("needs_closure") for _, part in subject.recipe.making_updates())
    found, watch = First(run, closure), Stopwatch(run.device)
    watch.follow(built)
    found.unreached = {name for name, p in run.model.named_parameters() if p.requires_grad}
    _reach(run, found)
    uncounted = UNCOUNTED if run.total_updates >= 4 * UNCOUNTED else 0
    watched = {name: p for name, p in run.model.named_parameters() if p.dim() > 1 and p.requires_grad}
    before, deadline = _copies(watched), Deadline(SECONDS, LEAST)
    for number, (_, result) in enumerate(drive(built, UPDATES), start=1):
        found.losses.append(float(result.losses.mean()))
        for name, parameter in watched.items():
            held = float(before[name].norm())
            if held and parameter.requires_grad:  # it may join the training later than the run begins
                ratio = float((parameter.detach().double() - before[name]).norm()) / held
                found.ratios.setdefault(name, []).append(ratio)
        before = _copies(watched)
        if number == uncounted:
            watch.seconds = dict.fromkeys(watch.seconds, 0.0)
        if number == REACHED_AFTER:
            _reach(run, found)
        if not math.isfinite(found.losses[-1]) or deadline.over():
            break
    found.counted = max(1, len(found.losses) - uncounted)
    found.seconds = watch.seconds
    if len(found.losses) != REACHED_AFTER and math.isfinite(found.losses[-1]):
        _reach(run, found)
    return found


def _copies(parameters: dict[str, Any]) -> dict[str, Tensor]:
    return {name: parameter.detach().to(torch.float64, copy=True) for name, parameter in parameters.items()}


def _reach(run: Run, found: First) -> None:
    """Note which parameters get gradients from a batch of samples."""
    run.model.train()
    batch = samples_of(run, drawn(run, min(256, max(2, run.feed.batch_size))))
    for name, gradient in gradients_of(run, batch).items():
        if gradient is None:
            continue
        values = gradient.coalesce().values() if gradient.is_sparse else gradient
        if not bool(values.isfinite().all()):
            found.broken.add(name)
        elif bool(values.any()):
            found.unreached.discard(name)


# ---------------------------------------------------------------- what is said


def update_ratio(found: First) -> Finding:
    """The size of updates beside that of the weights, and whether the loss falls."""
    low, high = USUAL
    expected = f"about 1e-3 of the weights, {low:g} to {high:g}; the loss falls"
    if found.searches:
        expected = "the loss falls; the optimizer finds the size of its updates itself"
    losses, count = found.losses, len(found.losses)
    edge = max(1, count // 10)
    begun, ended = statistics.fmean(losses[:edge]), statistics.fmean(losses[-edge:])
    figures: dict[str, Any] = {"updates": count, "loss": [_plain(begun), _plain(ended)]}
    if not math.isfinite(losses[-1]):
        said = f"the loss is {losses[-1]} at update {count - 1}"
        cure = "lower optimizer.lr, or warm it up: `trainkit lr-find` shows where it diverges"
        if count == 1:
            cure = "look for log, sqrt or a division at 0 in the model and the loss: nothing was updated yet"
        return Finding("bad", expected, said, cure, figures)
    # The first half may be a warm-up.
    medians = {name: statistics.median(values[len(values) // 2 :]) for name, values in found.ratios.items() if values}
    falls = f"the loss goes from {begun:.4g} to {ended:.4g} in {count} updates"
    if not medians:
        return Finding("not applicable", expected, f"no weights of two dimensions are trained; {falls}", "", figures)
    middle = statistics.median(medians.values())
    least, most = (choose(medians, key=lambda name: medians[name]) for choose in (min, max))
    figures |= {"median": middle, "by_parameter": medians}
    seen = f"{middle:.2g} ({least}: {medians[least]:.2g}, {most}: {medians[most]:.2g}); {falls}"
    steps = list(range(1, count + 1))
    lines = [Line(name, {"step": steps[-len(values) :]}, values) for name, values in list(found.ratios.items())[:20]]
    blocks = [
        Curves("Size of updates beside that of weights", lines, log=True, levels=[(1e-3, "1e-3")]),
        Curves("Loss of the first updates", [Line("loss", {"step": steps}, losses)]),
    ]
    verdict: Verdict = "good"
    cure = ""
    if found.searches:
        seen = falls
    elif not (low <= medians[least] and medians[most] <= high):
        verdict = "doubtful" if POSSIBLE[0] <= middle <= POSSIBLE[1] else "bad"
        way = "lower" if medians[most] > high else "raise"
        cure = f"{way} optimizer.lr, or that of the group with {most if way == 'lower' else least}"
    if ended > RISES * begun:
        verdict, cure = "bad", "the loss rises: lower optimizer.lr, or look at the sign of the loss"
    return Finding(verdict, expected, seen, cure, figures, blocks)


def time_per_update(found: First) -> Finding:
    """Where the time of an update goes: a device that waits for data learns nothing meanwhile."""
    each = {part: seconds / max(1, found.counted) for part, seconds in found.seconds.items()}
    whole = sum(each.values()) or 1e-12
    share = {part: seconds / whole for part, seconds in each.items()}
    seen = f"{1e3 * whole:.3g} ms: " + ", ".join(f"{part} {100 * share[part]:.0f} %" for part in each)
    figures = {"seconds": whole, **{part: seconds for part, seconds in each.items()}}
    blocks = [Bars("Time of an update", list(each), [1e3 * seconds for seconds in each.values()], unit="ms")]
    expected = f"data at most {100 * WAITING:.0f} % of an update"
    if share["data"] > WAITING:
        cure = 'data.loading = "resident", more data.workers, larger batches, or less work for each sample'
        return Finding("doubtful", expected, seen, cure, figures, blocks)
    return Finding("good", expected, seen, "", figures, blocks)


def all_parameters(found: First) -> Finding:
    """Whether each parameter that is trained gets a gradient, and the optimizer has it."""
    run = found.run
    expected = "each parameter that is not frozen gets gradients, finite and not all zero, and is in the optimizer"
    names = dict(run.model.named_parameters())
    trained = [name for name, parameter in names.items() if parameter.requires_grad]
    known = {id(p) for group in run.optimizer.param_groups for p in group["params"]}
    left = [name for name in trained if id(names[name]) not in known]
    figures = {"trained": len(trained), "frozen": len(names) - len(trained), "without": sorted(found.unreached)}
    frozen = f", {len(names) - len(trained)} are frozen" if len(trained) < len(names) else ""
    faults = (
        (
            sorted(found.broken),
            "get gradients that are not finite",
            "look for log, sqrt or a division at 0 before them",
        ),
        (
            [name for name in trained if name in found.unreached],
            "get none, or zeros",
            "the forward pass leaves them out, or cuts them off: look for detach(), no_grad() and layers not called",
        ),
        (left, "are not in the optimizer", "look at trainkit_parameter_groups of plugins"),
    )
    for wrong, what, cure in faults:
        if wrong:
            few = ", ".join(wrong[:4]) + (f" and {len(wrong) - 4} more" if len(wrong) > 4 else "")
            return Finding("bad", expected, f"{len(wrong)} of {len(trained)} {what}: {few}", cure, figures)
    return Finding("good", expected, f"all {len(trained)} of them{frozen}", "", figures)


def dead_relus(subject: Subject, found: First) -> Finding:
    """ReLUs that are zero for every sample, before and after the first updates."""
    expected = f"at most {100 * DEAD[0]:.0f} % of the units behind a ReLU are zero for all of many samples"
    inputs = samples_of(found.run, drawn(found.run, relus.SAMPLES)).inputs
    now, before = (relus.shares(relus.units_of(quiet(run.model), inputs)) for run in (found.run, subject.still))
    if not now:
        return Finding("not applicable", expected, "the model has no ReLU")
    most = max(now, key=lambda name: now[name])
    seen = (
        f"{100 * now[most]:.3g} % at most, of {most}, after {len(found.losses)} updates; "
        f"{100 * max(before.values()):.3g} % before; {len(inputs)} samples"
    )
    figures = {"after": now, "before": before}
    blocks = [Bars("Dead units after the first updates", list(now), [100 * part for part in now.values()], unit="%")]
    if now[most] <= DEAD[0]:
        return Finding("good", expected, seen, "", figures, blocks)
    from_start = before.get(most, 0.0) > DEAD[0]
    cure = "draw the weights as He et al. do, and biases at 0" if from_start else "lower optimizer.lr, or warm it up"
    return Finding("bad" if now[most] > DEAD[1] else "doubtful", expected, seen, cure, figures, blocks)


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
