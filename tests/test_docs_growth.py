"""The page on growth shows the figures that its picture is drawn of, and what it expects follows from them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "growth.md").read_text(encoding="utf-8")
KEPT = json.loads((ROOT / "docs" / "pictures" / "growth.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "forms"),
    [
        ("parameters", [",.0f", ".2f", ".0f", ".2f", ".2f"]),
        ("idle trials", [",.0f", ".2f", ".0f", ".2f"]),
        ("real trials", [",.0f", ".2f", ".0f", ".2f"]),
    ],
)
def test_each_row_stands_in_its_table(name, forms):
    for row in KEPT[name]:
        cells = (format(value, form) for value, form in zip(row, forms, strict=True))
        assert f"| {' | '.join(cells)} |\n" in PAGE


def test_rows_of_figures_stand_there_as_a_whole():
    times, memory, disk = zip(*KEPT["updates"], strict=True)
    for values, form in ((times, ".0f"), (memory, ".1f"), (disk, ".2f")):
        assert f" | {' | '.join(format(value, form) for value in values)} | " in PAGE
    for row in KEPT["processes"]:
        assert f"| {KEPT['processes'][0][3] / row[3]:.2f} | {row[4]:.0f} |" in PAGE
    assert f"| ms an update | {' | '.join(f'{time:.0f}' for _, time in KEPT['expected'])} |" in PAGE
    memory = [f"{row[3]:.0f}" for row in KEPT["held"]]
    for strategy in range(3):
        assert f"| {memory[strategy]} | {memory[strategy + 3]} |" in PAGE


def test_what_is_expected_follows_from_what_was_measured(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    held = set(sys.modules)
    try:
        import growth_sizes

        found = growth_sizes.expected(KEPT["alone"], KEPT["sums"], growth_sizes.RESNET_20 * 4)
    finally:
        for name in set(sys.modules) - held:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(ROOT / "benchmarks")):
                del sys.modules[name]
    assert found == [pytest.approx(row, rel=1e-6) for row in KEPT["expected"]]
