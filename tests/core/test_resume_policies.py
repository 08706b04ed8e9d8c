"""Starting over, drift, longer runs, changes key by key, the history, and who must save state."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainkit import CheckpointError, Component, MachineError, PluginError, RecipeError, Run, RunError, hookimpl
from trainkit.aside import put_aside
from trainkit.changes import BY_KIND, CORE, rule_of
from trainkit.environment import drift
from trainkit.errors import UsageError
from trainkit.history import entries
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import Recipe
from trainkit.resuming import recipe_of
from trainkit.stateful import WATCHING, speaks
from trainkit.tables import COMPONENT_TABLES, RUN_SETTINGS, TOP_SETTINGS

LOGGED = ("run.log_every=1ba", "schedule={use='linear'}")
Go = Callable[..., Any]


class Stop:
    """Asks the run to end after an update; keeps the run."""

    run: Run

    def __init__(self, step: int | None) -> None:
        self.step = step

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        self.run = run
        if run.step == self.step:
            run.stop_reason = "the test asked for it"


@pytest.fixture
def go(load: Callable[..., Recipe], plugins: Plugins, tmp_path: Path) -> Go:
    """Train the small recipe in the folder ``run``; the report."""

    def go(*changes: str, stop: int | None = None, more: str = "", listeners: Any = (), **how: Any) -> Any:
        how = {"resume": not how.get("fresh")} | how
        listeners = [*listeners, Stop(stop)]
        return launch(load(*changes, more=more), plugins, folder=tmp_path / "run", listeners=listeners, **how)

    return go


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def rates(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line["lr/0"] for line in lines if line["split"] == "train"]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but locks and what was put aside, by its place."""
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    return {str(name): path.read_bytes() for name, path in files.items() if not str(name).startswith(".old-")}


# ---------------------------------------------------------------- starting over


def test_a_fresh_start_keeps_the_old_run_aside_and_says_so(go, folder, capsys):
    first = go()
    before = contents(folder)
    capsys.readouterr()
    again = go("seed=6", fresh=True)
    assert contents(folder / ".old-1") == before
    assert f"the run that was here is kept in {folder / '.old-1'}; this one starts from the beginning" in (
        capsys.readouterr().err
    )
    assert again.weights_sha256 != first.weights_sha256
    assert json.loads((folder / "report.json").read_text(encoding="utf-8"))["weights_sha256"] == again.weights_sha256
    assert go(fresh=True).weights_sha256 == first.weights_sha256
    assert sorted(path.name for path in folder.glob(".old-*")) == [".old-1", ".old-2"]
    with pytest.raises(UsageError, match="the run is finished"):
        go()


@pytest.mark.parametrize("made", [False, True])
def test_a_fresh_start_in_an_absent_or_empty_folder_is_a_start(go, folder, made):
    if made:
        folder.mkdir()
    assert go(fresh=True).status == "finished"
    assert not list(folder.glob(".old-*"))


def test_a_fresh_start_that_does_not_begin_leaves_the_old_run_alone(go, folder):
    go(stop=5)
    before = contents(folder)
    with pytest.raises(RecipeError):
        go("schedule={use='cosine', warmup='99ep'}", fresh=True)
    assert contents(folder) == before
    assert not list(folder.glob(".old-*"))
    assert go().status == "finished"


def test_a_fresh_start_never_touches_what_is_no_run(go, folder):
    folder.mkdir()
    (folder / "thesis.tex").write_text("years", encoding="utf-8")
    with pytest.raises(MachineError, match="the folder is not empty"):
        go(fresh=True)
    assert (folder / "thesis.tex").read_text(encoding="utf-8") == "years"


