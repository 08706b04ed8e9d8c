"""What happens while plugins are imported and list their components, seen by a process of its own.

Python tells a hook of what is opened, started and connected to. Of what other libraries do when a plugin imports them,
only what leaves the process counts: writing, processes, threads, network.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

# What a plugin may not do at import, by the beginning of the event's name.
_ALWAYS = {
    "socket.connect": "connects to the network",
    "socket.bind": "opens a port",
    "socket.getaddrinfo": "asks the network for an address",
    "socket.gethostbyname": "asks the network for an address",
    "socket.sendto": "sends to the network",
    "urllib.Request": "connects to the network",
    "subprocess.Popen": "starts a process",
    "os.system": "starts a process",
    "os.fork": "starts a process",
    "os.posix_spawn": "starts a process",
    "_thread.start_new_thread": "starts a thread",
    "os.mkdir": "makes a folder",
    "os.remove": "removes a file",
    "os.rename": "renames a file",
    "os.rmdir": "removes a folder",
}
_BY_ITSELF = {
    "os.listdir": "lists a folder",
    "os.scandir": "lists a folder",
    "os.chdir": "changes the working directory",
    "os.putenv": "changes the environment",
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND


@functools.cache
def found_at_import(modules: tuple[str, ...]) -> dict[str, list[str]]:
    """What plugins do when they are imported and asked for their components, and should not.

    Args:
        modules: the modules of their entry points; one process imports them all, in this order.

    Returns:
        By module, such as ``opens labels.txt (my_lab.py:12)``; none where it does nothing.
    """
    with tempfile.TemporaryDirectory(prefix="trainkit-import-") as folder:
        answer = Path(folder) / "found.json"
        code = "import sys; from trainkit.testing.importing import _watch; _watch(sys.argv[1], sys.argv[2:])"
        # -B: Python's own writing of compiled modules is not the plugin's.
        done = subprocess.run(
            [sys.executable, "-B", "-c", code, str(answer), *modules],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
        if not answer.is_file():
            raise AssertionError(f"the process that imports {', '.join(modules)} ended: {done.stderr[-2000:]}")
        found: dict[str, list[str]] = json.loads(answer.read_text(encoding="utf-8"))
        return found


def _watch(answer: str, modules: Sequence[str]) -> None:
    """Import modules and write what they did; of the process that `found_at_import` starts."""
    from trainkit.errors import PluginError
    from trainkit.hooking import Asked
    from trainkit.plugin import Plugin, load_plugin

    Asked()  # what is made once is made before anything is watched
    seen = _Seen()
    sys.addaudithook(seen)
    threading.Thread.start = _noted(seen, threading.Thread.start)  # type: ignore[assignment, method-assign]
    found: dict[str, list[str]] = {}
    for module in modules:
        with tempfile.TemporaryFile() as printed:
            kept = [os.dup(stream) for stream in (1, 2)]
            for stream in (1, 2):
                os.dup2(printed.fileno(), stream)
            threads, cuda = threading.active_count(), _cuda()
            seen.begin(module)
            try:
                load_plugin(Plugin(module, module, module, ""))
            except PluginError as error:
                seen.found.append(str(error))
            seen.package = ""
            sys.stdout.flush()
            sys.stderr.flush()
            for stream, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, stream)
                os.close(copy)
            printed.seek(0)
            text = printed.read().decode(errors="replace").strip()
        if text:
            seen.found.append(f"prints {text.splitlines()[-1]!r}")
        if threading.active_count() > threads and not any("thread" in line for line in seen.found):
            seen.found.append("starts a thread")
        if _cuda() and not cuda:
            seen.found.append("begins to use CUDA")
        found[module] = list(dict.fromkeys(seen.found))
    Path(answer).write_text(json.dumps(found), encoding="utf-8")


def _noted(seen: _Seen, start: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    """`threading.Thread.start`, which Python 3.11 tells no hook of."""

    def noted(thread: threading.Thread) -> None:
        seen("_thread.start_new_thread", ())
        start(thread)

    return noted


def _cuda() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


class _Seen:
    """Python's audit hook: remembers what the package that is being imported does."""

    def __init__(self) -> None:
        self.package = ""
        self.found: list[str] = []

    def begin(self, module: str) -> None:
        self.found = []
        self.package = module.partition(".")[0]

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.package:
            return
        does = _ALWAYS.get(event) or _BY_ITSELF.get(event)
        everyone = event in _ALWAYS
        if event == "open":
            path, mode, flags = args
            if isinstance(path, int):  # a descriptor that is open already
                return
            everyone = any(letter in (mode or "") for letter in "wax+") or bool((flags or 0) & _WRITING)
            does = f"writes {path}" if everyone else f"opens {path}"
        if does is None:
            return
        package, self.package = self.package, ""  # nothing that is done here counts
        try:
            # 0 is this frame, 1 that of what Python does.
            place = _place(sys._getframe(1), package, not everyone)
            if place is not None:
                self.found.append(f"{does} ({place})")
        finally:
            self.package = package


def _place(frame: FrameType | None, package: str, by_itself: bool) -> str | None:
    """The innermost line of the package on the stack; ``None`` if there is none.

    Args:
        frame: where to begin.
        package: the package.
        by_itself: whether what an import does on the way to it does not count.
    """
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if by_itself and name.startswith("importlib.") and "_bootstrap" in name:
            return None
        if name.partition(".")[0] == package:
            return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
        frame = frame.f_back
    return None
