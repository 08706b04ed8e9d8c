"""One recipe to one finished run folder; and finished runs back to figures and predictions."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from trainkit import checkpoint, rundir, snapshot
from trainkit.build import Built, build
from trainkit.errors import CheckpointError, Exit, MachineError, RunError, TrainkitError, UsageError
from trainkit.evaluate import outputs_of
from trainkit.loop import train
from trainkit.manager import Plugins
from trainkit.protocols import Progress
from trainkit.recipe import Recipe, fill_toml, load_recipe
from trainkit.recorder import Recorder
from trainkit.run import Metrics, Report, Run


class StoppedEarly(TrainkitError):
    """A signal came before the run had started; nothing was written."""

    exit_code = Exit.STOPPED


def silent(done: int, total: int, text: str) -> None:
    """A progress that shows nothing."""


class Signals:
    """Turns the first SIGINT or SIGTERM into a wish to stop, and the second into the end of the process."""

    def __init__(self) -> None:
        self.name = ""
        self.run: Run | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        # Only the main thread may set handlers; elsewhere the embedding program owns the signals.
        with contextlib.suppress(ValueError):
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.name:
            os._exit(128 + number)
        self.name = signal.Signals(number).name
        self.wish()

    def wish(self) -> None:
        """Tell the run, if there is one yet, to stop at the next step boundary."""
        if self.name and self.run is not None:
            self.run.stop_reason, self.run.interrupted = f"signal {self.name}", True


def launch(
    recipe: Recipe,
    plugins: Plugins,
    *,
    folder: Path | None = None,
    listeners: Sequence[object] = (),
    progress: Progress = silent,
    command: str = "",
    smoke: bool = False,
    profile: bool = False,
) -> Report:
    """Run a recipe from an empty folder to its report.

    Args:
        recipe: the checked recipe.
        plugins: the plugins of this process.
        folder: the run folder; a new one under `rundir.runs_root` if not given.
        listeners: objects whose hooks join the run, such as a display.
        progress: told about long work before the first update.
        command: what the user typed, kept in ``environment.json``.
        smoke: two updates, one evaluation, one save and load in a temporary folder.
        profile: measure where the time goes, into ``run.profile``.

    Returns:
        How the run ended: finished, stopped by the recipe, or interrupted by a signal.

    Raises:
        TrainkitError: whatever kept the run from starting or made it fail; its exit code says which.
    """
    if smoke:
        return _smoke(recipe, plugins, listeners, progress)
    path = folder or rundir.runs_root() / rundir.new_folder_name(recipe.path)
    with Signals() as signals, rundir.RunFolder(path) as place:
        started = False
        try:
            built = build(recipe, plugins, path, progress, listeners, _said_to(place))
            if signals.name:
                raise StoppedEarly(f"stopped by {signals.name} before the first update; nothing was written")
            run = built.run
            signals.run = run
            signals.wish()
            place.describe(fill_toml(recipe), _environment(recipe, run, command))
            started = True
            return _run(built, place, plugins, profile)
        finally:
            if not started:
                place.discard()


def _said_to(place: rundir.RunFolder) -> Callable[[str], None]:
    def say(text: str) -> None:
        place.log(text)
        print(f"note: {text}", file=sys.stderr)

    return say


def _environment(recipe: Recipe, run: Run, command: str) -> dict[str, Any]:
    distributions = {plugin.distribution: plugin.version for plugin in recipe.plugins_in_use()}
    return rundir.environment(run.seed, str(run.device), command, distributions)


def _run(built: Built, place: rundir.RunFolder, plugins: Plugins, profile: bool) -> Report:
    run = built.run
    recorder = Recorder(run, place)
    if profile:
        from trainkit.profile import measured

        built = measured(built, recorder)
    place.log(f"start: {run.total_updates} updates on {run.device}, {run.precision.name}")
    try:
        try:
            train(run, built.program, recorder)
            if not run.interrupted and "test" in run.feed.spec.sizes:
                recorder.evaluate("test")
        except Exception as error:
            raise _named(error, plugins, run) from error
    except TrainkitError as error:
        with contextlib.suppress(OSError):  # a full disk has no room for these either
            place.log(f"failed: {error}")
            place.report(_report(recorder, "failed", str(error)).as_dict())
        raise
    status = "interrupted" if run.interrupted else "stopped" if run.stop_reason else "finished"
    report = _report(recorder, status, run.stop_reason or "all planned updates made")
    place.report(report.as_dict())
    place.log(f"{report.status}: {report.reason}")
    checkpoint.tidy(place.path / "checkpoints")
    _close(run, report, place, plugins)
    return report


def _report(recorder: Recorder, status: Any, reason: str) -> Report:
    run = recorder.run
    return Report(
        status=status,
        reason=reason,
        steps=run.step,
        epochs=round(run.position / run.clock.updates_per_epoch, 6),
        seconds=round(recorder.seconds, 3),
        metrics={name: value for name, value in recorder.newest.items() if rundir.plain_number(value) is not None},
        best=recorder.best,
        weights_sha256=checkpoint.weights_sha256(run.model),
    )


def _close(run: Run, report: Report, place: rundir.RunFolder, plugins: Plugins) -> None:
    """Let listeners close; what fails here is said and does not change the result."""
    try:
        run.hook.trainkit_run_end(run=run, report=report)
    except Exception as error:
        blamed = plugins.blame(error) or error
        place.log(f"after the run: {blamed}")
        print(f"warning: the run is complete, but {blamed}", file=sys.stderr)


def _named(error: Exception, plugins: Plugins, run: Run) -> TrainkitError:
    """Turn whatever was raised while training into a message that says what to do."""
    if isinstance(error, TrainkitError):
        return error
    at = f"at update {run.step} (epoch {run.epoch})"
    text = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
    memory = "out of memory" in text.lower() or "not enough memory" in text.lower() or "can't allocate memory" in text
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or memory:
        return RunError(
            f"out of memory {at}: {text}\n"
            "  lower data.batch_size and raise run.accumulate by the same factor: the updates stay the same"
        )
    if isinstance(error, OSError):
        return MachineError(f"{error.filename or run.folder}: {error.strerror or error} {at}")
    return plugins.blame(error, f"training {at}") or RunError(f"{type(error).__name__} {at}: {text}")


def _smoke(recipe: Recipe, plugins: Plugins, listeners: Sequence[object], progress: Progress) -> Report:
    """Two updates, one evaluation, one save and load: whether the recipe works at all, in seconds."""
    recipe.tables["run"] = {**recipe.tables["run"], "compile": False}
    with tempfile.TemporaryDirectory(prefix="trainkit-smoke-") as name, rundir.RunFolder(Path(name) / "run") as place:
        built = build(recipe, plugins, place.path, progress, listeners)
        run = built.run
        run.feed = _Short(run.feed)
        recorder = Recorder(run, place)
        recorder.next_due = min(2, run.total_updates)
        try:
            _two_updates(run, built, recorder)
            recorder.tally.figures()
            split = next((s for s in ("val", "test") if s in run.feed.spec.sizes), "train")
            recorder.evaluate(split)
            recorder.save()
            before = checkpoint.weights_sha256(run.model)
            _, tensors, state = checkpoint.load_newest(place.path / "checkpoints")
            with torch.no_grad():
                for parameter in run.model.parameters():
                    parameter.zero_()
            snapshot.restore_weights(run, tensors, state)
        except Exception as error:
            raise _named(error, plugins, run) from error
        if checkpoint.weights_sha256(run.model) != before:
            raise CheckpointError("the weights came back changed from the checkpoint; please report this")
        return _report(recorder, "finished", "smoke: two updates, one evaluation, one save and load")


def _two_updates(run: Run, built: Built, recorder: Recorder) -> None:
    from trainkit.loop import calls

    run.hook.trainkit_run_start(run=run)
    run.hook.trainkit_epoch_start(run=run)
    for updates in calls(run, built.program.updates_per_call, recorder):
        result = built.program(updates)
        run.step += result.updates
        run.skipped += result.skipped
        recorder.tally.add(result)
        run.hook.trainkit_step_end(run=run, result=result)
        if run.position >= recorder.next_due:
            return


class _Short:
    """A feed whose evaluation ends after two batches."""

    def __init__(self, feed: Any) -> None:
        self._feed = feed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._feed, name)

    def evaluate(self, split: str) -> Iterator[Any]:
        for number, batch in enumerate(self._feed.evaluate(split)):
            if number == 2:
                return
            yield batch


# ---------------------------------------------------------------- finished runs


def open_run(path: Path, plugins: Plugins, progress: Progress = silent) -> Run:
    """Build a finished run's recipe again and put its newest good checkpoint into it.

    Args:
        path: the run folder, or one checkpoint of it.

    Raises:
        UsageError: if it is no run folder.
        CheckpointError: if no checkpoint can be used, or the weights do not fit.
    """
    folder = path.parent.parent if path.parent.name == "checkpoints" else path
    recipe_file = folder / "recipe.toml"
    if not recipe_file.is_file():
        raise UsageError(f"{path}: not a run folder (there is no {recipe_file}); name a folder that 'run' made")
    if folder != path:
        tensors, state = checkpoint.load(path)
    else:
        _, tensors, state = checkpoint.load_newest(folder / "checkpoints")
    recipe = load_recipe(recipe_file, [], plugins)
    run = build(recipe, plugins, folder, progress).run
    if state.get("data") != run.feed.spec.fingerprint:
        print("warning: the data is not the data this run was trained on (their SHA-256 differ)", file=sys.stderr)
    snapshot.restore_weights(run, tensors, state)
    return run


def evaluate_run(path: Path, split: str, plugins: Plugins, progress: Progress = silent) -> Metrics:
    """Measure a finished run on a split.

    Raises:
        UsageError: if the data has no such split.
        CheckpointError: if no checkpoint can be used.
    """
    run = open_run(path, plugins, progress)
    _require_split(run, split)
    figures: Metrics = run.hook.trainkit_evaluate(run=run, split=split)
    return figures


def predict_run(path: Path, split: str, plugins: Plugins, progress: Progress = silent) -> Mapping[str, Tensor]:
    """Model outputs of a finished run on a split, in the split's order.

    Returns:
        ``outputs`` ``(samples, outputs)`` float32, ``targets``, ``index``; for classification also ``probabilities``
        and ``predicted``.
    """
    run = open_run(path, plugins, progress)
    _require_split(run, split)
    parts = [
        (batch.index.cpu(), batch.targets.cpu(), out.float().cpu())
        for batch, out in outputs_of(run, run.feed.evaluate(split))
    ]
    index, targets, outputs = (torch.cat(part) for part in zip(*parts, strict=True))
    result = {"index": index, "targets": targets, "outputs": outputs}
    if run.feed.spec.task == "classification":
        result["probabilities"] = outputs.softmax(dim=-1)
        result["predicted"] = outputs.argmax(dim=-1)
    elif run.feed.spec.task == "binary":
        result["probabilities"] = outputs.sigmoid()
        result["predicted"] = (outputs > 0).long()
    return result


def _require_split(run: Run, split: str) -> None:
    if split not in run.feed.spec.sizes:
        raise UsageError(f"--split {split}: the data has no such split; it has {', '.join(run.feed.spec.sizes)}")
