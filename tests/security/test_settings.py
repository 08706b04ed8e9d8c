"""No setting of any installed component takes code, an import path, a format string or a command."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest

from trainkit.component import Component
from trainkit.manager import Plugins
from trainkit.settings import describe_type, is_path, split_annotated

ROOT = Path(__file__).parents[2]
SUSPECT = re.compile(
    r"(^|_)(import|module|class_?path|callable|callback|function|func|fn|cmd|command|shell|script|exec|eval|code|lambda|"
    r"expr|expression|template|format|fmt|pickle|target_|factory|env|url|host|port|hook|entry_?point)(_|$)"
)
# Names of texts that are suspect and are none of it, with what keeps them harmless.
KNOWN = {("optimizer", "kozistr:lbfgs", "line_search_fn"): "torch compares it with the one name it knows"}
# Text of any content, and what is done with it: compared with names that are there, shown, or split.
TEXT = {
    "environment": "a name in gymnasium's registry: looked up, never a module that would be imported",
    "monitor": "the name of a figure: looked up among those that the run measures",
    "match": "a pattern of parameter names: fnmatch, which no text makes slow",
    "group": "a column: compared with those that are there",
    "target": "a column of the table, or a scheduled number: compared with those that are there",
    "delimiter": "one character",
    **dict.fromkeys(("id", "time", "targets", "inputs"), "columns: compared with those that are there"),
    "classes": "names that are shown, or compared with those that are there",
    "without": "names of classes: compared with those that are there",
    "positive": "names of classes: compared with those that are there",
    "categorical": "columns: compared with those that are there",
    "more_targets": "columns: compared with those that are there",
    "name": "a model of a library: compared with those that the library lists",
    "ignore": "columns: compared with those that are there",
    "skip": "patterns of parameter names, as match",
    "unfreeze": "times by pattern of parameter names, as match",
    # Of the bridge to pytorch_optimizer, whose optimizers compare them with the words they know.
    **dict.fromkeys(("ns_coeffs", "rebound", "weight_decay_type", "line_search_fn", "moment_key"), "a word it knows"),
    "update_scale": "a word it knows",
    **dict.fromkeys(("experiment", "project"), "a name that a tracker's library keeps beside the run, never a path"),
}


def settings() -> list[Any]:
    plugins = Plugins()
    plugins.load()
    found: list[Component] = [component for plugin in plugins.plugins for component in plugin.components]
    assert len(found) > 100
    return [pytest.param(c, id=f"{c.kind}-{c.name}") for c in found if c.settings]


def texts(annotation: Any) -> bool:
    """Whether a value may hold text that the signature does not list."""
    bare, markers = split_annotated(annotation)
    if any(type(marker).__name__ in ("DurationType", "Nested") for marker in markers):
        return False
    return bare is str or any(texts(part) for part in get_args(bare) if not isinstance(part, str | int | float))


@pytest.mark.parametrize("component", settings())
def test_every_setting_is_data(component):
    for setting in component.settings:
        assert describe_type(setting.annotation), "of the closed list"
        name = (component.kind, component.name, setting.name)
        if texts(setting.annotation):
            assert not SUSPECT.search(setting.name) or name in KNOWN, name
        if get_origin(split_annotated(setting.annotation)[0]) in (list, tuple, dict):
            assert "Path" not in str(setting.annotation), f"{name}: paths inside lists are not held to the data roots"
        if re.search(r"(^|_)(path|file|folder|dir|root)$", setting.name):
            assert is_path(setting.annotation), f"{name}: a path must be a Path, which is held to the data roots"
        if texts(setting.annotation):
            assert setting.name in TEXT, f"{name}: say in TEXT what keeps its text harmless, or make it a Literal"


CALLS = {
    "eval": {},
    "exec": {},
    "compile": {},
    "__import__": {},
    "import_module": {
        "trainkit/plugin.py": "entry points and -p, which are installed or named by the user",
        "trainkit/__init__.py": "the homes of public names, which are written there",
        "trainkit/testing/__init__.py": "the homes of public names, which are written there",
        "trainkit/testing/contract.py": "the modules of contracts, by the names of kinds",
    },
    "torch.load": {"trainkit/foreign.py": "import-weights, weights_only, in a process apart"},
    "pickle": {
        "trainkit/testing/contracts/augmentation.py": "what was just pickled there",
        "trainkit/testing/contracts/data.py": "what was just pickled there",
    },
    "marshal": {},
    "shelve": {},
    "dill": {},
    "joblib": {},
    "yaml": {},
    "system": {},
    "popen": {},
    "subprocess": {
        "trainkit/bench.py": "starts trainkit itself, without a shell",
        "trainkit/compiler.py": "starts trainkit itself, without a shell",
        "trainkit/followers.py": "starts trainkit itself, without a shell",
        "trainkit/import_weights.py": "starts the process apart, without a shell",
        "trainkit/testing/importing.py": "imports the plugin under test in a process of its own, without a shell",
        "trainkit/verify_resume.py": "starts trainkit itself, without a shell",
    },
    "Popen": {
        "trainkit/bench.py": "starts trainkit itself, without a shell",
        "trainkit/compiler.py": "starts trainkit itself, without a shell",
        "trainkit/followers.py": "starts trainkit itself, without a shell",
    },
}


def test_no_code_of_ours_can_run_text_or_read_a_pickle():
    found = []
    for file in sorted([*(ROOT / "trainkit").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]):
        name = file.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            used = []
            if isinstance(node, ast.Call):
                text = ast.unparse(node.func)
                used = [text] if text in ("torch.load", "eval", "exec", "compile", "__import__") else []
                if isinstance(node.func, ast.Attribute) and node.func.attr in (
                    "import_module",
                    "system",
                    "popen",
                    "Popen",
                ):
                    used.append(node.func.attr if text != "platform.system" else "")
                keywords = {word.arg: ast.unparse(word.value) for word in node.keywords}
                if text in ("np.load", "numpy.load") and keywords.get("allow_pickle") != "False":
                    found.append(f"{name}:{node.lineno}: {text} without allow_pickle=False")
                if text == "torch.load" and keywords.get("weights_only") != "True":
                    found.append(f"{name}:{node.lineno}: torch.load without weights_only=True")
                if keywords.get("shell") not in (None, "False"):
                    found.append(f"{name}:{node.lineno}: a shell")
            elif isinstance(node, ast.Import):
                used = [alias.name.split(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                used = [(node.module or "").split(".")[0]]
            found += [f"{name}:{node.lineno}: {word}" for word in used if word in CALLS and name not in CALLS[word]]
    assert found == []


LOADER = (
    "checkpoint",
    "verified",
    "forms",
    "restore",
    "conflicts",
    "snapshot",
    "files",
    "rundir",
    "resuming",
    "finished",
)


@pytest.mark.parametrize("module", LOADER)
def test_what_loads_a_checkpoint_looks_nothing_up_by_a_name_from_it(module):
    tree = ast.parse((ROOT / "trainkit" / f"{module}.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "globals", "vars"):
            assert len(node.args) > 1, f"{module}.py:{node.lineno}: {ast.unparse(node)}"
            assert isinstance(node.args[1], ast.Constant), f"{module}.py:{node.lineno}: {ast.unparse(node)}"
