"""What a model makes of tokens: what each costs, by its place in the sample, and which are taken for which."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainkit.scoring import bin_of

if TYPE_CHECKING:
    from trainkit.dataset import Batch, DataSpec
    from trainkit.report.look import Look

BINS = 15
MOST_PAIRS = 1000  # tokens, of which every pair is counted
MOST_SHOWN = 20
MOST_TEXTS = 8
MOST_CHARACTERS = 240  # of a sample's text


@dataclass(frozen=True)
class OneToken:
    """A token that is a target somewhere.

    Args:
        name: its text.
        count: how often.
        nats: what it costs on average.
        right: the share that is right.
    """

    name: str
    count: int
    nats: float
    right: float


@dataclass
class TokensSeen:
    """What came of it.

    Args:
        positions: by place in the sample, from 0: nats a token.
        dearest: tokens that cost most altogether.
        total: nats of all tokens together.
        pairs: which token is taken for which, and how often.
        texts: the samples that cost most: number, nats a token, text.
    """

    positions: list[float] = field(default_factory=list)
    dearest: list[OneToken] = field(default_factory=list)
    total: float = 0.0
    pairs: list[tuple[str, str, int]] = field(default_factory=list)
    texts: list[tuple[int, float, str]] = field(default_factory=list)


class LookingAtTokens:
    """Gathers what is to be seen of outputs ``(batch, positions, classes)``; no more than sums is kept.

    Attributes:
        count: samples so far.
        why: why nothing can be seen; empty if it can.
    """

    def __init__(self, spec: DataSpec) -> None:
        self.count = 0
        self.why = ""
        self._spec = spec
        kinds, positions = spec.outputs, spec.input_shape[0]
        self._sums = torch.zeros(kinds, 3, dtype=torch.float64)  # by token: how often, nats, right
        self._positions = torch.zeros(positions, dtype=torch.float64)
        self._bins = torch.zeros(BINS, 3, dtype=torch.float64)  # tokens, confidence, right
        self._pairs = torch.zeros(kinds, kinds, dtype=torch.int64) if kinds <= MOST_PAIRS else None
        self._worst: list[tuple[float, int, Tensor]] = []
        self._brier = 0.0

    def add(self, batch: Batch, outputs: Tensor, decided: Callable[[Tensor], Tensor] | None = None) -> None:
        """Take in one batch; ``decided`` is for one class a sample, and without meaning here."""
        if self.why:
            return
        wanted = (*batch.targets.shape, self._spec.outputs)
        if tuple(outputs.shape) != wanted or batch.targets.dim() != 2 or batch.targets.is_floating_point():
            self.why = (
                f"outputs of shape {tuple(outputs.shape)} are nothing that a report can show: they are not {wanted}"
            )
            return
        self._take_in(batch, outputs.detach().float().cpu(), batch.targets.cpu())
        self.count += len(batch)

    def _take_in(self, batch: Batch, outputs: Tensor, targets: Tensor) -> None:
        logs = outputs.log_softmax(-1)
        nats = -logs.gather(-1, targets.unsqueeze(-1)).squeeze(-1).double()
        confidence, taken = logs.max(-1)
        confidence = confidence.double().exp().nan_to_num(0.0)
        right = (taken == targets).double()
        columns = torch.stack([torch.ones_like(nats), nats, right], -1).flatten(0, 1)
        self._sums.index_add_(0, targets.flatten(), columns)
        self._positions += nats.sum(0)
        probable = torch.stack([torch.ones_like(nats), confidence, right], -1).flatten(0, 1)
        self._bins.index_add_(0, bin_of(confidence.flatten(), BINS), probable)
        chances = logs.exp()
        self._brier += float((chances.square().sum(-1).double() - 2 * (-nats).exp() + 1).sum())
        if self._pairs is not None:
            kinds = self._spec.outputs
            self._pairs += torch.bincount((targets * kinds + taken).flatten(), minlength=kinds**2).view(kinds, kinds)
        inputs = batch.inputs.cpu()
        means = nats.mean(1).nan_to_num(math.inf)
        for place in means.topk(min(MOST_TEXTS, len(means))).indices.tolist():
            row = torch.cat([inputs[place, :1].long(), targets[place]]) if inputs.dim() == 2 else targets[place]
            self._worst.append((float(means[place]), int(batch.index[place]), row))
        self._worst = sorted(self._worst, key=lambda one: (-one[0], one[1]))[:MOST_TEXTS]

    def tell(self, found: Look) -> None:
        """Put what was gathered where it belongs."""
        from trainkit.report.look import Bin

        tokens, nats, right = self._sums.sum(0).tolist()
        mean = nats / tokens
        gaps = (self._bins[:, 2] - self._bins[:, 1]).abs().sum()
        found.figures = {
            "accuracy": right / tokens,
            "nll": mean,
            "perplexity": math.exp(mean) if mean < 700 else math.inf,
            **self._bits(nats),
            "brier": self._brier / tokens,
            "ece": float(gaps) / tokens,
        }
        for number, (count, confidence, hits) in enumerate(self._bins.tolist()):
            if count:
                ends = number / BINS, (number + 1) / BINS
                found.bins.append(Bin(*ends, int(count), confidence / count, hits / count))
        found.tokens = TokensSeen(
            positions=(self._positions / self.count).tolist(),
            dearest=self._dearest(),
            total=nats,
            pairs=self._confused(),
            texts=[(index, cost, text_of(self._spec, row.tolist())) for cost, index, row in self._worst],
        )

    def _bits(self, nats: float) -> dict[str, float]:
        vocabulary = self._spec.vocabulary
        if vocabulary is None:
            return {}
        size = float(self._sums[:, 0] @ torch.tensor(vocabulary.sizes, dtype=torch.float64))
        return {"bits_per_byte": nats / math.log(2) / size} if size else {}

    def _dearest(self) -> list[OneToken]:
        order = self._sums[:, 1].nan_to_num(math.inf).argsort(descending=True, stable=True)[:MOST_SHOWN].tolist()
        rows = [(number, *self._sums[number].tolist()) for number in order]
        return [
            OneToken(name_of(self._spec, number), int(count), nats / count, right / count)
            for number, count, nats, right in rows
            if count
        ]

    def _confused(self) -> list[tuple[str, str, int]]:
        if self._pairs is None:
            return []
        wrong = self._pairs.clone().fill_diagonal_(0).flatten()
        counts, places = wrong.topk(min(MOST_SHOWN, len(wrong)))
        return [
            (name_of(self._spec, place // self._spec.outputs), name_of(self._spec, place % self._spec.outputs), count)
            for count, place in zip(counts.tolist(), places.tolist(), strict=True)
            if count
        ]


def name_of(spec: DataSpec, number: int) -> str:
    """A token as a person reads it."""
    if spec.vocabulary is not None:
        return f"'{visible(spec.vocabulary.decode([number]))}'"
    return spec.classes[number] if number < len(spec.classes) else str(number)


def text_of(spec: DataSpec, numbers: list[int]) -> str:
    """Tokens as a person reads them, cut where they are many."""
    if spec.vocabulary is not None:
        text = visible(spec.vocabulary.decode(numbers))
    else:
        text = " ".join(name_of(spec, number) for number in numbers)
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"


def visible(text: str) -> str:
    """Text with escapes in the place of what cannot be seen, such as the end of a line."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
