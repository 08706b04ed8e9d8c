"""Pages for reading: those of docs/, which are installed too, and one for each component, made from its signature.

``trainkit docs`` says where they lie; the site (docs/conf.py) has the same pages.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from trainkit.arguments import near
from trainkit.catalogue import cache_folder
from trainkit.component import CAPABILITIES, Component
from trainkit.console import emit, emit_json, emit_table, write_file
from trainkit.errors import MachineError, UsageError
from trainkit.kinds import KINDS
from trainkit.manager import Plugins
from trainkit.plugin import Plugin
from trainkit.settings import Setting, show_value
from trainkit.show import example_toml, find_component
from trainkit.tables import COMPONENT_TABLES, INSIDE, WITHIN, table_of

PACKAGE = Path(__file__).parent
# In an installed package beside the modules; in a clone where people look for them.
FOLDERS = (PACKAGE / "docs", PACKAGE.parent / "docs")


# ------------------------------------------------------------ trainkit docs


def show_docs(plugins: Callable[[], Plugins], words: Sequence[str], as_json: bool) -> None:
    """Say where a page lies: all of them, one by its name, or one of a component, which is written first.

    Args:
        plugins: gives the plugins whose components have pages; asked for a component's page alone.
        words: nothing, the name of a page, or a kind and a name.
        as_json: whether to write one JSON object.

    Raises:
        UsageError: if there is no such page or component.
        MachineError: if no pages are installed, or the page of a component cannot be written.
    """
    pages = installed_pages()
    if len(words) > 1:
        installed = plugins()
        component = find_component(installed, words, "docs")
        file = write_page(component, installed)
        found: dict[str, Any] = {"kind": component.kind, "name": component.name, "file": str(file)}
    elif words:
        name = words[0].removesuffix(".md")
        if name not in pages:
            hint = f"a component has one: trainkit docs {name} NAME\n  " if name in KINDS else near(name, pages)
            raise UsageError(f"no page named '{name}'\n  {hint}pages: {', '.join(pages)}")
        found = {"page": name, "file": str(pages[name])}
    else:
        if as_json:
            emit_json({"pages": [{"page": p, "title": title(f), "file": str(f)} for p, f in pages.items()]})
        else:
            emit_table(("page", "about", "file"), [(page, title(file), str(file)) for page, file in pages.items()])
        return
    if as_json:
        emit_json(found)
    else:
        emit(found["file"])


def installed_pages() -> dict[str, Path]:
    """The files of all pages, by name.

    Raises:
        MachineError: if there are none.
    """
    folder = next((folder for folder in FOLDERS if (folder / "getting-started.md").is_file()), None)
    if folder is None:
        raise MachineError(f"no pages lie in {FOLDERS[0]}\n  install trainkit again: they are part of it")
    return {file.stem: file for file in sorted(folder.glob("*.md"))}


def title(file: Path) -> str:
    """The first heading of a page."""
    with open(file, encoding="utf-8") as lines:
        return next((line[2:].strip() for line in lines if line.startswith("# ")), file.stem)


def write_page(component: Component, plugins: Plugins) -> Path:
    """Write the page of a component into the cache folder, anew each time: its signature may have changed.

    Raises:
        MachineError: if it cannot be written.
    """
    owner = plugins.owner(component)
    file = Path(cache_folder()) / "docs" / owner.package / page_file(component)
    docs = installed_pages()["getting-started"].parent
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        cure = "set TRAINKIT_CACHE to a folder that can be written"
        raise MachineError(f"{file.parent}: cannot be made: {error.strerror}\n  {cure}") from error
    write_file(str(file), component_page(component, owner, quote(docs.as_posix(), safe="/:")))
    return file


# ------------------------------------------------------------ the page of a component


def page_file(component: Component) -> str:
    """Where its page lies among those of its plugin: ``optimizer/lion.md``."""
    return f"{component.kind}/{re.sub(r'[^A-Za-z0-9_-]+', '-', component.name)}.md"


def component_page(component: Component, owner: Plugin, docs: str, recipes: Sequence[str] = ()) -> str:
    """All that signature and docstring say, as Markdown.

    Args:
        component: the component.
        owner: the plugin that supplies it.
        docs: the way to the folder of the other pages, as in a link.
        recipes: names of packaged recipes that use it.
    """
    kind = component.kind
    parts = [f"# {component.name}", f"[Components]({docs}/components.md) / [{kind}]({docs}/components.md#{kind})"]
    parts += [one_line(component), *body(component)]
    parts += ["## Settings", settings_table(component.settings) if component.settings else "It has no settings."]
    table = table_of(kind)
    own = {setting.name for setting in component.settings}
    shared = [setting.name for setting in (table.added if table else ()) if setting.name not in own]
    if table is not None and shared:
        names = ", ".join(f"`{name}`" for name in shared)
        parts.append(f"Every `[{table.name}]` table also takes {names}: see [Recipes]({docs}/recipes.md).")
    parts += ["## Example", f"```toml\n{example_toml(component)}\n```"]
    if traits := trait_lines(component):
        parts += ["## Traits", "\n".join(traits)]
    if component.exempt:
        parts += [
            "## Contracts that it does not keep",
            f"[Testing a plugin]({docs}/testing.md) says what each demands.",
            "\n".join(f"- `{name}`: {markdown(reason)}" for name, reason in component.exempt.items()),
        ]
    if recipes:
        parts += ["## Recipes that use it", "\n".join(f"- `{name}`" for name in recipes)]
    module = getattr(component.factory, "__module__", "")
    parts += [
        "## Where it comes from",
        f"Plugin `{owner.name}` of {owner.distribution} {owner.version}, module `{module}` (`{component.source}`). "
        f"`trainkit describe {kind} {component.name}` shows this for what is installed.",
    ]
    return "\n\n".join(parts) + "\n"


def one_line(component: Component) -> str:
    """The first paragraph of its docstring, as Markdown on one line."""
    return markdown(" ".join(component.help.split()))


def body(component: Component) -> list[str]:
    """What the docstring says beside its first paragraph and its lists of settings, results and errors."""
    paragraphs = (component.factory.__doc__ or "").split("\n\n")[1:]
    listed = ("Args:", "Settings:", "Returns:", "Raises:")
    kept = [" ".join(part.split()) for part in paragraphs if not part.strip().startswith(listed)]
    return [markdown(part) for part in kept if part]


def trait_lines(component: Component) -> list[str]:
    """What it says of itself, as items of a list."""
    traits = [
        f"- `{word if value is True else f'{word} = {show_value(value)}'}`: {CAPABILITIES[word]}."
        for word, value in component.capabilities.items()
    ]
    traits += [f"- It owns `{thing}`: two owners in one recipe are a problem." for thing in component.owns]
    for says, names in (
        ("It comes before", component.before),
        ("It comes after", component.after),
        ("It cannot be in one recipe with", component.conflicts),
    ):
        if names:
            traits.append(f"- {says} {', '.join(f'`{name}`' for name in names)}.")
    return traits + [f"- It needs `{library}`: `{how}`." for library, how in component.libraries.items()]


def settings_table(settings: Sequence[Setting]) -> str:
    """A Markdown table of settings: name, type, default, help."""
    lines = ["| setting | type | default | |", "| --- | --- | --- | --- |"]
    for setting in settings:
        if setting.required:
            default = "required"
        else:
            default = "unset" if setting.default is None else f"`{show_value(setting.default)}`"
        lines.append(table_row(f"`{setting.name}`", setting.type_text, default, markdown(setting.full_help)))
    return "\n".join(lines)


def table_row(*cells: str) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def markdown(text: str) -> str:
    """Docstring text as Markdown: its double backticks are single ones, stars outside of them are no emphasis."""
    parts = re.sub(r"`{2}([^`]+)`{2}", r"`\1`", text).split("`")
    return "`".join(part if n % 2 else re.sub(r"(?<!\\)([*<])", r"\\\1", part) for n, part in enumerate(parts))


# ------------------------------------------------------------ which recipes use what


def recipes_by_component(recipes: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], list[str]]:
    """The names of the recipes whose own text names a component, by its kind and name.

    Args:
        recipes: tables of recipes by name, as they are written, without their bases.
    """
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for recipe, tables in recipes.items():
        for used in dict.fromkeys(_used(tables)):
            found[used].append(recipe)
    return found


def _used(tables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, table in tables.items():
        if name in COMPONENT_TABLES:
            yield from _used_in(table, COMPONENT_TABLES[name].kind)


def _used_in(value: Any, kind: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for item in value:
            yield from _used_in(item, kind)
    elif isinstance(value, Mapping):
        if isinstance(value.get("use"), str):
            yield kind, value["use"]
        for key, inner in value.items():
            if isinstance(inner, str) and key in _KINDS_WITHIN:  # executor = "processes"
                yield _KINDS_WITHIN[key], inner
            yield from _used_in(inner, _KINDS_WITHIN.get(key, kind))


_KINDS_WITHIN = {key: kind for kind, (_, key) in {**INSIDE, **WITHIN}.items()}
