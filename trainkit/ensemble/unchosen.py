"""What an ensembler gives for samples that had no part in its choice: the rest of them chose, part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from trainkit.ensemble.curve import draws_for
from trainkit.ensemble.replay import FromOutputs, agrees
from trainkit.ensembler import Ensembler, Member, Validation

FOLDS = 5
LEAST = 4 * FOLDS  # samples, below which parts of them say nothing


def parts(rows: Tensor, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Each part of some samples, and the others, which choose for it.

    Args:
        rows: the samples, by number.
        seed: what decides who belongs together.
    """
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed % 2**63))
    for fold in range(FOLDS):
        others = torch.cat([order[number::FOLDS] for number in range(FOLDS) if number != fold])
        yield rows[order[fold::FOLDS]], rows[others]


def unchosen(
    fresh: Callable[[], Ensembler], members: Sequence[Member], validation: Validation, raw: nn.Module, seed: int
) -> tuple[Tensor, Tensor]:
    """Outputs for validation samples by which a temperature can be fitted.

    A combination that was itself fitted to these samples, such as stacking, is far too good on them: a temperature that
    is fitted to that makes it surer still. So the ensembler is fitted anew to four fifths of the samples, and gives
    what it does for the last one, five times. Where it needs more than what members gave, or there are few samples, it
    gives what it does for all of them.

    Args:
        fresh: makes the ensembler as its recipe says.
        members: those that it was given.
        validation: what they gave.
        raw: the finished ensemble, before its temperature.
        seed: of the parts.

    Returns:
        The samples that no member was trained on, by number, and ``(samples, outputs)`` for these.
    """
    rows = validation.held_out.all(0).nonzero().squeeze(1)
    whole = validation.measure(raw)
    if len(members) < 2 or len(rows) < LEAST or not draws_for(validation.outputs.numel(), len(members)):
        return rows, whole[rows]
    refit, found = FromOutputs(fresh, members, validation, None), whole.clone()
    everyone = range(len(members))
    try:
        if not agrees(refit(everyone).validation, whole):
            return rows, whole[rows]
        for held, others in parts(rows, seed):
            found[held] = refit(everyone, others).validation[held].to(found.dtype)
    except Exception:  # a plugin's ensembler may need anything of its members
        return rows, whole[rows]
    return rows, found[rows]
