"""The training loop: epochs, calls of the step program, and what is due between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from trainkit.hooking import wrong_answer
from trainkit.protocols import StepProgram
from trainkit.recipe import Recipe
from trainkit.recorder import Recorder
from trainkit.run import Batch, Run
from trainkit.signals import CutShort
from trainkit.steps import implemented


@dataclass(slots=True)
class Underway:
    """A run between two points at which something is due: what its updates are made with.

    Args:
        run: the run.
        program: makes the updates.
        recorder: knows what is due when.
        updates: those of the epoch that are left, grouped into calls; ``None`` where they begin anew.
        per_call: updates in each call but the last.
        recipe: the run's recipe, where it is trained together with others.
    """

    run: Run
    program: StepProgram
    recorder: Recorder
    updates: Iterator[list[list[Batch]]] | None = None
    per_call: int = 1
    recipe: Recipe | None = None


def train(run: Run, program: StepProgram, recorder: Recorder, wake: Callable[[], None] | None = None) -> None:
    """Train until the planned updates are made or ``run.stop_reason`` is set.

    Args:
        run: the run, from wherever it stands.
        program: makes the updates.
        recorder: logs, evaluates, saves, and knows what is due when.
        wake: gives plugins their state back, and random generators theirs, where the run is a continued one.

    Raises:
        RunError: if the run failed; the last checkpoint is whole.
    """
    for stretch in course(run, program, recorder, wake):
        make_updates(stretch)


def course(
    run: Run, program: StepProgram, recorder: Recorder, wake: Callable[[], None] | None = None
) -> Iterator[Underway]:
    """All that a run does but its updates: it pauses wherever they are to be made, until something is due.

    Whatever is due at an update happens in this order: log, evaluate, end of the epoch, stop reasons, save.
    Who makes the updates may be `make_updates`, or somebody who makes those of many runs at once.
    """
    hook, stretch = run.hook, Underway(run, program, recorder)
    hook.trainkit_run_start(run=run)
    within = run.batch_in_epoch > 0
    if within:  # before `wake`, which undoes what this changes a second time in the same epoch
        hook.trainkit_epoch_start(run=run)
    if wake is not None:
        wake()
    if recorder.cut is not None:  # a signal had cut the evaluation at this update short
        within = not do_what_is_due(run, recorder)
    if recorder.agreement is not None:  # one of them may have been told to stop meanwhile
        recorder.agreement.settle()
    while run.position < run.total_updates and run.stop_reason is None:
        if not within:
            hook.trainkit_epoch_start(run=run)
        within, stretch.updates = False, None
        while True:
            yield stretch
            ended = do_what_is_due(run, recorder)
            if ended or run.stop_reason is not None or run.position >= run.total_updates:
                break
    if run.stop_reason is not None:
        recorder.save()  # a signal may have come after the last save; nothing happens where it did not
    recorder.finish()
    if run.interrupted and run.position >= run.total_updates and recorder.cut is None:
        run.stop_reason, run.interrupted = None, False  # nothing is left that the signal could have interrupted


def make_updates(stretch: Underway) -> None:
    """Make updates until something is due."""
    run, program, recorder = stretch.run, stretch.program, stretch.recorder
    step_end, agreement = implemented(run, "trainkit_step_end"), recorder.agreement
    while True:
        if stretch.updates is None:
            stretch.per_call = program.updates_per_call
            stretch.updates = calls(run, stretch.per_call, recorder)
        per_call = stretch.per_call
        for updates in stretch.updates:
            result = program(updates)
            run.step += result.updates
            run.skipped += result.skipped
            run.batch_in_epoch += sum(map(len, updates))
            recorder.tally.add(result)
            if step_end is not None:
                step_end(run=run, result=result)
            if agreement is not None:
                due = run.position >= recorder.next_due
                if agreement.stops(due) or due or recorder.saver.failed:
                    return
                continue
            if run.position < recorder.next_due and run.stop_reason is None and not recorder.saver.failed:
                if program.updates_per_call == per_call:
                    continue
                break  # a program that was compiled meanwhile takes more updates a call
            return
        stretch.updates = None


def do_what_is_due(run: Run, recorder: Recorder) -> bool:
    """Log, evaluate, end the epoch, ask for reasons to stop, and save, as far as each is due at this update.

    Where a signal cuts the evaluation short, a checkpoint is saved that knows what is still due here.

    Returns:
        Whether an epoch has ended.
    """
    hook = run.hook
    try:
        evaluated = recorder.log_and_evaluate()
    except CutShort:
        recorder.save_and_leave()
        return False
    ended = run.batch_in_epoch >= run.feed.batches_in(run.epoch)
    if ended:
        hook.trainkit_epoch_end(run=run, metrics=recorder.newest)
    # Asked even where the run stops anyway: who counts evaluations must see them all. What the recipe asks for counts
    # before a signal, after which the run would be continued.
    reason = hook.trainkit_stop_reason(run=run, metrics=recorder.newest) if evaluated or ended else None
    if reason is not None:
        if not isinstance(reason, str):
            raise wrong_answer(hook.trainkit_stop_reason, repr(reason)[:80], "the reason in words, or None")
        run.stop_reason, run.interrupted = reason, False
    if recorder.agreement is not None:  # whoever looks at the clock, or is told to stop from outside, is one of them
        recorder.agreement.settle()
    if ended:
        run.epoch, run.batch_in_epoch = run.epoch + 1, 0
    recorder.save_if_due()
    return ended


def calls(run: Run, updates_per_call: int, recorder: Recorder) -> Iterator[list[list[Batch]]]:
    """Group the epoch's batches into updates, and updates into calls that end where something is due."""
    batches = run.feed.train(run.epoch, run.batch_in_epoch)
    accumulate = run.clock.accumulate
    if updates_per_call == accumulate == 1:
        yield from ([[batch]] for batch in batches)
        return
    while True:
        count = min(updates_per_call, recorder.next_due - run.position)
        updates = [update for _ in range(count) if (update := list(islice(batches, accumulate)))]
        if not updates:
            return
        yield updates
