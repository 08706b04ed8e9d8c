"""Data sets that are kept from one run to the next: the trials of a search read the same data."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trainkit.dataset import Dataset
from trainkit.instantiate import Builder
from trainkit.seeding import put_back_generators, random_generators

KEPT = 4  # data sets, at the most
_CPU = torch.device("cpu")


class Datasets:
    """The newest few data sets of this process, by component and settings.

    A run takes copies of the samples that it trains on, so that no run changes the data of the next; where one of
    torch's tensors was changed all the same, the data set is made anew. What a data component draws from the global
    random generators is drawn for every run: they stand afterwards as if it had been called.
    """

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    def get(self, builder: Builder, seed: int, make: Callable[[], Dataset]) -> Dataset:
        """The data set of a recipe, made if it is not there.

        Args:
            builder: the recipe's.
            seed: what the data component is given as its seed.
            make: makes it.
        """
        component, table = builder.recipe.components[("data",)], builder.table(("data",))
        settings = {setting.name: table[setting.name] for setting in component.settings}
        given = [seed if name == "seed" else builder.given.get(name) for name in component.given if name != "progress"]
        # A plugin that was imported anew has other functions, whatever their names.
        key = json.dumps([id(component.factory), component.plugin, component.name, given, settings], default=str)
        found = self._kept.pop(key, None)
        if found is None or found.changed:
            found = _Kept(component.factory, make(), random_generators(_CPU))
        else:
            put_back_generators(found.drawn, _CPU)
        self._kept[key] = found
        for oldest in list(self._kept)[:-KEPT]:
            del self._kept[oldest]
        return found.dataset

    def known(self, dataset: Dataset) -> bool:
        """Whether this very data set was found fit for a run before."""
        return any(kept.dataset is dataset and kept.fit and not kept.changed for kept in self._kept.values())

    def found_fit(self, dataset: Dataset) -> None:
        """Remember that a data set holds nothing that would spoil a run."""
        for kept in self._kept.values():
            kept.fit = kept.fit or kept.dataset is dataset


class _Kept:
    def __init__(self, factory: Any, dataset: Dataset, drawn: tuple[Any, ...]) -> None:
        self.factory = factory  # kept, so that no other one can have its id
        self.dataset = dataset
        self.drawn = drawn
        self.fit = False
        self._versions = self._now()

    @property
    def changed(self) -> bool:
        return self._versions != self._now()

    def _now(self) -> list[int]:
        parts = [part for split in self.dataset.splits.values() for part in (split.inputs, split.targets)]
        return [part._version for part in parts if isinstance(part, Tensor) and not part.is_inference()]
