"""Parameter groups: which parameters get settings of their own."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Mapping
from typing import Any

from torch import nn

from trainkit.component import Component
from trainkit.errors import RecipeError
from trainkit.hookspecs import hookimpl
from trainkit.recipe import problem_at
from trainkit.run import Run


class GroupDefaults:
    """The core's rule for parameter groups, asked after all plugins.

    Args:
        optimizer: the optimizer's component.
        tables: the filled recipe, which knows its places.
    """

    def __init__(self, optimizer: Component, tables: Mapping[str, Any]) -> None:
        self.optimizer = optimizer
        self.tables = tables

    @hookimpl(trylast=True)
    def trainkit_parameter_groups(self, run: Run, model: nn.Module) -> list[dict[str, Any]]:
        """Group by the first matching ``[[optimizer.group]]``; biases and norms apart, without weight decay.

        Tied weights appear once, under their first name; frozen parameters are left out.

        Raises:
            RecipeError: if a pattern matches no parameter, or nothing is left to train.
        """
        settings = self.tables["optimizer"]
        rules: list[Mapping[str, Any]] = list(settings["group"])
        takes_decay = any(setting.name == "weight_decay" for setting in self.optimizer.settings)
        split_decay = takes_decay and settings["no_decay"] == "norms_and_biases"
        names = dict(model.named_parameters())
        matched: set[int] = set()
        groups: dict[tuple[int, bool], dict[str, Any]] = {}
        for name, parameter in names.items():
            rule = next((i for i, table in enumerate(rules) if fnmatch.fnmatchcase(name, table["match"])), len(rules))
            matched.add(rule)
            if not parameter.requires_grad:
                continue
            overrides = {k: v for k, v in rules[rule].items() if k != "match"} if rule < len(rules) else {}
            decay = overrides.get("weight_decay", settings.get("weight_decay", 0.0))
            # A group that states its own decay means all that it matches.
            apart = split_decay and parameter.dim() <= 1 and bool(decay) and "weight_decay" not in overrides
            group = groups.setdefault((rule, apart), {"params": [], "names": [], "lr_scale": 1.0, **overrides})
            if apart:
                group["weight_decay"] = 0.0
            group["params"].append(parameter)
            group["names"].append(name)
        problems = []
        for index, table in enumerate(rules):
            if index not in matched:
                near = difflib.get_close_matches(table["match"], names, 3, 0.4) or list(names)[:3]
                message = f'[[optimizer.group]] match = "{table["match"]}" matches no parameter that is still free'
                cure = f"first match wins; parameters are named like {', '.join(near)}"
                problems.append(problem_at(self.tables, f"optimizer.group.{index}.match", message, cure))
        if not groups:
            problems.append(problem_at(self.tables, "model", "the model has no parameter to train", "unfreeze some"))
        if problems:
            raise RecipeError(problems)
        return [groups[key] for key in sorted(groups)]
