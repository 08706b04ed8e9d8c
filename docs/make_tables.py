"""Writes the tables of settings in docs/recipes.md from the signatures that they describe, and those of contracts in
docs/testing.md from the docstrings of the tests.

python docs/make_tables.py            write them
python docs/make_tables.py --check    say whether they are stale, exit code 1
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from trainkit.inner_tables import ADDED, GROUP_SETTINGS
from trainkit.pages import settings_table
from trainkit.tables import COMPONENT_TABLES, RUN_SETTINGS, TOP_SETTINGS
from trainkit.testing.contract import contract_classes, demands

DOCS = Path(__file__).parent
TABLES = {
    "top": TOP_SETTINGS,
    "run": RUN_SETTINGS,
    "optimizer.group": GROUP_SETTINGS,
    # What tables inside others take beside their component's own settings.
    **{f"{'optimizer' if name == 'rest' else 'schedule'}.{name}": settings for name, settings in ADDED.items()},
    **{name: table.added for name, table in COMPONENT_TABLES.items() if table.added},
}


def with_settings(text: str) -> str:
    """The text of the page with a fresh table between each pair of marks."""

    def fresh(match: re.Match[str]) -> str:
        return f"{match[1]}\n{settings_table(TABLES[match[2]])}\n{match[3]}"

    return re.sub(r"(<!-- settings: ([\w.]+) -->)\n.*?(<!-- end -->)", fresh, text, flags=re.DOTALL)


def spoken(text: str) -> str:
    """Docstring text with the marks of Markdown."""
    return text.replace("``", "`")


def with_contracts(text: str) -> str:
    """The text of the page with a fresh table of contracts between each pair of marks."""

    def fresh(match: re.Match[str]) -> str:
        found = [one for one in contract_classes() if (one.kind or "every") == match[2]]
        rows = [f"| `{name}` | {spoken(demand)} |" for one in found for name, demand in demands(one).items()]
        return "\n".join([match[1], "| contract | demand |", "| --- | --- |", *rows, match[3]])

    return re.sub(r"(<!-- contracts: (\w+) -->)\n.*?(<!-- end -->)", fresh, text, flags=re.DOTALL)


PAGES = {DOCS / "recipes.md": with_settings, DOCS / "testing.md": with_contracts}

if __name__ == "__main__":
    stale = {page: text for page, made in PAGES.items() if (text := made(old := page.read_text("utf-8"))) != old}
    for page, text in stale.items():
        print(f"{page.name} {'is stale' if '--check' in sys.argv else 'written'}")
        if "--check" not in sys.argv:
            page.write_text(text, encoding="utf-8")
    sys.exit(bool(stale) and "--check" in sys.argv)
