"""The process in which another program's weights file is read: ``weights_only``, limits, and no way out.

`trainkit.import_weights` starts it with the file as its standard input, the new file as its standard output, and an
environment of its own. Whatever the file does to this process, nothing of it reaches the one that the user started but
bytes, which are looked at there.
"""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

LONGEST_NAME = 512
MAX_DEPTH = 3  # of tables inside each other that are looked at for weights
_ROOM = 1024**3  # bytes for everything that is not the file
_NEVER = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "ctypes.", "pty.")
_CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Refused(Exception):
    """The file is not taken; the text says why."""


def main() -> None:
    """Read standard input, write the safetensors to standard output, and one line of JSON to standard error."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints does not end up among the tensors
    warnings.simplefilter("ignore")
    try:
        import torch

        from trainkit.checkpoint import to_safetensors

        length = os.fstat(0).st_size
        shut(length)
        with os.fdopen(0, "rb", closefd=False) as file:
            check_archive(file, length)
            file.seek(0)
            loaded = torch.load(file, map_location="cpu", weights_only=True)
        key, tensors, left_out = weights_in(loaded, sys.argv[2])
        total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        if total > 4 * length + 2**20:
            raise Refused(f"its tensors come to {total:,} bytes, of a file of {length:,}: they are views that repeat")
        out.write(to_safetensors(tensors))
        out.close()
        answer: dict[str, Any] = {"key": key, "left_out": left_out}
    except Refused as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": "reading it takes more memory than a file of its length may"}
    except Exception as error:
        answer = {"error": said_of(error)}
    sys.stderr.write("\n" + json.dumps(answer) + "\n")


def said_of(error: Exception) -> str:
    """Why the file could not be read, without torch's advice to read it in a way that runs its code."""
    text = str(error)
    if found := re.search(r"GLOBAL ([\w.]+)|Unsupported (?:global|class|type): (?:GLOBAL )?([\w.]+)", text):
        return f"it holds more than weights: it names {found[1] or found[2]}, which is code; it was not run"
    if "eights only load failed" in text:
        return "it holds more than weights, and is not read: what else a pickle can do was not done"
    first = (text.strip().splitlines() or ["no message"])[0]
    return f"it cannot be read as weights: {type(error).__name__}: {first[:300]}"


def shut(length: int) -> None:
    """Limit this process to what reading a file of ``length`` bytes can need, for ever."""
    try:
        import resource
    except ImportError:  # not on this system
        pass
    else:
        seconds = 120 + length // 2**24
        limits = {"RLIMIT_CORE": 0, "RLIMIT_CPU": seconds, "RLIMIT_FSIZE": 4 * length + 2**26}
        try:
            with open("/proc/self/statm", encoding="ascii") as statm:
                limits["RLIMIT_AS"] = int(statm.read().split()[0]) * resource.getpagesize() + 12 * length + _ROOM
        except (OSError, ValueError):
            pass
        for name, value in limits.items():
            kind = getattr(resource, name)
            _, hard = resource.getrlimit(kind)
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (value, value))
    sys.addaudithook(refuse)


def refuse(event: str, given: tuple[Any, ...]) -> None:
    """Let no other process, connection, library or file for writing begin here, nor an ordinary pickle name a class."""
    writes = event == "open" and isinstance(given[2], int) and bool(given[2] & _CHANGES)
    if writes or event.startswith(_NEVER) or event == "pickle.find_class":
        raise Refused(f"it asks for what no file of weights needs: {event} {str(given[:2])[:120]}")


def check_archive(file: BinaryIO, length: int) -> None:
    """Refuse an archive that would be larger unpacked, or holds a member twice.

    Raises:
        Refused: saying so.
    """
    if not zipfile.is_zipfile(file):
        return
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        # zipfile raises NotImplementedError for an archive that asks for a newer version of the format than it reads.
        raise Refused(f"it is a damaged archive: {error}") from None
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise Refused("its archive is compressed, which torch.save never does")
    if sum(member.file_size for member in members) > length:
        raise Refused("its archive holds more than the file has bytes")
    if len({member.filename for member in members}) < len(members):
        raise Refused("its archive holds a member twice")


def weights_in(loaded: Any, key: str) -> tuple[str, dict[str, Any], list[str]]:
    """Find the table of weights in what a file holds.

    Args:
        loaded: what `torch.load` gave.
        key: where the table is, as dotted names; empty to look for it.

    Returns:
        Where it was, the tensors by name, and the names of what is no tensor.

    Raises:
        Refused: if there is none, or there are several, or a tensor cannot be saved.
    """
    from trainkit.checkpoint import can_save

    found = {name: table for name, table in tables_in(loaded, "", 0) if any(_is_tensor(v) for v in table.values())}
    listed = ", ".join(f"'{name}' ({sum(map(_is_tensor, table.values()))} tensors)" for name, table in found.items())
    if key:
        if key not in found:
            raise Refused(f"--key {key}: there is no table of tensors; tables: {listed or 'none'}")
        name = key
    elif "" in found or len(found) == 1:
        name = "" if "" in found else next(iter(found))
    elif not found:
        raise Refused(f"it holds no table of tensors by name; it is a {type(loaded).__name__}")
    else:
        raise Refused(f"it holds several tables of tensors; name one with --key: {listed}")
    tensors, left_out = {}, []
    for label, value in flat(found[name], "", 0):
        if not _is_tensor(value):
            left_out.append(label)
            continue
        if not label or len(label) > LONGEST_NAME or label == "__metadata__":
            raise Refused(f"a tensor has a name that cannot be saved: {label[:80]!r}")
        if label in tensors:
            raise Refused(f"two tensors have the name {label!r}")
        if str(value.layout) != "torch.strided" or value.is_quantized or not can_save(value):
            raise Refused(f"tensor {label!r} is {value.dtype} {value.layout}, which safetensors files here do not hold")
        if value.device.type != "cpu":
            raise Refused(f"tensor {label!r} has no values: it is on the device {value.device}")
        tensors[label] = value.detach()
    return name, tensors, left_out


def tables_in(value: Any, name: str, depth: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The tables whose keys are text, with the dotted names that lead there, but none inside a table of tensors."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return
    yield name, value
    if depth < MAX_DEPTH and not any(map(_is_tensor, value.values())):
        for key, inner in value.items():
            yield from tables_in(inner, f"{name}.{key}".lstrip("."), depth + 1)


def flat(table: Mapping[str, Any], name: str, depth: int) -> Iterator[tuple[str, Any]]:
    """The values of a table and of the tables inside it, by dotted names."""
    for key, value in table.items():
        label = f"{name}.{key}" if name else key
        inside = isinstance(value, Mapping) and value and all(isinstance(inner, str) for inner in value)
        if inside and depth < MAX_DEPTH:
            yield from flat(value, label, depth + 1)
        else:
            yield label, value


def _is_tensor(value: Any) -> bool:
    from torch import Tensor

    return isinstance(value, Tensor)
