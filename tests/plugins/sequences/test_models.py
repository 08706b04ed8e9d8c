"""lstm and tcn against torch's own layers, on sequences of uneven lengths, as forecasts and over tokens."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainkit import DataError, DataSpec
from trainkit_sequences.models import lstm, tcn

CLASSES = {"classes": ("a", "b", "c"), "class_counts": (9, 9, 9)}
EVEN = DataSpec((2, 12), "classification", 3, **CLASSES)
UNEVEN = DataSpec((3, 12), "classification", 3, **CLASSES, masked=True)
FORECAST = DataSpec((3, 12), "regression", 8)
TOKENS = DataSpec((12,), "tokens", 5)
LENGTHS = torch.tensor([12, 1, 7, 4])


def uneven(behind: float = 0.0) -> torch.Tensor:
    """Two channels and the mask; ``behind`` stands where there is no step."""
    torch.manual_seed(1)
    mask = (torch.arange(12) < LENGTHS[:, None]).float()[:, None]
    return torch.cat((torch.randn(4, 2, 12) * mask + behind * (1 - mask), mask), 1)


def test_an_lstm_is_torchs_own_on_packed_sequences() -> None:
    torch.manual_seed(0)
    model = lstm(UNEVEN, width=5, layers=2, bidirectional=True).eval()
    theirs = nn.LSTM(2, 5, num_layers=2, bidirectional=True, batch_first=True)
    for place in range(2):
        for own, suffix in ((model.ahead[place], ""), (model.behind[place], "_reverse")):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(theirs, f"{name}_l{place}{suffix}").data.copy_(getattr(own, f"{name}_l0"))
    inputs = uneven()
    packed = nn.utils.rnn.pack_padded_sequence(
        inputs[:, :2].transpose(1, 2), LENGTHS, batch_first=True, enforce_sorted=False
    )
    _, (last, _) = theirs(packed)
    expected = model.head(torch.cat((last[2], last[3]), 1))
    torch.testing.assert_close(model(inputs), expected)
    mean = lstm(UNEVEN, width=5, layers=2, bidirectional=True, pool="mean").eval()
    mean.load_state_dict(model.state_dict())
    steps, _ = nn.utils.rnn.pad_packed_sequence(theirs(packed)[0], batch_first=True)
    torch.testing.assert_close(mean(inputs), model.head(steps.sum(1) / LENGTHS[:, None]))


def test_an_lstm_begins_as_published() -> None:
    model = lstm(EVEN, width=6)
    layer = model.ahead[0]
    for gate in layer.weight_hh_l0.chunk(4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(6), atol=1e-5, rtol=0)
    assert layer.bias_ih_l0.reshape(4, 6).mean(1).tolist() == [0.0, 1.0, 0.0, 0.0]
    assert not layer.bias_hh_l0.any()


def test_a_tcn_is_weight_normed_dilated_convolutions_of_the_past() -> None:
    torch.manual_seed(0)
    model = tcn(EVEN, widths=(4, 4), kernel=3).eval()
    inputs = torch.randn(5, 2, 12)
    found = inputs
    for place, block in enumerate(model.blocks):
        before, inner = found, found
        for causal in (block.first, block.second):
            theirs = nn.utils.parametrizations.weight_norm(nn.Conv1d(inner.shape[1], 4, 3, dilation=2**place))
            theirs.parametrizations.weight.original0.data.copy_(causal.gain[:, None, None])
            theirs.parametrizations.weight.original1.data.copy_(causal.direction)
            theirs.bias.data.copy_(causal.bias)
            inner = theirs(nn.functional.pad(inner, (2 * 2**place, 0))).relu()
        found = (inner + block.shortcut(before)).relu()
    torch.testing.assert_close(model(inputs), model.head(found[:, :, -1]))


@pytest.mark.parametrize("build", [lstm, tcn])
@pytest.mark.parametrize("pool", ["last", "mean"])
def test_what_stands_behind_a_samples_end_changes_nothing(build, pool) -> None:
    torch.manual_seed(0)
    model = build(UNEVEN, pool=pool).eval()
    torch.testing.assert_close(model(uneven()), model(uneven(behind=7.0)))
    short = build(DataSpec((2, 4), "classification", 3, **CLASSES), pool=pool).eval()
    short.load_state_dict(model.state_dict())
    alone = uneven()[3:, :2, :4]
    torch.testing.assert_close(model(uneven())[3:], short(alone), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("build", [lstm, tcn])
def test_tokens_are_foretold_from_those_before(build) -> None:
    torch.manual_seed(0)
    model = build(TOKENS).eval()
    tokens = torch.randint(5, (3, 12))
    changed = tokens.clone()
    changed[:, 8] = (changed[:, 8] + 1) % 5
    before, after = model(tokens), model(changed)
    assert before.shape == (3, 12, 5)
    torch.testing.assert_close(before[:, :8], after[:, :8])
    assert not torch.allclose(before[:, 8:], after[:, 8:])
    torch.testing.assert_close(model(tokens[:, :5]), before[:, :5])


@pytest.mark.parametrize(("build", "changes"), [(lstm, {"layers": 2}), (tcn, {"widths": (6, 6)})])
def test_a_text_is_written_on_from_what_is_remembered(build, changes) -> None:
    torch.manual_seed(0)
    spec = DataSpec((40,), "tokens", 5)
    model = build(spec, **changes).eval()
    tokens = torch.randint(5, (2, 40))
    scores, state = model.following(tokens[:, :7])
    torch.testing.assert_close(scores, model(tokens)[:, 6])
    for place in range(7, 40):  # further than the tcn sees
        scores, state = model.following(tokens[:, place : place + 1], state)
        torch.testing.assert_close(scores, model(tokens)[:, place])


@pytest.mark.parametrize("build", [lstm, tcn])
def test_a_forecast_that_continues_goes_up_with_its_past(build) -> None:
    torch.manual_seed(0)
    model = build(FORECAST, continues=2).eval()
    inputs = torch.randn(3, 3, 12)
    higher = inputs + torch.tensor([10.0, -4.0, 2.0])[:, None]
    change = (model(higher) - model(inputs)).reshape(3, 2, 4)
    torch.testing.assert_close(change, torch.tensor([10.0, -4.0])[None, :, None].expand(3, 2, 4), atol=1e-4, rtol=0)
    with torch.no_grad():
        model.start.linear.weight[1, 11] = 1.0  # the second month ahead from the last step, about the level
    moved = (build(FORECAST, continues=2).start.away(inputs)[1], model.start.away(inputs)[1])
    level = inputs[:, :2].mean(2)
    torch.testing.assert_close(moved[0], level.repeat_interleave(4, 1))
    torch.testing.assert_close(moved[1].reshape(3, 2, 4)[:, :, 1], inputs[:, :2, -1])


@pytest.mark.parametrize("build", [lstm, tcn])
def test_quantiles_continue_each_its_own_target(build) -> None:
    spec = DataSpec((3, 12), "regression", 3 * 2 * 4, naive_error=(1.0,) * 8)  # levels, targets, steps ahead
    inputs = torch.randn(5, 3, 12)
    found = build(spec, continues=2)(inputs).reshape(5, 3, 2, 4)
    torch.testing.assert_close(found, inputs[:, None, :2].mean(3)[..., None].expand(5, 3, 2, 4))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: lstm(DataSpec((6,), "classification", 3)), r"model lstm needs sequences .* has \(6,\)"),
        (lambda: tcn(DataSpec((3, 8, 8), "classification", 3)), "use model mlp, or data csv_sequences or series"),
        (lambda: lstm(TOKENS, bidirectional=True), "would read the tokens that it is to predict"),
        (lambda: tcn(EVEN, continues=1), "continues = 1 is of forecasts"),
        (lambda: lstm(FORECAST, continues=3), "3 channels and 8 outputs"),
        (lambda: tcn(EVEN, widths=()), r"write widths = \[32\]"),
        (lambda: tcn(EVEN)(torch.zeros(2, 2, 13)), r"give it \(batch, 2, 12\)"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(build, message) -> None:
    with pytest.raises(DataError, match=message):
        build()
