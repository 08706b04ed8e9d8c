"""Modules of one structure computed as one: their parameters are stacked, and each operation works for all of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks

from trainkit.ensemble.aligned import Aligned
from trainkit.folding import Folding, Pair, folded_weights
from trainkit.lanes.described import Description, tensor_form
from trainkit.lanes.layers import ELEMENTWISE

Step = Callable[[Tensor], Tensor]
_DROPPED = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)  # in evaluation
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class CannotStackError(Exception):
    """Why modules cannot be computed as one."""


def structure(module: nn.Module) -> Hashable:
    """What two modules share where the code of one computes with the tensors of the other."""
    tensors = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    first: dict[int, int] = {}
    ties = tuple(first.setdefault(id(tensor), number) for number, (_, tensor) in enumerate(tensors))
    forms = tuple((name, tensor_form(tensor), str(tensor.device)) for name, tensor in tensors)
    return tuple(Description().modules(module, rates=True)), forms, ties


def stack(modules: Sequence[nn.Module], sample: Tensor) -> Step:
    """What gives ``(modules, batch, ...)`` for inputs ``(batch, ...)``, with the tensors that modules hold now.

    Chains of linear layers, norms and activations take one operation a layer. Others are called under `torch.vmap`,
    which makes grouped convolutions of convolutions, with BatchNorms folded into what is before them.

    Args:
        modules: of one `structure`, in evaluation mode.
        sample: a batch.

    Raises:
        CannotStackError: if a module does more than its class says.
    """
    for module in (part for one in modules for part in one.modules()):
        if "forward" in vars(module) or any(getattr(module, name, None) for name in _HOOKS):
            raise CannotStackError("a module has hooks, or its forward is replaced")
    if _global_forward_hooks or _global_forward_pre_hooks:
        raise CannotStackError("there are hooks on all modules")
    with torch.inference_mode(False), torch.no_grad():  # stacks of inference mode would let no gradient pass later
        return _chain(modules) or _Mapped(modules, sample)


# ------------------------------------------------------------ chains


@dataclass(eq=False)
class _Change:
    """A change of units, before or behind the model of an `Aligned`."""

    scale: Tensor | None
    shift: Tensor | None


class _Chain:
    def __init__(self, count: int) -> None:
        self.count = count
        self.steps: list[Step] = []
        self.apart = False  # whether modules have numbers of their own by now, or still share the inputs

    def __call__(self, inputs: Tensor) -> Tensor:
        for step in self.steps:
            inputs = step(inputs)
        return inputs if self.apart else inputs.expand(self.count, *inputs.shape)

    def add(self, step: Step) -> None:
        """Go on with a step that takes and gives ``(modules, batch, ...)``."""
        if not self.apart:
            count = self.count
            self.steps.append(lambda inputs: inputs.expand(count, *inputs.shape))
            self.apart = True
        self.steps.append(step)


def _chain(modules: Sequence[nn.Module]) -> _Chain | None:
    """The modules as a chain; ``None`` where they are more than that, or a layer is not known here."""
    listed = [_leaves(module) for module in modules]
    chain = _Chain(len(modules))
    number, layers = 0, list(zip(*listed, strict=True))
    while number < len(layers):
        layer: Any = layers[number]
        following = layers[number + 1] if number + 1 < len(layers) else ()
        if type(layer[0]) is nn.Linear:
            folds = bool(following) and type(following[0]) is nn.BatchNorm1d and _measured(following[0])
            chain.add(_linear(layer, following if folds else ()))
            number += folds
        elif type(layer[0]) is nn.BatchNorm1d and _measured(layer[0]):
            chain.add(_batch_norm(layer))
        elif type(layer[0]) is nn.LayerNorm:
            chain.add(_layer_norm(layer))
        elif isinstance(layer[0], _Change):
            if layer[0].scale is not None and layer[0].shift is not None:
                scale, shift = (torch.stack([getattr(one, name) for one in layer]) for name in ("scale", "shift"))
                chain.add(_affine(scale[:, None], shift[:, None]))
        elif type(layer[0]) in ELEMENTWISE and not getattr(layer[0], "inplace", False):
            chain.steps.append(layer[0])
        elif type(layer[0]) is nn.Flatten and layer[0].start_dim == 1 and layer[0].end_dim == -1:
            chain.steps.append(_flat if chain.apart else layer[0])
        elif type(layer[0]) not in _DROPPED:
            if chain.apart or any(True for _ in (*layer[0].parameters(), *layer[0].buffers())):
                return None
            chain.steps.append(layer[0])  # all do the same with the same inputs
        number += 1
    return chain


def _leaves(module: nn.Module) -> list[nn.Module | _Change]:
    """The layers in the order in which they are called."""
    if type(module) is Aligned:
        before = _Change(module.input_scale, module.input_shift)
        return [before, *_leaves(module.model), _Change(module.output_scale, module.output_shift)]
    if type(module) is nn.Sequential:
        return [leaf for part in module for leaf in _leaves(part)]
    return [module]


def _measured(norm: nn.BatchNorm1d) -> bool:
    return norm.running_mean is not None and norm.running_var is not None


def _linear(layers: Sequence[nn.Linear], norms: Sequence[nn.BatchNorm1d]) -> Step:
    tensors: Sequence[tuple[Tensor, Tensor | None]] = [(layer.weight, layer.bias) for layer in layers]
    if norms:
        pairs = [Pair(layer, norm, "", 0) for layer, norm in zip(layers, norms, strict=True)]
        tensors = [folded_weights(pair) for pair in pairs]
    weight = torch.stack([weight for weight, _ in tensors]).transpose(1, 2)
    bias = None if tensors[0][1] is None else torch.stack([bias for _, bias in tensors if bias is not None])[:, None]

    def step(inputs: Tensor) -> Tensor:
        if inputs.dim() == 3:
            return torch.bmm(inputs, weight) if bias is None else torch.baddbmm(bias, inputs, weight)
        if norms:  # which normalises another dimension
            raise CannotStackError("a BatchNorm is given sequences")
        rows = inputs.reshape(len(inputs), -1, inputs.shape[-1])
        given = torch.bmm(rows, weight) if bias is None else torch.baddbmm(bias, rows, weight)
        return given.view(*inputs.shape[:-1], -1)

    return step


def _batch_norm(norms: Sequence[Any]) -> Step:
    factors = [(norm.running_var + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight) for norm in norms]
    shifts = [
        (0 if norm.bias is None else norm.bias) - norm.running_mean * factor
        for norm, factor in zip(norms, factors, strict=True)
    ]
    change = _affine(torch.stack(factors)[:, None], torch.stack(shifts)[:, None])

    def step(inputs: Tensor) -> Tensor:
        if inputs.dim() != 3:
            raise CannotStackError("a BatchNorm is given sequences")
        return change(inputs)

    return step


def _layer_norm(norms: Sequence[nn.LayerNorm]) -> Step:
    first = norms[0]
    weight, bias = (
        None if getattr(first, name) is None else torch.stack([getattr(norm, name) for norm in norms])
        for name in ("weight", "bias")
    )

    def step(inputs: Tensor) -> Tensor:
        outputs = functional.layer_norm(inputs, first.normalized_shape, None, None, first.eps)
        beside = (len(norms), *[1] * (inputs.dim() - 1 - len(first.normalized_shape)), *first.normalized_shape)
        if weight is None:
            return outputs
        outputs = outputs * weight.view(beside)
        return outputs if bias is None else outputs + bias.view(beside)

    return step


def _affine(scale: Tensor, shift: Tensor) -> Step:
    return lambda inputs: torch.addcmul(shift, inputs, scale)


def _flat(inputs: Tensor) -> Tensor:
    return inputs.flatten(2)


# ------------------------------------------------------------ anything else


class _Mapped:
    """One module's code under `torch.vmap`, with the tensors of all."""

    def __init__(self, modules: Sequence[nn.Module], sample: Tensor) -> None:
        folding = Folding(modules[0], say=lambda text: None)
        with folding.watch():
            modules[0](sample[:2])
        names = {module: name for name, module in modules[0].named_modules()}
        folded = [(names[pair.layer], names[pair.norm]) for pair in folding.for_good()]
        self._base = copy.deepcopy(modules[0])
        tensors = [_tensors(module) for module in modules]
        for layer, norm in folded:
            for module, held in zip(modules, tensors, strict=True):
                pair = Pair(module.get_submodule(layer), module.get_submodule(norm), norm, 0)  # type: ignore[arg-type]
                held[f"{layer}.weight"], held[f"{layer}.bias"] = folded_weights(pair)
            base: Any = self._base.get_submodule(layer)
            base.bias = nn.Parameter(torch.empty(0, device=base.weight.device), requires_grad=False)
            self._base.set_submodule(norm, nn.Identity())
        homes = _homes(self._base)
        self._homes = list(homes.values())
        self._stacks = [torch.stack([held[name] for held in tensors]) for name in homes]
        self._leave()
        self._call = torch.vmap(self._one, in_dims=(0, None), randomness="error")

    def __call__(self, inputs: Tensor) -> Tensor:
        try:
            outputs: Tensor = self._call(self._stacks, inputs)
            return outputs
        finally:
            self._leave()

    def _one(self, tensors: list[Tensor], inputs: Tensor) -> Tensor:
        for (home, name), tensor in zip(self._homes, tensors, strict=True):
            home[name] = tensor
        outputs: Tensor = self._base(inputs)
        return outputs

    def _leave(self) -> None:
        for home, name in self._homes:
            home[name] = None


def _homes(module: nn.Module) -> dict[str, tuple[dict[str, Any], str]]:
    """Where a module and those within it hold each of their tensors."""
    return {
        f"{prefix}.{name}" if prefix else name: (held, name)
        for prefix, part in module.named_modules(remove_duplicate=False)
        for held in (part._parameters, part._buffers)
        for name, tensor in held.items()
        if tensor is not None
    }


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {name: home[key].detach() for name, (home, key) in _homes(module).items()}
