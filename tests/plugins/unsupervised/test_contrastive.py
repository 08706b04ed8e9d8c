"""Contrastive learning: the loss by its equation, views by their draws, the probe beside scikit-learn."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from trainkit import Batch, DataError, DataSpec, Draw, RecipeError
from trainkit.cli import main
from trainkit.export.subjects import run_subject
from trainkit.finished import predict_run
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe
from trainkit.testing.samples import drawing
from trainkit.testing.tiny import TINY
from trainkit.testing.whole import in_parts, trained
from trainkit_unsupervised import colour_jitter, linear_probe, nt_xent, resized_crop, simclr, views
from trainkit_unsupervised.probing import fitted

IMAGES = DataSpec((3, 12, 12), "classification", 4)
CONTRASTIVE: dict[str, Any] = {
    "data": {
        **TINY["data"],
        "features": [1, 6, 6],
        "augment": [{"use": "views", "of": [{"use": "resized_crop"}, {"use": "flip"}]}],
    },
    "model": {"use": "simclr", "encoder": {"use": "mlp", "widths": [8]}, "projection": 4},
    "loss": {"use": "nt_xent"},
    "metric": [],
    "callback": [{"use": "linear_probe"}],
}


def by_equation_1(outputs: Tensor, temperature: float) -> float:
    """The mean over both views of each sample, written out."""
    rows = [row for pair in outputs.double() for row in pair]

    def like(one: int, other: int) -> float:
        return math.exp(float(torch.cosine_similarity(rows[one], rows[other], dim=0)) / temperature)

    terms = []
    for anchor in range(len(rows)):
        others = sum(like(anchor, other) for other in range(len(rows)) if other != anchor)
        terms.append(-math.log(like(anchor, anchor ^ 1) / others))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_the_loss_is_equation_1_of_its_paper(temperature: float) -> None:
    outputs = torch.randn(7, 2, 5, generator=torch.Generator().manual_seed(0))
    found = nt_xent(temperature=temperature)(outputs, torch.zeros(7))
    assert float(found) == pytest.approx(by_equation_1(outputs, temperature), rel=1e-5)


def test_equal_outputs_cost_the_logarithm_of_all_others_and_views_found_nothing() -> None:
    loss = nt_xent(temperature=0.05)
    assert float(loss(torch.ones(8, 2, 3), torch.zeros(8))) == pytest.approx(math.log(15), rel=1e-5)
    apart = torch.eye(8).unsqueeze(1).expand(-1, 2, -1)
    assert float(loss(apart, torch.zeros(8))) < 1e-6
    assert float(loss(torch.ones(1, 2, 3), torch.zeros(1))) == 0.0


def test_of_several_views_it_is_the_mean_over_all_pairs() -> None:
    """Written out with one cross-entropy for each pair of views, the other positives staying among the others."""
    outputs = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(1)).double()
    rows = nn.functional.normalize(outputs.reshape(12, 5), dim=1)
    likeness = (rows @ rows.T / 0.5).fill_diagonal_(-math.inf)
    terms = [
        nn.functional.cross_entropy(likeness[3 * s + a], torch.tensor(3 * s + b))
        for s in range(4)
        for a in range(3)
        for b in range(3)
        if a != b
    ]
    torch.testing.assert_close(nt_xent()(outputs, torch.zeros(4)), torch.stack(terms).mean())


def test_the_slope_is_that_of_finite_differences() -> None:
    outputs = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(2)).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda given: nt_xent(temperature=0.3)(given, torch.zeros(4)), outputs)


class Shifted:
    """Adds what it draws."""

    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        """Add one number to each image."""
        return Batch(batch.inputs + draw("a")[:, :, None, None], batch.targets, batch.index)


def images(count: int = 6) -> Batch:
    pixels = torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(3)) * 255
    return Batch(pixels, torch.arange(count) % 4, torch.arange(count))


def test_each_view_and_each_augmentation_draws_for_itself() -> None:
    batch = images()
    found = views(of=[Shifted(), Shifted()], count=3)(batch, drawing(batch.index))
    assert found.inputs.shape == (6, 3, 3, 12, 12)
    added = (found.inputs - batch.inputs.unsqueeze(1))[:, :, 0, 0, 0]
    assert added.unique().numel() == 18
    once = views(of=[Shifted()], count=2)(batch, drawing(batch.index)).inputs
    assert not torch.allclose(2 * (once - batch.inputs[:, None])[:, 0, 0, 0, 0], added[:, 0]), "both add their own"
    assert torch.equal(found.targets, batch.targets)


def test_a_crop_of_everything_is_the_image_and_a_part_is_a_part() -> None:
    batch = images()
    whole = resized_crop(IMAGES, least=1.0, stretch=1.0)(batch, drawing(batch.index))
    torch.testing.assert_close(whole.inputs, batch.inputs, rtol=1e-4, atol=1e-2)
    ramp = torch.arange(12.0).expand(6, 3, 12, 12)
    part = resized_crop(IMAGES, least=0.25, stretch=1.0)(
        Batch(ramp, batch.targets, batch.index), drawing(batch.index)
    ).inputs
    steps = part[:, 0, 0, 2:10].diff(dim=1)
    assert ((steps > 0.49) & (steps < 1.01)).all(), "enlarged up to twice"
    assert ((part >= 0) & (part <= 11)).all()
    stored = Batch(batch.inputs.to(torch.uint8), batch.targets, batch.index)
    assert resized_crop(IMAGES)(stored, drawing(batch.index)).inputs.is_floating_point()


def test_a_turned_ramp_is_a_ramp_in_the_direction_that_was_drawn() -> None:
    ramp = (torch.arange(12.0) - 5.5).expand(6, 3, 12, 12)
    batch = Batch(ramp, torch.zeros(6), torch.arange(6))
    found = resized_crop(IMAGES, least=1.0, stretch=1.0, degrees=180)(batch, drawing(batch.index)).inputs
    angle = (2 * drawing(batch.index)("part", 5)[:, 4] - 1)[:, None, None] * math.pi
    across, down = ramp[0, 0], ramp[0, 0].T
    expected = angle.cos() * across - angle.sin() * down
    inside = (across.square() + down.square()) < 5**2
    torch.testing.assert_close(found[:, 0][:, inside], expected[:, inside], rtol=0, atol=1e-3)


def test_a_turned_image_of_uneven_sides_keeps_its_angles() -> None:
    """A quarter turn of a wide image, in pixels: what was a column's distance from the middle is a row's."""
    wide = (torch.arange(12.0) - 5.5).expand(40, 3, 6, 12)
    batch = Batch(wide, torch.zeros(40), torch.arange(40))
    spec = DataSpec((3, 6, 12), "classification", 4)
    found = resized_crop(spec, least=1.0, stretch=1.0, degrees=180)(batch, drawing(batch.index)).inputs
    angle = (2 * drawing(batch.index)("part", 5)[:, 4] - 1)[:, None, None] * math.pi
    across, down = wide[0, 0], (torch.arange(6.0) - 2.5)[:, None].expand(6, 12)
    expected = angle.cos() * across - angle.sin() * down
    inside = (across.square() + down.square()) < 2.5**2
    torch.testing.assert_close(found[:, 0][:, inside], expected[:, inside], rtol=0, atol=1e-3)


def test_colours_change_as_their_settings_say() -> None:
    batch = images()

    def changed(**settings: float) -> Tensor:
        given = dict.fromkeys(("brightness", "contrast", "saturation", "hue", "grey"), 0.0) | {"probability": 1.0}
        return colour_jitter(IMAGES, **(given | settings))(batch, drawing(batch.index)).inputs

    torch.testing.assert_close(changed(), batch.inputs, rtol=1e-3, atol=0.1)
    torch.testing.assert_close(changed(brightness=0.5, probability=0.0), batch.inputs)
    factors = changed(brightness=0.5) / batch.inputs
    assert (factors.flatten(1).std(1) < 1e-2).all(), "one factor for an image"
    assert ((factors > 0.49) & (factors < 1.51)).all()
    grey = changed(grey=1.0)
    torch.testing.assert_close(grey[:, 0], grey[:, 1])
    weights = torch.tensor([0.299, 0.587, 0.114])[None, :, None, None]
    for settings in ({"saturation": 0.9}, {"hue": 0.5}, {"grey": 1.0}):
        torch.testing.assert_close(
            (changed(**settings) * weights).sum(1), (batch.inputs * weights).sum(1), atol=0.1, rtol=0
        )
    assert not torch.allclose(changed(hue=0.5), batch.inputs, atol=5)
    means = (changed(contrast=0.8) * weights).sum(1).mean((1, 2))
    torch.testing.assert_close(means, (batch.inputs * weights).sum(1).mean((1, 2)), rtol=1e-3, atol=0.1)


class Encoder(nn.Module):
    """A body and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(5, 7)
        self.head = nn.Linear(7, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.body(inputs).relu())
        return outputs