def test_putting_aside_goes_on_where_a_killed_process_left_it(tmp_path, monkeypatch):
    for name in ("metrics.jsonl", "log.txt", "recipe.toml", "report.json"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    import os

    rename, left = os.rename, [2]

    def dies(source: Any, target: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", dies)
    with pytest.raises(KeyboardInterrupt):
        put_aside(tmp_path)
    assert (tmp_path / "recipe.toml").exists(), "whoever looks still sees that there is a run"
    left[0] = 99
    assert put_aside(tmp_path) == tmp_path / ".old-1"
    assert len(list((tmp_path / ".old-1").iterdir())) == 4


@pytest.mark.parametrize("how", ["damaged", "gone", "refused"])
def test_a_run_that_lost_its_checkpoints_never_starts_over_by_itself(go, folder, plugins, how):
    go()
    for path in sorted((folder / "checkpoints").glob("step-*")):
        if how == "damaged":
            (path / "MANIFEST").write_text("{}\n", encoding="utf-8")
        else:
            path.rename(path.with_name(f"refused-{path.name}") if how == "refused" else folder.parent / path.name)
    before = contents(folder)
    for attempt in (go, lambda: recipe_of(folder, [], plugins) if how != "damaged" else go()):
        with pytest.raises(CheckpointError, match="no usable checkpoint") as raised:
            attempt()
        assert raised.value.exit_code == 5
        assert "--fresh" in str(raised.value)
        assert len(str(raised.value).splitlines()) >= 4, "a line for each"
    assert contents(folder) == before
    assert go(fresh=True).status == "finished"


# ---------------------------------------------------------------- what it runs on


def test_what_may_change_numbers_is_recorded(go, folder):
    go(stop=5, more='[[callback]]\nuse = "averaged"\n')
    known = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    assert known["precision"] == "float32"
    assert known["matmul_precision"] == torch.get_float32_matmul_precision()
    assert known["plugins"]["trainkit_test_parts"].startswith("sha256:"), "a file of the user's own has no version"
    assert {"deterministic", "cudnn_tf32", "cudnn_benchmark", "cpu", "device_name", "threads"} <= known.keys()


@pytest.mark.parametrize(
    ("key", "value"), [("numpy", "0.9"), ("plugins", {"trainkit": "0.0.1"}), ("matmul_precision", "medium")]
)
def test_drift_is_refused_unless_it_is_accepted(go, folder, key, value):
    go(stop=5)
    file = folder / "environment.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | {key: value}), encoding="utf-8")
    before = contents(folder)
    with pytest.raises(MachineError, match=f"the environment has changed: {key}") as raised:
        go()
    assert raised.value.exit_code == 3
    assert contents(folder) == before
    assert go(accept_drift=True, stop=9).status == "stopped"
    accepted = entries(folder)[-1]["accepted"]
    assert [name.split(".")[0] for name in accepted] == [key]
    assert go().status == "finished", "what was accepted is not asked again"


def test_a_missing_record_is_drift_too(go, folder):
    go(stop=5)
    (folder / "environment.json").unlink()
    with pytest.raises(MachineError, match=r"environment\.json"):
        go()
    assert go(accept_drift=True).status == "finished"


def test_what_cannot_matter_or_was_asked_for_is_no_drift():
    before = {
        "platform": "a",
        "command": "x",
        "device": "cpu",
        "device_name": "old",
        "threads": 2,
        "plugins": {"a": "1"},
    }
    now = {"platform": "b", "command": "y", "device": "cuda", "device_name": "new", "threads": 1, "plugins": {"b": "1"}}
    assert drift(before, now, {}) == {"device": ("cpu", "cuda"), "device_name": ("old", "new")}
    assert drift(before, now, {"run.device": "cuda"}) == {}


# ---------------------------------------------------------------- longer


def test_extended_schedules_keep_their_plan_unless_told_otherwise(go, folder, plugins):
    go(*LOGGED)
    longer = recipe_of(folder, [], plugins, "1ep")
    assert (longer.tables["run"]["duration"], longer.tables["run"]["on_length_change"]) == ("3ep", "keep")
    assert launch(longer, plugins, folder=folder, resume=True).steps == 24
    assert rates(folder)[16:] == [0.0] * 8
    rescaled = recipe_of(folder, ["run.on_length_change=rescale"], plugins, "0.5dur")
    assert rescaled.tables["run"]["duration"] == "4.5ep"
    assert launch(rescaled, plugins, folder=folder, resume=True).steps == 36
    assert rates(folder)[24:] == [pytest.approx(0.1 * (1 - t / 36), rel=1e-12) for t in range(24, 36)]


@pytest.mark.parametrize(
    ("extend", "changes", "message"),
    [
        ("20", [], "write a number and a unit"),
        ("5ba", [], 'run.duration is "2ep"; write ep'),
        ("0ep", [], "write more than nothing"),
        ("1ep", ["run.duration=9ep"], "name one of them"),
    ],
)
def test_what_cannot_be_added_is_refused(go, folder, plugins, extend, changes, message):
    go(stop=5)
    with pytest.raises(UsageError, match=message):
        recipe_of(folder, changes, plugins, extend)


# ---------------------------------------------------------------- key by key


def test_every_setting_of_the_core_has_a_rule():
    named = {setting.name for setting in TOP_SETTINGS}
    named |= {f"run.{setting.name}" for setting in RUN_SETTINGS}
    named |= {f"{table}.{s.name}" for table in ("data", "optimizer") for s in COMPONENT_TABLES[table].added}
    assert named - CORE.keys() == set()


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        (("seed",), "fixed"),
        (("run", "keep"), "changeable"),
        (("run", "device"), "restart"),
        (("data", "workers"), "restart"),
        (("data", "shuffle"), "fixed"),
        (("data", "features"), "checked"),
        (("model", "use"), "fixed"),
        (("model", "widths"), "fixed"),
        (("model", "dropout"), "changeable"),
        (("optimizer", "lr"), "checked"),
        (("optimizer", "use"), "fixed"),
        (("optimizer", "centered"), "fixed"),
        (("schedule", "warmup"), "changeable"),
        (("callback", 0, "max_norm"), "changeable"),
        (("callback", 3, "use"), "changeable"),
        (("metric", 0, "use"), "changeable"),
        (("optimizer", "wrap", 0, "use"), "fixed"),
    ],
    ids=str,
)
def test_the_rule_of_a_key(load, key, rule):
    more = '[[callback]]\nuse = "clip_norm"\nmax_norm = 1.0\n'
    components = load("optimizer={use='rmsprop'}", more=more).components
    assert rule_of(key, components) == rule


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.widths=[9]", r"model.widths = \[9\], and the run has \[8\]: the checkpoint holds the weights"),
        ("model={use='linear'}", 'model.use = "linear", and the run has "mlp"'),
        ("data.shuffle=false", "data.shuffle = false, and the run has true: the place within the epoch"),
    ],
)
def test_what_is_fixed_is_refused_with_its_reason_and_a_way_out(go, change, message):
    go(stop=5)
    with pytest.raises(RecipeError, match=message) as raised:
        go(change, "run.on_conflict=recipe", accept_drift=True)
    assert "--fresh" in str(raised.value)
    assert raised.value.exit_code == 2


