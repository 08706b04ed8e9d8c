"""Passes with dropout on: what stays is drawn once for each pass, and nothing else is in training mode."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.plugins.ensemblers.made import CLASSES, Bench, Told, stored
from trainkit import DataSpec, Member, UsageError, Validation
from trainkit.ensemble.opened import Ensemble
from trainkit_ensemblers.masks import dropouts, thinned
from trainkit_ensemblers.of_weights import mc_dropout

INPUTS = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
TARGETS = torch.randint(0, 3, (30,), generator=torch.Generator().manual_seed(1))
SPEC = replace(CLASSES, input_shape=(5,))


def net(drop: float = 0.4) -> nn.Module:
    torch.manual_seed(1)
    norm = nn.BatchNorm1d(8)
    norm.running_mean.normal_()
    return nn.Sequential(nn.Linear(5, 8), norm, nn.ReLU(), nn.Dropout(drop), nn.Linear(8, 3)).eval()


def fitted(ensembler: Any, *modules: nn.Module, spec: DataSpec = SPEC, inputs: Tensor = INPUTS) -> Any:
    for number, module in enumerate(modules):
        ensembler.add(Member(f"m{number}", module, {}, spec))

    def measure(module: nn.Module) -> Tensor:
        with torch.no_grad():
            return module(inputs)

    outputs = torch.stack([measure(module) for module in modules])
    targets = torch.randn(outputs.shape[1:]) if spec.task == "regression" else TARGETS[: len(inputs)]
    held, index = torch.ones(outputs.shape[:2], dtype=torch.bool), torch.arange(len(inputs))
    ensembler.fit(Validation(outputs, targets, held, index, spec, nn.MSELoss(), measure, lambda module: False, Told()))
    return ensembler


def test_each_pass_is_the_model_with_its_masks_and_the_rest_in_evaluation_mode():
    model = net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ensembler = fitted(mc_dropout(3, passes=7, combine="probability"), model)
    (masks,) = ensembler.state()["masks"]
    kept = masks["3"].float()
    assert kept.shape == (7, 8)
    with torch.no_grad():
        hidden = model[2](model[1](model[0](INPUTS)))  # with the statistics that were measured while training
        passes = torch.stack([model[4](hidden * mask / 0.6) for mask in kept])
        torch.testing.assert_close(ensembler.predict(INPUTS), passes.softmax(-1).mean(0).log())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(part.training for part in model.modules())
    assert isinstance(model[3], nn.Dropout), "the member's own module is left as it is"


def test_masks_follow_from_the_seed_and_the_number_of_the_pass():
    def masks(seed: int, passes: int) -> Tensor:
        model = net()
        before = torch.get_rng_state()
        found: Tensor = fitted(mc_dropout(seed, passes=passes), model).state()["masks"][0]["3"]
        assert torch.equal(torch.get_rng_state(), before), "no other random number is drawn"
        return found

    first = masks(3, 50)
    assert not torch.equal(first, masks(4, 50))
    assert torch.equal(first[:20], masks(3, 20)), "more passes begin with the same ones"
    assert len({tuple(row) for row in first.tolist()}) > 40
    assert float(first.float().mean()) == pytest.approx(0.6, abs=0.08)


def test_a_sample_gets_the_same_answer_whatever_is_in_its_batch():
    ensembler = fitted(mc_dropout(3, passes=5), net())
    with torch.no_grad():
        whole = ensembler.predict(INPUTS)
        torch.testing.assert_close(whole, torch.cat([ensembler.predict(row[None]) for row in INPUTS]))
        torch.testing.assert_close(whole, ensembler.predict(INPUTS.flip(0)).flip(0))


def test_it_is_stored_as_one_model_and_masks_and_opened_again():
    ensembler = fitted(mc_dropout(3, passes=5, combine="logit"), net(), net(0.2))
    assert [member.name for member in ensembler.members()] == ["m0", "m1"]
    opened = stored(ensembler, lambda: mc_dropout(99, passes=2))
    with torch.no_grad():
        assert torch.equal(opened.predict(INPUTS), ensembler.predict(INPUTS))
    assert opened.state()["passes"] == 5
    assert opened.state()["compared"] == ensembler.state()["compared"]


def test_passes_share_the_weights_of_their_model():
    ensembler = fitted(mc_dropout(3, passes=6), model := net())
    own = {id(parameter) for parameter in model.parameters()}
    assert {id(parameter) for parameter in ensembler.together.parameters()} == own
    for made in ensembler.together.each:  # statistics too move with the model to another device
        assert [made[place] is model[place] for place in range(5)] == [True, True, True, False, True]


class Placed(nn.Module):
    """Adds a table that is not trained, and drops, as a positional encoding does."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.randn(5))
        self.dropout = nn.Dropout(0.4)

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs of five numbers."""
        return self.dropout(inputs + self.table)


def test_passes_move_to_another_device_with_their_ensemble():
    ensembler = fitted(mc_dropout(3, passes=2), nn.Sequential(Placed(), nn.Linear(5, 3)).eval())
    ensemble = Ensemble(ensembler, ensembler.members(), 1.0, SPEC, {}, {})
    names = list(ensemble.state_dict())
    assert ensemble.to("meta")(INPUTS.to("meta")).device.type == "meta"
    assert all(tensor.is_meta for tensor in ensembler.together.buffers()), "masks too: not copied for every batch"
    assert list(ensemble.state_dict()) == names


def test_a_regression_has_the_variance_of_the_passes():
    spec = DataSpec((5,), "regression", 3)
    ensembler = fitted(mc_dropout(3, passes=9), model := net(), spec=spec)
    with torch.no_grad():
        hidden = model[2](model[1](model[0](INPUTS)))
        passes = torch.stack([model[4](hidden * mask / 0.6) for mask in ensembler.state()["masks"][0]["3"].float()])
        torch.testing.assert_close(ensembler.predict(INPUTS), passes.mean(0))
        torch.testing.assert_close(ensembler.variance(INPUTS), passes.var(0, correction=0))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(nn.Dropout(0.3), (4, 6, 6)), (nn.Dropout2d(0.3), (4, 1, 1)), (nn.AlphaDropout(0.3), (4, 6, 6))],
)
def test_layers_that_drop_whole_maps_and_those_of_selu_do_as_they_do_in_training(layer, shape):
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), layer, nn.Flatten(), nn.Linear(144, 3)).eval()
    images = torch.randn(6, 2, 6, 6)
    ensembler = fitted(mc_dropout(1, passes=40), model, spec=replace(CLASSES, input_shape=(2, 6, 6)), inputs=images)
    (masks,) = ensembler.state()["masks"]
    assert tuple(masks["1"].shape[1:]) == shape
    values = torch.randn(4000, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    theirs = type(layer)(0.3).train()(values)
    ours = torch.stack([thinned(model, masks, number)[1](values[number]) for number in range(40)])
    assert float(ours.mean()) == pytest.approx(float(theirs.mean()), abs=0.15)
    assert float(ours.std()) == pytest.approx(float(theirs.std()), abs=0.15)
    one = thinned(model, masks, 0)[1](values)
    if isinstance(layer, nn.AlphaDropout):  # what it makes of a number follows from the number and its mask alone
        kept = masks["1"][0].bool()
        factor = (0.7 * (1 + 0.3 * 1.7580993408473766**2)) ** -0.5
        shift = factor * 0.3 * 1.7580993408473766
        torch.testing.assert_close(one[:, kept], values[:, kept] * factor + shift)
        torch.testing.assert_close(one[:, ~kept], torch.full_like(one[:, ~kept], -1.7580993408473766 * factor + shift))


def test_one_layer_in_several_places_has_one_mask():
    drop = nn.Dropout(0.5)
    model = nn.Sequential(nn.Linear(5, 5), drop, nn.Linear(5, 5), drop, nn.Linear(5, 3)).eval()
    ensembler = fitted(mc_dropout(1, passes=3), model)
    assert list(ensembler.state()["masks"][0]) == ["1"]
    first = ensembler.together.each[0]
    assert first[1] is first[3]
    assert not dropouts(first)
    other = nn.Sequential(nn.Linear(5, 4), drop, nn.Linear(4, 5), drop, nn.Linear(5, 3)).eval()
    with pytest.raises(UsageError, match=r"'1' is used for samples of shape \(4,\) and of \(5,\)"):
        fitted(mc_dropout(1, passes=3), other)


def test_a_model_without_dropout_is_refused_before_any_work():
    for module in (nn.Linear(5, 3), net(0.0)):
        with pytest.raises(UsageError, match="the model of m has no dropout layer"):
            mc_dropout(1).gather(Bench(given=[Member("m", module, {}, SPEC)]))


def test_it_can_be_exported():
    ensembler = fitted(mc_dropout(3, passes=4), net())

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.together, self.combination = ensembler.together, ensembler.combination

        def forward(self, inputs: Tensor) -> Tensor:
            return ensembler.predict(inputs)

    rows = torch.export.Dim("rows", min=1, max=64)
    program = torch.export.export(Whole().eval(), (INPUTS,), dynamic_shapes=({0: rows},))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(INPUTS[:7]), ensembler.predict(INPUTS[:7]))
