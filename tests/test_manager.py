"""The plugin manager: fresh for each run, misspelt hooks found, order kept, blame put where it belongs."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from trainkit import Component, PluginError, hookimpl
from trainkit.errors import UsageError
from trainkit.hooking import has_hooks, hook_names, new_hook_manager, run_hook_manager
from trainkit.manager import Plugins
from trainkit.plugin import Plugin


class Called:
    """Notes that it was called."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self.name = name
        self.calls = calls

    @hookimpl
    def trainkit_epoch_start(self) -> None:
        self.calls.append(self.name)


class Defaults:
    """Stands in for the core's own implementations."""

    @hookimpl(trylast=True)
    def trainkit_evaluate(self, run: Any, split: str) -> dict[str, float]:
        return {"loss": 1.0}


def load_own(tmp_path: Path, code: str, name: str) -> Plugins:
    """Plugins with one module of the user's own."""
    file = tmp_path / f"{name}.py"
    file.write_text(code, encoding="utf-8")
    plugins = Plugins([str(file)])
    plugins.load()
    return plugins


def test_every_run_has_a_manager_of_its_own():
    calls: list[str] = []
    first = run_hook_manager(Defaults(), [], {"a": Called("a", calls)})
    second = run_hook_manager(Defaults(), [], {"b": Called("b", calls)})
    first.hook.trainkit_epoch_start(run=None)
    assert calls == ["a"]
    second.hook.trainkit_epoch_start(run=None)
    assert calls == ["a", "b"]
    assert first.get_plugin("b") is None


def test_built_objects_are_called_in_the_order_given():
    calls: list[str] = []
    built = {name: Called(name, calls) for name in ("first", "second", "third")}
    run_hook_manager(Defaults(), [], built).hook.trainkit_epoch_start(run=None)
    assert calls == ["first", "second", "third"]


def test_objects_without_hooks_stay_out():
    manager = run_hook_manager(Defaults(), [], {"number": 3, "called": Called("a", [])})
    assert manager.get_plugin("number") is None
    assert not has_hooks(3)
    assert has_hooks(Called("a", []))


def test_a_plugin_wins_over_the_default_and_a_wrapper_stands_around_both():
    class Own:
        @hookimpl
        def trainkit_evaluate(self, split: str) -> dict[str, float] | None:
            return {"loss": 2.0} if split == "val" else None

    class Wrapper:
        @hookimpl(wrapper=True)
        def trainkit_evaluate(self) -> Any:
            figures = yield
            return {**figures, "wrapped": 1.0}

    hook = run_hook_manager(Defaults(), [], {"own": Own(), "wrapper": Wrapper()}).hook
    assert hook.trainkit_evaluate(run=None, split="val") == {"loss": 2.0, "wrapped": 1.0}
    assert hook.trainkit_evaluate(run=None, split="test") == {"loss": 1.0, "wrapped": 1.0}


def test_a_misspelt_hook_of_a_built_object_is_an_error_that_suggests():
    class Misspelt:
        @hookimpl
        def trainkit_epoch_strat(self) -> None: ...

    with pytest.raises(PluginError, match="no hook named 'trainkit_epoch_strat'; did you mean 'trainkit_epoch_start'"):
        run_hook_manager(Defaults(), [], {"callback.0": Misspelt()})


def test_an_argument_that_the_hook_lacks_is_an_error_that_names_it():
    class Wrong:
        @hookimpl
        def trainkit_epoch_start(self, batch: Any) -> None: ...

    with pytest.raises(PluginError, match=r"callback\.0: .*'batch'"):
        run_hook_manager(Defaults(), [], {"callback.0": Wrong()})


def test_module_hooks_of_plugins_in_use_join():
    module = types.ModuleType("made_up")
    calls: list[str] = []

    @hookimpl
    def trainkit_epoch_start() -> None:
        calls.append("module")

    module.trainkit_epoch_start = trainkit_epoch_start  # type: ignore[attr-defined]
    plugin = Plugin("made_up", "made_up", "made-up", "1.0", module=module)
    run_hook_manager(Defaults(), [plugin], {}).hook.trainkit_epoch_start(run=None)
    run_hook_manager(Defaults(), [], {}).hook.trainkit_epoch_start(run=None)
    assert calls == ["module"]


