"""The bound on the evidence against torch's distributions and scikit-learn's probabilistic PCA; pictures."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from trainkit import DataError, DataSpec, as_pixels, hookimpl
from trainkit.evaluate import measure
from trainkit.page.png import png_size
from trainkit_unsupervised import bound, elbo, pictures, vae
from trainkit_unsupervised.variational import Elbo, Vae

ROWS = DataSpec((6,), "regression", 6)
DATA = {"use": "unlabelled", "of": {"use": "synthetic", "samples": 80, "features": [1, 6, 6]}, "batch_size": 8}
TABLES = {
    "data": DATA,
    "model": {"use": "vae", "widths": [8]},
    "loss": {"use": "elbo", "latent": 2},
    "metric": [{"use": "explained"}],
}


def made(**settings: Any) -> Elbo:
    loss = elbo(ROWS, latent=2, **settings)
    assert isinstance(loss, Elbo)
    return loss


def outputs_of(loss: Elbo, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    outputs = torch.randn(9, loss.outputs, generator=draw, dtype=torch.float64)
    return outputs, torch.rand(9, 6, generator=draw, dtype=torch.float64)


@pytest.mark.parametrize("settings", [{}, {"noise": 0.7}, {"learn_noise": True}, {"likelihood": "bernoulli"}], ids=str)
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_it_is_surprise_and_divergence(settings: Any, beta: float) -> None:
    loss = made(**settings, beta=beta)
    outputs, targets = outputs_of(loss)
    rows, mean, log_variance = outputs[:, :6], outputs[:, 6:8], outputs[:, 8:10]
    assert loss.outputs == 10 + bool(settings.get("learn_noise"))
    if loss.likelihood == "bernoulli":
        surprise = -Bernoulli(logits=rows).log_prob(targets.round()).sum(1)
        targets = targets.round()
        assert torch.allclose(loss.predictions(outputs), rows.sigmoid())
    else:
        noise = settings.get("noise", 0.1) * (outputs[:, 10:] / 2).exp() if loss.learned else settings.get("noise", 0.1)
        surprise = -Normal(rows, noise).log_prob(targets).sum(1)
        assert torch.equal(loss.predictions(outputs), rows)
    divergence = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(1)
    assert torch.allclose(loss.each(outputs, targets), surprise + beta * divergence)
    assert torch.allclose(loss(outputs, targets), (surprise + beta * divergence).mean())
    assert torch.allclose(loss.divergence(outputs).sum(1), divergence)
    details = loss.details(outputs)
    assert torch.equal(details["latent"], mean)
    assert torch.allclose(details["latent_std"], (log_variance / 2).exp())


@pytest.mark.parametrize("settings", [{}, {"learn_noise": True}, {"likelihood": "bernoulli"}], ids=str)
def test_outputs_that_know_nothing_are_the_mean_and_the_prior(settings: Any) -> None:
    loss = made(**settings)
    _, targets = outputs_of(loss)
    equal = loss.equal(targets.float())
    assert equal.shape == (9, loss.outputs)
    assert torch.allclose(loss.predictions(equal), targets.float().mean(0).expand(9, 6), atol=1e-5)
    assert torch.equal(loss.divergence(equal), torch.zeros(9, 2))


@pytest.mark.parametrize(
    ("spec", "settings", "said"),
    [
        (DataSpec((6,), "classification", 3), {}, 'put the data inside: use = "unlabelled"'),
        (ROWS, {"likelihood": "bernoulli", "learn_noise": True}, "bernoulli has no noise"),
        (DataSpec((6,), "regression", 6, input_mean=(0.4,)), {"likelihood": "bernoulli"}, "the data is standardised"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(spec: DataSpec, settings: Any, said: str) -> None:
    with pytest.raises((DataError, ValueError), match=said):
        elbo(spec, **settings)


def test_outputs_of_another_model_are_refused() -> None:
    with pytest.raises(DataError, match=r"needs 10 outputs a sample, and the model gives \(3, 6\): use model vae"):
        made()(torch.zeros(3, 6), torch.zeros(3, 6))


# ------------------------------------------------------------ the model


def test_it_draws_in_training_and_gives_the_mean_in_evaluation() -> None:
    torch.manual_seed(0)
    model = vae(DataSpec((6,), "regression", 11), widths=(8,))
    assert isinstance(model, Vae)
    assert model.latent == 2
    inputs = torch.randn(4000, 6)
    with torch.no_grad():
        model.encoder[-1].bias.copy_(torch.tensor([0.5, -1.0, math.log(0.25), 0.0]))
        mean, log_variance = model.posterior(inputs)
        drawn = model.draw(mean, log_variance) - mean
        assert torch.equal(model.eval()(inputs)[:, :6], model.decode(mean))
        assert torch.equal(model.encode(inputs), mean)
    assert drawn.std(0).tolist() == pytest.approx([0.5, 1.0], rel=0.1)
    assert drawn.mean(0).tolist() == pytest.approx([0.0, 0.0], abs=0.05)


def test_it_begins_near_the_prior() -> None:
    torch.manual_seed(0)
    loss = made()
    outputs = vae(DataSpec((6,), "regression", 10), widths=(64,))(torch.randn(200, 6))
    assert float(loss.divergence(outputs.detach()).sum(1).mean()) < 0.1


# ------------------------------------------------------------ the bound


def probabilistic_pca(rows: numpy.ndarray[Any, Any], latent: int) -> tuple[PCA, Vae, float]:
    """Tipping & Bishop 1999, as a linear model whose distribution of latent numbers is the true one."""
    fitted = PCA(latent).fit(rows)
    noise = float(fitted.noise_variance_)
    weights = torch.from_numpy(fitted.components_.T * numpy.sqrt(fitted.explained_variance_ - noise))
    model = vae(DataSpec((6,), "regression", 6 + 2 * latent), widths=()).double()
    assert isinstance(model, Vae)
    inverse = 1 / (weights.square().sum(0) + noise)  # of M, which is diagonal
    encoder: Any = model.encoder[-1]
    decoder: Any = model.decoder[-1]
    with torch.no_grad():
        decoder.weight.copy_(weights)
        decoder.bias.copy_(torch.from_numpy(fitted.mean_))
        encoder.weight.zero_()
        encoder.weight[:latent] = inverse[:, None] * weights.T
        encoder.bias[:latent] = -encoder.weight[:latent] @ decoder.bias
        encoder.bias[latent:] = (noise * inverse).log()
    return fitted, model, noise


class Rows:
    """A run of nothing but what `bound` looks at."""

    def __init__(self, model: Vae, loss: Elbo, rows: Tensor) -> None:
        self.model, self.loss = model, loss
        self.feed = self
        self.precision = self
        self.rows = rows
        self.group, self.interrupted_at = SimpleNamespace(size=1), 0.0

    def evaluate(self, split: str) -> Any:
        from trainkit import Batch

        for part in torch.split(self.rows, 7):
            yield Batch(part, part, torch.arange(len(part)))

    def context(self) -> Any:
        return torch.no_grad()


@pytest.mark.parametrize("draws", [1, 5])
def test_with_the_true_distribution_it_is_the_evidence_itself(draws: int) -> None:
    """Every draw then weighs the same: the bound is the log likelihood that scikit-learn has in closed form."""
    chance = numpy.random.default_rng(0)
    rows = chance.normal(size=(50, 3)) @ chance.normal(size=(3, 6)) + 0.3 * chance.normal(size=(50, 6)) + 2
    fitted, model, noise = probabilistic_pca(rows, 2)
    run: Any = Rows(model, made(noise=math.sqrt(noise)), torch.from_numpy(rows))
    figures = bound(3, draws=draws).measure(run, "val")
    assert figures["bound"] == pytest.approx(-fitted.score(rows), rel=1e-5)
    assert figures["active"] == 2
    assert model.training
    if draws == 5:
        model.encoder[-1].bias.data[2:] += 1.0
        figures = bound(3, draws=draws).measure(run, "val")
        assert figures["bound"] > -fitted.score(rows)
        model.encoder[-1].weight.data[:2] = 0
        assert bound(3, draws=draws).measure(run, "val")["active"] == 0


def test_it_joins_the_figures_and_repeats(run_tiny: Any) -> None:
    tables = {**TABLES, "callback": [{"use": "bound", "draws": 3, "splits": ["val"]}]}
    first, second = run_tiny(**tables), run_tiny(**tables)
    assert first.lines == second.lines
    lines = [line for line in first.lines if line["split"] == "val"]
    assert all({"bound", "kl", "active"} <= line.keys() for line in lines)
    assert not any("bound" in line for line in first.lines if line["split"] == "test")
    plain = run_tiny(**TABLES)
    assert plain.report.weights_sha256 == first.report.weights_sha256  # it draws from numbers of its own


def test_it_measures_the_weights_that_evaluations_measure(run_tiny: Any) -> None:
    averaged = {"use": "ema", "decay": 0.9}
    bounds = []
    for callbacks in ([averaged, {"use": "bound"}], [{"use": "bound"}, averaged]):
        bounds.append([line.get("bound") for line in run_tiny(**{**TABLES, "callback": callbacks}).lines])
    plain = [line.get("bound") for line in run_tiny(**{**TABLES, "callback": [{"use": "bound"}]}).lines]
    assert bounds[0] == bounds[1] != plain


def test_the_warm_up_of_the_divergence_is_a_schedule(run_tiny: Any) -> None:
    also = [{"target": "loss.beta", "use": "constant", "warmup": "4ba"}]
    run = run_tiny(**{**TABLES, "schedule": {"use": "constant", "also": also}})
    betas = [line["loss.beta"] for line in run.lines if "loss.beta" in line]
    assert betas[0] < betas[-1] == 1.0


# ------------------------------------------------------------ pictures


def test_images_are_drawn_and_shown(run_tiny: Any) -> None:
    tables = {**TABLES, "callback": [{"use": "pictures", "columns": 5}], "logger": [{"use": "report"}]}
    run = run_tiny(**tables)
    sizes = {file.stem: png_size(file.read_bytes()) for file in (run.folder / "pictures").iterdir()}
    tile = 6 * 5 + 2  # five times as large, with a line around
    assert sizes == {"reconstructions": (5 * tile, 4 * tile), "walk": (5 * tile, 5 * tile), "map": (5 * tile, 5 * tile)}
    page = (run.folder / "report.html").read_text()
    assert ">Pictures<" in page
    assert page.count("data:image/png") >= 3
    more = run_tiny(**{**tables, "loss": {"use": "elbo", "latent": 3}})
    assert {file.stem for file in (more.folder / "pictures").iterdir()} == {"reconstructions", "walk", "samples"}
    assert run_tiny(**{**TABLES, "logger": []}).report.weights_sha256 == run.report.weights_sha256


def test_a_split_of_one_image_is_drawn_without_a_walk(run_tiny: Any) -> None:
    of = {**DATA["of"], "samples": 20, "val": 0.05, "test": 0.0}  # type: ignore[dict-item]
    data = {**DATA, "of": of}
    run = run_tiny(**{**TABLES, "data": data, "metric": [], "callback": [{"use": "pictures"}]})
    assert {file.stem for file in (run.folder / "pictures").iterdir()} == {"reconstructions", "map"}


def test_without_validation_the_test_draws(run_tiny: Any) -> None:
    data = {**DATA, "of": {**DATA["of"], "samples": 20, "val": 0.0, "test": 0.2}}  # type: ignore[dict-item]
    run = run_tiny(**{**TABLES, "data": data, "metric": [], "callback": [{"use": "pictures"}]})
    assert {file.stem for file in (run.folder / "pictures").iterdir()} == {"reconstructions", "walk", "map"}


def test_an_evaluation_of_a_finished_run_draws_nothing(run_tiny: Any, tmp_path: Path) -> None:
    from trainkit.finished import open_run
    from trainkit.manager import Plugins

    run = run_tiny(**{**TABLES, "callback": [{"use": "pictures"}]})
    for file in (run.folder / "pictures").iterdir():
        file.unlink()
    opened = open_run(run.folder, Plugins())
    opened.hook.trainkit_evaluate(run=opened, split="val")
    assert not list((run.folder / "pictures").iterdir())


def test_tiles_are_what_goes_in_and_what_comes_back(run_tiny: Any) -> None:
    """The first row are images of the split, the second what the model gives, on one scale."""
    from trainkit_unsupervised.drawing import Drawing

    seen: dict[str, Any] = {}

    class Watch:
        stateless = True

        @hookimpl
        def trainkit_run_end(self, run: Any) -> None:
            drawing = pictures(run.feed.spec, 0, columns=4)
            assert isinstance(drawing, Drawing)
            seen["page"] = drawing.draw(run)["reconstructions"]
            batch = run.feed.spread("val", 8)
            run.model.eval()
            with torch.no_grad():
                back = run.loss.predictions(run.model(batch.inputs)).reshape(-1, 1, 6, 6)
            low, high = batch.inputs.min(), batch.inputs.max()
            whole = [*batch.inputs, *back.clamp(low, high)]
            seen["tiles"] = as_pixels(whole, run.feed.spec)
            seen["figures"] = measure(run, "val")

    from trainkit.launch import launch
    from trainkit.manager import Plugins
    from trainkit.recipe import load_recipe
    from trainkit.testing.tiny import write_tiny

    folder = run_tiny(**TABLES).folder.parent
    plugins = Plugins()
    recipe = load_recipe(write_tiny(folder / "watched.toml", TABLES), [], plugins)
    launch(recipe, plugins, folder=folder / "watched", listeners=[Watch()])
    page, tiles = seen["page"], seen["tiles"]
    for place in range(4):
        for row, number in ((0, place), (1, 8 + place), (2, 4 + place), (3, 12 + place)):
            tile = page[row * 32 + 1 : row * 32 + 31 : 5, place * 32 + 1 : place * 32 + 31 : 5]
            assert numpy.abs(tile.astype(int) - tiles[number].astype(int)).max() <= 1


@pytest.mark.parametrize("shape", [(6,), (2, 6, 6), (6, 6)])
def test_what_is_no_image_is_not_drawn(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="needs images of one or three channels"):
        pictures(DataSpec(shape, "regression", 36), 0)


def test_callbacks_that_look_at_another_model_are_a_problem(tmp_path: Path) -> None:
    from trainkit import RecipeError
    from trainkit.manager import Plugins
    from trainkit.recipe import load_recipe
    from trainkit.testing.tiny import write_tiny

    tables = {
        **TABLES,
        "loss": {"use": "mse"},
        "model": {"use": "mlp"},
        "callback": [{"use": "bound"}, {"use": "pictures"}],
    }
    with pytest.raises(RecipeError) as raised:
        load_recipe(write_tiny(tmp_path / "r.toml", tables), [], Plugins())
    said = str(raised.value)
    assert "bound looks at model vae, and the recipe's is 'mlp'" in said
    assert "bound looks at loss elbo, and the recipe's is 'mse'" in said
    assert "pictures looks at model autoencoder or vae, and the recipe's is 'mlp'" in said
