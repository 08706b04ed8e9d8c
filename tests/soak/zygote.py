"""A process that has made a run once and forks a child for each job, so that a run costs a tenth of a second.

`Zygote` starts it and talks with it: one line of JSON for each job, one for each answer. Children are killed, die by
themselves, or end; whoever started them asks for their exit code.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

ROOT = Path(__file__).parents[2]


class Zygote:
    """The process, seen from outside; within another one that is open, that one's."""

    _open: ClassVar[list[Zygote]] = []

    def __enter__(self) -> Zygote:
        if self._open:
            return self._open[0]
        self._open.append(self)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.zygote"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        return self

    def __exit__(self, *error: object) -> None:
        if self not in self._open:
            return
        self._open.remove(self)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()

    def _ask(self, question: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the process that starts runs has ended")
        return json.loads(answer)

    def start(self, words: list[str], **faults: Any) -> int:
        """Start ``trainkit`` with these words, and say its process.

        Args:
            words: the command line.
            faults: what `tests.soak.faults.arm` takes, ``log``, the file that takes what it says, ``environment``,
                variables that the process has beside those of this one, and ``module``, which is run instead.
        """
        return int(self._ask({"words": words, "faults": faults}))

    def wait(self, process: int) -> int:
        """The exit code of a process that `start` gave; negative for a signal."""
        return int(self._ask({"wait": process}))

    def wait_within(self, process: int, seconds: float) -> int | None:
        """As `wait`; ``None`` where it has not ended in so many seconds."""
        code = self._ask({"wait": process, "seconds": seconds})
        return None if code is None else int(code)

    def run(self, words: list[str], **faults: Any) -> int:
        """Start and wait."""
        return self.wait(self.start(words, **faults))


def child(words: list[str], faults: dict[str, Any]) -> int:
    """What a forked child does."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(faults.pop("environment", {}))
    number = os.open(faults.pop("log", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(number, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    faulthandler.register(signal.SIGUSR1)  # where it stands, for a process that does not end
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    from tests.soak.faults import arm
    from trainkit.cli import main

    if module := faults.pop("module", ""):
        sys.argv[1:] = words
        runpy.run_module(module, run_name="__main__")
        return 0
    seconds = faults.pop("seconds", "")
    with arm(**faults):
        begun, worked = time.perf_counter(), time.process_time()
        if "WORLD_SIZE" in os.environ:  # one of a group is a process of its own, with its words
            sys.argv[1:] = words
        code = main(None if "WORLD_SIZE" in os.environ else words)
        took = time.perf_counter() - begun, time.process_time() - worked
    if seconds:
        Path(seconds).write_text(f"{took[0]} {took[1]}", encoding="utf-8")
    return code


def _ended(process: int, seconds: float | None) -> int | None:
    """The exit code of a child, waiting for its end, or for so long."""
    if seconds is None:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    deadline = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            return None
        time.sleep(0.005)


def warm() -> None:
    """Make a run: more than half of what a short one takes is imports, which children then have."""
    from tests.soak.jobs import RECIPE
    from trainkit.cli import main

    with tempfile.TemporaryDirectory(prefix="soak-warm-") as top:
        recipe = Path(top) / "job.toml"
        text = RECIPE.format(duration="1ep", save_every="5ba", background="true", loading="resident", workers=0)
        recipe.write_text(text, encoding="utf-8")
        if code := main([str(recipe), "--run-dir", str(Path(top) / "run"), "-q"]):
            raise RuntimeError(f"the first run ended with {code}")


def serve() -> None:
    """Answer until the input ends."""
    import torch

    import tests.soak.faults  # noqa: F401 - so that children have it

    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    warm()
    for line in sys.stdin:
        question = json.loads(line)
        if "wait" in question:
            code = _ended(question["wait"], question.get("seconds"))
            answers.write(f"{json.dumps(code)}\n")
            continue
        if (process := os.fork()) == 0:
            code = 70
            with contextlib.suppress(BaseException):
                code = child(question["words"], question["faults"])
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        answers.write(f"{process}\n")


if __name__ == "__main__":
    serve()
