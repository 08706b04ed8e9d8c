"""A member's model from its recipe: without its data, its run folder, or what trained it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from trainkit import checkpoint
from trainkit.build_data import cut_dataset, whole_dataset
from trainkit.dataset import DataSpec
from trainkit.ensemble.base import Base
from trainkit.errors import CheckpointError, RecipeError
from trainkit.heads import model_spec
from trainkit.instantiate import Builder
from trainkit.manager import Plugins
from trainkit.protocols import silent
from trainkit.recipe import Recipe, parts_from_text, to_toml
from trainkit.seeding import put_back_generators, random_generators, seed_everything


def build_model(recipe: Mapping[str, Any], spec: DataSpec, plugins: Plugins) -> nn.Module:
    """The model that a filled recipe says, on the CPU, in evaluation mode; no random number is used up.

    Args:
        recipe: plain tables; ``model`` and ``seed`` count.
        spec: what the model is told of the data that it was trained on.
        plugins: where the component is looked for.

    Raises:
        RecipeError: if the component is not installed, or refuses its settings.
    """
    part = {key: recipe[key] for key in ("seed", "model") if key in recipe}
    return built_from(parts_from_text(to_toml(part), "the recipe of a member", ("model",), plugins), spec)


def parts_of_member(text: str, name: str, plugins: Plugins) -> Recipe:
    """What of a member's recipe says what it gives: its model, and its loss where that is installed.

    A loss that is not is taken for one that asks for as many outputs as targets have, as most do.

    Raises:
        RecipeError: if the model is not installed, or refuses its settings.
    """
    try:
        return parts_from_text(text, name, ("model", "loss"), plugins)
    except RecipeError:
        return parts_from_text(text, name, ("model",), plugins)


def rebuilt(recipe: Recipe, spec: DataSpec) -> tuple[nn.Module, Any]:
    """The model of a checked recipe, as `build_model` gives it, and the loss, where the recipe has one.

    Args:
        recipe: the recipe, or parts of it.
        spec: the data that it was trained on.
    """
    known = ("loss",) in recipe.components
    loss = Builder(recipe, recipe.plugins, silent).make("loss", data_spec=spec) if known else None
    return built_from(recipe, model_spec(spec, loss)), loss


def built_from(recipe: Recipe, spec: DataSpec) -> nn.Module:
    """The model of a checked recipe, as `build_model` gives it."""
    kept = random_generators(torch.device("cpu"))
    try:
        seed_everything(recipe.tables["seed"], "model")
        model: nn.Module = Builder(recipe, recipe.plugins, silent).make("model", data_spec=spec)
    finally:
        put_back_generators(kept, torch.device("cpu"))
    return model.eval()


def first_weights(recipe: Recipe, base: Base) -> str:
    """SHA-256 of the weights that a run of this recipe begins with."""
    builder = Builder(recipe, base.plugins, base.progress)
    dataset = cut_dataset(builder, whole_dataset(builder, base.datasets), lambda text: None)
    return checkpoint.weights_sha256(rebuilt(recipe, dataset.spec)[0])


_MAKERS = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.eye)
SPARE = 1 << 24  # numbers that a model may make beside its weights, such as those of a table that is not saved
TIMES = 16  # how often as much it may make in all, such as layers that it throws away


class Bounded(TorchFunctionMode):
    """Within this no tensor, nor all together, is much larger than a model's weights: its recipe may be a stranger's.

    Args:
        numbers: how many the weights are.
        name: how messages call the model.
    """

    def __init__(self, numbers: int, name: str) -> None:
        super().__init__()
        self.numbers = numbers
        self.name = name
        self.made = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look at the size of what is to be made.

        Raises:
            CheckpointError: if it is too large.
        """
        if func in _MAKERS:
            most, wanted = self.numbers + SPARE, _numbers(args, kwargs or {})
            self.made += wanted
            if wanted > most or self.made > TIMES * most:
                what = f"a tensor of {wanted:,} numbers" if wanted > most else f"tensors of more than {TIMES * most:,}"
                raise CheckpointError(
                    f"{self.name}: its recipe builds {what}, and all of its weights are {self.numbers:,}"
                )
        return func(*args, **(kwargs or {}))


def _numbers(args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    size = kwargs.get("size", args)
    if size and isinstance(size[0], list | tuple):
        size = size[0]
    return math.prod(number for number in size if isinstance(number, int))
