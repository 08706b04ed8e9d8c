"""From a checked recipe to a run: every component built, in the order in which one needs the other."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from trainkit import microbatch, snapshot
from trainkit.batch_sizes import plan_batch_sizes
from trainkit.build_data import feed_settings, make_dataset, of_the_data
from trainkit.build_optimizer import make_optimizer
from trainkit.clock import Clock
from trainkit.component import own_figures
from trainkit.datasets import Datasets
from trainkit.device import Precision, choose_device, wants_channels_last
from trainkit.distributed import ONE, Group
from trainkit.distributed.sharding import divides
from trainkit.errors import RecipeError, TrainkitError
from trainkit.evaluate import Defaults
from trainkit.feed import make_feed
from trainkit.feed.double import in_double
from trainkit.fit import check_fit, samples_of, use_channels_last
from trainkit.folding import Folding
from trainkit.groups import GroupDefaults
from trainkit.guarded import guard_loggers
from trainkit.heads import model_spec
from trainkit.hooking import join, run_hook_manager
from trainkit.instantiate import Builder
from trainkit.manager import Plugins
from trainkit.pretrained import load_pretrained
from trainkit.programs import make_program
from trainkit.protocols import Progress, StepProgram
from trainkit.recipe import Recipe, load_recipe, problem_at
from trainkit.recipe.fixed import FixedTables
from trainkit.replicas import share_statistics
from trainkit.run import Run
from trainkit.rundir import check_links
from trainkit.seeding import put_back_generators, random_generators, seed_everything
from trainkit.timetable import make_reactions, make_schedules
from trainkit.weight_files import Weights


@dataclass
class Built:
    """A run that is ready to start.

    Args:
        run: the run.
        program: makes its updates.
    """

    run: Run
    program: StepProgram


def build(
    recipe: Recipe,
    plugins: Plugins,
    folder: Path,
    progress: Progress,
    listeners: Sequence[object] = (),
    say: Callable[[str], None] = print,
    planned: Callable[[int], int] | None = None,
    settle: Callable[[Run], None] | None = None,
    datasets: Datasets | None = None,
    group: Group = ONE,
) -> Built:
    """Build everything a run needs, ready to start.

    Args:
        recipe: the checked recipe.
        plugins: the plugins of this process.
        folder: the run folder.
        progress: told about long work.
        listeners: objects whose hooks join the run, after those of the recipe.
        say: tells the user something once.
        planned: of a run that is continued: given its length, the length that its schedules see.
        settle: of a run that is continued: may change the base values of the optimizer's groups before schedules are
            made.
        datasets: keeps data sets from one run of this process to the next.
        group: the processes that make the run together; each calls this.

    Raises:
        RecipeError: if parts do not fit each other.
        MachineError: if the machine lacks something.
        PluginDefect: if a component raised.
    """
    run = prepare(recipe, plugins, folder, progress, listeners, say, planned, settle, datasets, group)
    make_ready(run)
    return Built(run, make_program(recipe, run))


def make_ready(run: Run) -> None:
    """Give a run that `prepare` has built the forward pass, the random numbers and the mode that it runs with."""
    if run.recipe["run"]["compile"] == "model":
        compiled: Callable[[Tensor], Tensor] = torch.compile(run.model)
        run.forward = compiled if run.forward is run.model else _in_layout(compiled)
    seed_everything(run.seed, "run")
    run.model.train()


def prepare(
    recipe: Recipe,
    plugins: Plugins,
    folder: Path,
    progress: Progress,
    listeners: Sequence[object] = (),
    say: Callable[[str], None] = print,
    planned: Callable[[int], int] | None = None,
    settle: Callable[[Run], None] | None = None,
    datasets: Datasets | None = None,
    group: Group = ONE,
    begins: bool = True,
) -> Run:
    """Build a run that can be looked at, as `build` does, and nothing that updates it: no compiler is imported.

    A run that is not continued gets the weights that ``[model]`` names, unless it ``begins`` not.
    """
    tables, settings = recipe.tables, recipe.tables["run"]
    seed: int = tables["seed"]
    builder = Builder(recipe, plugins, progress)
    if settings["threads"] is not None:
        torch.set_num_threads(settings["threads"])
    device = choose_device(settings["device"], group.local_rank if group.size > 1 else None)
    precision = Precision.choose(settings["precision"], device)

    with group.one_after_the_other():  # the first one fills caches and downloads
        dataset = make_dataset(builder, say, datasets)
    if precision.name == "float64":
        dataset = in_double(dataset)
    spec = dataset.spec
    augmentations = [builder.make("data", "augment", i, data_spec=spec) for i in range(len(tables["data"]["augment"]))]
    feeding = feed_settings(builder, spec, precision, group.size)
    known = datasets is not None and datasets.known(dataset)
    with of_the_data(tables):
        feed = make_feed(
            dataset,
            **feeding,
            augmentations=augmentations,
            seed=seed,
            device=device,
            say=say,
            known=known,
            share=group.share,
            mixes=any(part.capabilities.get("mixes") for path, part in recipe.components.items() if "augment" in path),
        )
    if datasets is not None:
        datasets.found_fit(dataset)
    builder.clock = make_clock(builder, feed.batches_per_epoch, feed.batch_size, spec.tokens_per_sample)
    builder.clock = plan_batch_sizes(builder, feed, planned)

    loss = builder.make("loss", data_spec=spec)
    seed_everything(seed, "model")
    model: nn.Module = builder.make("model", data_spec=model_spec(spec, loss))
    model = model.to(device)
    if precision.name == "float64":
        model.double()
    share_statistics(model, group, settings, say)
    channels_last: bool = settings["channels_last"] is True
    if channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's annotations leave it out
    elif settings["channels_last"] == "auto" and wants_channels_last(model):
        with _blaming(plugins):
            why = use_channels_last(model, samples_of(dataset)[0].to(device))
        channels_last = not why
        if why:
            say(f"channels_last is not used: {why}")
    metrics = {
        _metric_name(recipe, i): builder.make("metric", i, data_spec=spec, loss=loss)
        for i in range(len(tables["metric"]))
    }
    # Loggers write, which one process does for all.
    order = [path for path in recipe.order if group.first or path[0] != "logger"]
    made = {path: builder.make(*path, data_spec=spec) for path in order}
    built = {f"{path[0]}.{path[1]}.{recipe.components[path].name}": part for path, part in made.items()}
    callbacks = {recipe.components[path].name: part for path, part in made.items() if path[0] == "callback"}
    reactions = make_reactions(builder)
    built |= {f"listener.{i}": listener for i, listener in enumerate(listeners)}
    manager = run_hook_manager(Defaults(), recipe.plugins_in_use(), built, plugins.plugins)
    guard_loggers(manager, built, plugins, say)
    manager.register(GroupDefaults(recipe), "trainkit groups")
    join(manager, model, "model", plugins.plugins)
    if reactions.watches:
        manager.register(reactions, "trainkit reactions")

    run = Run(
        recipe=FixedTables(tables),
        seed=seed,
        folder=folder,
        device=device,
        clock=builder.clock,
        feed=feed,
        model=model,
        forward=model,
        precision=precision,
        loss=loss,
        metrics=metrics,
        hook=manager.hook,
        reactions=reactions,
        say=say,
        group=group,
        own_figures=own_figures(recipe.components.values()),
    )
    # A compiled model has its own way to fuse; one that is divided has no weights to fold at hand.
    divided = divides(settings["strategy"], group)
    if settings["fold_batchnorm"] and settings["compile"] != "model" and not divided:
        run.folding = Folding(model, say)
    with _blaming(plugins):
        check_fit(run, dataset, recipe)
        run.hook.trainkit_prepare_model(run=run, model=model)
        # Before the optimizer, which may keep copies, and after plugins have put in place what they compute.
        if begins and planned is None:
            found = load_pretrained(tables, model, partial(_measured, plugins, progress))
            if found is not None:
                run.pretrained = found.about
                say(found.text)
        run.optimizer = make_optimizer(builder, run, model, samples_of(dataset)[0] if divided else None)
        for label, part in builder.optimizers.items():
            join(manager, part, label, plugins.plugins)
    run.bases = [
        {key: copy.deepcopy(value) for key, value in group.items() if key not in ("params", "names")}
        for group in run.optimizer.param_groups
    ]
    if settle is not None:
        settle(run)
    run.schedules = make_schedules(builder, run, reactions, callbacks)
    run.forward = _in_layout(model) if channels_last else model
    microbatch.begin(recipe, run)
    return run


def _measured(plugins: Plugins, progress: Progress, folder: Path, found: Weights) -> dict[str, Tensor]:
    """The weights that evaluations of another run measure; random numbers and threads are as before."""
    check_links(folder)
    cpu, threads = torch.device("cpu"), torch.get_num_threads()
    drawn = random_generators(cpu)
    try:
        recipe = load_recipe(folder / "recipe.toml", ["run.device=auto"], plugins)
        length = found.state.get("schedule_updates")
        other = prepare(recipe, plugins, folder, progress, say=_nothing, planned=lambda total: length or total)
        with contextlib.closing(other.feed):
            make_ready(other)
            snapshot.restore_weights(other, found.everything, found.state)
            return snapshot.measured_weights(other)
    finally:
        torch.set_num_threads(threads)
        put_back_generators(drawn, cpu)


def _nothing(text: str) -> None:
    """What another run says."""


@contextlib.contextmanager
def _blaming(plugins: Plugins) -> Iterator[None]:
    """Name the plugin whose hook raised."""
    try:
        yield
    except (TrainkitError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if (defect := plugins.blame(error, "building the run")) is None:
            raise
        raise defect from error


def make_clock(builder: Builder, batches: int, batch_size: int, tokens: int | None) -> Clock:
    """Work out ``T`` from the data's length and the recipe's duration.

    Raises:
        RecipeError: if the duration comes to no update at all.
    """
    accumulate = builder.tables["run"]["accumulate"]
    builder.clock = Clock(batches, batch_size * accumulate, accumulate, tokens_per_sample=tokens)
    total = builder.updates(builder.tables["run"]["duration"], ("run", "duration"))
    if total < 1:
        written = builder.tables["run"]["duration"]
        cure = f"an epoch has {builder.clock.updates_per_epoch} updates of {batch_size * accumulate} samples"
        message = f'duration = "{written}" comes to no update at all'
        raise RecipeError([problem_at(builder.tables, "run.duration", message, cure)])
    return dataclasses.replace(builder.clock, total_updates=total)


def _metric_name(recipe: Recipe, index: int) -> str:
    return recipe.components[("metric", index)].name


def _in_layout(model: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def forward(inputs: Tensor) -> Tensor:
        return model(inputs.contiguous(memory_format=torch.channels_last) if inputs.dim() == 4 else inputs)

    return forward
