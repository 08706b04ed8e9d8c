"""A recipe packed in one folder and run in another: what it needs, what has changed since, and the data."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

OPTIMIZER = """\
from trainkit import Component, hookimpl
import torch

def plodder(params, /, *, lr: float = 0.1, stride: float = 2.0):
    \"\"\"Plod.

    Args:
        lr: how far.
        stride: how wide.
    \"\"\"
    return torch.optim.SGD(params, lr=lr * stride)

@hookimpl
def trainkit_components():
    return [Component("optimizer", plodder)]
"""
TABLE = "a,b,y\n" + "".join(f"{n % 7},{n % 3},{n % 2}\n" for n in range(60))
SEARCH = """\
[search]
use = "random"
trials = 2
objective = "val.loss"
executor = "serial"
[search.space]
"optimizer.lr" = { low = 0.01, high = 0.1 }
"""


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Carry files to an empty folder and go there."""

    def go(*names: str) -> Path:
        folder = tmp_path / "elsewhere"
        folder.mkdir(exist_ok=True)
        for name in names:
            (folder / Path(name).name).write_bytes(Path(name).read_bytes())
        monkeypatch.chdir(folder)
        return folder

    return go


@pytest.fixture
def derived(recipe, tmp_path):
    """A recipe of two files."""
    (tmp_path / "mine.toml").write_text('extends = "small.toml"\n[optimizer]\nlr = 0.2\n', encoding="utf-8")
    return "mine.toml"


@pytest.fixture
def table(recipe, tmp_path):
    """A recipe that reads a file."""
    text = (tmp_path / recipe).read_text(encoding="utf-8")
    data = '[data]\nuse = "csv"\npath = "table.csv"\ntarget = "y"\nval = 0.2\ntest = 0.0\nbatch_size = 16\n'
    head, _, rest = text.partition("[data]")
    (tmp_path / "table.toml").write_text(head + data + "[model]" + rest.partition("[model]")[2], encoding="utf-8")
    (tmp_path / "table.csv").write_text(TABLE, encoding="utf-8")
    return "table.toml"


def test_a_pack_runs_elsewhere_to_the_same_weights(trainkit, derived, elsewhere):
    assert trainkit("run", derived, "optimizer.momentum=0.5", "--run-dir", "here").code == 0
    made = trainkit("pack", derived, "optimizer.momentum=0.5")
    assert made.code == 0
    assert "mine.pack" in made.err
    folder = elsewhere("mine.pack")
    assert trainkit("mine.pack", "--run-dir", "there").code == 0
    before, after = (json.loads((at / "report.json").read_text()) for at in (folder.parent / "here", folder / "there"))
    assert after["weights_sha256"] == before["weights_sha256"]
    environment = json.loads((folder / "there" / "environment.json").read_text())
    assert list(environment["bases"]) == ["small.toml"]
    assert trainkit("validate", "there/recipe.toml").code == 0


def test_every_verb_of_a_recipe_takes_a_pack(trainkit, derived, elsewhere):
    trainkit("pack", derived)
    elsewhere("mine.pack")
    assert trainkit("validate", "mine.pack") == (0, "mine.pack: no problems\n", "")
    assert trainkit("fill", "mine.pack", "seed=9", "--json").json["recipe"]["seed"] == 9
    assert "mine.pack/small.toml:" in trainkit("fill", "mine.pack", "--origin").out
    assert trainkit("preview", "mine.pack").code == 0
    assert trainkit("run", "mine.pack", "--smoke", "-q") == (0, "", "")


def test_what_a_pack_holds_is_shown_and_is_one_object(trainkit, derived):
    told = trainkit("pack", derived, "seed=4", "--out", "other.pack")
    assert "bases: small.toml" in told.err
    assert "laid over it: seed=4" in told.err
    found = trainkit("pack", derived, "seed=4", "--out", "other.pack", "--json").json
    assert set(found) == {
        *("out", "bytes", "sha256", "recipe", "bases", "overrides", "requires", "environment", "data")
    }
    assert (found["out"], found["recipe"], found["bases"]) == ("other.pack", "mine.toml", ["small.toml"])
    assert found["data"]["sizes"]["train"] > 0
    assert len(found["data"]["fingerprint"]) == 64
    assert found["environment"]["torch"] == importlib.metadata.version("torch")
    assert found["bytes"] == Path("other.pack").stat().st_size
    assert json.loads(Path("other.pack").read_text())["sha256"] == found["sha256"]


