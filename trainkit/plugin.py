"""One plugin: what is known of it, and how it is imported and asked for its components.

What takes long to import is imported where it is used, as in `manager.py`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from trainkit.catalogue import Entry
from trainkit.errors import PluginError

TYPE_CHECKING = False  # as in trainkit/__init__.py: typing is not worth its import for ``list``
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from trainkit.catalogue import Identity
    from trainkit.component import Component
    from trainkit.hooking import Asked


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


def own_module(text: str) -> Plugin:
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
    load_plugin(plugin)
    return plugin


def _guard(plugin: Plugin, action: Callable[[], Any]) -> Any:
    """Run a plugin's code; whatever it raises becomes a `PluginError` that names plugin, version, file and line."""
    try:
        return action()
    except (Exception, SystemExit) as error:
        import os
        import traceback
        from pathlib import Path

        own = str(Path(__file__).parent) + os.sep  # what the core refuses was written by the plugin that called it
        frames = traceback.extract_tb(error.__traceback__)
        outside = [
            frame for frame in frames if "importlib" not in frame.filename and not frame.filename.startswith(own)
        ]
        at = f" at {outside[-1].filename}:{outside[-1].lineno}" if outside else ""
        if isinstance(error, SyntaxError) and error.filename:
            at = f" at {error.filename}:{error.lineno}"
        first = (str(error) or "no message").strip()
        raise PluginError(f"{plugin} cannot be used: {type(error).__name__}: {first}{at}{_cure(plugin)}") from error


def _cure(plugin: Plugin) -> str:
    """What whoever has installed a broken plugin can do about it; one of one's own is to be mended."""
    if plugin.version == "not installed" or plugin.distribution == "trainkit":
        return ""
    return f"; pip install --upgrade {plugin.distribution} may mend it, --without {plugin.name} leaves it out"


def load_plugin(plugin: Plugin, asked: Asked | None = None) -> None:
    """Import the plugin, check its hooks against the specs, and list its components.

    Raises:
        PluginError: naming package and version, for whatever goes wrong.
    """
    if plugin.module is not None:
        return
    import importlib
    import inspect

    from trainkit.component import Component
    from trainkit.hooking import Asked

    _check_needs(plugin)
    module = _guard(plugin, lambda: importlib.import_module(plugin.module_name))
    try:
        manager = (asked or Asked()).only(module, plugin.name)
    except PluginError as error:
        raise PluginError(f"{plugin} cannot be used: {error}{_cure(plugin)}") from error

    def refused(what: str, place: str = "") -> PluginError:
        code = inspect.unwrap(module.trainkit_components).__code__
        at = place or f"{code.co_filename}:{code.co_firstlineno}"
        return PluginError(f"{plugin} cannot be used: {what} at {at}{_cure(plugin)}")

    listed: list[Any] = []
    for part in _guard(plugin, manager.hook.trainkit_components):
        if not isinstance(part, list | tuple):
            raise refused(f"trainkit_components gave {part!r}, not a list of Component")
        listed.extend(part)
    seen: set[tuple[str, str]] = set()
    for component in listed:
        if not isinstance(component, Component):
            raise refused(f"trainkit_components gave {component!r}, not a Component")
        if (component.kind, component.name) in seen:
            raise refused(f"it lists {component.kind} '{component.name}' twice, the second", component.origin)
        seen.add((component.kind, component.name))
    plugin.module = module
    plugin.components = [replace_plugin(component, plugin.name) for component in listed]


def _check_needs(plugin: Plugin) -> None:
    """Hold that the plugin was made for this trainkit: one that was not fails later, in ways that say nothing.

    Raises:
        PluginError: naming the versions that it needs, as its metadata says.
    """
    if plugin.distribution == "trainkit" or plugin.version == "not installed":
        return
    import importlib.metadata

    from trainkit import __version__

    try:
        requires = importlib.metadata.requires(plugin.distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return
    for text in requires:
        if not text.lower().startswith("trainkit"):
            continue
        from packaging.requirements import InvalidRequirement, Requirement

        try:
            needed = Requirement(text)
        except InvalidRequirement:  # what installers make of it is theirs
            continue
        if needed.name.lower() != "trainkit" or (needed.marker and not needed.marker.evaluate({"extra": ""})):
            continue
        if not needed.specifier.contains(__version__, prereleases=True):
            update, other = f"pip install --upgrade {plugin.distribution}", f"pip install 'trainkit{needed.specifier}'"
            raise PluginError(
                f"{plugin} cannot be used: it needs trainkit{needed.specifier}, and trainkit {__version__} is "
                f"installed; install a version of it that fits with: {update}, or the trainkit that it needs with: "
                f"{other}"
            )


def as_remembered(plugin: Plugin, asked: Asked) -> bool:
    """Import a plugin, and say whether it supplies what was remembered of it."""
    if plugin.module is not None:
        return True
    try:
        load_plugin(plugin, asked)
    except PluginError:
        return False
    return [entry.as_list() for entry in plugin.entries] == [entry.as_list() for entry in plugin.remembered]


def replace_plugin(component: Component, name: str) -> Component:
    """A copy of the component that knows which plugin supplies it."""
    import copy

    known = copy.copy(component)  # dataclasses.replace would read the signature a second time
    object.__setattr__(known, "plugin", name)
    return known
