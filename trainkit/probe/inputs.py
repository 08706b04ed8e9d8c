"""What goes into the model: whether it is centred, finite, the same kind in every split, and gives nothing away."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from trainkit.feed.order import permutation
from trainkit.feed.pipeline import gather
from trainkit.page.blocks import Table
from trainkit.probe.finding import Finding, Verdict, worst
from trainkit.probe.subject import Subject, drawn, plan_of, samples_of
from trainkit.run import Batch, Run

SAMPLES = 2000
HASHED = 100_000
MEAN = 3.0  # in standard deviations, of what counts as centred
STD = (0.1, 10.0)
FAR_STD = (1e-3, 100.0)
DRIFT = 0.5  # standard deviations between the means of two splits
GIVES_AWAY = 0.999  # correlation of a feature with the target
SHARED = 0.01  # of a split's samples that are training samples too


def input_statistics(subject: Subject) -> Finding:
    """Look at the samples as the model sees them, and at their targets.

    Source: https://cs231n.github.io/neural-networks-2/, "Data preprocessing"; on what training samples give away:
    Kaufman et al. 2012, "Leakage in data mining", section 3.
    """
    run = subject.still
    batch = samples_of(run, drawn(run, SAMPLES))
    look = _Look(run)
    rows: list[tuple[str | float, ...]] = []
    if batch.inputs.is_floating_point():
        measured = _measured(batch.inputs, run.feed.spec.categories)
        if measured.numel():
            look.values(measured, "inputs")
        rows.append(look.row("inputs, train", batch.inputs))
        for split in ("val", "test"):
            if run.feed.spec.sizes.get(split):
                other = samples_of(run, drawn(run, SAMPLES, split), split).inputs
                rows.append(look.row(f"inputs, {split}", other))
                look.drift(batch.inputs, other, split)
        if not _own_targets(batch):
            look.give_away(batch.inputs, batch.targets)
        seen = (
            f"mean {float(measured.mean()):.3g}, standard deviation {float(measured.std()):.3g}"
            if measured.numel()
            else "numbers of categories alone"
        )
    else:
        seen = f"whole numbers from {int(batch.inputs.min())} to {int(batch.inputs.max())}"
    look.targets(batch.targets)
    for split in ("val", "test"):
        if run.feed.spec.sizes.get(split):
            look.shared(split)
    seen += f", {len(batch)} samples" + "".join(f"; {said}" for said in look.said)
    blocks = [Table(("what", "mean", "standard deviation", "least", "largest"), rows)] if rows else []
    wanted = f"finite, mean near 0 and standard deviation near 1 ({STD[0]:g} to {STD[1]:g}), splits alike and apart"
    return Finding(
        look.verdict,
        wanted if batch.inputs.is_floating_point() else "whole numbers, such as those of tokens; splits apart",
        seen,
        "; ".join(dict.fromkeys(look.cures)),
        look.figures,
        blocks,
    )


def _measured(inputs: Tensor, categories: Sequence[int]) -> Tensor:
    """The features that measure something: a category's number says which it is, not how much of it there is."""
    return inputs[:, [not count for count in categories]] if any(categories) else inputs


def _own_targets(batch: Batch) -> bool:
    """Whether samples are their own targets, which each of their numbers then gives away."""
    return batch.inputs.numel() == batch.targets.numel() and torch.equal(
        batch.inputs.reshape(len(batch), -1), batch.targets.reshape(len(batch), -1)
    )


