"""A finished ensemble, opened: its members' models, and one module that gives what the ensemble does."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self, cast, runtime_checkable

import torch
from torch import Tensor, nn

from trainkit import checkpoint
from trainkit.dataset import DataSpec
from trainkit.ensemble.aligned import Averaged, align
from trainkit.ensemble.artefact import MANIFEST, Artefact, StoredMember
from trainkit.ensemble.rebuild import Bounded, parts_of_member, rebuilt
from trainkit.ensemble.together import Together
from trainkit.ensemble.verify import read_artefact
from trainkit.ensembler import Ensembler, Member
from trainkit.errors import CheckpointError, PluginError, RecipeError, TrainkitError, UsageError
from trainkit.heads import predicting
from trainkit.instantiate import Builder
from trainkit.manager import Plugins
from trainkit.protocols import silent
from trainkit.recipe import parse_toml, parts_from_text, to_toml
from trainkit.scoring import log_probabilities
from trainkit.verified import fitting


@runtime_checkable
class HasVariance(Protocol):
    """An ensembler that knows how far off it may be."""

    def variance(self, inputs: Tensor, /) -> Tensor:
        """The variance of what it predicts, ``(batch, outputs)``."""
        ...


class Ensemble(nn.Module):
    """A finished ensemble as one model, in evaluation mode. Inputs are those that its data component prepares.

    Args:
        ensembler: combines the members; they have been added.
        members: the members that it needs.
        temperature: what its outputs are divided by.
        spec: what inputs and outputs mean.
        settings: the filled table ``[ensemble]``.
        recipe: the recipe of its data, as plain tables.
        seed: of everything random.
        sha256: of its manifest.
    """

    def __init__(
        self,
        ensembler: Ensembler,
        members: Sequence[Member],
        temperature: float,
        spec: DataSpec,
        settings: Mapping[str, Any],
        recipe: Mapping[str, Any],
        seed: int = 0,
        sha256: str = "",
    ) -> None:
        super().__init__()
        self.ensembler = ensembler
        self.made_of = tuple(members)
        self.temperature = temperature
        self.spec = spec
        self.settings = settings
        self.recipe = recipe
        self.seed = seed
        self.sha256 = sha256
        self.each = nn.ModuleList([member.module for member in members])
        self.together = Together([member.module for member in members])
        self.eval()
        self.requires_grad_(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move to another device or type; with it goes what the ensembler has made for itself, such as masked copies.

        Those modules are not registered here: weights that they share with members would have two names.
        """
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for part in getattr(self.ensembler, "__dict__", {}).values():
            if isinstance(part, nn.Module):
                part._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        """What the ensemble gives: ``(batch, outputs)``, after temperature.

        Logarithms of probabilities or logits, so that their softmax (of a binary task the sigmoid) are probabilities;
        for regression the mean, as models see targets (standardised, where the data does that).
        """
        outputs = self.ensembler.predict(inputs)
        return outputs if self.temperature == 1 else outputs / self.temperature

    def members(self, inputs: Tensor) -> Tensor:
        """What each member gives alone: ``(members, batch, outputs)``, without temperature."""
        outputs: Tensor = self.together(inputs)
        return outputs

    @property
    def knows_variance(self) -> bool:
        """Whether it says how far off it may be: of a regression, where its ensembler does."""
        return self.spec.task == "regression" and isinstance(self.ensembler, HasVariance)

    def variance(self, inputs: Tensor) -> Tensor:
        """For regression, the variance of what is predicted, ``(batch, outputs)``, as models see targets.

        Raises:
            UsageError: if it is not known.
        """
        if self.spec.task != "regression" or not isinstance(self.ensembler, HasVariance):
            raise UsageError(
                "this ensemble predicts no variance: that is of regression, and of ensemblers that know it"
            )
        return self.ensembler.variance(inputs)

    def uncertainty(self, inputs: Tensor) -> dict[str, Tensor]:
        """How unsure the ensemble is, and how much of that is disagreement among members; entropies in nats.

        Returns:
            For classes, each ``(batch,)``: ``total``, the entropy of the mean of the members' probabilities;
            ``expected``, the mean of their entropies; ``difference`` of the two, what members disagree about. For
            regression ``total``, the variance of their means, ``(batch, outputs)``.

        Source: Depeweg et al. 2018, Decomposition of Uncertainty in Bayesian Deep Learning.
        """
        given = self.members(inputs)
        if self.spec.task == "regression":
            return {"total": given.var(0, unbiased=False)}
        logarithms = torch.stack([log_probabilities(outputs, self.spec) for outputs in given])
        expected = _entropy(logarithms).mean(0)
        mean = logarithms.logsumexp(0) - torch.log(torch.tensor(float(len(given)), dtype=logarithms.dtype))
        total = _entropy(mean)
        return {"total": total, "expected": expected, "difference": total - expected}


def _entropy(logarithms: Tensor) -> Tensor:
    probabilities = logarithms.exp()
    return -(probabilities * logarithms.clamp(min=-1e30)).sum(-1)