def test_the_model_projects_each_view_by_itself_and_every_parameter_learns() -> None:
    model = simclr(DataSpec((5,), "classification", 4), encoder=Encoder(), projection=3)
    pairs = torch.randn(6, 2, 5)
    outputs = model(pairs)
    assert outputs.shape == (6, 2, 3)
    nt_xent()(outputs, torch.zeros(6)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    assert "encoder.body.weight" in model.state_dict()
    assert not any("head" in name for name in model.state_dict())
    model.eval()
    torch.testing.assert_close(model(pairs)[:, 1], model(pairs[:, 1])[:, 0])
    assert model.represent(pairs[:, 0]).shape == (6, 7)


def test_what_does_not_fit_is_refused() -> None:
    rows = DataSpec((5,), "classification", 4)
    with pytest.raises(DataError, match="a linear one called head, and Linear has none"):
        simclr(rows, encoder=nn.Linear(5, 4))
    for factory in (resized_crop, colour_jitter):
        with pytest.raises(DataError, match="needs images"):
            factory(rows)
    with pytest.raises(DataError, match="one or three channels"):
        colour_jitter(DataSpec((2, 8, 8), "classification", 4))
    with pytest.raises(DataError, match="linear_probe measures by classes"):
        linear_probe(DataSpec((5,), "regression", 1))
    with pytest.raises(ValueError, match="all alike"):
        views(of=[])


def test_the_probe_is_sklearns_ridge() -> None:
    draw = torch.Generator().manual_seed(4)
    inputs, others = (torch.randn(n, 6, generator=draw).double() * 3 + 2 for n in (50, 9))
    targets = torch.randn(50, 3, generator=draw).double()
    middle, spread = inputs.mean(0), inputs.std(0, correction=0)
    theirs = Ridge(alpha=0.1 * 50).fit((inputs - middle) / spread, targets)
    expected = torch.from_numpy(theirs.predict((others - middle) / spread))
    torch.testing.assert_close(fitted(inputs, targets, 0.1, others), expected)


def recipe(tmp_path: Path, **tables: Any) -> Any:
    plugins = Plugins()
    plugins.load()
    path = tmp_path / "tiny.toml"
    path.write_text(tomli_w.dumps(TINY | CONTRASTIVE | tables), encoding="utf-8")
    return load_recipe(path, [], plugins)


def test_a_run_in_parts_equals_one_that_is_not_and_is_probed(tmp_path: Path) -> None:
    made = recipe(tmp_path)
    straight = trained(made, tmp_path / "straight")
    assert straight.difference(in_parts(made, tmp_path / "broken", (1, 3, 4))) == ""
    assert '"probe"' in (tmp_path / "straight" / "metrics.jsonl").read_text()
    # Projections of views are no probabilities of classes.
    assert set(predict_run(tmp_path / "straight", "val", Plugins())) == {"index", "targets", "outputs"}
    exported = run_subject(tmp_path / "straight", Plugins(), lambda done, total, text: None)
    assert exported.module.names == ("outputs",)
    assert exported.module(exported.samples[:5])["outputs"].shape == (5, 2, 4)


def test_a_probe_has_no_least_first_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe(tmp_path)
    assert main(["probe", str(tmp_path / "tiny.toml"), "--only", "initial-loss", "-q", "run.threads=1"]) == 0
    assert "this loss of equal outputs, or less, at most" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"data": TINY["data"]}, "nt_xent compares views of a sample, and [data] makes none"),
        ({"data": CONTRASTIVE["data"] | {"batch_size": 1}}, "batch_size = 1 leaves nothing to compare"),
        ({"loss": {"use": "cross_entropy"}}, "views gives several views of a sample, which the loss 'cross_entropy'"),
        ({"model": {"use": "linear"}, "callback": []}, "compares projections of views, which the model 'linear'"),
        ({"run": TINY["run"] | {"microbatch": 4}}, "nt_xent compares the samples of a batch with each other"),
    ],
)
def test_parts_that_do_not_go_together_are_problems(tmp_path: Path, tables: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as raised:
        recipe(tmp_path, **tables)
    assert said in str(raised.value)
