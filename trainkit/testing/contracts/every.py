"""What every component keeps, and every plugin: of whatever kind."""

from __future__ import annotations

import contextlib
import copy
import inspect
import json
import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

import pytest
from pydantic import ValidationError

from trainkit.component import Component
from trainkit.ensembler import Ensembler
from trainkit.errors import TrainkitError
from trainkit.hooking import hook_names, run_hook_manager
from trainkit.protocols import Augmentation, Loss, Metric, Optimizer, Reaction, Schedule
from trainkit.recipe import fill_toml
from trainkit.recipe.schema import component_schema
from trainkit.recipe.values import plain
from trainkit.returned import takes
from trainkit.settings import REQUIRED, Setting, show_value
from trainkit.show import example_toml, show_component
from trainkit.strict import Unsure, accepted, settings_model
from trainkit.tables import table_of
from trainkit.testing.build import made_from, path_of, recipe_of, surroundings
from trainkit.testing.contract import Contract, contract_names
from trainkit.testing.importing import found_at_import
from trainkit.testing.kept import once_for_each
from trainkit.testing.listed import MADE_UP, as_listed
from trainkit.trial import Searcher
from trainkit.work import Executor

PROTOCOLS: Mapping[str, type] = {
    "augmentation": Augmentation,
    "loss": Loss,
    "metric": Metric,
    "optimizer": Optimizer,
    "wrapper": Optimizer,
    "schedule": Schedule,
    "reaction": Reaction,
    "searcher": Searcher,
    "ensembler": Ensembler,
    "executor": Executor,
}
NAME = re.compile(r"[A-Za-z0-9_.-]+(:[A-Za-z0-9_.-]+)?")  # a bridge's has a prefix


class PluginContract(Contract):
    """What a plugin keeps as a whole; held to it once, with the first of its components."""

    once = True

    def test_importing_it_does_nothing(self, component: Component) -> None:
        """Importing its module and listing its components touches no device, file, network, thread or output."""
        plugins, listed = as_listed(component)
        owner = plugins.owner(listed)
        if owner.distribution == MADE_UP:
            pytest.skip("no module lists it in trainkit_components")
        modules = [plugin.module_name for plugin in plugins.plugins if plugin.distribution == owner.distribution]
        found = found_at_import(tuple(modules))[owner.module_name]
        assert not found, f"{owner}: importing it {'; '.join(found)}: do that in the factory, when it is called"


