"""``hooks --trace``, ``describe --source`` and ``list --plugins``: what a plugin does, seen from outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.hooks.conftest import RECIPE
from trainkit.cli import main
from trainkit.hooking import hook_names, hooks_of
from trainkit.manager import Plugins

NOTED = '''
from trainkit import Component, hookimpl

class Noted:
    """Does a little of everything."""

    stateless = True

    @hookimpl(wrapper=True)
    def trainkit_evaluate(self, split):
        return {**(yield), "more": 1.0}

    @hookimpl
    def trainkit_step_end(self, run):
        return None

    @hookimpl
    def trainkit_epoch_end(self, run, metrics):
        return None

def noted():
    """Note."""
    return Noted()

@hookimpl
def trainkit_check_recipe(recipe):
    return []

@hookimpl
def trainkit_components():
    return [Component("callback", noted)]
'''


@pytest.fixture
def traced(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The calls that the trace of a small recipe shows, as JSON."""
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(RECIPE, encoding="utf-8")
    Path("own_noted.py").write_text(NOTED, encoding="utf-8")
    words = ["small.toml", "callback=[{ use = 'noted' }, { use = 'clip_norm', max_norm = 1.0 }]", "-p", "own_noted"]

    def trace(*more: str) -> list[dict[str, Any]]:
        assert main(["hooks", "--trace", *words, "--json", "-q", *more]) == 0
        calls: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["calls"]
        return calls

    yield trace
    __import__("sys").modules.pop("own_noted", None)


def test_each_call_is_shown_with_its_arguments_who_answered_and_what(traced: Any, tmp_path: Path) -> None:
    calls = traced()
    (end,) = [call for call in calls if call["hook"] == "trainkit_epoch_end"]
    assert (end["update"], end["by"], end["plugin"]) == (4, "callback.0.noted", "own_noted not installed")
    assert end["arguments"].keys() == {"run", "metrics"}
    assert end["arguments"]["run"] == "at update 4"
    around = next(call for call in calls if call["hook"] == "trainkit_evaluate" and call["around"])
    assert around["arguments"] == {"split": "'val'"}
    assert "more: 1" in around["answer"]
    core = next(call for call in calls if call["hook"] == "trainkit_evaluate" and call["by"] == "trainkit")
    assert "more" not in core["answer"]
    assert core["plugin"] == ""
    clips = [call for call in calls if call["by"] == "callback.1.clip_norm" and call["hook"] == "trainkit_gradients"]
    assert clips[0]["plugin"].startswith("trainkit ")
    assert clips[0]["arguments"] == {"gradients": "[float32 [4, 8], float32 [4], float32 [3, 4], float32 [3]]"}
    left = {path.name for path in tmp_path.iterdir()} - {"__pycache__"}  # Python's own, of the file
    assert left == {"small.toml", "own_noted.py"}, "it leaves nothing"


def test_calls_stand_in_the_order_of_the_run_and_none_is_doubled(traced: Any) -> None:
    calls = [call for call in traced() if call["by"] == "callback.0.noted" and call["hook"] == "trainkit_step_end"]
    assert [call["update"] for call in calls] == [1, 2], "what later updates do again says nothing more"
    checks = [call for call in traced() if call["hook"] == "trainkit_check_recipe" and call["by"] == "own_noted"]
    assert [call["answer"] for call in checks] == ["[]"]
    assert traced()[0]["hook"] == "trainkit_check_recipe"
    assert {call["hook"] for call in traced()} <= set(hook_names())


def test_tracing_leaves_the_plugins_as_they_were(traced: Any) -> None:
    def functions() -> list[Any]:
        plugins = Plugins()
        plugins.load()
        return [
            impl.function
            for plugin in plugins.plugins
            for impl in hooks_of(plugin.module, plugin.name).hook.trainkit_check_recipe.get_hookimpls()
        ]

    before = functions()
    traced()
    assert functions() == before


def test_the_table_names_who_answered(traced: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hooks", "--trace", "small.toml", "callback=[{ use = 'norms' }]", "-q"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["update", "hook", "who", "answer"]
    assert any("trainkit_figures(run=at update 1)" in line and "callback.0.norms (trainkit" in line for line in lines)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["hooks", "run.threads=1"], 2, "hooks takes values for a recipe alone"),
        (["hooks", "--trace", "none.toml"], 2, "none.toml: there is no such file"),
        (["list", "callback", "--plugins"], 2, "--plugins lists plugins"),
        (["describe", "callback", "none", "--source"], 2, "no callback named 'none'"),
    ],
)
def test_wrong_words(
    words: list[str],
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == code
    assert said in capsys.readouterr().err


def test_the_code_of_a_component(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "schedule", "cosine", "--source"]) == 0
    place, plugin, first, *_ = capsys.readouterr().out.splitlines()
    assert place.startswith("# ")
    file, _, line = place.removeprefix("# ").rpartition(":")
    assert Path(file).read_text(encoding="utf-8").splitlines()[int(line) - 1] == first
    assert plugin == f"# plugin 'schedules' (trainkit {__import__('trainkit').__version__})"
    assert first.startswith("def cosine(")
    assert main(["describe", "schedule", "cosine", "--source", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["code"].splitlines()[0] == first


def test_a_component_without_a_file_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    made = tmp_path / "own_made.py"
    made.write_text(
        "from trainkit import Component, hookimpl\nscope = {}\n"
        "exec('def unfiled():\\n    \"A callback.\"\\n    return object()', scope)\n"
        "@hookimpl\ndef trainkit_components():\n    return [Component('callback', scope['unfiled'])]\n",
        encoding="utf-8",
    )
    assert main(["describe", "callback", "unfiled", "--source", "-p", str(made)]) == 2
    assert "callback 'unfiled' has no source file that could be shown" in capsys.readouterr().err
    __import__("sys").modules.pop("own_made", None)


def test_plugins_are_listed_with_kinds_state_and_path(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--plugins", "--json"]) == 0
    listed = {plugin["name"]: plugin for plugin in json.loads(capsys.readouterr().out)["plugins"]}
    data = listed["data"]
    assert data["kinds"].keys() == {"data", "augmentation"}
    assert sum(data["kinds"].values()) == data["components"]
    assert Path(data["path"]).parts[-2:] == ("trainkit_data", "__init__.py")
    assert main(["list", "--plugins"]) == 0
    table = capsys.readouterr().out
    assert main(["plugins"]) == 0
    assert capsys.readouterr().out == table
