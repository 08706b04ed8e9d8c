"""A tensor that one module alone can open; everything else is given another one, which is made when it is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# What may be asked of a result without looking at its numbers: folding does not change it.
_HARMLESS = {
    getattr(Tensor, name).__get__
    for name in ("shape", "dtype", "device", "ndim", "requires_grad", "layout", "is_cuda", "is_cpu", "is_mkldnn")
} | {Tensor.dim, Tensor.size, Tensor.numel, Tensor.stride, Tensor.is_contiguous, Tensor.__len__}
# What lies in memory: nothing, so that compiled extensions, which do not ask, fail instead of taking other numbers.
_NOTHING = torch.empty(0, device="meta")


class Sealed(Tensor):
    """A folded result on its way to the BatchNorm whose work it contains.

    Args of `seal`:
        folded: the result, with the BatchNorm's work done.
        maker: what folded it: the pair; while pairs are looked for, the layer.
        plain: makes the layer's own result.
    """

    _maker: object
    _folded: Tensor
    _plain: Callable[[], Tensor]
    _opened: Tensor | None
    _taken: bool

    @classmethod
    def seal(cls, folded: Tensor, maker: object, plain: Callable[[], Tensor]) -> Sealed:
        """Make one."""
        sealed = _NOTHING.as_subclass(cls)
        sealed._maker, sealed._folded, sealed._plain, sealed._opened, sealed._taken = maker, folded, plain, None, False
        return sealed

    def opened(self) -> Tensor:
        """The layer's own result, for anyone but the BatchNorm."""
        if self._opened is None:
            self._opened = self._plain()
        return self._opened

    def folded(self) -> Tensor | None:
        """The folded result, once; ``None`` if it was given away or the plain one is in use, since both may change."""
        if self._taken or self._opened is not None:
            return None
        self._taken = True
        return self._folded

    __hash__ = object.__hash__

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Give every operation the plain result."""
        if func in _HARMLESS and isinstance(args[0], cls):
            return func(args[0]._folded, *args[1:], **(kwargs or {}))
        return func(*unsealed(args), **unsealed(kwargs or {}))


def unsealed(value: Any) -> Any:
    """The same with plain results in place of sealed ones."""
    if isinstance(value, Sealed):
        return value.opened()
    if type(value) in (list, tuple):
        return type(value)(map(unsealed, value))
    return {key: unsealed(part) for key, part in value.items()} if type(value) is dict else value
