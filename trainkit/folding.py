"""Evaluations with BatchNorm folded into the convolution or linear layer before it: one operation instead of two.

In evaluation a BatchNorm multiplies and adds fixed numbers, which its convolution's weights can take over. Which
convolution that is, no walk over the modules can tell. So two samples go through the model while every result of a
convolution is watched, and in each evaluation a folded result is a tensor that only its BatchNorm can open (`sealed`).
Whatever else touches it is given the convolution's plain result. A model's control flow may therefore depend on data.

The model itself stays as it is: for the time of a call, modules are given another ``forward``.

Source: Jacob et al. 2018, section 3.2 ("batch normalization folding"); arXiv 1712.05877. `torch.nn.utils.fusion` has
the arithmetic.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import is_
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks
from torch.nn.utils.fusion import fuse_conv_bn_weights

from trainkit.distributed.batchnorm import SYNCED
from trainkit.errors import RunError
from trainkit.sealed import Sealed, unsealed

Forward = Callable[[Tensor], Tensor]

# Exactly these classes: one that derives from them may compute something else. The number is that of a batch's
# dimensions, with which a BatchNorm behind it normalises what the weights' first dimension makes.
LAYERS = {nn.Linear: 2, nn.Conv1d: 3, nn.Conv2d: 4, nn.Conv3d: 5}
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, *SYNCED.values())  # these too evaluate as torch's own do
# Folding takes about 60 microseconds a pair and evaluation, as long as normalising this many numbers.
LEAST_NUMBERS = 1 << 18


@dataclass(eq=False)
class Pair:
    """A layer and the BatchNorm that alone is given what it makes.

    Args:
        layer: the convolution or linear layer.
        norm: the BatchNorm.
        name: the BatchNorm's name in the model.
        numbers: what the layer makes of one sample.
    """

    layer: Any
    norm: _BatchNorm
    name: str
    numbers: int


@contextlib.contextmanager
def _given(forwards: list[tuple[nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    """Let modules have other ``forward``s for a while."""
    for module, forward in forwards:
        vars(module)["forward"] = forward  # `setattr` looks for parameters first and costs as much as a small layer
    try:
        yield
    finally:
        for module, _ in forwards:
            vars(module).pop("forward", None)


@dataclass
class Folding:
    """Which BatchNorms of a model can be folded, and evaluations in which they are.

    Args:
        model: the model.
        say: tells the user something.
        pairs: found by `watch`.
    """

    model: nn.Module
    say: Callable[[str], None]
    pairs: list[Pair] = field(default_factory=list)
    _mixed: set[_BatchNorm] = field(default_factory=set)  # BatchNorms that are given other inputs too
    _others: dict[str, str] = field(default_factory=dict)  # BatchNorms that stay, and why
    _said: set[str] = field(default_factory=set)

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Find the pairs while samples go through the model in evaluation mode; nothing is changed or computed anew."""
        layers = [module for module in self.model.modules() if type(module) in LAYERS and not _altered(module)]
        norms = {module: name for name, module in self.model.named_modules() if isinstance(module, _BatchNorm)}
        watched = [norm for norm in norms if not _altered(norm)]
        takers: dict[nn.Module, set[_BatchNorm | None]] = {layer: set() for layer in layers}
        numbers: dict[nn.Module, int] = {}

        def layer_forward(layer: nn.Module) -> Callable[..., Any]:
            plain, numbers[layer] = type(layer).forward, 0

            def forward(input: Tensor) -> Tensor:
                made: Tensor = plain(layer, input)
                if made.dim() != LAYERS[type(layer)]:
                    takers[layer].add(None)
                    return made

                def used() -> Tensor:
                    takers[layer].add(None)
                    return made

                numbers[layer] = max(numbers[layer], made.numel() // max(1, len(made)))
                return Sealed.seal(made, layer, used)

            return forward

        def norm_forward(norm: _BatchNorm) -> Callable[..., Any]:
            def forward(input: Tensor) -> Any:
                if isinstance(input, Sealed) and isinstance(input._maker, nn.Module):
                    takers[input._maker].add(norm)
                    input = input._folded
                else:
                    self._mixed.add(norm)
                return type(norm).forward(norm, input)

            return forward

        self.pairs, self._mixed, self._others = [], set(), {}
        if norms:
            with _given([*((m, layer_forward(m)) for m in layers), *((m, norm_forward(m)) for m in watched)]):
                yield
        else:
            yield
        for layer, found in takers.items():
            (norm, *more) = found or {None}
            if norm is not None and not more:
                self.pairs.append(Pair(layer, norm, norms[norm], numbers[layer]))
        folded = {pair.norm for pair in self.pairs}
        for norm, name in norms.items():
            if norm not in folded:
                self._others[name] = _altered(norm) or (
                    "its inputs are not those of a convolution or linear layer that works for it alone"
                )

    def for_good(self) -> list[Pair]:
        """The pairs that can be folded in a copy of the model: its BatchNorms are given nothing else."""
        return [pair for pair in self.pairs if pair.norm not in self._mixed and not _obstacle(pair)]

    def forward(self, plain: Forward, samples: int, dtype: torch.dtype | None) -> Forward:
        """Fold the weights that the model holds now.

        Args:
            plain: calls the model.
            samples: how many the evaluation has; where there are few, folding costs more than it saves.
            dtype: the number format that convolutions run in, if another than that of the weights.

        Returns:
            What calls the model while it holds these weights.
        """
        if not (self.pairs or self._others) or dtype is torch.float16:  # folded weights may be too large for it
            return plain
        pairs, stay = [], dict(self._others)
        for pair in self.pairs:
            if why := _obstacle(pair):
                stay[pair.name] = why
            elif samples * pair.numbers >= LEAST_NUMBERS:
                pairs.append(pair)
        self._tell(stay)
        if not pairs:
            return plain
        with torch.no_grad():
            sealed: list[ref[Sealed]] = []
            forwards = [(pair.layer, _folded_layer(pair, dtype, sealed)) for pair in pairs]
        forwards += [(norm, _folded_norm(norm)) for norm in {pair.norm: None for pair in pairs}]

        def forward(inputs: Tensor) -> Tensor:
            with _given(forwards):
                outputs: Tensor = unsealed(plain(inputs))
            _open_kept(sealed)
            return outputs

        return forward

    def _tell(self, stay: dict[str, str]) -> None:
        """Say once of every BatchNorm that is not folded why."""
        fresh = {name: why for name, why in stay.items() if name not in self._said}
        self._said |= fresh.keys()
        for why in dict.fromkeys(fresh.values()):
            names = [name for name in fresh if fresh[name] == why]
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            self.say(f"evaluations do not fold BatchNorm {', '.join(names[:3])}{more}: {why}")


def folded_weights(pair: Pair) -> tuple[Tensor, Tensor]:
    """Weight and bias of the layer that does its BatchNorm's work too."""
    weight, bias, scale, shift, mean, variance = _tensors(pair)
    new, added = fuse_conv_bn_weights(weight, bias, mean, variance, pair.norm.eps, scale, shift)
    return new.detach(), added.detach()


def _altered(module: nn.Module) -> str:
    """Why a module may do more than the classes here say; empty if it does not."""
    if type(module) not in (*LAYERS, *NORMS):  # a parametrization changes the class, too
        return f"it is of the class {type(module).__name__}"
    if "forward" in vars(module):
        return "its forward is replaced"
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks:
        return "it has hooks"
    return "there are hooks on all modules" if _global_forward_hooks or _global_forward_pre_hooks else ""


def _obstacle(pair: Pair) -> str:
    """Why a pair cannot be folded now; empty if it can."""
    layer, norm = pair.layer, pair.norm
    if why := _altered(norm):
        return why
    if why := _altered(layer):
        return f"the layer before it: {why}"
    if norm.training:
        return "it is kept in training mode"
    if norm.running_mean is None or norm.running_var is None:
        return "it has no running statistics"
    used = [layer.weight, layer.bias, norm.weight, norm.bias, norm.running_mean, norm.running_var]
    if not all(map(is_, used, _tensors(pair))):  # spectral norm by hand makes them anew for each batch
        return "its weights, or those of the layer before it, are plain attributes"
    kinds = {(part.dtype, part.device, part.layout) for part in _tensors(pair) if part is not None}
    if len(kinds) > 1:
        return "its layer lives on another device or has another number format"
    return "" if layer.weight.is_floating_point() else "its layer's numbers are no floating point numbers"


def _tensors(pair: Pair) -> list[Any]:
    """What is folded: the layer's weight and bias, and the BatchNorm's two and statistics."""
    layer, norm, statistics = pair.layer._parameters, pair.norm._parameters, pair.norm._buffers
    own = layer.get("weight"), layer.get("bias"), norm.get("weight"), norm.get("bias")
    return [*own, statistics.get("running_mean"), statistics.get("running_var")]


def _same(now: list[Any], held: list[Any], versions: list[int]) -> bool:
    """Whether tensors are those that were held, with the numbers that they had."""
    return all(map(is_, now, held)) and list(map(_version, now)) == versions


def _version(tensor: Tensor | None) -> int:
    """A number that grows with every change in place, of tensors that count them."""
    return 0 if tensor is None or tensor.is_inference() else tensor._version


def _open_kept(sealed: list[ref[Sealed]]) -> None:
    """Open what a model or a hook has kept from a call, as it may be looked at when the weights are others."""
    while sealed:
        if (kept := sealed.pop()()) is not None:
            with contextlib.suppress(RunError):  # inputs that are gone: an error for who asks, as nobody may
                kept.opened()


def _folded_layer(pair: Pair, dtype: torch.dtype | None, sealed: list[ref[Sealed]]) -> Callable[[Tensor], Tensor]:
    """The layer with the BatchNorm's work in its weights; what it makes is noted in ``sealed``."""
    layer, held = pair.layer, _tensors(pair)
    versions = list(map(_version, held))
    weight, bias = folded_weights(pair)
    cast = dtype is not None and weight.dtype is not torch.float64  # which autocast leaves alone
    if cast:  # autocast would do it at every batch
        weight, bias = weight.to(dtype), bias.to(dtype)
    plain: Callable[..., Tensor] = type(layer).forward
    dimensions = LAYERS[type(layer)]
    convolve: Any = None if isinstance(layer, nn.Linear) else layer._conv_forward

    def forward(input: Tensor) -> Tensor:
        if not _same(_tensors(pair), held, versions) or input.dim() != dimensions or input.is_inference():
            return plain(layer, input)
        if cast and not torch.is_autocast_enabled(input.device.type):  # the model has switched it off
            return plain(layer, input)
        before = input._version

        def unfolded() -> Tensor:
            if input._version != before or not _same(_tensors(pair)[:2], held[:2], versions[:2]):
                raise RunError(
                    f"evaluations fold BatchNorm '{pair.name}', but what its layer makes is used elsewhere too, after "
                    "the layer's inputs or weights were changed\n  write fold_batchnorm = false in [run]"
                )
            return plain(layer, input)

        made: Tensor = convolve(input, weight, bias) if convolve else nn.functional.linear(input, weight, bias)
        result = Sealed.seal(made, pair, unfolded)
        sealed.append(ref(result))
        return result

    return forward


def _folded_norm(norm: _BatchNorm) -> Callable[[Tensor], Any]:
    """The BatchNorm that opens what was folded for it, and normalises anything else."""

    def forward(input: Tensor) -> Any:
        if isinstance(input, Sealed):
            own = isinstance(input._maker, Pair) and input._maker.norm is norm and not norm.training
            if own and (done := input.folded()) is not None:
                return done
            input = input.opened()
        return type(norm).forward(norm, input)

    return forward
