"""A range test from a checked recipe to what was found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trainkit.datasets import Datasets
from trainkit.errors import UsageError
from trainkit.lr_find.curve import Sweep
from trainkit.lr_find.found import LEAST_UPDATES, Found, rounded
from trainkit.lr_find.setting import RATE, Path, Setting, setting_of
from trainkit.lr_find.sweeping import UPDATES, Curve, sweep
from trainkit.lr_find.traces import Traces, Watch
from trainkit.protocols import Progress
from trainkit.recipe import Recipe, trial_recipe
from trainkit.recipe.text import dotted
from trainkit.targets import BATCH_SIZE

CHANGES = ("logger=[]",)  # loggers write to places that a test has no business with
MOST_UPDATES = 100_000


class RangeTest:
    """A range test of a recipe that was found to be possible.

    Args:
        recipe: the checked recipe, changed by `CHANGES`.
        name: the number that is changed, by its key in the recipe.
        low: the first value; chosen if not given.
        high: the last value; chosen if not given.
        updates: how many.
        linear: raise it by equal steps, not by equal factors.

    Raises:
        UsageError: if the number cannot be changed, or not so.
    """

    def __init__(
        self,
        recipe: Recipe,
        name: str = RATE,
        low: float | None = None,
        high: float | None = None,
        updates: int = UPDATES,
        linear: bool = False,
    ) -> None:
        if not LEAST_UPDATES <= updates <= MOST_UPDATES:
            raise UsageError(f"--updates {updates}: write a whole number from {LEAST_UPDATES} to {MOST_UPDATES}")
        self.recipe = self._swept = _eager(recipe)
        self.setting = self._meant = setting = setting_of(self.recipe, name)
        self.sweep = Sweep(*setting.range(low, high, linear), updates)
        self.keys = _keys(self.recipe, setting)
        if (
            setting.now == 0
            and setting.key[:1] == ("optimizer",)
            and all(isinstance(part, str) for part in setting.key)
        ):
            # Groups have no shares of zero. Of another value they have: biases no decay, whatever the others have.
            self._swept = _eager(trial_recipe(recipe, {}, {dotted(setting.key): self.sweep.high}))
            self._meant = setting_of(self._swept, name)

    def find(self, progress: Progress) -> Found:
        """Make the test, and look whether it left a trace.

        Args:
            progress: told about the updates.

        Raises:
            TrainkitError: whatever keeps the recipe from training.
        """
        recipe, setting, updates = self.recipe, self.setting, self.sweep.updates
        datasets, held = Datasets(), None
        watch = Watch(recipe, progress, datasets)
        with watch.around():
            if not setting.is_rate:
                held = sweep(recipe, setting, None, updates, datasets, progress, "lr-find: as it is")
            said = f"lr-find: {setting.name}"
            curve = sweep(self._swept, self._meant, self.sweep.at, updates, datasets, progress, said)
        loss = f"training loss ({recipe.tables['loss']['use']}) of each update's batch, before the update"
        traces = Traces(watch.before, watch.after)
        found = Found(recipe.path, setting, self.sweep, curve, held, loss, traces)
        found.notes = list(_notes(recipe, setting, curve, found))
        return found


def _eager(recipe: Recipe) -> Recipe:
    """The recipe without its compiler, which would take longer than the test."""
    recipe.tables["run"] = {**recipe.tables["run"], "compile": False, "updates_per_call": None}
    return recipe


def _keys(recipe: Recipe, setting: Setting) -> dict[Path, float]:
    """What must be written into the recipe for a value of 1: the setting, and what keeps its share of it."""
    keys: dict[Path, float] = {setting.key: 1.0} if setting.key else {}
    if setting.key[:1] != ("optimizer",) or setting.rest or not setting.now:
        return keys
    name, table = setting.key[1], recipe.tables["optimizer"]
    others: list[tuple[Path, Any]] = [(("optimizer", "group", n), group) for n, group in enumerate(table["group"])]
    if table["rest"] is not None:
        others.append((("optimizer", "rest"), table["rest"]))
    for path, other in others:
        value = other.get(name)
        if len(setting.key) == 2 and isinstance(value, int | float) and not isinstance(value, bool):
            keys[(*path, name)] = value / setting.now
    return keys


def _notes(recipe: Recipe, setting: Setting, curve: Curve, found: Found) -> Iterator[str]:
    """What must be known to read the test."""
    schedule, optimizer = recipe.tables["schedule"], recipe.tables["optimizer"]
    if setting.is_rate:
        if recipe.components[("schedule",)].capabilities.get("absolute"):
            yield f"the schedule '{schedule['use']}' says the rate itself: write the value there, as its highest"
        elif schedule["use"] != "constant" or schedule["react"]:
            yield f"the schedule '{schedule['use']}' was switched off: the value is what it multiplies, its base value"
        if recipe.sets_own_lr:
            yield f"'{optimizer['use']}' changes its rate itself, which the test undid: the value is for its beginning"
    else:
        yield f"this is the training loss of {found.sweep.updates} updates: what pays in the end, only whole runs say"
        if schedule["use"] != "constant":
            yield f"the schedules were switched off: the learning rate was {_shown(optimizer.get('lr'))} throughout"
    if any(table["target"] == BATCH_SIZE for table in schedule["also"]):
        yield f"batches had the sizes that the schedule of {BATCH_SIZE} begins with"
    if setting.in_loss:
        yield f"the loss depends on {setting.name}: the curve shows the loss as the recipe has it, so that it compares"
    elif setting.target.startswith("model."):
        yield "the loss is that of the model while it trains, which the setting is a part of"
    if curve.skipped:
        yield f"{curve.skipped} updates were left out, since their gradients were not finite; they count for nothing"
    end = curve.values[-1] if curve.values else found.sweep.low
    if next(iter(found.suggestions.values())) is None:
        what = "stands above that with the setting as it is from the start" if found.held else "does not fall"
        yield f"no suggestion: the loss {what}; try another range, or more updates"
    elif not curve.diverged and (setting.is_rate or found.suggestions["harmless"] == rounded(end)):
        what = "the loss did not diverge" if setting.is_rate else "no value did harm"
        yield f"{what}: what lies above {end:g} is not known; --to tries more"


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
