"""BatchNorm folded for evaluations: the results are those of the model, and where it cannot be, nothing changes."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainkit import RunError, hookimpl
from trainkit.finished import evaluate_run, predict_run
from trainkit.folding import LEAST_NUMBERS, Folding
from trainkit.launch import launch
from trainkit.sealed import Sealed

MANY = LEAST_NUMBERS  # samples for which folding pays
IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LEARNT = "data.features=[3,24,24]", "data.samples=640", "run.duration=2ep", "run.evaluate_every=1ep"
CONVNET = *LEARNT, "model={use='convnet', widths=[16, 16], norm='batch'}"


def settled(model: nn.Module) -> nn.Module:
    """The model in evaluation mode, with statistics and factors as training leaves them."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor in (module.weight, module.running_var):
                if tensor is not None:
                    tensor.data.uniform_(0.5, 2.0, generator=generator)
            for tensor in (module.bias, module.running_mean):
                if tensor is not None:
                    tensor.data.normal_(generator=generator)
    return model.eval()


class Model(nn.Module):
    """Two convolutions, each with a BatchNorm; the tests change what lies between."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.norm2 = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.norm2(self.conv2(self.norm1(self.conv1(inputs)).relu()))
        return result


@torch.no_grad()
def folded(model: nn.Module, inputs: Tensor = IMAGES, prepare=lambda model: None) -> tuple[int, list[str]]:
    """Compare the model's outputs with and without folding; BatchNorms at work with it, and what was said."""
    said: list[str] = []
    folding = Folding(model, said.append)
    with folding.watch():
        model(inputs[:2].clone())
    prepare(model)
    expected = model(inputs.clone())
    forward = folding.forward(model, MANY, None)
    calls, norm = 0, functional.batch_norm

    def counted(*arguments, **more):
        nonlocal calls
        calls += 1
        return norm(*arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(functional, "batch_norm", counted)
        found = forward(inputs.clone())
    assert type(found) is Tensor
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not any("forward" in vars(module) for module in model.modules())
    return calls, said


def test_every_pair_is_folded() -> None:
    assert folded(settled(Model())) == (0, [])


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ([nn.Linear(5, 7), nn.BatchNorm1d(7)], (6, 5)),
        ([nn.Linear(5, 7, bias=False), nn.BatchNorm1d(7, affine=False)], (6, 5)),
        ([nn.Conv1d(3, 4, 3, stride=2, padding_mode="circular", padding=1), nn.BatchNorm1d(4)], (6, 3, 9)),
        ([nn.Conv2d(4, 8, 3, groups=4, dilation=2), nn.Identity(), nn.BatchNorm2d(8), nn.ReLU(True)], (6, 4, 8, 8)),
        ([nn.Conv3d(2, 4, 2), nn.BatchNorm3d(4)], (6, 2, 4, 4, 4)),
        ([nn.Linear(5, 7).double(), nn.BatchNorm1d(7).double()], (6, 5)),
    ],
    ids=str,
)
def test_kinds_of_layers(layers: list[nn.Module], shape: tuple[int, ...]) -> None:
    inputs = torch.randn(shape, dtype=next(layers[0].parameters()).dtype)
    assert folded(settled(nn.Sequential(*layers)), inputs) == (0, [])


def test_frozen_and_tied_weights_fold() -> None:
    model = settled(Model())
    model.conv3 = nn.Conv2d(4, 4, 3)
    model.conv3.weight = model.conv2.weight
    model.requires_grad_(False)
    assert folded(model) == (0, [])


class UsedElsewhere(Model):
    def forward(self, inputs):
        made = self.conv1(inputs)
        return self.norm1(made) + made


class SharedLayer(Model):
    def forward(self, inputs):
        return self.norm1(self.conv1(inputs)) + self.norm2(self.conv1(inputs))


class NormFirst(Model):
    def forward(self, inputs):
        return self.norm2(self.conv1(inputs).relu()) + self.norm1(self.conv1(inputs).relu())


