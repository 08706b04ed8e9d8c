"""Building prodigyopt's optimizer."""

from __future__ import annotations

import contextlib
import inspect
import io
from collections.abc import Callable
from typing import Any

import prodigyopt

from trainkit import Optimizer, check_bridge
from trainkit_prodigy import VERSION


def make(factory: Callable[..., Any], params: list[dict[str, Any]], **settings: Any) -> Optimizer:
    """Build the optimizer.

    Args:
        factory: the component's factory, whose defaults must be the library's.
        params: the parameter groups.
        settings: all settings.

    Raises:
        MachineError: if the installed library is not what this was written for.
    """
    parameters = inspect.signature(factory).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    check_bridge("prodigyopt", VERSION, prodigyopt.Prodigy, defaults, lambda groups: _quietly(groups, defaults))
    return _quietly(params, settings)


def _quietly(groups: list[dict[str, Any]], settings: dict[str, Any]) -> Optimizer:
    """Build without the line that the library prints, which would stand among the data on standard output."""
    with contextlib.redirect_stdout(io.StringIO()):
        optimizer: Optimizer = prodigyopt.Prodigy(groups, **settings)
    return optimizer
