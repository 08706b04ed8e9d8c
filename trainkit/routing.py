"""Which optimizer a parameter goes to, where a recipe has two (``[optimizer.rest]``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from trainkit.component import Component
from trainkit.errors import Problem, RecipeError
from trainkit.parameters import CRITERIA, Layers, Owned, criteria_text, criterion_help, layers_of, parameters_of
from trainkit.recipe import Recipe, problem_at

_TABLES = (nn.Embedding, nn.EmbeddingBag)


@dataclass(frozen=True)
class Part:
    """One of the optimizers of a recipe.

    Args:
        path: its table: ``("optimizer",)`` or ``("optimizer", "rest")``.
        component: its component.
        table: its filled table.
    """

    path: tuple[str, ...]
    component: Component
    table: Mapping[str, Any]

    def __str__(self) -> str:
        """As messages call it, such as ``[optimizer] muon``."""
        return f"[{'.'.join(self.path)}] {self.component.name}"

    def refuses(self, owned: Owned) -> str:
        """Why it cannot take a parameter; empty if it can."""
        able, ndim = self.component.capabilities, owned.parameter.dim()
        least, most = able.get("min_ndim", 0), able.get("max_ndim", ndim)
        if ndim < least:
            return f"takes parameters of at least {least} dimensions"
        if ndim > most:
            return f"takes parameters of at most {most} dimensions"
        return "takes sparse gradients alone" if able.get("sparse") and not _is_sparse(owned) else ""


def parts_of(recipe: Recipe) -> list[Part]:
    """The recipe's optimizer, and the one for the rest where there is one."""
    table = recipe.tables["optimizer"]
    parts = [Part(("optimizer",), recipe.components[("optimizer",)], table)]
    if table["rest"] is not None:
        path = ("optimizer", "rest")
        parts.append(Part(path, recipe.components[path], table["rest"]))
    return parts


def route(recipe: Recipe, model: nn.Module) -> dict[nn.Parameter, int]:
    """The number of the part, in `parts_of`, that each parameter goes to.

    To the rest goes what the optimizer cannot take by its capabilities, and what ``match``, ``type`` or ``ndim`` of
    ``[optimizer.rest]`` name. Where none of these is written, embeddings and the last layer go there too if the
    optimizer is for hidden weights, and sparse parameters if the rest is for those.

    Raises:
        RecipeError: if a pattern, type or number of dimensions is no parameter's.
    """
    parameters, parts = parameters_of(model), parts_of(recipe)
    if len(parts) == 1:
        return {owned.parameter: 0 for owned in parameters}
    first, rest = parts
    wanted = [(key, number, {key: value}) for key in CRITERIA for number, value in enumerate(rest.table[key] or ())]
    problems: list[Problem] = []
    for key, number, one in wanted:
        if not any(owned.meets(one) for owned in parameters):
            message = f"{rest}: {criteria_text(one)} is no parameter's"
            cure = criterion_help(key, one[key], model)
            problems.append(problem_at(recipe.tables, f"optimizer.rest.{key}.{number}", message, cure))
    if problems:
        raise RecipeError(problems)
    said = any(rest.table[key] is not None for key in CRITERIA)
    layers = layers_of(model)
    return {
        owned.parameter: int(
            bool(first.refuses(owned))
            or (any(owned.meets(one) for _, _, one in wanted) if said else _by_default(first, rest, owned, layers))
        )
        for owned in parameters
    }


def _by_default(first: Part, rest: Part, owned: Owned, layers: Layers) -> bool:
    if first.component.capabilities.get("hidden_weights"):
        return isinstance(owned.module, _TABLES) or layers.is_head(owned.name)
    return bool(rest.component.capabilities.get("sparse")) and _is_sparse(owned)


def _is_sparse(owned: Owned) -> bool:
    return isinstance(owned.module, _TABLES) and owned.module.sparse


def check_shares(recipe: Recipe, parts: Sequence[Part], shares: Sequence[Sequence[Owned]]) -> None:
    """Refuse parts that get nothing, and parameters that their part cannot take.

    Args:
        recipe: the recipe.
        parts: its optimizers.
        shares: the parameters that each of them is to train.

    Raises:
        RecipeError: with a problem for each part at fault.
    """
    problems = []
    for part, share in zip(parts, shares, strict=True):
        key = ".".join((*part.path, "use"))
        other = next((one for one in parts if one is not part), None)
        refused = [(owned, why) for owned in share if (why := part.refuses(owned))]
        if refused:
            owned, why = refused[0]
            more = f", nor do {len(refused) - 1} others fit" if len(refused) > 1 else ""
            message = f"{part} {why}: '{owned.name}' of shape {tuple(owned.parameter.shape)} does not fit{more}"
            cure = 'write [optimizer.rest] with use = "adamw", say; what does not fit goes there'
            if other is not None:
                cure = f"leave what {part.component.name} cannot take to {other}: narrow match, type or ndim"
            problems.append(problem_at(recipe.tables, key, message, cure))
        elif not share and other is not None:
            message = f"nothing is left for {part}: every parameter goes to {other}"
            cure = "say with match, type or ndim in [optimizer.rest] which parameters it is for"
            problems.append(problem_at(recipe.tables, key, message, cure))
    if problems:
        raise RecipeError(problems)
