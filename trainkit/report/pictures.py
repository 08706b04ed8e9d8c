"""Pictures of plugins: files in the folder ``pictures`` of a run folder, which the run's page shows."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from trainkit.files import read_regular
from trainkit.page import Block, Image, Pictures, Section, Text
from trainkit.page.png import png, png_size
from trainkit.rundir import write_atomically

FOLDER = "pictures"
LONGEST = 2048  # pixels along a side
MOST = 12  # that a page shows
MOST_BYTES = 400_000  # of all that a page shows, so that it stays below 2 MB
WIDEST = 900  # CSS pixels


def write_picture(folder: Path, name: str, pixels: object) -> Path:
    """Write a picture into a run folder: the run's page shows it, below the name.

    Args:
        folder: the run folder.
        name: letters, digits, ``-`` and ``_``. A picture of that name is replaced.
        pixels: ``(height, width)`` grey or ``(height, width, 3)`` red, green and blue, from 0 to 255; made smaller
            until neither side is longer than 2,048.

    Returns:
        The file, ``pictures/NAME.png``.

    Raises:
        ValueError: if the name is none, or the pixels are no array of such a shape.
        OSError: if it cannot be written.
    """
    if not name or not all(letter.isascii() and (letter.isalnum() or letter in "-_") for letter in name):
        raise ValueError(f"a picture's name has letters, digits, - and _, and this is {name!r}")
    content = png(pixels, LONGEST)
    place = folder / FOLDER
    place.mkdir(exist_ok=True)
    file = place / f"{name}.png"
    write_atomically(file, content, durable=False)
    return file


def picture_section(folder: Path) -> Section | None:
    """The pictures of a run folder as a part of its page; ``None`` where there are none."""
    place = folder / FOLDER
    try:
        if not stat.S_ISDIR(os.lstat(place).st_mode):
            return None
        files = sorted(file for file in place.iterdir() if file.suffix == ".png" and not file.name.startswith("."))
    except OSError:
        return None
    blocks: list[Block] = []
    left, untold = MOST_BYTES, []
    for file in files:
        content = _content(file, left) if len(blocks) < MOST else None
        if content is None:
            untold.append(file.name)
            continue
        left -= len(content)
        width = png_size(content)
        assert width is not None
        blocks.append(Pictures(file.stem.replace("_", " "), [Image(content, "")], size=min(WIDEST, width[0])))
    if untold:
        told = ", ".join(untold[:MOST]) + (f" and {len(untold) - MOST} more" if len(untold) > MOST else "")
        blocks.append(Text(f"Not shown here, as too large, too many or no PNG: {told}, in {FOLDER}.", "note"))
    return Section("Pictures", blocks) if blocks else None


def _content(file: Path, most: int) -> bytes | None:
    """A PNG file, as another may have left it; ``None`` where it is none, or too large."""
    try:
        content = read_regular(file, most)
    except (OSError, ValueError):
        return None
    size = png_size(content)
    return content if size is not None and min(size) > 0 and max(size) <= LONGEST else None
