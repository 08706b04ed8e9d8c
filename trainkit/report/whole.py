"""The pages of studies and ensembles for the command line: also of one that goes on, made anew as it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from trainkit.arguments import holds_ensemble
from trainkit.ensemble.table import read_report
from trainkit.errors import MachineError
from trainkit.page import Block, Cell, Section, Table, Text, render
from trainkit.report.ensemble import ensemble_page
from trainkit.report.parts import recipe_sections
from trainkit.report.study import study_page
from trainkit.report.trial_pages import write_trial_pages
from trainkit.results import read_object
from trainkit.rundir import PAGE, check_links, write_atomically
from trainkit.search.closing import find_out
from trainkit.search.findings import findings
from trainkit.search.importance import Importance, importances
from trainkit.search.log import NAME
from trainkit.search.table import opened
from trainkit.trial import Study

if TYPE_CHECKING:
    from trainkit.manager import Plugins

LEAST_WEIGHED = 8  # finished trials from which on importances are looked at while a search goes on
Watch = Callable[[Path, Path, Callable[[], bool], Callable[[float | None], str]], str]


class Whole(Protocol):
    """Makes the page of a folder, over and over while it goes on."""

    def update(self) -> bool:
        """Whether there is anything new since the last time."""
        ...

    def html(self, reload: float | None = None) -> str:
        """The page as it is now."""
        ...

    def finish(self) -> None:
        """It goes on no more, or is shown once: what takes longer is worth its time.

        Raises:
            UsageError: if there is nothing to show yet.
        """
        ...


def write_page(
    folder: Path, plugins: Plugins, html: str | None, watch: Watch | None, say: Callable[[str], None]
) -> Path:
    """Write the page of a study or an ensemble.

    Args:
        folder: the folder.
        plugins: the plugins of this process.
        html: the page; ``report.html`` in the folder if not given.
        watch: follows it until it has ended, as `trainkit.report.watch.watch` does; not at all if not given.
        say: tells the user what goes on.

    Returns:
        Where the page lies.

    Raises:
        UsageError: if there is nothing to show yet.
        MachineError: if the page cannot be written, or a name in the folder leads out of it.
    """
    check_links(folder)
    target = Path(html) if html is not None else folder / PAGE
    page: Whole
    page = EnsemblePage(folder, target.parent) if holds_ensemble(folder) else StudyPage(folder, plugins, target.parent)
    try:
        if watch is not None:
            say(f"{target}: made anew while it goes on; Ctrl-C ends this, not what it shows")
            if watch(folder, target, page.update, page.html) == "killed":
                say(f"{folder}: its process is gone, and has left no report; go on with trainkit resume {folder}")
        page.finish()
        write_atomically(target, page.html(), durable=False)
    except OSError as error:
        raise MachineError(f"--html {target}: cannot be written: {error.strerror or error}") from error
    return target


class StudyPage:
    """Makes the page of a study.

    Args:
        folder: the study folder.
        plugins: the plugins of this process.
        where: the folder that the page will lie in.
    """

    def __init__(self, folder: Path, plugins: Plugins, where: Path) -> None:
        self._folder = folder
        self._plugins = plugins
        self._where = where
        self._seen = -1
        self._find: Callable[[Study], Any] = self._look
        self._begun = False
        self._weighed = 0  # finished trials of which importances are known
        self._importances: Sequence[Importance] = ()

    def update(self) -> bool:
        """Whether its log has grown."""
        try:
            size = (self._folder / NAME).stat().st_size
        except OSError:
            return False
        self._seen, before = size, self._seen
        return size != before

    def html(self, reload: float | None = None) -> str:
        """The page as it is now."""
        ledger, *_ = opened(self._folder, self._find)
        return study_page(ledger.study, self._where, reload)

    def finish(self) -> None:
        """Find out what only its data can tell, and write the pages of its best trials."""
        self._find = partial(find_out, plugins=self._plugins)
        write_trial_pages(opened(self._folder, self._find)[0].study)

    def _look(self, study: Study) -> None:
        """Findings without the data that its trials are measured by."""
        study.findings = findings(study, weigh=self._weigh).as_dict()

    def _weigh(self, study: Study) -> Sequence[Importance]:
        """Importances, anew when there are twice as many trials: all else of a page takes far less time.

        Not for the first page, which should not wait for Optuna.
        """
        done = sum(record.trial.status == "done" for record in study.records)
        if self._begun and done >= max(LEAST_WEIGHED, 2 * self._weighed):
            self._weighed, self._importances = done, importances(study)
        self._begun = True
        return self._importances


class EnsemblePage:
    """Makes the page of an ensemble; until it is finished, one of the members that there are.

    Args:
        folder: the ensemble folder.
        where: the folder that the page will lie in.
    """

    def __init__(self, folder: Path, where: Path) -> None:
        self._folder = folder
        self._where = where
        self._seen: list[tuple[str, str]] = []

    def update(self) -> bool:
        """Whether another member is ready, or begun."""
        self._seen, before = self._members(), self._seen
        return self._seen != before

    def html(self, reload: float | None = None) -> str:
        """The page as it is now."""
        if (self._folder / "report.json").is_file():
            return ensemble_page(self._folder, read_report(self._folder), self._where)
        rows: list[list[Cell]] = [list(member) for member in self._members()]
        said = "It is being made. Its figures stand here when all members are ready."
        blocks: list[Block] = [Text(said, "note"), Table(["member", "it is"], rows)]
        sections = [Section("Members so far", blocks), *recipe_sections(self._folder)]
        return render(f"Ensemble {self._folder.resolve().name}", sections, "not finished yet", reload)

    def finish(self) -> None:
        """Refuse one that is not finished."""
        read_report(self._folder)

    def _members(self) -> list[tuple[str, str]]:
        """The run folders of members that were begun, and how each stands."""
        found = []
        for member in sorted((self._folder / "members").glob("*/")):
            status = read_object(member / "report.json", []).get("status", "being trained")
            found.append((member.name, str(status)))
        return found
