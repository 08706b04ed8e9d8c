"""Models that know other units of the same data: the change is exact, and every data component names its units."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.ensemble.of_runs import base_of_run
from trainkit.build_data import make_dataset
from trainkit.dataset import Dataset, DataSpec
from trainkit.ensemble.aligned import Aligned, align
from trainkit.ensemble.members import member_of_run
from trainkit.finished import predict_run
from trainkit.instantiate import Builder
from trainkit.manager import Plugins
from trainkit.protocols import silent
from trainkit.recipe import recipe_from_text

FINITE = st.floats(-100, 100, width=32)
SPREAD = st.floats(0.0625, 100, width=32)


def units(draw: st.DrawFn, count: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if draw(st.booleans()):
        return (), ()
    wide = draw(st.sampled_from([1, count]))
    mean = draw(st.lists(FINITE, min_size=wide, max_size=wide))
    std = draw(st.lists(SPREAD, min_size=wide, max_size=wide))
    return tuple(mean), tuple(std)


@st.composite
def specs(draw: st.DrawFn) -> tuple[DataSpec, DataSpec]:
    shape = draw(st.sampled_from([(3,), (3, 2, 2)]))

    def one() -> DataSpec:
        (input_mean, input_std), (target_mean, target_std) = units(draw, 3), units(draw, 2)
        return DataSpec(
            shape,
            "regression",
            2,
            target_mean=target_mean,
            target_std=target_std,
            input_mean=input_mean,
            input_std=input_std,
        )

    return one(), one()


def standardised(raw: Tensor, mean: tuple[float, ...], std: tuple[float, ...], beside: int) -> Tensor:
    mean, std = mean or (0.0,), std or (1.0,)
    shape = (-1, *(1,) * beside)
    return (raw - torch.tensor(mean).double().reshape(shape)) / torch.tensor(std).double().reshape(shape)


@settings(deadline=None, max_examples=60)
@given(specs())
def test_inputs_and_outputs_change_their_units_exactly(pair: tuple[DataSpec, DataSpec]):
    own, base = pair
    torch.manual_seed(0)
    model = (
        nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(own.input_shape).numel(), 2)).double().requires_grad_(False)
    )
    raw = torch.randn(5, *own.input_shape, dtype=torch.float64) * 10
    beside = len(own.input_shape) - 1
    seen = [standardised(raw, spec.input_mean, spec.input_std, beside) for spec in pair]
    original = model(seen[0]) * torch.tensor(own.target_std or (1.0,)) + torch.tensor(own.target_mean or (0.0,))
    wanted = standardised(original, base.target_mean, base.target_std, 0)
    found = align(model, own, base)(seen[1])
    # Scale and shift are rounded once, to 24 bits, at the size that they have.
    smallest = [min(spec.input_std or (1.0,)) for spec in pair]
    inner = 12 * (200 + float(raw.abs().max())) / min(smallest)
    outer = (100 + max(own.target_std or (1.0,))) / min(base.target_std or (1.0,))
    torch.testing.assert_close(found, wanted, rtol=0, atol=2**-23 * (inner * outer + float(wanted.abs().max())))


def test_equal_units_put_nothing_before_a_model():
    spec = DataSpec((3,), "regression", 1, input_mean=(1.0,), input_std=(2.0,), target_mean=(1.0,), target_std=(2.0,))
    model = nn.Linear(3, 1)
    assert align(model, spec, copy.deepcopy(spec)) is model
    plain = DataSpec((3,), "regression", 1)
    assert align(model, plain, DataSpec((3,), "regression", 1, input_mean=(0.0,) * 3, input_std=(1.0,) * 3)) is model
    assert isinstance(align(model, plain, spec), Aligned)


def test_the_units_travel_with_the_weights():
    spec = DataSpec((3,), "regression", 1, input_mean=(1.0,), input_std=(2.0,))
    made = align(nn.Linear(3, 1), spec, DataSpec((3,), "regression", 1))
    assert set(made.state_dict()) == {"input_scale", "input_shift", "model.weight", "model.bias"}
    assert copy.deepcopy(made).double()(torch.zeros(1, 3).double()).dtype == torch.float64


# ------------------------------------------------------------ what data components say


def dataset_of(plugins: Plugins, table: str) -> Dataset:
    text = (
        f'recipe = 1\nlogger = []\n[run]\nduration = "1ep"\n[data]\nbatch_size = 8\n{table}\n[model]\nuse = "mlp"\n'
        '[loss]\nuse = "cross_entropy"\n[optimizer]\nuse = "sgd"\nlr = 0.1\n'
    )
    builder = Builder(recipe_from_text(text, "data", [], plugins), plugins, silent)
    return make_dataset(builder, lambda text: None)


def write_table(path: Path) -> None:
    lines = ["size,colour,weight,kind"]
    lines += [f"{n * 1.5},{('red', 'blue')[n % 2]},{100 - n},{('a', 'b')[n // 3 % 2]}" for n in range(60)]
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("other", "plain"),
    [
        ('use = "digits"\nfolds = 3\nfold = 1', 'use = "digits"'),
        ('use = "wine"\nfolds = 3\nfold = 1', 'use = "wine"'),
        ('use = "wine"\nstandardise = false', 'use = "wine"'),
        ('use = "breast_cancer"\ntask = "binary"\nfolds = 2', 'use = "breast_cancer"\ntask = "binary"'),
        ('use = "diabetes"\nfolds = 4\nfold = 3', 'use = "diabetes"\nstandardise_targets = false'),
        ('use = "synthetic"\nfolds = 3', 'use = "synthetic"'),
        ('use = "csv"\npath = "t.csv"\ntarget = "kind"\nfolds = 3', 'use = "csv"\npath = "t.csv"\ntarget = "kind"'),
    ],
)
def test_every_data_component_says_what_it_standardises_by(
    other: str, plain: str, plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TRAINKIT_DATA", str(tmp_path))
    write_table(tmp_path / "t.csv")
    cut, whole = (dataset_of(plugins, table) for table in (other, plain))
    rows = torch.arange(len(cut.splits["test"]))
    seen = []
    for dataset in (cut, whole):
        inputs = dataset.splits["test"].inputs[rows]
        seen.append(dataset.prepare(inputs) if dataset.prepare is not None else inputs)
    found = align(nn.Identity(), cut.spec, DataSpec(**{**vars(whole.spec), "task": "classification"}))(seen[1])
    torch.testing.assert_close(found, seen[0], rtol=1e-4, atol=1e-4)
    if cut.spec.task == "regression":
        targets = [dataset.splits["test"].targets[rows] for dataset in (cut, whole)]
        mean, std = cut.spec.target_mean[0], cut.spec.target_std[0]
        torch.testing.assert_close(targets[0] * std + mean, targets[1], rtol=1e-4, atol=1e-3)


def test_images_that_are_standardised_and_streamed_are_aligned(
    train_run: Callable[..., Path], plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TRAINKIT_DATA", str(tmp_path))
    import numpy
    from PIL import Image

    drawn = numpy.random.default_rng(0)
    for kind in ("cat", "dog"):
        (tmp_path / "images" / kind).mkdir(parents=True)
        for number in range(20):
            pixels = drawn.integers(0, 200 if kind == "cat" else 256, (6, 6, 3), dtype=numpy.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / kind / f"{number}.png")
    data = "data={use='image_folder', path='images', size=6, standardise=true, batch_size=8, seed=0}"
    changes = (data, 'run.duration="1ep"')
    folds = [
        train_run(tmp_path / f"fold-{n}", *changes, "data.folds=2", f"data.fold={n}", 'data.loading="streamed"')
        for n in range(2)
    ]
    base = base_of_run(train_run(tmp_path / "whole", *changes), plugins)
    for path in folds:
        made = member_of_run(path, base)
        assert isinstance(made.module, Aligned)
        own = predict_run(path, "test", plugins)["outputs"]
        torch.testing.assert_close(base.outputs(made.module, "test"), own, rtol=1e-4, atol=1e-5)
