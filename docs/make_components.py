"""Writes docs/components.md, and the tables of settings in docs/recipes.md, from the signatures they describe.

python docs/make_components.py            write both files
python docs/make_components.py --check    say what is stale, exit code 1
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from trainkit.component import CAPABILITIES, KINDS, Component
from trainkit.inner_tables import ADDED, GROUP_SETTINGS
from trainkit.manager import Plugins
from trainkit.settings import Setting, show_value
from trainkit.show import example_toml
from trainkit.tables import COMPONENT_TABLES, RUN_SETTINGS, TOP_SETTINGS

DOCS = Path(__file__).parent
HEAD = """\
# Components

Everything that comes with trainkit, by kind. `python docs/make_components.py` writes this page from the signatures of
the factories; `trainkit describe KIND NAME` shows the same for every installed component. Settings that every table of
a kind takes (`batch_size`, `warmup`, ...) are in [recipes.md](recipes.md).
"""
TABLES = {
    "top": TOP_SETTINGS,
    "run": RUN_SETTINGS,
    "optimizer.group": GROUP_SETTINGS,
    # What tables inside others take beside their component's own settings.
    **{f"{'optimizer' if name == 'rest' else 'schedule'}.{name}": settings for name, settings in ADDED.items()},
    **{name: table.added for name, table in COMPONENT_TABLES.items() if table.added},
}


def code(text: str) -> str:
    """Docstring text as Markdown."""
    return re.sub(r"`{2}([^`]+)`{2}", r"`\1`", text)


def settings_table(settings: Sequence[Setting]) -> str:
    """A Markdown table of settings: name, type, default, help."""
    lines = ["| setting | type | default | |", "| --- | --- | --- | --- |"]
    for setting in settings:
        default = (
            "required"
            if setting.required
            else "unset"
            if setting.default is None
            else f"`{show_value(setting.default)}`"
        )
        cells = (f"`{setting.name}`", setting.type_text, default, code(setting.full_help))
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines)


def body(component: Component) -> str:
    """What the docstring says beside its first paragraph and its list of settings."""
    paragraphs = (component.factory.__doc__ or "").split("\n\n")[1:]
    listed = ("Args:", "Returns:", "Raises:")
    kept = [" ".join(part.split()) for part in paragraphs if not part.strip().startswith(listed)]
    return code("\n\n".join(part for part in kept if part))


def section(component: Component) -> str:
    """One component."""
    parts = [f"### {component.name}", code(" ".join(component.help.split()))]
    if more := body(component):
        parts.append(more)
    parts.append(settings_table(component.settings) if component.settings else "It has no settings.")
    traits = [
        f"`{word if value is True else f'{word} = {show_value(value)}'}`: {CAPABILITIES[word]}."
        for word, value in component.capabilities.items()
    ]
    traits += [f"It owns `{thing}`: two owners in one recipe are a problem." for thing in component.owns]
    traits += [f"It needs `{library}`: `{how}`." for library, how in component.libraries.items()]
    if traits:
        parts.append("\n".join(f"- {trait}" for trait in traits))
    parts.append(f"```toml\n{example_toml(component)}\n```")
    return "\n\n".join(parts)


def bridged(prefix: str, components: Sequence[Component]) -> str:
    """The components of a bridge to a library, which has too many for a section each."""
    libraries = {library: how for component in components for library, how in component.libraries.items()}
    kind = components[0].kind
    parts = [
        f"### {prefix}:...",
        f"{len(components)} {kind}s of another library. `trainkit describe {kind} {components[0].name}` shows settings "
        "and defaults.",
        *(f"They need `{library}`: `{how}`." for library, how in libraries.items()),
    ]
    rows = ["| name | | |", "| --- | --- | --- |"]
    for component in components:
        traits = [word if value is True else f"{word} = {value}" for word, value in component.capabilities.items()]
        text = code(" ".join([component.help, body(component)]))
        cells = (f"`{component.name}`", text, ", ".join(f"`{trait}`" for trait in traits))
        rows.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n\n".join([*parts, "\n".join(rows)])


def components_page(plugins: Plugins) -> str:
    """The whole of docs/components.md: trainkit's own components, whatever else is installed."""
    parts = [HEAD]
    for kind in KINDS:
        listed = [component for found in plugins.components(kind).values() for component in found]
        own = [component for component in listed if plugins.owner(component).distribution == "trainkit"]
        if own:
            parts.append(f"## {kind}\n")
            parts += [section(component) + "\n" for component in own if ":" not in component.name]
            prefixes = dict.fromkeys(component.name.partition(":")[0] for component in own if ":" in component.name)
            parts += [
                bridged(prefix, [one for one in own if one.name.startswith(f"{prefix}:")]) + "\n" for prefix in prefixes
            ]
    return "\n".join(parts)


def with_settings(text: str) -> str:
    """The text of docs/recipes.md with a fresh table between each pair of marks."""

    def fresh(match: re.Match[str]) -> str:
        return f"{match[1]}\n{settings_table(TABLES[match[2]])}\n{match[3]}"

    return re.sub(r"(<!-- settings: ([\w.]+) -->)\n.*?(<!-- end -->)", fresh, text, flags=re.DOTALL)


def pages() -> dict[Path, str]:
    """The pages by file, as they should be."""
    recipes = DOCS / "recipes.md"
    return {
        DOCS / "components.md": components_page(Plugins()),
        recipes: with_settings(recipes.read_text(encoding="utf-8")),
    }


if __name__ == "__main__":
    stale = [file for file, text in pages().items() if not file.exists() or file.read_text(encoding="utf-8") != text]
    for file in stale:
        print(f"{file.name} {'is stale' if '--check' in sys.argv else 'written'}")
        if "--check" not in sys.argv:
            file.write_text(pages()[file], encoding="utf-8")
    sys.exit(bool(stale) and "--check" in sys.argv)
