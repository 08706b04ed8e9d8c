"""Event files for TensorBoard."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from trainkit import Report, Run
from trainkit_trackers.following import Line, Tracker, figures_of, settings_of

FOLDER = "tensorboard"
LONGEST_SETTING = 200  # characters; the table of hyperparameters shows no more of it


class Events(Tracker):
    """See `trainkit_trackers.tensorboard`. Nothing but files is written, by torch's own writer."""

    writes = "TensorBoard"

    def __init__(self) -> None:
        super().__init__("tensorboard")
        self._writer: Any = None
        self._closing: weakref.finalize[..., Any] | None = None

    def open(self, run: Run) -> bool:
        """Begin a file; what the run says of itself stands in the first one alone."""
        from torch.utils.tensorboard import SummaryWriter

        folder = run.folder / FOLDER
        goes_on = folder.is_dir()
        self._writer = SummaryWriter(str(folder))
        # A run that goes back to a checkpoint within its process is built anew, and the old one is not told.
        self._closing = weakref.finalize(self, self._writer.close)
        if not goes_on:
            self._describe(run)
        return goes_on

    def hand_on(self, lines: Sequence[Line], done: Callable[[], None]) -> None:
        """Write the figures, and let readers see them."""
        now = time.time()
        for line in lines:
            for name, value in figures_of(line).items():
                self._writer.add_scalar(name, value, line["step"], now)
        self._writer.flush()
        done()

    def turned_back(self, step: int) -> bool:
        """Tell readers that what lies at this update and behind it is made anew."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        self._writer.file_writer.add_event(Event(session_log=SessionLog(status=SessionLog.START)), step)
        return True

    def close(self, report: Report) -> None:
        """Close the file."""
        if self._closing is not None:
            self._closing()

    def _describe(self, run: Run) -> None:
        from torch.utils.tensorboard.summary import hparams

        if (file := run.folder / "recipe.toml").is_file():
            # Indented, so that it is shown as it stands and not taken for Markdown.
            self._writer.add_text("recipe", "    " + file.read_text(encoding="utf-8").replace("\n", "\n    "))
        settings = {
            name: value[:LONGEST_SETTING] if isinstance(value, str) else value
            for name, value in settings_of(run.recipe).items()
        }
        shown = {f"val/{name}": 0.0 for name in ("loss", *run.metrics)}
        for summary in hparams(settings, shown):  # type: ignore[no-untyped-call]
            self._writer.file_writer.add_summary(summary)
