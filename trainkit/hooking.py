"""Hook managers: one that knows the specs alone, and a fresh one for each run."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import pluggy

from trainkit import hookspecs
from trainkit.errors import PluginDefect, PluginError

if TYPE_CHECKING:
    from pluggy import HookimplOpts, HookspecOpts

    from trainkit.plugin import Plugin

# What a plugin's module is asked outside of any run.
_NOT_OF_RUNS = frozenset(
    {
        "trainkit_components",
        "trainkit_check_recipe",
        "trainkit_trial_end",
        "trainkit_study_end",
        "trainkit_ensemble_end",
    }
)


def hook_names() -> list[str]:
    """The names of all hooks, in the order a run calls them."""
    return [name for name in vars(hookspecs) if name.startswith("trainkit_")]


class _Manager(pluggy.PluginManager):
    """As pluggy's, which looks at every attribute of a plugin in a way that no property is called by: that is slow."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> HookimplOpts | None:
        """What an attribute's mark as a hook says; ``None`` for one that has no mark."""
        held = vars(plugin) if isinstance(plugin, ModuleType) else vars(type(plugin))
        if name.startswith("__") or (name in held and not hasattr(held[name], "trainkit_impl")):
            return None
        return super().parse_hookimpl_opts(plugin, name)

    def parse_hookspec_opts(self, module_or_class: object, name: str) -> HookspecOpts | None:
        """What a spec's mark says; ``None`` for what is none."""
        return super().parse_hookspec_opts(module_or_class, name) if name.startswith("trainkit_") else None  # type: ignore[arg-type]


def new_hook_manager() -> pluggy.PluginManager:
    """A hook manager that knows the specs and nothing else."""
    manager = _Manager("trainkit")
    manager.add_hookspecs(hookspecs)
    return manager


class Asked:
    """A hook manager that has one plugin's hooks at a time: making one for each takes longer than asking it."""

    def __init__(self) -> None:
        self._manager = new_hook_manager()
        self._module: object = None

    def only(self, module: object, name: str) -> pluggy.PluginManager:
        """The manager with the hooks of this plugin, and of no other.

        Raises:
            PluginError: if it has hooks that do not exist, or that ask for arguments they do not have.
        """
        if self._module is not None:
            self._manager.unregister(self._module)
        manager, self._module = self._manager, None
        try:
            manager.register(module, name)
            manager.check_pending()
        except pluggy.PluginValidationError as error:
            self._manager = new_hook_manager()  # nothing of it is left for the next
            raise PluginError(wrong_hook(manager, error)) from error
        self._module = module
        return manager


@functools.lru_cache(64)
def hooks_of(module: object, name: str) -> pluggy.PluginManager:
    """The hooks of one plugin, and of no other; kept, as a search asks for them at each of its trials.

    Raises:
        PluginError: as `Asked.only`.
    """
    return Asked().only(module, name)


@functools.lru_cache(64)
def _takes_part(module: object, name: str) -> bool:
    """Whether a plugin's module has hooks that runs call: most have none."""
    callers = hooks_of(module, name).get_hookcallers(module) or []
    return any(caller.name not in _NOT_OF_RUNS for caller in callers)


def has_hooks(built: object) -> bool:
    """Whether an object's class implements hooks."""
    return any(name.startswith("trainkit_") for name in dir(type(built)))


def run_hook_manager(
    defaults: object, modules: Iterable[Plugin], built: Mapping[str, object], known: Sequence[Plugin] = ()
) -> pluggy.PluginManager:
    """Make the hook manager of one run.

    Args:
        defaults: the core's own implementations, asked after all others.
        modules: plugins that the recipe uses; their module-level hooks join.
        built: built objects by label, in the order in which their hooks are to be called.
        known: the plugins that may have supplied an object, for the message.

    Raises:
        PluginError: if an object implements a hook that does not exist, or asks for arguments it does not have.
    """
    manager = new_hook_manager()
    manager.register(defaults, "trainkit")
    for plugin in modules:
        if plugin.module is not None and _takes_part(plugin.module, plugin.name):
            manager.register(plugin.module, plugin.name)
    # pluggy calls what was registered last first.
    for label, thing in reversed(list(built.items())):
        join(manager, thing, label, known)
    return manager


