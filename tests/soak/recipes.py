"""Recipes of strangers: each is answered with exit code 0, 2 or 3, soon, in one message, and never with a traceback.

Three sorts: a valid recipe with values, keys and lines changed; TOML made at random from the words of recipes; and
directed ones, in which every text names a module, a path, a device or a program.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainkit.cli import main
from trainkit.manager import Plugins

MARK = "zqmark"  # in every text that might be run; nothing may compile or write it
BASE: dict[str, Any] = {
    "recipe": 1,
    "seed": 3,
    "run": {"duration": "2ep", "threads": 1, "device": "cpu"},
    "data": {"use": "synthetic", "samples": 48, "features": [4], "batch_size": 8},
    "model": {"use": "mlp", "widths": [4]},
    "loss": {"use": "cross_entropy"},
    "metric": [{"use": "accuracy"}],
    "optimizer": {"use": "adamw", "lr": 0.01, "group": [{"match": "head.*", "lr_scale": 2.0}]},
    "schedule": {"use": "cosine", "warmup": "1ba", "react": [{"use": "plateau", "monitor": "val.loss"}]},
    "callback": [{"use": "clip_norm", "max_norm": 1.0}, {"use": "ema", "decay": 0.9}],
    "logger": [],
}
HOSTILE = (
    *("os.system", f"os:system:{MARK}", f"__import__('os').system('touch {MARK}')", f"trainkit:{MARK}"),
    *("builtins:exec", "torch.load", "trainkit_data.files:csv", "subprocess:Popen", "this", "antigravity"),
    *("__class__", "__init__.__globals__", "{0.__class__}", "%(HOME)s", "$HOME", f"${{oc.env:HOME}}{MARK}"),
    *(f"!!python/object/apply:os.system ['touch {MARK}']", f"lambda: {MARK}", f"eval({MARK})"),
    *(f"; touch {MARK}", f"$(touch {MARK})", f"`touch {MARK}`", f"| touch {MARK}"),
    *("../../../../etc/passwd", "/etc/passwd", "~/.ssh/id_rsa", "~nobody-at-all/x", "..", "/", "", "."),
    *("/dev/zero", "/dev/stdin", "/proc/self/environ", "pipe", "link", "a\x00b", "x" * 5000, "NUL"),
    *("file:///etc/passwd", "http://127.0.0.1:9/x.toml", "git+https://x/y.git", "\\\\host\\share"),
    *("\x1b[2J\x1b]0;x\x07", "\u202etxt.exe", "1e400", "999999999999ep", "0.0000001ep", "-1ep"),
)
ODD = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2**31,
    2**62,
    1e-300,
    1e300,
    -0.5,
    [],
    [[]],
    {},
    {"use": "sgd"},
    [1, "a"],
    ["a"] * 50,
)


def to_text(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return '""'
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=True).replace("\\ud", "?")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(to_text, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {to_text(item)}" for key, item in value.items()) + "}"
    return repr(value)


def to_toml(tables: dict[str, Any]) -> str:
    """Tables as TOML, one line for each key of the top."""
    return "".join(f"{json.dumps(key)} = {to_text(value)}\n" for key, value in tables.items())


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def changed(rng: random.Random, known: dict[str, list[Any]]) -> dict[str, Any]:
    """The valid recipe with up to four places changed, with the components and settings that are installed."""
    tables = json.loads(json.dumps(BASE))
    for _ in range(rng.randint(1, 4)):
        *way, last = rng.choice(list(places(tables)))
        node = tables
        for part in way:
            node = node[part]
        match rng.randrange(6):
            case 0:
                del node[last]
            case 1:
                node[last] = rng.choice(ODD)
            case 2:
                node[last] = rng.choice(HOSTILE)
            case 3 if isinstance(node, dict):
                node[rng.choice([*HOSTILE, "use", "match", "path", "import", "lr"])] = rng.choice([*HOSTILE, *ODD])
            case _:
                kind = rng.choice(sorted(set(known) & set(tables)) or ["model"])
                component = rng.choice(known[kind])
                table = {"use": component.name, **component.example}
                settings = [setting for setting in component.settings if rng.random() < 0.3]
                table |= {setting.name: rng.choice([*HOSTILE, *ODD]) for setting in settings}
                table = json.loads(json.dumps(table, default=str))
                tables[kind] = [table] if isinstance(tables.get(kind), list) else table
    return tables


def invented(rng: random.Random) -> str:
    """TOML that is no recipe but has its words."""
    words = [
        *BASE,
        "use",
        "extends",
        "drop",
        "requires",
        "search",
        "ensemble",
        "lr",
        "group",
        "also",
        "x.y",
        '""',
        '"a b"',
    ]
    lines = []
    for _ in range(rng.randint(0, 30)):
        match rng.randrange(5):
            case 0:
                lines.append(f"[{'.'.join(rng.choices(words, k=rng.randint(1, 3)))}]")
            case 1:
                lines.append(f"[[{rng.choice(words)}]]")
            case _:
                lines.append(f"{rng.choice(words)} = {to_text(rng.choice([*HOSTILE, *ODD]))}")
    return "\n".join(lines)


def directed() -> Iterator[tuple[str, str]]:
    """A recipe for each hostile text at each place that takes text: what it is, and the recipe."""
    spots = [path for path in places(BASE) if isinstance(_at(BASE, path), str)] + [
        ("extends",),
        ("requires",),
        ("drop",),
    ]
    for spot in spots:
        for text in HOSTILE:
            tables = json.loads(json.dumps(BASE))
            node = tables
            for part in spot[:-1]:
                node = node[part]
            node[spot[-1]] = [text] if spot[-1] in ("requires", "drop") else text
            yield f"{'.'.join(map(str, spot))} = {text[:40]!r}", to_toml(tables)
    for use, key in (
        ("csv", "path"),
        ("csv", "val_path"),
        ("arrays", "path"),
        ("arrays", "targets"),
        ("image_folder", "path"),
    ):
        for text in HOSTILE:
            table = {"use": use, "path": "x.csv", key: text} | ({"target": "y"} if use == "csv" else {})
            yield f"{use} {key} = {text[:40]!r}", to_toml(BASE | {"data": table})


def _at(tables: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        tables = tables[part]
    return tables


def furnish(folder: Path) -> None:
    """Put what hostile recipes look for into the folder that one stands in."""
    if not (folder / "pipe").exists():
        os.mkfifo(folder / "pipe")
        (folder / "link").symlink_to("/etc/passwd")
        (folder / "link.toml").symlink_to("/etc/passwd")
        (folder / "x.csv").write_text("a,y\n1,2\n" * 40, encoding="utf-8")


def texts(count: int, seed: int) -> Iterator[tuple[str, str]]:
    """``count`` recipes: a third directed, the rest made at random."""
    rng = random.Random(seed)
    plugins = Plugins()
    plugins.load()
    known: dict[str, list[Any]] = {}
    for plugin in plugins.plugins:
        for component in plugin.components:
            known.setdefault(component.kind, []).append(component)
    listed = list(directed())
    for number in range(count):
        match number % 3:
            case 0:
                yield rng.choice(listed)
            case 1:
                yield "changed", to_toml(changed(rng, known))
            case _:
                yield "invented", invented(rng)


def check(count: int, seed: int) -> list[str]:
    """Validate or fill ``count`` recipes, and say for each failure which one.

    Args:
        count: how many.
        seed: of the recipes.
    """
    failures = []
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        try:
            furnish(Path(place))
            for number, (what, text) in enumerate(texts(count, seed)):
                Path("r.toml").write_bytes(text.encode("utf-8", "surrogatepass"))
                verb = ("fill", "validate")[number // 3 % 2]
                said = answer([verb, "r.toml"])
                if said.startswith("took"):  # what the process did for others meanwhile, such as looking for garbage
                    said = answer([verb, "r.toml"])
                if said:
                    failures.append(f"seed {seed}, recipe {number}, {verb}, {what}: {said}\n{text[:1500]}")
        finally:
            os.chdir(before)
    return failures


def answer(words: list[str]) -> str:
    """Run a command; what is wrong with its answer, or nothing."""
    out, err = io.StringIO(), io.StringIO()
    start, size = time.process_time(), _resident()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    seconds, grown = time.process_time() - start, _resident() - size
    text = err.getvalue()
    if code not in (0, 2, 3):
        return f"exit code {code}: {text[:600]}"
    if "Traceback" in text or "defect" in text or (code and not text.strip()):
        return f"exit code {code}: {text[:600]}"
    if any(sign in text + out.getvalue() for sign in ("\x1b", "\u202e", "\x00", "\x07")):
        return f"shows control characters: {text[:600]!r}"
    if seconds > 2 or grown > 200 * 2**20:
        return f"took {seconds:.1f} s and {grown / 2**20:.0f} MB"
    return ""


def _resident() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