class _Look:
    """Gathers what is wrong."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.verdict: Verdict = "good"
        self.said: list[str] = []
        self.cures: list[str] = []
        self.figures: dict[str, float | None] = {}

    def wrong(self, verdict: Verdict, said: str, cure: str) -> None:
        self.verdict = worst(self.verdict, verdict)
        self.said.append(said)
        self.cures.append(cure)

    def row(self, name: str, values: Tensor) -> tuple[str | float, ...]:
        parts = (values.mean(), values.std(), values.min(), values.max())
        return name, *(float(f"{float(part):.4g}") for part in parts)

    def values(self, inputs: Tensor, name: str) -> None:
        """Whether numbers are finite and of a size that suits a network."""
        if not bool(inputs.isfinite().all()):
            count = int((~inputs.isfinite()).flatten(1).any(1).sum())
            self.wrong("bad", f"{count} samples are not finite", "leave out or fill in what is missing")
            return
        mean, std = float(inputs.mean()), float(inputs.std())
        self.figures |= {"mean": mean, "std": std}
        if std == 0:
            self.wrong("bad", "all inputs are equal", "look at what makes inputs of samples")
        elif not FAR_STD[0] <= std <= FAR_STD[1] or abs(mean) > 10 * MEAN * max(std, 1.0):
            self.wrong(
                "bad", "their size is far from 1", "standardise the inputs: [data] standardise, or divide by 255"
            )
        elif not STD[0] <= std <= STD[1] or abs(mean) > MEAN * max(std, 1.0):
            self.wrong("doubtful", "they are not standardised", "standardise the inputs")
        if inputs.dim() == 2 and inputs.shape[1] > 1:
            spread = inputs.std(0)
            if bool((still := spread == 0).any()):
                few = ", ".join(map(str, still.nonzero().flatten()[:3].tolist()))
                self.said.append(f"{int(still.sum())} features never change ({few})")
            if bool((spread > 0).any()) and float(spread.max()) > 100 * float(spread[spread > 0].median()):
                self.wrong("doubtful", "features differ in size by more than 100", "standardise each feature")

    def drift(self, train: Tensor, other: Tensor, split: str) -> None:
        """Whether another split is of the same kind: its means, by channel or feature, in standard deviations."""
        means = [_by_channel(part).double() for part in (train, other)]
        std = ((means[0].var(1) + means[1].var(1)) / 2).sqrt().clamp_min(1e-12)
        away = float(((means[0].mean(1) - means[1].mean(1)).abs() / std).max())
        self.figures[f"drift_{split}"] = away
        # Of few samples means differ by chance.
        if away > max(DRIFT, 5 / math.sqrt(max(1, min(len(train), len(other))))):
            said = f"means of {split} are up to {away:.2g} standard deviations from those of train"
            self.wrong("doubtful", said, f"prepare {split} with the numbers that train is prepared with")

    def give_away(self, inputs: Tensor, targets: Tensor) -> None:
        """Whether a single feature is the target, up to scale."""
        values = inputs.flatten(1).double()
        if values.shape[1] > 1 << 13 or (targets.dim() > 1 and targets.shape[1] > 1000):
            return
        wanted = targets.double().reshape(len(targets), -1)
        if not targets.is_floating_point() and targets.dim() == 1 and int(targets.max()) < 1000:
            wanted = torch.cat([wanted, torch.nn.functional.one_hot(targets.long()).double()], 1)
        # A class of a handful of samples may lie apart by chance.
        enough = [column for column in wanted.T if bool((column != column.mode().values).sum() >= 10)]
        if len(targets) < 30 or not enough:
            return
        wanted = torch.stack(enough, 1)
        values, wanted = values - values.mean(0), wanted - wanted.mean(0)
        values, wanted = (part / part.norm(dim=0).clamp_min(1e-12) for part in (values, wanted))
        found = (values.T @ wanted).abs().amax(1)
        number = int(found.argmax())
        self.figures["largest_correlation"] = float(found[number])
        if float(found[number]) > GIVES_AWAY:
            said = f"feature {number} gives the target away (correlation {float(found[number]):.4f})"
            self.wrong("bad", said, "leave that feature out: it will not be known where the model is used")

    def targets(self, targets: Tensor) -> None:
        """Whether classes are there, and targets of a regression of a size that suits a network."""
        spec = self.run.feed.spec
        if spec.task == "regression":
            mean, std = float(targets.double().mean()), float(targets.double().std())
            self.figures |= {"target_mean": mean, "target_std": std}
            self.said.append(f"targets: mean {mean:.3g}, standard deviation {std:.3g}")
            if not STD[0] <= std <= STD[1] or abs(mean) > MEAN * max(std, 1.0):
                self.wrong("doubtful", "targets are not standardised", "standardise the targets")
            return
        if spec.task == "tokens":  # some are rare in any text
            return
        counts = spec.class_counts
        if counts and min(counts) == 0:
            missing = [spec.classes[i] if i < len(spec.classes) else str(i) for i, c in enumerate(counts) if not c]
            self.wrong("doubtful", f"no training sample of {', '.join(missing[:3])}", "split the data by classes")
        elif counts and max(counts) > 10 * min(counts):
            said = f"classes have {min(counts)} to {max(counts)} samples"
            self.wrong("doubtful", said, "weigh classes in the loss, and look at a metric that counts them alike")

    @cached_property
    def _train(self) -> list[bytes]:
        return _hashes(self.run, "train")

    def shared(self, split: str) -> None:
        """Whether samples of another split are training samples as well."""
        train, other = self._train, _hashes(self.run, split)
        known = set(train)
        both = sum(one in known for one in other)
        self.figures[f"shared_{split}"] = both
        if both:
            share, within = both / len(other), 1 - len(known) / len(train)
            said = f"{both} of {len(other)} samples of {split} are training samples, too"
            if share <= 2 * within:  # as in tables of a few words, where samples are equal by chance
                self.said.append(f"{said}, as {100 * within:.2g} % of these are to each other")
                return
            verdict: Verdict = "bad" if share > SHARED else "doubtful"
            self.wrong(verdict, said, "take samples that are there twice out of one of the splits")


def _by_channel(inputs: Tensor) -> Tensor:
    """``(channels, numbers)``: all values of each feature or channel."""
    return inputs.transpose(0, 1).flatten(1)


def _hashes(run: Run, split: str) -> list[bytes]:
    """A hash of each sample as it is stored; of data that has to be read, of some."""
    part = plan_of(run).split(split)
    inputs, here = part.inputs, isinstance(part.inputs, Tensor)
    index = permutation(len(part), "probe", split)[:HASHED] if here else drawn(run, SAMPLES, split)
    found: list[bytes] = []
    for numbers in index.split(256):  # type: ignore[no-untyped-call]
        rows = gather(inputs, numbers).flatten(1).contiguous().cpu().numpy()
        found += [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]
    return found
