"""Who holds state and who says so: what neither saves it nor declares itself stateless cannot be continued."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trainkit.run import Run

# Hooks that see the training go by: whoever implements one may keep something from one call to the next.
WATCHING = (
    "trainkit_epoch_start",
    "trainkit_train_step",
    "trainkit_loss",
    "trainkit_gradients",
    "trainkit_step_end",
    "trainkit_figures",
    "trainkit_evaluate",
    "trainkit_epoch_end",
    "trainkit_stop_reason",
)


def hooked(hook: Any, names: tuple[str, ...] = WATCHING) -> Iterator[tuple[str, Any]]:
    """Every object that implements one of the hooks, with its label, once."""
    seen: set[str] = set()
    for name in names:
        for impl in getattr(hook, name).get_hookimpls():
            if impl.plugin_name not in seen:
                seen.add(impl.plugin_name)
                yield impl.plugin_name, impl.plugin


def speaks(part: Any) -> bool:
    """Whether an object or module saves its state and takes it back, or says ``stateless = True``."""
    if getattr(part, "stateless", False) is True:
        return True
    return all(callable(getattr(part, name, None)) for name in ("trainkit_save", "trainkit_restore"))


def mute(run: Run) -> list[str]:
    """What of a run may hold state that no checkpoint has, by label; what a program lent it is the program's own."""
    parts = hooked(run.hook)
    return [label for label, part in parts if not label.startswith("listener.") and not speaks(part)]


class Attributes:
    """The numbers that optimizers without hooks of their own keep as attributes, as they were when the run began.

    Args:
        run: the run.
    """

    def __init__(self, run: Run) -> None:
        self._parts = [part for part in optimizers_in(run.optimizer) if not speaks(part)]
        self._before = [_numbers(part) for part in self._parts]

    def changed(self) -> list[str]:
        """Those that are others now: state that no checkpoint holds, as ``Ranger: count``."""
        return [
            f"{type(part).__name__}: {name}"
            for part, before in zip(self._parts, self._before, strict=True)
            for name, value in _numbers(part).items()
            # What was unset and is worked out once, such as a length, is worked out again.
            if name not in before or before[name] not in (None, value)
        ]


def optimizers_in(part: Any) -> Iterator[Any]:
    """An optimizer and those within it."""
    yield part
    for value in vars(part).values():
        for inner in value if isinstance(value, list | tuple) else (value,):
            if hasattr(inner, "param_groups") and hasattr(inner, "step"):
                yield from optimizers_in(inner)


def _numbers(part: Any) -> dict[str, Any]:
    """Attributes that are numbers or unset; a switch that the first update sets is neither."""
    return {name: value for name, value in vars(part).items() if type(value) in (int, float, type(None))}
