"""G3: a checkpoint whose save had come back survives the loss of power.

A run's I/O is recorded. Then the power fails after any of its calls: of what was not made durable, in files and in
folders, any part may be on the disk: a write is there, is not, is torn, or has left zeros; a name is there or is not.

Source: LevelDB's ``fault_injection_test``, and Pillai et al. 2014, "All File Systems Are Not Created Equal", OSDI.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.soak.jobs import Home
from tests.soak.zygote import Zygote
from trainkit import CheckpointError, checkpoint


def check(count: int, seed: int, fsync: bool = True) -> list[str]:
    """Look at ``count`` states that a loss of power may leave, of runs with and without a thread that saves.

    Every hundredth is gone on with, and must end like the uninterrupted run.

    Args:
        count: states.
        seed: what they are drawn with.
        fsync: whether the runs make anything durable; without it, checkpoints must be found lost.
    """
    failures: list[str] = []
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="soak-power-") as top, Zygote() as zygote:
        for background in (True, False):
            home = Home(Path(top) / str(background), zygote, background, duration="2ep", save_every="2ba")
            log = home.path / "io.json"
            code = home.run("recorded", power={"path": str(log), "root": str(home.path / "recorded"), "fsync": fsync})
            events = json.loads(log.read_text(encoding="utf-8"))
            saved = sum(event[0] == "ack" for event in events)
            if code or saved < 5:
                failures.append(f"the recorded run ended with {code} after {saved} saves:\n{home.told('recorded')}")
                continue
            metrics = (home.path / "recorded" / "metrics.jsonl").read_bytes()
            for number in range(-(-count // 2)):
                cut = rng.randrange(len(events) + 1)
                left = home.path / "left"
                acknowledged = _leave(events[:cut], left, rng)
                where = f"{background}: cut after {cut} of {len(events)} calls"
                if problem := _lost(left, acknowledged, metrics):
                    failures.append(f"{where}: {problem}")
                elif fsync and number % 50 == 0:
                    code = home.run("left")
                    if code not in (0, 2):  # 2: it was over, and its report there
                        failures.append(f"{where}: going on ended with {code}:\n{home.told('left')[-600:]}")
                    elif difference := home.differs("left", tidied=not code):
                        failures.append(f"{where}: {difference}")
                shutil.rmtree(left, ignore_errors=True)
    return failures


def _lost(left: Path, acknowledged: int, metrics: bytes) -> str:
    """What is lost of what was promised."""
    parent = left / "checkpoints"
    try:
        folder, _, state = checkpoint.load_newest(parent)
    except CheckpointError as error:
        if acknowledged >= 0:
            return f"the checkpoint at {acknowledged} was acknowledged, and none loads: {error}"
        named = [path.name for path in checkpoint.newest_first(parent)]
        return f"{named} are there and none loads" if named else ""
    if state["step"] < acknowledged:
        return f"the checkpoint at {acknowledged} was acknowledged, the newest that loads is {folder.name}"
    size = state["metrics_bytes"]
    file = left / "metrics.jsonl"
    known = file.read_bytes()[:size] if file.exists() else b""
    return "" if known == metrics[:size] else f"{folder.name} counts on lines of metrics.jsonl that are lost"


# ---------------------------------------------------------------- what happened


@contextlib.contextmanager
def record(path: str, root: str, fsync: bool = True) -> Iterator[None]:
    """Write down what this process does to the disk below ``root``, as JSON into ``path``."""
    from trainkit.rundir import RunFolder
    from trainkit.saving import Saver

    events: list[list[Any]] = []
    lock = threading.RLock()
    real = {name: getattr(os, name) for name in ("open", "write", "fsync", "rename", "replace", "mkdir", "unlink")}
    real |= {name: getattr(os, name) for name in ("rmdir", "ftruncate", "close")}
    opened: dict[int, str] = {}

    def inside(name: Any) -> str | None:
        """The path below the root's parent, or nothing."""
        text = os.path.abspath(os.fspath(name))
        return text if text == root or text.startswith(root + os.sep) else None

    def mine(name: str) -> Any:
        def call(*args: Any, **named: Any) -> Any:
            with lock:
                return _record(name, *args, **named)

        return call

    def _record(name: str, *args: Any, **named: Any) -> Any:
        if name == "open":
            made = args[1] & os.O_CREAT and not os.path.lexists(args[0])
            number = real["open"](*args, **named)
            if "dir_fd" not in named and (at := inside(args[0])):
                opened[number] = at
                if made:
                    events.append(["create", at])
            return number
        if name == "close":
            opened.pop(args[0], None)
            return real["close"](*args)
        if name in ("write", "ftruncate", "fsync"):
            number = args[0]
            at = opened.get(number)
            if at is None:
                return real[name](*args)
            if name == "write":
                offset = os.lseek(number, 0, os.SEEK_CUR)
                written = real["write"](*args)
                events.append(["write", at, offset, _text(bytes(args[1])[:written])])
                return written
            if name == "ftruncate":
                events.append(["truncate", at, args[1]])
            elif not fsync:
                return None
            elif os.path.isdir(at):
                events.append(["fsyncdir", at])
            else:
                with open(at, "rb") as file:
                    events.append(["fsync", at, _text(file.read())])
            return real[name](*args)
        result = real[name](*args, **named)
        if "dir_fd" not in named and (at := inside(args[0])):
            events.append([{"replace": "rename", "rmdir": "unlink"}.get(name, name), at])
            if name in ("rename", "replace"):
                events[-1].append(os.path.abspath(os.fspath(args[1])))
        return result

    write, metrics = Saver._write, RunFolder.metrics

    def acknowledged(saver: Any, job: Any) -> None:
        write(saver, job)
        with lock:
            events.append(["ack", job.step])

    def appended(folder: Any, line: Any) -> None:
        with lock:
            before = folder.lines.bytes
            metrics(folder, line)
            at = os.fspath(folder.path / "metrics.jsonl")
            with open(at, "rb") as file:
                file.seek(before)
                events.append(["write", at, before, _text(file.read())])

    for name in real:
        setattr(os, name, mine(name))
    Saver._write = acknowledged  # type: ignore[method-assign]
    RunFolder.metrics = appended  # type: ignore[method-assign]
    try:
        yield
    finally:
        Saver._write, RunFolder.metrics = write, metrics  # type: ignore[method-assign]
        for name, function in real.items():
            setattr(os, name, function)
        below = os.path.dirname(root) + os.sep
        cut = [[e[0], *(x.removeprefix(below) if isinstance(x, str) else x for x in e[1:])] for e in events]
        Path(path).write_text(json.dumps(cut), encoding="utf-8")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


