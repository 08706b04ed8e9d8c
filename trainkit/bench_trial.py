"""One process of ``trainkit bench``: times updates of one contender, as often as the process that started it asks.

It is told by lines of JSON on standard input, and answers each by one on standard output; what plugins and runs say
goes to standard error.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from trainkit.build import Built, build
from trainkit.errors import Exit, RecipeError, TrainkitError
from trainkit.hookspecs import hookimpl
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.means import MEANS, Window
from trainkit.protocols import silent
from trainkit.raw_loop import RawLoop
from trainkit.recipe import Recipe, load_recipe
from trainkit.run import Run


class Clock:
    """CPU and wall seconds between the first and the second time that it is asked."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, float]] = []

    def mark(self) -> None:
        """Take the time, when the device is done."""
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
        self.marks.append((time.process_time(), time.perf_counter()))

    def seconds(self, updates: int) -> dict[str, float]:
        """What passed, and in how many updates."""
        (cpu, wall), (cpu_end, wall_end) = self.marks
        return {"cpu": cpu_end - cpu, "wall": wall_end - wall, "updates": updates}


class Stopwatch:
    """A listener that times a run's updates and then ends it."""

    stateless = True

    def __init__(self, warm: int, updates: int) -> None:
        self.start, self.updates = warm, updates
        self.clock = Clock()
        self.made = 0

    @hookimpl(trylast=True)
    def trainkit_step_end(self, run: Run) -> None:
        """Take the time after the update that the window begins with, and after its last one.

        Where several updates are made at a call, both are put off to the next end of a call, but not past the run's.
        """
        if not self.clock.marks:
            if run.position >= self.start:
                self.start = run.position
                self.clock.mark()
        elif run.position >= min(self.start + self.updates, run.total_updates) and run.stop_reason is None:
            self.clock.mark()
            self.made = run.position - self.start
            # As a signal would: the test is not measured.
            run.stop_reason, run.interrupted = "timed", True


class Contender:
    """What is timed in this process.

    Args:
        told: ``recipe``: its file; ``changes``: values set in it; ``modules``, ``without``: of the command line;
            ``raw``: whether the plain loop is meant; ``folder``: where runs may be written.
    """

    def __init__(self, told: Mapping[str, Any]) -> None:
        self.plugins = Plugins(told["modules"], told["without"])
        self.told = told
        self.folder = Path(told["folder"]) / "run"
        self._loop: RawLoop | None = None

    def _recipe(self) -> Recipe:
        # What is timed is one process, as the raw loop is.
        return load_recipe(self.told["recipe"], [*self.told["changes"], "run.processes=1"], self.plugins)

    def _built(self) -> tuple[Recipe, Built]:
        recipe = self._recipe()
        return recipe, build(recipe, self.plugins, self.folder, silent)

    def facts(self) -> dict[str, Any]:
        """What the plan of the rounds needs, and where they are made."""
        _, self.built = self._built()
        run = self.built.run
        device = torch.cuda.get_device_name(run.device) if run.device.type == "cuda" else _processor()
        return {
            "total": run.total_updates,
            "per_epoch": run.clock.updates_per_epoch,
            # The first full call of a compiled step compiles, and may come in the second epoch.
            "warm_epochs": 1 if run.recipe["run"]["compile"] is False else 2,
            "cuda": run.device.type == "cuda",
            "machine": {
                "device": device,
                "processors": os.cpu_count(),
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
                "python": platform.python_version(),
                "precision": run.precision.name,
            },
        }

    def means(self, warm: int, updates: int) -> list[str]:
        """The keys of the means that do anything within these updates."""
        window = Window(self.built, warm, updates)
        active = [mean.key for mean in MEANS if mean.active(window)]
        del self.built
        return active

    def round(self, warm: int, updates: int) -> dict[str, Any]:
        """Time updates once."""
        if self.told["raw"]:
            return self._raw_round(warm, updates)
        watch = Stopwatch(warm, updates)
        try:
            launch(self._recipe(), self.plugins, folder=self.folder, listeners=[watch])
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
            gc.collect()  # the parts of a run refer to each other, and other contenders need the memory
            if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                torch.cuda.empty_cache()
        if not watch.made:
            raise TrainkitError(f"the run ended before its update {watch.start + updates}: the recipe stopped it")
        return watch.clock.seconds(watch.made)

    def _raw_round(self, warm: int, updates: int) -> dict[str, Any]:
        if self._loop is None:
            self._loop = RawLoop(*self._built())
        clock = Clock()
        self._loop.train(warm, updates, clock.mark)
        return {**clock.seconds(updates), "notes": self._loop.notes}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(found, platform.machine())


def answer(work: Callable[[], Any]) -> dict[str, Any]:
    """What the work gives, or its failure in words and as an exit code."""
    try:
        return {"gave": work()}
    except RecipeError as error:
        said = "\n".join(str(problem) for problem in error.problems)
        return {"failed": said, "exit": int(error.exit_code)}
    except TrainkitError as error:
        return {"failed": str(error), "exit": int(error.exit_code)}
    except MemoryError as error:
        return {"failed": f"out of memory: {error}", "exit": int(Exit.FAILED)}
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}", "exit": int(Exit.DEFECT)}


def main() -> None:
    """Answer until nothing more is asked."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1) as out:
        os.dup2(2, 1)  # what a plugin prints is no answer
        sys.stdout = sys.stderr
        contender = Contender(json.loads(sys.stdin.readline()))
        for line in sys.stdin:
            name, arguments = json.loads(line)
            work = getattr(contender, name)
            out.write(json.dumps(answer(lambda: work(*arguments))) + "\n")  # noqa: B023 - called at once


if __name__ == "__main__":
    main()
