"""How Sphinx makes the site of these pages.

    sphinx-build -W -j auto docs build/site

The pages of components (components/) and of the files beside the README (project/) are written before they are read.
Nothing comes from the network.
"""

from __future__ import annotations

import inspect
import operator
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli
from sphinx.application import Sphinx

import trainkit
import trainkit.testing
from trainkit.manager import Plugins
from trainkit.pages import component_page, one_line, page_file, recipes_by_component, table_row, title

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent

project = "trainkit"
author = "the authors of trainkit"
copyright = f"{author}, Apache-2.0"
version = release = trainkit.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "index"
exclude_patterns: list[str] = []
highlight_language = "none"  # indented blocks are commands, outputs and formulas
smartquotes_action = "D"  # dashes alone: what stands in quotes is often to be typed
default_role = "literal"  # single backticks in docstrings are code, as in Markdown
suppress_warnings = ["config.cache"]  # settings below that are functions or classes
myst_heading_anchors = 4  # the anchors that links between pages use, as hosts of repositories make them
myst_enable_extensions = ["attrs_inline"]
toc_object_entries = False  # every menu of every page would be made from them
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90

html_theme = "furo"
html_title = f"trainkit {version}"
html_static_path: list[str] = []
html_copy_source = html_show_sourcelink = html_show_sphinx = False
html_theme_options: Mapping[str, Any] = {
    "navigation_with_keys": True,
    "light_css_variables": {"color-brand-primary": "#8a3a12", "color-brand-content": "#a8481a"},
    "dark_css_variables": {"color-brand-primary": "#f0a060", "color-brand-content": "#f0a060"},
}

MADE = {"components": DOCS / "components", "project": DOCS / "project"}
FILES = ("CHANGELOG", "CONTRIBUTING", "SECURITY")  # beside the README; pages of the site too


def write_pages(app: Sphinx, config: object) -> None:
    """Write the pages that are made, and remove those of what is no more; a page that has not changed is left alone."""
    pages: dict[Path, str] = {}
    plugins = own_plugins()
    used = recipes_by_component(
        {
            f"trainkit:{file.relative_to(ROOT / 'recipes').with_suffix('').as_posix()}": tomli.loads(
                file.read_text("utf-8")
            )
            for file in sorted((ROOT / "recipes").rglob("*.toml"))
        }
    )
    for plugin in plugins.plugins:
        for component in plugin.components:
            file = MADE["components"] / page_file(component)
            if file in pages:
                raise ValueError(f"two components have the page {file.relative_to(DOCS)}")
            text = component_page(component, plugin, "../..", used.get((component.kind, component.name), ()))
            pages[file] = f"---\norphan: true\n---\n\n{text}"  # in no menu: the menus would be as long as the list
    for name in FILES:
        text = (ROOT / f"{name}.md").read_text(encoding="utf-8")
        pages[MADE["project"] / f"{name}.md"] = text.replace("](docs/", "](../")
    for folder in MADE.values():
        for file in set(folder.rglob("*.md")) - set(pages):
            file.unlink()
    for file, text in pages.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def own_plugins() -> Plugins:
    """What comes with trainkit, whatever else is installed."""
    plugins = Plugins()
    plugins.plugins = [plugin for plugin in plugins.plugins if plugin.distribution == "trainkit"]
    plugins.load()
    if plugins.broken:
        raise RuntimeError(plugins.broken[0].error)
    return plugins


def fit_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """What a page says differently on the site than in a folder of files."""
    text = source[0]
    for name in FILES:
        text = text.replace(f"](../{name}.md", f"](project/{name}.md")
    # A file's name as the text of a link becomes the title of its page.
    text = re.sub(r"\[([\w-]+)\.md\]\((\1\.md[^)]*)\)", lambda m: f"[{title(DOCS / f'{m[1]}.md')}]({m[2]})", text)
    if docname == "components":
        text = with_lists(text)
    if docname == "api":
        text = re.sub(r"```api\n(.*?)```", lambda m: documented(m[1].split()), text, flags=re.DOTALL)
    source[0] = text


def with_lists(text: str) -> str:
    """The page of components with those of each kind below its heading."""
    plugins = own_plugins()

    def listed(match: re.Match[str]) -> str:
        components = [one for same in plugins.components(match[1]).values() for one in same]
        link = {one.name: f"[{one.name}](components/{page_file(one)})" for one in components}
        rows = [table_row(link[one.name], one_line(one)) for one in components if ":" not in one.name]
        bridged = [link[one.name] for one in components if ":" in one.name]
        parts = [match[0].rstrip(), "\n".join(["| name | what it is |", "| --- | --- |", *rows])]
        if bridged:
            parts.append(f"Through bridges to other libraries: {', '.join(bridged)}.")
        return "\n\n".join(parts) + "\n\n"

    return re.sub(r"(?ms)^## (\w+)$.*?(?=^## |\Z)", listed, text)


def documented(names: list[str]) -> str:
    """A block that has Sphinx show public names, with their signatures and docstrings."""
    lines = ["```{eval-rst}"]
    if names == ["testing.*"]:
        names = [f"testing.{name}" for name in trainkit.testing.__all__]
    for name in names:
        value = operator.attrgetter(name)(trainkit)
        what = "class" if inspect.isclass(value) else "function"
        lines += [f".. auto{what}:: trainkit.{name}", "   :members:" if what == "class" else "", ""]
    return "\n".join([*lines, "```"])


def plain_signature(*args: Any) -> tuple[str | None, str | None]:
    """A signature with names as its source has them, without the modules that they are from."""
    signature, returns = args[-2:]
    plain = [text and re.sub(r"~?\b(?:[a-z_]\w*\.)+(?=[A-Z])|~", "", text) for text in (signature, returns)]
    return plain[0] and plain[0].replace("<factory>", "..."), plain[1]


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("config-inited", write_pages)
    app.connect("source-read", fit_page)
    app.connect("autodoc-process-signature", plain_signature)
    # What is made for it follows from signatures, which Sphinx does not look at.
    app.connect("env-get-outdated", lambda *_: ["api", "components"])
    return {"parallel_read_safe": True, "parallel_write_safe": True}
