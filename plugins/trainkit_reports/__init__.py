"""Reports: pictures of a run, a search or an ensemble, made when it is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from trainkit import Component, hookimpl

if TYPE_CHECKING:
    from pathlib import Path

    from trainkit import Study
    from trainkit_reports.drawing import Curves
    from trainkit_reports.page import Page


def curves() -> Curves:
    """Draw ``curves.png`` at the end: loss and metrics of training and validation, the learning rate below."""
    from trainkit_reports.drawing import Curves

    return Curves()


def report(*, split: Literal["auto", "train", "val", "test", "none"] = "auto") -> Page:
    """Write ``report.html`` at the end, the page that ``trainkit report --html`` writes: curves, predictions, mistakes.

    Args:
        split: whose predictions are shown, which takes one more evaluation; "auto": validation, else test, else
            training samples; "none" takes none.
    """
    from trainkit_reports.page import Page

    return Page(split)


@hookimpl
def trainkit_components() -> list[Component]:
    return [
        Component("logger", curves, libraries={"matplotlib": "pip install 'trainkit[standard]'"}),
        Component("logger", report, example={"split": "val"}),
    ]


@hookimpl
def trainkit_study_end(study: Study) -> None:
    """Write ``report.html``, and draw ``history.png`` and other pictures where matplotlib is installed."""
    from importlib.util import find_spec

    from trainkit import write_study_page

    write_study_page(study)
    if find_spec("matplotlib") is not None:
        from trainkit_reports.studies import draw_study

        draw_study(study)


@hookimpl
def trainkit_ensemble_end(folder: Path, report: Mapping[str, Any]) -> None:
    """Write ``report.html``, and draw ``curve.png`` and other pictures where matplotlib is installed."""
    from importlib.util import find_spec

    from trainkit import write_ensemble_page

    write_ensemble_page(folder, report)
    if find_spec("matplotlib") is not None:
        from trainkit_reports.ensembles import draw_ensemble

        draw_ensemble(folder, report)
