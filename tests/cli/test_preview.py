"""trainkit preview: values, times, lint, pictures, recorded figures, and their agreement with a real run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command

SCHEDULE = """\
[schedule]
use = "cosine"
warmup = "3ba"
end = 0.1
multiply = [{ use = "step", every = "4ba", gamma = 0.5 }]
[[schedule.also]]
target = "weight_decay"
use = "ramp"
start = 0.04
end = 0.4
shape = "cosine"
[[schedule.also]]
target = "momentum"
use = "linear"
end = 0.5
"""


@pytest.fixture
def scheduled(recipe: str) -> str:
    """A recipe with several schedules."""
    path = Path(recipe)
    path.write_text(path.read_text(encoding="utf-8") + "momentum = 0.9\nweight_decay = 0.01\n" + SCHEDULE, "utf-8")
    return recipe


def test_every_logged_value_of_a_run_is_the_previewed_one(trainkit: Command, scheduled: str) -> None:
    assert trainkit("run", scheduled, "run.log_every=1ba", "--run-dir", "run").code == 0
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    logged = [line for line in lines if line["split"] == "train"]
    at = ",".join(str(line["step"] - 1) for line in logged)
    shown = trainkit("preview", scheduled, "--at", at, "--json").json
    assert len(logged) == 8
    assert set(shown["values"]) >= {"lr/0", "lr/1", "weight_decay/0", "momentum/1"}
    for label, values in shown["values"].items():
        assert values == [line[label] for line in logged]


def test_events_of_a_recorded_run_are_played_digit_for_digit(trainkit: Command, recipe: str) -> None:
    path = Path(recipe)
    react = '[[schedule.react]]\nuse = "plateau"\nfactor = 0.5\npatience = 0\nthreshold = 0.5\n'
    path.write_text(path.read_text(encoding="utf-8") + react, encoding="utf-8")
    every = ["run.log_every=1ba", "run.evaluate_every=1ba"]
    assert trainkit("run", recipe, *every, "--run-dir", "run").code == 0
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    logged = [line for line in lines if line["split"] == "train"]
    at = ",".join(str(line["step"] - 1) for line in logged)
    played = trainkit("preview", recipe, *every, "--at", at, "--metrics", "run/metrics.jsonl", "--json").json
    assert played["values"]["lr/0"] == [line["lr/0"] for line in logged]
    assert len(set(played["values"]["lr/0"])) > 1
    assert played["events"][0][1] == "plateau:reduce"


def test_figures_may_be_a_list_or_a_table(trainkit: Command, recipe: str) -> None:
    path = Path(recipe)
    react = '[[schedule.react]]\nuse = "plateau"\nfactor = 0.5\npatience = 0\n'
    path.write_text(path.read_text(encoding="utf-8") + react, encoding="utf-8")
    Path("list.json").write_text("[1.0, 1.0, null]", encoding="utf-8")
    Path("table.json").write_text('{"val.loss": [1.0, 1.0, null]}', encoding="utf-8")
    words = ["preview", recipe, "run.duration=4ep", "--at", "0,2ep,3ep,15", "--json", "--metrics"]
    by_list, by_table = (trainkit(*words, file).json for file in ("list.json", "table.json"))
    assert by_list == by_table
    # An epoch has 4 updates; the second and the third evaluation are not better.
    assert by_list["events"] == [[8, "plateau:reduce"], [12, "plateau:reduce"]]
    assert by_list["values"]["lr/0"] == [0.1, 0.05, 0.025, 0.025]


def test_times_count_updates_or_have_a_unit(trainkit: Command, scheduled: str) -> None:
    shown = trainkit("preview", scheduled, "--at", "0, 1ep,0.5dur,7,100", "--json").json
    assert shown["t"] == [0, 4, 4, 7, 100]
    assert shown["total_updates"] == 8
    assert shown["values"]["weight_decay/0"][-1] == 0.4  # after the run the end is held
    assert shown["values"]["weight_decay/1"] == [0.0] * 5


def test_the_table_names_groups_and_shows_equal_values_once(trainkit: Command, scheduled: str) -> None:
    shown = trainkit("preview", scheduled)
    assert shown.code == 0
    assert "lr/0 lr/1" in shown.out
    assert "group 0" in shown.out
    assert shown.out.splitlines()[0] == "length  8 updates, 4 an epoch"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (['schedule.use="linear"', "schedule.warmup_start=0.0", "schedule.warmup=2ba"], "lr/0 is 0 at 1 update (0)"),
        (["schedule.warmup=3ba", 'schedule.warmup_mode="overlay"', 'schedule.use="linear"'], "never reaches its base"),
        (["schedule.warmup=2ep"], "the warm-up takes the whole run: 8 of 8 updates"),
        (
            ['schedule={use="piecewise", at=["0ba","8ba"], factors=[1.0,3.0]}'],
            "ends at 0.275, above its base value 0.1",
        ),
        (
            [
                'schedule={use="piecewise", at=["0ba","30ba","31ba","40ba"], factors=[1.0,1.0,0.5,0.5]}',
                "run.duration=40ba",
            ],
            "lr/0 jumps at update 31: from 0.1 to 0.05",
        ),
        (
            ['schedule={use="constant", react=[{use="plateau"}]}', "run.evaluate_every=2ep"],
            "plateau does nothing: its first figure is that of update 8, and the run ends at 8",
        ),
        (
            [
                'schedule={use="constant", react=[{use="freeze", at=["3ba"], length="1ba"}, '
                '{use="plateau", after="5ba"}]}',
            ],
            "plateau does nothing: its first figure is that of update 8",
        ),
    ],
)
def test_lint_says_what_looks_wrong(trainkit: Command, recipe: str, change: list[str], fault: str) -> None:
    shown = trainkit("preview", recipe, *change)
    assert shown.code == 0
    assert f"warning: lr/0 {fault.removeprefix('lr/0 ')}" in shown.err or fault in shown.err
    assert any(fault in said for said in trainkit("preview", recipe, *change, "--json").json["lint"])


@pytest.mark.parametrize(
    "change",
    [
        ['schedule={use="cosine", warmup="2ba"}'],
        ['schedule={use="step", every="3ba"}'],
        ['schedule={use="linear", warmup="4ba"}', "run.duration=100ba"],
        ['schedule={use="cosine_restarts", first="10ba"}', "run.duration=50ba"],
        ['schedule={use="constant", react=[{use="plateau", after="4ba"}]}'],
        ['schedule={use="constant", react=[{use="freeze", at=["3ba"], length="1ba"}]}', "run.evaluate_every=2ep"],
    ],
)
def test_lint_is_silent_about_what_is_meant(trainkit: Command, recipe: str, change: list[str]) -> None:
    shown = trainkit("preview", recipe, *change, "--json").json
    told = ("jumps", "reaches", "above", "does nothing")
    assert [said for said in shown["lint"] if any(word in said for word in told)] == []


def test_a_rate_of_its_own_may_end_before_the_run(trainkit: Command, recipe: str) -> None:
    own = '{target="lr", match="head.*", use="piecewise", at=["0ba","4ba"], factors=[1.0,0.0]}'
    change = ['optimizer.group=[{match="head.*"}]', f'schedule={{use="cosine", also=[{own}]}}']
    shown = trainkit("preview", recipe, *change, "--json").json
    assert [said for said in shown["lint"] if "lr/" in said] == []


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_the_picture_is_written(trainkit: Command, scheduled: str, ending: str) -> None:
    pytest.importorskip("matplotlib")
    shown = trainkit("preview", scheduled, "--plot", f"picture.{ending}")
    head = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[ending]
    assert Path(f"picture.{ending}").read_bytes().startswith(head)
    assert f"picture written to picture.{ending}" in shown.err


def test_nothing_is_left_behind(trainkit: Command, scheduled: str) -> None:
    before = sorted(Path().rglob("*"))
    assert trainkit("preview", scheduled).code == 0
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--at", "0,2weeks"], "'2weeks' is no time"),
        (["--at", "-1"], "'-1' is no time"),
        (["--plot", "x.gif"], "the picture can be .png, .svg, .pdf"),
        (["--metrics", "none.jsonl"], "the recipe has no [[schedule.react]]"),
    ],
)
def test_a_wrong_option_is_said(trainkit: Command, scheduled: str, words: list[str], message: str) -> None:
    shown = trainkit("preview", scheduled, *words)
    assert shown.code == 2
    assert message in shown.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: FileNotFoundError"),
        ("[1, 2", "cannot be read: JSONDecodeError"),
        ('{"val.loss": 3}', "cannot be read: TypeError"),
        ('{"val.f1": [1.0]}', "holds none of the figures that reactions look at: val.loss"),
    ],
)
def test_figures_that_cannot_be_played_are_said(
    trainkit: Command, recipe: str, content: str | None, message: str
) -> None:
    path = Path(recipe)
    path.write_text(path.read_text(encoding="utf-8") + '[[schedule.react]]\nuse = "plateau"\n', encoding="utf-8")
    if content is not None:
        Path("figures.json").write_text(content, encoding="utf-8")
    shown = trainkit("preview", recipe, "--metrics", "figures.json")
    assert shown.code == 2
    assert message in shown.err
