"""Packs as files: what they hold, that nothing of them was altered, and that no stranger's pack does harm."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from trainkit.errors import Exit, RecipeError, UsageError
from trainkit.manager import Plugins
from trainkit.recipe import Recipe, fill_toml, load_recipe, origin_lines
from trainkit.recipe.pack_drift import check_data
from trainkit.recipe.pack_form import MAX_BASES, MAX_FILLED, MAX_LINE, MAX_LISTED, MAX_PACK
from trainkit.recipe.packed import Pack, PackedData, named_from, read_pack
from trainkit.recipe.packing import make_pack

MOST_WORK = 1_500_000  # as in test_fuzz.py; a pack is read twice, as JSON and as TOML


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder one stands in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def layered(here: Path, base: str, plugins: Plugins) -> Pack:
    """A pack of three files in two folders, one of which is extended twice, with something laid over them."""
    (here / "mine").mkdir()
    (here / "common.toml").write_text(base, encoding="utf-8")
    (here / "longer.toml").write_text('extends = "common.toml"\n[run]\nduration = "30ep"\n', encoding="utf-8")
    (here / "mine" / "own.toml").write_text(
        'extends = ["../common.toml", "../longer.toml"]\n[optimizer]\nlr = 0.25\n', encoding="utf-8"
    )
    overrides = ["seed=5"]
    recipe = load_recipe("mine/own.toml", overrides, plugins)
    return make_pack(recipe, overrides, PackedData("a" * 64, {"train": 10}, {"data.path": (3, "b" * 64)}))


def written(pack: Pack, name: str = "x.pack") -> str:
    Path(name).write_bytes(pack.as_bytes())
    return name


def changed(pack: Pack, change: Callable[[dict[str, Any]], None], honest: bool = True) -> str:
    """A pack whose JSON was changed; its hashes are right where it is ``honest``, as a stranger can make them."""
    body = pack.as_json()
    change(body)
    if honest:
        put_right(body)
    Path("x.pack").write_text(json.dumps(body), encoding="utf-8")
    return "x.pack"


def put_right(body: Any) -> None:
    """Give every text its own hash, and the whole its own."""
    if not isinstance(body, dict):
        return
    for table in body.values():
        put_right(table)
    if "sha256" in body and isinstance(body.get("text"), str):
        body["sha256"] = hashlib.sha256(body["text"].encode("utf-8", "surrogatepass")).hexdigest()
    elif "sha256" in body and "pack" in body:
        rest = {key: value for key, value in body.items() if key != "sha256"}
        text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
        body["sha256"] = hashlib.sha256(text.encode()).hexdigest()


def refused(name: str, plugins: Plugins) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(name, [], plugins)
    assert len(caught.value.problems) == 1
    assert caught.value.exit_code is Exit.RECIPE
    return str(caught.value)


# ------------------------------------------------------------ what they hold


def test_a_pack_is_the_recipe_that_it_was_made_of(layered: Pack, plugins: Plugins, here: Path) -> None:
    before = load_recipe("mine/own.toml", ["seed=5"], plugins)
    name = written(layered)
    for file in [*here.rglob("*.toml")]:
        file.unlink()
    after = load_recipe(name, [], plugins)
    different = {key for key in before.tables if before.tables[key] != after.tables[key]}
    assert different == {"requires"}
    assert after.tables["run"]["duration"] == "30ep"
    assert (after.tables["seed"], after.tables["optimizer"]["lr"]) == (5, 0.25)


def test_it_holds_every_text_once_under_the_name_that_leads_to_it(layered: Pack) -> None:
    assert layered.recipe == "own.toml"
    assert list(layered.bases) == ["../common.toml", "../longer.toml"]
    body = layered.as_json()
    assert set(body) == {
        *("pack", "recipe", "bases", "overrides", "requires", "environment", "data", "filled", "sha256")
    }
    assert body["recipe"]["sha256"] == hashlib.sha256(Path("mine/own.toml").read_bytes()).hexdigest()
    assert body["overrides"] == ["seed=5"]
    assert any(text.startswith("trainkit>=") for text in body["requires"])


def test_places_name_the_file_inside_the_pack_and_its_line(layered: Pack, plugins: Plugins) -> None:
    lines = origin_lines(load_recipe(written(layered), ["optimizer.lr=0.5"], plugins))
    lr = next(line for line in lines if line.startswith("optimizer.lr "))
    assert "command line" in lr
    assert "was 0.25, x.pack/own.toml:3" in lr
    assert "was 0.1, x.pack/../common.toml:" in lr
    assert "x.pack  (was 17" in next(line for line in lines if line.startswith("seed "))


def test_a_pack_of_a_pack_keeps_what_was_laid_over_it(layered: Pack, plugins: Plugins) -> None:
    recipe = load_recipe(written(layered), ["optimizer.lr=0.5"], plugins)
    again = make_pack(recipe, ["optimizer.lr=0.5"], layered.data)
    assert (again.text, again.bases, again.recipe) == (layered.text, layered.bases, layered.recipe)
    assert again.overrides == ["seed=5", "optimizer.lr=0.5"]
    assert load_recipe(written(again, "y.pack"), [], plugins).tables == recipe.tables


def test_reading_what_was_written_gives_the_same_pack(layered: Pack) -> None:
    read = read_pack(written(layered))
    assert read.as_bytes() == layered.as_bytes()


@pytest.mark.parametrize(
    ("base", "name", "called"),
    [
        ("b.toml", "a.toml", "b.toml"),
        ("../b.toml", "sub/a.toml", "b.toml"),
        ("../b.toml", "a.toml", "../b.toml"),
        ("c.toml", "../x/b.toml", "../x/c.toml"),
        ("pkg:base", "a.toml", "pkg:base"),
        ("b.toml", "pkg:a", "pkg:b"),
        ("../b.toml", "pkg:sub/a", "pkg:b"),
    ],
)
def test_names_in_a_pack_follow_the_folders_they_came_from(base: str, name: str, called: str) -> None:
    assert named_from(base, name) == called


def test_line_ends_and_byte_order_marks_of_its_files_do_not_change_a_pack(
    here: Path, base: str, plugins: Plugins
) -> None:
    plain, other = here / "plain.toml", here / "other"
    other.mkdir()
    plain.write_text(base, encoding="utf-8")
    (other / "plain.toml").write_bytes(b"\xef\xbb\xbf" + base.replace("\n", "\r\n").encode())
    packs = [make_pack(load_recipe(name, [], plugins), [], PackedData()) for name in ("plain.toml", "other/plain.toml")]
    assert packs[0].as_bytes() == packs[1].as_bytes()


# ------------------------------------------------------------ what was altered


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda body: body["recipe"].update(text="seed = 1\n"), "the recipe 'own.toml' is not the text"),
        (lambda body: body["bases"]["../longer.toml"].update(text=""), "the base '../longer.toml' is not the text"),
        (lambda body: body["filled"].update(text="seed = 1"), "the filled recipe is not the text"),
        (lambda body: body["overrides"].append("seed=6"), "its SHA-256 is not that of what it holds"),
        (lambda body: body["requires"].append("evil"), "its SHA-256 is not that of what it holds"),
        (lambda body: body["data"]["sizes"].update(train=11), "its SHA-256 is not that of what it holds"),
        (lambda body: body["environment"].update(torch="1"), "its SHA-256 is not that of what it holds"),
        (lambda body: body["bases"].pop("../longer.toml"), "its SHA-256 is not that of what it holds"),
    ],
)
def test_what_was_altered_is_one_message(layered: Pack, plugins: Plugins, change: Any, said: str) -> None:
    message = refused(changed(layered, change, honest=False), plugins)
    assert message.startswith(f"x.pack: the pack was altered after it was made: {said}")
    assert "get it anew" in message


def test_a_pack_of_a_newer_format_asks_for_a_newer_trainkit(layered: Pack, plugins: Plugins) -> None:
    message = refused(changed(layered, lambda body: body.update(pack=2, code="x"), honest=False), plugins)
    assert "the pack has format 2; this trainkit reads formats up to 1" in message
    assert "install a newer trainkit" in message


# ------------------------------------------------------------ what a stranger may write


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda body: body.pop("data"), "it has no 'data'"),
        (lambda body: body.update(code="import os"), "it has 'code', which no pack has"),
        (lambda body: body.update(pack=True), "its format is True, not 1"),
        (lambda body: body.update(pack="1"), "its format is"),
        (lambda body: body.update(bases=[]), "bases must be a table"),
        (lambda body: body.update(bases={str(n): {} for n in range(MAX_BASES + 1)}), f"may have {MAX_BASES}"),
        (lambda body: body["bases"].update({"a\nb": body["filled"]}), "the name of a recipe is"),
        (lambda body: body["bases"].update({"\u202ea": body["filled"]}), "the name of a recipe is"),
        (lambda body: body["recipe"].update(name=""), "the name of a recipe is"),
        (lambda body: body["recipe"].update(text=1), "the text of the recipe is 1, not text"),
        (lambda body: body["recipe"].update(text="\ud800"), "not text"),
        (lambda body: body.update(overrides=["x"] * (MAX_LISTED + 1)), f"at most {MAX_LISTED} texts"),
        (lambda body: body.update(overrides=["=" * MAX_LINE] * 5), "'overrides' has more than the 16,384 characters"),
        (lambda body: body.update(requires=["a" * MAX_LINE] * 5), "'requires' has more than the 16,384 characters"),
        (
            lambda body: body["filled"].update(text="\n" * (MAX_FILLED + 1)),
            "the filled recipe has more than the 262,144",
        ),
        (lambda body: body.update(overrides=[1]), "the item of overrides is 1"),
        (lambda body: body.update(requires="trainkit"), "requires must be a list"),
        (lambda body: body["environment"].update(python=3), "version of 'python' is 3"),
        (lambda body: body["environment"].pop("plugins"), "plugins must be a table"),
        (lambda body: body["data"]["sizes"].update(train=-1), "not a whole number"),
        (lambda body: body["data"]["sizes"].update(train=True), "not a whole number"),
        (lambda body: body["data"]["files"].update(x={"bytes": 1}), "has no 'sha256'"),
        (lambda body: body["data"].update(fingerprint="zz"), "must be 64 hexadecimal digits"),
    ],
)
def test_what_has_another_form_is_one_message(layered: Pack, plugins: Plugins, change: Any, said: str) -> None:
    message = refused(changed(layered, change), plugins)
    assert message.startswith("x.pack: not a pack: ")
    assert said in message
    assert "\u202e" not in message


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"recipe = 1\n", b"[]", b"{", b"\xff\xfe", b'{"pack": 1, "pack": 1}', b'{"pack": NaN}', b"[" * 100_000),
        *(b'{"pack": ' + b"9" * 5000 + b"}", b" " * (MAX_PACK + 1), b'{"a": ' * 50_000 + b"1" + b"}" * 50_000),
    ],
    ids=lambda content: repr(content[:12]),
)
def test_what_is_no_pack_at_all_is_one_message(content: bytes, here: Path, plugins: Plugins) -> None:
    Path("x.pack").write_bytes(content)
    assert refused("x.pack", plugins).startswith("x.pack: not a pack: ")


def test_bases_come_from_the_pack_and_from_nowhere_else(layered: Pack, here: Path, base: str, plugins: Plugins) -> None:
    """What the pack does not hold is not looked for beside it, nor in what is installed."""
    name = changed(layered, lambda body: body["bases"].pop("../longer.toml"))
    assert Path("longer.toml").is_file()
    assert "'../longer.toml' is not in the pack" in refused(name, plugins)
    secret = here.parent / "secret.toml"
    secret.write_text("password = 1\n", encoding="utf-8")
    for extended in (str(secret), "../secret.toml", "trainkit:mlp_digits"):
        text = f"extends = {json.dumps(extended)}\n"
        name = changed(layered, lambda body: body.update(recipe=body["recipe"] | {"text": text}, bases={}))  # noqa: B023
        assert "is not in the pack" in refused(name, plugins)


def test_a_base_that_nothing_extends_is_refused(layered: Pack, plugins: Plugins) -> None:
    name = changed(layered, lambda body: body["bases"].update(idle=dict(body["filled"])))
    assert "the pack holds the base 'idle', which nothing in it extends" in refused(name, plugins)


def test_bases_that_go_round_are_refused(layered: Pack, plugins: Plugins) -> None:
    def circle(body: dict[str, Any]) -> None:
        body["recipe"]["text"] = 'extends = "a.toml"\n'
        body["bases"] = {"a.toml": {"text": 'extends = "a.toml"\n', "sha256": ""}}

    assert "bases go round in a circle" in refused(changed(layered, circle), plugins)


def test_what_a_pack_lays_over_its_recipe_is_a_strangers_and_may_not_name_any_path(
    layered: Pack, base: str, fake_plugins: Callable[..., Plugins], plugins: Plugins
) -> None:
    """A path of the command line may lead anywhere; one that came with the pack is held to what recipes may read."""
    name = changed(layered, lambda body: body.update(overrides=['search.warm_start=["/etc"]']))
    with pytest.raises(RecipeError) as caught:
        load_recipe(name, [], plugins)
    assert "leads out of the folders that a recipe may read" in str(caught.value)
    name = changed(layered, lambda body: body.update(overrides=['drop=["nothing"]', 'extends="x.toml"', "a"]))
    with pytest.raises(RecipeError) as caught:
        load_recipe(name, [], plugins)
    assert all(problem.place.origin == "x.pack" for problem in caught.value.problems)
    assert len(caught.value.problems) == 3


def test_requirements_of_a_pack_are_one_problem_and_come_alone(layered: Pack, plugins: Plugins) -> None:
    def lacking(body: dict[str, Any]) -> None:
        body["requires"] += ["trainkit-of-nobody>=2", "another-of-nobody"]
        body["recipe"]["text"] += 'use = "of_nobody"\nbeta = 3\n'

    with pytest.raises(RecipeError) as caught:
        load_recipe(changed(layered, lacking), [], plugins)
    assert caught.value.exit_code is Exit.ENVIRONMENT
    (problem,) = caught.value.problems
    assert problem.place.origin == "x.pack"
    assert "pip install 'trainkit-of-nobody>=2' another-of-nobody" in problem.cure


def test_a_requirement_of_a_thousand_brackets_is_one_problem(layered: Pack, plugins: Plugins) -> None:
    text = f"x; {'(' * 1500}os_name == 'a'{')' * 1500}"
    message = refused(changed(layered, lambda body: body.update(requires=[text])), plugins)
    assert "is not a distribution with a version" in message


def test_a_pack_that_is_not_there_names_the_nearest_one(layered: Pack, plugins: Plugins) -> None:
    written(layered, "digits.pack")
    message = refused("digit.pack", plugins)
    assert "there is no such file" in message
    assert "did you mean 'digits.pack'?" in message


def test_a_recipe_too_large_for_a_pack_is_refused_when_it_is_made(here: Path, base: str, plugins: Plugins) -> None:
    (here / "r.toml").write_text(base, encoding="utf-8")
    recipe = load_recipe("r.toml", [], plugins)
    with pytest.raises(UsageError, match=r"r\.toml: it cannot be packed: .* more than the 16,384 characters"):
        make_pack(recipe, ["seed=1" + " " * 4000] * 5, PackedData())


def test_a_recipe_that_could_not_be_read_again_is_not_packed(here: Path, base: str, plugins: Plugins) -> None:
    steps = json.dumps([f"{number}ba" for number in range(1, 1961)])
    table = f'[schedule]\nuse = "steps"\nmilestones = {steps}\n'
    (here / "r.toml").write_text(base.partition("[schedule]")[0] + table, encoding="utf-8")
    recipe = load_recipe("r.toml", ["run.duration=3000ba"], plugins)
    with pytest.raises(
        UsageError, match=r"r\.toml: it cannot be packed: with all defaults it has more than 2000 values"
    ):
        make_pack(recipe, [], PackedData())


# ------------------------------------------------------------ any pack at all

VALUES: list[Any] = [
    *(None, True, 0, -1, 2**70, 1.5, "", "x", "\x00", "\ud800", "\u202e", "a" * 5000),
    *([], {}, [[]], ["a"], {"": ""}, {"text": "x"}),
    *('extends = "own.toml"\n', 'requires = ["x"]\n', "seed = 1\n" * 3000, "[" * 100, "a." * 50 + "b = 1"),
    'extends = ["../common.toml"]\n',
]


def mutated(rng: random.Random, body: Any) -> Any:
    """JSON with a value here or there that is another one, is missing, or has another key."""
    body = json.loads(json.dumps(body))
    for _ in range(rng.randint(1, 3)):
        holder = body
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(holder[key], dict | list) and rng.random() < 0.7:
                holder = holder[key]
                continue
            match rng.randrange(4):
                case 0:
                    del holder[key]
                case 1 if isinstance(holder, dict):
                    holder[rng.choice(["", "x", "own.toml", "../common.toml", "\n"])] = holder.pop(key)
                case _:
                    holder[key] = rng.choice(VALUES)
            break
    return body


@pytest.mark.parametrize("honest", [True, False])
@pytest.mark.parametrize("part", range(3))
def test_mutated_packs_end_in_a_recipe_or_in_problems(
    part: int, honest: bool, layered: Pack, plugins: Plugins, work: Callable[..., Any]
) -> None:
    rng = random.Random(part)
    for _ in range(100):
        body = mutated(rng, layered.as_json())
        name = changed(layered, lambda old: (old.clear(), old.update(body)), honest)  # type: ignore[func-returns-value]  # noqa: B023
        counted = work(lambda: _whole(load_recipe(name, [], plugins)))  # noqa: B023
        if counted.raised is not None:
            if not isinstance(counted.raised, RecipeError):
                raise counted.raised
            assert str(counted.raised).encode()
            assert not any(sign in str(counted.raised) for sign in ("\x1b", "\u202e", "\x00"))
        assert counted.total < MOST_WORK, body


def test_packs_with_bytes_changed_end_in_one_message(layered: Pack, plugins: Plugins) -> None:
    rng, whole = random.Random(0), layered.as_bytes()
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(data))
            data[at : at + rng.randint(0, 3)] = rng.choice([b"", b'"', b"\\", b"{", b"\x00", b"\xff", b"0", b"a"])
        Path("x.pack").write_bytes(data)
        try:
            assert json.loads(bytes(data)) == json.loads(whole), "an altered pack was taken"
        except ValueError:
            refused("x.pack", plugins)
        except AssertionError:
            refused("x.pack", plugins)


def _whole(recipe: Recipe) -> None:
    assert fill_toml(recipe)
    assert origin_lines(recipe)


# ------------------------------------------------------------ what has changed since


class Spec(NamedTuple):
    """What a data component may say."""

    fingerprint: str
    sizes: dict[str, int]


def test_data_without_a_fingerprint_is_told_by_its_files(
    here: Path, base: str, fake_plugins: Callable[..., Plugins], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainkit.recipe import pack_drift

    (here / "r.toml").write_text(base, encoding="utf-8")
    plugins = fake_plugins("trainkit_fake")
    known = {"data.path": (3, "a" * 64)}
    name = written(make_pack(load_recipe("r.toml", [], plugins), [], PackedData("", {"train": 9}, known)))
    recipe = load_recipe(name, [], plugins)
    assert recipe.pack is not None
    for files in (known, {}):
        monkeypatch.setattr(pack_drift, "files_of", lambda recipe: files)  # noqa: B023
        check_data(recipe, recipe.pack, Spec("", {"train": 9}))
        with pytest.raises(RecipeError, match="train 8 samples; the pack: train 9"):
            check_data(recipe, recipe.pack, Spec("", {"train": 8}))
    monkeypatch.setattr(pack_drift, "files_of", lambda recipe: {"data.path": (4, "b" * 64)})
    with pytest.raises(RecipeError) as caught:
        check_data(recipe, recipe.pack, Spec("", {"train": 8}))
    (problem,) = caught.value.problems
    assert problem.message == "the data is not the data that the pack was made beside"
    assert problem.cure.splitlines() == [
        "data.path: 4 bytes, SHA-256 bbbbbbbbbbbb; the pack: 3 bytes, SHA-256 aaaaaaaaaaaa",
        "train 8 samples; the pack: train 9",
        "get the same data, or go on with --accept-drift",
    ]


def test_a_new_setting_and_one_that_was_unset_are_no_change(layered: Pack, plugins: Plugins) -> None:
    text = "\n".join(line for line in layered.filled.splitlines() if not line.startswith(("accumulate", "momentum")))
    name = changed(layered, lambda body: body["filled"].update(text=text))
    assert load_recipe(name, [], plugins).pack is not None


def test_data_is_compared_though_its_component_has_a_new_setting(layered: Pack, plugins: Plugins) -> None:
    """It was taken for a choice of the user's, so that other data went unsaid."""
    text = "\n".join(line for line in layered.filled.splitlines() if not line.startswith("classes"))
    assert text != layered.filled.rstrip("\n")
    name = changed(layered, lambda body: body["filled"].update(text=text))
    recipe = load_recipe(name, [], plugins)
    assert recipe.pack is not None
    with pytest.raises(RecipeError, match="the data is not the data that the pack was made beside"):
        check_data(recipe, recipe.pack, Spec("c" * 64, {"train": 10}))
    for words in (['data.classes=["a"]'], ['data={use="digits",classes=["a"]}']):
        chosen = load_recipe(name, words, plugins)
        assert [note for note in chosen.notes if not note.startswith("logger")] == [
            "data.classes is not that of the pack, so that the data is not compared with the pack's"
        ]
        assert chosen.pack is not None
        check_data(chosen, chosen.pack, Spec("c" * 64, {"train": 10}))


