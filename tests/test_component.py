"""A component: what its signature must be, what it may ask for, and what it says of itself."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from trainkit import Component, Duration, Positive
from trainkit.component import CAPABILITIES, GIVEN, KINDS
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe

if TYPE_CHECKING:
    from torch import nn

ROOT = Path(__file__).parents[1]


def sgd(params: list[dict[str, Any]], /, *, lr: Positive, nesterov: bool = False) -> None:
    """Descend."""


def test_it_is_called_as_its_factory_and_reads_the_signature():
    component = Component("optimizer", sgd)
    assert (component.name, component.help, component.given) == ("sgd", "Descend.", ("params",))
    assert [setting.name for setting in component.settings] == ["lr", "nesterov"]
    assert component.accepts() == "lr: number above 0 (required); nesterov: true or false = false"
    assert Component("optimizer", sgd, "descent").name == "descent"


def test_without_settings_it_says_so():
    assert Component("schedule", lambda: None, "still").accepts() == "no settings"


def test_it_knows_where_it_is_defined():
    file, _, line = Component("optimizer", sgd).source.partition(":")
    assert file == "test_component.py"
    assert int(line) == sgd.__code__.co_firstlineno


def test_a_factory_behind_a_decorator_is_read_and_placed_as_itself():
    @functools.wraps(sgd)
    def wrapped(*args: Any, **settings: Any) -> Any:
        return sgd(*args, **settings)

    assert Component("optimizer", wrapped).accepts() == Component("optimizer", sgd).accepts()
    assert Component("optimizer", wrapped).source == Component("optimizer", sgd).source


def test_types_that_only_type_checkers_know_may_annotate_what_the_core_gives():
    def grows(data_spec: nn.Module, /, *, size: int) -> nn.Module: ...

    assert Component("model", grows).given == ("data_spec",)


def ambiguous(lr: float) -> None: ...
def unannotated(*, lr) -> None: ...  # type: ignore[no-untyped-def]
def unresolved(*, lr: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def greedy(model: Any, /, *, lr: float) -> None: ...


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (ambiguous, "put 'lr' before '/'"),
        (unannotated, "setting 'lr' has no annotation"),
        (unresolved, "Nowhere"),
        (greedy, "the core cannot give 'model' to a optimizer; it can give: params. Put settings after"),
    ],
)
def test_a_signature_against_the_rules_is_named_with_its_place(factory, message):
    where = rf"optimizer '{factory.__name__}' \(test_component.py:\d+\): "
    with pytest.raises(TypeError, match=where + ".*" + message):
        Component("optimizer", factory)


def test_unknown_words_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no kind named 'optimiser'; kinds: .*optimizer"):
        Component("optimiser", sgd)
    with pytest.raises(ValueError, match=r"no capability named 'fast'; known: .*compiles"):
        Component("optimizer", sgd, capabilities={"fast": True})
    with pytest.raises(ValueError, match=r"no thing to own named 'steps'; known: step, loss"):
        Component("optimizer", sgd, owns=("steps",))


@pytest.mark.parametrize("kind", ["data", "augmentation"])
def test_data_cannot_have_durations(kind):
    def data(*, every: Duration = "1ep") -> None: ...
    def maybe(*, every: Duration | None = None) -> None: ...

    for factory in (data, maybe):
        with pytest.raises(TypeError, match="'every' cannot be a duration: an epoch has no length before the data"):
            Component(kind, factory)


def test_each_kind_gives_what_it_says():
    for kind in KINDS:
        for name in GIVEN[kind]:
            space: dict[str, Any] = {}
            exec(f"def factory({name}, /): ...", space)
            assert Component(kind, space["factory"]).given == (name,)


def test_its_model_refuses_what_the_recipe_may_not_write():
    model = Component("optimizer", sgd).model
    assert model.model_validate({"lr": 1}).field_lr == 1.0  # type: ignore[attr-defined]
    for table in (
        {},
        {"lr": 0},
        {"lr": "1"},
        {"lr": 1, "nesterov": 1},
        {"lr": 1, "momentum": 0.9},
        {"lr": 1, "params": []},
    ):
        with pytest.raises(ValueError, match="validation error"):
            model.model_validate(table)


def test_a_missing_library_is_known_without_importing_it():
    libraries = {"json": "never", "nowhere_at_all": "pip install nowhere", "json.nothing.below": "pip install below"}
    component = Component("optimizer", sgd, libraries=libraries)
    assert component.missing_libraries == {
        "nowhere_at_all": "pip install nowhere",
        "json.nothing.below": "pip install below",
    }


def test_a_component_whose_library_is_missing_stays_listed_and_says_how_to_install_it(tmp_path):
    file = tmp_path / f"lacking_{tmp_path.name}.py"
    file.write_text(
        "from trainkit import Component, hookimpl\n"
        "def lacking():\n    '''Lack something.'''\n    import nowhere_at_all\n"
        "@hookimpl\ndef trainkit_components():\n"
        "    return [Component('callback', lacking, libraries={'nowhere_at_all': 'pip install nowhere'})]\n",
        encoding="utf-8",
    )
    plugins = Plugins([str(file)])
    (found,) = plugins.find("callback", "lacking")
    assert found.missing_libraries == {"nowhere_at_all": "pip install nowhere"}
    assert plugins.broken == []
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'recipe = 1\n[run]\nduration = "1ep"\n[data]\nuse = "synthetic"\n[model]\nuse = "linear"\n[loss]\n'
        'use = "cross_entropy"\n[optimizer]\nuse = "sgd"\nlr = 0.1\n[[callback]]\nuse = "lacking"\n',
        encoding="utf-8",
    )
    with pytest.raises(Exception, match="pip install nowhere") as raised:
        load_recipe(recipe, [], plugins)
    assert raised.value.exit_code == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("word", CAPABILITIES)
def test_every_capability_decides_something(word):
    """The core reads it, or a contract test holds components to it."""
    files = (file for folder in ("trainkit", "tests") for file in (ROOT / folder).rglob("*.py"))
    assert any(re.search(rf'\bget\("{word}"[,)]', file.read_text(encoding="utf-8")) for file in files)