def test_deliberate_changes_are_kept_in_the_history(go, folder):
    go(command="trainkit first", stop=5)
    go("model.dropout=0.5", "run.keep=4", "optimizer.lr=0.05", "run.on_conflict=recipe", command="trainkit second")
    start, resumed = entries(folder)
    assert (start["event"], start["update"], start["command"]) == ("start", 0, "trainkit first")
    assert start["environment"]["torch"] == torch.__version__
    assert (resumed["event"], resumed["update"], resumed["command"]) == ("resume", 5, "trainkit second")
    assert resumed["checkpoint"] == "step-000000000005"
    assert resumed["changed"]["run.keep"] == {"was": "2", "is": "4", "rule": "changeable"}
    assert resumed["changed"]["optimizer.lr"] == {"was": "0.1", "is": "0.05", "rule": "checked"}
    assert resumed["changed"].keys() == {"model.dropout", "run.keep", "optimizer.lr", "run.on_conflict"}
    assert resumed["accepted"] == {}


def test_half_a_line_of_the_history_costs_no_other(go, folder):
    go(stop=5)
    with open(folder / "history.jsonl", "a", encoding="utf-8") as file:
        file.write('{"event": "resu')
    go()
    assert [entry["event"] for entry in entries(folder)] == ["start", "resume"]