@pytest.mark.parametrize(
    ("was", "way_back"),
    [
        ('"$(touch x)"', """'model.norm="$(touch x)"'"""),
        ("\"'; touch x; '\"", """'model.norm="'"'"'; touch x; '"'"'"'"""),
        (f'"{"a" * 200}"', "model.norm=VALUE, with what 'filled' in the pack has"),
        (r'"\u001b[31m"', "model.norm=VALUE, with what 'filled' in the pack has"),
        (f"0x{'f' * 9000}", "model.norm=VALUE, with what 'filled' in the pack has"),
    ],
)
def test_the_way_back_to_a_default_is_what_a_shell_takes_for_a_value(
    layered: Pack, plugins: Plugins, was: str, way_back: str
) -> None:
    text = layered.filled.replace('norm = "batch"', f"norm = {was}")
    message = refused(changed(layered, lambda body: body["filled"].update(text=text)), plugins)
    assert f"to have it as it was: {way_back}; to take it as it is" in message


def test_a_changed_default_names_both_values_and_the_way_back(layered: Pack, plugins: Plugins) -> None:
    text = layered.filled.replace("accumulate = 1", "accumulate = 2")
    name = changed(layered, lambda body: body["filled"].update(text=text))
    message = refused(name, plugins)
    assert "run.accumulate is 1 by default, and was 2 when the pack was made" in message
    assert "to have it as it was: run.accumulate=2" in message
    told: list[str] = []
    assert load_recipe(name, [], plugins, told.append).tables["run"]["accumulate"] == 1
    assert told == ["run.accumulate is 1 by default, and was 2 when the pack was made"]
    assert load_recipe(name, ["run.accumulate=2"], plugins).tables["run"]["accumulate"] == 2


def test_defaults_of_another_component_than_the_packs_are_no_change(layered: Pack, plugins: Plugins) -> None:
    text = layered.filled.replace("nesterov = false", "nesterov = true")
    assert text != layered.filled
    name = changed(layered, lambda body: body["filled"].update(text=text))
    assert "optimizer.nesterov is false by default" in refused(name, plugins)
    assert load_recipe(name, ["optimizer.use=adamw"], plugins).pack is not None
