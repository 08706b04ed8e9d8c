"""Parameters that stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from trainkit import Run, hookimpl
from trainkit_callbacks.names import matches, refuse_strangers


@dataclass(frozen=True)
class Freeze:
    """See `trainkit_callbacks.freeze`."""

    match: Sequence[str]

    @hookimpl
    def trainkit_prepare_model(self, run: Run, model: nn.Module) -> None:
        parameters = dict(model.named_parameters())
        refuse_strangers(run, "freeze", "match", self.match, list(parameters))
        for name, parameter in parameters.items():
            if matches(name, self.match):
                parameter.requires_grad_(False)
