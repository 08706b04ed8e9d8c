"""Whatever a recipe says, loading it ends in a recipe or in problems, soon, and never in another exception."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainkit.errors import RecipeError
from trainkit.manager import Plugins
from trainkit.recipe import Recipe, fill_toml, load_recipe, origin_lines

GOLDEN = Path(__file__).parent / "golden"
GOOD = [file.read_bytes() for file in (GOLDEN / "bases" / "good.toml", GOLDEN / "bases" / "adamw.toml")]
WRONG = sorted(file.read_bytes() for file in GOLDEN.glob("[c-gmnptuv]*.toml") if file.stat().st_size < 2000)
PIECES = [
    b"\x00", b"\xff", b'"', b"'''", b'"""', b"[", b"]", b"[[", b"]]", b"{", b"}", b"=", b".", b",", b"\n", b"\r", b"#", b"\\u202e",
    b"use", b"optimizer", b"[optimizer]\n", b"[[metric]]\n", b"[[optimizer.group]]\n", b"[data.augment]\n", b"true", b"nan",
    b"-inf", b"1e999", b"99999999999999999999", b"0x7fffffffffffffff", b"2026-01-01", b"12:00", b"[]", b"{}", b'""', b'"sgd"', b'"0ep"',
    b'extends = "fuzz.toml"\n', b'drop = [""]\n', b'drop = ["optimizer.lr"]\n', b'requires = ["", "a b", "a[b]>=1"]\n',
    b'callback = [[], 1, {}, { use = [] }]\n', b"metric = {}\n", b"logger = 1\n", b"schedule = []\n", b'"" = 1\n',
    b'[[callback]]\nuse = "hen"\n[[callback]]\nuse = "egg"\n', b'monitor = ""\n', b'group = [1, {}, { match = 1 }]\n',
]  # fmt: skip
VALUES = [
    b"1", b"0.5", b"-1", b"true", b"false", b'"3ep"', b'"0.1dur"', b'"auto"', b'"step"', b'"val.accuracy"', b'"adam"', b'"cosine"',
    b'"lookahead"', b"[1, 2]", b'["a"]', b"{ a = 1 }", b'{ use = "sgd" }', b'[{ use = "crop" }]', b'[{ match = "x", lr = 1 }]', b'"constant"',
]  # fmt: skip
OVERRIDES = [
    "", "=", "a", "a=", "optimizer=", "optimizer=sgd", "optimizer=[]", "optimizer.0=1", "metric.0=1", "metric.0.use=", "metric=1",
    "metric.0.use.x=1", "metric.99999999999999999999.use=1", "metric.-1.use=1", "\"=1", "\x00=1", "seed=\x00", "seed=\ud800",
    "run=1", "run.duration.a.b=1", "drop=[\"optimizer\", \"\", \"a..b\"]", "drop=1", "callback=[1]", "\n=1", "seed=1\nx=2", "'a=b'=1", "data.augment.0.use=crop",
    "optimizer.group.0.lr=1", "recipe=99999999999", "run.monitor=\u202e", "schedule={}", "x=2026-01-01", "[a]=1", "a=[[[[[[[[[[[[[[[[[[[",
]  # fmt: skip

# Lines of Python and parsed characters for one of these recipes, which are shorter than 3 KB; the worst takes 231 000.
MOST_WORK = 1_000_000


def _mutated(rng: random.Random) -> bytes:
    text = bytearray(rng.choice(rng.choice([GOOD, WRONG])))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(text) + 1)
        match rng.choice([0, 1, 2, 3, *[4] * 8]):
            case 0:
                text[at:at] = rng.choice(PIECES)
            case 1:
                del text[at : at + rng.randint(1, 20)]
            case 2:
                lines = text.split(b"\n")
                rng.shuffle(lines)
                text = bytearray(b"\n".join(lines))
            case 3:
                text[at : at + 1] = bytes([rng.randrange(256)])
            case _:
                lines = text.split(b"\n")
                n = rng.randrange(len(lines))
                key, equals, _ = lines[n].partition(b"=")
                lines[n] = key + b"= " + rng.choice([*PIECES, *VALUES]) if equals else rng.choice([*PIECES, lines[n]])
                text = bytearray(b"\n".join(lines))
    return bytes(text)


@pytest.mark.parametrize("part", range(6))
def test_mutated_recipes_end_in_a_recipe_or_in_problems(
    part: int,
    fake_plugins: Callable[..., Plugins],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    work: Callable[..., Any],
) -> None:
    rng = random.Random(part)
    plugins = fake_plugins("trainkit_fake", "trainkit_rival")
    monkeypatch.chdir(tmp_path)
    file = Path("fuzz.toml")
    for _ in range(100):
        file.write_bytes(_mutated(rng))
        overrides = rng.sample(OVERRIDES, rng.choice([0, 0, 1, 2]))
        counted = work(lambda: _whole(load_recipe(file, overrides, plugins)))  # noqa: B023
        if counted.raised is not None:
            error = counted.raised
            if not isinstance(error, RecipeError):
                raise error
            assert error.problems
            assert str(error).encode()
            assert not any(sign in str(error) for sign in ("\x1b", "\u202e", "\x00"))
        assert counted.total < MOST_WORK, file.read_bytes()


def _whole(recipe: Recipe) -> None:
    assert fill_toml(recipe)
    assert origin_lines(recipe)


@pytest.mark.parametrize("override", OVERRIDES, ids=repr)
def test_any_override_ends_in_a_recipe_or_in_problems(
    override: str, base: str, plugins: Plugins, tmp_path: Path
) -> None:
    file = tmp_path / "r.toml"
    file.write_text(base)
    try:
        _whole(load_recipe(file, [override], plugins))
    except RecipeError as error:
        assert error.problems
        assert str(error).encode()