def test_packing_without_the_data_imports_no_torch(recipe, tmp_path):
    code = (
        "import sys; from trainkit.cli import main\n"
        "assert main(['pack', 'small.toml', '--no-data', '-q']) == 0\n"
        "assert main(['validate', 'small.pack']) == 0\n"
        "assert main(['diff', 'small.toml', 'small.pack']) == 0\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "small.pack").read_text())["data"] == {"fingerprint": "", "sizes": {}, "files": {}}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["small.toml", "--out", "x.toml"], "--out x.toml: write a name that ends in .pack"),
        (["small.toml", "--out", ".pack"], "--out .pack: write a name that ends in .pack"),
        (["small.toml", "--out", "folder.pack"], "it is a folder"),
        (["small.toml", "--out", "none/x.pack"], "there is no folder none"),
        (["first.pack"], "first.pack: it is a pack; name the new one with --out FILE.pack"),
        ([], "pack takes one recipe"),
        (["small.toml", "optimizer.lrr=1"], "did you mean 'lr'?"),
    ],
)
def test_a_wrong_command_is_one_message_and_nothing_is_written(trainkit, recipe, tmp_path, words, said):
    assert trainkit("pack", recipe, "--no-data", "--out", "first.pack").code == 0
    (tmp_path / "folder.pack").mkdir()
    before = sorted(path.name for path in tmp_path.iterdir())
    outcome = trainkit("pack", *words, "--no-data")
    assert outcome.code == 2
    assert said in outcome.err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_pack_that_is_there_is_written_over_where_it_is_named_alone(trainkit, recipe, tmp_path, monkeypatch):
    assert trainkit("pack", recipe, "--no-data").code == 0
    file = tmp_path / "small.pack"
    before = file.read_bytes()
    outcome = trainkit("pack", recipe, "seed=5", "--no-data")
    assert outcome.code == 2
    assert "small.pack: there is a file already; write it anew with --out small.pack, or name" in outcome.err
    assert file.read_bytes() == before

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        outcome = trainkit("pack", recipe, "seed=5", "--no-data", "--out", "small.pack")
    assert outcome.code == 3
    assert "small.pack: cannot be written: No space left on device" in outcome.err
    assert file.read_bytes() == before
    assert trainkit("pack", recipe, "seed=5", "--no-data", "--out", "small.pack").code == 0
    assert json.loads(file.read_text())["overrides"] == ["seed=5"]
    assert not list(tmp_path.glob(".*.tmp"))


def test_an_altered_pack_is_one_message(trainkit, derived):
    trainkit("pack", derived, "--no-data")
    file = Path("mine.pack")
    file.write_text(file.read_text().replace("lr = 0.2", "lr = 0.9"), encoding="utf-8")
    for verb in ("run", "validate", "fill"):
        outcome = trainkit(verb, "mine.pack")
        assert outcome.code == 2
        assert "the pack was altered after it was made: the recipe 'mine.toml'" in outcome.err
        assert outcome.err.endswith("1 problem; nothing was run.\n")


# ------------------------------------------------------------ what it needs


def test_a_plugin_that_is_missing_is_one_problem_and_exit_code_3(
    trainkit, recipe, distribution, monkeypatch, elsewhere
):
    distribution("trainkit_plodder", OPTIMIZER, "0.3")
    assert trainkit("pack", recipe, "optimizer=plodder", "optimizer.stride=3.0", "--no-data").code == 0
    assert "trainkit-plodder>=0.3" in json.loads(Path("small.pack").read_text())["requires"]
    elsewhere("small.pack")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if not entry.endswith("site")])
    for verb in ("run", "validate"):
        outcome = trainkit(verb, "small.pack")
        assert outcome.code == 3, outcome.err
        assert "trainkit-plodder>=0.3" in outcome.err
        assert "pip install 'trainkit-plodder>=0.3'" in outcome.err
        assert outcome.err.endswith("1 problem; nothing was run.\n")


