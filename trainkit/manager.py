"""Plugins: found by entry point, and imported when needed. No globals.

What takes long to import is imported where it is used: ``list`` needs no more than names.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from trainkit.catalogue import GROUP as GROUP
from trainkit.catalogue import Catalogue, Entry
from trainkit.errors import PluginDefect, PluginError, UsageError

TYPE_CHECKING = False  # as in trainkit/__init__.py: typing is not worth its import for ``list``
if TYPE_CHECKING:
    import importlib.metadata
    from collections.abc import Callable, Sequence
    from types import ModuleType
    from typing import Any, TypeVar

    from trainkit.catalogue import Identity
    from trainkit.component import Component
    from trainkit.hooking import Asked

    _Named = TypeVar("_Named", Component, Entry)


@dataclass
class Plugin:
    """An installed plugin: its metadata, and once it was needed, its module and components.

    Args:
        name: the entry point's name, or the module's for ``-p``.
        module_name: what is imported.
        distribution: the package that installs it.
        version: that package's version.
        error: why it cannot be used, in one line; empty while nothing is known to be wrong.
        remembered: its components in short, as they were when it was imported last.
    """

    name: str
    module_name: str
    distribution: str
    version: str
    error: str = ""
    module: ModuleType | None = None
    components: list[Component] = field(default_factory=list)
    remembered: list[Entry] = field(default_factory=list)

    @property
    def identity(self) -> Identity:
        """What its entry point says, whatever it was renamed to."""
        return self.name.removeprefix(f"{self.distribution}:"), self.module_name, self.distribution, self.version

    @property
    def entries(self) -> list[Entry]:
        """Its components in short."""
        if self.module is None:
            return self.remembered
        return [Entry(part.kind, part.name, part.help, part.libraries) for part in self.components]

    @property
    def package(self) -> str:
        """The top-level package, which ``package:name`` in a recipe refers to."""
        return self.module_name.split(".")[0]

    @property
    def recorded_version(self) -> tuple[str, str]:
        """What tells whether it has changed: its distribution and version, or its name and a hash of its files."""
        file = getattr(self.module, "__file__", None)
        if self.version != "not installed" or not file:
            return self.distribution, self.version
        import contextlib
        import hashlib
        from pathlib import Path

        place = Path(file)
        files = sorted(place.parent.rglob("*.py")) if place.name == "__init__.py" else [place]
        digest = hashlib.sha256()
        for path in files:
            with contextlib.suppress(OSError):
                digest.update(path.read_bytes())
        return self.name, f"sha256:{digest.hexdigest()[:16]}"

    def __str__(self) -> str:
        return f"plugin '{self.name}' ({self.distribution} {self.version})"


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
                self.plugins.append(_own_module(module))
        _tell_apart(self.plugins)

    def load(self) -> None:
        """Import every plugin and list its components; a plugin that fails is marked, not raised."""
        if self._loaded:
            return
        self._loaded = True
        for plugin in self.plugins:
            try:
                _load(plugin, self._asking())
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
            if not found or not all(_as_remembered(plugin, self._asking()) for plugin, _ in found):
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


def _own_module(text: str) -> Plugin:
    """Import what ``-p`` names: an importable module, or a file or package folder of the user's."""
    import importlib.util
    from pathlib import Path

    path = Path(text)
    if not (text.endswith(".py") or "/" in text):
        try:
            found = importlib.util.find_spec(text)
        except (ImportError, ValueError):
            found = None
        if found is not None:
            return _loaded_own(Plugin(text, text, text, "not installed"))
        # The working directory is not on sys.path; only the module that the user names is read from it.
        path = next((p for p in (Path(f"{text}.py"), Path(text)) if p.exists()), path)
    file = path / "__init__.py" if path.is_dir() else path
    name = path.stem
    if not file.is_file():
        raise PluginError(f"-p {text}: no importable module and no file of that name; write -p NAME or -p ./FILE.py")
    if name in sys.modules and getattr(sys.modules[name], "__file__", None) != str(file.resolve()):
        raise PluginError(f"-p {text}: a module named '{name}' is already imported; rename the file")
    spec = importlib.util.spec_from_file_location(
        name, file.resolve(), submodule_search_locations=[str(path.resolve())] if path.is_dir() else None
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    plugin = Plugin(name, name, text, "not installed")
    _guard(plugin, lambda: spec.loader.exec_module(module))  # type: ignore[union-attr]
    return _loaded_own(plugin)


def _loaded_own(plugin: Plugin) -> Plugin:
    _load(plugin)
    return plugin


def _guard(plugin: Plugin, action: Callable[[], Any]) -> Any:
    """Run a plugin's code; whatever it raises becomes a `PluginError` that names plugin, version, file and line."""
    try:
        return action()
    except (Exception, SystemExit) as error:
        import traceback

        frames = traceback.extract_tb(error.__traceback__)
        outside = [frame for frame in frames if "importlib" not in frame.filename and frame.filename != __file__]
        at = f" at {outside[-1].filename}:{outside[-1].lineno}" if outside else ""
        if isinstance(error, SyntaxError) and error.filename:
            at = f" at {error.filename}:{error.lineno}"
        first = (str(error) or "no message").strip()
        raise PluginError(f"{plugin} cannot be used: {type(error).__name__}: {first}{at}") from error


def _load(plugin: Plugin, asked: Asked | None = None) -> None:
    """Import the plugin, check its hooks against the specs, and list its components.

    Raises:
        PluginError: naming package and version, for whatever goes wrong.
    """
    if plugin.module is not None:
        return
    import importlib

    from trainkit.component import Component
    from trainkit.hooking import Asked

    module = _guard(plugin, lambda: importlib.import_module(plugin.module_name))
    try:
        manager = (asked or Asked()).only(module, plugin.name)
    except PluginError as error:
        raise PluginError(f"{plugin} cannot be used: {error}") from error
    listed: list[Any] = []
    for part in _guard(plugin, manager.hook.trainkit_components):
        if not isinstance(part, list | tuple):
            raise PluginError(f"{plugin} cannot be used: trainkit_components gave {part!r}, not a list of Component")
        listed.extend(part)
    seen: set[tuple[str, str]] = set()
    for component in listed:
        if not isinstance(component, Component):
            raise PluginError(f"{plugin} cannot be used: trainkit_components gave {component!r}, not a Component")
        if (component.kind, component.name) in seen:
            raise PluginError(f"{plugin} cannot be used: it lists {component.kind} '{component.name}' twice")
        seen.add((component.kind, component.name))
    plugin.module = module
    plugin.components = [replace_plugin(component, plugin.name) for component in listed]


def _as_remembered(plugin: Plugin, asked: Asked) -> bool:
    """Import a plugin, and say whether it supplies what was remembered of it."""
    if plugin.module is not None:
        return True
    try:
        _load(plugin, asked)
    except PluginError:
        return False
    return [entry.as_list() for entry in plugin.entries] == [entry.as_list() for entry in plugin.remembered]


def replace_plugin(component: Component, name: str) -> Component:
    """A copy of the component that knows which plugin supplies it."""
    import copy

    known = copy.copy(component)  # dataclasses.replace would read the signature a second time
    object.__setattr__(known, "plugin", name)
    return known
