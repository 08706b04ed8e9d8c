"""A filled recipe, written as TOML, is the same recipe."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomli
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainkit.manager import Plugins
from trainkit.recipe import Recipe, fill_toml, load_recipe, origin_lines, to_toml

Load = Callable[..., Recipe]

RICH = """\
seed = 3
requires = ["pluggy>=1"]
logger = []
[run]
duration = "2.5ep"
compile = false
[data]
use = "digits"
classes = ["a\\"b", "\\u202e", "tab\\t"]
augment = [{ use = "crop", padding = 2 }, { use = "flip" }]
[model]
use = "resnet"
[loss]
use = "blend"
parts = [
  { use = "cross_entropy", weights = { "a.b" = 1e-300, c = 0.1 } },
  { use = "blend", parts = [{ use = "cross_entropy" }] },
]
[[metric]]
use = "accuracy"
[[metric]]
use = "top"
[optimizer]
use = "lookahead"
[[optimizer.group]]
match = "head.*"
[[callback]]
use = "clip_value"
[[callback]]
use = "clip_norm"
max_norm = 0.1
"""


def test_written_recipe_reads_back_to_the_same_tables(load: Load) -> None:
    recipe = load(RICH)
    written = fill_toml(recipe)
    again = load(written)
    assert dict(again.tables) == dict(recipe.tables)
    assert fill_toml(again) == written


def test_written_recipe_is_in_the_order_of_the_design(load: Load, base: str) -> None:
    written = fill_toml(load(base))
    headers = [line for line in written.splitlines() if line.startswith("[")]
    assert headers == ["[run]", "[data]", "[model]", "[loss]", "[[metric]]", "[optimizer]", "[schedule]", "[[logger]]"]
    assert written.startswith("recipe = 1\nseed = 17\n")
    assert '[optimizer]\nuse = "sgd"\n' in written
    assert "threads" not in written
    assert written.endswith('use = "curves"\n')


def test_no_logger_stays_no_logger(load: Load, base: str) -> None:
    recipe = load(base, ["logger=[]"])
    assert recipe.tables["logger"] == []
    assert load(fill_toml(recipe)).tables["logger"] == []


def test_every_value_has_a_line_of_origin(load: Load) -> None:
    lines = origin_lines(load(RICH, ["optimizer.every=7"]))
    assert any(line.startswith("optimizer.every = 7 ") and line.endswith("command line  (default 5)") for line in lines)
    assert any(line.startswith("optimizer.inner.use = ") and line.endswith(" default") for line in lines)
    assert any(line.startswith("data.augment.0.padding = 2 ") and "my.toml:10" in line for line in lines)
    assert any(line.startswith("run.threads = unset") for line in lines)
    assert len({line.split(" = ")[0] for line in lines}) == len(lines)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(_same, one, other))
    signs = math.copysign(1, one) == math.copysign(1, other) if isinstance(one, float) and one == other == 0 else True
    return type(one) is type(other) and one == other and signs


@given(st.dictionaries(texts, values, max_size=5))
@settings(max_examples=300, deadline=None)
def test_any_tables_come_back_exactly(tables: dict[str, Any]) -> None:
    read = tomli.loads(to_toml(tables))
    assert _same(_sorted(read), _sorted(tables))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


@given(
    lr=st.floats(5e-324, 1e308),
    classes=st.lists(texts, max_size=3),
    weights=st.none() | st.dictionaries(texts, st.floats(1e-300, 1e300), max_size=3),
    widths=st.lists(st.integers(1, 2**63 - 1), max_size=3),
    seed=st.integers(0, 2**63 - 1),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_right_recipe_comes_back_exactly(
    tmp_path: Path,
    base: str,
    plugins: Plugins,
    lr: float,
    classes: list[str],
    weights: dict[str, float] | None,
    widths: list[int],
    seed: int,
) -> None:
    tables = tomli.loads(base)
    tables["seed"] = seed
    tables["optimizer"]["lr"] = lr
    tables["data"]["classes"] = classes
    tables["model"]["widths"] = widths
    if weights is not None:
        tables["loss"]["weights"] = weights
    file = tmp_path / "r.toml"
    file.write_bytes(to_toml(tables).encode())
    recipe = load_recipe(file, [], plugins)
    file.write_bytes(fill_toml(recipe).encode())
    again = load_recipe(file, [], plugins)
    assert _same(dict(again.tables), dict(recipe.tables))
    assert recipe.tables["optimizer"]["lr"] == lr
