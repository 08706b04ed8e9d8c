"""What must be learned, and what must not: twenty examples by heart, and nothing from shuffled labels."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from trainkit.build import Built
from trainkit.dataset import Dataset
from trainkit.datasets import Datasets
from trainkit.evaluate import figures_of
from trainkit.feed.order import permutation
from trainkit.heads import predicts
from trainkit.instantiate import Builder
from trainkit.page.blocks import Curves, Line
from trainkit.probe.finding import Finding
from trainkit.probe.subject import (
    Deadline,
    Subject,
    compares,
    drawn,
    drive,
    forward,
    plan_of,
    quiet,
    right,
    samples_of,
    spread,
)
from trainkit.run import Batch, Run
from trainkit.scheduled import set_values

EXAMPLES = 20
TOKENS = 320  # of all examples together, where each has a target
MOST = 400  # updates of one attempt
SECONDS = 10.0  # after which an attempt that goes on for long is given up
LEAST = 60  # ... but not before so many updates
LOOKS = 5  # updates between two looks
FITTED = 0.99  # of the variance of a regression's targets
FITTED_BESIDE = 0.9  # ... where the loss weighs more than that: surer of some samples, it learns less of others
SHUFFLED_UPDATES = 300
SHUFFLED_SAMPLES = 1024
_SIGMA = 4.0
_COMPARES = "the loss compares samples with each other: nothing is predicted of one"


# ---------------------------------------------------------------- by heart


def overfit(subject: Subject) -> Finding:
    """Train on a few examples, regularisation off, until the model knows them by heart.

    Source: https://cs231n.github.io/neural-networks-3/, "Overfit a tiny subset of data".
    """
    if compares(subject):
        return Finding("not applicable", "a few examples by heart", _COMPARES)
    run = subject.still
    numbers = sum(p.numel() for p in run.model.parameters() if p.requires_grad)
    # A model with fewer numbers than targets cannot know them by heart.
    count = max(2, min(EXAMPLES, numbers // (2 * max(1, run.feed.spec.outputs)), len(plan_of(run).split("train"))))
    if run.feed.spec.task == "tokens":
        count = max(2, min(count, TOKENS // run.feed.spec.input_shape[0]))
    batch = samples_of(run, spread(run, count))
    regression = run.feed.spec.task == "regression"
    wanted = (FITTED_BESIDE if predicts(run.loss) else FITTED) if regression else 1.0
    if run.feed.spec.task == "tokens":
        wanted = FITTED * foreseeable(batch.inputs, batch.targets)
    unit = "of the variance" if regression else "right"
    few = f"{count} examples" + (
        "" if count == EXAMPLES else f" (the model has {numbers} numbers)" if numbers < 999 else ""
    )
    expected = f"{few}, {100 * wanted:.4g} % {unit} within {MOST} updates"
    if regression and count > 1 and float(batch.targets.double().std()) == 0:
        return Finding("not applicable", expected, "the targets of these examples are all equal")
    tried: list[str] = []
    curves: dict[str, tuple[list[int], list[float]]] = {}
    for name, scale in (("the recipe's optimizer", 1.0), ("a tenth of its rate", 0.1), ("Adam at 1e-3", 0.0)):
        built = subject.build(plain=True)
        best, updates, curve = _attempt(built, batch, scale, wanted)
        curves[name] = curve
        tried.append(f"{name}: {100 * best:.4g} % {unit} after {updates} updates")
        if best >= wanted:
            break
    figures = {"examples": count, "reached": best, "updates": updates, "attempts": tried}
    lines = [Line(name, {"step": steps}, losses) for name, (steps, losses) in curves.items()]
    blocks = [Curves(f"Loss on {count} examples", lines, log=True)]
    seen = "; ".join(tried)
    if best < wanted:
        cure = (
            "the model, the loss or the data cannot carry so much as this: look at their shapes, and at what is frozen"
        )
        return Finding("bad", expected, seen, cure, figures, blocks)
    if len(tried) > 1:
        cure = "another rate, or another optimizer: `trainkit lr-find` shows which rates train"
        return Finding("doubtful", expected, seen, cure, figures, blocks)
    return Finding("good", expected, seen, "", figures, blocks)


def foreseeable(inputs: Tensor, targets: Tensor) -> float:
    """The share of targets that is right for who knows, of each position, by heart what mostly comes after all before.

    It is less than 1 where samples begin alike and go on in different ways, as the first tokens of texts do.

    Args:
        inputs: ``(samples, positions, ...)``.
        targets: ``(samples, positions)`` int64.
    """
    after: dict[bytes, Counter[int]] = {}
    for row, wanted in zip(inputs.cpu().numpy(), targets.tolist(), strict=True):
        for position, target in enumerate(wanted, start=1):
            after.setdefault(row[:position].tobytes(), Counter())[target] += 1
    return sum(max(counts.values()) for counts in after.values()) / targets.numel()


def _attempt(
    built: Built, batch: Batch, scale: float, wanted: float
) -> tuple[float, int, tuple[list[int], list[float]]]:
    """The best that training on one batch came to, after how many updates, and the losses on the way.

    Args:
        built: a run without augmentations and label smoothing.
        batch: what is to be known by heart.
        scale: factor on the learning rate, which stands where the run has it at its highest; 0 takes Adam instead.
        wanted: where to stop.
    """
    run = built.run
    quiet(run.model)
    if scale:
        stand(run, scale)
        made = (float(result.losses.mean()) for _, result in drive(built, MOST, [batch]))
    else:
        made = _by_adam(run, batch)
    best, number = -math.inf, 0
    curve: tuple[list[int], list[float]] = [], []
    deadline = Deadline(SECONDS, LEAST // LOOKS)
    for number, loss in enumerate(made, start=1):
        curve[0].append(number)
        curve[1].append(loss)
        if not math.isfinite(loss):
            break
        if number % LOOKS and number < MOST:
            continue
        quiet(run.model)  # a callback may have put it back
        with torch.no_grad():
            figure = right(run, forward(run, batch.inputs), batch.targets)
        best = max(best, figure)
        if figure >= wanted or deadline.over():
            break
    return max(best, 0.0), number, curve


def _by_adam(run: Run, batch: Batch) -> Any:
    """The losses of updates by an optimizer that trains nearly everything."""
    optimizer = torch.optim.Adam([p for p in run.model.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(MOST):
        optimizer.zero_grad()
        loss = run.loss(forward(run, batch.inputs), batch.targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        yield float(loss.detach())


def stand(run: Run, scale: float = 1.0) -> None:
    """Hold every scheduled value where the learning rate is highest, the rate times ``scale``; no weight decay."""
    total = run.total_updates
    rates = [value for value in run.schedules if value.name == "lr"]
    if run.schedules:
        every = max(1, total // 500)
        times = range(0, total, every)
        top = max(times, key=lambda t: rates[0].at(t, run.schedule_updates)) if rates else 0
        set_values(run, run.optimizer.param_groups, top)
        run.schedules = ()
    for group in run.optimizer.param_groups:
        for name, factor in (("lr", scale), ("weight_decay", 0.0)):
            value = group.get(name)
            if isinstance(value, Tensor):
                value.mul_(factor)
            elif isinstance(value, int | float):
                group[name] = value * factor


# ---------------------------------------------------------------- shuffled labels


def shuffled_labels(subject: Subject) -> Finding:
    """Train on labels that belong to other samples: on samples not seen, the model must not be better than chance.

    Source: Karpathy 2019, "A Recipe for Training Neural Networks"; Zhang et al. 2017, arXiv 1611.03530, section 2.
    """
    spec = subject.still.feed.spec
    if compares(subject):
        return Finding("not applicable", "chance on validation samples", _COMPARES)
    if not spec.sizes.get("val"):
        return Finding("not applicable", "chance on validation samples", "the data has no validation samples")
    built = subject.build(datasets=Shuffled(subject.datasets))
    run = built.run
    deadline, made = Deadline(SECONDS, LEAST), 0
    for _ in drive(built, SHUFFLED_UPDATES):
        made += 1
        if deadline.over():
            break
    run.model.eval()
    batch = samples_of(run, drawn(run, SHUFFLED_SAMPLES, "val"), "val")
    with torch.no_grad():
        outputs = torch.cat([forward(run, part) for part in batch.inputs.split(256)])  # type: ignore[no-untyped-call]
        figures = figures_of(run, [(batch, outputs)])
    if not bool(outputs.isfinite().all()):
        said = f"the outputs are not finite after {made} updates with shuffled labels: lower optimizer.lr"
        return Finding("not applicable", "chance on validation samples", said)
    seen = right(run, outputs, batch.targets)
    count = len(batch)
    if spec.task == "regression":
        # The R2 of a useless prediction is 0 or less; that of one fitted to so many samples by chance is little more.
        bound, chance, what = _SIGMA * math.sqrt(2 / count), 0.0, "R2"
    else:
        chance = chance_of(spec.task, batch.targets)
        bound, what = chance + _SIGMA * math.sqrt(chance * (1 - chance) / count), "accuracy"
    expected = f"validation {what} at most {bound:.3g}: chance is {chance:.3g}"
    said = f"{seen:.3g} on {count} samples, after {made} updates with shuffled labels"
    found = {
        what: seen,
        "bound": bound,
        "updates": made,
        "metrics": {k: v for k, v in figures.items() if math.isfinite(v)},
    }
    if seen > bound:
        cure = (
            "validation labels reach the training: look for samples of one split in the other, and for what sees both"
        )
        return Finding("bad", expected, said, cure, found)
    told = figures.get(what if what == "accuracy" else "r2")
    if told is not None and told > max(bound, seen + 0.01):
        said += f"; the metric '{what.lower()}' says {told:.3g}"
        cure = f"the metric counts wrongly: {seen:.3g} is right"
        return Finding("bad", expected, said, cure, found)
    return Finding("good", expected, said, "", found)


def chance_of(task: str, targets: Tensor) -> float:
    """The share of the largest class, which is right for who knows nothing of the samples."""
    if task == "binary":  # one number a sample, which may be a probability
        classes = targets > 0.5
    elif targets.is_floating_point() and targets.ndim > 1:  # probabilities
        classes = targets.argmax(-1)
    else:
        classes = targets
    return float(classes.flatten().long().bincount().max()) / classes.numel()


class Shuffled(Datasets):
    """Data whose targets have changed places within each split."""

    def __init__(self, inner: Datasets) -> None:
        super().__init__()
        self._inner = inner

    def get(self, builder: Builder, seed: int, make: Callable[[], Dataset]) -> Dataset:
        """The data set of the recipe, shuffled."""
        return shuffled(self._inner.get(builder, seed, make))

    def known(self, dataset: Dataset) -> bool:
        """Whether it was checked before: the same samples were."""
        return False


def shuffled(dataset: Dataset) -> Dataset:
    """The data set with targets that belong to other samples of the same split."""
    splits = {
        name: dataclasses.replace(split, targets=split.targets[permutation(len(split), "shuffled", name)])
        for name, split in dataset.splits.items()
    }
    recut = dataset.recut
    if recut is None:
        return dataclasses.replace(dataset, splits=splits)
    again = recut

    def anew(cut: Mapping[str, Tensor]) -> Dataset:
        return shuffled(again(cut))

    return dataclasses.replace(dataset, splits=splits, recut=anew)
