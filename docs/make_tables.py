"""Writes the tables of settings in docs/recipes.md from the signatures that they describe.

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

PAGE = Path(__file__).parent / "recipes.md"
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


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    if with_settings(text) != text:
        print(f"{PAGE.name} {'is stale' if '--check' in sys.argv else 'written'}")
        if "--check" in sys.argv:
            sys.exit(1)
        PAGE.write_text(with_settings(text), encoding="utf-8")
