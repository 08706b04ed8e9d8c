"""Plugins: found by entry point, and imported when needed. No globals.

What takes long to import is imported where it is used: ``list`` needs no more than names.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from trainkit.catalogue import GROUP as GROUP
from trainkit.catalogue import Catalogue, Entry
from trainkit.errors import PluginDefect, PluginError, UsageError
from trainkit.plugin import Plugin, as_remembered, load_plugin, own_module, replace_plugin

TYPE_CHECKING = False  # as in trainkit/__init__.py: typing is not worth its import for ``list``
if TYPE_CHECKING:
    import importlib.metadata
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from trainkit.component import Component
    from trainkit.hooking import Asked

    _Named = TypeVar("_Named", Component, Entry)


class Plugins:
    """The plugins of this process; nothing is imported before it is needed.

    Args:
        modules: modules or files of the user's own (``-p``), joined to the installed ones.
        without: names of plugins, packages or distributions to leave out.
        catalogue: what was remembered of the installed plugins: with it, `table` and `find` import no more than they
            must. Without it every plugin is imported for them.
        tell: told of each plugin that cannot be used.

    Attributes:
        remembered: whether it is known what the plugins supply without importing them.

    Raises:
        UsageError: if ``without`` names nothing that is installed.
        PluginError: if a module named in ``modules`` cannot be imported.
    """

    def __init__(
        self,
        modules: Sequence[str] = (),
        without: Sequence[str] = (),
        catalogue: Catalogue | None = None,
        tell: Callable[[Plugin], None] | None = None,
    ) -> None:
        self.modules, self.without = tuple(modules), tuple(without)
        self._catalogue = catalogue
        self._tell = tell
        self._loaded = False
        self._asked: Asked | None = None
        known = catalogue.read() if catalogue is not None else None
        self.remembered = known is not None
        if known is not None:
            found = [Plugin(*identity, remembered=entries) for identity, entries in known.items()]
        else:
            import importlib.metadata

            found = [
                Plugin(entry.name, entry.value, entry.dist.name if entry.dist else "unknown", _version(entry))
                for entry in importlib.metadata.entry_points(group=GROUP)
            ]
        words = {word for plugin in found for word in (plugin.name, plugin.package, plugin.distribution)}
        if missing := [word for word in without if word not in words]:
            raise UsageError(f"--without {missing[0]}: no such plugin; installed: {', '.join(sorted(words))}")
        self.plugins = sorted(
            (p for p in found if not {p.name, p.package, p.distribution} & set(without)),
            key=lambda plugin: (plugin.name, plugin.module_name),
        )
        self._whole = not modules and not without
        for module in modules:
            # Naming an installed plugin, or a module twice, changes nothing.
            if module not in [plugin.module_name for plugin in self.plugins]:
                self.plugins.append(own_module(module))
        _tell_apart(self.plugins)

    def load(self) -> None:
        """Import every plugin and list its components; a plugin that fails is marked, not raised."""
        if self._loaded:
            return
        self._loaded = True
        for plugin in self.plugins:
            try:
                load_plugin(plugin, self._asking())
            except PluginError as error:
                plugin.error = str(error)
                if self._tell is not None:
                    self._tell(plugin)
        if self._catalogue is not None and not self.remembered and self._whole and not self.broken:
            self._catalogue.write({p.identity: p.entries for p in self.plugins})

    def _asking(self) -> Asked:
        if self._asked is None:
            from trainkit.hooking import Asked

            self._asked = Asked()
        return self._asked

    def table(self, kind: str) -> dict[str, list[tuple[Plugin, Entry]]]:
        """Components of one kind in short, by bare name, with the plugin that supplies each."""
        if not self.remembered:
            self.load()
        table: dict[str, list[tuple[Plugin, Entry]]] = defaultdict(list)
        for plugin in self.plugins:
            for entry in plugin.entries:
                if entry.kind == kind:
                    table[entry.name].append((plugin, entry))
        return dict(sorted(table.items()))

    @property
    def broken(self) -> list[Plugin]:
        """Plugins that could not be loaded; `load` must have been called."""
        return [plugin for plugin in self.plugins if plugin.error]

    def components(self, kind: str) -> dict[str, list[Component]]:
        """Components of one kind by bare name; more than one where plugins share a name."""
        self.load()
        table: dict[str, list[Component]] = defaultdict(list)
        for plugin in self.plugins:
            for component in plugin.components:
                if component.kind == kind:
                    table[component.name].append(component)
        return dict(sorted(table.items()))

    def find(self, kind: str, name: str) -> list[Component]:
        """Components that ``name`` or ``package:name`` refers to: none, one, or several that share the name.

        A component's own name may hold a colon too: a bridge to a library gives all it brings one prefix, such as
        ``kozistr:soap``, so that they take no bare name from others.
        """
        if self.remembered and not self._loaded:
            found = self._named(kind, name, [(plugin, entry) for plugin in self.plugins for entry in plugin.entries])
            if not found or not all(as_remembered(plugin, self._asking()) for plugin, _ in found):
                # Nobody supplies it, or a plugin is not what was remembered of it: what counts is what plugins say.
                self.remembered = False
        if not self.remembered:
            self.load()
        listed = [(plugin, component) for plugin in self.plugins for component in plugin.components]
        return [component for _, component in self._named(kind, name, listed)]

    def _named(self, kind: str, name: str, listed: list[tuple[Plugin, _Named]]) -> list[tuple[Plugin, _Named]]:
        of_kind = [(plugin, one) for plugin, one in listed if one.kind == kind]
        if found := [(plugin, one) for plugin, one in of_kind if one.name == name]:
            return found
        package, _, bare = name.partition(":")
        return [
            (plugin, one)
            for plugin, one in of_kind
            if one.name == bare and (not package or package in (plugin.package, plugin.distribution))
        ]

    def owner(self, component: Component) -> Plugin:
        """The plugin that supplies a component."""
        return next(plugin for plugin in self.plugins if plugin.name == component.plugin)

    def blame(self, error: BaseException, doing: str = "", at: str = "") -> PluginDefect | None:
        """Name the plugin in whose code an exception was raised, with hook, file and line.

        Args:
            error: the exception, with its traceback.
            doing: what the core was doing, if no hook is on the stack.
            at: how far the run had come, such as ``at update 12 (epoch 1)``.

        Returns:
            The message to show, or ``None`` where no plugin's frame is on the traceback.
        """
        import traceback

        packages = {plugin.package: plugin for plugin in self.plugins}
        culprit: tuple[Plugin, str, int] | None = None
        hook = ""
        for frame, line in traceback.walk_tb(error.__traceback__):
            plugin = packages.get(str(frame.f_globals.get("__name__", "")).split(".")[0])
            if plugin is None:
                continue
            culprit = plugin, frame.f_code.co_filename, line
            if frame.f_code.co_name.startswith("trainkit_"):
                hook = frame.f_code.co_name
        if culprit is None:
            return None
        plugin, file, line = culprit
        where = f" in hook {hook}" if hook else f" while {doing}" if doing else ""
        text = str(error) or "no message"
        return PluginDefect(
            f"{plugin}{where}: {type(error).__name__}: {text}\n"
            f"  raised at {file}:{line}{', ' if at else ''}{at}\n"
            f"  this is a defect of {plugin.distribution}; --traceback shows the whole stack"
        )


def _tell_apart(plugins: Sequence[Plugin]) -> None:
    """Make names unique: entry points of different distributions may be called the same."""
    counts = Counter(plugin.name for plugin in plugins)
    for plugin in plugins:
        if counts[plugin.name] > 1:
            plugin.name = f"{plugin.distribution}:{plugin.name}"
            plugin.components = [replace_plugin(component, plugin.name) for component in plugin.components]


def _version(entry: importlib.metadata.EntryPoint) -> str:
    return entry.dist.version if entry.dist else "unknown"
