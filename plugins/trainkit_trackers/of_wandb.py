"""Offline runs of Weights & Biases."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trainkit import Report, Run
from trainkit_trackers.following import Line, Tracker, figures_of, settings_of
from trainkit_trackers.sent import group_of, noted, replacing

FILE = "wandb.json"
_NAME = re.compile(r"[0-9a-f]{8}")
# Runs of this process that go on: all share one service, which the last of them ends.
_open: weakref.WeakSet[OfWandb] = weakref.WeakSet()


class OfWandb(Tracker):
    """See `trainkit_trackers.wandb`.

    W&B writes a record in blocks, the last of which is lost where the process is killed. What a process has recorded
    counts once its record is whole; a broken one is removed when the run goes on, and its lines are recorded anew.

    Args:
        project: which project the run belongs to.
    """

    writes = "W&B"

    def __init__(self, project: str) -> None:
        super().__init__("wandb")
        self.project = project
        self._run: Any = None
        self._note: dict[str, Any] = {}
        self._recorded: list[Callable[[], None]] = []

    def open(self, run: Run) -> bool:
        """Begin to record; a run that is continued goes on under its own name."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # offline means that nothing is sent
        import wandb

        self._file = run.folder / FILE
        note = noted(self._file)
        if not isinstance(note.get("run"), str) or not _NAME.fullmatch(note["run"]):
            note = {"project": self.project, "run": secrets.token_hex(4)}
        name, whole = note["run"], note.get("whole")
        self._note = {**note, "whole": whole if isinstance(whole, list) else []}
        self._write_note()
        _remove_broken(run.folder / "wandb", name, self._note["whole"])
        group = group_of(run.folder)
        quiet = wandb.Settings(
            mode="offline",
            console="off",
            silent=True,
            disable_git=True,
            disable_code=True,
            save_code=False,
            x_disable_meta=True,
            x_disable_stats=True,
        )
        _open.add(self)
        self._run = wandb.init(
            project=self.project,
            id=name,
            name=run.folder.name if group is None else run.folder.absolute().relative_to(group).as_posix(),
            group=None if group is None else group.name,
            resume="allow",
            reinit="create_new",
            dir=str(run.folder.absolute()),
            config=settings_of(run.recipe),
            settings=quiet,
        )
        # Steps of its own count calls; ours are updates, and a run that is continued may come by the same one again.
        self._run.define_metric("*", step_metric="step")
        return bool(self._note["whole"])

    def hand_on(self, lines: Sequence[Line], done: Callable[[], None]) -> None:
        """Record the figures."""
        for line in lines:
            self._run.log({"step": line["step"], "epoch": line["epoch"], **figures_of(line)})
        self._recorded.append(done)

    def close(self, report: Report) -> None:
        """End the record, and the service where no other run needs it."""
        import wandb

        _open.discard(self)
        try:
            if self._run is not None:
                place = Path(self._run.dir).parent.name
                self._run.finish(exit_code=0 if report.status in ("finished", "stopped") else 1)
                self._note["whole"].append(place)
                self._write_note()
                for done in self._recorded:
                    done()
        finally:
            self._run = None
            if not _open and wandb.run is None:
                wandb.teardown()

    def _write_note(self) -> None:
        with replacing(self._file) as text:
            text.write(json.dumps(self._note) + "\n")


def _remove_broken(folder: Path, name: str, whole: Sequence[Any]) -> None:
    """Remove the records of processes that were killed."""
    if folder.is_symlink():
        return
    for record in folder.glob(f"offline-run-*-{name}*"):
        if record.name not in whole and record.is_dir() and not record.is_symlink():
            shutil.rmtree(record)
