"""Runs in MLflow."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from trainkit import Report, Run
from trainkit_trackers.following import Line, Tracker, figures_of, settings_of
from trainkit_trackers.sending import Sender
from trainkit_trackers.sent import group_of, noted, replacing

FILE = "mlflow.json"
STORE = "mlruns"
PATIENCE = 5.0  # seconds, at the end of a run, for what is still to be sent
MOST_FIGURES, MOST_SETTINGS = 1000, 100  # that MLflow takes at once
LONGEST_SETTING = 500  # characters; older servers take no more
STATUS = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


class OfMlflow(Tracker):
    """See `trainkit_trackers.mlflow`.

    Args:
        experiment: which experiment the run belongs to; empty: as the folder says.
    """

    writes = "MLflow"

    def __init__(self, experiment: str) -> None:
        super().__init__("mlflow")
        self.experiment = experiment
        self._sender: Sender | None = None
        self._service: Any = None
        self._id = ""  # of the run; the thread's own

    def open(self, run: Run) -> bool:
        """Begin a run there, or go on with the one that the run folder names."""
        group = group_of(run.folder)
        # Plain files by default: any number of runs may write at once, which a database in a file does not bear. They
        # lie where a recipe, which may be a stranger's, may write; anywhere else is for the environment to say.
        given = os.environ.get("MLFLOW_TRACKING_URI", "")
        address = given or ((group or run.folder.absolute()) / STORE).as_uri()
        shown = _without_password(given) or STORE
        note = noted(run.folder / FILE)
        known = note["run"] if note.get("address") == shown and isinstance(note.get("run"), str) else ""
        name = self.experiment or (group.name if group is not None else "trainkit")
        title = run.folder.name if group is None else run.folder.absolute().relative_to(group).as_posix()
        settings = {key: _short(value) for key, value in settings_of(run.recipe).items()}
        self._sender = Sender("trainkit-mlflow")
        self._sender.send(partial(self._begin, address, shown, known, name, title, settings, run.folder / FILE))
        return bool(known)

    def hand_on(self, lines: Sequence[Line], done: Callable[[], None]) -> None:
        """Have the figures sent."""
        now = int(time.time() * 1000)
        figures = [(_key(key), value, int(line["step"])) for line in lines for key, value in figures_of(line).items()]
        assert self._sender is not None
        for first in range(0, len(figures), MOST_FIGURES):
            some = figures[first : first + MOST_FIGURES]
            self._sender.send(partial(self._log, some, now))
        self._sender.send(done)

    def close(self, report: Report) -> None:
        """Have the end sent, and wait for it, but not for long."""
        if self._sender is None:
            return
        sender, self._sender = self._sender, None
        try:
            sender.send(lambda: self._service.set_terminated(self._id, STATUS.get(report.status, "FINISHED")))
        finally:
            sender.close(PATIENCE)

    # ------------------------------------------------------------ in the thread

    def _begin(
        self, address: str, shown: str, known: str, name: str, title: str, settings: dict[str, str], file: Path
    ) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # a run tells nobody that nobody asked for
        if address.startswith("file:"):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # newer versions prefer a database
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._service = MlflowClient(tracking_uri=address)
        if known:
            self._id = known
            self._service.update_run(self._id, status="RUNNING")
            return
        self._id = self._service.create_run(self._experiment(name), run_name=title).info.run_id
        with replacing(file) as text:
            text.write(json.dumps({"address": shown, "experiment": name, "run": self._id}) + "\n")
        params = [Param(key, value) for key, value in settings.items()]
        for first in range(0, len(params), MOST_SETTINGS):
            self._service.log_batch(self._id, params=params[first : first + MOST_SETTINGS])

    def _experiment(self, name: str) -> str:
        """The number of an experiment, which is made where it is not there; another run may do so at the same time."""
        from mlflow.exceptions import MlflowException

        found = self._service.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._service.create_experiment(name))
            except MlflowException:
                found = self._service.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _log(self, figures: Sequence[tuple[str, float, int]], now: int) -> None:
        from mlflow.entities import Metric

        self._service.log_batch(self._id, metrics=[Metric(key, value, now, step) for key, value, step in figures])


def _key(name: str) -> str:
    """A name of a figure with the characters that MLflow takes."""
    return re.sub(r"[^A-Za-z0-9_./ -]", "_", name)


def _without_password(address: str) -> str:
    """The address as it may stand in a run folder, which people pass on."""
    return re.sub(r"//[^/@]*@", "//", address)


def _short(value: bool | int | float | str) -> str:
    return str(value)[:LONGEST_SETTING]
