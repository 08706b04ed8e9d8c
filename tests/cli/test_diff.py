"""``trainkit diff``: recipes, packs, runs, studies and ensembles beside each other."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from trainkit.diff import compare, leaves
from trainkit.diff_table import Change
from trainkit.trial_results import results_of

OTHER = 'extends = "small.toml"\n[optimizer]\nuse = "adamw"\nlr = 0.01\n[[metric]]\nuse = "top_k"\nk = 2\n'


@pytest.fixture
def other(recipe, tmp_path):
    """A recipe that extends the other one and changes it."""
    (tmp_path / "other.toml").write_text(OTHER, encoding="utf-8")
    return "other.toml"


@pytest.fixture
def run(trainkit, recipe):
    """Makes a run folder."""

    def run(name: str, *words: str) -> str:
        assert trainkit("run", recipe, "--run-dir", name, "-q", "logger=[]", *words).code == 0
        return name

    return run


def rows(lines: str, part: str) -> dict[str, list[str]]:
    """The table of one part, by key."""
    text = lines.partition(f"\n{part}: ")[2].partition("\n\n")[0]
    return {line.split()[0]: line.split()[1:] for line in text.splitlines()[1:]}


def test_two_recipes(trainkit, recipe, other):
    outcome = trainkit("diff", recipe, other)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("A  recipe  small.toml\nB  recipe  other.toml\n\nrecipe: ")
    found = rows(outcome.out, "recipe")
    assert found["optimizer.use"] == ['"sgd"', '"adamw"']
    assert found["optimizer.lr"] == ["0.1", "0.01", "-0.09"]
    assert found["optimizer.momentum"] == ["0.0", "-"]
    assert found["metric"] == ['["accuracy"]', '["top_k"]']
    assert found["metric[top_k].k"] == ["-", "2"]
    assert "model.use" not in found
    assert rows(outcome.out, "environment")['bases."small.toml"'][0] == "-"


def test_a_recipe_and_itself_in_another_form_are_equal(trainkit, recipe, run, tmp_path):
    trainkit("pack", recipe, "--no-data")
    run("r", "run.threads=1")
    Path("filled.toml").write_text(trainkit("fill", recipe, "logger=[]").out, encoding="utf-8")
    for one in ("small.toml", "small.pack", "filled.toml"):
        lines = trainkit("diff", one, "r").out
        assert {key.partition("[")[0] for key in rows(lines, "recipe")} <= {"logger"}, lines
    assert "recipe: nothing differs" in trainkit("diff", "filled.toml", "r").out


def test_two_runs(trainkit, run):
    outcome = trainkit("diff", run("a"), run("b", "optimizer.lr=0.2"))
    assert (outcome.code, outcome.err) == (0, "")
    assert rows(outcome.out, "recipe") == {"optimizer.lr": ["0.1", "0.2", "+0.1"]}
    assert "environment: nothing differs, " in outcome.out
    result = rows(outcome.out, "result")
    before, after = (json.loads(Path(name, "report.json").read_text()) for name in ("a", "b"))
    assert result["val.loss"][:2] == [f"{report['metrics']['val.loss']:.6g}" for report in (before, after)]
    assert result["weights_sha256"] == [report["weights_sha256"][:12] for report in (before, after)]
    assert "note: one run each: " in outcome.out


def test_the_same_run_twice_has_the_same_result_but_for_time(trainkit, run):
    found = trainkit("diff", run("a"), run("b"), "--json").json
    assert found["recipe"]["changed"] == []
    assert {change["key"] for change in found["result"]["changed"]} <= {"seconds"}
    assert found["notes"] == [] or found["result"]["changed"]


def test_json_has_every_value_whole(trainkit, recipe, run):
    found = trainkit("diff", recipe, run("a", "optimizer.lr=0.2"), "--json").json
    assert found["a"] == {"name": "small.toml", "kind": "recipe"}
    assert found["b"] == {"name": "a", "kind": "run"}
    assert {"key": "optimizer.lr", "a": 0.1, "b": 0.2} in found["recipe"]["changed"]
    assert found["recipe"]["equal"] > 40
    assert found["result"] is None
    assert "torch" in found["unknown"]["small.toml"]
    assert found["notes"] == ["small.toml: it has no result to compare"]


def test_markdown(trainkit, recipe, other):
    lines = trainkit("diff", recipe, other, "--markdown").out.splitlines()
    assert lines[:3] == ["- A recipe small.toml", "- B recipe other.toml", ""]
    assert "## recipe" in lines
    assert "| optimizer.lr | 0.1 | 0.01 | -0.09 |" in lines
    assert "| metric\\[top_k\\].k | - | 2 |  |" in lines


def test_markdown_shows_what_a_stranger_wrote_and_draws_none_of_it(trainkit, recipe):
    texts = {"a": r"![x](http://x/y.png) *b* _c_ `d` <img>", "b": r"a|b \| &lt; [l](x) __e__ ~~f~~ snake_case"}
    for name, text in texts.items():
        Path(name).mkdir()
        Path(name, "recipe.toml").write_text(Path(recipe).read_text())
        Path(name, "environment.json").write_text(json.dumps({"torch": text}))
    row = next(line for line in trainkit("diff", "a", "b", "--markdown").out.splitlines() if "torch" in line)
    assert row == (
        r'| torch | "!\[x\](http://x/y.png) \*b\* \_c\_ \`d\` \<img\>" '
        r'| "a\|b \\\\\| \&lt; \[l\](x) \_\_e\_\_ \~\~f\~\~ snake_case" |  |'
    )


def test_other_versions_and_bases_are_the_environment(trainkit, other, run, recipe):
    a, b = run("a"), run("b")
    file = Path(b, "environment.json")
    held = json.loads(file.read_text())
    file.write_text(json.dumps(held | {"torch": "1.0", "plugins": {"trainkit-lion": "2"}, "command": "x"}))
    found = {change["key"]: change for change in trainkit("diff", a, b, "--json").json["environment"]["changed"]}
    assert found["torch"]["b"] == "1.0"
    assert found["plugins.trainkit"]["b"] is None
    assert found["plugins.trainkit-lion"] == {"key": "plugins.trainkit-lion", "a": None, "b": "2"}
    assert "command" not in found
    trainkit("pack", other, "--no-data")
    Path(recipe).write_text(Path(recipe).read_text() + "# a remark\n", encoding="utf-8")
    found = trainkit("diff", other, "other.pack", "--json").json
    assert [change["key"] for change in found["recipe"]["changed"]] == []
    assert 'bases."small.toml"' in [change["key"] for change in found["environment"]["changed"]]


def test_a_run_whose_plugin_is_gone_is_compared_as_it_stands(trainkit, recipe, run):
    file = Path(run("a"), "recipe.toml")
    file.write_text(file.read_text().replace('use = "sgd"', 'use = "of_nobody"'), encoding="utf-8")
    outcome = trainkit("diff", recipe, "a")
    assert outcome.code == 0
    assert rows(outcome.out, "recipe")["optimizer.use"] == ['"sgd"', '"of_nobody"']
    assert "note: a: its recipe is compared as it stands there" in outcome.out
    assert "no optimizer named 'of_nobody'" in outcome.out


def test_a_run_that_goes_on_has_no_result_yet(trainkit, recipe, run):
    Path(run("a"), "report.json").unlink()
    outcome = trainkit("diff", "a", recipe)
    assert outcome.code == 0
    assert "\nresult: " not in outcome.out


HUGE = "1" + "0" * 400


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "[" * 100_000, '{"metrics": NaN}', '{"best": [1], "metrics": 3, "steps": {}}'),
        f'{{"metrics": {{"a\\nb|\\u202e": {HUGE}, "c": "x\\ny"}}, "steps": {HUGE}}}',
    ],
)
def test_a_report_that_is_none_is_a_note(trainkit, run, recipe, text):
    Path(run("a"), "report.json").write_text(text)
    Path(run("b"), "report.json").write_text('{"metrics": {"c": 1.5}, "steps": 2.5}')
    for form in ([], ["--markdown"], ["--json"]):
        outcome = trainkit("diff", "a", "b", *form)
        assert (outcome.code, outcome.err) == (0, "")
        assert "\u202e" not in outcome.out
        assert not any(line.startswith("b|") for line in outcome.out.splitlines())


@pytest.mark.parametrize("depth", [15, 17, 600, 900])
def test_an_environment_of_any_depth_is_compared_or_is_a_note(trainkit, recipe, depth):
    """Those of 600 and 900 were a defect: JSON is read deeper than it is shown."""
    for name in "ab":
        Path(name).mkdir()
        Path(name, "recipe.toml").write_text(Path(recipe).read_text())
        Path(name, "environment.json").write_text(f'{{"torch": {"[" * depth}"{name}"{"]" * depth}}}')
    for form in ([], ["--markdown"], ["--json"]):
        outcome = trainkit("diff", "a", "b", *form)
        assert (outcome.code, outcome.err) == (0, "")
        assert ("environment.json cannot be read: it is nested more than 16 deep" in outcome.out) == (depth > 15)
    assert len(outcome.json["environment"]["changed"]) == (depth == 15)


def test_whole_numbers_that_python_does_not_print_are_text_in_json(trainkit, recipe):
    Path("a").mkdir()
    Path("a", "recipe.toml").write_text(f"accumulate = 0x{'f' * 9000}\n{Path(recipe).read_text()}")
    found = trainkit("diff", recipe, "a", "--json").json["recipe"]["changed"]
    assert {"key": "accumulate", "a": None, "b": f"0x{'f' * 9000}"} in found
    assert "a very long integer" in trainkit("diff", recipe, "a").out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "diff takes two recipes, packs or folders, got: none"),
        (["small.toml"], 2, "got: small.toml"),
        (["small.toml", "smal.toml"], 2, "did you mean 'small.toml'?"),
        (["small.toml", "empty"], 2, "empty: it holds no run, study or ensemble"),
        (["small.toml", "wrong.toml"], 2, "did you mean 'optimizer'?"),
    ],
)
def test_what_cannot_be_compared_is_one_message(trainkit, recipe, tmp_path, words, code, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong.toml").write_text('extends = "small.toml"\n[optimzer]\nlr = 1\n', encoding="utf-8")
    outcome = trainkit("diff", *words)
    assert (outcome.code, outcome.out) == (code, "")
    assert said in outcome.err


def test_one_form_is_written(trainkit, recipe):
    outcome = trainkit("diff", recipe, recipe, "--markdown", "--json")
    assert outcome.code == 2
    assert outcome.json["error"] == "diff writes --json or --markdown, not both"


def test_a_link_out_of_a_run_folder_is_refused(trainkit, run, tmp_path):
    (tmp_path / "secret.json").write_text('{"metrics": {"password": 1}}')
    file = Path(run("a"), "report.json")
    file.unlink()
    os.symlink(tmp_path / "secret.json", file)
    outcome = trainkit("diff", "a", "a")
    assert outcome.code == 3
    assert "it is a link out of the run folder" in outcome.err


def test_requirements_are_told_by_their_distribution(trainkit, recipe, tmp_path):
    text = Path(recipe).read_text()
    for name, requires in (("a", '["trainkit>=0", "torch"]'), ("b", '["numpy>=1", "trainkit>=0.0.1"]')):
        (tmp_path / f"{name}.toml").write_text(f"requires = {requires}\n{text}", encoding="utf-8")
    assert rows(trainkit("diff", "a.toml", "b.toml").out, "environment") == {
        "requires.trainkit": ['">=0"', '">=0.0.1"'],
        "requires.torch": ['"any"', "-"],
        "requires.numpy": ["-", '">=1"'],
    }


# ------------------------------------------------------------ its parts


def test_items_of_a_list_are_told_by_the_component_that_they_name():
    one = {"callback": [{"use": "ema", "decay": 0.9}, {"use": "clip", "most": 1}]}
    other = {"callback": [{"use": "clip", "most": 2}, {"use": "ema", "decay": 0.9}, {"use": "clip", "most": 1}]}
    found = {change.key: (change.a, change.b) for change in compare(one, other).changed}
    assert found == {
        "callback[clip].most": (1, 2),
        "callback[clip 2].most": (None, 1),
        "callback": (["ema", "clip"], ["clip", "ema", "clip"]),
    }


def test_items_that_name_no_component_are_told_by_their_number():
    found = dict(leaves({"optimizer": {"group": [{"match": "a"}, {"match": "b"}]}}))
    assert found["optimizer.group[1].match"] == "b"


def test_unset_values_are_not_there():
    assert compare({"a": None, "b": []}, {}).changed == []
    assert compare({"a": None}, {"a": 1}).changed == [Change("a", None, 1)]


@pytest.mark.parametrize(
    ("a", "b", "by"),
    [(1, 3, 2), (1.5, 1.0, -0.5), (True, False, None), ("a", "b", None), (None, 1, None), (10**400, 1.5, None)],
)
def test_numbers_have_a_difference(a, b, by):
    assert Change("x", a, b).change == by


def test_runs_studies_and_ensembles_share_the_names_of_figures():
    run = {
        "status": "finished",
        "metrics": {"val.loss": 1.0, "test.accuracy": 0.5},
        "best": {"metric": "val.loss", "value": 1.0, "step": 3},
    }
    study = {
        "best": {
            "figure": "val.loss",
            "value": 1.0,
            "metrics": {"val.loss": 1.0},
            "test": {"accuracy": 0.5},
            "point": {"optimizer.lr": 0.1},
            "trial": 2,
        }
    }
    ensemble = {
        "kind": "raw",
        "ensemble": {"test": {"raw": {"accuracy": {"value": 0.5, "low": 0.4}}, "calibrated": {}}},
        "members": [{"kept": True}, {"kept": False}],
    }
    made = {
        kind: results_of(kind, report) for kind, report in {"run": run, "study": study, "ensemble": ensemble}.items()
    }
    assert all(found["test.accuracy"] == 0.5 for found in made.values())
    assert made["run"]["best val.loss"] == made["study"]["best val.loss"] == 1.0
    assert made["study"]["best optimizer.lr"] == 0.1
    assert made["ensemble"]["members"] == 1


@pytest.mark.parametrize("kind", ["run", "study", "ensemble"])
@pytest.mark.parametrize("value", [None, 1, "x", [], [1], {"x": 1}, {"value": {}}])
def test_reports_of_another_form_have_fewer_results(kind, value):
    keys = ("status", "metrics", "best", "steps", "ensemble", "members", "kind", "trials")
    assert all(isinstance(found, int | float | str) for found in results_of(kind, dict.fromkeys(keys, value)).values())