class SignatureContract(Contract):
    """What the signature and the docstring of a component say, without building it."""

    builds = False

    def test_says_what_it_is(self, component: Component) -> None:
        """Its docstring begins with a paragraph that says what it is, which `list` and `describe` show."""
        what = _what(component)
        assert component.help, f"{what} has no docstring; its first paragraph is what `trainkit list` shows"
        assert NAME.fullmatch(component.name), (
            f"{what}: recipes write its name; keep to letters, digits, '_', '-' and '.', after at most one 'prefix:'"
        )

    def test_every_setting_is_documented(self, component: Component) -> None:
        """Each setting has a line in the docstring's Args."""
        bare = [setting.name for setting in component.settings if not setting.help]
        assert not bare, f"{_what(component)}: no help for {', '.join(bare)}; add each to the Args of its docstring"

    def test_every_default_is_valid(self, component: Component) -> None:
        """A recipe may write each default itself."""
        for setting in component.settings:
            if setting.default not in (REQUIRED, None, math.inf):  # which stand for a setting that is not written
                _accepted(component, setting, setting.default, "the default")

    def test_its_example_is_valid(self, component: Component) -> None:
        """Its example has values of the right types for its settings, all that are required among them."""
        table = table_of(component.kind)
        known = (*component.settings, *(table.added if table is not None else ()))
        unknown = set(component.example) - {setting.name for setting in known}
        assert not unknown, f"{_what(component)}: its example sets {', '.join(sorted(unknown))}, which it does not take"
        lacking = [s.name for s in component.settings if s.required and s.name not in component.example]
        assert not lacking, (
            f"{_what(component)}: its example lacks {', '.join(lacking)}, which a recipe must write; "
            f"add Component(..., example={{{lacking[0]!r}: ...}})"
        )
        for setting in component.settings:
            if setting.name in component.example:
                _accepted(component, setting, component.example[setting.name], "its example's value")

    def test_is_described(self, component: Component, capsys: pytest.CaptureFixture[str]) -> None:
        """`trainkit describe` shows it, for people, as JSON, and as a table that a recipe can have."""
        plugins, listed = as_listed(component)
        names = (component.kind, f"{plugins.owner(listed).package}:{component.name}")
        capsys.readouterr()
        try:
            show_component(plugins, names, as_json=False)
            shown = capsys.readouterr().out
            show_component(plugins, names, as_json=True)
        except Exception as error:
            _fail(component, "cannot be described", error)
        described = json.loads(capsys.readouterr().out)
        hidden = [setting.name for setting in component.settings if setting.name not in shown]
        assert not hidden, f"{_what(component)}: describe does not show {', '.join(hidden)}"
        assert [setting["name"] for setting in described["settings"]] == [s.name for s in component.settings]
        try:
            table: Any = tomllib.loads(example_toml(component))
        except tomllib.TOMLDecodeError as error:
            _fail(component, "its example is no TOML", error)
        for part in path_of(component.kind):
            table = table[part]
        written = {"use": component.name, **{key: plain(value) for key, value in component.example.items()}}
        assert {key: table.get(key) for key in written} == written, (
            f"{_what(component)}: its example is {written}, and describe shows {table}"
        )

    def test_is_in_the_schema(self, component: Component) -> None:
        """The JSON Schema for editors has it, with the help and the default of each setting."""
        try:
            schema = component_schema(*as_listed(component))
            json.dumps(schema, allow_nan=False)
        except Exception as error:
            _fail(component, "has no JSON Schema", error)
        assert component.name in schema["properties"]["use"]["enum"]
        missing = [setting.name for setting in component.settings if setting.name not in schema["properties"]]
        assert not missing, f"{_what(component)}: its JSON Schema lacks {', '.join(missing)}"

    def test_its_exemptions_exist(self, component: Component) -> None:
        """What it is exempt from are contracts of its kind, each with the reason."""
        known = contract_names(component.kind)
        for name, reason in component.exempt.items():
            assert name in known, (
                f"{_what(component)}: exempt from '{name}', which is no contract of a {component.kind}; "
                f"contracts: {', '.join(known)}"
            )
            said = isinstance(reason, str) and bool(reason.strip())
            assert said, f"{_what(component)}: exempt from '{name}' without a reason; say what keeps it from it"


