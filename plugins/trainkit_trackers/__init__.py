"""Trackers: loggers that hand what a run writes to ``metrics.jsonl`` on to the programs in which people look at runs.

All follow one pattern, `following.Tracker`. Listing them imports neither torch nor any tracker's library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainkit import Component, hookimpl

if TYPE_CHECKING:
    from trainkit_trackers.events import Events
    from trainkit_trackers.of_mlflow import OfMlflow
    from trainkit_trackers.of_wandb import OfWandb
    from trainkit_trackers.table import Table


def csv() -> Table:
    """Write ``metrics.csv`` as the run goes on: the lines of ``metrics.jsonl`` as a table for spreadsheets.

    A column that is there keeps its place and name; a figure that comes later has a column behind the others.
    """
    from trainkit_trackers.table import Table

    return Table()


def tensorboard() -> Events:
    """Write event files for TensorBoard into ``tensorboard/`` of the run folder: curves, recipe, hyperparameters.

    ``tensorboard --logdir runs`` shows all runs in ``runs``; with a study's folder it shows the trials of the study.
    """
    from trainkit_trackers.events import Events

    return Events()


def mlflow(*, experiment: str = "") -> OfMlflow:
    """Log to MLflow: to MLFLOW_TRACKING_URI, else to ``mlruns`` in the folder of the run, or of its study.

    What a server takes time for, or does not answer, never holds up the run: a thread sends, and is given a few seconds
    when the run is over.

    Args:
        experiment: which experiment the run belongs to; by default the name of the study folder, or ``trainkit``.
    """
    from trainkit_trackers.of_mlflow import OfMlflow

    return OfMlflow(experiment)


def wandb(*, project: str = "trainkit") -> OfWandb:
    """Record an offline run of Weights & Biases in ``wandb/`` of the run folder.

    Nothing is sent: ``wandb sync`` uploads what was recorded, when and where one wants. The runs of a study are
    one group.

    Args:
        project: which project the run belongs to.
    """
    from trainkit_trackers.of_wandb import OfWandb

    return OfWandb(project)


@hookimpl
def trainkit_components() -> list[Component]:
    return [
        Component("logger", csv),
        Component("logger", tensorboard, libraries={"tensorboard": "pip install 'trainkit[tensorboard]'"}),
        Component(
            "logger",
            mlflow,
            example={"experiment": "digits"},
            libraries={"mlflow": "pip install 'trainkit[mlflow]'"},
        ),
        Component("logger", wandb, example={"project": "digits"}, libraries={"wandb": "pip install 'trainkit[wandb]'"}),
    ]
