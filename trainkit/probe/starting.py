"""The loss before the first update: what a model says that knows nothing, and what regularisation adds."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainkit.heads import knowing_nothing, predicts
from trainkit.probe.finding import Finding, Verdict, worst
from trainkit.probe.subject import Subject, compares, drawn, forward, loss_of, parts, quiet, samples_of
from trainkit.run import Run
from trainkit.steps import implemented, training_loss

SAMPLES = 1024
# Factors on the expected loss. A model whose outputs spread a little is somewhat above it; one that is far above is
# sure of what it cannot know.
_HIGH = {"classification": (1.5, 2.5), "binary": (1.5, 2.5), "regression": (3.0, 20.0), "tokens": (1.5, 2.5)}
LOW = 0.7
FALLS = 0.25  # of the loss: what dropout may take from it by chance, which makes outputs larger or smaller


def initial_loss(subject: Subject) -> Finding:
    """Compare the loss of the untrained model with that of equal outputs for all: ln(C) of cross-entropy.

    Source: https://cs231n.github.io/neural-networks-3/, "Before learning: sanity checks".
    """
    run = subject.still
    task = run.feed.spec.task
    index = drawn(run, SAMPLES)
    held = torch.random.get_rng_state()
    quiet(run.model)
    losses = [_losses(run, numbers) for numbers in parts(index, max(run.feed.batch_size, 2))]
    weights = [weight for *_, weight in losses]
    seen, blank = (
        sum(part[which] * weight for part, weight in zip(losses, weights, strict=True)) / sum(weights)
        for which in (0, 1)
    )
    torch.random.set_rng_state(held)
    # A loss that may be negative, such as that of a density, is held against its own size, or half a nat.
    unit = max(abs(blank), 0.5) if predicts(run.loss) else abs(blank)
    high, highest, low = (blank + (factor - 1) * unit for factor in (*_HIGH[task], LOW))
    verdict: Verdict = "good"
    cure = ""
    if seen > highest:
        verdict = "bad"
        cure = "draw the last layer's weights smaller: its outputs are far from equal before anything is learned"
    elif seen > high:
        verdict, cure = "doubtful", "draw the last layer's weights smaller; the first updates undo them"
    elif seen < low and not compares(subject):  # what is to be alike may be so before anything is learned
        verdict = "doubtful"
        cure = "weights that were trained before give that; else inputs give their targets away"
    if task == "regression" and verdict != "good":
        cure = "standardise the targets, or begin with a bias at their mean"
    begun = run.pretrained
    if begun is not None and verdict != "good":  # what was trained knows something, or its features are large
        verdict = "doubtful" if begun["new"] and seen > high else "good"
        cure = "a new head on trained features; draw it smaller, or let it be trained alone at first"
        cure = cure if verdict == "doubtful" else ""
    if not math.isfinite(seen):
        verdict, cure = "bad", "look for log, sqrt or a division at 0 in the model and the loss"
    more, added = _regularised(subject, index[: max(run.feed.batch_size, 2)])
    if more == "falls":
        verdict = worst(verdict, "bad" if implemented(run, "trainkit_loss") else "doubtful")
        cure = "regularisation lowers the loss: look at the sign of the penalty"
    doubled = _twice(run, index[: max(2, min(64, run.feed.batch_size))])
    if abs(doubled - 1) > 1e-3 and not compares(subject):
        verdict = "bad"
        cure = f"the loss must be a mean over the batch: each sample twice gives {doubled:.3g} times the loss"
    words = _words(run, blank)
    if begun is not None and not begun["new"]:
        words, blank = "any: all weights were trained before", math.nan
    bounds = f", {low:.3g} to {high:.3g}" if math.isfinite(blank) else ""
    if compares(subject):
        words, bounds = f"about {blank:.4g}, this loss of equal outputs, or less", f", at most {high:.3g}"
    rising = "; rising with regularisation, dropout aside"
    figures = {"loss": _plain(seen), "expected": _plain(blank), "regularisation": added, "twice": doubled}
    return Finding(verdict, f"{words}{bounds}{rising}", f"{seen:.4g}; {_said(added)}", cure, figures)


def _words(run: Run, blank: float) -> str:
    spec = run.feed.spec
    if predicts(run.loss):
        known = math.isfinite(blank)
        return f"about {blank:.4g}, this loss of equal outputs" if known else "any: this loss names no equal outputs"
    if spec.task == "regression":
        return f"about {blank:.4g}, the loss of the targets' mean"
    classes = 2 if spec.task == "binary" else spec.outputs
    logarithm = f"ln({classes}) = {math.log(classes):.4g}"
    if classes > 1 and abs(blank - math.log(classes)) < 1e-3 * blank:
        return f"about {logarithm}"
    return f"about {blank:.4g}, this loss of equal outputs (that of cross-entropy is {logarithm})"


def _losses(run: Run, index: Tensor) -> tuple[float, float, int]:
    """The loss of the model's outputs, that of equal ones, and how many samples they are of."""
    batch = samples_of(run, index)
    with torch.no_grad():
        outputs = forward(run, batch.inputs)
        equal = _equal(run, outputs, batch.targets)
        blank = math.nan if equal is None else loss_of(run, equal, batch.targets)
        return loss_of(run, outputs, batch.targets), blank, len(batch)


