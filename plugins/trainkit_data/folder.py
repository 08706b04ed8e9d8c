"""Trees of image files, one folder a class, decoded once into a cache."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL
import torch
from PIL import Image, UnidentifiedImageError, features

from trainkit import DataError
from trainkit_data.cache import Decoded, Room, decoded
from trainkit_data.helpers import shared_out

if TYPE_CHECKING:
    from torch import Tensor

_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"))
_PARTS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_MODES = {1: "L", 3: "RGB"}
# Images that are decoded, written and told of together, and bytes of them.
_PORTION = 32
_PORTION_BYTES = 1 << 19
_FLUSHED_BYTES = 1 << 25  # put before the disk is asked to begin
_HASH = 32  # bytes of SHA-256
_MORE = 1 << 20
_FEWEST = 4  # portions that are worth the start of another process
_LARGE = 64 * 64  # pixels; below, each call of pillow's costs more than it saves


@dataclass(frozen=True)
class Tree:
    """The image files below a folder.

    Args:
        root: the folder.
        classes: names of the class folders, sorted.
        files: path below ``root``, size and time of change of each image, by part, class and name.
        targets: class of each image.
        parts: sample numbers of each part; empty where the tree has no parts.
    """

    root: Path
    classes: tuple[str, ...]
    files: list[tuple[str, int, int]]
    targets: Tensor
    parts: dict[str, Tensor]


def read_tree(root: Path) -> Tree:
    """List the images below ``root``: ``class/image``, or ``train/class/image`` beside ``test`` and ``val``.

    Raises:
        DataError: if the folder is missing, or holds no classes or no images.
    """
    if not root.is_dir():
        raise DataError(f"{root} is no folder; path must name a folder with one folder of images for each class")
    below = _folders(root)
    found = {part: name for part, names in _PARTS.items() for name in names if name in below}
    if found and "train" not in found:
        raise DataError(f"{root} has a folder '{next(iter(found.values()))}' but no folder 'train'")
    tops = {part: f"{name}/" for part, name in found.items()} or {"": ""}
    classes = _folders(root / tops.get("train", ""))
    if len(classes) < 2:
        shown = f"only '{classes[0]}'" if classes else "none"
        raise DataError(
            f"{root / tops.get('train', '')} needs a folder for each of two or more classes; it has {shown}"
        )
    files: list[tuple[str, int, int]] = []
    targets: list[int] = []
    parts: dict[str, Tensor] = {}
    for part, top in tops.items():
        first = len(files)
        for name in _folders(root / top):
            if name not in classes:
                raise DataError(f"{root / top / name} is a class that has no training images")
            images = _images(root, f"{top}{name}")
            if not images and part in ("", "train"):
                raise DataError(f"{root / top / name} holds no images ({', '.join(sorted(_SUFFIXES))})")
            files.extend(images)
            targets.extend([classes.index(name)] * len(images))
        if part:
            parts[part] = torch.arange(first, len(files))
    return Tree(root, tuple(classes), files, torch.tensor(targets, dtype=torch.int64), parts)


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _images(root: Path, below: str) -> list[tuple[str, int, int]]:
    with os.scandir(root / below) as entries:
        chosen = [
            (f"{below}/{entry.name}", entry.stat().st_size, entry.stat().st_mtime_ns)
            for entry in entries
            if os.path.splitext(entry.name)[1].lower() in _SUFFIXES
            and not entry.name.startswith(".")
            and entry.is_file()
        ]
    return sorted(chosen)


def decode_tree(
    tree: Tree, cache_root: Path, progress: Callable[[int, int, str], None], size: int | None, channels: int
) -> Decoded:
    """Decode all images of a tree, or find them decoded.

    Args:
        tree: the files.
        cache_root: folder of all caches.
        progress: told how many images are decoded.
        size: side of the square that images are resized to; ``None`` where all have one size.
        channels: 1 for grey, 3 for colour.

    Raises:
        DataError: naming an image that is damaged, or of another size where none is set.
    """
    if size:
        height = width = size
    else:
        name, length, _ = tree.files[0]
        path = str(tree.root / name)
        first = _decode(path, _read(path, length), channels, None)
        height, width = first.height, first.width
    count = len(tree.files)
    shape = (count, channels, height, width)
    step = max(1, min(_PORTION, _PORTION_BYTES // (channels * height * width)))

    def make(room: Room) -> tuple[Tensor, dict[str, Any]]:
        hashes = mmap.mmap(-1, count * _HASH)  # shared with the helpers
        top = str(tree.root)

        def portion(place: int) -> None:
            begin, parts = place * step, []
            for number in range(begin, min(begin + step, count)):
                name, length, _ = tree.files[number]
                path = os.path.join(top, name)
                content = _read(path, length)
                hashes[number * _HASH : (number + 1) * _HASH] = hashlib.sha256(content).digest()
                image = _decode(path, content, channels, size)
                if image.size != (width, height):
                    raise DataError(
                        f"{path} has {image.width}x{image.height} pixels, {tree.root / tree.files[0][0]} has "
                        f"{width}x{height}; set size = {min(height, width)} to resize all"
                    )
                parts += _planes(image)
            room.put(begin, parts)

        ready, since, portions = 0, 0, -(-count // step)
        with contextlib.closing(shared_out(portion, portions, room.path, alone=portions < _FEWEST)) as done:
            for place in done:
                ready += min(step, count - place * step)
                progress(ready, count, "decoding images")
                since += 1
                if since * step * math.prod(shape[1:]) >= _FLUSHED_BYTES:
                    since = 0
                    room.flush()
        # The files and not the pixels: a photograph has a seventh of the bytes. Decoders differ in how they round.
        decoder = f"{PIL.__version__} {features.version('jpg')} {shape} {size}"
        room.made_of = hashlib.sha256(hashes).digest() + decoder.encode()
        return tree.targets, {"classes": tree.classes}

    made_of = {"root": str(tree.root.resolve()), "files": tree.files, "size": size, "channels": channels}
    return decoded(cache_root, tree.root.name or "images", made_of, shape, make)


def _planes(image: Image.Image) -> list[bytes]:
    """An image's pixels, channel after channel."""
    if image.width * image.height < _LARGE:
        return [np.asarray(image).reshape(image.height, image.width, -1).transpose(2, 0, 1).tobytes()]
    # Out of pillow's memory channel by channel: taking a large image apart costs a quarter of its decoding.
    return [image.tobytes("raw", band) for band in image.getbands()]


def _read(path: str, length: int) -> bytes:
    """A file's content; one of ``length`` bytes, as it most likely is, without the layers of ``open``."""
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            content = os.read(file, length + 1)
            while len(content) != length and (more := os.read(file, _MORE)):
                content += more
        finally:
            os.close(file)
    except OSError as error:
        raise DataError(f"{path} cannot be read as an image ({error}); mend it or remove it") from error
    return content


def _decode(path: str, content: bytes, channels: int, size: int | None) -> Image.Image:
    mode = _MODES[channels]
    try:
        with Image.open(io.BytesIO(content)) as image:
            if size:
                # Large photographs are decoded at an eighth, a quarter or half of their size where that is enough.
                image.draft(mode, (size, size))
            image.load()
            whole = image if image.mode == mode else image.convert(mode)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        said = "of no known kind" if isinstance(error, UnidentifiedImageError) else error
        raise DataError(f"{path} cannot be read as an image ({said}); mend it or remove it") from error
    if size is None or whole.size == (size, size):
        return whole
    side = min(whole.size)
    left, top = (whole.width - side) // 2, (whole.height - side) // 2
    square = whole.crop((left, top, left + side, top + side))
    return square.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3.0)
