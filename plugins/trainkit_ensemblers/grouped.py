"""A model's layers made wider and split into groups, one for each member."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from trainkit import DataSpec
from trainkit_ensemblers.several import Several, check_plain, replace, sizes_of

_WEIGHTS = (nn.Linear, nn.Conv2d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)
_CURE = (
    'choose one whose layers keep channels apart: linear, mlp, convnet, resnet with shortcut = "B"; or batch_ensemble'
)


class GroupedLinear(nn.Module):
    """A linear layer whose outputs see the inputs of their own group alone.

    Args:
        inputs: of all groups together.
        outputs: of all groups together.
        groups: how many; both numbers are multiples of it.
        bias: whether there is one.
    """

    def __init__(self, inputs: int, outputs: int, groups: int, bias: bool) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(outputs, inputs // groups))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``(batch, inputs)`` to ``(batch, outputs)``."""
        rows = inputs.reshape(inputs.shape[0], self.groups, -1).transpose(0, 1)  # (groups, batch, inputs of a group)
        weight = self.weight.reshape(self.groups, -1, self.weight.shape[1]).transpose(1, 2)
        outputs = torch.bmm(rows, weight).transpose(0, 1).flatten(1)
        return outputs if self.bias is None else outputs + self.bias


class Packed(Several):
    """A model whose channels belong to members, one block after the other."""

    def each(self, inputs: Tensor) -> Tensor:
        """What each member gives, ``(members, batch, outputs)``."""
        outputs: Tensor = self.net(inputs)
        return outputs.reshape(outputs.shape[0], self.members, -1).transpose(0, 1)


def pack(net: nn.Module, spec: DataSpec, members: int, alpha: float, gamma: int) -> Packed:
    """Make members of a model; see `trainkit_ensemblers.packed`.

    Raises:
        ValueError: if its layers cannot be split, or members would see each other's channels.
    """
    check_plain(net, "packed")
    samples = torch.linspace(-1, 1, 2 * math.prod(spec.input_shape)).reshape(2, *spec.input_shape)
    layers = _in_order(net, samples)
    weights = [name for name, part in layers if isinstance(part, _WEIGHTS)]
    if not weights:
        raise ValueError(f"the model in 'of' has no linear and no convolutional layer\n  {_CURE}")
    split = members * gamma

    def wide(channels: int) -> int:
        return math.ceil(channels * alpha / split) * split

    for name, part in layers:
        # What comes to it from those that were widened before: of an image laid flat, more than its channels.
        inputs = _channels_before(net, part, samples)
        if isinstance(part, nn.Linear | nn.Conv2d):
            last = name == weights[-1]
            groups = 1 if name == weights[0] else members if last else split
            outputs = members * sizes_of(part)[1] if last else wide(sizes_of(part)[1])
            replace(net, name, _grouped(part, name, inputs, outputs, groups))
        else:
            replace(net, name, _norm(part, name, inputs, members))
    made = Packed(net, members, spec)
    _check_apart(made, samples)
    return made


class _Reached(Exception):
    """A layer was called with so many channels."""


def _forward(net: nn.Module, samples: Tensor) -> Tensor:
    """The outputs in evaluation mode; what shapes do not fit is the model's fault.

    Raises:
        ValueError: if they do not.
    """
    training = net.training
    try:
        with torch.random.fork_rng(devices=[]):
            outputs: Tensor = net.eval()(samples)
            return outputs
    except (RuntimeError, IndexError) as error:
        said = (str(error).splitlines() or ["no message"])[0]
        raise ValueError(
            f"the model in 'of' counts on the number of its channels, which packed multiplies: {said}\n  {_CURE}"
        ) from error
    finally:
        net.train(training)


def _in_order(net: nn.Module, samples: Tensor) -> list[tuple[str, nn.Module]]:
    """Layers with weights and norms by name, in the order in which they are first called."""
    named = dict(net.named_modules())
    for name, part in named.items():
        own = dict(part.named_parameters(recurse=False))
        if own and not isinstance(part, (*_WEIGHTS, *_NORMS)):
            raise ValueError(f"the model in 'of' has {name or 'a layer'} ({type(part).__name__}), unknown\n  {_CURE}")
        if isinstance(part, (*_WEIGHTS, *_NORMS)) and not name:
            raise ValueError("the model in 'of' is one layer by itself\n  choose one with layers inside: linear, mlp")
    called: dict[str, nn.Module] = {}

    def noted(name: str) -> Callable[[nn.Module, Any], None]:
        return lambda part, _: None if name in called else called.update({name: part})

    parts = [(name, part) for name, part in named.items() if isinstance(part, (*_WEIGHTS, *_NORMS))]
    hooks = [part.register_forward_pre_hook(noted(name)) for name, part in parts]
    try:
        with torch.no_grad():
            _forward(net, samples)
    finally:
        for hook in hooks:
            hook.remove()
    return list(called.items())


