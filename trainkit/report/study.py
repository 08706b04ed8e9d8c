"""The page of a study: what it has come to, what each setting does, what went on when; also while the search runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainkit.arguments import STUDY_ENSEMBLE
from trainkit.errors import MachineError
from trainkit.page import Block, Cell, Facts, Section, Table, Text, render
from trainkit.report.parts import recipe_sections, relative
from trainkit.report.study_figures import StudyFigures
from trainkit.report.study_tables import best_table, trial_blocks
from trainkit.report.trial_pages import write_trial_pages
from trainkit.run_text import clock_text
from trainkit.rundir import PAGE, read_text, write_atomically
from trainkit.search.contour import LEAST
from trainkit.search.edges import BEST, LEAST_BEST
from trainkit.search.folder import WIDER
from trainkit.search.log import NAME
from trainkit.search.naming import point_text, value_text
from trainkit.search.table import rows
from trainkit.search.timeline import Course, course_of
from trainkit.trial import Study

_MOST_ROWS = 200  # of a front


def write_study_page(study: Study) -> Path:
    """Write ``report.html`` into a study folder: one file that opens in a browser without a network.

    Its table of the best trials leads to pages of theirs; those that are missing are written too.

    Args:
        study: with its findings, as ``trainkit_study_end`` is given it; also while the search runs.

    Returns:
        Where it lies.

    Raises:
        MachineError: if what the study's log says is not as a search writes it.
        OSError: if it cannot be written.
    """
    write_trial_pages(study)
    path = study.folder / PAGE
    write_atomically(path, study_page(study, study.folder), durable=False)
    return path


def study_page(study: Study, where: Path, reload: float | None = None) -> str:
    """The page of a study.

    Args:
        study: with its findings.
        where: the folder that it will lie in, for its links.
        reload: seconds after which it loads itself again, while the search runs.

    Raises:
        MachineError: if what the study's log says is not as a search writes it.
    """
    course = course_of(study.folder)
    title = f"Study {study.folder.resolve().name}"
    try:
        return render(title, study_sections(study, course, where), _subtitle(study, course), reload)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise MachineError(f"{study.folder / NAME}: this is not the log of a search ({error!r})") from error


def study_sections(study: Study, course: Course, where: Path) -> list[Section]:
    """What the page of a study is made of.

    Args:
        study: with its findings.
        course: how it went on.
        where: the folder that the page will lie in, for its links.
    """
    figures = StudyFigures(study)
    made = [Section("What came of it", _summary(study, course, where))]
    if len(study.objectives) > 1:
        made += [Section("Pareto front", _front(study, figures, where))] if figures.shown else []
    elif study.records:
        made.append(Section("History", [figures.history(), *_best(study, where)]))
    if figures.shown:
        made += _settings(study, figures)
    if (section := _on_the_way(figures)) is not None:
        made.append(section)
    if (timeline := figures.timeline(course)) is not None:
        made.append(Section("Time", [timeline, Text(_TIMELINE)]))
    if study.records:
        made.append(Section("All trials", trial_blocks(study, where)))
    return [*made, *recipe_sections(study.folder)]


_TIMELINE = (
    "Each bar is a run of a trial from its beginning to its end; below each other are those that were trained at once. "
    "The time between two processes of the study is left out."
)


# ------------------------------------------------------------ what came of it


def _subtitle(study: Study, course: Course) -> str:
    goals = ", ".join(f"{o.figure} ({'lower' if o.mode == 'min' else 'higher'} is better)" for o in study.objectives)
    state = f"finished: {course.over}" if course.over else "not over yet"
    return f"{study.searcher}, {goals}; {state}"


def _summary(study: Study, course: Course, where: Path) -> list[Block]:
    counts = Counter(record.trial.status for record in study.records)
    trials = ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "none yet"
    facts: list[tuple[str, Cell]] = [
        ("folder", str(study.folder)),
        ("searcher", f"{study.searcher} over {len(study.space)} setting{'s' * (len(study.space) != 1)}"),
        ("trials", f"{trials}; {study.trials} planned" + (f"; {study.parts} runs each" if study.parts > 1 else "")),
        ("trained", f"{sum(record.epochs for record in study.records):.6g} epochs in {clock_text(course.seconds)}"),
    ]
    best = study.best()
    blocks: list[Block] = []
    if best is None:
        blocks.append(Text("No trial is done, so that there is no winner.", "bad"))
    elif len(study.objectives) == 1:
        spread = f" ± {best.spread[0]:.2g} over {study.parts} runs" if best.spread else ""
        facts.append((f"best {study.objectives[0].figure}", f"{best.figures[0]:.6g}{spread}"))
        facts.append(("best trial", f"{best.trial.number}: {point_text(best.trial.point)}"))
        if study.winner.get("trial", best.trial.number) == best.trial.number:
            for name, value in (study.winner.get("test") or {}).items():
                facts.append((f"test.{name}", f"{value:.6g} ({study.winner.get('test_of', 'its own run')})"))
    said = study.findings.get("findings", [])
    blocks.append(Facts(facts))
    elsewhere = {"edge", "importance"} if study.findings.get("importances") else {"edge"}
    blocks += [Text(_sentence(one["text"]), "note") for one in said if one["about"] not in elsewhere]
    return [*blocks, *_links(study, where)]


def _sentence(text: Any) -> str:
    """A finding with a capital, as it does not follow a dash here."""
    found = str(text)
    return found if "." in found.split(" ", 1)[0] else found[:1].upper() + found[1:]  # not the name of a setting


def _links(study: Study, where: Path) -> list[Block]:
    """Where else to look."""
    own = "the ensemble of its trials"
    places = {
        own: study.folder / STUDY_ENSEMBLE / PAGE,
        "the winner as a recipe": study.folder / "best.toml",
        "the same search over wider ranges": study.folder / WIDER,
    }
    # The ensemble of its trials is made after this page.
    there = {says: path for says, path in places.items() if path.is_file() or (says == own and _has_ensemble(study))}
    if not there:
        return []
    links = [relative(path, where) for path in there.values()]
    names = [str(path.relative_to(study.folder)) for path in there.values()]
    return [Table(["file", "what it is"], list(zip(names, there, strict=True)), "Files", links)]


def _has_ensemble(study: Study) -> bool:
    """Whether the recipe makes one of the trials."""
    try:
        return "[ensemble]" in map(str.strip, read_text(study.folder / "recipe.toml").splitlines())
    except (OSError, ValueError):
        return False


def _best(study: Study, where: Path) -> list[Block]:
    made = rows(study)[:10]
    return [best_table(study, made, "Best trials", where)] if made else []


def _front(study: Study, figures: StudyFigures, where: Path) -> list[Block]:
    front = [row for row in rows(study) if row.verdict == "front"]
    return [
        figures.front(),
        best_table(study, front[:_MOST_ROWS], "Trials that no other one beats in all objectives", where),
    ]


# ------------------------------------------------------------ settings


def _settings(study: Study, figures: StudyFigures) -> list[Section]:
    made = []
    if (bars := figures.importance()) is not None:
        said = [one["text"] for one in study.findings.get("findings", []) if one["about"] == "importance"]
        doubts = [Text(_sentence(text), "note") for text in said]
        made.append(Section("Importance", [bars, Text(_IMPORTANCE), *doubts]))
    blocks: list[Block] = list(figures.slices())
    if left := len(study.space) - len(figures.settings):
        blocks.append(Text(f"{left} less important settings are not drawn."))
    if len(figures.few) < len(figures.shown):
        blocks.append(Text(f"{len(figures.few)} of {len(figures.shown)} trials are drawn, the best among them."))
    if blocks:
        made.append(Section("Each setting", blocks))
    together: list[Block] = []
    if (lines := figures.parallel()) is not None:
        together.append(lines)
    if (map_ := figures.contour()) is not None:
        together += [map_, Text(_CONTOUR)]
    elif len(study.objectives) == 1 and len(study.space) > 1:
        together.append(Text(f"For a surface over two settings there must be {LEAST} finished trials that have both."))
    if together:
        made.append(Section("Settings together", together))
    if len(study.objectives) == 1:
        made.append(Section("Ends of ranges", _edges(study)))
    return made


_IMPORTANCE = (
    "PED-ANOVA: how far the values of a setting among the best tenth of the trials differ from those among all. Lines: "
    "what 80 % of bootstrap samples of the trials give."
)
_CONTOUR = (
    "A smooth surface fitted to the trials (a Gaussian process), whatever their other settings are. Where no trial is "
    "near it is left empty. Dots: trials."
)


def _edges(study: Study) -> list[Block]:
    """Ranges whose ends the best trials crowd, and what to try instead."""
    found: Sequence[Mapping[str, Any]] = study.findings.get("edges", [])
    said = [_sentence(one["text"]) for one in study.findings.get("findings", []) if one["about"] == "edge"]
    if not said:
        done = sum(record.trial.status == "done" for record in study.records)
        if math.ceil(BEST * done) < LEAST_BEST:
            few = f"{done} finished trial{'s' * (done != 1)} are too few to tell whether a range ends too early."
            return [Text(few)]
        return [Text("The best trials crowd no end of a range.", "good")]
    blocks: list[Block] = [Text(text, "bad") for text in said]
    cells = [[str(one["setting"]), str(one["end"]), _end(one["bound"]), _end(one["proposed"])] for one in found]
    blocks.append(Table(["setting", "end", "as it is", "to try"], cells))
    if (study.folder / WIDER).is_file():
        blocks.append(Text(f"Search over the wider ranges: trainkit run {study.folder / WIDER}", "note"))
    return blocks


def _end(value: Any) -> Cell:
    return value if isinstance(value, int | float | str) else value_text(value)


def _on_the_way(figures: StudyFigures) -> Section | None:
    curves, having = figures.on_the_way()
    if curves is None:
        return None
    blocks: list[Block] = [curves]
    if having > len(curves.lines):
        blocks.append(Text(f"The best {len(curves.lines)} of {having} trials are drawn."))
    return Section("On the way", blocks)
