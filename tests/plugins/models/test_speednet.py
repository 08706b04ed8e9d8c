"""speednet: its size, its whitening layer, and where that comes from in a run."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainkit import Batch, DataError, DataSpec, Run, hookimpl
from trainkit.finished import evaluate_run
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import recipe_from_text
from trainkit_models import speednet
from trainkit_models.whitening import second_moment, whitening_filters

CIFAR = DataSpec((3, 32, 32), "classification", 10)


def size(**settings: Any) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in speednet(CIFAR, **settings).parameters() if p.requires_grad)


def test_it_has_the_published_parameters() -> None:
    """1.97 million: kernels, biases of the whitening and of norms, and the head."""
    kernels = 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256)
    assert size() == kernels + 24 + 2 * (64 + 256 + 256) + 2560 == 1_971_352
    more = 9 * (128 * 128 + 2 * 512 * 512) + 128 + 2 * 512
    doubled = 9 * (24 * 128 + 128 * 128 + 128 * 512 + 3 * 512 * 512) + 24 + 2 * (128 + 512 + 512) + 5120
    assert size(widths=(128, 512, 512), convolutions=3) == doubled + more


def test_images_become_as_small_as_they_can() -> None:
    with pytest.raises(DataError, match=r"3 widths halves the image 3 times and needs at least 9 x 9 pixels"):
        speednet(DataSpec((3, 8, 8), "classification", 10))
    assert speednet(DataSpec((3, 9, 9), "classification", 10))(torch.zeros(2, 3, 9, 9)).shape == (2, 10)
    assert speednet(DataSpec((1, 2, 2), "classification", 10), widths=())(torch.zeros(2, 1, 2, 2)).shape == (2, 10)


def test_a_new_network_hands_its_input_on() -> None:
    """Convolutions begin as the identity as far as their channels go."""
    group = speednet(CIFAR, widths=(30, 30)).get_submodule("groups.0")
    conv = group.conv1
    assert isinstance(conv, nn.Conv2d)
    inputs = torch.randn(2, 24, 5, 5)
    assert torch.allclose(conv(inputs)[:, :24], inputs, atol=1e-6)
    assert not torch.allclose(conv(inputs)[:, 24:], torch.zeros(2, 6, 5, 5))


# ------------------------------------------------------------ whitening


def correlated(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(count, 1, 10, 10, generator=generator)
    colours = torch.tensor([1.0, 0.8, 0.5]).reshape(1, 3, 1, 1)
    smooth = torch.nn.functional.avg_pool2d(noise, 3, stride=1, padding=1)
    return 2 * smooth * colours + 0.1 * torch.randn(count, 3, 10, 10, generator=generator)


def test_filters_make_patches_white() -> None:
    images = correlated(200)
    filters = whitening_filters(second_moment(images.split(64), 2), (3, 2, 2), eps=1e-12)
    assert filters.shape == (24, 3, 2, 2)
    assert torch.equal(filters[:12], -filters[12:])
    made = torch.nn.functional.conv2d(images.double(), filters[:12]).permute(1, 0, 2, 3).flatten(1)
    assert torch.allclose(made @ made.T / made.shape[1], torch.eye(12, dtype=torch.float64), atol=1e-8)


def test_batches_and_the_signs_of_eigenvectors_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images = correlated(50)
    moment = second_moment([images], 2)
    torch.testing.assert_close(second_moment(images.split(7), 2), moment, rtol=1e-12, atol=1e-15)
    filters = whitening_filters(moment, (3, 2, 2), eps=5e-4)
    values, vectors = torch.linalg.eigh(moment)
    monkeypatch.setattr(torch.linalg, "eigh", lambda matrix: (values, vectors * torch.tensor([-1.0, 1.0] * 6)))
    assert torch.equal(whitening_filters(moment, (3, 2, 2), eps=5e-4), filters)
    with pytest.raises(ValueError, match="no image"):
        second_moment([], 2)


def test_a_direction_without_variance_is_not_blown_up() -> None:
    grey = correlated(50)[:, :1].expand(-1, 3, -1, -1)
    filters = whitening_filters(second_moment([grey], 2), (3, 2, 2), eps=5e-4)
    assert filters.isfinite().all()
    assert filters.abs().max() <= 1 / 5e-4**0.5


# ------------------------------------------------------------ in a run

RECIPE = """\
recipe = 1
seed = 5
logger = []
[run]
duration = "2ep"
device = "cpu"
[data]
use = "synthetic"
samples = 200
features = [3, 6, 6]
classes = 3
batch_size = 16
augment = [{ use = "flip" }]
[model]
use = "speednet"
widths = [6]
whiten_samples = 50
[loss]
use = "cross_entropy"
[[metric]]
use = "accuracy"
[optimizer]
use = "sgd"
lr = 0.1
weight_decay = 0.01
"""


class Watched:
    stateless = True

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        self.run, self.first = run, copy.deepcopy(run.model.state_dict())


def train(folder: Path, *changes: tuple[str, str]) -> Watched:
    text = RECIPE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    plugins, watched = Plugins(without=["reports"]), Watched()
    report = launch(recipe_from_text(text, "speednet.toml", [], plugins), plugins, folder=folder, listeners=[watched])
    assert report.status == "finished"
    return watched


def test_the_layer_is_computed_from_training_images_and_stays(tmp_path: Path) -> None:
    watched = train(tmp_path / "run")
    images: list[Batch] = list(watched.run.feed.evaluate("train"))
    inputs = torch.cat([batch.inputs for batch in images])
    chosen = inputs[torch.arange(50) * len(inputs) // 50]
    expected = whitening_filters(second_moment([chosen], 2), (3, 2, 2), 5e-4).float()
    assert torch.equal(watched.first["whiten.weight"], expected)
    assert torch.equal(watched.run.model.state_dict()["whiten.weight"], expected)
    assert not torch.equal(watched.run.model.state_dict()["whiten.bias"], watched.first["whiten.bias"])
    grouped = {name for group in watched.run.optimizer.param_groups for name in group["names"]}
    assert "whiten.weight" not in grouped
    assert "groups.0.norm1.weight" not in grouped
    measured = [line["loss"] for line in watched.run.history if line["split"] == "val"]
    assert evaluate_run(tmp_path / "run", "val", Plugins(without=["reports"]))["loss"] == measured[-1]


def test_streamed_data_gives_the_same_layer(tmp_path: Path) -> None:
    resident = train(tmp_path / "resident")
    streamed = train(tmp_path / "streamed", ("batch_size = 16", 'batch_size = 16\nloading = "streamed"'))
    assert torch.equal(resident.first["whiten.weight"], streamed.first["whiten.weight"])
