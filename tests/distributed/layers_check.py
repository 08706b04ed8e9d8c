"""Layers that look at whole batches, each process giving its share: held against torch's own in one process."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from trainkit.distributed import Group
from trainkit.distributed.batchnorm import exchange_of, synchronise

# name, rows of each batch, what a sample is like, settings of the layer, number format
NORMS: dict[str, tuple[list[int], tuple[int, ...], dict[str, Any], torch.dtype]] = {
    "even 1d": ([8, 8], (5,), {}, torch.float64),
    "uneven 1d": ([9, 7], (5,), {}, torch.float64),
    "1d of signals": ([9, 6], (5, 7), {}, torch.float64),
    "2d": ([9, 7], (3, 4, 5), {}, torch.float64),
    "3d": ([9, 6], (3, 2, 3, 2), {}, torch.float64),
    "no share": ([8, 3, 2], (3, 4, 4), {}, torch.float64),
    "single row": ([8, 1], (3, 4, 4), {}, torch.float64),
    "cumulative": ([8, 9, 5], (5,), {"momentum": None}, torch.float64),
    "no statistics": ([8, 7], (5,), {"track_running_stats": False}, torch.float64),
    "not affine": ([8, 7], (5,), {"affine": False}, torch.float64),
    "float32": ([9, 7, 8], (3, 4, 4), {}, torch.float32),
    "channels last": ([9, 7], (4, 4, 4), {}, torch.float64),
    "far from zero": ([9, 7], (5,), {}, torch.float32),
}
LAYERS = {1: nn.BatchNorm1d, 2: nn.BatchNorm1d, 3: nn.BatchNorm2d, 4: nn.BatchNorm3d}


def norms(group: Group) -> dict[str, Any]:
    """By name of the case, the largest difference from torch's layer in one process, and whether all else is alike."""
    return {name: _norm(group, name) for name in NORMS}


def _norm(group: Group, name: str) -> dict[str, Any]:
    rows, sample, settings, kind = NORMS[name]
    random = torch.Generator().manual_seed(7)
    layer = LAYERS[len(sample)](sample[0], dtype=kind, **settings)
    if layer.affine:
        with torch.no_grad():
            layer.weight.uniform_(0.5, 2, generator=random)
            layer.bias.uniform_(-1, 1, generator=random)
    alone = copy.deepcopy(layer)
    model = nn.Sequential(layer)
    names = list(model.state_dict())
    assert synchronise(model, group) == []
    model = copy.deepcopy(model)  # as averages of weights copy it; it sums with the same processes
    exchange = exchange_of(model)
    assert exchange is not None
    assert exchange.group is group
    far, worst = 3000.0 if name == "far from zero" else 0.0, 0.0
    for count in rows:
        whole = torch.randn(count, *sample, dtype=kind, generator=random) * 3 + far
        slope = torch.randn(count, *sample, dtype=kind, generator=random)
        if name == "channels last":
            whole = whole.contiguous(memory_format=torch.channels_last)
        first, end = group.share.taken(count)
        real = group.share.bounds(count)
        exchange.padding = real[0] == real[1]
        given, expected = (part.clone().requires_grad_() for part in (whole[first:end], whole))
        for one in (model, alone):
            one.zero_grad()
        outputs, right = model(given), alone(expected)
        (outputs * slope[first:end]).sum().mul(not exchange.padding).backward()
        (right * slope).sum().backward()
        assert outputs.dtype is right.dtype
        if name == "channels last":
            assert outputs.is_contiguous(memory_format=torch.channels_last)
        pairs: list[tuple[Tensor | None, Tensor | None]] = []
        if exchange.padding:
            assert given.grad is not None
            assert not given.grad.any()
            assert all(not parameter.grad.any() for parameter in model.parameters() if parameter.grad is not None)
        else:
            pairs += [(outputs, right[first:end]), (given.grad, expected.grad[first:end])]  # type: ignore[index]
        for own, whole_one in zip(model.parameters(), alone.parameters(), strict=True):
            pairs.append((group.sum_(own.grad.clone()), whole_one.grad))  # type: ignore[union-attr]
        pairs += list(zip(model.buffers(), alone.buffers(), strict=True))
        worst = max([worst, *(apart(*pair) for pair in pairs)])
    # In evaluation it is the layer that it was; without statistics it has those of the batch alone.
    model.eval()
    alone.eval()
    if layer.track_running_stats:
        worst = max(worst, apart(model(whole), alone(whole)))
    else:
        exchange.measuring, exchange.padding = True, False
        worst = max(worst, apart(model(whole[slice(*group.share.bounds(len(whole)))]), alone(whole)[slice(*real)]))
    buffers = [buffer.double().flatten() for buffer in model.buffers()]
    seen = group.all_of(torch.cat(buffers).tolist() if buffers else [])
    return {
        "apart": max(group.all_of(worst)),
        "same names": list(model.state_dict()) == names,
        "same bits": all(one == seen[0] for one in seen),
    }


def apart(one: Tensor | None, other: Tensor | None) -> float:
    """How far two tensors are apart, in units of the larger."""
    assert one is not None
    assert other is not None
    assert one.shape == other.shape
    scale = max(1.0, float(other.detach().double().abs().max()))
    return float((one.detach().double() - other.detach().double()).abs().max()) / scale


def too_few(group: Group) -> dict[str, Any]:
    """What a BatchNorm says of a whole batch of one row, which has no variance."""
    model = nn.Sequential(nn.BatchNorm1d(3))
    synchronise(model, group)
    exchange = exchange_of(model)
    assert exchange is not None
    exchange.padding = group.rank > 0
    try:
        model(torch.ones(1, 3))
    except ValueError as error:
        said = str(error)
    else:
        said = ""
    return {"said": group.all_of(said)}


def compiled(group: Group) -> dict[str, Any]:
    """As `norms`, of a compiled model, whose graphs know neither of other processes nor of empty shares."""
    random = torch.Generator().manual_seed(3)
    model = nn.Sequential(nn.BatchNorm1d(4, dtype=torch.float64))
    alone = copy.deepcopy(model)
    synchronise(model, group, compiled=True)
    exchange = exchange_of(model)
    assert exchange is not None
    fast = torch.compile(model, backend="eager")
    worst = 0.0
    for count in (8, 3, 8):  # of three samples one of four processes has none
        whole = torch.randn(count, 4, dtype=torch.float64, generator=random)
        first, end = group.share.taken(count)
        real = group.share.bounds(count)
        exchange.padding = real[0] == real[1]
        outputs, right = fast(whole[first:end]), alone(whole)
        if not exchange.padding:
            worst = max(worst, apart(outputs, right[first:end]))
    worst = max([worst, *(apart(*pair) for pair in zip(model.buffers(), alone.buffers(), strict=True))])
    return {"apart": max(group.all_of(worst))}
