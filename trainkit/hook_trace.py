"""``trainkit hooks --trace``: every hook that a short run of a recipe calls, with arguments, and who answered what."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from trainkit.console import emit_json, emit_table
from trainkit.dataset import Batch
from trainkit.errors import printable
from trainkit.hooking import hook_names, hooks_of
from trainkit.hookspecs import hookimpl
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.protocols import Progress
from trainkit.recipe import Recipe
from trainkit.recipe.asking import ask_plugins
from trainkit.run import Report, Run, StepResult
from trainkit.smoke import ShortFeed

UPDATES = 2  # before the run is stopped; it is then continued to the end of its first epoch
LONGEST = 200  # updates of an epoch, unless it is longer: then for one update
# What the recipe is changed by, so that all comes round at once.
CHANGES = ("run.evaluate_every=2ba", "run.log_every=1ba", "run.save_pause=0")
REASON = "hooks --trace: long enough to see every hook"
_MOST = 72  # characters of a value
_OWN = "listener."  # those of this module, and of the command


@dataclasses.dataclass(frozen=True)
class Call:
    """That one implementation of a hook was called.

    Args:
        update: updates made so far.
        hook: the hook's name.
        arguments: what it asked for, shown shortly, by name.
        by: who implements it: ``callback.0.ema``, a plugin's name, or ``trainkit`` for the core's own default.
        plugin: the plugin that supplies it, with its distribution and version; empty for the core's own.
        answer: what it gave, shown shortly; ``-`` for nothing. Of one that stands around the others, what it made of
            their answer.
        around: whether it stands around the others.
    """

    update: int
    hook: str
    arguments: Mapping[str, str]
    by: str
    plugin: str
    answer: str
    around: bool = False


class Tracer:
    """Notes each call of a hook; joins a run as a listener, before all others.

    Args:
        recipe: the recipe, which knows the plugins of its components.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.calls: list[Call] = []
        self._recipe = recipe
        self._run: Run | None = None
        self._continued = False
        self._seen: set[tuple[str, str]] = set()

    @hookimpl(tryfirst=True)
    def trainkit_prepare_model(self, run: Run) -> None:
        """Wrap every implementation; those of this very hook that are still to come too."""
        self._run = run
        for name in hook_names():
            for impl in getattr(run.hook, name).get_hookimpls():
                if not impl.plugin_name.startswith(_OWN) and not impl.hookwrapper:
                    impl.function = self._noted(name, impl)

    @hookimpl(tryfirst=True)
    def trainkit_run_start(self, run: Run) -> None:
        """Make evaluations short."""
        run.feed = ShortFeed(run.feed)
        self._continued = run.position > 0

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        """End the run soon."""
        if run.position >= UPDATES and (not self._continued or run.clock.updates_per_epoch > LONGEST):
            run.stop_reason = REASON

    @hookimpl(trylast=True)
    def trainkit_epoch_end(self, run: Run) -> None:
        """End the run with its first epoch."""
        run.stop_reason = run.stop_reason or REASON

    def check(self) -> None:
        """Ask the plugins' modules once more what they say of the recipe, and note it."""
        functions: list[tuple[Any, Any]] = [
            (impl, impl.function)
            for plugin in self._recipe.plugins_in_use()
            for impl in hooks_of(plugin.module, plugin.name).hook.trainkit_check_recipe.get_hookimpls()
        ]
        try:
            for impl, _ in functions:
                impl.function = self._noted("trainkit_check_recipe", impl)
            ask_plugins(self._recipe)
        finally:  # these managers are kept for the next recipe of this process
            for impl, function in functions:
                impl.function = function

    def _noted(self, hook: str, impl: Any) -> Callable[..., Any]:
        function, names, by = impl.function, impl.argnames, str(impl.plugin_name)

        def note(arguments: Sequence[Any], answer: Any, around: bool) -> None:
            shown = {name: short(value) for name, value in zip(names, arguments, strict=False)}
            update = 0 if self._run is None else self._run.position
            known = (hook, by) in self._seen
            self._seen.add((hook, by))
            if known and update > UPDATES:  # what the following updates do again says nothing more
                return
            self.calls.append(Call(update, hook, shown, by, self._plugin_of(by), short(answer), around))

        @functools.wraps(function)
        def call(*arguments: Any) -> Any:
            answer = function(*arguments)
            note(arguments, answer, False)
            return answer

        def around(*arguments: Any) -> Generator[None, Any, Any]:
            answer = yield from function(*arguments)
            note(arguments, answer, True)
            return answer

        return around if impl.wrapper else call

    def _plugin_of(self, label: str) -> str:
        """The plugin behind the label that an object has in the run."""
        kind, _, rest = label.partition(".")
        place = rest.partition(".")[0]
        path = (kind, int(place)) if place.isdecimal() else (kind, *rest.split(".")) if rest else (kind,)
        component = self._recipe.components.get(tuple(path))
        for plugin in self._recipe.plugins.plugins:
            if plugin.name == (component.plugin if component is not None else label):
                return f"{plugin.distribution} {plugin.version}"
        return ""


def trace(recipe: Recipe, plugins: Plugins, progress: Progress) -> list[Call]:
    """Train a recipe for a few updates in a temporary folder, and note each call of a hook.

    The run is stopped after two updates and continued, to the end of its first epoch where that is not long. Of these
    later updates only what had not been called before is noted.

    Raises:
        TrainkitError: whatever keeps the recipe from working.
    """
    recipe.tables["run"] = {**recipe.tables["run"], "compile": False, "updates_per_call": None, "processes": 1}
    tracer = Tracer(recipe)
    tracer.check()
    with tempfile.TemporaryDirectory(prefix="trainkit-trace-") as name:
        for resume in (False, True):
            launch(
                recipe,
                plugins,
                folder=Path(name) / "run",
                listeners=[tracer],
                progress=progress,
                command="trainkit hooks --trace",
                resume=resume,
            )
    return tracer.calls


def show_calls(calls: Sequence[Call], as_json: bool) -> None:
    """Print the calls: a table, or one object."""
    if as_json:
        emit_json({"calls": [dataclasses.asdict(call) for call in calls]})
        return
    rows = []
    for call in calls:
        asked = ", ".join(f"{name}={value}" for name, value in call.arguments.items())
        who = f"{call.by} ({call.plugin})" if call.plugin else call.by
        answer = f"around: {call.answer}" if call.around else call.answer
        rows.append((str(call.update), f"{call.hook}({asked})", who, answer))
    emit_table(("update", "hook", "who", "answer"), rows)


def short(value: Any) -> str:
    """A value on one short line, tensors by their shapes."""
    text = _short(value)
    return printable(text if len(text) <= _MOST else text[: _MOST - 3] + "...")


def _short(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}" if value.ndim else f"{value.item():.6g}"
    if isinstance(value, Run):
        return f"at update {value.step}"
    if isinstance(value, nn.Module):
        return type(value).__name__
    if isinstance(value, Batch):
        return f"Batch of {len(value)}"
    if isinstance(value, StepResult | Report):
        return type(value).__name__
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_short(part)}" for key, part in list(value.items())[:9]) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_short, value[:9])) + "]"
    return repr(value)
