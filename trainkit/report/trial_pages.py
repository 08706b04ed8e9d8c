"""The pages of single trials, which the page of their study links."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from trainkit.errors import MachineError, TrainkitError
from trainkit.report.parts import relative
from trainkit.report.run_page import RunPage
from trainkit.rundir import PAGE, check_links, write_atomically
from trainkit.search.folder import TRIALS, trial_folder
from trainkit.trial import Study

MOST_PAGES = 10  # of the best trials, that are made with the study's own


def write_trial_pages(study: Study, most: int = MOST_PAGES) -> None:
    """Write the pages of the best trials, of those that have none: curves, schedules, times, recipe.

    What a model predicts is not on them, for which its data and weights would have to be read; a trial's page that the
    user asks for has it. A page that cannot be made is left out: it is no part of the study's result.
    """
    higher = {o.figure.removeprefix("val."): o.mode == "max" for o in study.objectives}
    front = study.front() if len(study.objectives) > 1 else study.ranked()
    try:
        check_links(study.folder / TRIALS)  # no folder elsewhere, to which a link leads, gets a page
    except MachineError:
        return
    for record in front[:most]:
        for part in range(study.parts):
            folder = trial_folder(study.folder, record.trial.number, part, study.parts)
            if not (folder / "report.json").is_file() or (folder / PAGE).exists():
                continue
            with contextlib.suppress(TrainkitError, OSError, ValueError):
                page = RunPage(folder, higher)
                page.update()
                said = f"trainkit report {folder} --html {folder / PAGE} shows what it predicts, and its mistakes"
                write_atomically(folder / PAGE, page.html(why_not=said), durable=False)


def trial_links(study: Study, numbers: Sequence[int], where: Path) -> list[str]:
    """Where the pages of trials lie, as another page leads there; nothing for those that have none.

    Args:
        study: the study.
        numbers: of the trials.
        where: the folder of the page that leads there.
    """
    made = []
    for number in numbers:
        page = trial_folder(study.folder, number, 0, study.parts) / PAGE
        made.append(relative(page, where) if page.is_file() else "")
    return made
