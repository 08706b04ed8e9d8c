"""Every hook, in the order a run calls them; the only place where they are specified.

A plugin module, or an object that a component built, implements a hook by decorating a function of the same name with
`trainkit.hookimpl`. It may leave out arguments that it does not need. ``run`` is always the same `trainkit.Run`;
``run.step`` counts the optimizer updates made so far, ``run.epoch`` the epochs begun, both from 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from trainkit.component import Component
    from trainkit.dataset import Batch
    from trainkit.errors import Problem
    from trainkit.run import Metrics, Report, Run, StepResult
    from trainkit.trial import Study

hookspec = pluggy.HookspecMarker("trainkit")
hookimpl = pluggy.HookimplMarker("trainkit")

# ---------------------------------------------------------------- before a run


@hookspec
def trainkit_components() -> list[Component]:  # type: ignore[empty-body]
    """List the components that the plugin supplies.

    Called once for each process, on plugin modules alone, when a recipe, ``list`` or ``describe`` needs the plugin.
    Importing the module and calling this must touch no device, file or network. What is listed is remembered until the
    plugin's files, or the distributions that are installed, change: it must follow from nothing else. Two components of
    one kind and name stay reachable as ``package:name``.
    """


@hookspec
def trainkit_check_recipe(recipe: Mapping[str, Any]) -> list[Problem] | None:
    """Find problems that lie between the settings of a recipe.

    Called once for each recipe, on the modules of plugins that the recipe uses, after each table has passed the check
    of its own component. Nothing is built yet.

    Args:
        recipe: the filled recipe as tables that cannot be changed. ``trainkit.problem_at(recipe, "optimizer.lr",
            message, cure)`` makes a problem that knows the file and line.

    Returns:
        Problems, or ``None``; the problems of all plugins are shown together.
    """


# ---------------------------------------------------------------- building


@hookspec
def trainkit_prepare_model(run: Run, model: nn.Module) -> None:
    """Change the model in place before parameter groups are made, for example to freeze a part.

    Called once for each run, when the model lies on ``run.device`` with its initial weights. Parameters may
    be frozen, modules exchanged inside ``model``; ``run.optimizer`` does not exist yet.
    """


@hookspec(firstresult=True)
def trainkit_parameter_groups(run: Run, model: nn.Module) -> list[dict[str, Any]] | None:
    """Split the parameters into groups with settings of their own.

    Called once for each run, after every ``trainkit_prepare_model``. The first plugin to give a list decides; the
    core's own rule (``[[optimizer.group]]``, no decay for biases and norms) stands behind all plugins. A component
    that implements this owns ``parameter_groups``. Where the recipe has two optimizers, the core divides each group
    between them.

    Returns:
        Dicts with ``names`` (list of parameter names), ``params`` (the parameters, same order), ``lr_scale`` (a factor)
        and any optimizer setting to override; or ``None`` to leave it to others.
    """


# ---------------------------------------------------------------- the run


@hookspec
def trainkit_run_start(run: Run) -> None:
    """Get ready: the run is built and no update is made.

    Called once for each process that trains, after ``run.folder`` exists and before the first epoch. Objects that keep
    references to parameters take them here. Where a run continues, weights, optimizer state and ``run.step`` are those
    of the checkpoint.
    """


@hookspec
def trainkit_restore(run: Run, state: Mapping[str, Any]) -> None:
    """Take back what this plugin returned from ``trainkit_save``.

    Called once, after ``trainkit_run_start`` when a run continues, and before evaluation when finished weights are
    loaded. Weights and optimizer state are already restored.

    Args:
        run: the run.
        state: exactly what this object's ``trainkit_save`` returned; tensors on the CPU.
    """


@hookspec
def trainkit_epoch_start(run: Run) -> None:
    """Begin an epoch.

    Called before the first batch of each epoch; ``run.epoch`` is its number from 0. A run that continues inside an
    epoch calls it once more for that epoch, before ``trainkit_restore``.
    """


@hookspec(firstresult=True)
def trainkit_train_step(run: Run, batches: Sequence[Batch]) -> StepResult | None:
    """Make one optimizer update in a way of one's own.

    Called once for each update, with scheduled values already set. The first plugin to give a result decides; the
    core's step program stands behind all plugins and costs nothing where no plugin implements this. A component that
    implements this owns ``step``; two owners are a problem of the recipe.

    Args:
        run: the run; the model is in training mode and gradients are empty.
        batches: the loader batches of this update, on ``run.device``: one, or several with accumulation. What a batch
            holds may be exchanged (``batch.inputs = ...``) and the update then left to others.

    Returns:
        What was done, or ``None`` to leave it to others. Losses stay tensors: nothing may wait for the device.
    """


@hookspec(firstresult=True)
def trainkit_loss(run: Run, outputs: Tensor, batch: Batch) -> Tensor | None:
    """Compute the training loss of one batch in a way of one's own.

    Called once for each training batch, inside the precision context. The first plugin to give a loss decides;
    ``run.loss(outputs, batch.targets)`` stands behind all plugins. A component that implements this owns ``loss``.

    Args:
        run: the run.
        outputs: what the model gave, ``(batch, ...)``, in the compute precision.
        batch: the batch on ``run.device``.

    Returns:
        A scalar, the mean over the batch; or ``None`` to leave it to others.
    """


@hookspec
def trainkit_gradients(run: Run, gradients: Sequence[Tensor]) -> None:
    """Change the gradients in place, for example to clip them.

    Called once for each update, when the gradients of all accumulated batches are summed, unscaled (float16) and not
    yet used. Nothing may wait for the device. Clipping by value comes before clipping by norm: components declare it
    with ``before`` and ``after``. With the capability ``compiles`` it becomes part of a compiled step; without it a run
    with ``compile = "step"`` goes on eagerly.

    Args:
        run: the run.
        gradients: every gradient there is, in the order of the optimizer's groups; parameters without one are left out.
    """


@hookspec
def trainkit_step_end(run: Run, result: StepResult) -> None:
    """Follow an update.

    Called after each call of the step program; ``run.step`` already counts its updates. That is every single update
    unless the step is compiled with several updates a call; a component that must see each one declares the
    capability ``every_update``.

    Args:
        run: the run.
        result: what was done; reading a loss as a number waits for the device.
    """


@hookspec
def trainkit_figures(run: Run) -> Metrics | None:
    """Give figures of the training for the log line that is being written.

    Called whenever a training line of ``metrics.jsonl`` is due (``run.log_every``), and for what is left when a run is
    stopped; here one may wait for the device. What is gathered between two lines is gathered in other hooks, which must
    not.

    Args:
        run: the run; ``run.step`` counts the updates up to the line.

    Returns:
        Numbers or scalar tensors by name, such as ``{"gradient_norm": 1.7}``, which join the line between its metrics
        and its scheduled values; ``None`` for none. A name that the line has already is an error.
    """


@hookspec(firstresult=True)
def trainkit_evaluate(run: Run, split: str) -> Metrics | None:
    """Measure the model on a split.

    Called whenever an evaluation is due (``run.evaluate_every``), always before saving, once on ``test`` at the end,
    and for ``trainkit evaluate`` and ``trainkit predict`` of a finished run. The core's own evaluation stands behind
    all plugins; wrappers (``hookimpl(wrapper=True)``) may exchange the weights around it. For ``predict`` the core's
    evaluation stands before the plugins' instead, within all wrappers, and keeps the outputs.

    A signal ends it between two batches with an exception, which a plugin that measures by itself lets `cut_short`
    raise. What a wrapper exchanged it puts back in ``finally``; the evaluation is made again when the run goes on, so
    that nothing may be counted before it has ended.

    Args:
        run: the run; no hook may leave ``run.model`` in evaluation mode.
        split: ``val`` or ``test``; ``train`` where a user asks for it.

    Returns:
        Figures by name without the split, such as ``{"loss": 0.31, "accuracy": 0.93}``.
    """


@hookspec
def trainkit_epoch_end(run: Run, metrics: Metrics) -> None:
    """End an epoch, before its checkpoint is saved.

    Called after the last update of each epoch and after an evaluation that is due there; ``run.epoch`` is still the
    number of the epoch that ends.

    Args:
        run: the run.
        metrics: the newest figures with their split, such as ``{"train.loss": 0.2, "val.loss": 0.3}``.
    """


@hookspec(firstresult=True)
def trainkit_stop_reason(run: Run, metrics: Metrics) -> str | None:
    """Say why the run should end now, or return ``None`` to let it go on.

    Called after each evaluation, and after each epoch where there is none, also where the run is about to stop for
    another reason. The first plugin to give a reason ends the run once the checkpoint is saved; the reason is kept in
    ``report.json``.

    Args:
        run: the run.
        metrics: the newest figures with their split, such as ``{"val.loss": 1.93}``.
    """


@hookspec
def trainkit_save(run: Run) -> Mapping[str, Any] | None:
    """Give the state that a continued run needs of this object.

    Called at each save, on a step boundary, after the evaluation that is due there. An object that sees the
    training through other hooks implements this and ``trainkit_restore``, or says ``stateless = True``: a continued run
    refuses otherwise.

    Returns:
        Tensors, numbers, text, lists and dicts with text keys; ``None`` for an object without state. What is given must
        be taken back by ``trainkit_restore``. Tensors must be finite: one that is not ends the run as a weight does; a
        plain number may be infinite.
    """


@hookspec
def trainkit_run_end(run: Run, report: Report) -> None:
    """Close: the run is over and everything is saved.

    Called once, for whatever reason the run ended, when ``report.json`` is written. Files go into ``run.folder``. An
    error raised here is shown and does not change the run's result.

    Args:
        run: the run.
        report: how it ended.
    """


# ---------------------------------------------------------------- above runs


@hookspec
def trainkit_trial_end(trial: int, report: Report) -> None:
    """Follow a search: one of its trials is over.

    Called by the search driver once for each finished, stopped or failed trial, in the order they end.

    Args:
        trial: the trial's number from 0.
        report: how its run ended.
    """


@hookspec
def trainkit_study_end(study: Study) -> None:
    """Follow a search to its end: all trials are over, the winner is measured.

    Called once on the modules of all plugins, as no table of a recipe names who follows a search, before
    ``report.json`` is written; called again where ``trainkit report`` shows the study, also on the way. Files go into
    ``study.folder``. An error raised here is shown and does not change the result.

    Args:
        study: all trials, what is varied, and in ``study.findings`` what was found out about the results; not to be
            changed.
    """


@hookspec
def trainkit_ensemble_end(folder: Path, report: Mapping[str, Any]) -> None:
    """Follow the making of an ensemble to its end: it is frozen, and it is measured.

    Called once on the modules of all plugins, as no table of a recipe names who follows an ensemble, before
    ``report.json`` is written; called again where ``trainkit report`` shows the ensemble. Files go into ``folder``. An
    error raised here is shown and does not change the result.

    Args:
        folder: the ensemble folder.
        report: what ``report.json`` holds; not to be changed.
    """