def is_ensemble(path: Path) -> bool:
    """Whether a folder holds a finished ensemble."""
    return os.path.lexists(path / MANIFEST)


def load_ensemble(folder: str | Path, plugins: Plugins | None = None) -> Ensemble:
    """Open a finished ensemble: every byte is verified; neither its members' runs nor its data are needed.

    Args:
        folder: the ensemble folder, such as ``runs/a/ensemble``.
        plugins: the plugins whose components its members' models are; all that are installed if not given.

    Returns:
        A module in evaluation mode on the CPU.

    Raises:
        UsageError: if the folder holds no finished ensemble.
        CheckpointError: if a file is missing or was altered; the message names it.
        PluginError: if a component is not installed here.
    """
    if plugins is None:
        plugins = Plugins()
        plugins.load()
    return opened(read_artefact(Path(folder)), plugins, Path(folder))


def opened(artefact: Artefact, plugins: Plugins, folder: Path) -> Ensemble:
    """Make the module of an ensemble that was read and verified."""
    with fitting(folder):
        members = [_member(stored, artefact, plugins, folder) for stored in artefact.members]
        ensembler = _ensembler(artefact, plugins, folder)
        for member in members:
            ensembler.add(member)
        ensembler.load_state(artefact.state)
    return Ensemble(
        ensembler,
        members,
        artefact.temperature,
        artefact.spec,
        artefact.settings,
        parse_toml(artefact.recipes[artefact.recipe], f"{folder}: the recipe of its data"),
        artefact.seed,
        artefact.sha256,
    )


def unlike(artefact: Artefact, members: Sequence[Member], plugins: Plugins, folder: Path, inputs: Tensor) -> str:
    """Why an ensemble that is about to be written would open as another one; ``""`` where it would not.

    Args:
        artefact: what is to be written.
        members: whose modules it was made of.
        plugins: the plugins of this process.
        folder: where it is to be written, for messages.
        inputs: a few samples.
    """
    with torch.no_grad():
        for stored, member in zip(artefact.members, members, strict=True):
            try:
                module = _member(stored, artefact, plugins, folder).module
            except TrainkitError as error:
                return f"gave the member {member.name}, which cannot be built again: {error}"
            if not torch.allclose(module(inputs), member.module(inputs), rtol=1e-4, atol=1e-5, equal_nan=True):
                return (
                    f"gave the member {member.name}, whose module does something else than the model that its recipe "
                    "builds with the same weights"
                )
    return ""


def _ensembler(artefact: Artefact, plugins: Plugins, folder: Path) -> Ensembler:
    # What trained the members, maybe on a cluster, need not be installed here.
    settings = {key: value for key, value in artefact.settings.items() if key != "executor"}
    try:
        text = to_toml({"seed": artefact.seed, "ensemble": settings})
        recipe = parts_from_text(text, f"{folder / MANIFEST}", ("ensemble",), plugins)
        return cast(Ensembler, Builder(recipe, plugins, silent).make("ensemble"))
    except RecipeError as error:
        raise refused_here(folder, error) from error


def _member(stored: StoredMember, artefact: Artefact, plugins: Plugins, folder: Path) -> Member:
    models, held = [], sum(tensor.numel() for tensor in artefact.weights[stored.weights].values())
    bounded = Bounded(held, f"{folder}: {stored.name}")
    for piece in stored.pieces:
        try:
            recipe = parts_of_member(artefact.recipes[piece.recipe], f"{folder}: {stored.name}", plugins)
            with bounded:
                models.append(align(predicting(*rebuilt(recipe, piece.spec)), piece.spec, artefact.spec))
        except RecipeError as error:
            raise refused_here(folder, error) from error
    module = Averaged(models, artefact.spec.task) if stored.mean else models[0]
    try:
        checkpoint.load_weights(module, artefact.weights[stored.weights], prefix="")
    except CheckpointError as error:
        why = str(error).partition(": ")[2]
        raise CheckpointError(f"{folder}: the weights of {stored.name} do not fit its recipe: {why}") from error
    module.requires_grad_(False)
    return Member(
        name=stored.name,
        module=module.eval(),
        recipe=parse_toml(artefact.recipes[stored.pieces[0].recipe], f"{folder}: {stored.name}"),
        spec=stored.pieces[0].spec if not stored.mean else artefact.spec,
        figures=stored.figures,
        ancestors=frozenset(stored.ancestors),
        cost=stored.cost,
        folder=None,
        step=stored.step,
        fold=stored.fold,
    )


def refused_here(folder: Path, error: RecipeError) -> Exception:
    """The error of a component that this ensemble needs: it is not installed, or refuses what the recipe says."""
    lacking = [problem.environment or problem.message.startswith("no ") for problem in error.problems]
    if all(lacking):  # the names of components were right where it was made
        return PluginError(f"{folder}: what this ensemble is made of is not installed here\n  {error}")
    return CheckpointError(f"{folder}: a recipe of this ensemble cannot be used here\n  {error}")
