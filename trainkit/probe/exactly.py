"""What is looked at in float64: gradients against differences, and whether samples of a batch touch each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor, nn

from trainkit.feed.order import permutation
from trainkit.probe.finding import Finding
from trainkit.probe.subject import Deadline, Subject, quiet, samples_of, spread
from trainkit.run import Batch, Run
from trainkit.steps import training_loss

SAMPLES = 8
H = 1e-5
# Tried where H does not agree: smaller ones miss a kink, larger ones rise above a model's own rounding.
OTHERS = (1e-6, 1e-7, 1e-4, 1e-3)
# Source of both: https://cs231n.github.io/neural-networks-3/, "Gradient checks".
SUSPICIOUS, WRONG = 1e-4, 1e-2
# Of the loss: a gradient below it drowns in the rounding of the differences.
FLOOR = 1e-6
EACH, MOST_NUMBERS = 4, 240
SECONDS, LEAST_NUMBERS = 12.0, 24
TOUCHED = 1e-6  # of the outputs' size, in float64; kernels may add in another order


class NotExact(Exception):
    """The model does not compute in float64; the text says why."""


def exact(subject: Subject) -> tuple[Run, Batch]:
    """A run whose model and inputs are in float64, and a few samples.

    Raises:
        NotExact: if the model stays in another number format.
    """
    run = subject.build(plain=True).run
    batch = samples_of(run, spread(run, SAMPLES))
    quiet(run.model.double())
    inputs = batch.inputs.double() if batch.inputs.is_floating_point() else batch.inputs
    targets = batch.targets.double() if batch.targets.is_floating_point() else batch.targets
    try:
        with torch.no_grad():
            outputs = run.model(inputs)
    except RuntimeError as error:
        raise NotExact(f"the model does not compute in float64: {(str(error).splitlines() or [''])[0]}") from error
    if outputs.dtype != torch.float64:
        raise NotExact(f"the model computes in {str(outputs.dtype).removeprefix('torch.')} whatever it is given")
    return run, Batch(inputs, targets, batch.index)


# ---------------------------------------------------------------- gradients


@dataclass
class _Entry:
    """One number of one parameter: its gradient, and the difference that comes nearest to it."""

    name: str
    place: int
    analytic: float
    numeric: float
    error: float


def gradient_check(subject: Subject) -> Finding:
    """Compare gradients with centred differences of the loss, in float64, for numbers of every parameter."""
    expected = f"relative error at most {SUSPICIOUS:g}, in float64, h = {H:g}"
    try:
        run, batch = exact(subject)
    except NotExact as error:
        return Finding("not applicable", expected, str(error))
    loss = _Loss(run, batch)
    owned = {name: parameter for name, parameter in run.model.named_parameters() if parameter.requires_grad}
    value = loss.value()
    if not math.isfinite(value):
        return Finding("not applicable", expected, f"the loss of these samples is {value}")
    if value != loss.value():
        return Finding("not applicable", expected, "the loss of the same samples differs from call to call")
    gradients: Sequence[Tensor | None] = torch.autograd.grad(loss.compute(), list(owned.values()), allow_unused=True)
    found: list[_Entry] = []
    deadline = Deadline(SECONDS, LEAST_NUMBERS)
    held = dict(zip(owned, map(_dense, gradients), strict=True))
    for name, place in _places(owned, held):
        gradient = held[name]
        analytic = 0.0 if gradient is None else float(gradient.flatten()[place])
        found.append(_compare(loss, name, owned[name], place, analytic, FLOOR * max(1.0, abs(value))))
        if deadline.over():
            break
    worst = max(found, key=lambda entry: entry.error)
    seen = (
        f"at most {worst.error:.2g}, in {len(found)} numbers of {len({entry.name for entry in found})} parameters"
        f" ({worst.name}[{worst.place}]: {worst.analytic:.6g} by backward, {worst.numeric:.6g} by difference)"
    )
    figures = {"largest": worst.error, "parameter": worst.name, "numbers": len(found)}
    if worst.error > WRONG:
        bad = list(dict.fromkeys(entry.name for entry in found if entry.error > WRONG))
        names = ", ".join(bad[:3]) + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")
        cure = f"the backward pass is wrong on the way to {names}: look at detach(), .data, and backward() of one's own"
        return Finding("bad", expected, seen, cure, figures | {"wrong": bad})
    if worst.error > SUSPICIOUS:
        cure = "kinks near these weights may give that; a backward pass of one's own that rounds does, too"
        return Finding("doubtful", expected, seen, cure, figures)
    return Finding("good", expected, seen, "", figures)


def _dense(gradient: Tensor | None) -> Tensor | None:
    return gradient.to_dense() if gradient is not None and gradient.is_sparse else gradient


class _Loss:
    """The training loss as a function of the weights alone: random numbers and buffers stay as they are."""

    def __init__(self, run: Run, batch: Batch) -> None:
        self._run, self._batch = run, batch
        self._of = training_loss(run)
        self._buffers = [(buffer, buffer.clone()) for buffer in run.model.buffers()]
        self._state = torch.random.get_rng_state()

    def compute(self) -> Tensor:
        """The loss, with what its gradient needs."""
        torch.random.set_rng_state(self._state)
        with torch.no_grad():
            for buffer, held in self._buffers:
                buffer.copy_(held)
        return self._of(self._run.model(self._batch.inputs), self._batch)

    def value(self) -> float:
        """The loss as a number."""
        with torch.no_grad():
            return float(self.compute())


def _places(owned: dict[str, nn.Parameter], gradients: dict[str, Tensor | None]) -> Iterator[tuple[str, int]]:
    """Numbers to look at: of each parameter those with the largest gradients, and some at random; parameters in turns.

    The last parameters come first: what is wrong near the head is wrong in all that lies before it.
    """
    each = max(1, min(EACH, MOST_NUMBERS // max(1, len(owned))))
    rows: list[list[tuple[str, int]]] = []
    for name, parameter in owned.items():
        count, gradient = parameter.numel(), gradients[name]
        if not count:
            continue
        large = [] if gradient is None else gradient.flatten().abs().topk(min(count, (each + 1) // 2)).indices.tolist()
        random = permutation(count, "probe", name)[:each].tolist() if count < 1 << 22 else [count // 3, count // 2]
        rows.append([(name, place) for place in dict.fromkeys([*large, *random])][:each])
    for turn in range(each):
        yield from (row[turn] for row in reversed(rows) if turn < len(row))


def _compare(loss: _Loss, name: str, parameter: nn.Parameter, place: int, analytic: float, floor: float) -> _Entry:
    index = tuple(int(at) for at in numpy.unravel_index(place, tuple(parameter.shape)))
    spot = parameter.data[index]  # a view, whatever the layout
    before = float(spot)
    best = _Entry(name, place, analytic, math.nan, math.inf)
    for h in (H, *OTHERS):
        values = []
        for side in (before + h, before - h):
            spot.fill_(side)
            values.append(loss.value())
        spot.fill_(before)
        numeric = (values[0] - values[1]) / (2 * h)
        error = abs(analytic - numeric) / max(abs(analytic), abs(numeric), floor)
        if error < best.error or math.isinf(best.error):
            best = _Entry(name, place, analytic, numeric, error if math.isfinite(error) else math.inf)
        if best.error <= SUSPICIOUS:
            break
    return best


# ---------------------------------------------------------------- samples of a batch


def batch_independence(subject: Subject) -> Finding:
    """Exchange all samples of a batch but one: in evaluation, the outputs for that one must stay as they are.

    Source: Karpathy 2019, "A Recipe for Training Neural Networks", "use backprop to chart dependencies".
    """
    expected = "no output changes where the other samples do, in evaluation"
    try:
        run, batch = exact(subject)
        limit = TOUCHED
    except NotExact:
        run = subject.build(plain=True).run
        batch, limit = samples_of(run, spread(run, SAMPLES)), 1e-3
    if len(batch) < 3:
        return Finding("not applicable", expected, "there are too few samples")
    run.model.eval()
    inputs = batch.inputs
    with torch.no_grad():
        torch.manual_seed(0)
        whole = run.model(inputs)
        scale = float(whole.double().abs().max()) or 1.0
        if not math.isfinite(scale):
            return Finding("not applicable", expected, "the outputs are not finite")
        touched = []
        for number in range(len(batch)):
            others = inputs.roll(1, 0).clone()
            others[number] = inputs[number]
            torch.manual_seed(0)
            outputs = run.model(others)
            if outputs.shape[:1] != whole.shape[:1]:
                said = f"{len(outputs)} rows of outputs come of {len(others)} samples, else {len(whole)}"
                return Finding("bad", expected, said, "give one row of outputs for each sample")
            touched.append(float((outputs[number] - whole[number]).double().abs().max()) / scale)
    most = max(touched)
    figures = {"largest_change": most}
    if not most <= limit:
        seen = f"outputs change by up to {100 * most:.3g} % of the largest"
        cure = (
            "the model mixes samples: look for a view or reshape that moves the batch's dimension, a softmax or mean "
            "over dimension 0, and norms that take the batch's statistics in evaluation"
        )
        return Finding("bad", expected, seen, cure, figures)
    seen = f"outputs change by at most {most:.1g} of the largest" if most else "no output changes, to the last bit"
    return Finding("good", expected, seen, "", figures)
