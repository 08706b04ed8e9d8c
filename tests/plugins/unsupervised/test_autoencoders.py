"""Data without labels, autoencoders, and how much they give back: against principal components."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import r2_score
from torch import Tensor

from trainkit import DataError, Dataset, DataSpec, Split
from trainkit_unsupervised import autoencoder, explained, unlabelled, vae
from trainkit_unsupervised.autoencoders import both_ways

ROWS = DataSpec((6,), "regression", 6)
IMAGES = DataSpec((1, 8, 8), "regression", 64)


def halved(inputs: Tensor) -> Tensor:
    return inputs.float() / 2


def labelled(**changes: Any) -> Dataset:
    pixels = torch.arange(5 * 12, dtype=torch.uint8).reshape(5, 3, 2, 2)
    splits = {"train": Split(pixels[:3], torch.tensor([0, 1, 0])), "val": Split(pixels[3:], torch.tensor([1, 0]))}
    spec = DataSpec(
        (3, 2, 2), "classification", 2, ("a", "b"), (2, 1), {"train": 3, "val": 2}, "0" * 64, input_std=(2.0,)
    )
    return Dataset(spec, splits, halved, **changes)


def test_targets_are_the_inputs_as_the_model_sees_them() -> None:
    of = labelled(groups={"train": torch.tensor([0, 1, 1]), "val": torch.tensor([2, 2])})
    found = unlabelled(of=of)
    for name, split in of.splits.items():
        assert torch.equal(found.splits[name].targets, halved(split.inputs[:]).flatten(1))
        assert found.splits[name].inputs is split.inputs
    spec = found.spec
    assert (spec.task, spec.outputs, spec.classes, spec.class_counts) == ("regression", 12, (), ())
    assert (spec.sizes, spec.input_std) == (of.spec.sizes, (2.0,))
    assert spec.fingerprint != of.spec.fingerprint
    assert found.groups is of.groups
    assert found.recut is None


def test_folds_are_those_of_the_other_data() -> None:
    def recut(numbers: Any) -> Dataset:
        of = labelled()
        whole = torch.cat([of.splits[name].inputs[:] for name in ("train", "val")])
        splits = {name: Split(whole[number], torch.zeros(len(number))) for name, number in numbers.items()}
        return Dataset(of.spec, splits, halved)

    found = unlabelled(of=labelled(recut=recut))
    assert found.recut is not None
    cut = found.recut({"train": torch.tensor([4, 1])})
    assert cut.spec.task == "regression"
    assert torch.equal(
        cut.splits["train"].targets,
        halved(labelled().splits["val"].inputs[1:2])
        .flatten(1)
        .new_tensor(numpy.stack([numpy.arange(48, 60), numpy.arange(12, 24)]) / 2),
    )


def test_what_is_told_of_the_other_data_s_targets_is_left_aside() -> None:
    """Their names would be taken for those of the reconstructed numbers."""
    rows = Split(torch.randn(5, 3), torch.randn(5, 2))
    spec = DataSpec((3,), "regression", 2, target_std=(1.0, 2.0), targets=("y", "z"), naive_error=(1.0, 2.0))
    found = unlabelled(of=Dataset(spec, {"train": rows})).spec
    assert (found.outputs, found.targets, found.naive_error, found.target_std) == (3, (), (), ())


def test_tokens_are_refused_in_words() -> None:
    tokens = Split(torch.zeros(4, 7, dtype=torch.int64), torch.zeros(4))
    with pytest.raises(DataError, match=r"needs samples of real numbers, and these are torch.int64"):
        unlabelled(of=Dataset(DataSpec((7,), "tokens", 5), {"train": tokens}))
    table = Split(torch.zeros(4, 3), torch.zeros(4))
    with pytest.raises(DataError, match="2 inputs are numbers of categories\nset categorical"):
        unlabelled(of=Dataset(DataSpec((3,), "binary", 1, categories=(0, 4, 3)), {"train": table}))


def test_augmentation_changes_inputs_alone(run_tiny: Any) -> None:
    """So that a model learns to undo it: a hole cut into images is no part of what is to be given back."""
    data = {"use": "unlabelled", "of": {"use": "synthetic", "samples": 80, "features": [1, 6, 6]}, "batch_size": 8}
    model, loss = {"use": "autoencoder", "latent": 2, "widths": []}, {"use": "mse"}
    tables = {"data": data, "model": model, "loss": loss, "metric": [{"use": "explained"}]}
    plain = run_tiny(**tables)
    noisy = run_tiny(**{**tables, "data": {**data, "augment": [{"use": "cutout", "size": 4}]}})
    lines = [[line["loss"] for line in run.lines if line["split"] == "train"] for run in (plain, noisy)]
    assert lines[0][0] != lines[1][0]  # what goes in is another
    assert plain.report.metrics.keys() == noisy.report.metrics.keys()


# ------------------------------------------------------------ models


def test_a_linear_autoencoder_finds_the_principal_components() -> None:
    """Baldi & Hornik 1989: its least squared error is that of as many principal components, and so is its subspace."""
    draw = torch.Generator().manual_seed(1)
    rows = torch.randn(60, 6, generator=draw, dtype=torch.float64) @ torch.randn(6, 6, generator=draw).double()
    torch.manual_seed(3)
    model = autoencoder(ROWS, latent=2, widths=()).double()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=150, line_search_fn="strong_wolfe", tolerance_change=0)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (model(rows) - rows).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    fitted = PCA(2).fit(rows.numpy())
    back = fitted.inverse_transform(fitted.transform(rows.numpy()))
    with torch.no_grad():
        assert torch.allclose(model(rows), torch.from_numpy(back), atol=1e-3)
        metric = explained(ROWS)
        metric.update(model(rows), rows)
    assert metric.compute() == pytest.approx(fitted.explained_variance_ratio_.sum(), abs=1e-6)


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh"])
def test_the_shapes_of_both_ways(activation: Any) -> None:
    for shape, widths, layers in [
        ((6,), (5, 4), "dense"),
        ((3, 8, 8), (4, 6, 8), "convolutional"),
        ((2, 3), (), "dense"),
    ]:
        encoder, decoder = both_ways(shape, 3, widths, layers, activation, codes=7)
        codes = encoder(torch.randn(5, *shape))
        assert codes.shape == (5, 7)
        assert decoder(codes[:, :3]).shape == (5, torch.zeros(shape).numel())


def test_a_hidden_layer_keeps_the_size_of_its_inputs() -> None:
    """He et al. 2015: behind each ReLU the mean square is that of before, also where a convolution is transposed."""
    torch.manual_seed(0)
    _, decoder = both_ways((16, 16, 16), 512, (64, 64), "convolutional", "relu")
    values = torch.randn(400, 512)
    first = values.square().mean()
    with torch.no_grad():
        hidden = decoder[:5](values)  # linear, ReLU, unflatten, transposed convolution, ReLU
    inner = hidden[..., 2:-2, 2:-2].square().mean()  # at the edge fewer inputs are seen
    assert float(inner / first) == pytest.approx(1.0, rel=0.2)


@pytest.mark.parametrize(
    ("spec", "settings", "said"),
    [
        (DataSpec((6,), "classification", 3), {}, 'put the data inside: use = "unlabelled"'),
        (DataSpec((6,), "regression", 1), {}, "targets are the 6 numbers of a sample"),
        (DataSpec((6,), "regression", 9), {}, "the loss asks for 9: use loss mse"),
        (ROWS, {"layers": "convolutional"}, r"need images .*\n.*layers = \"dense\""),
        (IMAGES, {"layers": "convolutional", "widths": ()}, r"leaves no convolution"),
        (IMAGES, {"layers": "convolutional", "widths": (4, 4, 4, 4)}, "8x8 cannot be"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(spec: DataSpec, settings: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        autoencoder(spec, **settings)


def test_a_variational_one_without_its_loss_is_refused() -> None:
    with pytest.raises(DataError, match="6 outputs leave no room for those: use loss elbo"):
        vae(ROWS)


def test_the_decoder_begins_with_the_mean_unless_it_has_learned(run_tiny: Any) -> None:
    """So the first loss is that of the mean: a probe holds it against that."""
    data = {"use": "unlabelled", "of": {"use": "digits"}, "batch_size": 64}
    tables = {
        "data": data,
        "model": {"use": "autoencoder", "latent": 4, "widths": [8]},
        "loss": {"use": "mse"},
        "metric": [{"use": "explained"}],
        "optimizer": {"use": "sgd", "lr": 1e-12},
        "schedule": {"use": "constant"},
        "run": {"duration": "1ba", "threads": 1, "device": "cpu"},
    }
    report = run_tiny(**tables).report
    assert report.metrics["val.explained"] == pytest.approx(0.0, abs=0.05)


# ------------------------------------------------------------ the metric


def test_explained_is_the_share_of_the_whole_variance() -> None:
    draw = torch.Generator().manual_seed(1)
    targets = torch.randn(30, 6, generator=draw) * torch.tensor([1.0, 2, 3, 4, 5, 0.5]) + 100
    outputs = targets + torch.randn(30, 6, generator=draw)
    metric = explained(ROWS)
    for part in range(0, 30, 7):
        metric.update(outputs[part : part + 7], targets[part : part + 7])
    wanted = r2_score(targets.double().numpy(), outputs.double().numpy(), multioutput="variance_weighted")
    assert metric.compute() == pytest.approx(wanted, rel=1e-9)
    metric.reset()
    metric.update(targets[:1].repeat(3, 1), targets[:1].repeat(3, 1))
    with pytest.raises(DataError, match="every target is the same"):
        metric.compute()
    metric.reset()
    with pytest.raises(DataError, match="saw no sample"):
        metric.compute()
    with pytest.raises(DataError, match=r"outputs \(3, 6\) do not fit targets \(3,\)"):
        metric.update(targets[:3], targets[:3, 0])
    with pytest.raises(DataError, match="the data's task is binary"):
        explained(DataSpec((6,), "binary", 1))