def _equal(run: Run, outputs: Tensor, targets: Tensor) -> Tensor | None:
    """Outputs that are the same for all samples and say nothing of any of them; ``None`` where nobody knows such."""
    spec = run.feed.spec
    if predicts(run.loss):
        equal = knowing_nothing(run.loss, targets)
        return None if equal is None else equal.to(outputs.dtype)
    if spec.task == "regression":
        mean = targets.float().reshape(len(targets), -1).mean(0)
        return mean.expand(len(targets), -1).reshape(outputs.shape).to(outputs.dtype)
    if spec.task == "binary":
        return torch.zeros_like(outputs)
    return torch.full_like(outputs, -math.log(max(2, spec.outputs)))  # logits as well as log-probabilities


def _twice(run: Run, index: Tensor) -> float:
    """By what factor the loss grows where each sample is there twice."""
    batch = samples_of(run, index)
    with torch.no_grad():
        outputs = forward(run, batch.inputs)
        once = loss_of(run, outputs, batch.targets)
        both = loss_of(run, torch.cat([outputs, outputs]), torch.cat([batch.targets, batch.targets]))
    return both / once if once else 1.0


def _regularised(subject: Subject, index: Tensor) -> tuple[str, dict[str, float]]:
    """Whether the loss falls where regularisation is on, and what each kind of it adds."""
    run = subject.build(augmented=False).run
    batch = samples_of(run, index)
    with torch.no_grad():
        outputs = forward(run, batch.inputs)
        with run.precision.context():
            whole = float(training_loss(run)(outputs, batch))
        quiet(subject.still.model)
        bare = loss_of(subject.still, forward(subject.still, batch.inputs), batch.targets)
        smoothed = loss_of(run, outputs, batch.targets)
    decay = 0.0
    for group in run.optimizer.param_groups:
        if (factor := float(group.get("weight_decay") or 0.0)) != 0:
            decay += factor / 2 * sum(float(p.detach().double().square().sum()) for p in group["params"])
    added = {"dropout and label smoothing": smoothed - bare, "plugins": whole - smoothed, "weight decay": decay}
    added = {name: value for name, value in added.items() if abs(value) > 1e-7 * max(1.0, abs(bare))}
    falls = whole + decay < bare - FALLS * abs(bare) or added.get("plugins", 0.0) < -1e-4 * abs(bare)
    return ("falls" if falls else "rises" if added else "none"), added


def _said(added: dict[str, float]) -> str:
    if not added:
        return "the recipe has no regularisation"
    return "with regularisation " + ", ".join(f"{value:+.3g} ({name})" for name, value in added.items())


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
