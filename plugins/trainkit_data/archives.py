"""Reading the published archives of CIFAR and MNIST: plain bytes of known lengths, nothing that could run code."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from trainkit import DataError

if TYPE_CHECKING:
    from torch import Tensor


def read_members(path: Path, limits: Mapping[str, int]) -> dict[str, bytes]:
    """Read the named members of a ``.tar.gz`` into memory; nothing is written to disk.

    Args:
        path: the archive.
        limits: most bytes of each member that is wanted.

    Raises:
        DataError: if the archive is damaged, or a member is missing or larger than its limit.
    """
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                if member.name not in limits or not member.isfile():
                    continue
                if member.size > limits[member.name]:
                    raise DataError(f"{path}: {member.name} is larger than the published one; delete the archive")
                content = archive.extractfile(member)
                found[member.name] = content.read() if content else b""
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path} is damaged ({error}); delete it and run again") from error
    if missing := [name for name in limits if name not in found]:
        raise DataError(f"{path} lacks {missing[0]}; delete it and run again")
    return found


def read_idx(path: Path, shape: tuple[int, ...]) -> Tensor:
    """Read a gzipped IDX file of bytes.

    Args:
        path: the file.
        shape: what it must hold.

    Raises:
        DataError: if it is damaged or holds something else.

    Source: LeCun, Cortes & Burges, "The MNIST database", section "File formats".
    """
    expected = bytes([0, 0, 8, len(shape)]) + b"".join(length.to_bytes(4, "big") for length in shape)
    size = len(expected) + torch.Size(shape).numel()
    try:
        with gzip.open(path) as file:
            # One byte more than expected: so much is enough to know, and a bomb does no harm.
            content = file.read(size + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path} is damaged ({error}); delete it and run again") from error
    if len(content) != size or not content.startswith(expected):
        raise DataError(f"{path} does not hold bytes of shape {shape}; delete it and run again")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)[len(expected) :].view(shape)


def read_cifar(content: bytes, name: str, labels: int) -> tuple[Tensor, Tensor]:
    """Take records of CIFAR's binary version apart.

    Args:
        content: records of ``labels`` bytes and 3 x 32 x 32 pixels.
        name: the file, for messages.
        labels: label bytes of a record; the last one counts.

    Returns:
        Pixels uint8 ``(samples, 3, 32, 32)`` and targets int64 ``(samples,)``.

    Raises:
        DataError: if the length is no whole number of records.
    """
    record = labels + 3 * 32 * 32
    if not content or len(content) % record:
        raise DataError(f"{name} is truncated: {len(content)} bytes are no whole number of {record}-byte records")
    rows = torch.frombuffer(bytearray(content), dtype=torch.uint8).view(-1, record)
    return rows[:, labels:].view(-1, 3, 32, 32), rows[:, labels - 1].long()
