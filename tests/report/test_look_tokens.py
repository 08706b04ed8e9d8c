"""What a page shows of tokens, beside the same computed from all outputs at once."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from trainkit.dataset import Batch, DataSpec
from trainkit.report.look import Look
from trainkit.report.look_blocks import look_sections
from trainkit.report.look_tokens import LookingAtTokens, visible
from trainkit.scoring import scores
from trainkit.testing.letters import Letters

SPEC = DataSpec((6,), "tokens", 5, vocabulary=Letters(5))  # a b c d é, the last of two bytes


@pytest.fixture
def drawn() -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, targets and outputs that say something of the targets."""
    draw = torch.Generator().manual_seed(1)
    rows = torch.randint(5, (40, 7), generator=draw)
    outputs = torch.randn(40, 6, 5, generator=draw) + functional.one_hot(rows[:, 1:], 5)
    return rows[:, :-1], rows[:, 1:], outputs


def looked(inputs: Tensor, targets: Tensor, outputs: Tensor, spec: DataSpec = SPEC) -> Look:
    looking, found = LookingAtTokens(spec), Look("val", task="tokens")
    numbers = torch.arange(len(inputs))
    for part in numbers.split([7, 30, 3]):
        looking.add(Batch(inputs[part], targets[part], part), outputs[part])
    assert not looking.why
    found.samples = looking.count
    looking.tell(found)
    return found


def test_figures_are_those_of_the_positions_in_a_row(drawn: tuple[Tensor, Tensor, Tensor]) -> None:
    _, targets, outputs = drawn
    found = looked(*drawn)
    expected = scores(outputs.reshape(-1, 5), targets.reshape(-1), replace(SPEC, task="classification"))
    assert {name: found.figures[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    nll = float(functional.cross_entropy(outputs.transpose(1, 2), targets))
    size = int((targets == 4).sum()) + targets.numel()
    assert found.figures["perplexity"] == pytest.approx(math.exp(nll), rel=1e-5)
    assert found.figures["bits_per_byte"] == pytest.approx(nll * targets.numel() / math.log(2) / size, rel=1e-5)
    assert sum(one.samples for one in found.bins) == targets.numel()


def test_tokens_are_told_with_their_cost_their_place_and_what_they_are_taken_for(
    drawn: tuple[Tensor, Tensor, Tensor],
) -> None:
    inputs, targets, outputs = drawn
    seen = looked(*drawn).tokens
    assert seen is not None
    nats = functional.cross_entropy(outputs.transpose(1, 2), targets, reduction="none")
    assert seen.positions == pytest.approx(nats.mean(0).tolist(), rel=1e-5)
    costs = {letter: float(nats[targets == number].sum()) for number, letter in enumerate("abcdé")}
    assert [one.name for one in seen.dearest] == [f"'{name}'" for name in sorted(costs, key=lambda n: -costs[n])]
    first = seen.dearest[0]
    assert first.count * first.nats == pytest.approx(costs[first.name.strip("'")], rel=1e-5)
    taken = outputs.argmax(-1)
    name, other, count = seen.pairs[0]
    places = (targets == "abcdé".index(name[1])) & (taken == "abcdé".index(other[1]))
    assert int(places.sum()) == count
    assert sum(one[2] for one in seen.pairs) == int((taken != targets).sum())
    worst = int(nats.mean(1).argmax())
    whole = [int(inputs[worst, 0]), *targets[worst].tolist()]
    assert seen.texts[0][0] == worst
    assert seen.texts[0][2] == "".join("abcdé"[number] for number in whole)


def test_the_page_shows_them(drawn: tuple[Tensor, Tensor, Tensor]) -> None:
    sections = look_sections(looked(*drawn))
    titles = [getattr(block, "title", "") for section in sections for block in section.blocks]
    assert [section.title for section in sections] == ["Predictions on val", "Worst samples"]
    for title in ("cost by the token's place in its sample", "tokens that cost most altogether", "highest loss"):
        assert title in titles


def test_outputs_of_whole_samples_are_told_and_not_shown(drawn: tuple[Tensor, Tensor, Tensor]) -> None:
    looking = LookingAtTokens(SPEC)
    looking.add(Batch(*drawn[:2], torch.arange(40)), drawn[2][:, 0])
    assert "(40, 5) are nothing that a report can show: they are not (40, 6, 5)" in looking.why


def test_ends_of_lines_are_seen() -> None:
    assert visible("a\tb\nc\x00é") == "a\\tb\\nc\\x00é"