class FactoryContract(Contract):
    """What comes of the factory, built as a recipe builds it."""

    @pytest.fixture(autouse=True)
    def alone(self, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
        """No network, nobody's data and caches: an example needs none of them, or is exempt with the reason."""

        def refuse(*args: Any, **kwargs: Any) -> NoReturn:
            raise OSError("contracts are held without a network")

        empty = tmp_path_factory.getbasetemp() / "empty"  # one for all: nothing is written there
        empty.mkdir(exist_ok=True)
        monkeypatch.setattr("socket.getaddrinfo", refuse)
        monkeypatch.setattr("socket.socket.connect", refuse)
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # before another try
        monkeypatch.setenv("TRAINKIT_DATA", str(empty))
        monkeypatch.setenv("TRAINKIT_CACHE", str(empty / "cache"))

    def test_builds_from_its_example(self, component: Component) -> None:
        """A recipe with its example can be checked, and the component be built from it."""
        with _explained(component, "cannot be built from its example"):
            _build(component)

    def test_keeps_the_protocol_of_its_kind(self, component: Component) -> None:
        """What the factory returns has the methods of its kind's protocol, with their parameters."""
        with _explained(component, "does not keep the protocol of its kind"):
            built = _build(component).built
        for name, promised in _methods(component.kind):
            mine = built if name == "__call__" else getattr(built, name, None)
            assert callable(mine), f"{_what(component)}: what it returns has no method {name}"
            parameters = list(inspect.signature(promised).parameters.values())[1:]
            always = {"closure"} if component.capabilities.get("needs_closure") else set()
            needed = [p for p in parameters if p.default is inspect.Parameter.empty or p.name in always]
            for given in (needed, parameters):
                shown = f"{name}({', '.join(parameter.name for parameter in given)})"
                assert takes(mine, len(given)), f"{_what(component)}: {shown} cannot be called: {_signature(mine)}"

    def test_its_hooks_are_hooks(self, component: Component) -> None:
        """Each ``trainkit_...`` of what it returns is a hook that exists, marked with ``@hookimpl``."""
        built = _build(component).built
        owner = f"{_what(component)}: {type(built).__name__}"
        for name in dir(type(built)):
            if not name.startswith("trainkit_"):
                continue
            assert name in hook_names(), f"{owner}.{name} is no hook; `trainkit hooks` lists them"
            marked = hasattr(inspect.getattr_static(type(built), name), "trainkit_impl")
            assert marked, f"{owner}.{name} is never called; mark it with @hookimpl"
        with _explained(component, "has a hook that cannot be called"):
            run_hook_manager(object(), [], {_what(component): built})

    def test_building_changes_no_setting(self, component: Component) -> None:
        """The factory leaves its defaults, its example and the recipe as they are."""
        found = _build(component)
        assert found.after == found.before, (
            f"{_what(component)}: its factory changes a value that it is given; let it copy it first"
        )

    def test_the_check_changes_nothing(self, component: Component) -> None:
        """A recipe that is checked stays what it is; ``trainkit_check_recipe`` gives problems alone."""
        with _explained(component, "the check of a recipe with it goes wrong"):
            first, again = _build(component).text, fill_toml(recipe_of(component))
        assert first == again, f"{_what(component)}: two checks of one recipe fill it differently"


class _Made(NamedTuple):
    """What was built, and what there was to change before and after that."""

    text: str
    before: Any
    built: Any
    after: Any


@once_for_each
def _build(component: Component) -> _Made:
    """Build the component's example; what is made of it is looked at, and stays as it is."""
    recipe = recipe_of(component)
    text, before = fill_toml(recipe), copy.deepcopy((dict(recipe.tables), _defaults(component)))
    built = made_from(recipe, component, surroundings(component))
    return _Made(text, before, built, (dict(recipe.tables), _defaults(component)))


def _defaults(component: Component) -> Any:
    return component.example, [setting.default for setting in component.settings]


# ------------------------------------------------------------ words


def _what(component: Component) -> str:
    return f"{component.kind} '{component.name}'"


def _accepted(component: Component, setting: Setting, value: Any, what: str) -> None:
    """Fail where a recipe could not write a value of a setting."""
    with contextlib.suppress(Unsure):
        accepted(setting.annotation, plain(value))
        return
    try:
        settings_model(component.name, [setting]).model_validate({setting.name: plain(value)})
    except ValidationError as error:
        why = error.errors()[0]["msg"]
        raise AssertionError(
            f"{_what(component)}: {what} of '{setting.name}', {show_value(value)}, is no {setting.type_text}: {why}"
        ) from None


def _methods(kind: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The methods that a kind's protocol names."""
    for name, method in vars(PROTOCOLS.get(kind, object)).items():
        if inspect.isfunction(method) and (name == "__call__" or not name.startswith("_")):
            yield name, method


def _signature(method: Callable[..., Any]) -> str:
    return f"it is written ({', '.join(map(str, inspect.signature(method).parameters.values()))})"


@contextlib.contextmanager
def _explained(component: Component, what: str) -> Iterator[None]:
    """Turn whatever a plugin raises into a failure that says what was done with it."""
    try:
        yield
    except Exception as error:
        _fail(component, what, error)


def _fail(component: Component, what: str, error: BaseException) -> NoReturn:
    kind = "" if isinstance(error, TrainkitError) else f"{type(error).__name__}: "
    raise AssertionError(f"{_what(component)} {what}: {kind}{error}") from error