class OtherAxis(nn.Module):
    """A linear layer over the last of three dimensions, and a BatchNorm over the second."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm1 = nn.Linear(8, 3), nn.BatchNorm1d(3)

    def forward(self, inputs):
        return self.norm1(self.layer(inputs[:, :, 0]))


@pytest.mark.parametrize(
    ("model", "calls", "names"),
    [(UsedElsewhere, 1, 1), (SharedLayer, 2, 2), (NormFirst, 2, 2), (OtherAxis, 1, 1)],
)
def test_a_layer_that_does_not_work_for_one_norm_alone_stays(model, calls, names) -> None:
    found, said = folded(settled(model()))
    assert found == calls
    assert len(said) == 1
    assert "its inputs are not those of a convolution or linear layer that works for it alone" in said[0]
    assert said[0].count("norm1") == 1


class Twice(Model):
    """A block used twice, and one norm behind two layers."""

    def forward(self, inputs):
        hidden = self.norm1(self.conv1(inputs))
        for _ in range(2):
            hidden = self.norm2(self.conv2(hidden)).relu_()
        return hidden


def test_a_block_that_is_used_twice_is_folded_both_times() -> None:
    assert folded(settled(Twice())) == (0, [])


def test_a_norm_behind_two_layers_is_folded_into_both() -> None:
    class Both(Model):
        def forward(self, inputs):
            return self.norm1(self.conv2(self.norm1(self.conv1(inputs)).relu())).relu()

    calls, said = folded(settled(Both()))
    assert calls == 0
    assert len(said) == 1
    assert "norm2" in said[0]


class Deciding(Model):
    """Which way the numbers go depends on the numbers."""

    way = "norm"

    def forward(self, inputs):
        made = self.conv1(inputs)
        if self.way == "norm":
            return self.norm1(made)
        if self.way == "plain":
            return made
        if self.way == "both":
            return made * 2 + self.norm1(made)
        if self.way == "other":
            return self.norm2(made)
        if self.way == "changed":
            made += 1
            return self.norm1(made)
        if self.way == "changed after":
            first = self.norm1(made).relu_()
            return first + self.norm1(made)
        if self.way == "listed":
            return torch.cat([made, self.norm1(made)])
        if self.way == "asked":
            assert isinstance(made, Tensor)
            return self.norm1(made) if made.shape[1] == 4 and made.dim() == 4 and len(made) else made
        assert self.way == "inputs changed"
        done = self.norm1(made)
        inputs.mul_(2)
        return done + made


@pytest.mark.parametrize(
    ("way", "calls"),
    [
        ("plain", 0),
        ("both", 1),
        ("other", 2),  # one, which torch calls again to give it the plain result
        ("changed", 1),
        ("changed after", 1),
        ("listed", 0),
        ("asked", 0),
    ],
)
def test_a_way_that_was_not_taken_before_gives_the_models_result(way: str, calls: int) -> None:
    found, _ = folded(settled(Deciding()), prepare=lambda model: setattr(model, "way", way))
    assert found == calls


@torch.no_grad()
def test_inputs_that_are_gone_are_an_error_and_no_wrong_result() -> None:
    model = settled(Deciding())
    folding = Folding(model, print)
    with folding.watch():
        model(IMAGES.clone())
    model.way = "inputs changed"
    with pytest.raises(RunError, match="fold_batchnorm = false"):
        folding.forward(model, MANY, None)(IMAGES.clone())
    assert not any("forward" in vars(module) for module in model.modules())


def hooked(model):
    model.conv1.register_forward_hook(lambda module, inputs, made: made * 2)


def normed(model):
    model.norm1.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,))


def parametrized(model):
    nn.utils.parametrize.register_parametrization(model.conv1, "weight", nn.Tanh())


def training(model):
    model.norm1.train()
    model.norm1.momentum = 0.0


def replaced(model):
    model.conv1.forward = lambda inputs: functional.conv2d(inputs, model.conv1.weight * 2, padding=1)


def no_statistics(model):
    model.norm1.running_mean = model.norm1.running_var = None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (hooked, "the layer before it: it has hooks"),
        (normed, "it has hooks"),
        (parametrized, "the layer before it: it is of the class ParametrizedConv2d"),
        (training, "it is kept in training mode"),
        (no_statistics, "it has no running statistics"),
    ],
)
def test_what_comes_later_is_seen(change, why: str) -> None:
    calls, said = folded(settled(Model()), prepare=change)
    assert calls == 1
    assert said == [f"evaluations do not fold BatchNorm norm1: {said[0].partition(': ')[2]}"]
    assert why in said[0]


class ByHand(nn.Module):
    """A layer whose weight is made anew for each batch, as spectral norm by hand makes it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.weight = module, nn.Parameter(module.weight.detach().clone())
        del module._parameters["weight"]

    def forward(self, inputs):
        self.module.weight = self.weight * 2
        return self.module(inputs)


def test_weights_that_are_plain_attributes_stay() -> None:
    model = Model()
    model.conv1 = ByHand(model.conv1)
    calls, said = folded(settled(model))
    assert calls == 1
    assert "its weights, or those of the layer before it, are plain attributes" in said[0]


class WithoutAutocast(Model):
    def forward(self, inputs):
        with torch.autocast("cpu", enabled=False):
            return super().forward(inputs)