def _channels_before(net: nn.Module, part: nn.Module, samples: Tensor) -> int:
    """How many channels a layer is given."""

    def reached(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        raise _Reached(given[0].shape[1], given[0].dim())

    hook = part.register_forward_pre_hook(reached)
    try:
        with torch.no_grad():
            _forward(net, samples)
    except _Reached as found:
        channels, dimensions = found.args
        if isinstance(part, nn.Linear) and dimensions != 2:
            raise ValueError(f"the model in 'of' has a linear layer over {dimensions} dimensions\n  {_CURE}") from None
        return int(channels)
    finally:
        hook.remove()
    raise AssertionError("a layer that was called is called again")


def _grouped(layer: nn.Linear | nn.Conv2d, name: str, inputs: int, outputs: int, groups: int) -> nn.Module:
    """The layer with other numbers of channels, in groups; its weights keep the variance that outputs have."""
    made: GroupedLinear | nn.Conv2d | nn.Linear
    bias, before = layer.bias is not None, layer.weight[0].numel()
    if inputs % groups:
        raise ValueError(f"{inputs} channels come to {name} of the model in 'of', not one share a member\n  {_CURE}")
    if isinstance(layer, nn.Linear):
        made = nn.Linear(inputs, outputs, bias) if groups == 1 else GroupedLinear(inputs, outputs, groups, bias)
    elif layer.groups != 1:
        raise ValueError(f"{name} of the model in 'of' has groups already\n  {_CURE}")
    else:
        same: Any = {
            key: getattr(layer, key) for key in ("kernel_size", "stride", "padding", "dilation", "padding_mode")
        }
        made = nn.Conv2d(inputs, outputs, groups=groups, bias=bias, **same)
    with torch.no_grad():
        spread = float(layer.weight.std(correction=0)) * math.sqrt(before / made.weight[0].numel())
        made.weight.normal_(0, spread)
        if layer.bias is not None and made.bias is not None:
            made.bias.normal_(0, float(layer.bias.square().mean().sqrt()))
    return made


def _norm(norm: nn.Module, name: str, channels: int, members: int) -> nn.Module:
    """The norm over other numbers of channels, each member's by themselves."""
    made: nn.Module
    if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
        made = type(norm)(channels, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    elif isinstance(norm, nn.LayerNorm) and len(norm.normalized_shape) == 1:
        made = nn.GroupNorm(members, channels, norm.eps, norm.elementwise_affine)
    elif isinstance(norm, nn.GroupNorm) and channels % (norm.num_groups * members) == 0:
        made = nn.GroupNorm(norm.num_groups * members, channels, norm.eps, norm.affine)
    else:
        raise ValueError(f"{name} ({type(norm).__name__}) of the model in 'of' cannot be split\n  {_CURE}")
    with torch.no_grad():  # they begin alike for all channels, some at zero
        for new, old in zip(made.parameters(), norm.parameters(), strict=False):
            new.fill_(float(old.mean()))
    return made


def _check_apart(model: Packed, samples: Tensor) -> None:
    """Refuse a model in which one member's outputs depend on another's weights."""
    training = model.training
    model.eval()
    try:
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):  # also where it is built to predict alone
            given = model.each(samples)
            if given.shape[1] != len(samples):
                raise ValueError(f"the model in 'of' makes outputs of the shape {tuple(given.shape[1:])}\n  {_CURE}")
            named = list(model.net.named_parameters())
            slopes = torch.autograd.grad(given[0].sum(), [value for _, value in named], allow_unused=True)
    except (RuntimeError, IndexError) as error:
        said = (str(error).splitlines() or ["no message"])[0]
        raise ValueError(f"the model in 'of' cannot be packed: {said}\n  {_CURE}") from error
    finally:
        model.train(training)
    for (name, _), slope in zip(named, slopes, strict=True):
        if slope is not None and bool(slope.reshape(model.members, -1)[1:].any()):
            raise ValueError(f"the model in 'of' mixes the channels of members behind {name}\n  {_CURE}")
