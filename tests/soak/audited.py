"""Recipes and checkpoints of strangers under `sys.addaudithook`: what Python itself says happened while they were used.

`check` starts a process, since a hook stays for ever. There, after one recipe of ours has warmed everything up, each
recipe is validated, filled, previewed and run, and lying checkpoints are resumed. No module may be imported but the
standard library, trainkit, its plugins and what they require; no text of a recipe compiled or executed; no process,
connection or pickle begun; nothing written outside the folder that was given; nothing secret opened.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PUBLISHED = re.compile(r'"(\w+:)?(mnist|fashion_mnist|cifar10|cifar100)"')
NEVER = (
    *("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty."),
    *("socket.", "pickle.find_class", "ctypes.dlopen", "webbrowser", "urllib"),
)
CHANGES = (
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.symlink",
    "os.link",
    "os.chmod",
    "os.truncate",
    "os.chown",
)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
SECRET = ("/etc/passwd", "/etc/shadow", "/dev/zero", "/dev/stdin", "/proc/self/environ", os.path.expanduser("~/.ssh"))


def check(count: int, seed: int) -> list[str]:
    """Use ``count`` recipes, and a quarter as many checkpoints, of strangers; say what happened that must not.

    Args:
        count: how many.
        seed: of the recipes.
    """
    code = "import json, sys; sys.path.insert(0, sys.argv[1]); from tests.soak import audited; audited.work()"
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, str(ROOT), str(count), str(seed)],
            cwd=place,
            env={
                **os.environ,
                "TRAINKIT_RUNS": "runs",
                "TRAINKIT_DATA": "",
                "TRAINKIT_CACHE": f"{place}/cache",
                "MPLCONFIGDIR": f"{place}/mpl",
            },
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        return [f"the process ended with {done.returncode}: {done.stderr[-2000:]}"]
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


class Watch:
    """Hears every event, and keeps those that must not be.

    Args:
        home: the only folder in which files may be changed.
        modules: top-level modules that may be imported.
    """

    def __init__(self, home: str, modules: set[str]) -> None:
        self.home, self.modules = home + os.sep, modules
        self.doing = ""
        self.writable = ""
        self.found: list[str] = []

    def __call__(self, event: str, given: tuple[Any, ...]) -> None:
        if self.doing and (wrong := self.wrong(event, given)):
            self.found.append(f"{self.doing}: {event} {wrong[:300]}")

    def wrong(self, event: str, given: tuple[Any, ...]) -> str:
        """What is wrong with an event, if something is."""
        from tests.soak.recipes import MARK

        if event.startswith(NEVER):
            return "" if (event, given) == ("ctypes.dlopen", (None,)) else repr(given)  # the program itself
        if event == "import":
            return "" if str(given[0]).split(".")[0] in self.modules else repr(given[0])
        if event == "compile":
            name = given[1] if isinstance(given[1], str) else repr(given[1])
            return repr(given) if MARK in repr(given[0]) or name.startswith(self.home) else ""
        if event == "exec":
            code = given[0]
            told = repr((getattr(code, "co_consts", ""), getattr(code, "co_names", "")))
            return told if MARK in told or str(getattr(code, "co_filename", "")).startswith(self.home) else ""
        if event == "open":
            return self.opened(*given)
        if event.startswith(CHANGES):
            made = given[1] if event in ("os.symlink", "os.link", "os.rename") else given[0]
            path = "" if isinstance(made, int) else os.path.join(os.getcwd(), os.fsdecode(made))
            return path if path and not path.startswith(self.home) else ""
        return ""

    def opened(self, path: Any, mode: Any, flags: Any) -> str:
        """What is wrong with a file that was opened."""
        if not isinstance(path, str | bytes):
            return ""
        target = os.path.realpath(os.fsdecode(path)) if b"\0" not in os.fsencode(path) else ""
        if target.startswith(SECRET):
            return f"reads {target}"
        writes = isinstance(flags, int) and flags & WRITES
        if writes and target != os.devnull and not (target + os.sep).startswith(self.home + self.writable):
            return f"writes {target}"
        return ""


def work() -> None:
    """What the process does: its arguments are the count and the seed; it prints a list as JSON."""
    count, seed = map(int, sys.argv[2:4])
    tempfile.tempdir = home = os.path.realpath(os.getcwd())
    from tests.soak import recipes, strangers
    from trainkit.cli import main

    recipes.furnish(Path(home))
    answered = []
    Path("ours.toml").write_text(recipes.to_toml(recipes.BASE), encoding="utf-8")
    for words in (
        ["run", "ours.toml", "--run-dir", "ours"],
        ["preview", "ours.toml", "--plot", "p.png"],
        ["run", "trainkit:mlp_digits", "--smoke"],
    ):
        with strangers.quiet() as said:
            assert main(words) == 0, said.getvalue()
    listed = list(recipes.texts(count, seed))
    watch = Watch(home, allowed())
    sys.addaudithook(watch)
    for number, (what, text) in enumerate(listed):
        Path("r.toml").write_bytes(text.encode("utf-8", "surrogatepass"))
        # A published data set is downloaded, which the recipe asks for by its name: no more than filled here.
        for verb in ("fill", "preview", "run") if not PUBLISHED.search(text) else ("fill",):
            watch.doing, watch.writable = (
                f"seed {seed}, recipe {number}, {verb}, {what}",
                f"run-{number}" * (verb == "run"),
            )
            limits = ["run.duration=2ba", "--run-dir", f"run-{number}"] if verb == "run" else []
            if verb != "fill" and "duration" not in text:
                limits = []
            with strangers.quiet() as said:
                code = main([verb, "r.toml", *limits])
            watch.doing = ""
            if code not in (0, 2, 3, 4, 5) and "plugin" not in said.getvalue():
                answered.append(
                    f"seed {seed}, recipe {number}, {verb}, {what}: exit code {code}: {said.getvalue()[:600]}"
                )
            if code:
                break
    watch.doing, watch.writable = f"seed {seed}, checkpoints", ""
    answered += strangers.check(count // 4, seed)
    watch.doing = ""
    answered += [f"a file was made: {path}" for path in Path(home).rglob(f"*{recipes.MARK}*")]
    print("\n" + json.dumps([*watch.found, *answered]))


def allowed() -> set[str]:
    """The standard library, and every top-level module of trainkit's distribution and of those that it requires."""
    wanted, seen = ["trainkit"], set[str]()
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            wanted += [re.split(r"[^A-Za-z0-9._-]", line)[0] for line in importlib.metadata.requires(name) or []]
        except importlib.metadata.PackageNotFoundError:
            continue
    owners = importlib.metadata.packages_distributions()
    ours = {top for top, names in owners.items() if any(re.sub(r"[-_.]+", "-", name).lower() in seen for name in names)}
    ours |= {entry.value.split(".")[0] for entry in importlib.metadata.entry_points(group="trainkit")}
    return ours | set(sys.stdlib_module_names) | {"trainkit", "tests"}
