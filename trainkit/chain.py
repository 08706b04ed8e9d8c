"""Models that are one layer after the other, called without what `nn.Module` looks for before each of them.

A call of a module looks for hooks, and a `nn.Sequential` loops in Python: a tenth of the update of a small model. A
`Chain` asks whether anyone has hooked in or exchanged a layer once a call, and goes through the layers by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules import module as torch_module

Forward = Callable[[Tensor], Tensor]
_OF_ALL = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)
_OF_ONE = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Chain:
    """What a model of nested `nn.Sequential` computes, by the same operations.

    Where a hook is set, on a layer or on all modules, the model itself is called.

    Args:
        model: the model, of which `is_chain` holds.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._bind()

    def _bind(self) -> None:
        inner = [module for module in self.model.modules() if type(module) is nn.Sequential]
        self._children = [(module._modules, list(module._modules.values())) for module in inner]
        modules = [*inner, *_layers(self.model)]
        self._hooks = tuple(
            [getattr(torch_module, name) for name in _OF_ALL]
            + [getattr(module, name) for module in modules for name in _OF_ONE]
        )
        self._layers = [_call(layer) for layer in _layers(self.model)]

    def __call__(self, inputs: Tensor) -> Tensor:
        """What ``model(inputs)`` gives."""
        for modules, known in self._children:
            if list(modules.values()) != known:
                if not is_chain(self.model):
                    return self.model(inputs)  # type: ignore[no-any-return]
                self._bind()
                break
        if any(self._hooks):
            return self.model(inputs)  # type: ignore[no-any-return]
        for layer in self._layers:
            inputs = layer(inputs)
        return inputs


def chained(forward: Forward) -> Forward:
    """A quicker way to call a model that is a chain; anything else as it is."""
    return Chain(forward) if isinstance(forward, nn.Module) and is_chain(forward) else forward


def is_chain(model: object) -> bool:
    """Whether a model is `nn.Sequential`, nested or not, of modules that torch calls in no other way than any."""
    if type(model) is not nn.Sequential or not all(hasattr(torch_module, name) for name in _OF_ALL):
        return False
    return all(
        type(module).__call__ is nn.Module.__call__
        and "forward" not in vars(module)
        and getattr(module, "_compiled_call_impl", None) is None
        and not isinstance(module, torch.jit.ScriptModule)
        and all(hasattr(module, name) for name in _OF_ONE)
        for module in model.modules()
    )


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    """The layers in the order in which they are called; one may come twice."""
    for module in model._modules.values():
        assert module is not None  # `nn.Sequential` calls each
        if type(module) is nn.Sequential:
            yield from _layers(module)
        else:
            yield module


def _call(layer: nn.Module) -> Callable[[Any], Any]:
    """The layer's forward; of the commonest without the search for its attributes."""
    if type(layer) is nn.Linear:
        linear, held = functional.linear, layer._parameters  # looked into at each call: parameters may be exchanged
        return lambda inputs: linear(inputs, held["weight"], held["bias"])  # type: ignore[arg-type]
    if type(layer) is nn.ReLU:
        relu = torch.relu
        return lambda inputs: layer.forward(inputs) if layer.inplace else relu(inputs)
    forward: Callable[[Any], Any] = layer.forward
    return forward
