"""Small pictures as PNG, written with the standard library's zlib.

Source: W3C, Portable Network Graphics (PNG) Specification (Third Edition), 2025, sections 5 and 11.
"""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

_GREY, _COLOUR = 0, 2  # the specification's colour types
_BEGIN = b"\x89PNG\r\n\x1a\n"


def data_url(pixels: object, most: int) -> str:
    """A picture as a ``data:`` address.

    Args:
        pixels: rows of pixels, as `trainkit.page.Image` has them. What is not a byte is brought into its range. Or a
            PNG file, which stays as it is.
        most: it is made smaller until neither side is longer.
    """
    made = pixels if isinstance(pixels, bytes) else png(pixels, most)
    return "data:image/png;base64," + base64.b64encode(made).decode()


def png(pixels: object, most: int) -> bytes:
    """A picture as a PNG file; arguments as of `data_url`.

    Raises:
        ValueError: if it is no array of pixels.
    """
    return _file(_bytes(pixels, most))


def png_size(content: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG file; ``None`` where it is none."""
    if content[:8] != _BEGIN or content[12:16] != b"IHDR" or len(content) < 24:
        return None
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def _bytes(pixels: object, most: int) -> Any:
    import numpy

    found = numpy.asarray(pixels)
    if found.ndim == 3 and found.shape[-1] == 1:
        found = found[..., 0]
    if found.ndim not in (2, 3) or (found.ndim == 3 and found.shape[-1] != 3) or not found.size:
        shape = "(height, width) or (height, width, 3)"
        raise ValueError(f"a picture is an array of shape {shape} with a pixel at least, and this is {found.shape}")
    step = -(-max(found.shape[:2]) // most)
    if step > 1:  # each pixel the mean of a square; a margin that fills none is cut off
        height, width = (max(1, size // step) for size in found.shape[:2])
        found = found[: height * step, : width * step]
        tall, wide = min(step, found.shape[0]), min(step, found.shape[1])
        found = found.reshape(height, tall, width, wide, *found.shape[2:]).mean(axis=(1, 3))
    if found.dtype != numpy.uint8:
        found = numpy.nan_to_num(found.astype(numpy.float64)).clip(0, 255).round().astype(numpy.uint8)
    return numpy.ascontiguousarray(found)


def _file(pixels: Any) -> bytes:
    height, width = pixels.shape[:2]
    kind = _GREY if pixels.ndim == 2 else _COLOUR
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)  # 0: the row is not filtered
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    parts = (_part(b"IHDR", header), _part(b"IDAT", zlib.compress(rows, 6)), _part(b"IEND", b""))
    return _BEGIN + b"".join(parts)


def _part(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
