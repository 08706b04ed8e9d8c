"""Lock files: written beside a recipe, and what --locked refuses: one message for each base, one for all versions."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

FEW = '[optimizer]\nuse = "sgd"\nlr = 0.2\n'
OTHER = FEW.replace("0.2", "0.3")
LOCK = "lock = 1\n[bases]\n[shipped]\n[distributions]\n{}\n"
CODE = """
from trainkit import Component, Schedule, hookimpl

def downhill() -> Schedule:
    '''Go down in a line.'''
    return lambda t, T, events: 1 - t / (T + 1)

@hookimpl
def trainkit_components():
    return [Component("schedule", downhill)]
"""


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def mine(recipe, recipe_package, tmp_path) -> str:
    """The name of a recipe with a base beside it and a packaged one."""
    recipe_package("trainkit_shipping", {"few": FEW})
    (tmp_path / "lab").mkdir()
    shutil.move(tmp_path / recipe, tmp_path / "lab" / "near.toml")
    text = '# Mine.\nextends = [\n  "near.toml",\n  "trainkit_shipping:few",\n]\n'
    (tmp_path / "lab" / "mine.toml").write_text(text, encoding="utf-8")
    return "lab/mine.toml"


def test_the_lock_file_lies_beside_the_recipe_and_says_what_is_in_use(trainkit, mine, tmp_path):
    outcome = trainkit("lock", mine)
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err == "2 bases and 4 distributions locked in lab/mine.lock\n"
    written = tomllib.loads((tmp_path / "lab" / "mine.lock").read_text(encoding="utf-8"))
    assert written == {
        "lock": 1,
        "bases": {
            "near.toml": digest((tmp_path / "lab" / "near.toml").read_text(encoding="utf-8")),
            "trainkit_shipping:few": digest(FEW),
        },
        "shipped": {"trainkit_shipping:few": "trainkit-shipping 1.2"},
        "distributions": {
            "numpy": version("numpy").partition("+")[0],
            "torch": version("torch").partition("+")[0],
            "trainkit": version("trainkit"),
            "trainkit-shipping": "1.2",
        },
    }
    assert trainkit("lock", mine, "--json").json["changed"] == []


def test_what_is_as_it_was_goes_on(trainkit, mine, tmp_path, monkeypatch):
    trainkit("lock", mine)
    assert trainkit("run", mine, "--locked", "--run-dir", "a", "optimizer.lr=0.4").code == 0
    for verb in ("validate", "fill", "preview"):
        assert trainkit(verb, mine, "--locked").code == 0
    monkeypatch.chdir(tmp_path / "lab")
    assert trainkit("validate", "mine.toml", "--locked").code == 0
    (tmp_path / "lab" / "near.toml").write_bytes((tmp_path / "lab" / "near.toml").read_bytes().replace(b"\n", b"\r\n"))
    assert trainkit("validate", "mine.toml", "--locked").code == 0


def test_a_base_that_has_changed_is_named_with_both_hashes(trainkit, mine, tmp_path):
    trainkit("lock", mine)
    near = tmp_path / "lab" / "near.toml"
    was, now = near.read_text(encoding="utf-8"), near.read_text(encoding="utf-8").replace("2ep", "3ep")
    near.write_text(now, encoding="utf-8")
    for verb in ("run", "validate", "fill", "preview", "bench", "verify-resume"):
        outcome = trainkit(verb, mine, "--locked")
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err.splitlines() == [
            "lab/mine.toml:3: the base 'near.toml' is not the one that was locked",
            '    "near.toml",',
            f"  its SHA-256 is {digest(now)}",
            f"  locked is      {digest(was)}",
            "  lock what is there: trainkit lock lab/mine.toml",
            "1 problem; nothing was run.",
        ]
    assert not (tmp_path / "runs").exists()
    assert trainkit("validate", mine).code == 0
    assert f"note: base near.toml: {digest(now)[:12]}, was {digest(was)[:12]}" in trainkit("lock", mine).err
    assert trainkit("validate", mine, "--locked").code == 0


def test_a_packaged_base_that_has_changed_is_named_with_what_ships_it(trainkit, mine, recipe_package):
    trainkit("lock", mine)
    recipe_package("trainkit_shipping", {"few": OTHER}, "1.3")
    outcome = trainkit("run", mine, "--locked")
    assert outcome.code == 3
    assert outcome.err.splitlines() == [
        "lab/mine.toml:4: the base 'trainkit_shipping:few' is not the one that was locked; trainkit-shipping 1.3 "
        "ships it, locked is that of trainkit-shipping 1.2",
        '    "trainkit_shipping:few",',
        f"  its SHA-256 is {digest(OTHER)}",
        f"  locked is      {digest(FEW)}",
        "  install what was locked: pip install 'trainkit-shipping==1.2'",
        "  or lock what is there: trainkit lock lab/mine.toml",
        "1 problem; nothing was run.",
    ]


def test_a_packaged_base_that_has_changed_within_a_version_is_no_matter_of_the_machine(trainkit, mine, recipe_package):
    trainkit("lock", mine)
    recipe_package("trainkit_shipping", {"few": OTHER}, "1.2")
    outcome = trainkit("validate", mine, "--locked")
    assert outcome.code == 2
    assert "not the one that was locked; trainkit-shipping 1.2 ships it" in outcome.err


def test_a_changed_base_is_told_before_what_is_wrong_because_of_it(trainkit, mine, tmp_path):
    trainkit("lock", mine)
    with open(tmp_path / "lab" / "near.toml", "a", encoding="utf-8") as file:
        file.write("momentun = 0.9\n")
    outcome = trainkit("validate", mine, "--locked")
    assert outcome.err.endswith("1 problem; nothing was run.\n")
    assert "momentun" not in outcome.err


def test_bases_that_come_and_go(trainkit, mine, tmp_path):
    trainkit("lock", mine)
    (tmp_path / "lab" / "third.toml").write_text("seed = 1\n", encoding="utf-8")
    (tmp_path / "lab" / "mine.toml").write_text('extends = ["near.toml", "third.toml"]\n', encoding="utf-8")
    outcome = trainkit("validate", mine, "--locked")
    assert outcome.code == 2
    assert "lab/mine.toml:1: the base 'third.toml' is not in lab/mine.lock" in outcome.err
    assert "lab/mine.lock: the base 'trainkit_shipping:few' is locked, and nothing extends it any more" in outcome.err


def test_distributions_are_held_to_their_versions(trainkit, recipe, recipe_package, tmp_path):
    recipe_package("trainkit_downhill", {}, "0.4+cpu", CODE)
    words = ("small.toml", "schedule=downhill")
    assert trainkit("lock", *words).code == 0
    recipe_package("trainkit_downhill", {}, "0.4+cuda", CODE)
    assert trainkit("validate", *words, "--locked").code == 0
    recipe_package("trainkit_downhill", {}, "0.5.dev20260101", CODE)
    assert "note: trainkit-downhill: 0.5.dev20260101, was 0.4\n" in trainkit("lock", *words).err
    recipe_package("trainkit_downhill", {}, "0.5.dev20260102", CODE)
    assert "note: trainkit-downhill: 0.5.dev20260102, was 0.5.dev20260101\n" in trainkit("lock", *words).err
    recipe_package("trainkit_downhill", {}, "0.4", CODE)
    trainkit("lock", *words)
    recipe_package("trainkit_downhill", {}, "0.5", CODE)
    outcome = trainkit("validate", *words, "--locked")
    assert outcome.code == 3
    assert "small.lock: trainkit-downhill 0.4 is locked, and 0.5 is installed" in outcome.err
    for part in (tmp_path / "site").glob("trainkit_downhill*"):
        shutil.rmtree(part)
    outcome = trainkit("validate", *words, "--locked")
    assert (outcome.code, outcome.err.count("problem")) == (3, 1)
    assert "trainkit-downhill 0.4 is locked, and it is not installed" in outcome.err


def test_a_base_that_went_with_its_package_is_asked_for_in_the_version_that_was_locked(trainkit, mine, tmp_path):
    trainkit("lock", mine)
    for part in (tmp_path / "site").glob("trainkit_shipping*"):
        shutil.rmtree(part)
    del sys.modules["trainkit_shipping"]
    for verb in ("run", "validate"):
        outcome = trainkit(verb, mine, "--locked")
        assert outcome.code == 3
        assert outcome.err.splitlines() == [
            "lab/mine.lock: trainkit-shipping 1.2 is locked, and it is not installed",
            "  install what was locked: pip install 'trainkit-shipping==1.2'",
            "  or lock what is there: trainkit lock lab/mine.toml",
            "1 problem; nothing was run.",
        ]


def test_what_was_not_locked_is_not_used(trainkit, recipe, recipe_package):
    recipe_package("trainkit_downhill", {}, "0.4", CODE)
    trainkit("lock", recipe)
    assert trainkit("validate", recipe, "--locked").code == 0
    outcome = trainkit("validate", recipe, "schedule=downhill", "--locked")
    assert outcome.code == 2
    assert outcome.err.splitlines()[:2] == [
        "small.lock: trainkit-downhill 0.4 is in use, and not locked",
        "  lock what is there, with the same key=value and -p: trainkit lock small.toml",
    ]
    assert trainkit("lock", recipe, "schedule=downhill").code == 0
    assert trainkit("validate", recipe, "schedule=downhill", "--locked").code == 0


def test_a_module_of_ones_own_is_held_to_its_files(trainkit, recipe, tmp_path):
    (tmp_path / "_own_part.py").write_text(CODE, encoding="utf-8")
    words = (recipe, "schedule=downhill", "-p", "_own_part.py")
    assert trainkit("lock", *words).code == 0
    assert trainkit("validate", *words, "--locked").code == 0
    del sys.modules["_own_part"]
    (tmp_path / "_own_part.py").write_text(CODE + "# changed\n", encoding="utf-8")
    outcome = trainkit("validate", *words, "--locked")
    assert outcome.code == 2
    assert "small.lock: the files of _own_part have changed: sha256:" in outcome.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no such lock file"),
        ("lock = 9\nnew = 3\n", "the lock file has format 9; this trainkit reads formats up to 1"),
        ("lock = 1\n", "not a lock file that trainkit has written"),
        ('lock = 1\n[bases]\na = "x"\n[shipped]\n[distributions]\n', "not a lock file that trainkit has written"),
        ("lock = 1\nbases = 3\nshipped = 1\ndistributions = []\n", "not a lock file that trainkit has written"),
        ("lock = \n", "not TOML"),
        (LOCK.format("'x @ https://example.org/x.whl' = \"1\""), "not a lock file that trainkit has written"),
        (LOCK.format("x = \"1'; echo '\""), "not a lock file that trainkit has written"),
        (LOCK.format("x = 1"), "not a lock file that trainkit has written"),
        ("", "is empty"),
    ],
)
def test_a_lock_file_that_is_none(trainkit, recipe, tmp_path, text, said):
    if text is not None:
        (tmp_path / "small.lock").write_text(text, encoding="utf-8")
    outcome = trainkit("run", recipe, "--locked")
    assert outcome.code == 2
    assert outcome.err.startswith("small.lock")
    assert said in outcome.err
    assert outcome.err.endswith("1 problem; nothing was run.\n")


@pytest.mark.parametrize("text", ["<<<<<<< HEAD\nlock = 1\n", "", "lock = 1\n", '[[package]]\nname = "x"\n'])
def test_what_is_no_lock_file_is_not_written_over_and_the_cure_cures(trainkit, recipe, tmp_path, text):
    file = tmp_path / "small.lock"
    file.write_text(text, encoding="utf-8")
    cure = "  if it is the lock file of this recipe, remove it and write it anew: trainkit lock small.toml\n"
    for words in (("lock", recipe), ("validate", recipe, "--locked")):
        outcome = trainkit(*words)
        assert outcome.code == 2
        assert cure in outcome.err
        assert file.read_text(encoding="utf-8") == text
    file.unlink()
    assert trainkit("lock", recipe).code == 0
    assert trainkit("validate", recipe, "--locked").code == 0


def test_what_has_no_lock_file(trainkit):
    outcome = trainkit("lock", "trainkit:mlp_digits")
    assert outcome.code == 2
    assert "trainkit new-recipe --from trainkit:mlp_digits --derive --out FILE" in outcome.err
    assert trainkit("fill", "trainkit:mlp_digits", "--locked").code == 2


def test_validate_holds_each_recipe_to_its_own_lock(trainkit, mine, tmp_path):
    Path("second.toml").write_text((tmp_path / "lab" / "near.toml").read_text(encoding="utf-8"), encoding="utf-8")
    trainkit("lock", mine)
    outcome = trainkit("validate", mine, "second.toml", "--locked")
    assert (outcome.code, outcome.out) == (2, "lab/mine.toml: no problems\n")
    assert "second.lock: there is no such lock file" in outcome.err


def test_a_command_that_is_proposed_can_be_typed_whatever_the_recipe_is_called(trainkit, tmp_path):
    (tmp_path / "my recipe.toml").write_text('extends = "trainkit:mlp_digits"\n', encoding="utf-8")
    outcome = trainkit("validate", "my recipe.toml", "--locked")
    assert outcome.code == 2
    assert "trainkit lock 'my recipe.toml'" in outcome.err
    assert trainkit("lock", "my recipe.toml").code == 0
    assert (
        (tmp_path / "my recipe.lock")
        .read_text(encoding="utf-8")
        .startswith("# Written by `trainkit lock 'my recipe.toml'`;")
    )
