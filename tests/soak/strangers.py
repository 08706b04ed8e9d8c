"""Checkpoints and run folders of strangers: whatever they say, with right checksums, ends in one message or is true.

`check` changes values all over a checkpoint, makes its checksums right again, and resumes the run: it goes on, or ends
with exit code 2, 3 or 5 and a message, never with a traceback, and never outside its folder. Numbers in an object's
state that could be true and are not may make an update that is not finite, which is exit code 4.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from trainkit.cli import main

RECIPE = """\
recipe = 1
seed = 3
logger = []
[run]
duration = "4ep"
threads = 1
device = "cpu"
[data]
use = "synthetic"
samples = 48
features = [4]
batch_size = 8
[model]
use = "mlp"
widths = [4]
dropout = 0.1
[loss]
use = "cross_entropy"
[[metric]]
use = "accuracy"
[optimizer]
use = "adamw"
lr = 0.01
[schedule]
use = "cosine"
[[schedule.react]]
use = "plateau"
monitor = "val.loss"
[[callback]]
use = "ema"
decay = 0.9
"""
VALUES: list[Any] = [
    *(None, True, 0, -1, 1, 2**31, 2**62, 2**63, 2**70, -(2**70), 0.5, -1e308),
    *("", "x", "../../x", "\x00", "\u202e\x1b[2J", "__import__('os')", "os.system", "x" * 5000),
    *([], [[]], [1], ["a"], {}, {"a": 1}, {"names": ["x"]}, {"__reduce__": ["os.system", ["x"]]}),
    *({"__tensor__": "model/none"}, {"__tensor__": 3}, {"__tensor__": "random/torch"}),
    *({"__float__": "nan"}, {"__float__": "x"}, {"__float__": 1}),
]
SHAPES: list[Any] = [[], [0], [2**40, 0], [2**62], [-1], [2, 2], "x", None, [1.5], [True], [10**30], [1] * 100]
PLUGINS = (
    "state optimizer.",
    "state groups.",
    "state plugins.",
    "state bases.",
    "header optimizer",
    "header plugin",
    "byte",
)
FILES = ("tensors.safetensors", "state.json", "MANIFEST")


def seal(folder: Path, contents: dict[str, bytes] | None = None, **more: Any) -> None:
    """Write a manifest that fits the files, after writing those that are given."""
    for name, data in (contents or {}).items():
        (folder / name).write_bytes(data)
    files = {}
    for name in FILES[:2]:
        data = (folder / name).read_bytes()
        files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    step = int(folder.name.rpartition("-")[2])  # a manifest of another step is refused for that alone
    line = json.dumps({"files": files, "format": 1, "step": step, **more})
    (folder / "MANIFEST").write_text(f"{line}\n{hashlib.sha256(line.encode()).hexdigest()}\n", encoding="utf-8")


def tensor_file(header: dict[str, Any] | str, data: bytes) -> bytes:
    """A safetensors file with this header, true or not."""
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return len(text).to_bytes(8, "little") + text + data


def begin(home: Path) -> Path:
    """A run folder as one finds it after an interruption in the middle."""
    (home / "r.toml").write_text(RECIPE, encoding="utf-8")
    run = home / "run"
    with quiet() as said:
        code = main([str(home / "r.toml"), "run.duration=2ep", "--run-dir", str(run)])
    assert code == 0, said.getvalue()
    return run


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Keep what a command says."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        yield said


def check(count: int, seed: int) -> list[str]:
    """Resume a run from ``count`` checkpoints that lie, and say for each failure what was changed.

    Args:
        count: how many.
        seed: of the changes.
    """
    rng, failures = random.Random(seed), []
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        good = begin(home)
        before = {path.name for path in home.iterdir()} | {"victim"}
        for number in range(count):
            victim = home / "victim"
            shutil.rmtree(victim, ignore_errors=True)
            shutil.copytree(good, victim)
            for older in sorted((victim / "checkpoints").iterdir())[:-1]:
                shutil.rmtree(older)
            what = rng.choice(CHANGES)(rng, victim)
            with quiet() as said:
                code = main(["resume", str(victim), "run.duration=3ep", "run.on_length_change=rescale", "-q"])
            text = said.getvalue()
            refused = code in (0, 2, 3, 5) or (code == 4 and "not finite" in text and what.startswith(PLUGINS))
            wrong = not refused or "Traceback" in text or "trainkit defect" in text
            wrong = wrong or any(sign in text for sign in ("\x1b", "\u202e", "\x00"))
            if wrong or (code and not text.strip()):
                failures.append(f"seed {seed}, checkpoint {number}: {what}: exit code {code}: {text.strip()[:400]}")
            if strange := {path.name for path in home.iterdir()} - before:
                failures.append(f"seed {seed}, checkpoint {number}: {what}: wrote {sorted(strange)}")
    return failures


def _newest(run: Path) -> Path:
    return max((run / "checkpoints").iterdir())


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from _places(item, (*path, key))


def _state(rng: random.Random, run: Path) -> str:
    """Give a place in the state another value."""
    folder = _newest(run)
    state = json.loads((folder / "state.json").read_bytes())
    places = list(_places(state))
    # Each depth as likely as another: most places lie deep.
    depth = rng.choice(sorted({len(place) for place in places}))
    *way, last = rng.choice([place for place in places if len(place) == depth])
    node = state
    for part in way:
        node = node[part]
    if rng.random() < 0.15:
        del node[last]
        said = "gone"
    else:
        node[last] = rng.choice(VALUES)
        said = repr(node[last])[:60]
    seal(folder, {"state.json": json.dumps(state).encode()})
    return f"state {'.'.join(map(str, [*way, last]))} is {said}"


def _header(rng: random.Random, run: Path) -> str:
    """Let the header of the tensors say something else."""
    folder = _newest(run)
    data = (folder / "tensors.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    name = rng.choice(sorted(header))
    key = rng.choice(["dtype", "shape", "data_offsets", "name", "twice", "gone"])
    text = ""
    if key == "dtype":
        header[name][key] = rng.choice(["F64", "F8_E5M2", "U8", "I32", "object", "", None, "O", 3])
    elif key == "shape":
        header[name][key] = rng.choice(SHAPES)
    elif key == "data_offsets":
        header[name][key] = rng.choice([[0, 8], [8, 0], [0, 2**60], [-8, 0], [0], "x", [2**63, 2**63], [0.0, 8.0]])
    elif key == "name":
        header[rng.choice(["", "model/none", "\x1b[2J", "../../x", "x" * 5000])] = header.pop(name)
    elif key == "twice":
        text = json.dumps(header)[:-1] + f", {json.dumps(name)}: {json.dumps(header[name])}}}"
    else:
        del header[name]
    seal(folder, {"tensors.safetensors": tensor_file(text or header, data[8 + length :])})
    return f"header {name} {key}"


def _bytes(rng: random.Random, run: Path) -> str:
    """Change a byte of a file, with checksums made right again where there are any."""
    folder = _newest(run)
    name = rng.choice(FILES)
    data = bytearray((folder / name).read_bytes())
    place = rng.randrange(len(data))
    data[place] = rng.randrange(256)
    (folder / name).write_bytes(bytes(data[: rng.choice([len(data)] * 3 + [place])]))
    if name != "MANIFEST":
        seal(folder)
    return f"byte {place} of {name}"


def _kinds(rng: random.Random, run: Path) -> str:
    """Put something else in a file's place: a link, a pipe, a folder; or another file beside it."""
    folder = rng.choice([run, run / "checkpoints", _newest(run)])
    name = rng.choice(sorted([*os.listdir(folder), ".lock", ".spare", "extra", "curves.png"]))
    path = folder / name
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    match rng.randrange(5):
        case 0:
            path.symlink_to(run.parent / "stolen")
            return f"{name} is a link to a file that is not there"
        case 1:
            path.symlink_to("/etc")
            return f"{name} is a link to a folder"
        case 2:
            os.mkfifo(path)
            return f"{name} is a pipe"
        case 3:
            path.mkdir()
            return f"{name} is a folder"
        case _:
            path.write_bytes(b"\x80\x04\x95\x00.")
            return f"{name} is a pickle"


def _lines(rng: random.Random, run: Path) -> str:
    """Change a file of the run folder that is text."""
    name = rng.choice(["metrics.jsonl", "report.json", "environment.json", "best.json", "recipe.toml"])
    text = rng.choice(
        ["", "[]", "[[" * 9000, '{"a": ' * 9000, "\x00", "3\n", '{"step": "x"}\n', '{"split": "val"}\n', "\ud800"]
    )
    (run / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    return f"{name} is {text[:20]!r}"


CHANGES: list[Callable[[random.Random, Path], str]] = [_state, _state, _state, _header, _header, _bytes, _kinds, _lines]
