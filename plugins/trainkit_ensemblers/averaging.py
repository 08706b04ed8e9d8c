"""Means of weights: what they are made of, and whether weights of several members may be averaged at all."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from trainkit import Member, UsageError, Validation, weights_of

Weights = Mapping[str, Tensor]


def blended(each: Sequence[Weights], shares: Sequence[float]) -> dict[str, Tensor]:
    """A mean of weights, summed in float64; what is not a floating-point number is that of the last.

    Args:
        each: weights by the same names.
        shares: what each weighs, adding up to 1.
    """
    found = {}
    for name, last in each[-1].items():
        if not last.is_floating_point():
            found[name] = last.clone()
            continue
        total = torch.zeros_like(last, dtype=torch.float64)
        for weights, share in zip(each, shares, strict=True):
            total += share * weights[name].double()
        found[name] = total.to(last.dtype)
    return found


def moving_shares(count: int, decay: float, ramp: bool) -> list[float]:
    """What each of so many weights weighs in their exponential moving average, which begins with the first.

    ``mean = d mean + (1 - d) weights`` for each further one, d being ``decay``, or with ``ramp`` at most
    ``(1 + t) / (10 + t)`` at averaging t, counted from 1.
    """
    shares = [1.0]
    for averaging in range(1, count):
        kept = min(decay, (1 + averaging) / (10 + averaging)) if ramp else decay
        shares = [*(kept * share for share in shares), 1 - kept]
    return shares


def averaged_module(members: Sequence[Member], shares: Sequence[float], validation: Validation) -> nn.Module:
    """A module with the mean weights of members, its BatchNorm statistics measured again.

    The statistics of a layer that are the same in all members stay: they were fixed while the members were trained.

    Args:
        members: of the same structure.
        shares: what each weighs.
        validation: measures the statistics.
    """
    each = [weights_of(member.module) for member in members]
    module = copy.deepcopy(members[-1].module)
    _put(module, blended(each, shares))
    fixed = {
        name: last.clone()
        for name, last in each[-1].items()
        if name.rpartition(".")[2] in ("running_mean", "running_var")
        and all(torch.equal(weights[name], last) for weights in each)
    }
    if validation.renew(module):
        _put(module, fixed)
    return module


def _put(module: nn.Module, weights: Weights) -> None:
    own = weights_of(module)
    with torch.no_grad():
        for name, tensor in weights.items():
            own[name].copy_(tensor)


# ------------------------------------------------------------ whether they may be averaged


def check_structure(members: Sequence[Member]) -> None:
    """Refuse members whose weights do not stand for the same thing.

    Raises:
        UsageError: naming two members and the first parameter, layer or number that differs.
    """
    first = members[0]
    for other in members[1:]:
        if why := _difference(first, other):
            raise UsageError(
                f"the weights of {other.name} and {first.name} cannot be averaged: {why}\n"
                '  average what they give instead (use = "seeds" or "greedy"), or leave one of them out'
            )


def _difference(one: Member, other: Member) -> str:
    ours, theirs = weights_of(one.module), weights_of(other.module)
    for name, tensor in ours.items():
        if (twin := theirs.get(name)) is None:
            return f"'{name}' is in {one.name} alone"
        if (tensor.shape, tensor.dtype) != (twin.shape, twin.dtype):
            return f"'{name}' is {_form(twin)} in one, {_form(tensor)} in the other"
    if more := [name for name in theirs if name not in ours]:
        return f"'{more[0]}' is in {other.name} alone"
    for (name, kind), (_, twin_kind) in zip(_layers(one.module), _layers(other.module), strict=False):
        if kind is not twin_kind:
            return f"layer '{name}' is {twin_kind.__name__} in one, {kind.__name__} in the other"
    for what, number, same in (
        ("inputs", (one.spec.input_mean, one.spec.input_std), (other.spec.input_mean, other.spec.input_std)),
        ("targets", (one.spec.target_mean, one.spec.target_std), (other.spec.target_mean, other.spec.target_std)),
    ):
        if number != same:
            return f"their {what} were standardised by different numbers, as those of other folds or draws are"
    return ""


def _form(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _layers(module: nn.Module) -> list[tuple[str, type[nn.Module]]]:
    """The layers that do anything while a model is evaluated: dropout may differ, a search may vary it."""
    silent = (_DropoutNd, nn.Identity)
    return [(name, type(part)) for name, part in module.named_modules() if not isinstance(part, silent)]


def strangers(members: Sequence[Member]) -> tuple[Member, Member] | None:
    """Two members whose weights have no common ancestor, where not all have one in common; else ``None``."""
    common = _origins(members[0])
    for member in members[1:]:
        own = _origins(member)
        common &= own
        if not common:
            return member, next((other for other in members if not own & _origins(other)), members[0])
    return None


def _origins(member: Member) -> frozenset[str]:
    """What a member's weights come from; checkpoints of one run have that in common."""
    return member.ancestors | ({str(member.folder)} if member.folder is not None else frozenset())


def refuse_strangers(members: Sequence[Member], force: bool) -> None:
    """Refuse members without a common ancestor, unless that is what the user wants to see.

    Raises:
        UsageError: naming two of them.
    """
    found = strangers(members)
    if found is None or force:
        return
    one, other = found
    seeds = [member.recipe.get("seed") for member in found]
    began = f" (seeds {seeds[0]} and {seeds[1]})" if seeds[0] != seeds[1] else ""
    raise UsageError(
        f"the weights of {one.name} and {other.name} have no common ancestor{began}: such weights lie in different "
        "valleys of the loss, and their mean is on the ridge between them\n"
        '  average what the runs give instead (use = "seeds" or "greedy"), or weights of runs that began alike;\n'
        "  force = true does it all the same, and shows how high the ridge is"
    )
