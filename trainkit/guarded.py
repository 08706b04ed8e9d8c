"""Loggers that fail: what they raise, or give that nobody can use, is said once, and the run goes on without them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any

import pluggy

from trainkit import checkpoint
from trainkit.errors import TrainkitError
from trainkit.manager import Plugins
from trainkit.weights import not_finite

if TYPE_CHECKING:
    from torch import Tensor

CLOSING = "trainkit_run_end"  # called all the same: whoever failed may have files and threads to close


def _look_at_state(state: Any) -> None:
    """Raise what saving this state would."""
    tensors: dict[str, Tensor] = {}
    checkpoint.split_state(state, "state", tensors)
    if bad := not_finite(tensors):
        raise ValueError(f"'{bad}' is not finite")


def _look_at_figures(figures: Any) -> None:
    """Raise what writing these figures would."""
    for value in figures.values():
        float(value)


_LOOKED_AT: Mapping[str, Callable[[Any], None]] = {
    "trainkit_save": _look_at_state,
    "trainkit_figures": _look_at_figures,
}


class Guard:
    """Keeps what the hooks of one object raise away from the run, and from the first time on the object from the run.

    Args:
        manager: the run's hook manager, with the object in it.
        part: the object.
        failed: told the first exception and its hook, and nothing after it.
    """

    def __init__(
        self, manager: pluggy.PluginManager, part: object, failed: Callable[[BaseException, str], None]
    ) -> None:
        self._failed = failed
        self._out = False
        for caller in manager.get_hookcallers(part) or []:
            for impl in caller.get_hookimpls():
                if impl.plugin is part and not impl.hookwrapper:  # pluggy's older way, which nobody need use
                    around = self._around if impl.wrapper else self._plain
                    impl.function = around(caller.name, impl.function)  # type: ignore[misc]  # pluggy's says final

    def _left_out(self, hook: str) -> bool:
        return self._out and hook != CLOSING

    def _caught(self, error: BaseException, hook: str) -> None:
        if not self._out:
            self._out = True
            self._failed(error, hook)

    def _plain(self, hook: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            if self._left_out(hook):
                return None
            try:
                result = function(*given)
                if result is not None and hook in _LOOKED_AT:
                    _LOOKED_AT[hook](result)
            except (Exception, SystemExit) as error:
                self._caught(error, hook)
                return None
            return result

        return call

    def _around(self, hook: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A hook wrapper; where it fails, what it stands around gives its result, or raises, as without it."""

        def call(*given: Any) -> Generator[None, Any, Any]:
            if self._left_out(hook):
                return (yield)
            try:
                wrapper = function(*given)
                next(wrapper)
            except (Exception, SystemExit) as error:
                self._caught(error, hook)
                return (yield)
            try:
                result = yield
            except BaseException as inner:
                try:
                    wrapper.throw(inner)
                except StopIteration:  # it would hold back what ends the run
                    pass
                except (Exception, SystemExit) as error:
                    if error is not inner:
                        self._caught(error, hook)
                raise
            try:
                wrapper.send(result)
            except StopIteration as end:
                return end.value
            except (Exception, SystemExit) as error:
                self._caught(error, hook)
            return result

        return call


def guard_loggers(
    manager: pluggy.PluginManager, built: Mapping[str, object], plugins: Plugins, say: Callable[[str], None]
) -> None:
    """Let no logger end a run by what it raises.

    Args:
        manager: the run's hook manager, with all objects in it.
        built: the objects, by label.
        plugins: who knows whose code raised.
        say: tells the user.
    """
    for label, part in built.items():
        kind, _, rest = label.partition(".")
        if kind == "logger":
            name = rest.partition(".")[2]

            def failed(error: BaseException, hook: str, name: str = name) -> None:
                # What a logger says by itself, as of a server that is away, is no defect of it.
                told = str(error) if isinstance(error, TrainkitError) else ""
                blamed = told or plugins.blame(error) or f"{type(error).__name__}: {error}"
                with contextlib.suppress(OSError):  # a full disk, which the run will meet itself
                    say(f"the logger '{name}' failed in {hook}, and the run goes on without it: {blamed}")

            Guard(manager, part, failed)
