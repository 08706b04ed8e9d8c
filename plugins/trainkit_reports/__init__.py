"""Reports: pictures of a run, made when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainkit import Component, hookimpl

if TYPE_CHECKING:
    from trainkit_reports.drawing import Curves


def curves() -> Curves:
    """Draw ``curves.png`` at the end: loss and metrics of training and validation, the learning rate below."""
    from trainkit_reports.drawing import Curves

    return Curves()


@hookimpl
def trainkit_components() -> list[Component]:
    return [Component("logger", curves, libraries={"matplotlib": "pip install 'trainkit[standard]'"})]