@torch.no_grad()
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_layers_that_autocast_leaves_alone_compute_what_they_did(kind: torch.dtype) -> None:
    model = settled(WithoutAutocast() if kind is torch.float32 else Model()).to(kind)
    folding = Folding(model, print)
    with folding.watch():
        model(IMAGES.to(kind))
    with torch.autocast("cpu", torch.bfloat16):
        expected = model(IMAGES.to(kind))
        found = folding.forward(model, MANY, torch.bfloat16)(IMAGES.to(kind))
    torch.testing.assert_close(found, expected)


class Keeping(Model):
    def forward(self, inputs):
        self.kept = self.conv1(inputs)
        return self.norm1(self.kept)


@torch.no_grad()
def test_what_a_model_keeps_is_of_the_weights_that_made_it() -> None:
    model = settled(Keeping())
    folding = Folding(model, print)
    with folding.watch():
        model(IMAGES)
    expected = model.conv1(IMAGES)
    folding.forward(model, MANY, None)(IMAGES)
    model.conv1.weight.mul_(3)
    assert torch.equal(model.kept, expected)
    assert torch.equal(copy.deepcopy(model).kept, expected)


@torch.no_grad()
def test_inputs_whose_changes_nobody_counts_are_not_folded() -> None:
    model = settled(Deciding())
    folding = Folding(model, print)
    with folding.watch():
        model(IMAGES.clone())
    model.way = "inputs changed"
    forward = folding.forward(model, MANY, None)
    with torch.inference_mode():
        torch.testing.assert_close(forward(IMAGES * 1), model(IMAGES * 1))


def test_layers_may_be_given_their_input_by_name() -> None:
    class ByName(Model):
        def forward(self, inputs):
            return self.norm2(input=self.conv2(input=self.norm1(input=self.conv1(input=inputs)).relu()))

    assert folded(settled(ByName())) == (0, [])


def test_a_layer_of_another_number_format_stays() -> None:
    model = settled(nn.Sequential(nn.Conv2d(3, 4, 3).bfloat16(), nn.BatchNorm2d(4)))
    calls, said = folded(model, IMAGES.bfloat16())
    assert calls == 1
    assert "another number format" in said[0]


@torch.no_grad()
def test_what_was_there_before_is_seen_and_said_once() -> None:
    class Own(nn.BatchNorm2d):
        pass

    model = settled(Model())
    hooked(model)
    model.norm2 = settled(Own(4))
    assert folded(model)[0] == 2
    said: list[str] = []
    folding = Folding(model, said.append)
    with folding.watch():
        model(IMAGES)
    for _ in range(3):
        folding.forward(model, MANY, None)
    assert len(said) == 2
    assert "it is of the class Own" in said[1]


@torch.no_grad()
def test_weights_that_a_model_changes_while_it_runs_are_the_ones_that_count() -> None:
    class Growing(Model):
        def forward(self, inputs):
            self.conv1.weight.add_(1.0)
            result = super().forward(inputs)
            self.conv1.weight.sub_(1.0)
            return result

    assert folded(settled(Growing()))[0] == 1


@torch.no_grad()
def test_little_work_is_not_worth_folding() -> None:
    model = settled(Model())
    folding = Folding(model, print)
    with folding.watch():
        model(IMAGES)
    assert folding.forward(model, 8, None) is model
    assert folding.forward(model, MANY, torch.float16) is model, "weights may grow too large for it"
    plain = nn.Sequential(nn.Conv2d(3, 4, 3))
    assert Folding(plain, print).forward(plain, MANY, None) is plain


@torch.no_grad()
def test_layout_and_number_format_stay() -> None:
    model = settled(Model()).to(memory_format=torch.channels_last)
    inputs = IMAGES.contiguous(memory_format=torch.channels_last)
    folding = Folding(model, print)
    with folding.watch():
        model(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        expected = model(inputs)
        found = folding.forward(model, MANY, torch.bfloat16)(inputs)
    assert found.dtype is expected.dtype is torch.bfloat16
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)


class Count:
    """How often a BatchNorm works while an evaluation is made."""

    def __init__(self) -> None:
        self.calls = 0

    @hookimpl(wrapper=True)
    def trainkit_evaluate(self):
        norm = functional.batch_norm

        def counted(*arguments, **more):
            self.calls += 1
            return norm(*arguments, **more)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(functional, "batch_norm", counted)
            return (yield)


