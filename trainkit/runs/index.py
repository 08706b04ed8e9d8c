"""What was read of runs, remembered from one command to the next: reading thousands of recipes takes seconds.

One file in the user's cache folder for each folder that was asked for. An entry counts while the files it follows from
have the names, times and lengths that they had; every folder is looked at each time. Files that were written a moment
before they were read are read again the next time, as a clock's grain may hide a change.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trainkit import __version__
from trainkit.catalogue import GRAIN, cache_folder
from trainkit.errors import MachineError
from trainkit.files import read_regular
from trainkit.runs.entry import KINDS, Entry
from trainkit.runs.find import Place, places, read

FORMAT = f"2 of {__version__}"  # what is read of a folder may change from one version to the next
_MOST = 256 * 1024**2  # bytes of an index: some hundred thousand runs


def entries(root: Path, trials: bool = False) -> list[Entry]:
    """The runs below a folder, in the order of their names.

    Args:
        root: the folder.
        trials: whether the runs of studies, ensembles and repeats count, too.
    """
    file, began = _file(root, trials), time.time_ns()
    known = _read(file)
    found: list[tuple[Place, Entry]] = []
    fresh = False
    for place in places(root, trials):
        kept = known.get(place.name)
        entry = _entry(place, kept[1:]) if kept is not None and kept[0] == place.stamp else None
        if entry is None:
            entry = read(place)
            fresh = fresh or _is_settled(place, began)
        found.append((place, entry))
    if fresh or len(known) > len(found):
        _write(file, found, began)
    return [entry for _, entry in found]


def _is_settled(place: Place, began: int) -> bool:
    return place.newest < began - GRAIN


def _file(root: Path, trials: bool) -> Path | None:
    """Where the index of a folder lies; ``None`` where nothing is to be remembered."""
    try:
        cache = Path(cache_folder())
    except MachineError:
        return None
    which = os.fsencode(os.path.realpath(root)) + (b"\0trials" if trials else b"")
    return cache / "runs" / f"{zlib.crc32(which):08x}-{zlib.adler32(which):08x}.json"


def _read(file: Path | None) -> dict[str, list[Any]]:
    """What is remembered, by name; nothing where the file is not there, another's, or of another form."""
    if file is None:
        return {}
    try:
        if hasattr(os, "getuid") and os.stat(file).st_uid != os.getuid():
            return {}
        data = json.loads(read_regular(file, _MOST))
        if data["format"] != FORMAT:
            return {}
        held = data["entries"]
        return {name: one for name, one in held.items() if isinstance(one, list) and len(one) == 7}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _entry(place: Place, kept: list[Any]) -> Entry | None:
    kind, status, modified, recipe, results, note = kept
    if kind not in KINDS or not isinstance(recipe, dict) or not isinstance(results, dict):
        return None
    return Entry(place.name, kind, str(status), float(modified), recipe, results, str(note))


def _write(file: Path | None, found: Iterable[tuple[Place, Entry]], began: int) -> None:
    """Remember what was read; where that is not possible, it is read again the next time."""
    if file is None:
        return
    from trainkit.rundir import write_atomically

    held = {
        place.name: [place.stamp, one.kind, one.status, one.modified, one.recipe, one.results, one.note]
        for place, one in found
        if _is_settled(place, began)
    }
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps({"format": FORMAT, "entries": held}), durable=False)
    except (OSError, ValueError):
        return
