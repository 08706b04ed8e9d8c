"""The report of a run that has just ended: written while its model is still there."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from trainkit.report.run_page import RunPage
from trainkit.rundir import PAGE, write_atomically
from trainkit.trial_results import ENDED

if TYPE_CHECKING:
    from trainkit.run import Report, Run


def write_run_page(run: Run, report: Report, split: str = "auto") -> Path:
    """Write ``report.html`` into the folder of a run that has ended: call it in ``trainkit_run_end``, when all is safe.

    The model predicts a split once more, for what a report shows of it, unless the run failed or was interrupted.

    Args:
        run: the run.
        report: how it ended.
        split: the split that is looked at; ``auto``: validation, else test, else training; ``none``: no evaluation.

    Returns:
        The file.
    """
    from trainkit.report.look import look_at
    from trainkit.report.open import split_of
    from trainkit.signals import CutShort

    sizes = run.feed.spec.sizes
    split = split_of(sizes) if split == "auto" else split
    look, why = None, ""
    later = f"trainkit report {shlex.quote(str(run.folder))} --html FILE --split {split_of(sizes)}"
    if split == "none":
        why = f"{later} shows what the model predicts"
    elif report.status not in ENDED:
        how = "failed" if report.status == "failed" else "was interrupted"
        why = f"the run {how}: {later} shows what its last checkpoint predicts"
    elif split not in sizes:
        why = f"the data has no split '{split}'; it has {', '.join(sizes)}"
    else:
        try:
            look = look_at(run, split)
        except CutShort:
            why = f"a signal came: {later} shows what the model predicts"
    higher = {name: metric.higher_is_better for name, metric in run.metrics.items()}
    page = RunPage(run.folder, {**run.own_figures, **higher})
    if run.profile:
        page.profile = {label: {"calls": part.calls, "seconds": part.seconds} for label, part in run.profile.items()}
    page.update()
    file = run.folder / PAGE
    write_atomically(file, page.html(look, why), durable=False)
    return file
