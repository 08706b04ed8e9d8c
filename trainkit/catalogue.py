"""What the installed plugins supply, remembered from the last time they were all imported.

``list`` needs names and help lines, and a recipe a few components: importing every plugin for that costs more than all
the rest. So names, first paragraphs of help and needed libraries are kept in one JSON file in the user's cache folder.
It counts only while nothing that they follow from has changed: the distributions on Python's path, and every file that
was imported to list the components. Which plugins there are, and what is imported for them, is read from the metadata
of the distributions each time: the file cannot name a module. `TRAINKIT_PLUGIN_CACHE` = ``off`` does without it.
"""

from __future__ import annotations

import os
import stat
import sys
import time
import zlib

from trainkit.errors import MachineError

TYPE_CHECKING = False  # as in trainkit/__init__.py: typing is not worth its import for ``list``
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, TypeAlias

    Identity: TypeAlias = tuple[str, str, str, str]  # entry point, module, distribution, version

GROUP = "trainkit"
FORMAT = 1
MOST_BYTES = 8 * 1024**2
MOST_FILES = 4000
MOST_KEPT = 32
# A file changed within the clock's grain of being read has the times of what was read: such times do not count.
GRAIN = 2_000_000_000
_STARTED = time.time_ns()


class Entry:
    """One component as a list shows it.

    Args:
        kind: its kind.
        name: how recipes call it.
        help: the first paragraph of its docstring.
        libraries: optional libraries it needs, with the commands that install them.
    """

    __slots__ = ("help", "kind", "libraries", "name")

    def __init__(self, kind: str, name: str, help: str, libraries: Mapping[str, str]) -> None:
        self.kind = kind
        self.name = name
        self.help = help
        self.libraries = dict(libraries)

    def as_list(self) -> list[Any]:
        """What the file holds of it."""
        return [self.kind, self.name, self.help, self.libraries]


def cache_folder() -> str:
    """Where downloads, decoded data, compiled programs and this are kept: TRAINKIT_CACHE, else the user's cache folder.

    Raises:
        MachineError: if nobody knows the user's home. A folder below the working directory is none: compiled programs
            are run from here.
    """
    if given := os.environ.get("TRAINKIT_CACHE"):
        return given
    home = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(home):  # which its specification says is to be ignored
        home = os.path.join(os.path.expanduser("~"), ".cache")
    if not os.path.isabs(home):
        raise MachineError(
            "the home folder of this user is not known\n  set HOME, or TRAINKIT_CACHE to a folder for caches"
        )
    return os.path.join(home, "trainkit")