def test_a_run_folds_by_itself_and_measures_the_same(train) -> None:
    count, plain_count = Count(), Count()
    finished = train(*CONVNET, listeners=[count])
    plain = train(*CONVNET, "run.fold_batchnorm=false", listeners=[plain_count])
    assert count.calls == 0 < plain_count.calls
    assert finished.report.weights_sha256 == plain.report.weights_sha256
    for one, other in zip(finished.of("val"), plain.of("val"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one["accuracy"] == other["accuracy"]


def test_finished_runs_are_measured_as_they_measured_themselves(train, plugins) -> None:
    finished = train(*CONVNET)
    (logged,) = finished.of("test")
    figures = evaluate_run(finished.folder, "test", plugins)
    assert figures["loss"] == logged["loss"]
    assert figures["accuracy"] == logged["accuracy"]
    plain = train(*CONVNET, "run.fold_batchnorm=false")
    one, other = (predict_run(run.folder, "test", plugins)["outputs"] for run in (finished, plain))
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert not torch.equal(one, other), "one of them is not folded"


def test_a_continued_run_is_measured_bit_for_bit_as_one_that_was_not_interrupted(load, plugins, tmp_path) -> None:
    class Stop:
        @hookimpl
        def trainkit_step_end(self, run):
            if run.step == 9:
                run.stop_reason = "the test asked for it"

    recipe = load(*CONVNET, more='[[callback]]\nuse = "ema"\n')
    whole = launch(recipe, plugins, folder=tmp_path / "whole")
    launch(recipe, plugins, folder=tmp_path / "broken", listeners=[Stop()])
    again = launch(recipe, plugins, folder=tmp_path / "broken", resume=True)
    assert again.metrics == whole.metrics
    kept, came = (
        [
            {name: value for name, value in json.loads(line).items() if name != "time"}
            for line in (tmp_path / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        for name in ("whole", "broken")
    )
    assert kept == came


def test_a_norm_that_stays_is_named_in_the_log(train) -> None:
    class Hook:
        @hookimpl
        def trainkit_run_start(self, run):
            hooked_layer = next(module for module in run.model.modules() if isinstance(module, nn.Conv2d))
            hooked_layer.register_forward_hook(lambda module, inputs, made: None)

    finished = train(*CONVNET, listeners=[Hook()])
    log = (finished.folder / "log.txt").read_text(encoding="utf-8")
    assert log.count("evaluations do not fold BatchNorm body.1: the layer before it: it has hooks") == 1


class Doubling(torch.autograd.Function):
    @staticmethod
    def forward(context, inputs):
        return inputs * 2

    @staticmethod
    def backward(context, gradient):
        return gradient * 2


def doubled(inputs: Tensor) -> Tensor:
    return inputs * 2


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
@pytest.mark.parametrize("kind", ["autograd function", "script", "extension"])
def test_what_runs_outside_of_python_never_gets_a_folded_result(kind: str) -> None:
    """Functions that torch calls are given the layer's result; compiled extensions fail: there is nothing to take."""
    through = {
        "autograd function": lambda: Doubling.apply,
        "script": lambda: torch.jit.script(doubled),
        "extension": lambda: lambda inputs: torch._C._nn.gelu(inputs),
    }[kind]()

    class Through(Model):
        def forward(self, inputs):
            made = self.conv1(inputs)
            return self.norm1(made) + through(made)

    calls, said = folded(settled(Through()))
    assert calls == 1
    assert "norm1" in said[0]


@torch.no_grad()
def test_there_is_nothing_to_take_in_a_sealed_result() -> None:
    sealed = Sealed.seal(torch.ones(3), None, lambda: torch.zeros(3))
    assert sealed.shape == (3,)
    assert sealed.device.type == "cpu"
    with torch._C.DisableTorchFunctionSubclass():
        assert sealed.device.type == "meta"
    assert torch.equal(sealed + 1, torch.ones(3))
    assert sealed.folded() is None, "the plain one is in use"


def test_a_model_that_does_not_bear_to_be_watched_is_run_without_folding(train, monkeypatch) -> None:
    def look(self, inputs):
        with torch._C.DisableTorchFunctionSubclass():  # as compiled extensions do
            inputs.sum().item()
        return inputs.mean((2, 3)) if inputs.dim() == 4 else inputs

    class Look(nn.Module):
        forward = look

    convnet = nn.Sequential(nn.Conv2d(3, 4, 3), Look(), nn.Linear(4, 3), nn.BatchNorm1d(3))
    monkeypatch.setattr("trainkit_models.ConvNet", lambda *given, **more: convnet, raising=False)
    monkeypatch.setattr("trainkit_models.convolutional.ConvNet", lambda *given, **more: convnet)
    finished = train(*LEARNT, "model={use='convnet', widths=[4]}")
    assert finished.run.folding is None
    assert finished.report.status == "finished"
    log = (finished.folder / "log.txt").read_text(encoding="utf-8")
    assert log.count("the model raises where the results of its layers are watched") == 1
