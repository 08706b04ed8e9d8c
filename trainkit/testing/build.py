"""A component in the tiny recipe, and what it builds there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import tomli_w

from trainkit.clock import Clock
from trainkit.component import Component
from trainkit.dataset import DataSpec
from trainkit.errors import RecipeError
from trainkit.instantiate import Builder
from trainkit.protocols import silent
from trainkit.recipe import Recipe, recipe_from_text
from trainkit.tables import INSIDE, WITHIN, table_of
from trainkit.testing.letters import Letters
from trainkit.testing.listed import plugins_of
from trainkit.testing.tiny import TINY
from trainkit.testing.tiny import table_of as example_table

SPEC = DataSpec(
    input_shape=(6,),
    task="classification",
    outputs=3,
    classes=("a", "b", "c"),
    class_counts=(20, 20, 20),
    sizes={"train": 60, "val": 10, "test": 10},
    fingerprint="0" * 64,
)
_SIZES: dict[str, Any] = {"sizes": SPEC.sizes, "fingerprint": SPEC.fingerprint}
IMAGES, PHOTOS, SCANS, SERIES, VOLUMES = (
    DataSpec(shape, "classification", 3, SPEC.classes, SPEC.class_counts, **_SIZES)
    for shape in ((3, 8, 8), (3, 32, 32), (1, 28, 28), (2, 64), (1, 8, 8, 8))
)
NUMBERS = DataSpec((6,), "regression", 1, **_SIZES)
FORECASTS = DataSpec((1, 12), "regression", 6, naive_error=(20.0,) * 6, **_SIZES)
BINARY = DataSpec((6,), "binary", 1, ("no", "yes"), (30, 30), **_SIZES)
TOKENS = DataSpec(
    (6,), "tokens", 3, SPEC.classes, (120, 120, 120), **_SIZES, tokens_per_sample=6, vocabulary=Letters(3)
)


@dataclass(frozen=True)
class Surroundings:
    """What a component finds around it in the tiny recipe.

    Args:
        tables: tables in the place of the tiny recipe's own.
        spec: the data's description.
        unit: the times of an example become 1, 2, 3 ... times so many updates.
        matrices: whether the parameters that an optimizer is given are matrices alone.
    """

    tables: Mapping[str, Any] = field(default_factory=dict)
    spec: DataSpec = SPEC
    unit: int = 1
    matrices: bool = False


_CONSTANT = {"schedule": {"use": "constant"}}
_SINGLE = {"run": {**TINY["run"], "accumulate": 1, "duration": "1ep"}}


def _of(spec: DataSpec) -> Surroundings:
    model = {"use": "convnet", "widths": [4]} if len(spec.input_shape) == 3 else {"use": "linear"}
    return Surroundings({"data": {**TINY["data"], "features": list(spec.input_shape)}, "model": model}, spec)


_OF_NUMBERS = {**TINY["data"], "task": "regression", "classes": 1}
_OF_ITSELF: dict[str, Any] = {
    "data": {"use": "unlabelled", "batch_size": 8, "of": {"use": "synthetic", "samples": 80, "features": [1, 6, 6]}},
    "metric": [],
}
# Tried in this order: no component goes with everything, and each is held to its contracts where it works.
SURROUNDINGS: tuple[Surroundings, ...] = (
    Surroundings(),
    Surroundings(_CONSTANT),
    Surroundings(_SINGLE),
    Surroundings({**_SINGLE, **_CONSTANT}),
    Surroundings({"model": {"use": "mlp", "widths": [8], "dropout": 0.3}}),
    Surroundings({"model": {"use": "mlp", "widths": [8]}, **_CONSTANT}),
    Surroundings({"model": {"use": "linear"}}),
    Surroundings(unit=2),
    Surroundings(matrices=True),
    _of(IMAGES),
    Surroundings({"data": _OF_NUMBERS, "loss": {"use": "mse"}, "metric": []}, NUMBERS),
    Surroundings({"data": _OF_NUMBERS, "loss": {"use": "gaussian_nll"}, "metric": []}, NUMBERS),
    Surroundings({"data": {**TINY["data"], "task": "binary"}, "loss": {"use": "binary"}}, BINARY),
    *map(_of, (PHOTOS, SCANS, SERIES, VOLUMES)),
    Surroundings(
        {"data": {**TINY["data"], "task": "tokens"}, "model": {"use": "gpt", "layers": 1, "width": 8}}, TOKENS
    ),
    Surroundings(
        {
            "data": {"use": "airline", "context": 12, "horizon": 6, "batch_size": 16},
            "model": {"use": "linear"},
            "loss": {"use": "mse"},
            "metric": [],
        },
        FORECASTS,
    ),
    Surroundings(
        {**_OF_ITSELF, "model": {"use": "autoencoder", "latent": 2, "widths": []}, "loss": {"use": "mse"}},
        DataSpec((1, 6, 6), "regression", 36, **_SIZES),
    ),
    Surroundings(
        {**_OF_ITSELF, "model": {"use": "vae", "widths": []}, "loss": {"use": "elbo", "latent": 2}},
        DataSpec((1, 6, 6), "regression", 40, **_SIZES),
    ),
    Surroundings(
        {
            "data": {
                **TINY["data"],
                "features": [1, 6, 6],
                "augment": [{"use": "views", "of": [{"use": "flip"}]}],
            },
            "model": {"use": "simclr", "encoder": {"use": "mlp", "widths": [8]}, "projection": 4},
            "loss": {"use": "nt_xent"},
            "metric": [],
        },
        DataSpec((1, 6, 6), "classification", 3, SPEC.classes, SPEC.class_counts, **_SIZES),
    ),
)


def tables_of(
    component: Component, settings: Mapping[str, Any] | None = None, base: Mapping[str, Any] = TINY, unit: int = 1
) -> dict[str, Any]:
    """The tables of the tiny recipe that name a component where its kind belongs.

    Args:
        component: the component.
        settings: the settings; ``None`` takes those of its example, with times of 1, 2, 3 ... updates.
        base: the recipe whose tables it joins.
        unit: the times are so many times as long.
    """
    table = example_table(component, unit) if settings is None else {"use": component.name, **settings}
    kind = component.kind
    if kind in INSIDE:
        outer, key = INSIDE[kind]
        return {outer: {**base[outer], key: [table]}}
    if kind in WITHIN:
        outer, key = WITHIN[kind]
        return {outer: {**SEARCH, key: table}}
    if kind == "searcher":
        return {"search": {**SEARCH, **table}}
    if kind == "optimizer" and not {"min_ndim", "hidden_weights"}.isdisjoint(component.capabilities):
        table = {"rest": {"use": TINY["optimizer"]["use"]}, **table}
    found = table_of(kind)
    assert found is not None, f"no table of a recipe names a {kind}"
    return {found.name: [table] if found.many else table}


SEARCH: dict[str, Any] = {
    "use": "random",
    "trials": 2,
    "space": {"optimizer.lr": {"low": 0.001, "high": 0.1, "scale": "log"}},
}


def path_of(kind: str) -> tuple[str | int, ...]:
    """Where `tables_of` puts a component of a kind."""
    if kind in INSIDE:
        return (*INSIDE[kind], 0)
    if kind in WITHIN:
        return WITHIN[kind]
    found = table_of(kind)
    assert found is not None
    return (found.name, 0) if found.many else (found.name,)


def recipe_of(component: Component, settings: Mapping[str, Any] | None = None, **tables: Any) -> Recipe:
    """The tiny recipe with a component in it, checked, in surroundings in which the component can be built.

    Args:
        component: the component.
        settings: as `tables_of`.
        tables: more tables, in the place of the recipe's own; ``None`` leaves one out.

    Raises:
        RecipeError: if they make no recipe.
        PluginDefect: if the component raises anything but what refuses its settings.
    """
    return _recipe(component, settings, surroundings(component, settings), tables)


def made(component: Component, settings: Mapping[str, Any] | None = None, *, updates: int = 12, **given: Any) -> Any:
    """Build a component from its example or from settings.

    Args:
        component: the component.
        settings: as `tables_of`.
        updates: length of the run, in epochs of 3 updates.
        given: what the core gives its factory, such as ``params`` or ``data_spec``; what is left out is made up.

    Raises:
        RecipeError: if the component refuses its settings.
        PluginDefect: if it raises anything else.
    """
    return _made(component, settings, surroundings(component, settings), updates, given)


_FOUND: dict[int, tuple[Component, Surroundings]] = {}  # those of a component with its example


def surroundings(component: Component, settings: Mapping[str, Any] | None = None) -> Surroundings:
    """The first surroundings in which a component can be built, from its example or from settings.

    Raises:
        RecipeError: if it can be built in none; with what was wrong in the first.
        PluginDefect: if it raises anything but what refuses its settings.
    """
    if settings is None and id(component) in _FOUND:
        return _FOUND[id(component)][1]
    refused: list[RecipeError] = []
    for tried in SURROUNDINGS:
        try:
            _made(component, settings, tried, 12, {})
        except RecipeError as error:
            refused.append(error)
            continue
        if settings is None:
            _FOUND[id(component)] = component, tried
        return tried
    for message in dict.fromkeys(str(error).partition("\n")[0] for error in refused[1:]):
        refused[0].add_note(f"in other surroundings: {message}")
    raise refused[0]


def _recipe(
    component: Component, settings: Mapping[str, Any] | None, around: Surroundings, tables: Mapping[str, Any]
) -> Recipe:
    base = {**TINY, **around.tables}
    whole = {**base, **tables_of(component, settings, base, around.unit), **tables}
    text = tomli_w.dumps({name: table for name, table in whole.items() if table is not None})
    name = f"the tiny recipe with {component.kind} '{component.name}'"
    return recipe_from_text(text, name, [], plugins_of(component))


def _made(
    component: Component,
    settings: Mapping[str, Any] | None,
    around: Surroundings,
    updates: int,
    given: Mapping[str, Any],
) -> Any:
    return made_from(_recipe(component, settings, around, {}), component, around, updates, given)


def made_from(
    recipe: Recipe, component: Component, around: Surroundings, updates: int = 12, given: Mapping[str, Any] = {}
) -> Any:
    """Build a component from a recipe that was made for these surroundings; the rest as `made`."""
    builder = Builder(recipe, recipe.plugins, silent)
    builder.clock = Clock(batches_per_epoch=3, samples_per_update=16, total_updates=updates)
    given = {**_given(component, around), **given}
    if "loss" in component.given and "loss" not in given:
        given["loss"] = builder.make("loss", data_spec=given["data_spec"])
    return builder.make(*path_of(component.kind), **given)


def _given(component: Component, around: Surroundings) -> dict[str, Any]:
    """What the core would give the factory: the data's description, and of a small model its parameters."""
    given: dict[str, Any] = {"data_spec": around.spec}
    if not {"params", "model", "optimizer"}.isdisjoint(component.given):
        import torch
        from torch import nn

        layers = [nn.Linear(6, 8, bias=not around.matrices), nn.Linear(8, 3, bias=not around.matrices)]
        model = given["model"] = nn.Sequential(*layers)
        names, parameters = zip(*model.named_parameters(), strict=True)
        given["params"] = [{"params": list(parameters), "names": list(names)}]
        if "optimizer" in component.given:
            given["optimizer"] = torch.optim.SGD(model.parameters(), lr=0.1)
    return given