def test_a_module_of_ones_own_is_not_in_the_pack_and_that_is_said(trainkit, recipe, tmp_path, elsewhere):
    (tmp_path / "plodding.py").write_text(OPTIMIZER, encoding="utf-8")
    made = trainkit("pack", recipe, "optimizer=plodder", "-p", "./plodding.py", "--no-data")
    assert "whoever runs it needs the plugin that -p names here too: plodding" in made.err
    assert "torch.optim" not in Path("small.pack").read_text()
    elsewhere("small.pack")
    outcome = trainkit("validate", "small.pack")
    assert outcome.code == 2
    assert "no optimizer named 'plodder'" in outcome.err
    assert "-p MODULE" in outcome.err


def test_a_default_that_has_changed_since_is_a_problem_unless_it_is_accepted(
    trainkit, recipe, distribution, tmp_path, monkeypatch
):
    distribution("trainkit_plodder", OPTIMIZER, "0.3")
    assert trainkit("pack", recipe, "optimizer=plodder", "--no-data").code == 0
    site = tmp_path / "site"
    (site / "trainkit_plodder.py").write_text(OPTIMIZER.replace("= 2.0", "= 4.0"), encoding="utf-8")
    del sys.modules["trainkit_plodder"]
    for name in (site / "__pycache__").glob("trainkit_plodder*"):
        name.unlink()
    said = "optimizer.stride is 4.0 by default, and was 2.0 when the pack was made"
    for verb in ("run", "validate"):
        outcome = trainkit(verb, "small.pack")
        assert outcome.code == 2
        assert said in outcome.err
        assert "optimizer.stride=2.0" in outcome.err
    assert f"warning: {said}" in trainkit("fill", "small.pack").err
    assert trainkit("run", "small.pack", "optimizer.stride=2.0", "--smoke").code == 0
    accepted = trainkit("run", "small.pack", "--accept-drift", "--smoke")
    assert accepted.code == 0
    assert f"warning: {said}" in accepted.err


def test_other_versions_are_a_note(trainkit, recipe, monkeypatch):
    trainkit("pack", recipe, "--no-data")
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9" if name == "torch" else version(name))
    outcome = trainkit("run", "small.pack", "--smoke")
    assert outcome.code == 0
    assert f"torch 9.9 ({version('torch')})" in outcome.err


# ------------------------------------------------------------ the data


def test_other_data_is_refused_before_anything_is_trained(trainkit, table, elsewhere):
    assert trainkit("pack", table).code == 0
    held = json.loads(Path("table.pack").read_text())["data"]
    assert held["files"]["data.path"]["bytes"] == len(TABLE)
    folder = elsewhere("table.pack", "table.csv")
    assert trainkit("run", "table.pack", "--smoke", "-q").code == 0
    (folder / "table.csv").write_text(TABLE.replace("6,", "5,"), encoding="utf-8")
    for words in (["--smoke"], ["--run-dir", "there"]):
        outcome = trainkit("run", "table.pack", *words)
        assert outcome.code == 2
        assert "the data is not the data that the pack was made beside: SHA-256 " in outcome.err
        assert "data.path: " in outcome.err
        assert "--accept-drift" in outcome.err
        assert outcome.err.endswith("1 problem; nothing was run.\n")
    assert not (folder / "there").exists()
    accepted = trainkit("run", "table.pack", "--accept-drift", "--run-dir", "there")
    assert accepted.code == 0
    assert "warning: the data is not the data that the pack was made beside" in accepted.err


def test_data_that_lies_elsewhere_is_compared_and_data_chosen_anew_is_not(trainkit, table, tmp_path, elsewhere):
    trainkit("pack", table)
    folder = elsewhere("table.pack")
    (folder / "moved.csv").write_text(TABLE, encoding="utf-8")
    outcome = trainkit("run", "table.pack", "--smoke")
    assert outcome.code == 2
    assert "table.csv" in outcome.err
    assert trainkit("run", "table.pack", "data.path=moved.csv", "--smoke", "-q").code == 0
    (folder / "moved.csv").write_text(TABLE.replace("6,", "5,"), encoding="utf-8")
    assert "is not the data" in trainkit("run", "table.pack", "data.path=moved.csv", "--smoke").err
    other = trainkit("run", "table.pack", "data.path=moved.csv", "data.val=0.3", "--smoke", "-v")
    assert other.code == 0
    assert "note: data.val is not that of the pack" in other.err


