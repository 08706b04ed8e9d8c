"""Plugins that are broken in every way: one warning where they do not matter, one message where they do."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from trainkit import __version__

HEAD = "from trainkit import Component, hookimpl\n\n"
LIST = "@hookimpl\ndef trainkit_components():\n    return {listed}\n"
COMPONENT = "def {name}(*, size: int = 1):\n    '''Do nothing.'''\n\n"


def plugin(listed: str, *parts: str) -> str:
    return HEAD + "\n".join(parts) + "\n" + LIST.format(listed=listed)


BROKEN = {
    "import_error": ("import no_such_module_at_all\n", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
    "syntax_error": ("def broken(:\n", "SyntaxError"),
    "exits": ("import sys\nsys.exit('goodbye')\n", "SystemExit: goodbye"),
    "misspelt_hook": (
        plugin("[]", "@hookimpl\ndef trainkit_step_edn(run):\n    pass\n"),
        "no hook named 'trainkit_step_edn'; did you mean 'trainkit_step_end'?",
    ),
    "unknown_argument": (
        plugin("[]", "@hookimpl\ndef trainkit_epoch_end(run, metric):\n    pass\n"),
        "hook trainkit_epoch_end has no argument 'metric'; it may ask for: run, metrics",
    ),
    "unannotated": (
        plugin("[Component('callback', loose)]", "def loose(*, size=1):\n    '''Do nothing.'''\n"),
        "setting 'size' has no annotation",
    ),
    "positional": (
        plugin("[Component('callback', loose)]", "def loose(size: int = 1):\n    '''Do nothing.'''\n"),
        "put 'size' before '/' (given by the core) or after '*' (read from the recipe)",
    ),
    "unknown_type": (
        plugin("[Component('callback', loose)]", "def loose(*, size: complex = 1j):\n    '''Do nothing.'''\n"),
        "is not a type that a setting can have",
    ),
    "unknown_kind": (
        plugin("[Component('calback', fine)]", COMPONENT.format(name="fine")),
        "no kind named 'calback'",
    ),
    "wrong_object": (plugin("['sgd']"), "gave 'sgd', not a Component"),
    "no_list": (plugin("Component('callback', fine)", COMPONENT.format(name="fine")), "not a list of Component"),
    "twice": (
        plugin("[Component('callback', fine)] * 2", COMPONENT.format(name="fine")),
        "it lists callback 'fine' twice",
    ),
    "raises": (plugin("[][0]"), "IndexError: list index out of range"),
}


@pytest.mark.parametrize(("code", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_one_warning_and_a_line_of_the_table(trainkit, distribution, recipe, request, code, reason):
    module = f"broken_{request.node.callspec.id}"
    name = distribution(module, code)
    listed = trainkit("list", "optimizer")
    assert listed.code == 0
    assert "sgd" in listed.out
    (warning,) = listed.err.splitlines()
    assert warning.startswith(f"warning: plugin '{module}' ({name} 1.2) cannot be used: ")
    assert reason in warning
    assert re.search(rf"{module}\.py:\d+", warning), "the line is the plugin's, not the core's that refused it"
    assert f"trainkit{os.sep}component.py" not in warning
    assert warning.endswith(f"; pip install --upgrade {name} may mend it, --without {module} leaves it out")
    table = trainkit("plugins")
    (line,) = [line for line in table.out.splitlines() if line.startswith(module)]
    assert reason in line
    assert table.err == ""
    assert trainkit("validate", recipe).code == 0


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ("trainkit_step_edn(self)", "no hook named 'trainkit_step_edn'; did you mean 'trainkit_step_end'?"),
        ("trainkit_step_end(self, out)", "hook trainkit_step_end has no argument 'out'; it may ask for: run, result"),
    ],
)
@pytest.mark.parametrize(
    ("kind", "given", "base", "made"),
    [
        ("callback", "", "object", ""),
        ("model", "data_spec, /", "torch.nn.Flatten", ""),
        ("optimizer", "params, /, *, lr: float = 0.1", "torch.optim.SGD", "params, lr"),
    ],
)
def test_a_wrong_hook_of_what_is_built_is_named(trainkit, distribution, recipe, kind, given, base, made, hook, said):
    lines = [
        f"def odd({given}):",
        "    'Odd.'",
        "    import torch",
        f"    class Odd({base}):",
        "        @hookimpl",
        f"        def {hook}:",
        "            pass",
        f"    return Odd({made})",
    ]
    module = f"wrong_hook_of_{kind}"
    distribution(module, plugin(f"[Component('{kind}', odd)]", *lines))
    table = "callback=[{ use = 'odd' }]" if kind == "callback" else f"{kind}={{ use = 'odd' }}"
    outcome = trainkit(recipe, table, "-q")
    assert outcome.code == 3, outcome.err
    assert outcome.err.startswith(f"trainkit: plugin '{module}' ({module.replace('_', '-')} 1.2): ")
    assert said in outcome.err
    assert f"{module}.py:7)" in outcome.err
    assert "Traceback" not in outcome.err


def test_an_error_of_a_plugin_names_file_and_line(trainkit, distribution):
    distribution("broken_line", "x = 1\nimport no_such_module_at_all\n")
    assert "broken_line.py:2" in trainkit("list").err


def test_a_recipe_that_needs_a_broken_plugin_is_exit_code_3(trainkit, distribution, recipe):
    distribution("broken_need", "import no_such_module_at_all\n")
    outcome = trainkit("validate", recipe, "optimizer.use=broken_need:lion")
    assert outcome.code == 3
    assert "no_such_module_at_all" in outcome.err


NOTHING = plugin("[Component('callback', fine)]", COMPONENT.format(name="fine"))


def test_a_plugin_for_another_trainkit_is_not_imported(trainkit, distribution, recipe):
    name = distribution("made_for_later", "raise SystemError('imported')\n", needs=["torch", "trainkit (>=7,<8)"])
    (warning,) = trainkit("list").err.splitlines()
    assert warning == (
        f"warning: plugin 'made_for_later' ({name} 1.2) cannot be used: it needs trainkit<8,>=7, and trainkit "
        f"{__version__} is installed; install a version of it that fits with: pip install --upgrade {name}, or the "
        "trainkit that it needs with: pip install 'trainkit<8,>=7'"
    )
    outcome = trainkit("validate", recipe, "callback=[{ use = 'made_for_later:fine' }]")
    assert outcome.code == 3
    assert "it needs trainkit<8,>=7" in outcome.err


@pytest.mark.parametrize("needs", [f"trainkit=={__version__}", "trainkit>=7; extra == 'more'", "trainkit-more>=7"])
def test_a_plugin_for_this_trainkit_is_taken(trainkit, distribution, needs):
    distribution("made_for_this", NOTHING, needs=[needs])
    listed = trainkit("list", "callback")
    assert (listed.code, listed.err) == (0, "")
    assert " fine " in listed.out


def test_without_leaves_a_plugin_out(trainkit, distribution):
    name = distribution("broken_out", "import no_such_module_at_all\n")
    for word in (name, "broken_out"):
        outcome = trainkit("list", "--without", word)
        assert (outcome.code, outcome.err) == (0, "")
    assert " sgd " in trainkit("list").out
    assert " sgd " not in trainkit("list", "--without", "optimizers").out


def test_quiet_keeps_warnings_back(trainkit, distribution):
    distribution("broken_quiet", "import no_such_module_at_all\n")
    assert trainkit("list", "-q").err == ""


def test_two_plugins_with_one_name(trainkit, distribution, recipe):
    code = plugin("[Component('callback', same)]", COMPONENT.format(name="same"))
    distribution("first_of_two", code)
    distribution("second_of_two", code)
    listed = trainkit("list", "callback").out
    assert "first_of_two:same" in listed
    assert "second_of_two:same" in listed
    outcome = trainkit("describe", "callback", "same")
    assert outcome.code == 2
    assert "first_of_two:same, second_of_two:same" in outcome.err
    assert trainkit("describe", "callback", "second_of_two:same").code == 0
    with Path(recipe).open("a", encoding="utf-8") as file:
        file.write('[[callback]]\nuse = "same"\n')
    outcome = trainkit("validate", recipe)
    assert outcome.code == 2
    assert "first_of_two:same" in outcome.err
    assert "second_of_two:same" in outcome.err


def test_two_distributions_with_one_entry_point_name(trainkit, distribution):
    for module in ("entry_one", "entry_two"):
        code = plugin(f"[Component('callback', {module}_thing)]", COMPONENT.format(name=f"{module}_thing"))
        distribution(module, code, entry="shared")
    names = [p["name"] for p in trainkit("plugins", "--json").json["plugins"]]
    assert {"entry-one:shared", "entry-two:shared"} <= set(names)
    assert "(entry-two 1.2)" in trainkit("describe", "callback", "entry_two_thing").out


RAISING = (
    HEAD
    + "class Raising:\n    @hookimpl\n    def trainkit_{hook}(self):\n        raise KeyError('nothing there')\n\n"
    + "def raising():\n    '''Raise.'''\n    return Raising()\n\n"
    + LIST.format(listed="[Component('callback', raising)]")
)


@pytest.mark.parametrize("hook", ["run_start", "epoch_start", "step_end", "epoch_end", "save"])
def test_a_hook_that_raises_is_named_with_plugin_file_and_line(trainkit, distribution, recipe, hook):
    distribution(f"raising_{hook}", RAISING.format(hook=hook), version="3.4")
    with Path(recipe).open("a", encoding="utf-8") as file:
        file.write('[[callback]]\nuse = "raising"\n')
    outcome = trainkit(recipe, "-q")
    assert outcome.code == 1
    assert (
        f"plugin 'raising_{hook}' (raising-{hook.replace('_', '-')} 3.4) in hook trainkit_{hook}: KeyError"
        in outcome.err
    )
    assert f"raising_{hook}.py:6" in outcome.err
    assert "Traceback" not in outcome.err


def test_a_factory_that_raises_is_named(trainkit, distribution, recipe, tmp_path):
    code = plugin("[Component('callback', hopeless)]", "def hopeless():\n    '''Raise.'''\n    return [][0]\n")
    distribution("hopeless_plugin", code)
    with Path(recipe).open("a", encoding="utf-8") as file:
        file.write('[[callback]]\nuse = "hopeless"\n')
    outcome = trainkit(recipe)
    assert outcome.code == 1
    assert "hopeless-plugin 1.2" in outcome.err
    assert "hopeless_plugin.py:" in outcome.err
    assert not list((tmp_path / "runs").glob("*"))


def test_a_module_of_ones_own_joins_by_file_and_by_name(trainkit, tmp_path):
    code = plugin("[Component('callback', {name})]", COMPONENT)
    (tmp_path / "own_file.py").write_text(code.format(name="from_file"), encoding="utf-8")
    (tmp_path / "own_name.py").write_text(code.format(name="from_name"), encoding="utf-8")
    (tmp_path / "own_folder").mkdir()
    (tmp_path / "own_folder" / "__init__.py").write_text(code.format(name="from_folder"), encoding="utf-8")
    outcome = trainkit("list", "callback", "-p", "./own_file.py", "-p", "own_name", "-p", "./own_folder")
    assert outcome.code == 0
    for name in ("from_file", "from_name", "from_folder"):
        assert name in outcome.out


def test_naming_an_installed_plugin_changes_nothing(trainkit):
    assert trainkit("list", "-p", "trainkit_optimizers") == trainkit("list")


@pytest.mark.parametrize("word", ["nowhere", "./nowhere.py"])
def test_a_module_that_is_not_there(trainkit, word):
    outcome = trainkit("list", "-p", word)
    assert outcome.code == 3
    assert f"-p {word}: no importable module and no file of that name" in outcome.err


def test_a_module_of_ones_own_that_is_broken_ends_the_command(trainkit, tmp_path):
    (tmp_path / "own_broken.py").write_text("import no_such_module_at_all\n", encoding="utf-8")
    outcome = trainkit("list", "-p", "own_broken")
    assert outcome.code == 3
    assert "own_broken.py:1" in outcome.err


# What a factory gives by mistake, and what the message says of it.
WRONG = {
    "schedule": ("0.5", "an object of float, not a function of (t, T, events)"),
    "model": ("'mlp'", "an object of str, not a torch.nn.Module"),
    "data": ("([], [])", "an object of tuple, not a trainkit.Dataset"),
    "loss": (
        "None",
        "nothing (None), not a function of (outputs, targets), as trainkit.Loss says; does it end without",
    ),
    "metric": ("abs", "not a trainkit.Metric: higher_is_better, reset, update, compute"),
    "optimizer": ("dict()", "an object of dict, not a trainkit.Optimizer"),
    "reaction": (
        "type('Half', (), {'observe': abs, 'react': abs})()",
        "not a trainkit.Reaction: observe, react, describe, save, restore; it lacks describe, save, restore",
    ),
    "callback": ("None", "nothing (None), not an object with hooks"),
    "searcher": ("print", "not a trainkit.Searcher: begin, ask, took, tell"),
    "ensembler": ("list", "the class list itself, not a trainkit.Ensembler"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_factory_that_gives_a_wrong_object_is_named(trainkit, distribution, recipe, tmp_path, kind):
    value, said = WRONG[kind]
    module = f"gives_wrong_{kind}"
    given = "params, /" if kind == "optimizer" else ""
    distribution(
        module, plugin(f"[Component('{kind}', odd)]", f"def odd({given}):\n    '''Odd.'''\n    return {value}\n")
    )
    table = {
        "metric": "metric=[{ use = 'odd' }]",
        "callback": "callback=[{ use = 'odd' }]",
        "reaction": "schedule.react=[{ use = 'odd', monitor = 'val.loss' }]",
    }.get(kind, f"{kind}.use=odd")
    more = ["search.space={ 'optimizer.lr' = { low = 0.1, high = 0.2 } }"] if kind == "searcher" else []
    if kind in ("searcher", "ensembler"):
        table = f"{ {'searcher': 'search', 'ensembler': 'ensemble'}[kind] }={{ use = 'odd' }}"
        more = ["search.trials=1", *more] if kind == "searcher" else []
    outcome = trainkit(recipe, table, *more, "-q")
    assert outcome.code == 1, outcome.err
    assert f"plugin '{module}' ({module.replace('_', '-')} 1.2) while building" in outcome.err
    assert said in outcome.err
    assert f"{module}.py:3" in outcome.err
    assert "Traceback" not in outcome.err
    assert not list((tmp_path / "runs").glob("*/checkpoints"))


# What the functions of a factory give by mistake, once they are called.
GIVES = {
    "schedule": ("lambda t, T, events=(): 'high'", "of 8 is 'high', not a number"),
    "arguments": ("lambda t: 1.0", "the factory gave a function of (t), not a function of (t, T, events)"),
    "loss": ("lambda outputs, targets: 3.0", "it gave 3.0, not a tensor without dimensions"),
    "shape": ("lambda outputs, targets: outputs", "it gave a tensor of shape (2, "),
}


@pytest.mark.parametrize("what", GIVES)
def test_a_function_that_gives_a_wrong_value_is_named_before_the_first_update(trainkit, distribution, recipe, what):
    value, said = GIVES[what]
    kind = "loss" if what in ("loss", "shape") else "schedule"
    module = f"gives_value_{what}"
    distribution(module, plugin(f"[Component('{kind}', odd)]", f"def odd():\n    '''Odd.'''\n    return {value}\n"))
    outcome = trainkit(recipe, f"{kind}={{ use = 'odd' }}", "-q")
    assert outcome.code == 1, outcome.err
    assert f"plugin '{module}' ({module.replace('_', '-')} 1.2) while " in outcome.err
    assert said in outcome.err
    assert f"{module}.py:3" in outcome.err


# What a hook gives by mistake.
ANSWERS = {
    "loss": ("outputs, batch", "3.0", "gave 3.0, not a tensor"),
    "evaluate": ("split", "0.5", "gave 0.5, not figures by name"),
    "parameter_groups": ("model", "[model]", "not a list of groups with params"),
    "stop_reason": ("metrics", "7", "gave 7, not the reason in words, or None"),
}


@pytest.mark.parametrize("hook", ANSWERS)
def test_a_hook_that_gives_a_wrong_object_is_named(trainkit, distribution, recipe, hook):
    arguments, value, said = ANSWERS[hook]
    module = f"answers_{hook}"
    code = RAISING.format(hook=hook).replace("(self)", f"(self, {arguments})")
    distribution(module, code.replace("raise KeyError('nothing there')", f"return {value}"))
    outcome = trainkit(recipe, "callback=[{ use = 'raising' }]", "-q")
    assert outcome.code == 1, outcome.err
    assert f"callback.0.raising of {module.replace('_', '-')} 1.2 in hook trainkit_{hook}: gave " in outcome.err
    assert said in outcome.err
    assert "its hook is at " in outcome.err
    assert f"{module}.py:4" in outcome.err


CHANGES = [
    "recipe['optimizer']['lr'] = 0.7",
    "recipe['run'].pop('threads')",
    "recipe['extra'] = 1",
    "recipe['metric'].append({})",
    "recipe['optimizer'].update(lr=0.7)",
    "recipe['optimizer'] |= {'lr': 0.7}",
    "del recipe['metric'][0]",
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_check_that_changes_the_recipe_is_named(trainkit, distribution, recipe, change):
    hook = f"\n@hookimpl\ndef trainkit_check_recipe(recipe):\n    {change}\n"
    distribution("changing", plugin("[Component('callback', fine)]", COMPONENT.format(name="fine")) + hook)
    outcome = trainkit("validate", recipe, "callback=[{ use = 'fine' }]")
    assert outcome.code == 1
    assert (
        "plugin 'changing' (changing 1.2) in hook trainkit_check_recipe: TypeError: the recipe of a run" in outcome.err
    )
    assert "changing.py:13" in outcome.err


def test_a_hook_that_changes_the_recipe_of_a_run_is_named(trainkit, distribution, recipe):
    code = (
        RAISING.format(hook="run_start")
        .replace("(self)", "(self, run)")
        .replace("raise KeyError('nothing there')", "run.recipe['optimizer']['lr'] = 0.7")
    )
    distribution("changing_run", code)
    outcome = trainkit(recipe, "callback=[{ use = 'raising' }]", "-q")
    assert outcome.code == 1
    assert "plugin 'changing_run' (changing-run 1.2) in hook trainkit_run_start: TypeError: the recipe" in outcome.err
    assert "changing_run.py:6" in outcome.err
