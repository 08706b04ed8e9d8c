"""The lines of a run, read while it goes on: each once, with the curves and the pace that follow from them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainkit.files import open_regular
from trainkit.results import AXES, LONGEST_FILE, LONGEST_LINE, line_in, values_in
from trainkit.thinned import Thinned

_MARK = 256  # bytes before the place that tell whether what was read is still there


class Followed:
    """What the lines of a run's ``metrics.jsonl`` have come to so far; `update` reads those that are new.

    Attributes:
        curves: points ``(step, epoch, time, value)`` by name, as `trainkit.results.curves_of` has them.
        last: the newest value of each curve and its step.
        lowest: the lowest value of each curve and its step.
        highest: the highest value of each curve and its step.
        pace: updates a second between one line of ``train`` and the line before it: points as those of a curve.
        updating: seconds of updates: data, steps, callbacks, saving.
        measuring: seconds of evaluations by split.
        mixed: seconds in which updates were made and a split was measured, which the lines do not tell apart.
        place: updates, epochs and seconds at the newest line.

    Args:
        folder: the run folder.
        most: bunches of points that a curve keeps.
    """

    def __init__(self, folder: Path, most: int = 1024) -> None:
        self._file = folder / "metrics.jsonl"
        self._most = most
        self._begin()

    def _begin(self) -> None:
        self._read, self._mark = 0, b""
        self.curves: defaultdict[str, Thinned] = defaultdict(lambda: Thinned(self._most))
        self.last: dict[str, tuple[float, int]] = {}
        self.lowest: dict[str, tuple[float, int]] = {}
        self.highest: dict[str, tuple[float, int]] = {}
        self.pace = Thinned(self._most)
        self.updating, self.mixed = 0.0, 0.0
        self.measuring: defaultdict[str, float] = defaultdict(float)
        self.place: tuple[float, ...] = (0.0, 0.0, 0.0)

    def place_of(self, step: int) -> tuple[float, ...]:
        """An update, its epoch and its seconds; between two lines these are taken from both. Empty past the last."""
        below: tuple[float, ...] = (0.0, 0.0, 0.0)
        longest = max(self.curves.values(), key=lambda curve: curve.last[0], default=None)
        for point in longest.points if longest is not None else []:
            if point[0] >= step:
                share = (step - below[0]) / (point[0] - below[0]) if point[0] > below[0] else 0.0
                return tuple(low + share * (high - low) for low, high in zip(below, point[:3], strict=True))
            below = point[:3]
        return ()

    def update(self) -> bool:
        """Read what is new; whether there was anything.

        A run that is continued cuts off lines that its checkpoint does not know of: then all is read anew.
        """
        try:
            number, size = open_regular(self._file, LONGEST_FILE)
        except (OSError, ValueError):
            return False
        changed = False
        with os.fdopen(number, "rb") as file:
            if size < self._read or not self._is_there(file):
                self._begin()
                changed = True
            file.seek(self._read)
            while text := file.readline(LONGEST_LINE):
                if not text.endswith(b"\n") and len(text) < LONGEST_LINE:
                    break  # the rest of it comes
                self._read += len(text)
                self._mark = (self._mark + text)[-_MARK:]
                if (line := line_in(text.decode(errors="replace"))) is not None:
                    self._take_in(line)
                    changed = True
        return changed

    def _is_there(self, file: Any) -> bool:
        file.seek(self._read - len(self._mark))
        found: bytes = file.read(len(self._mark))
        return found == self._mark

    def _take_in(self, line: Mapping[str, Any]) -> None:
        place = tuple(float(line[axis]) for axis in AXES)
        step = int(line["step"])
        for name, value in values_in(line):
            self.curves[name].add(*place, value)
            self.last[name] = value, step
            if name not in self.lowest or value < self.lowest[name][0]:
                self.lowest[name] = value, step
            if name not in self.highest or value > self.highest[name][0]:
                self.highest[name] = value, step
        updates, seconds = place[0] - self.place[0], max(0.0, place[2] - self.place[2])
        trained = line["split"] == "train"
        if not trained and updates == 0:
            self.measuring[line["split"]] += seconds
        elif not trained:
            self.mixed += seconds
        else:
            self.updating += seconds
            if updates > 0 and seconds > 0:
                self.pace.add(*place, updates / seconds)
        self.place = place
