"""From finished runs to members of an ensemble: weights as evaluations measure them, and where they come from."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from trainkit import checkpoint, store
from trainkit.ensemble.agree import check_data, check_outputs
from trainkit.ensemble.aligned import Averaged, align
from trainkit.ensemble.base import Base
from trainkit.ensemble.rebuild import build_model
from trainkit.ensemble.run_facts import ancestors_of, check_finished, figures_at, seconds_of
from trainkit.ensembler import Cost, Member
from trainkit.errors import CheckpointError, UsageError
from trainkit.finished import Reopened, reopen
from trainkit.heads import model_spec, predicting
from trainkit.seeding import put_back_generators, random_generators
from trainkit.snapshot import measured_weights


@dataclass(eq=False)
class FoldedMember(Member):
    """Several runs of one recipe, each on another fold or with another seed, that are one member.

    For a sample it gives the mean of what those runs give that were not trained on it, and for new ones the mean of
    all.

    Args:
        runs: the runs.
    """

    runs: Sequence[Member] = field(default=())


@dataclass(frozen=True)
class Source:
    """Where one member comes from.

    Args:
        name: how messages and reports call it.
        paths: a run folder, or a checkpoint of one; several are runs whose mean is one member.
    """

    name: str
    paths: tuple[Path, ...]


# ------------------------------------------------------------ members


def check_sources(sources: Sequence[Source]) -> None:
    """Find what the files of finished runs tell without opening one: whether each is over, and named once.

    Raises:
        UsageError: naming the first run that is not.
    """
    seen: dict[Path, str] = {}
    for source in sources:
        for path in source.paths:
            if (place := path.resolve()) in seen:
                raise UsageError(f"{source.name}: named twice (also as {seen[place]}); a member counts once")
            seen[place] = source.name
            check_finished(path)


def member_of_source(source: Source, base: Base) -> Member:
    """The member that one run, or several whose mean it is, make."""
    if len(source.paths) == 1:
        return member_of_run(source.paths[0], base, source.name)
    runs = [member_of_run(path, base, f"{source.name}, {path.name}") for path in source.paths]
    return folded(source.name, runs, base)


def folded(name: str, runs: Sequence[Member], base: Base) -> FoldedMember:
    """One member of several runs; its figures are their means."""
    common = set.intersection(*(set(run.figures) for run in runs))
    return FoldedMember(
        name,
        Averaged([run.module for run in runs], base.spec.task).eval(),
        runs[0].recipe,
        base.spec,
        {key: sum(run.figures[key] for run in runs) / len(runs) for key in runs[0].figures if key in common},
        frozenset(),  # a mean of outputs has no weights of its own
        Cost(
            sum(run.cost.updates for run in runs),
            sum(run.cost.epochs for run in runs),
            sum(run.cost.seconds for run in runs),
        ),
        step=max(run.step for run in runs),
        runs=tuple(runs),
    )


def member_of_run(path: Path, base: Base, name: str = "") -> Member:
    """The member that a finished run makes, or a checkpoint of one.

    Args:
        path: the run folder, whose newest checkpoint counts, or ``RUN/checkpoints/step-...``.
        base: what all members are given and measured by.
        name: how messages and reports call it; ``""`` is as the user would write it.

    Raises:
        UsageError: if it is no run folder, the run is not finished, or it does not agree with the base's data.
        CheckpointError: if the checkpoint, or the run's newest one, is damaged.
    """
    check_finished(path)
    with _quietly():
        made = reopen(path, base.plugins, base.progress, say=lambda text: None, datasets=base.datasets)
        name = name or name_of(path, int(made.state["step"]))
        with contextlib.closing(made.run.feed):
            return _member(name, path, made, base)


def _member(name: str, path: Path, made: Reopened, base: Base) -> Member:
    if made.refused:
        why = next(iter(made.refused.values()))
        raise CheckpointError(
            f"{name}: its newest checkpoint cannot be used: {why}\n"
            f"  to take an older one as the member, name it: {made.checkpoint}"
        )
    run, state = made.run, made.state
    recipe = {key: copy.deepcopy(value) for key, value in run.recipe.items() if key not in ("search", "ensemble")}
    spec = run.feed.spec
    check_data(name, made, base)
    weights = measured_weights(run)
    model = build_model(recipe, model_spec(spec, run.loss), base.plugins)
    put_weights(name, model, weights)
    module = align(predicting(model, run.loss), spec, base.spec).eval()
    check_outputs(name, module, run, weights, base)
    step = int(state["step"])
    return Member(
        name=name,
        module=module,
        recipe=recipe,
        spec=spec,
        figures=figures_at(made.folder, step),
        ancestors=ancestors_of(made.folder, made.first_sha256, base),
        cost=Cost(step, round(run.clock.epochs_at(step), 6), seconds_of(state)),
        folder=made.folder,
        step=step,
        fold=recipe["data"]["fold"] if recipe["data"]["folds"] is not None else None,
    )


def name_of(path: Path, step: int) -> str:
    """How a run or a checkpoint of one is called: ``runs/a``, ``runs/a at update 400``."""
    if path.parent.name == "checkpoints":
        return f"{path.parent.parent} at update {step}"
    return str(path)


def checkpoints_of(member: Member, base: Base) -> list[Member]:
    """The checkpoints that a member's run has kept, as `trainkit.ensembler.Workshop` says.

    Raises:
        CheckpointError: if there is none.
    """
    every = [] if member.folder is None else store.newest_first(member.folder / "checkpoints")[::-1]
    steps = {path: step for path in every if (step := store.step_of(path.name)) is not None and step <= member.step}
    if not steps:
        raise CheckpointError(f"{member.name}: there are no checkpoints of it")
    run = member.name.removesuffix(f" at update {member.step}")
    found = [path for path in steps if store.is_pinned(path)] or list(steps)
    return [member_of_run(path, base, f"{run} at update {steps[path]}") for path in found]


# ------------------------------------------------------------ weights


def put_weights(name: str, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy weights into a model that was built anew.

    Raises:
        UsageError: if they do not fit it.
    """
    try:
        checkpoint.load_weights(model, weights, prefix="")
    except CheckpointError as error:
        why = str(error).partition(": ")[2]
        cause = "a callback or plugin changes the model after it is built; such a run cannot be a member"
        if any(tensor.dtype is torch.float64 for tensor in weights.values()):
            cause = 'a run with precision = "float64" cannot be a member: ensembles compute in single precision'
        raise UsageError(
            f"{name}: its weights do not fit the model that [model] of its recipe builds ({why})\n  {cause}"
        ) from error
    for parameter in model.parameters():
        parameter.requires_grad_(False)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Random numbers and the number of threads come back: a run that is built again sets both."""
    threads, drawn = torch.get_num_threads(), random_generators(torch.device("cpu"))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        put_back_generators(drawn, torch.device("cpu"))
