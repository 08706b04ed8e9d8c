"""Reports: pictures of a run or a search, made when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainkit import Component, hookimpl

if TYPE_CHECKING:
    from trainkit import Study
    from trainkit_reports.drawing import Curves


def curves() -> Curves:
    """Draw ``curves.png`` at the end: loss and metrics of training and validation, the learning rate below."""
    from trainkit_reports.drawing import Curves

    return Curves()


@hookimpl
def trainkit_components() -> list[Component]:
    return [Component("logger", curves, libraries={"matplotlib": "pip install 'trainkit[standard]'"})]


@hookimpl
def trainkit_study_end(study: Study) -> None:
    """Draw ``history.png``, ``slices.png`` and ``parallel.png``, or ``front.png``, where matplotlib is installed."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is not None:
        from trainkit_reports.studies import draw_study

        draw_study(study)