class Catalogue:
    """What is installed now, and what was remembered of it.

    The metadata of the distributions is read here in the plainest form alone; where importlib's reader finds something
    else (`agrees`), nothing is kept.
    """

    def __init__(self) -> None:
        self.environment, self.plugins = _installed()

    @classmethod
    def open(cls) -> Catalogue | None:
        """The catalogue of this process; ``None`` where it is off, or packages come from elsewhere than files."""
        if os.environ.get("TRAINKIT_PLUGIN_CACHE", "").lower() in ("0", "off", "false", "no"):
            return None
        # Other finders than Python's own may know packages that no folder shows.
        if any(hasattr(finder, "find_distributions") for finder in sys.meta_path if _is_foreign(finder)):
            return None
        try:
            cache_folder()
            return cls()
        except (OSError, ValueError, TypeError, MachineError):  # a folder that is gone; what is no path; no home
            return None

    @property
    def file(self) -> str:
        """The file, in the user's cache folder: one for each Python and path, so that two do not take turns."""
        which = "\0".join((sys.prefix, sys.version, *map(os.path.abspath, sys.path)))
        return os.path.join(cache_folder(), "plugins", f"{zlib.crc32(os.fsencode(which)):08x}.json")

    def read(self) -> dict[Identity, list[Entry]] | None:
        """What each plugin supplies; ``None`` where that is not known for certain."""
        try:
            return self._read()
        except (OSError, ValueError, TypeError, RecursionError):  # not there, truncated, another's, of another form
            return None

    def _read(self) -> dict[Identity, list[Entry]] | None:
        import json

        data = _own_bytes(self.file)
        first, _, rest = data.partition(b"\n")
        if first != _first_line(zlib.crc32(rest)):
            return None
        found = json.loads(rest)
        if not isinstance(found, dict) or set(found) != {"environment", "files", "plugins"}:
            return None
        if found["environment"] != self.environment or not _unchanged(found["files"]):
            return None
        known: dict[Identity, list[Entry]] = {}
        for name, module, distribution, version, entries in found["plugins"]:
            known[name, module, distribution, version] = [_entry(*parts) for parts in entries]
        # A plugin that is installed must be in it, and no other.
        return known if sorted(known) == sorted(self.plugins) else None

    def write(self, known: Mapping[Identity, Sequence[Entry]]) -> None:
        """Keep what the plugins supply, all of which were just imported in this process.

        Where that cannot be done, nothing is kept and nothing is said.
        """
        if sorted(known) != sorted(self.plugins):  # importlib's reader found others
            return
        files = _read_files(module for _, module, *_ in known)
        times = [time for _, *seen in files for time in seen[:2]]
        if len(files) > MOST_FILES or any(time > _STARTED - GRAIN for time in times):
            return
        if _installed()[0] != self.environment:  # something was installed meanwhile
            return
        import contextlib
        import json
        import tempfile

        plugins = [[*identity, [entry.as_list() for entry in entries]] for identity, entries in known.items()]
        content = {"environment": self.environment, "files": files, "plugins": plugins}
        data = json.dumps(content).encode()
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(self.file), mode=0o700, exist_ok=True)
            number, made = tempfile.mkstemp(dir=os.path.dirname(self.file), suffix=".new")  # of this user alone
            try:
                with os.fdopen(number, "wb") as file:
                    file.write(_first_line(zlib.crc32(data)) + b"\n" + data)
                os.replace(made, self.file)  # whole or not at all, whoever else writes
                _make_room(os.path.dirname(self.file))
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(made)
                raise


def _make_room(folder: str) -> None:
    """Remove the oldest files where there are many."""
    with os.scandir(folder) as entries:
        files = sorted((entry.stat(follow_symlinks=False).st_mtime_ns, entry.path) for entry in entries)
    for _, path in files[:-MOST_KEPT]:
        os.unlink(path)


def _is_foreign(finder: object) -> bool:
    return getattr(finder, "__name__", "") not in ("BuiltinImporter", "FrozenImporter", "PathFinder")


def _first_line(checksum: int) -> bytes:
    return b"trainkit plugins %d %08x" % (FORMAT, checksum)


