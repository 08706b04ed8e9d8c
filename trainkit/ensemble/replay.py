"""An ensembler asked again, with fewer members or other samples to choose by.

Most ensemblers need no more of a member than what it gives for a sample. They are given members that remember their
outputs, and inputs that are numbers of samples, which costs next to nothing. Those that need weights, or inputs, are
given the members themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from trainkit.ensembler import Ensembler, Member, Validation

CLOSE = 1e-3  # what outputs may differ by, relative to the largest, where they should be the same


class Numbers(Tensor):
    """Numbers of samples in place of inputs; their type keeps `Together` from looking for the quickest way."""


class Recorded(nn.Module):
    """A member that is asked for samples by number, and gives what it gave before.

    It has no weights, and says so where it is asked for them: an ensembler that averages weights, or copies members,
    would else make something of what is here.

    Args:
        outputs: ``(samples, outputs)``.
    """

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, inputs: Tensor) -> Tensor:
        """What it gave for samples ``(batch,)`` int64."""
        return self.outputs[inputs.as_subclass(Tensor)]

    def _has_none(self, *_: Any, **__: Any) -> Any:
        raise TypeError("a member of which outputs alone are known has no weights")

    state_dict = named_parameters = named_buffers = __deepcopy__ = _has_none


@dataclass(frozen=True)
class Again:
    """What an ensembler gave that was fitted anew.

    Args:
        validation: ``(samples, outputs)`` for all validation samples.
        test: for all test samples; ``None`` where they were not measured.
    """

    validation: Tensor
    test: Tensor | None


class Refit(Protocol):
    """Fits an ensembler anew."""

    def __call__(self, members: Sequence[int], rows: Tensor | None = None) -> Again:
        """Fit it to some members, by number, and to some validation samples, by row; ``None``: to all of them."""
        ...


def part_of(validation: Validation, members: Sequence[int], rows: Tensor | None) -> Validation:
    """What is known of some members for some samples, told to nobody."""
    chosen = torch.arange(validation.outputs.shape[1]) if rows is None else rows
    measure = validation.measure
    return dataclasses.replace(
        validation,
        outputs=validation.outputs[list(members)][:, chosen],
        targets=validation.targets[chosen],
        held_out=validation.held_out[list(members)][:, chosen],
        index=validation.index[chosen],
        measure=measure if rows is None else lambda module: measure(module)[rows],
        say=lambda text: None,
    )


class FromOutputs:
    """Fits an ensembler anew to what its members gave.

    Args:
        fresh: makes the ensembler as its recipe says.
        members: those that it was given.
        validation: what they gave for validation samples.
        test: what they gave for test samples, ``(members, samples, outputs)``; ``None`` where that was not measured.
    """

    def __init__(
        self, fresh: Callable[[], Ensembler], members: Sequence[Member], validation: Validation, test: Tensor | None
    ) -> None:
        self._fresh = fresh
        outputs = validation.outputs if test is None else torch.cat([validation.outputs, test], dim=1)
        self._count = validation.outputs.shape[1]
        self._rows = torch.arange(outputs.shape[1]).as_subclass(Numbers)
        self._has_test = test is not None
        self._members = [
            dataclasses.replace(member, module=Recorded(own).eval())
            for member, own in zip(members, outputs, strict=True)
        ]
        samples = self._rows[: self._count]
        self._validation = dataclasses.replace(
            validation, measure=lambda module: module(samples), renew=lambda module: False
        )

    def __call__(self, members: Sequence[int], rows: Tensor | None = None) -> Again:
        """See `Refit`."""
        ensembler = self._fresh()
        for number in members:
            ensembler.add(self._members[number])
        ensembler.fit(part_of(self._validation, members, rows))
        with torch.no_grad():
            given = ensembler.predict(self._rows).float()
        return Again(given[: self._count], given[self._count :] if self._has_test else None)


class FromModules:
    """Fits an ensembler anew to the members themselves, which takes as long as it took before.

    Args:
        fresh: makes the ensembler as its recipe says.
        members: those that it was given.
        validation: what they gave for validation samples.
        test: gives what a module does for the test samples; ``None`` where they are not measured.
    """

    def __init__(
        self,
        fresh: Callable[[], Ensembler],
        members: Sequence[Member],
        validation: Validation,
        test: Callable[[nn.Module], Tensor] | None,
    ) -> None:
        self._fresh = fresh
        self._members = members
        self._validation = validation
        self._test = test

    def __call__(self, members: Sequence[int], rows: Tensor | None = None) -> Again:
        """See `Refit`."""
        ensembler = self._fresh()
        for number in members:
            ensembler.add(self._members[number])
        ensembler.fit(part_of(self._validation, members, rows))
        module = Predicting(ensembler)
        return Again(self._validation.measure(module), None if self._test is None else self._test(module))


class Predicting(nn.Module):
    """What an ensembler predicts, as a module; what it is made of moves with it.

    Args:
        ensembler: fitted.
    """

    def __init__(self, ensembler: Ensembler) -> None:
        super().__init__()
        self._ensembler = ensembler
        held = [part for part in vars(ensembler).values() if isinstance(part, nn.Module)]
        self.parts = nn.ModuleList([*held, *(member.module for member in ensembler.members())])
        self.eval()

    def forward(self, inputs: Tensor) -> Tensor:
        """What the ensemble gives for a batch."""
        return self._ensembler.predict(inputs)


def anew(ensembler: Ensembler, make: Callable[[], Ensembler]) -> Callable[[], Ensembler]:
    """What makes ensemblers to be fitted anew: a fitted one, where it keeps what is long in choosing, else settings.

    Args:
        ensembler: fitted.
        make: makes one as its recipe says.
    """
    own: Callable[[], Ensembler] | None = getattr(ensembler, "anew", None)
    return own if callable(own) else make


def agrees(again: Tensor, before: Tensor) -> bool:
    """Whether an ensembler that was asked again gives what it gave before."""
    if again.shape != before.shape:
        return False
    reach = CLOSE * max(1.0, float(before.abs().max())) if before.numel() else 0.0
    return torch.allclose(again.float(), before.float(), rtol=0.0, atol=reach)
