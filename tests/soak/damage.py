"""G5: whatever happens to the files of a checkpoint is noticed, and the one before it is used."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from trainkit import CheckpointError, checkpoint

FILES = ("tensors.safetensors", "state.json", "MANIFEST")


def check(count: int, seed: int) -> list[str]:
    """Flip ``count`` bits, cut files to every length, and put other things in their places.

    The tensors' file is cut to as many lengths as an eighth of ``count``, the other two to every length they have, or
    as many as ``count`` where they are longer.
    """
    rng = random.Random(seed)
    failures = []
    cases = 0
    with tempfile.TemporaryDirectory(prefix="soak-damage-") as top:
        parent = Path(top) / "checkpoints"
        generator = torch.Generator().manual_seed(seed)
        for step in (20, 40):
            tensors = {
                "model/weight": torch.randn(32, 48, generator=generator),
                "model/count": torch.tensor(step),
                "optimizer/weight/exp_avg": torch.randn(32, 48, generator=generator),
                "random/torch": torch.randint(0, 256, (500,), dtype=torch.uint8, generator=generator),
            }
            groups = [{"names": ["weight"], "lr": {"__float__": "0x1p-3"}}]
            state = {"step": step, "epoch": 1, "best": None, "groups": groups}
            checkpoint.save(parent, step, tensors, {**state, "bytes": "x" * rng.randint(50, 90)})
        older, newer = (parent / checkpoint.folder_name(step) for step in (20, 40))
        whole = {name: (newer / name).read_bytes() for name in FILES}
        for what in _damages(rng, whole, older, newer, count):
            cases += 1
            try:
                folder, _, state = checkpoint.load_newest(parent)
            except (CheckpointError, OSError) as error:
                failures.append(f"{what}: {type(error).__name__}: {error}")
            else:
                if (folder, state["step"]) != (older, 20):
                    failures.append(f"{what}: was not noticed")
            if newer.is_symlink() or not newer.is_dir():
                newer.unlink()
            else:
                shutil.rmtree(newer)
            newer.mkdir()
            for name, data in whole.items():
                (newer / name).write_bytes(data)
        if checkpoint.load_newest(parent)[0] != newer:
            failures.append("the checkpoint as it was does not load")
    check.cases = cases  # type: ignore[attr-defined]
    return failures


def _damages(rng: random.Random, whole: dict[str, bytes], older: Path, newer: Path, count: int) -> Iterator[str]:
    """Damage the newer checkpoint, one way after the other, and say how."""
    for number in range(count):
        name = FILES[number % 3]
        data = bytearray(whole[name])
        bit = rng.randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
        (newer / name).write_bytes(data)
        yield f"bit {bit} of {name} flipped"
    for name in FILES:
        lengths = range(len(whole[name]))
        most = count // 8 if name == FILES[0] else count
        for length in lengths if len(lengths) <= most else sorted(rng.sample(lengths, most)):
            (newer / name).write_bytes(whole[name][:length])
            yield f"{name} cut to {length} bytes"
    for name in FILES:
        file = newer / name
        file.unlink()
        yield f"{name} missing"
        file.write_bytes(whole[name] + b"\n")
        yield f"{name} one byte longer"
        file.write_bytes(bytes(len(whole[name])))
        yield f"{name} all NUL"
        file.write_bytes((older / name).read_bytes())
        yield f"{name} of another step"
        file.unlink()
        file.symlink_to(older / name)
        yield f"{name} a link to another step's"
        (newer / "elsewhere").write_bytes(whole[name])
        file.unlink()
        file.symlink_to("elsewhere")
        yield f"{name} a link to the same contents"
        file.unlink()
        os.mkfifo(file)
        yield f"{name} a pipe"
        file.unlink()
        file.mkdir()
        yield f"{name} a folder"
    for name in FILES:
        (newer / name).write_bytes(b"")
    yield "all files empty"
    for name in FILES:
        (newer / name).write_bytes(bytes(len(whole[name])))
    yield "all files NUL"
    for name in FILES:
        (newer / name).write_bytes((older / name).read_bytes())
    yield "all files of another step"
    (newer / "more.bin").write_bytes(b"x")
    yield "a file more"
    (newer / "more").mkdir()
    yield "a folder more"
    shutil.rmtree(newer)
    newer.symlink_to(older)
    yield "the folder a link to another step's"
    shutil.rmtree(newer)
    newer.write_bytes(b"x")
    yield "a file in the folder's place"
    shutil.rmtree(newer)
    os.mkfifo(newer)
    yield "a pipe in the folder's place"
