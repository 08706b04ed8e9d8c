"""``study.jsonl``: what happened in a study, one JSON object a line, only ever appended to, by one process."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainkit.arguments import STUDY_LOG
from trainkit.errors import MachineError
from trainkit.files import create, open_regular, sync_folder
from trainkit.space import Dimension, Limit, Space
from trainkit.trial import Order

NAME = STUDY_LOG
FORMAT = 1
_LONGEST = 4 * 1024**3  # bytes of a log that is read
Event = dict[str, Any]


class StudyLog:
    """Appends events to a log.

    A line is handed to the system at `flush`, in one call for all that were added: whoever reads meanwhile meets whole
    lines, and a process that is killed leaves at the most its last line torn, which the next one removes. `sync` makes
    them durable, and must be called before anything is done that follows from them.

    Args:
        path: the file; made if it is not there.

    Raises:
        OSError: if it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        new = not path.exists()
        self._file = create(path, os.O_RDWR | os.O_APPEND)
        self._waiting: list[str] = []
        self._unsynced = False
        whole = _whole(self._file)
        if whole != os.fstat(self._file).st_size:
            os.ftruncate(self._file, whole)
        if new:
            sync_folder(path.parent)

    def add(self, event: Event) -> None:
        """Add an event, with the time."""
        event["time"] = round(time.time(), 3)
        self._waiting.append(json.dumps(event, allow_nan=False, separators=(", ", ": ")) + "\n")

    def flush(self) -> None:
        """Hand over what was added.

        Raises:
            OSError: if the disk does not take it; what was written of it is removed again.
        """
        if not self._waiting:
            return
        data, self._waiting = "".join(self._waiting).encode(), []
        before = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, data)
            while written < len(data):
                written += os.write(self._file, data[written:])
        except OSError:
            os.ftruncate(self._file, before)
            raise
        self._unsynced = True

    def sync(self) -> None:
        """Make everything that was added durable."""
        self.flush()
        if self._unsynced:
            os.fsync(self._file)
            self._unsynced = False

    def close(self) -> None:
        """Close the file; called again without harm."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _whole(file: int) -> int:
    """How many bytes the whole lines of a file have."""
    end = os.fstat(file).st_size
    while end:
        start = max(0, end - 65536)
        block = os.pread(file, end - start, start)
        if (place := block.rfind(b"\n")) >= 0:
            return start + place + 1
        end = start
    return 0


def read_events(path: Path) -> Iterator[Event]:
    """The events of a log, which may be written to meanwhile; a torn last line is left out.

    Raises:
        MachineError: if it cannot be read, or a line is none that a study writes.
    """
    try:
        number, _ = open_regular(path, _LONGEST)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise MachineError(f"{path}: cannot be read: {reason}") from error
    with os.fdopen(number, "rb") as file:
        for place, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                event = json.loads(line)
                if not isinstance(event["event"], str):
                    raise TypeError("its event is no text")
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                cure = "put the line right, or remove it with all lines after it"
                raise MachineError(f"{path}:{place}: not a line that a study writes: {error}\n  {cure}") from error
            yield event


# ------------------------------------------------------------ spaces and orders as JSON


def space_as_json(space: Space) -> dict[str, Any]:
    """A space as a log holds it: its reports need neither recipe nor plugins."""
    return {
        "dimensions": [_plain(dimension) for dimension in space.dimensions],
        "limits": [_plain(limit) for limit in space.limits],
        "fixed": dict(space.fixed),
    }


def space_of_json(table: Mapping[str, Any]) -> Space:
    """The space that `space_as_json` wrote."""
    dimensions = []
    for one in table["dimensions"]:
        when = {name: tuple(values) for name, values in one.get("when", {}).items()}
        dimensions.append(Dimension(**{**one, "choices": tuple(one.get("choices", ())), "when": when}))
    limits = [Limit(**{**one, "terms": tuple(one["terms"])}) for one in table["limits"]]
    return Space(tuple(dimensions), tuple(limits), dict(table["fixed"]))


def _plain(one: Dimension | Limit) -> dict[str, Any]:
    """What differs from the defaults."""
    made: dict[str, Any] = {}
    for field in dataclasses.fields(one):
        value = getattr(one, field.name)
        if field.name == "when":
            value = {name: list(values) for name, values in value.items()}
        if field.default is dataclasses.MISSING or value != field.default:
            made[field.name] = list(value) if isinstance(value, tuple) else value
    if not made.get("when", True):
        del made["when"]
    return made


def order_of_json(table: Mapping[str, Any]) -> Order:
    """The order that a log holds."""
    return Order(**table)


def order_as_json(order: Order) -> dict[str, Any]:
    """What a log holds of an order: what differs from the defaults."""
    made: dict[str, Any] = {}
    if order.point:
        made["point"] = dict(order.point)
    for name, default in (("trial", None), ("until", 1.0), ("parent", None), ("note", ""), ("final", True)):
        if (value := getattr(order, name)) != default:
            made[name] = value
    if order.changes:
        made["changes"] = dict(order.changes)
    return made


def finite(figures: Mapping[str, float]) -> dict[str, float]:
    """The figures that JSON has numbers for."""
    return {name: value for name, value in figures.items() if math.isfinite(value)}
