"""The process that compiles while this one trains, as the one that trains sees it; `compile_child` is what it does."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path
from typing import Any

import torch

from trainkit.artefact import RESULT


class Compiler:
    """The process that compiles, in a folder of its own; it ends with this object, or with this process.

    Args:
        order: what it is told.

    Raises:
        OSError: if it cannot be started.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="trainkit-compile-"))
        (self.folder / "recipe.toml").write_text(order["text"], encoding="utf-8")
        told = {name: value for name, value in order.items() if name != "text"}
        told |= {"recipe": str(self.folder / "recipe.toml"), "process": os.getpid()}
        told |= {"threads": torch.get_num_threads(), "nice": 10}
        (self.folder / "order.json").write_text(json.dumps(told), encoding="utf-8")
        # -P: nothing is imported from the folder one stands in. What this process could import, the other can.
        path = os.pathsep.join(entry for entry in sys.path if entry)
        try:
            with open(self.folder / "said.txt", "wb") as said:
                # In a session of its own, Ctrl-C does not reach it: the run decides when it ends.
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "trainkit.compile_child", str(self.folder)],
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    # One file is compiled, for which a pool of compilers would only be started.
                    env={**os.environ, "PYTHONPATH": path, "TORCHINDUCTOR_COMPILE_THREADS": "1"},
                    start_new_session=True,
                )
        except OSError:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        self.close = weakref.finalize(self, _end, self._process, self.folder)

    def result(self) -> dict[str, Any] | None:
        """What it tells; ``None`` while it works.

        Raises:
            RuntimeError: if it could not compile, with the reason.
        """
        ended = self._process.poll() is not None
        with contextlib.suppress(FileNotFoundError):
            found: dict[str, Any] = json.loads((self.folder / RESULT).read_text(encoding="utf-8"))
            if "error" in found:
                raise RuntimeError(found["error"])
            return found
        if ended:
            said = (self.folder / "said.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise RuntimeError(f"the process that compiles ended: {said[-1] if said else 'it said nothing'}")
        return None


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    if process.poll() is None:
        # Its compilers are of its session.
        with contextlib.suppress(OSError):
            os.killpg(process.pid, 15)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2)
        if process.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, 9)
            process.wait()
    shutil.rmtree(folder, ignore_errors=True)