def test_hooks_are_named_in_the_order_of_a_run():
    names = hook_names()
    assert names[0] == "trainkit_components"
    assert names.index("trainkit_run_start") < names.index("trainkit_step_end") < names.index("trainkit_run_end")
    assert all(hasattr(new_hook_manager().hook, name) for name in names)


def test_metadata_is_read_and_nothing_imported_before_it_is_needed(tmp_path, monkeypatch):
    (tmp_path / "lazy_plugin.py").write_text("raise RuntimeError('imported')\n", encoding="utf-8")
    info = tmp_path / "lazy_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lazy-plugin\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[trainkit]\nlazy = lazy_plugin\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    plugins = Plugins()
    (plugin,) = [plugin for plugin in plugins.plugins if plugin.name == "lazy"]
    assert (plugin.distribution, plugin.version, plugin.error) == ("lazy-plugin", "1.0", "")
    plugins.load()
    assert "lazy-plugin 1.0" in plugin.error
    assert plugins.broken == [plugin]


def test_without_nothing_that_is_installed():
    with pytest.raises(UsageError, match=r"--without nobody: no such plugin; installed: .*trainkit_optimizers"):
        Plugins(without=["nobody"])


def test_a_component_knows_its_plugin(tmp_path):
    code = (
        "from trainkit import Component, hookimpl\n"
        "def owned():\n    '''Be owned.'''\n"
        "@hookimpl\ndef trainkit_components():\n    return [Component('callback', owned)]\n"
    )
    plugins = load_own(tmp_path, code, "own_owned")
    (component,) = plugins.find("callback", "owned")
    assert plugins.owner(component).name == "own_owned"
    assert plugins.find("callback", "own_owned:owned") == [component]
    assert plugins.find("callback", "trainkit_optimizers:owned") == []
    assert plugins.find("optimizer", "owned") == []


BLAMED = """\
from trainkit import hookimpl
class Blamed:
    @hookimpl
    def trainkit_epoch_start(self):
        self.help()
    def help(self):
        raise KeyError("nothing there")
@hookimpl
def trainkit_components():
    return []
"""


def test_blame_names_plugin_version_hook_file_and_line(tmp_path):
    plugins = load_own(tmp_path, BLAMED, "own_blamed")
    thing = sys.modules["own_blamed"].Blamed()
    manager = run_hook_manager(Defaults(), [], {"callback.0": thing})
    with pytest.raises(KeyError) as raised:
        manager.hook.trainkit_epoch_start(run=None)
    message = str(plugins.blame(raised.value))
    assert message.startswith("plugin 'own_blamed' (")
    assert "in hook trainkit_epoch_start: KeyError: 'nothing there'" in message
    assert f"raised at {tmp_path / 'own_blamed.py'}:7" in message


def test_blame_finds_nobody_where_no_plugin_is_on_the_stack():
    with pytest.raises(ValueError, match="mine") as raised:
        raise ValueError("mine")
    assert Plugins().blame(raised.value) is None


@pytest.mark.parametrize("plugin", Plugins().plugins, ids=lambda plugin: plugin.name)
def test_no_module_of_a_plugin_hides_a_factory_once_it_is_imported(plugin):
    def listed() -> list[Component]:
        manager = new_hook_manager()
        manager.register(package)
        return [component for part in manager.hook.trainkit_components() for component in part]

    package = importlib.import_module(plugin.module_name)
    before = listed()
    for module in pkgutil.iter_modules(getattr(package, "__path__", ()), f"{package.__name__}."):
        importlib.import_module(module.name)
    assert [component.name for component in listed()] == [component.name for component in before]


@pytest.mark.parametrize(("hook", "joins"), [("trainkit_components", False), ("trainkit_epoch_start", True)])
def test_modules_join_a_run_that_have_hooks_of_runs(tmp_path, hook, joins):
    given = {"trainkit_components": "", "trainkit_epoch_start": "run"}[hook]
    code = f"from trainkit import hookimpl\n@hookimpl\ndef {hook}({given}):\n    return []\n"
    plugins = load_own(tmp_path, code, f"trainkit_joins_{hook.removeprefix('trainkit_')}")
    own = [plugin for plugin in plugins.plugins if plugin.version == "not installed"]
    assert (run_hook_manager(Defaults(), own, {}).get_plugin(own[0].name) is not None) is joins