def join(manager: pluggy.PluginManager, thing: object, label: str, known: Sequence[Plugin] = ()) -> None:
    """Let the hooks of an object that a component built be called, if it has any.

    Raises:
        PluginError: as `run_hook_manager`.
    """
    if not has_hooks(thing):
        return
    try:
        manager.register(thing, label)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        package = type(thing).__module__.partition(".")[0]
        owner = next((str(plugin) for plugin in known if plugin.package == package), type(thing).__module__)
        raise PluginError(f"{owner}: {label}: {wrong_hook(manager, error)}") from error


def wrong_answer(caller: pluggy.HookCaller, gave: str, expected: str) -> PluginDefect:
    """What to raise where a hook has given what its spec does not say.

    Args:
        caller: the hook.
        gave: what it gave, as text.
        expected: what it should have given, such as ``a tensor``.
    """
    # The core's own answers last; pluggy keeps them in the opposite order of their calls.
    asked = [impl for impl in reversed(caller.get_hookimpls()) if not _of_the_core(impl)]
    who = ", ".join(f"{impl.plugin_name} of {_owner(impl)}" for impl in asked) or "trainkit"
    places = [f"{impl.function.__code__.co_filename}:{impl.function.__code__.co_firstlineno}" for impl in asked]
    where = f"\n  its hook is at {', '.join(places)}" if places else ""
    return PluginDefect(f"{who} in hook {caller.name}: gave {gave}, not {expected}{where}")


def _of_the_core(impl: pluggy.HookImpl) -> bool:
    return str(impl.function.__module__).partition(".")[0] == "trainkit"


def _owner(impl: pluggy.HookImpl) -> str:
    """The distribution that a hook comes from, with its version."""
    from importlib.metadata import entry_points

    package = str(impl.function.__module__).partition(".")[0]
    found = [one.dist for one in entry_points(group="trainkit") if one.module.partition(".")[0] == package and one.dist]
    return f"{found[0].name} {found[0].version}" if found else f"{package} (not installed)"


def tell_each(
    plugins: Iterable[Plugin], tell: Callable[[pluggy.HookRelay], object], failed: Callable[[Exception], None]
) -> None:
    """Call hooks of the plugins' modules, one plugin after the other: the error of one keeps none from being told.

    Args:
        plugins: the plugins.
        tell: calls the hooks.
        failed: told what a plugin raised.
    """
    for plugin in plugins:
        if plugin.module is None:
            continue
        manager = new_hook_manager()
        manager.register(plugin.module, plugin.name)
        try:
            tell(manager.hook)
        except Exception as error:
            failed(error)


def wrong_hook(manager: pluggy.PluginManager, error: pluggy.PluginValidationError) -> str:
    """What is wrong with hooks that a manager refused, in one line with file and line: a name, or an argument."""
    import difflib

    specs = {name: list(inspect.signature(vars(hookspecs)[name]).parameters) for name in hook_names()}
    for name in dir(error.plugin):
        if not name.startswith("trainkit_") or manager.parse_hookimpl_opts(error.plugin, name) is None:
            continue
        function = getattr(error.plugin, name)
        code = inspect.unwrap(function).__code__
        at = f"{code.co_filename}:{code.co_firstlineno}"
        if name not in specs:
            near = difflib.get_close_matches(name, specs, 1)
            cure = f"did you mean '{near[0]}'?" if near else "`trainkit hooks` lists all"
            return f"no hook named '{name}'; {cure} ({at})"
        asked = [one.name for one in inspect.signature(function).parameters.values() if one.default is one.empty]
        if unknown := [one for one in asked if one not in specs[name]]:
            can_ask = ", ".join(specs[name]) or "nothing"
            return f"hook {name} has no argument '{unknown[0]}'; it may ask for: {can_ask} ({at})"
    return " ".join(str(error).split())
