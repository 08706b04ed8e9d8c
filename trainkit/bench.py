"""``trainkit bench``: a recipe beside its plain PyTorch loop, and with each means of speed switched off."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainkit.bench_table import RAW, Bench, Row
from trainkit.errors import Exit, RunError, UsageError
from trainkit.means import MEANS, Mean
from trainkit.protocols import Progress
from trainkit.recipe import Recipe, fill_toml

# Loggers write at the end of a run, and to places that a measurement has no business with.
CHANGES = ("logger=[]",)
WARM = 2  # updates before those that are timed, where they do not make whole epochs
SECONDS = 1.0  # that a round is to take
TRIED = 8  # updates by which its length is found at first
LEAST, MOST = 3, 5000  # updates of a round


class Failed(Exception):
    """A contender cannot be timed; its exit code as `trainkit.errors.Exit` has them."""

    def __init__(self, said: str, code: int) -> None:
        super().__init__(said)
        self.code = code


class Worker:
    """A process that times one contender.

    Args:
        told: see `trainkit.bench_trial.Contender`.
    """

    def __init__(self, told: dict[str, Any]) -> None:
        folder = Path(told["folder"])
        folder.mkdir()
        self._said = folder / "said.txt"
        # -P: nothing is imported from the folder one stands in. What this process could import, the child can.
        path = os.pathsep.join(entry for entry in sys.path if entry)
        # What torch writes into the folder of temporary files, such as compiled programs, goes with the rest.
        environment = {**os.environ, "PYTHONPATH": path, "TMPDIR": str(folder.parent)}
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "trainkit.bench_trial"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                env=environment,
                process_group=0 if os.name == "posix" else None,  # with its data workers, which end with it
            )
        self._send(told)

    def ask(self, name: str, *arguments: Any) -> Any:
        """Let it call one of its methods.

        Raises:
            Failed: saying why that could not be done.
        """
        self._send([name, arguments])
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            last = self._said.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise Failed(": ".join([f"its process ended with code {code}", *last]), int(Exit.FAILED))
        answer = json.loads(line)
        if "failed" in answer:
            raise Failed(answer["failed"], answer["exit"])
        return answer["gave"]

    def _send(self, what: Any) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the answer that does not come says why
            self._process.stdin.write(json.dumps(what) + "\n")
            self._process.stdin.flush()

    def close(self) -> None:
        """End the process and its data workers; called again without harm."""
        if self._process.stdin is None or self._process.stdin.closed:
            return
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def bench(
    recipe: Recipe, modules: Sequence[str], without: Sequence[str], updates: int, rounds: int, progress: Progress
) -> Bench:
    """Time a recipe, its raw loop, and the recipe without each of its means, in turns, each in a process of its own.

    Nothing is written but in a temporary folder.

    Args:
        recipe: the recipe, changed by `CHANGES`.
        modules: what ``-p`` names.
        without: what ``--without`` names.
        updates: updates of a round; 0 chooses as many as take about a second, whole epochs where these are short.
        rounds: how many rounds.
        progress: told about the rounds.

    Raises:
        RunError: if the recipe does not train as it is.
        UsageError: if the run is too short.
    """
    with tempfile.TemporaryDirectory(prefix="trainkit-bench-") as name, contextlib.ExitStack() as stack:
        file = Path(name) / "recipe.toml"
        file.write_text(fill_toml(recipe), encoding="utf-8")

        def start(row: Row, changes: Sequence[str] = (), drops: Sequence[str] = ()) -> Worker:
            folder = Path(name) / str(len(workers))
            told = {
                "recipe": str(_without(file, drops, folder.with_suffix(".toml"))),
                "changes": list(changes),
                "modules": list(modules),
                "without": list(without),
                "raw": row.name == RAW,
                "folder": str(folder),
            }
            worker = workers[row.name] = Worker(told)
            stack.callback(worker.close)
            return worker

        workers: dict[str, Worker] = {}
        own, raw = Row("trainkit"), Row(RAW)
        try:
            worker = start(own)
            facts = worker.ask("facts")
            warm, updates = plan(facts, updates, lambda count: worker.ask("round", WARM, count))
            active = worker.ask("means", warm, updates)
            worker.ask("round", warm, updates)
        except Failed as failed:
            raise _failure(failed) from None
        start(raw, *_changes([mean for mean in MEANS if mean.same_work], recipe))
        rows = [raw, own]
        for mean in MEANS:
            if mean.key in active:
                off = mean.off_in(recipe.tables)
                rows.append(Row(f"trainkit, {mean.key.partition('.')[2]} = {off}", mean.key, off))
                start(rows[-1], *_changes([mean], recipe))
        clock = "wall" if facts["cuda"] else "cpu"
        found = Bench(facts["machine"], clock, warm, updates, facts["per_epoch"], facts["total"], rounds, rows, [])
        # A first round of each is not counted: it has what comes once alone, such as compiling.
        uncounted = [row for row in rows if row is not own]
        turns = [*uncounted, *(row for _ in range(rounds) for row in rows)]
        for number, row in enumerate(turns):
            progress(number, len(turns), f"bench: {row.name}")
            if row.failed:
                continue
            try:
                took = workers[row.name].ask("round", warm, updates)
            except Failed as failed:
                if row is own:
                    raise _failure(failed) from None
                row.failed = str(failed)
                workers[row.name].close()
                continue
            found.notes = took.pop("notes", found.notes)
            if number >= len(uncounted):
                row.rounds.append(took)
        progress(len(turns), len(turns), "bench")
        return found


def _failure(failed: Failed) -> RunError:
    error = RunError(f"the recipe does not train as it is:\n{failed}")
    error.exit_code = Exit(failed.code)
    return error


def _changes(means: Sequence[Mean], recipe: Recipe) -> tuple[list[str], list[str]]:
    """What switches means off: values to set, and keys to drop that the recipe sets."""

    def setting(key: str) -> Any:
        table, _, name = key.partition(".")
        return recipe.tables[table][name]

    drops = [key for mean in means for key in mean.drops if setting(key) is not None]
    return [f"{mean.key}={mean.off_in(recipe.tables)}" for mean in means if mean.key not in drops], drops


def _without(file: Path, drops: Sequence[str], path: Path) -> Path:
    """The recipe, or one that extends it and lacks some keys."""
    if not drops:
        return file
    path.write_text(f"extends = {json.dumps('./' + file.name)}\ndrop = {json.dumps(list(drops))}\n", encoding="utf-8")
    return path


def plan(facts: Mapping[str, Any], updates: int, trial: Callable[[int], Mapping[str, float]]) -> tuple[int, int]:
    """How many updates come before those that are timed, and how many these are.

    Whole epochs are timed from the last update of one to the last update of another, so that what comes at the end of
    an epoch counts as often as in a long run.

    Args:
        facts: the run's ``total`` updates, those ``per_epoch``, and how many ``warm_epochs`` come first.
        updates: how many are wanted; 0 leaves the choice.
        trial: times so many updates, where that is to be found out.

    Raises:
        UsageError: if the run is too short.
    """
    total, epoch = facts["total"], facts["per_epoch"]
    before = facts["warm_epochs"] * epoch
    if total < WARM + LEAST:
        raise UsageError(f"the run has {total} updates; {WARM + LEAST} are the least that can be timed")
    wanted = updates
    if not wanted:
        wanted = min(TRIED, total - WARM)
        for share in (0.1, 1.0):  # the first updates of a process are slow
            took = trial(min(wanted, total - WARM))
            wanted = round(min(max(share * SECONDS * took["updates"] / max(took["cpu"], 1e-6), LEAST), MOST))
    epochs = min(-(-wanted // epoch) if updates else round(wanted / epoch), (total - before) // epoch)
    if epochs >= 1 and (not updates or updates >= epoch):
        return before, epochs * epoch
    wanted = min(wanted, total - WARM, max(1, epoch - 1) if epoch > 1 else total)
    return (min(WARM, epoch - wanted) if epoch > wanted else WARM), wanted
