"""A small batch computed both ways: what of a model no lane can take shows there."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from trainkit.lanes.dropout import MASKED, Calls
from trainkit.lanes.vector import Vector
from trainkit.run import Batch, Run
from trainkit.seeding import put_back_generators, random_generators
from trainkit.steps import implemented, training_loss

SAMPLES = 4
# Other orders of adding differ by some rounding; a wrong result differs by its own size.
TOLERANCE = 1e-2


def differing(run: Run) -> str:
    """Why the model or the loss cannot be computed for several lanes at once; empty if they can.

    Nothing of the run changes, and no random number of it is used up.

    Raises:
        Exception: what making a batch or computing the run by itself raises; its own updates may raise it too.
    """
    before = random_generators(run.device)
    try:
        return _differing(run, small_batch(run))
    finally:
        put_back_generators(before, run.device)


def _differing(run: Run, batch: Batch) -> str:
    try:
        lanes = [_copied(run.model, factor) for factor in (1.0, 0.9)]
    except Exception as error:
        return f"the model cannot be copied ({one_line(error)})"
    loss_of = training_loss(run)
    begin = _states()
    context: Callable[[], contextlib.AbstractContextManager[Any]] = _exactly
    try:
        with context():
            alone = [_alone(run, model, batch, loss_of) for model in lanes]
    except Exception:  # a model may be made for its own number format alone
        context, lanes = run.precision.context, [_copied(run.model, factor) for factor in (1.0, 0.9)]
        with context():
            alone = [_alone(run, model, batch, loss_of) for model in lanes]
    if _states() != begin:
        return "the model or the loss draws random numbers in a way of its own"
    trained = {id(parameter) for group in run.optimizer.param_groups for parameter in group["params"]}
    names = [name for name, parameter in run.model.named_parameters() if id(parameter) in trained]
    if idle := [name for name, gradient in zip(names, alone[0][1], strict=True) if gradient is None]:
        return f"{idle[0]} gets no gradient, and joins the updates when it gets one"
    try:
        if context is _exactly and run.precision.dtype is not None:
            with run.precision.context():
                _together(run, batch, loss_of)
        with context():
            losses, gradients, buffers = _together(run, batch, loss_of)
    except Exception as error:
        return f"the model or the loss cannot be computed for several lanes at once ({one_line(error)})"
    for lane, (loss, own, held) in enumerate(alone):
        pairs = [(losses[lane], loss), *zip([part[lane] for part in gradients], own, strict=True)]
        pairs += zip([part[lane] for part in buffers], held, strict=True)
        if not all(_near(found, expected) for found, expected in pairs):
            return "the model or the loss gives other results where several lanes are computed at once"
    return ""


@contextlib.contextmanager
def _exactly() -> Iterator[None]:
    """Compute in float32: with numbers of half the bits, two right results differ by more than a wrong one may."""
    cudnn = torch.backends.cudnn
    with cudnn.flags(cudnn.enabled, cudnn.benchmark, cudnn.benchmark_limit, cudnn.deterministic, allow_tf32=False):
        yield


def small_batch(run: Run) -> Batch:
    """The first samples of the epoch that a run is in; random numbers may be used up."""
    batches = run.feed.train(run.epoch)
    try:
        batch = next(iter(batches))
    finally:
        close = getattr(batches, "close", None)
        if close is not None:
            close()
    return Batch(batch.inputs[:SAMPLES], batch.targets[:SAMPLES], batch.index[:SAMPLES])


def _copied(model: nn.Module, factor: float) -> nn.Module:
    """A copy with other weights, in training mode, whose dropouts leave nothing out."""
    copied = copy.deepcopy(model).train()
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.mul_(factor)
    dropouts: list[Any] = [module for module in copied.modules() if type(module) in MASKED]
    for module in dropouts:
        module.__class__ = MASKED[type(module)]
        module.masks = Calls(dropouts)
    return copied


def _alone(
    run: Run, model: nn.Module, batch: Batch, loss_of: Callable[[Tensor, Batch], Tensor]
) -> tuple[Tensor, list[Any], list[Tensor]]:
    own = [copied for copied, parameter in _pairs(model, run) if copied.requires_grad and parameter]
    loss = loss_of(model(batch.inputs), batch)
    gradients = torch.autograd.grad(loss, own, allow_unused=True)
    return loss.detach(), list(gradients), list(model.buffers())


def _pairs(model: nn.Module, run: Run) -> list[tuple[Tensor, bool]]:
    """The parameters of a copy, and whether the optimizer has them."""
    trained = {id(parameter) for group in run.optimizer.param_groups for parameter in group["params"]}
    parameters = zip(model.parameters(), run.model.parameters(), strict=True)
    return [(copied, id(parameter) in trained) for copied, parameter in parameters]


def _together(
    run: Run, batch: Batch, loss_of: Callable[[Tensor, Batch], Tensor]
) -> tuple[Tensor, tuple[Tensor, ...], list[Tensor]]:
    vector = Vector(run)
    vector.model.train()
    factors = torch.tensor([1.0, 0.9], device=run.device)
    parameters = []
    for parameter in run.model.parameters():
        room = factors.to(parameter.dtype).view(2, *[1] * parameter.dim())
        stacked = (parameter.detach() * room).requires_grad_(parameter.requires_grad)
        parameters.append(stacked)
    leaves = [tensor for tensor, (_, trained) in zip(parameters, _pairs(run.model, run), strict=True) if trained]
    buffers = [torch.stack([buffer.detach(), buffer.detach()]) for buffer in run.model.buffers()]
    masks = [
        torch.ones((2, *call.shape), dtype=call.dtype, device=call.device) for call in vector.calls(run, batch.inputs)
    ]
    owned = implemented(run, "trainkit_loss") is not None
    outputs, losses = vector.compute(
        parameters,
        buffers,
        batch.inputs,
        True,
        masks,
        None if owned else lambda output, more: run.loss(output, more[0]),
        () if owned else [batch.targets],
        () if owned else [True],
    )
    if owned:
        losses = torch.stack([loss_of(output, batch) for output in outputs.unbind(0)])
    return losses.detach(), torch.autograd.grad(losses, leaves, torch.ones_like(losses)), buffers


def _near(found: Tensor, expected: Tensor) -> bool:
    found, expected = found.detach().double(), expected.detach().double()
    if found.shape != expected.shape:
        return False
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    return bool(torch.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE * scale + 1e-6, equal_nan=True))


def _states() -> tuple[Any, ...]:
    return random.getstate(), repr(numpy.random.get_state()), torch.get_rng_state().numpy().tobytes()


def one_line(error: BaseException) -> str:
    """What an error says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}"[:200] if lines else type(error).__name__