def _own_bytes(path: str) -> bytes:
    """The bytes of a regular file that no other user can have written.

    Raises:
        OSError: if it is not there, or cannot be read.
        ValueError: if it is a link, not a file, another user's, open to others, or too long.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    number = os.open(path, flags)
    try:
        seen = os.fstat(number)
        mine = not hasattr(os, "geteuid") or (seen.st_uid == os.geteuid() and not seen.st_mode & 0o022)
        if not stat.S_ISREG(seen.st_mode) or not mine or seen.st_size > MOST_BYTES:
            raise ValueError("it is no file of this user's alone")
        with os.fdopen(os.dup(number), "rb") as file:
            return file.read(MOST_BYTES)
    finally:
        os.close(number)


def _entry(kind: Any, name: Any, help: Any, libraries: Any) -> Entry:
    texts = [kind, name, help, *libraries, *libraries.values()] if isinstance(libraries, dict) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a component is not described by texts")
    return Entry(kind, name, help, libraries)


# ------------------------------------------------------------ what is installed


def installed(library: str) -> bool:
    """Whether a library can be imported; it is not."""
    import importlib.util

    try:
        return importlib.util.find_spec(library) is not None
    except (ImportError, ValueError):
        return False


def _installed() -> tuple[list[Any], list[Identity]]:
    """What tells one set of installed distributions from another, and the plugins among them."""
    seen: list[Any] = []
    plugins: list[Identity] = []
    names: set[str] = set()
    for place in sys.path:
        folder = os.path.abspath(place)
        listed: list[Any] = []
        infos: list[str] = []
        try:
            inside = sorted(os.listdir(folder))
        except NotADirectoryError:  # a zip file
            listed = [_times(folder)]
        except OSError:
            pass
        else:
            infos = [entry for entry in inside if entry.endswith((".dist-info", ".egg-info", ".egg-link"))]
            # What can be imported from here may hide what lies in a later folder.
            modules = "/".join(entry for entry in inside if _is_module(entry))
            listed = [zlib.crc32(os.fsencode(modules))]
        if folder.endswith(".egg"):
            infos.append("EGG-INFO")
        for info in infos:
            path = os.path.join(folder, info)
            points, metadata = os.path.join(path, "entry_points.txt"), os.path.join(path, "METADATA")
            listed.append([info, _times(path), _times(points), _times(metadata)])
            if listed[-1][2] is not None and (found := _plugins_of(points)):
                name, version = _name_of(metadata if listed[-1][3] else os.path.join(path, "PKG-INFO"))
                if name not in names:  # what lies earlier on the path hides it
                    names.add(name)
                    plugins += [(entry, module, name, version) for entry, module in found]
        seen.append([folder, listed])
    return [sys.version, sys.prefix, seen], plugins


def _is_module(name: str) -> bool:
    """Whether a file or folder of this name may be imported."""
    stem, dot, ending = name.partition(".")
    return stem.isidentifier() and stem != "__pycache__" and (not dot or ending.endswith(("py", "pyc", "so", "pyd")))


def _plugins_of(path: str) -> list[tuple[str, str]]:
    """Names and modules of the entry points of our group."""
    with open(path, "rb") as file:
        data = file.read()
    if GROUP.encode() not in data:
        return []
    section, found = "", []
    for line in data.decode().splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif section == GROUP and line and line[0] not in "#;":
            name, _, module = line.partition("=")
            found.append((name.strip(), module.strip()))
    return found


def _name_of(path: str) -> tuple[str, str]:
    fields: dict[str, str] = {}
    with open(path, "rb") as file:
        for line in file.read(65536).decode(errors="replace").splitlines():
            if not line:  # the description follows
                break
            name, _, value = line.partition(":")
            fields.setdefault(name.lower(), value.strip())
    return fields.get("name", ""), fields.get("version", "")


def _times(path: str) -> list[int] | None:
    try:
        seen = os.stat(path)
    except (OSError, ValueError):
        return None
    return [seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size if stat.S_ISREG(seen.st_mode) else 0]


# ------------------------------------------------------------ what was read


def _read_files(packages: Iterable[str]) -> list[list[Any]]:
    """Every file that this process has imported, but for Python's own, and all that lies in the plugins' packages."""
    own = os.path.dirname(os.__file__) + os.sep
    foreign = tuple(os.path.join(own, name) for name in ("site-packages", "dist-packages"))
    paths = {__file__}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and (not file.startswith(own) or file.startswith(foreign)):
            paths.add(file)
    for package in packages:
        for folder in getattr(sys.modules.get(package.partition(".")[0]), "__path__", ()):
            for inside, folders, files in os.walk(folder):
                folders[:] = [name for name in folders if name != "__pycache__"]
                paths.add(inside)  # its times change with a file that is added or removed
                paths.update(os.path.join(inside, name) for name in files)
                if len(paths) > MOST_FILES:
                    break
    return [[path, *(_times(path) or ())] for path in sorted(paths)]


def _unchanged(files: Any) -> bool:
    return all(isinstance(path, str) and (_times(path) or []) == seen for path, *seen in files)