# ---------------------------------------------------------------- what may be left


class _File:
    """A file: what is durable, and what was written since."""

    def __init__(self) -> None:
        self.durable = b""
        self.pending: list[list[Any]] = []

    def left(self, rng: random.Random, keep: float) -> bytes:
        """What may be on the disk."""
        data = bytearray(self.durable)
        for kind, *rest in self.pending:
            if rng.random() > keep:
                continue
            if kind == "truncate":
                length = rest[0]
                data = data[:length] + bytes(max(0, length - len(data)))
                continue
            offset, new = rest
            fate = rng.random()
            if fate < 0.2:
                new = new[: rng.randint(0, len(new))]  # torn
            elif fate < 0.4:
                new = bytes(len(new))  # the length has become durable, the contents have not
            data += bytes(max(0, offset + len(new) - len(data)))
            data[offset : offset + len(new)] = new
        return bytes(data)


class _Folder:
    """A folder: its durable names, and changes of names since."""

    def __init__(self) -> None:
        self.now: dict[str, Any] = {}
        self.durable: dict[str, Any] = {}
        self.pending: list[dict[str, Any]] = []

    def change(self, change: dict[str, Any]) -> None:
        """Names that get another meaning, or none, in one step."""
        self.pending.append(change)
        self._apply(self.now, change)

    def sync(self) -> None:
        """Make every name durable."""
        self.durable, self.pending = dict(self.now), []

    def left(self, rng: random.Random, keep: float) -> dict[str, Any]:
        """The names that may be on the disk."""
        names = dict(self.durable)
        for change in self.pending:
            if rng.random() <= keep:
                self._apply(names, change)
        return names

    @staticmethod
    def _apply(names: dict[str, Any], change: dict[str, Any]) -> None:
        for name, thing in change.items():
            if thing is None:
                names.pop(name, None)
            else:
                names[name] = thing


def _leave(events: list[list[Any]], where: Path, rng: random.Random) -> int:
    """Make a folder as a loss of power after these events may leave it; the last acknowledged step, or -1."""
    top, acknowledged = _Folder(), -1

    def find(path: str) -> Any:
        thing: Any = top
        for part in Path(path).parts:
            thing = thing.now[part]
        return thing

    def home(path: str) -> _Folder:
        found = find(str(Path(path).parent)) if len(Path(path).parts) > 1 else top
        assert isinstance(found, _Folder)
        return found

    for kind, *rest in events:
        if kind == "ack":
            acknowledged = rest[0]
            continue
        path = rest[0]
        name = Path(path).name
        if kind == "mkdir":
            home(path).change({name: _Folder()})
            if home(path) is top:
                top.sync()  # the folder of runs is not this run's care, but that its own name is durable is seen below
        elif kind == "create":
            home(path).change({name: _File()})
        elif kind == "write":
            find(path).pending.append(["write", rest[1], base64.b64decode(rest[2])])
        elif kind == "truncate":
            find(path).pending.append(["truncate", rest[1]])
        elif kind == "fsync":
            file = find(path)
            file.durable, file.pending = base64.b64decode(rest[1]), []
        elif kind == "fsyncdir":
            find(path).sync()
        elif kind == "rename":
            assert Path(path).parent == Path(rest[1]).parent
            home(path).change({name: None, Path(rest[1]).name: find(path)})
        elif kind == "unlink":
            home(path).change({name: None})
    keep = rng.choice((0.0, 0.2, 0.5, 0.8, 1.0))

    def put(folder: _Folder, at: Path) -> None:
        at.mkdir()
        for name, thing in folder.left(rng, keep).items():
            if isinstance(thing, _Folder):
                put(thing, at / name)
            else:
                (at / name).write_bytes(thing.left(rng, keep))

    shutil.rmtree(where, ignore_errors=True)
    if "recorded" in top.now:
        put(top.now["recorded"], where)
    return acknowledged
