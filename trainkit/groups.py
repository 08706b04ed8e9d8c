"""Parameter groups: which parameters get settings of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from trainkit.errors import Problem, RecipeError
from trainkit.hookspecs import hookimpl
from trainkit.parameters import CRITERIA, Owned, criteria_text, criterion_help, layers_of, parameters_of
from trainkit.recipe import Recipe, problem_at
from trainkit.routing import Part, parts_of, route
from trainkit.run import Run


class GroupDefaults:
    """The core's rule for parameter groups, asked after all plugins.

    Args:
        recipe: the checked recipe.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    @hookimpl(trylast=True)
    def trainkit_parameter_groups(self, run: Run, model: nn.Module) -> list[dict[str, Any]]:
        """Group by the first matching ``[[optimizer.group]]``; biases and norms apart, without weight decay.

        With a decay by layer each layer has groups of its own. Tied weights appear once, under their first name; frozen
        parameters are left out.

        Raises:
            RecipeError: if a group matches no parameter, a setting is not its optimizer's, or nothing is left to train.
        """
        recipe, settings = self.recipe, self.recipe.tables["optimizer"]
        rules: Sequence[Mapping[str, Any]] = settings["group"]
        parts, routes = parts_of(recipe), route(recipe, model)
        layers, falls = layers_of(model), layer_factor(settings)
        splits = settings["no_decay"] == "norms_and_biases"
        scheduled = any(table["target"] == "weight_decay" for table in recipe.tables["schedule"]["also"])
        matched: dict[int, set[int]] = {}
        groups: dict[tuple[int, int, int, bool], dict[str, Any]] = {}
        for owned in parameters_of(model):
            rule = next((number for number, table in enumerate(rules) if owned.meets(table)), len(rules))
            number = routes[owned.parameter]
            matched.setdefault(rule, set()).add(number)
            if not owned.parameter.requires_grad:
                continue
            overrides = {k: v for k, v in rules[rule].items() if k not in CRITERIA} if rule < len(rules) else {}
            apart = splits and _spared(parts[number], owned, overrides, scheduled)
            layer = layers.number(owned.name) if falls is not None else 0
            key = (number, rule, layer, apart)
            if key not in groups:
                groups[key] = {"params": [], "names": [], "lr_scale": 1.0, **overrides}
                if falls is not None:
                    groups[key]["lr_scale"] *= falls ** layers.depth(owned.name)
                    groups[key]["layer"] = layers.names[layer]
                if apart:
                    groups[key]["weight_decay"] = 0.0
            groups[key]["params"].append(owned.parameter)
            groups[key]["names"].append(owned.name)
        problems = [*_unmatched(recipe, model, matched), *_foreign(recipe, parts, matched)]
        if not groups:
            problems.append(problem_at(recipe.tables, "model", "the model has no parameter to train", "unfreeze some"))
        if problems:
            raise RecipeError(problems)
        return [groups[key] for key in sorted(groups)]


def layer_factor(settings: Mapping[str, Any]) -> float | None:
    """What the rate is multiplied by from one layer to the one before it; ``None`` where all have the same.

    Source: ``layer_decay``: Clark et al. 2020, "ELECTRA", appendix A; arXiv 2003.10555. ``discriminative``: Howard &
    Ruder 2018, "Universal Language Model Fine-tuning", section 3.2; arXiv 1801.06146.
    """
    if settings["discriminative"] is not None:
        return float(1 / settings["discriminative"])
    decay: float | None = settings["layer_decay"]
    return decay


def _spared(part: Part, owned: Owned, overrides: Mapping[str, Any], scheduled: bool) -> bool:
    """Whether a parameter is kept from a weight decay that its optimizer, or a schedule, would have for it."""
    decay = part.table.get("weight_decay")  # unset where the optimizer has none
    # A group that states its own decay means all that it matches.
    decays = decay is not None and (bool(decay) or scheduled) and "weight_decay" not in overrides
    return owned.parameter.dim() <= 1 and decays


def _unmatched(recipe: Recipe, model: nn.Module, matched: Mapping[int, set[int]]) -> Iterator[Problem]:
    """Groups without a parameter, frozen ones included."""
    parameters = parameters_of(model)
    for index, table in enumerate(recipe.tables["optimizer"]["group"]):
        if index in matched:
            continue
        written = [key for key in CRITERIA if table.get(key) is not None]
        wrong = [key for key in written if not any(owned.meets({key: table[key]}) for owned in parameters)]
        help_with = wrong or (written if len(written) == 1 else [])
        cure = "; ".join(["first match wins", *(criterion_help(key, table[key], model) for key in help_with)])
        if not help_with:
            cure += "; all that a group says must hold at once"
        message = f"[[optimizer.group]] {criteria_text(table)} matches no parameter that is still free"
        yield problem_at(recipe.tables, f"optimizer.group.{index}.{(wrong or written)[0]}", message, cure)


def _foreign(recipe: Recipe, parts: Sequence[Part], matched: Mapping[int, set[int]]) -> Iterator[Problem]:
    """Settings of a group that the optimizer of its parameters does not have."""
    for index, table in enumerate(recipe.tables["optimizer"]["group"]):
        for number in sorted(matched.get(index, ())):
            known = {setting.name for setting in parts[number].component.settings}
            for key in table:
                if key not in known and key not in (*CRITERIA, "lr_scale"):
                    message = (
                        f"[[optimizer.group]] {key}: parameters of this group go to {parts[number]}, which has none"
                    )
                    cure = f"narrow the group with {', '.join(CRITERIA)}, or leave {key} out"
                    yield problem_at(recipe.tables, f"optimizer.group.{index}.{key}", message, cure)