def test_another_monitor_does_not_compare_with_the_old_one(go, folder):
    go(stop=9)
    assert go("run.monitor=val.accuracy").best["metric"] == "val.accuracy"


# ---------------------------------------------------------------- state


class Counter:
    """Counts gradients and tells nobody."""

    def __init__(self) -> None:
        self.count = 0

    @hookimpl
    def trainkit_gradients(self) -> None:
        self.count += 1


def silent() -> Counter:
    """Count gradients."""
    return Counter()


def test_a_continued_run_that_would_lose_state_refuses_and_names_the_plugin(load, plugins, folder, monkeypatch, capsys):
    component = Component("callback", silent)
    own = next(plugin for plugin in plugins.plugins if plugin.name == "trainkit_test_parts")
    object.__setattr__(component, "plugin", own.name)
    monkeypatch.setattr(own, "components", [*own.components, component])
    monkeypatch.setattr(Counter, "__module__", own.package)
    recipe = load(more='[[callback]]\nuse = "silent"\n')
    launch(recipe, plugins, folder=folder, listeners=[Stop(5)])
    assert "would lose the state of callback.0.silent of plugin 'trainkit_test_parts'" in capsys.readouterr().err
    before = contents(folder)
    with pytest.raises(PluginError, match=r"callback\.0\.silent of plugin 'trainkit_test_parts'") as raised:
        launch(recipe, plugins, folder=folder, resume=True)
    assert raised.value.exit_code == 3
    assert contents(folder) == before
    with monkeypatch.context() as patch:
        patch.setattr(Counter, "stateless", True, raising=False)
        assert launch(recipe, plugins, folder=folder, listeners=[Stop(9)], resume=True).steps == 9
    assert launch(recipe, plugins, folder=folder, resume=True, accept_drift=True).status == "finished"


def test_an_optimizer_that_counts_outside_its_state_is_named(go, monkeypatch):
    """The count is seen to change, and is in no checkpoint."""
    from trainkit.elementwise import ElementwiseOptimizer

    step = ElementwiseOptimizer.step

    def counting(self: Any, *words: Any) -> Any:
        self.count = getattr(self, "count", 0) + 1
        return step(self, *words)

    with monkeypatch.context() as patch:
        patch.setattr(ElementwiseOptimizer, "step", counting)
        go(stop=5)
        with pytest.raises(PluginError, match=r"of the optimizer 'sgd' of plugin 'optimizers'.*: count changes"):
            go()
        assert go(accept_drift=True).status == "finished"


def classes_with_hooks() -> list[type]:
    """Every class of the installed plugins that implements a hook which sees the training."""
    import importlib
    import pkgutil

    found: dict[str, type] = {}
    installed = Plugins()
    installed.load()
    for package in sorted({plugin.package for plugin in installed.plugins}):
        module = importlib.import_module(package)
        modules = [
            module,
            *(importlib.import_module(f"{package}.{part.name}") for part in pkgutil.iter_modules(module.__path__)),
        ]
        for inner in modules:
            for thing in vars(inner).values():
                if isinstance(thing, type) and any(
                    hasattr(getattr(thing, name, None), "trainkit_impl") for name in WATCHING
                ):
                    found[f"{thing.__module__}.{thing.__qualname__}"] = thing
    return list(found.values())


@pytest.mark.parametrize("kind", classes_with_hooks(), ids=lambda kind: kind.__name__)
def test_every_installed_object_with_hooks_saves_or_says_that_it_holds_nothing(kind):
    assert speaks(kind)


def test_the_count_of_updates_left_out_in_a_row_goes_on(go):
    """120 updates in two processes: neither leaves out 100 in a row, both together do."""

    class Half:
        @hookimpl
        def trainkit_step_end(self, run: Run) -> None:
            if run.position == 60:
                run.stop_reason = "half"

    changes = ("run.nonfinite=skip", "optimizer.lr=1e30", "run.duration=15ep")
    assert go(*changes, listeners=[Half()]).status == "stopped"
    with pytest.raises(RunError, match="100 updates in a row"):
        go(*changes)


def test_kinds_with_a_rule_are_kinds():
    assert BY_KIND.keys() <= COMPONENT_TABLES.keys()
