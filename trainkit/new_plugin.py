"""A new project that holds a plugin: a distribution with one component, its recipe, tests, and what they need.

The files are those of the folder `template`, which is a template for Copier too. They are made in memory before the
first is written.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from trainkit.catalogue import installed
from trainkit.console import emit, emit_json, say
from trainkit.errors import MachineError, UsageError
from trainkit.listing import known_kind

TYPE_CHECKING = False  # as in trainkit/__init__.py: typing is not worth its import here
if TYPE_CHECKING:
    from trainkit.cli import Session

TEMPLATE = Path(__file__).parent / "template"
LONGEST = 40  # characters of a name: lines of the new code that it stands in are not too long
_SUFFIX = ".jinja"
_NORMAL = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Names:
    """What a new plugin is called.

    Args:
        name: of its distribution, in the form that installers compare.
        kind: of its component.
        package: what is imported.
        component: how recipes call it.
        class_name: of what its factory makes.
    """

    name: str
    kind: str
    package: str
    component: str
    class_name: str


def new_plugin(session: Session) -> int:
    """The verb ``new-plugin``.

    Raises:
        UsageError: if the words make no new plugin.
        MachineError: if it cannot be written.
    """
    args = session.args
    if args.template:
        if args.name or args.kind or args.out:
            raise UsageError("new-plugin: --template prints where the template lies, and makes nothing: write it alone")
        emit_json({"template": str(TEMPLATE)}) if session.json else emit(str(TEMPLATE))
        return 0
    if not args.name or not args.kind:
        raise UsageError(
            "new-plugin takes a name and a kind, such as: trainkit new-plugin trainkit-triangle --kind schedule"
        )
    names = names_of(args.name, known_kind(args.kind))
    table = session.plugins(whole=False).table(args.kind)
    refuse_taken(names, {name: found[0][0].distribution for name, found in table.items()})
    folder = Path(args.out or names.name)
    files = render(names)
    write_project(files, folder)
    recipe = f"{names.package}:{names.component}"
    if session.json:
        emit_json({**vars(names), "folder": str(folder), "recipe": recipe, "files": list(files)})
    elif not args.quiet:
        say(f"{folder} has the {names.kind} '{names.component}', its recipe and its tests; next:")
        for command in (
            f"cd {shlex.quote(str(folder))}",
            'pip install -e ".[dev]"',
            "pytest --trainkit-contracts",
            f"trainkit {recipe}",
        ):
            say(f"  {command}")
    return 0


def names_of(name: str, kind: str) -> Names:
    """The names that follow from that of a distribution.

    Args:
        name: as the user wrote it; case does not matter, nor do ``_`` and ``.`` for ``-``.
        kind: of the component.

    Raises:
        UsageError: if it makes no distribution, or no module that can be imported.
    """
    normal = re.sub(r"[-_.]+", "-", name).lower()
    if not _NORMAL.fullmatch(normal):
        why = "a package's name is made of letters and digits, the first a letter, with hyphens between them"
        near = re.sub(r"[^a-z0-9]+", "-", normal).strip("-")
        cure = f"such as 'plugin-{near}'" if near[:1].isdigit() else f"such as '{near or 'my-lab'}'"
        raise UsageError(f"new-plugin: '{name}' cannot be the name of a package: {why}, {cure}")
    if len(normal) > LONGEST:
        raise UsageError(f"new-plugin: a name of {len(normal)} characters is too long; take at most {LONGEST}")
    component = normal.removeprefix("trainkit-").replace("-", "_")
    if not component.isidentifier():
        raise UsageError(
            f"new-plugin: '{name}' would make a component named '{component}', which no function can be called; let a "
            "letter follow 'trainkit-'"
        )
    class_name = "".join(part.capitalize() for part in component.split("_"))
    return Names(normal, kind, normal.replace("-", "_"), component, class_name)


def refuse_taken(names: Names, known: Mapping[str, str]) -> None:
    """Refuse names that are those of something else.

    Args:
        names: of the new plugin.
        known: the components of its kind that are installed: the distribution of each, by name.

    Raises:
        UsageError: naming what has the name already.
    """
    cure = f"take another name, such as 'my-{names.name.removeprefix('trainkit-')}'"
    if names.name == "trainkit" or (_importable(names.package) and not _is_plugin(names.name)):
        raise UsageError(f"new-plugin: a module named '{names.package}' is there already, and would be hidden; {cure}")
    if keyword.iskeyword(names.component) or keyword.issoftkeyword(names.component):
        raise UsageError(f"new-plugin: '{names.component}' is a word of Python, and no function can be it; {cure}")
    if names.component.startswith("test"):  # its own tests import it
        raise UsageError(f"new-plugin: pytest would take a function named '{names.component}' for a test; {cure}")
    used = _used(names.kind)
    if clash := [name for name in (names.component, names.class_name) if name in used or hasattr(builtins, name)]:
        raise UsageError(f"new-plugin: '{clash[0]}' is a name that the plugin's own code uses; {cure}")
    owner = known.get(names.component)
    if owner is not None and owner != names.name:
        raise UsageError(
            f"new-plugin: {owner} has {names.kind} '{names.component}' already, and recipes would have to say which "
            f"they mean; {cure}"
        )


def render(names: Names) -> dict[str, bytes]:
    """The files of a new project by their path in it, in order."""
    from jinja2 import FileSystemLoader, StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    # As copier.yml has it, so that Copier makes the same.
    environment = SandboxedEnvironment(
        loader=FileSystemLoader(TEMPLATE), undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    made: dict[str, bytes] = {}
    for file in _files(TEMPLATE / "tree"):
        parts = [environment.from_string(part).render(vars(names)) for part in file.split("/")]
        if parts[-1] == _SUFFIX:  # a file that Copier alone writes
            continue
        if parts[-1].endswith(_SUFFIX):
            content = environment.get_template(f"tree/{file}").render(vars(names)).encode()
        else:
            content = (TEMPLATE / "tree" / file).read_bytes()
        made["/".join(parts).removesuffix(_SUFFIX)] = content
    return dict(sorted(made.items()))


def write_project(files: Mapping[str, bytes], folder: Path) -> None:
    """Write a new project's files.

    Args:
        files: as `render` gives them.
        folder: it is made, unless it is there and empty.

    Raises:
        UsageError: if something is there already.
        MachineError: if it cannot be written; what was written is removed.
    """
    made: list[Path] = []
    try:
        if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
            what = "is there already, and is not an empty folder"
            raise UsageError(f"new-plugin: {folder} {what}; name another place with --out DIR")
        for name, content in files.items():
            path = folder / name
            for above in reversed([path.parent, *path.parent.parents]):
                if not above.exists():
                    above.mkdir()
                    made.append(above)
            made.append(path)
            path.write_bytes(content)
    except OSError as error:
        for path in reversed(made):
            _remove(path)
        why = f"cannot be written: {error.strerror}; name another place with --out DIR"
        raise MachineError(f"{error.filename or folder}: {why}") from error


def _remove(path: Path) -> None:
    import contextlib

    with contextlib.suppress(OSError):
        path.rmdir() if path.is_dir() else path.unlink()


def _files(folder: Path) -> Iterator[str]:
    for inside, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        yield from ((Path(inside) / name).relative_to(folder).as_posix() for name in files)


def _importable(package: str) -> bool:
    """Whether there is a module of that name; nothing is imported."""
    return package in sys.stdlib_module_names or installed(package)


def _is_plugin(name: str) -> bool:
    """Whether an installed distribution of that name has a plugin: that is an earlier copy of the new one."""
    import importlib.metadata

    try:
        points = importlib.metadata.distribution(name).entry_points
    except importlib.metadata.PackageNotFoundError:
        return False
    return any(point.group == "trainkit" for point in points)


def _used(kind: str) -> set[str]:
    """The names that a plugin of a kind gives to things, beside its component's own."""
    own = Names("x-name", kind, "x_package", "x_component", "XClass")
    made = render(own)
    used: set[str] = set()
    for path, content in made.items():
        if not path.endswith(".py"):
            continue
        for node in ast.walk(ast.parse(content)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                used.add(node.name)
                if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):  # what it asks for by name
                    used |= {argument.arg for argument in node.args.args}
            elif isinstance(node, ast.alias):
                used.add((node.asname or node.name).partition(".")[0])
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                used.add(node.id)
    return used - set(vars(own).values()) | {kind}
