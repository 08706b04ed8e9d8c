"""G9 and G11: an exception at any call of any hook, and too little memory there, leave a run that goes on the same."""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from tests.soak import rig
from trainkit import PluginError, TrainkitError, hookimpl
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import Recipe, load_recipe
from trainkit.run import Run

CALLS = (1, 2, 50)
PLUGIN = Path(__file__).parent / "faulty.py"
OUT_OF_MEMORY = (partial(MemoryError, "no memory left"), partial(torch.OutOfMemoryError, "CUDA out of memory: 3 GiB"))


def check(count: int, seed: int) -> list[str]:
    """Raise ``RuntimeError`` at so many places; what went wrong."""
    return _check(count, seed, [partial(RuntimeError, "lost")], _named)


def check_memory(count: int, seed: int) -> list[str]:
    """Run out of memory at so many places, inside the optimizer's update too; what went wrong."""
    return _check(count, seed, OUT_OF_MEMORY, _out_of_memory) + _optimizer(seed)


def _check(count: int, seed: int, errors: object, look: object) -> list[str]:
    wrong: list[str] = []
    chance = random.Random(seed)
    plugins = Plugins([str(PLUGIN)])
    faulty = sys.modules["faulty"]
    places = [(hook, call) for hook in ("factory", *faulty.HOOKS) for call in CALLS]
    chance.shuffle(places)
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        path = rig.write(top / "r.toml", callback=[{"use": "ema"}, {"use": "faulty"}], run={"duration": "7ep"})
        recipe = load_recipe(path, [], plugins)
        launch(recipe, plugins, folder=top / "straight")
        for number in range(count):
            hook, call = places[number % len(places)]
            error = errors[number % len(errors)]  # type: ignore[arg-type,index]
            said = _raise(recipe, plugins, top / f"run-{number}", (hook, call, error), look)
            if not said:
                said = [
                    *rig.whole_checkpoints(top / f"run-{number}"),
                    *rig.differences(top / "straight", top / f"run-{number}"),
                ]
            wrong += [f"{error.func.__name__} at call {call} of {hook}: {what}" for what in said]
    return wrong


def _raise(
    recipe: Recipe, plugins: Plugins, folder: Path, fault: tuple[str, int, partial[BaseException]], look: object
) -> list[str]:
    """Run into the fault, look at the message, repair the plugin, and go on to the end."""
    planned = sys.modules["faulty"].Fault
    hook, call, error = fault
    planned.calls = 0
    planned.hook, planned.call, planned.error = hook, call, error
    said = []
    try:
        if hook == "restore":  # needs a run to continue
            planned.error = None
            launch(recipe, plugins, folder=folder, listeners=[_Stop(12)])
            planned.error, planned.call = error, 1
        launch(recipe, plugins, folder=folder, resume=True)
        if planned.calls >= planned.call and hook != "run_end":
            said.append("the run did not notice")
    except TrainkitError as raised:
        said += look(raised, hook)  # type: ignore[operator]
    finally:
        planned.error = None
    if not (folder / "report.json").exists() or rig.report_of(folder)["status"] != "finished":
        launch(recipe, plugins, folder=folder, resume=True)
    return said


class _Stop:
    def __init__(self, step: int) -> None:
        self.step = step

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        if run.step == self.step:
            run.stop_reason = "the soak asked for it"


def _named(raised: TrainkitError, hook: str) -> Iterator[str]:
    text = str(raised)
    if raised.exit_code != (5 if hook == "restore" else 1):  # it cannot be told from state that is not the plugin's
        yield f"exit code {raised.exit_code}"
    wanted = ["plugin 'faulty'", "not installed", "faulty.py:"]
    if hook != "factory":
        wanted.append(f"in hook trainkit_{hook}")
        wanted += [] if hook == "prepare_model" else ["at update "]
    yield from (f"the message lacks {part!r}: {text}" for part in wanted if part not in text)


def _out_of_memory(raised: TrainkitError, hook: str) -> Iterator[str]:
    if raised.exit_code != 4 or "out of memory" not in str(raised) or "\n" not in str(raised):
        yield f"exit code {raised.exit_code}: {raised}"


class _Torn:
    """Lets the optimizer run out of memory within an update, with some parameters changed."""

    def __init__(self, step: int) -> None:
        self.step = step

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        step = run.optimizer.step

        def torn(closure: object = None) -> object:
            if run.step == self.step:
                with torch.no_grad():
                    next(run.model.parameters()).add_(1.0)
                raise MemoryError("no memory left")
            return step()

        run.optimizer.step = torn  # type: ignore[method-assign,assignment]


def _optimizer(seed: int) -> list[str]:
    plugins = Plugins()
    step = random.Random(seed).randrange(1, 24)
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        recipe = load_recipe(rig.write(top / "r.toml"), [], plugins)
        launch(recipe, plugins, folder=top / "straight")
        try:
            launch(recipe, plugins, folder=top / "run", listeners=[_Torn(step)])
        except TrainkitError as raised:
            said = list(_out_of_memory(raised, ""))
        else:
            said = ["the run did not notice"]
        launch(recipe, plugins, folder=top / "run", resume=True)
        return [f"within update {step}: {what}" for what in [*said, *rig.differences(top / "straight", top / "run")]]


def check_import(count: int, seed: int) -> list[str]:
    """Let a plugin fail while it is imported, and repair it; what went wrong."""
    wrong = []
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        good = PLUGIN.read_text(encoding="utf-8")
        for number in range(count):
            module = f"faulty_{seed}_{number}"
            (top / f"{module}.py").write_text(good, encoding="utf-8")
            path = rig.write(top / "r.toml", callback=[{"use": "ema"}, {"use": "faulty"}])
            plugins = Plugins([str(top / f"{module}.py")])
            recipe = load_recipe(path, [], plugins)
            launch(recipe, plugins, folder=top / f"straight-{number}")
            launch(recipe, plugins, folder=top / f"run-{number}", listeners=[_Stop(5 + number % 15)])
            del sys.modules[module]
            (top / f"{module}.py").write_text(f"{good}\nraise KeyError('lost')\n", encoding="utf-8")
            try:
                Plugins([str(top / f"{module}.py")])
            except PluginError as raised:
                if raised.exit_code != 3 or f"'{module}'" not in str(raised) or f"{module}.py:" not in str(raised):
                    wrong.append(str(raised))
            else:
                wrong.append("the import did not fail")
            sys.modules.pop(module, None)
            (top / f"{module}.py").write_text(good, encoding="utf-8")
            plugins = Plugins([str(top / f"{module}.py")])
            launch(load_recipe(path, [], plugins), plugins, folder=top / f"run-{number}", resume=True)
            wrong += rig.differences(top / f"straight-{number}", top / f"run-{number}")
    return wrong