def test_data_that_was_not_looked_at_is_not_compared(trainkit, table, elsewhere):
    trainkit("pack", table, "--no-data")
    folder = elsewhere("table.pack")
    (folder / "table.csv").write_text(TABLE.replace("6,", "5,"), encoding="utf-8")
    assert trainkit("run", "table.pack", "--smoke", "-q").code == 0


def test_data_that_cannot_be_read_cannot_be_packed(trainkit, table, tmp_path):
    (tmp_path / "table.csv").unlink()
    outcome = trainkit("pack", table)
    assert outcome.code == 2
    assert "table.csv" in outcome.err
    assert not (tmp_path / "table.pack").exists()
    assert trainkit("pack", table, "--no-data", "-q") == (0, "", "")


@pytest.mark.parametrize("verb", [["preview"], ["hooks", "--trace"]])
@pytest.mark.parametrize("tables", ["", SEARCH])
def test_verbs_that_look_at_one_run_warn_of_other_data_once(trainkit, table, elsewhere, tmp_path, verb, tables):
    file = tmp_path / table
    file.write_text(file.read_text() + tables, encoding="utf-8")
    trainkit("pack", table)
    folder = elsewhere("table.pack")
    (folder / "table.csv").write_text(TABLE.replace("6,", "5,"), encoding="utf-8")
    outcome = trainkit(*verb, "table.pack")
    assert outcome.code == 0
    assert outcome.err.count("warning: the data is not the data that the pack was made beside") == 1


# ------------------------------------------------------------ several runs


def test_a_search_and_its_ensemble_run_from_a_pack(trainkit, table, elsewhere, tmp_path):
    file = tmp_path / table
    file.write_text(file.read_text() + SEARCH + '[ensemble]\nuse = "seeds"\nbootstrap = 10\n', encoding="utf-8")
    assert trainkit("pack", table).code == 0
    folder = elsewhere("table.pack", "table.csv")
    assert trainkit("validate", "table.pack").code == 0
    outcome = trainkit("run", "table.pack", "--run-dir", "study", "-q", "--without", "trainkit_reports")
    assert outcome.code == 0, outcome.err
    assert json.loads((folder / "study" / "report.json").read_text())["trials"] == {"done": 2}
    assert (folder / "study" / "ensemble" / "ensemble.json").is_file()
    assert trainkit("validate", "study/best.toml").code == 0
    outcome = trainkit("diff", "study", "study/ensemble")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("A  study     study\nB  ensemble  study/ensemble\n")
    assert "test.accuracy" not in outcome.out  # the data has no test samples
    assert "\n  val." in outcome.out


@pytest.mark.parametrize("tables", [SEARCH, '[ensemble]\nuse = "seeds"\nmembers = 2\n'])
def test_several_runs_look_at_the_data_before_the_first(trainkit, table, elsewhere, tmp_path, tables):
    file = tmp_path / table
    file.write_text(file.read_text() + tables, encoding="utf-8")
    trainkit("pack", table)
    folder = elsewhere("table.pack")
    (folder / "table.csv").write_text(TABLE.replace("6,", "5,"), encoding="utf-8")
    outcome = trainkit("run", "table.pack", "--run-dir", "there")
    assert outcome.code == 2
    assert "is not the data" in outcome.err
    assert not (folder / "there").exists()


def test_a_pack_of_a_packaged_recipe(trainkit, elsewhere):
    assert trainkit("pack", "trainkit:mlp_digits", "--no-data").code == 0
    held = json.loads(Path("mlp_digits.pack").read_text())
    assert (held["recipe"]["name"], held["bases"]) == ("trainkit:mlp_digits", {})
    elsewhere("mlp_digits.pack")
    filled = trainkit("fill", "mlp_digits.pack", "--json").json["recipe"]
    assert filled == trainkit("fill", "trainkit:mlp_digits", "--json").json["recipe"] | {"requires": held["requires"]}
