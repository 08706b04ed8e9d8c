"""What members give for samples that they were not trained on, which is all that an ensembler may choose by."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from trainkit.ensemble.aligned import mean_outputs
from trainkit.ensemble.base import Base
from trainkit.ensemble.members import FoldedMember
from trainkit.ensembler import Member, Validation
from trainkit.errors import UsageError
from trainkit.feed.folds import overlapped


def validation_of(members: Sequence[Member], base: Base, say: Callable[[str], None] | None = None) -> Validation:
    """Measure members on samples that they were not trained on: those of validation, or of folds.

    Where members are folds or bootstrap draws of the same samples, each sample that at least one was not trained on is
    there, and `Validation.held_out` says which were not. Otherwise samples are there that none of them was trained on.
    The test split is never touched.

    Args:
        members: in the order in which the ensembler was given them.
        base: what they are measured by.
        say: tells the user something, once.

    Raises:
        UsageError: if there is no such sample, or members on folds are mixed with others.
    """
    held, numbers = asked(members, base)
    first = len(base.dataset.splits["train"])
    of_validation = base.has("val") and int(numbers[0]) >= first

    def pick(give: Callable[[str], Tensor]) -> Tensor:
        if of_validation:
            return give("val")[numbers - first]
        return torch.cat([give(split) for split in ("train", "val") if base.has(split)])[numbers]

    def measured(module: nn.Module) -> Tensor:
        return pick(lambda split: base.measure(module, split))

    outputs = torch.stack([pick(lambda split, one=member: outputs_of(one, split, base)) for member in members])  # type: ignore[misc]
    targets = pick(base.targets)
    for member, given in zip(members, outputs, strict=True):
        if not bool(given.isfinite().all()):
            raise UsageError(f"{member.name}: it gives numbers that are not finite; such a run cannot be a member")
    return Validation(
        outputs=outputs,
        targets=targets.long() if base.spec.task == "classification" else targets.float(),
        held_out=held[:, numbers],
        index=numbers - first if of_validation else numbers,
        spec=base.spec,
        loss=base.loss,
        measure=measured,
        renew=base.renew,
        say=say or base.say,
    )


def asked(members: Sequence[Member], base: Base) -> tuple[Tensor, Tensor]:
    """Which samples members are measured on.

    Returns:
        ``(members, all)`` bool, whether the member was not trained on the sample, counted through the training split
        and on through the validation split; and the numbers of those samples that are measured, int64.

    Raises:
        UsageError: as `validation_of`.
    """
    held = torch.stack([held_by(member, base) for member in members])
    common = held.all(0)
    if bool((held != held[0]).any()) and any(_one_fold(member) for member in members):
        plain = next((one for one in members if one.fold is None and not isinstance(one, FoldedMember)), None)
        if plain is not None:
            folded = next(one for one in members if _one_fold(one))
            raise UsageError(
                f"{folded.name} and {plain.name} do not fit: one was trained on a fold, on samples that the other one "
                "is judged by\n  combine runs on folds with runs on folds alone, such as all those of one recipe"
            )
        common = held.any(0)
    # What a draw of a series left out has targets that lie within those of what was drawn.
    if all(_one_draw(member) for member in members) and not base.dataset.moments:
        held |= torch.stack([_out_of_bag(member, base) for member in members])
        common = held.any(0)
    if not bool(common.any()):
        raise UsageError(_nothing(members, held, base))
    return held, common.nonzero().squeeze(1)


def unseen_by(member: Member, base: Base) -> Tensor:
    """Which samples no model of a member was trained on: bool, as `held_by`."""
    if isinstance(member, FoldedMember):
        return torch.stack([held_by(run, base) for run in member.runs]).all(0)
    return held_by(member, base)


def unseen_by_all(members: Sequence[Member], made_of: Sequence[Member], base: Base) -> Tensor:
    """Which of the samples that members are measured on no model was trained on: bool, as the rows of `validation_of`.

    Args:
        members: those that the ensembler was given. One that is a run for each fold gives for each sample what it did
            not learn, yet what is made of it has learnt all of them.
        made_of: those that the ensemble has, among them maybe one that was trained by the ensembler, such as a student.
        base: what they are measured by.
    """
    held, numbers = asked(members, base)
    names = {member.name for member in members}
    others: list[Member] = [member for member in members if isinstance(member, FoldedMember)]
    others += [member for member in made_of if member.name not in names]
    return torch.stack([held.all(0), *(unseen_by(member, base) for member in others)]).all(0)[numbers]


def held_by(member: Member, base: Base) -> Tensor:
    """Which samples a member was not trained on: bool, through the training split and on through validation."""
    if isinstance(member, FoldedMember):
        return torch.stack([held_by(run, base) for run in member.runs]).any(0)
    count = sum(len(base.dataset.splits[name]) for name in ("train", "val") if base.has(name))
    held = torch.ones(count, dtype=torch.bool)
    parts = base.parts(member.recipe)
    held[parts["train"]] = False
    if member.fold is not None:
        # Of a fold in time it has seen parts of the targets between those that train and those that validate.
        before = overlapped(base.dataset, parts["train"])
        held &= ~before | bool(before[parts["val"]].any())
    else:  # what a bootstrap draw left out is for those alone who take each sample from other members
        held[: len(base.dataset.splits["train"])] = False
    return held


def outputs_of(member: Member, split: str, base: Base) -> Tensor:
    """What a member gives for a split: for samples of training and validation by those of its runs that may say it."""
    if not isinstance(member, FoldedMember) or split not in ("train", "val"):
        return base.outputs(member.module, split)
    first = len(base.dataset.splits["train"])
    place = slice(0, first) if split == "train" else slice(first, None)
    held = torch.stack([held_by(run, base)[place] for run in member.runs])
    given = torch.stack([base.outputs(run.module, split) for run in member.runs])
    held |= ~held.any(0)  # where all were trained on it, nobody asks
    if bool(held.all()):
        return mean_outputs(given, base.spec.task)
    found = torch.empty_like(given[0])
    for pattern in torch.unique(held, dim=1).T:
        rows = (held == pattern[:, None]).all(0)
        found[rows] = mean_outputs(given[pattern][:, rows], base.spec.task)
    return found


def _out_of_bag(member: Member, base: Base) -> Tensor:
    """Which training samples a bootstrap draw left out: bool, through the training split and on through validation."""
    left = torch.zeros(sum(len(base.dataset.splits[name]) for name in ("train", "val") if base.has(name))).bool()
    left[: len(base.dataset.splits["train"])] = True
    left[base.parts(member.recipe)["train"]] = False
    return left


def _one_draw(member: Member) -> bool:
    return member.recipe["data"].get("bag") is not None and member.fold is None and not isinstance(member, FoldedMember)


def _one_fold(member: Member) -> bool:
    return member.fold is not None and not isinstance(member, FoldedMember)


def _nothing(members: Sequence[Member], held: Tensor, base: Base) -> str:
    """Why there is no sample to choose by."""
    if not base.has("val") and all(member.fold is None for member in members):
        return (
            f"{base.name}: the data has no validation split, and an ensemble is chosen by validation samples alone\n"
            "  give the data one, such as val = 0.1 in [data], or train members on folds"
        )
    trained = next((member for member, mask in zip(members, held, strict=True) if not bool(mask.any())), members[0])
    return (
        f"{trained.name}: it was trained on the validation samples too, so that nothing is left to choose by\n"
        '  leave it out, or train it with train_on = "train"'
    )
