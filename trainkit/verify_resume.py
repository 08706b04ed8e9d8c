"""``trainkit verify-resume``: whether a recipe's run ends alike when it is killed and continued, by a short trial."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainkit import checkpoint
from trainkit.errors import RunError, UsageError
from trainkit.protocols import Progress
from trainkit.recipe import Recipe, fill_toml
from trainkit.verdict import Difference, Verdict

MOST = 1000  # updates: each has a checkpoint of its own until the end
# What the recipe is changed by: everything comes round within a few updates, and each update can be compared.
# A kill finds the checkpoint before it whole: one that is still being written would lead back to the start.
CHANGES = (
    *(f"run.keep={MOST + 1}", "run.save_every=1ba", "run.save_pause=0", "run.save_in_background=false"),
    *("run.log_every=3ba", "run.evaluate_every=4ba", "logger=[]"),
)
_TIMES = ("seconds", "metrics_bytes")
_HOME = {"model": "weights", "optimizer": "optimizer", "plugin": "plugins", "random": "random"}
_STATE = {
    "optimizer": "optimizer",
    "groups": "optimizer",
    "bases": "optimizer",
    "random": "random",
    "plugins": "plugins",
    **dict.fromkeys(("best", "newest", "tally"), "metrics"),
}


class Trial:
    """Runs of one recipe in a temporary folder, each process a child of this one.

    Args:
        recipe: the recipe, changed by `CHANGES`.
        modules: what ``-p`` names.
        without: what ``--without`` names.
        folder: an empty folder.
    """

    def __init__(self, recipe: Recipe, modules: Sequence[str], without: Sequence[str], folder: Path) -> None:
        self.folder = folder
        self.told = {"modules": list(modules), "without": list(without), "recipe": str(folder / "recipe.toml")}
        if recipe.tables["run"]["compile"] == "auto":  # when it swaps depends on time, which no two processes share
            recipe.tables["run"] = {**recipe.tables["run"], "compile": False, "updates_per_call": None}
        (folder / "recipe.toml").write_text(fill_toml(recipe), encoding="utf-8")

    def process(self, name: str, stop: int = 0, kill: int = 0) -> tuple[int, str]:
        """Start or continue the run in the folder ``name``; its exit code and last message."""
        told = self.told | {
            "folder": str(self.folder / name),
            "notes": str(self.folder / f"{name}.jsonl"),
            "stop": stop,
            "kill": kill,
        }
        # -P: nothing is imported from the folder one stands in. What this process could import, the child can.
        path = os.pathsep.join(entry for entry in sys.path if entry)
        done = subprocess.run(
            [sys.executable, "-P", "-m", "trainkit.resume_trial"],
            input=json.dumps(told),
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
            check=False,
        )
        return done.returncode, done.stderr.strip()

    def notes(self, name: str) -> list[dict[str, Any]]:
        """What the processes of a run noted."""
        lines = (self.folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def held(self, name: str) -> dict[int, dict[str, str]]:
        """What parts of the run held after each update; where it was made twice, the second time."""
        return {line["update"]: line["held"] for line in self.notes(name) if "update" in line}


def verify(recipe: Recipe, modules: Sequence[str], without: Sequence[str], updates: int, progress: Progress) -> Verdict:
    """Train a recipe a few updates long without interruptions, twice, and once with several, and compare.

    Args:
        recipe: the recipe, changed by `CHANGES`.
        modules: what ``-p`` names.
        without: what ``--without`` names.
        updates: how many; 0 chooses about a dozen, and a few more where an epoch then ends.
        progress: told which run is made.

    Raises:
        RunError: if the recipe does not train at all.
        UsageError: if it makes fewer than three updates.
    """
    if updates > MOST:
        raise UsageError(f"--updates {updates}: at most {MOST}, since each is kept until the end")
    if updates:
        _enough(updates)
    with tempfile.TemporaryDirectory(prefix="trainkit-verify-") as name:
        trial = Trial(recipe, modules, without, Path(name))
        for number, run in enumerate(("straight", "again")):
            progress(number, 3, "runs without interruptions")
            code, said = trial.process(run, updates)
            if code:
                error = RunError(f"the recipe does not train as it is:\n{said}")
                error.exit_code = _exit(code)
                raise error
            facts = trial.notes(run)[0]
            updates = _enough(facts["stop"])
        verdict = Verdict(updates)
        verdict.differences = compare(trial.folder / "straight", trial.folder / "again")
        if verdict.differences:
            verdict.reproducible = False
            return verdict
        progress(2, 3, "the interrupted run")
        for update, how in (*interruptions(updates, facts["updates_per_epoch"]), (0, "")):
            kill, stop = (update, updates) if how == "kill" else (0, update or updates)
            code, said = trial.process("broken", stop, kill)
            if code and not (how == "kill" and code < 0):
                verdict.refused = said or f"the process ended with code {code}"
                return verdict
            if how:
                verdict.interruptions.append((update, how))
        progress(3, 3, "compared")
        verdict.differences = compare(trial.folder / "straight", trial.folder / "broken")
        verdict.suspects = list(suspects(*(trial.held(run) for run in ("straight", "again", "broken"))))
        return verdict


def _enough(updates: int) -> int:
    if updates < 3:
        raise UsageError(f"the run has {updates} updates; three are the least that can be interrupted and compared")
    return updates


def _exit(code: int) -> Any:
    from trainkit.errors import Exit

    return Exit(code) if code in set(Exit) else Exit.FAILED


def interruptions(updates: int, updates_per_epoch: int) -> list[tuple[int, str]]:
    """Where a run of so many updates is interrupted, and how: within epochs, and around the end of one."""
    # After the first update there is no checkpoint that a killed run could go on from.
    at = {max(2, updates // 4), max(2, updates // 2), updates - 1}
    at |= {update for update in (updates_per_epoch, updates_per_epoch + 1) if 1 < update < updates}
    return [(update, "stop" if number % 3 == 1 else "kill") for number, update in enumerate(sorted(at))]


def compare(one: Path, other: Path) -> list[Difference]:
    """What differs between two run folders, checkpoint by checkpoint, then line by line; the earliest first."""
    found: dict[tuple[str, str], Difference] = {}
    steps = [{path.name: path for path in checkpoint.newest_first(folder / "checkpoints")} for folder in (one, other)]
    for name in sorted(steps[0].keys() | steps[1].keys()):
        update = int(name.removeprefix("step-"))
        if name not in steps[0] or name not in steps[1]:
            difference = Difference(update, "progress", "a checkpoint that only one of the runs has")
            found.setdefault(("progress", "checkpoint"), difference)
            continue
        for part, entry in _unlike(*(checkpoint.load(side[name]) for side in steps)):
            found.setdefault((part, entry), Difference(update, part, entry))
    lines = [_lines(folder) for folder in (one, other)]
    for number in range(max(map(len, lines))):
        pair = [side[number] if number < len(side) else {} for side in lines]
        for key in dict.fromkeys([*pair[0], *pair[1]]):
            if pair[0].get(key) != pair[1].get(key):
                values = (str(side.get(key, "absent")) for side in pair)
                update = int((pair[0] or pair[1])["step"])
                name = f"{(pair[0] or pair[1])['split']}.{key}"
                found.setdefault(("metrics", name), Difference(update, "metrics", name, *values))
    # What objects save is what the others follow from.
    order = {part: number for number, part in enumerate(("plugins", "random", "optimizer", "weights"))}
    return sorted(found.values(), key=lambda difference: (difference.update, order.get(difference.part, 9)))


def _unlike(one: tuple[Any, Any], other: tuple[Any, Any]) -> Iterator[tuple[str, str]]:
    """Part and name of what differs between two checkpoints."""
    (tensors, state), (others, its_state) = one, other
    for name in sorted(tensors.keys() | others.keys()):
        pair = tensors.get(name), others.get(name)
        same = all(t is not None for t in pair) and pair[0].dtype == pair[1].dtype and pair[0].shape == pair[1].shape
        if not same or checkpoint.raw_bytes(pair[0]) != checkpoint.raw_bytes(pair[1]):
            home, _, rest = name.partition("/")
            yield _HOME.get(home, "progress"), rest if home in _HOME else name
    for key in sorted(state.keys() | its_state.keys()):
        mine, its = state.get(key), its_state.get(key)
        if key in _TIMES or mine == its:
            continue
        if key == "plugins" and isinstance(mine, Mapping) and isinstance(its, Mapping):
            labels = sorted(label for label in mine.keys() | its.keys() if mine.get(label) != its.get(label))
            yield from (("plugins", label) for label in labels if not label.startswith("listener."))
        else:
            yield _STATE.get(key, "progress"), key


def _lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl`` without their times."""
    file = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    return [{key: value for key, value in line.items() if key != "time"} for line in lines]


def suspects(
    straight: Mapping[int, Mapping[str, str]],
    again: Mapping[int, Mapping[str, str]],
    broken: Mapping[int, Mapping[str, str]],
) -> Iterator[Difference]:
    """What parts hold in attributes that two runs without interruptions agree upon and the interrupted one does not."""
    restless = {
        name
        for update, held in straight.items()
        for name in held.keys() | again.get(update, {}).keys()
        if held.get(name) != again.get(update, {}).get(name)
    }
    seen: set[str] = set()
    for update in sorted(straight.keys() & broken.keys()):
        held, its = straight[update], broken[update]
        for name in held:
            if name not in restless | seen and its.get(name, "absent") != held[name]:
                seen.add(name)
                yield Difference(update, "held", name, held[name], its.get(name, "absent"))
