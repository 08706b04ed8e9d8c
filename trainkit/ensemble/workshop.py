"""Where an ensembler gets its members: finished runs that are opened when they are looked at, and new ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from torch import Tensor

from trainkit import checkpoint
from trainkit.build import make_clock
from trainkit.ensemble.artefact import Artefact, artefact_of, write_artefact
from trainkit.ensemble.base import Base
from trainkit.ensemble.folder import LONGER, TEACHER, digest_of, member_folder
from trainkit.ensemble.members import Source, checkpoints_of, member_of_run, member_of_source
from trainkit.ensemble.training import Training, job_of
from trainkit.ensemble.verify import read_artefact
from trainkit.ensembler import Ensembler, Member
from trainkit.errors import CheckpointError, RecipeError, UsageError
from trainkit.instantiate import Builder
from trainkit.protocols import silent
from trainkit.reactions import Reactions
from trainkit.recipe import Recipe, trial_recipe
from trainkit.tables import COMPONENT_TABLES
from trainkit.targets import BATCH_SIZE
from trainkit.timetable import whole_schedule

CORE_SETTINGS = tuple(setting.name for setting in COMPONENT_TABLES["ensemble"].added)


class Opened(Sequence[Member]):
    """Members of finished runs, each opened when it is first looked at: a search may have hundreds of trials.

    Args:
        sources: where they come from.
        base: what they are given and measured by.
        looked: called before one is opened.
    """

    def __init__(self, sources: Sequence[Source], base: Base, looked: Callable[[], None] = lambda: None) -> None:
        self._sources = sources
        self._base = base
        self._looked = looked
        self._opened: dict[int, Member] = {}

    def __len__(self) -> int:
        return len(self._sources)

    @overload
    def __getitem__(self, place: int) -> Member: ...
    @overload
    def __getitem__(self, place: slice) -> list[Member]: ...
    def __getitem__(self, place: int | slice) -> Member | list[Member]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        number = range(len(self))[place]
        if number not in self._opened:
            self._looked()
            self._opened[number] = member_of_source(self._sources[number], self._base)
        return self._opened[number]


class RecipeWorkshop:
    """Trains members from a recipe, beside what is there.

    Args:
        single: the recipe that they are trained from, of one run.
        ensemble: the recipe whose ``[ensemble]`` asks for them: problems of an ensembler's changes are told there.
        base: what members are given and measured by.
        folder: the ensemble folder.
        training: trains.
        say: tells the user something, once.
        given: the finished runs that the user named.
        trials: the done trials of a search, the best first.
        accept_drift: whether runs go on although versions or device have changed.
    """

    def __init__(
        self,
        single: Recipe,
        ensemble: Recipe,
        base: Base,
        folder: Path,
        training: Training,
        say: Callable[[str], None],
        given: Sequence[Member] | None = None,
        trials: Sequence[Member] | None = None,
        accept_drift: bool = False,
    ) -> None:
        self.recipe: Mapping[str, Any] = {**single.tables}
        self.given = given
        self.trials = trials
        self.seed: int = single.tables["seed"]
        self.folder = folder
        self.spec = base.spec
        self.settings: Mapping[str, Any] = ensemble.tables["ensemble"]
        self.trained = 0
        self._single = single
        self._ensemble = ensemble
        self._base = base
        self._training = training
        self._say = say
        self._accept_drift = accept_drift

    def train(self, changes: Sequence[Mapping[str, Any]], parent: Member | None = None) -> list[Member]:
        """Train a run for each set of changes; see `trainkit.ensembler.Workshop`."""
        first, self.trained = self.trained, self.trained + len(changes)
        names = [f"member {first + number}" for number in range(len(changes))]
        recipes = [self._changed(name, change) for name, change in zip(names, changes, strict=True)]
        self._check_validation(recipes)
        for name, change, recipe in zip(names, changes, recipes, strict=True):
            if "schedule" in change and parent is None:
                self._check_schedule(name, recipe)
        before = None
        if parent is not None:
            if parent.folder is None:
                raise UsageError(f"{parent.name} is no run that another one could begin from")
            before = parent.folder
        jobs = [
            job_of(first + number, name, recipe, member_folder(self.folder, first + number), before, self._accept_drift)
            for number, (name, recipe) in enumerate(zip(names, recipes, strict=True))
        ]
        self._training.run(jobs, recipes)
        return [member_of_run(job.folder, self._base, job.name) for job in jobs]

    def checkpoints(self, member: Member) -> list[Member]:
        """The checkpoints that a member's run has kept, the oldest first."""
        if member.folder is None:
            raise CheckpointError(f"{member.name}: it is no run, and has no checkpoints")
        return checkpoints_of(member, self._base)

    def say(self, text: str) -> None:
        """Tell the user something, once."""
        self._say(text)

    def store(self, ensembler: Ensembler, key: str) -> Path:
        """Write an ensembler that is a setting of this one as an ensemble folder of its own."""
        core = {name: self.settings[name] for name in CORE_SETTINGS}
        settings = {**core, **self.settings[key]}
        base, folder = self._base, self.folder / TEACHER
        made = artefact_of(settings, ensembler.members(), ensembler.state(), 1.0, base.recipe.tables, base.spec)
        if (member_folder(self.folder, self.trained) / "recipe.toml").is_file() and _other(folder, made):
            raise UsageError(
                f"{member_folder(self.folder, self.trained)}: it was taught by another ensemble than [ensemble.{key}] "
                f"now makes\n  put [ensemble.{key}] back, name a new folder with --run-dir, or begin anew with --fresh"
            )
        write_artefact(folder, made)
        return folder.resolve()

    def longer(self, updates: int) -> Member:
        """The run that the recipe makes of so many updates."""
        recipe = self._changed("the longer run", {"run.duration": f"{updates}ba"})
        folder = self.folder / LONGER
        self._training.run([job_of(self.trained, "the longer run", recipe, folder, None, self._accept_drift)], [recipe])
        return member_of_run(folder, self._base, "the longer run")

    def _changed(self, name: str, changes: Mapping[str, Any]) -> Recipe:
        """The recipe with other settings.

        Raises:
            RecipeError: if they make no recipe.
        """
        values = dict(changes)
        if self.recipe["data"].get("seed") is None and "data" not in values:
            values.setdefault("data.seed", self.seed)  # all members see the same splits
        try:
            return trial_recipe(self._single, {}, values)
        except RecipeError as error:
            raise self._told(name, error) from error

    def _told(self, name: str, error: RecipeError) -> RecipeError:
        """Problems of a member's recipe as such of the table that asks for it."""
        place = self._ensemble.tables.composed.header(("ensemble",))
        use = self._ensemble.tables["ensemble"]["use"]
        return RecipeError(
            [
                dataclasses.replace(problem, place=place, message=f"[ensemble] {use}, {name}: {problem.message}")
                for problem in error.problems
            ]
        )

    def _check_schedule(self, name: str, recipe: Recipe) -> None:
        """Refuse a schedule that does not fit the run's length, where that length can be told before it is built."""
        data, before = ({**tables["data"], "seed": None} for tables in (recipe.tables, self._base.recipe.tables))
        cut = data["folds"] is not None or data["bag"] is not None or data["train_on"] != "train"
        if cut or data != before or any(one["target"] == BATCH_SIZE for one in recipe.tables["schedule"]["also"]):
            return
        builder, feed = Builder(recipe, self._base.plugins, silent), self._base.feed
        try:
            builder.clock = make_clock(
                builder, feed.batches_per_epoch, feed.batch_size, self._base.spec.tokens_per_sample
            )
            whole_schedule(builder, ("schedule",), Reactions())
        except RecipeError as error:
            raise self._told(name, error) from error

    def _check_validation(self, recipes: Sequence[Recipe]) -> None:
        """Nothing is trained for an ensemble that could not be chosen: it needs samples that nobody was trained on."""
        if self._base.has("val") or all(recipe.tables["data"]["folds"] is not None for recipe in recipes):
            return
        raise no_validation(self._base)


def _other(folder: Path, made: Artefact) -> bool:
    """Whether a folder holds an ensemble that predicts something else than one that is about to be written there."""
    try:
        before = read_artefact(folder)
    except (CheckpointError, UsageError):
        return False
    return _essence(before) != _essence(made)


def _essence(artefact: Artefact) -> tuple[Any, ...]:
    tensors: dict[str, Tensor] = {}
    state = digest_of(checkpoint.split_state(artefact.state, "state", tensors))
    return (
        artefact.settings["use"],
        [one.weights for one in artefact.members],
        state,
        checkpoint.tensors_sha256(tensors),
    )


def no_validation(base: Base) -> UsageError:
    """What is wrong with data that has no validation samples."""
    return UsageError(
        f"{base.name}: the data has no validation samples to choose members, weights and the temperature by; it has "
        f"{', '.join(base.spec.sizes)}\n"
        '  give the data component a validation split, or cut folds: [data] folds = 5, or use = "folds" in [ensemble]'
    )
