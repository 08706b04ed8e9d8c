"""State with right checksums that is no state of the object it is given to: one message, and exit code 5."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.soak import strangers
from tests.soak.strangers import seal
from trainkit.cli import main

Change = Callable[[dict[str, Any]], None]
NAN = {"__float__": "nan"}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A run that has ended, with the optimizer and the callback asked for; made once for each."""
    made: dict[tuple[str, ...], Path] = {}

    def ended(*changes: str) -> Path:
        if changes not in made:
            home = tmp_path_factory.mktemp("run")
            (home / "r.toml").write_text(strangers.RECIPE, encoding="utf-8")
            with strangers.quiet() as said:
                code = main([str(home / "r.toml"), "run.duration=2ep", *changes, "--run-dir", str(home / "run")])
            assert code == 0, said.getvalue()
            made[changes] = home / "run"
        return made[changes]

    return ended


@pytest.fixture
def lie(ended: Callable[..., Path], tmp_path: Path) -> Callable[..., tuple[int, str, Path]]:
    """Change the state of the newest checkpoint, and resume: exit code, what was said, and the checkpoint."""

    def lie(change: Change, *changes: str, command: str = "resume") -> tuple[int, str, Path]:
        run = tmp_path / "run"
        shutil.copytree(ended(*changes), run)
        *older, newest = sorted((run / "checkpoints").iterdir())
        for folder in older:
            shutil.rmtree(folder)
        state = json.loads((newest / "state.json").read_bytes())
        change(state)
        seal(newest, {"state.json": json.dumps(state).encode()})
        longer = ["run.duration=4ep", "run.on_length_change=rescale", "-q"] if command == "resume" else []
        with strangers.quiet() as said:
            code = main([command, str(run), *longer])
        return code, said.getvalue(), newest

    return lie


def put(*path: Any, value: Any = None, gone: bool = False) -> Change:
    """Give a place of the state another value, or none; ``...`` is the first name or place. Its name says what."""

    def change(state: Any) -> None:
        *way, last = path
        for part in way:
            state = state[next(iter(state)) if part is ... else part]
        last = next(iter(state)) if last is ... else last
        if gone:
            del state[last]
        else:
            state[last] = value

    place = "/".join("*" if part is ... else str(part) for part in path)
    change.__name__ = f"{place} gone" if gone else f"{place}={value!r:.40}"
    return change


def one(name: str) -> Change:
    """Let a tensor of the callback be one number, which copying would spread over the whole of the true one."""

    def change(state: Any) -> None:
        state["plugins"]["callback.0.ema"]["mean"][name] = state["plugins"]["callback.0.ema"]["mean"]["head.bias"]

    change.__name__ = f"mean/{name}=a bias"
    return change


def words(value: Change | str) -> str:
    """What a test is called: the same in each process, as the address of a function is not."""
    return value if isinstance(value, str) else value.__name__


def refused(result: tuple[int, str, Path], label: str, why: str) -> None:
    code, said, folder = result
    assert code == 5, said
    assert f"{folder / 'state.json'}: the state of {label} does not fit the run: " in said
    assert why in said
    assert "Traceback" not in said


OURS, TORCH = ("optimizer={use='adamw', lr=0.01}",), ("optimizer={use='rprop', lr=0.01}", "schedule={use='constant'}")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (put("optimizer", ..., "step", value="3"), "'step': it must be a number, and is '3'"),
        (put("optimizer", ..., "step", value=NAN), "'step': it must be a finite number, and is nan"),
        (put("optimizer", ..., "step", value=[1]), "'step': it must be a number, and is [1]"),
        (put("optimizer", ..., "step", value=None), "'step': it must be a number, and is None"),
        (put("optimizer", ..., "step", gone=True), "lacks 'step'"),
        (put("optimizer", ..., "exp_avg", gone=True), "lacks 'exp_avg'"),
        (put("optimizer", ..., "exp_avg", value=[1.5, 2.5]), "'exp_avg': it must be a tensor"),
        (put("optimizer", ..., "exp_avg", value={"a": {"b": [[]]}}), "'exp_avg': it must be a tensor"),
        (put("optimizer", ..., "exp_avg", value={"__tensor__": "model/head.bias"}), "'exp_avg': it must be a tensor"),
        (put("groups", 0, "betas", value=[0.5]), "'betas' of a group: it must be 2 values, and is 1"),
        (put("groups", 0, "betas", value=["a", "b"]), "'betas' of a group: '0': it must be a number, and is 'a'"),
        (put("groups", 0, "eps", value=NAN), "'eps' of a group: it must be a finite number, and is nan"),
        (put("groups", 0, "lr", value="x" * 5000), "'lr' of a group: it must be a number, and is 'xxx"),
    ],
    ids=words,
)
def test_an_optimizer_of_ours_is_checked_before_it_is_used(lie, change, why):
    refused(lie(change, *OURS), "the optimizer", why)


@pytest.mark.parametrize(
    "change",
    [
        put("optimizer", ..., "step", value="3"),
        put("optimizer", ..., "step", value=NAN),
        put("optimizer", ..., "prev", gone=True),
        put("optimizer", ..., "prev", value=[1.5]),
        put("optimizer", ..., "step_size", value={"__tensor__": "random/torch"}),
        put("optimizer", ..., value={"a": [{"b": None}]}),
    ],
    ids=words,
)
def test_an_optimizer_of_torch_fails_at_its_first_update(lie, change):
    refused(lie(change, *TORCH), "the optimizer", "")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (put("plugins", "callback.0.ema", "count", value="7"), "'count': it must be a number, and is '7'"),
        (put("plugins", "callback.0.ema", "count", value=NAN), "'count': it must be a finite number, and is nan"),
        (put("plugins", "callback.0.ema", "count", value=[1, 2]), "'count': it must be a number, and is [1, 2]"),
        (put("plugins", "callback.0.ema", "count", value=None), "TypeError"),
        (put("plugins", "callback.0.ema", "count", gone=True), "KeyError: 'count'"),
        (put("plugins", "callback.0.ema", "mean", gone=True), "KeyError: 'mean'"),
        (put("plugins", "callback.0.ema", "mean", "head.weight", gone=True), "KeyError: 'head.weight'"),
        (put("plugins", "callback.0.ema", "mean", "head.weight", value=1.5), "AttributeError"),
        (put("plugins", "callback.0.ema", value="state"), "TypeError"),
        (put("plugins", "callback.0.ema", value=[[[]]]), "TypeError"),
        (one("head.weight"), "'head.weight' is"),
    ],
    ids=words,
)
def test_an_average_is_checked_when_it_has_its_state(lie, change, why):
    refused(lie(change), "callback.0.ema", why)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (put("plugins", "callback.0.ema", "count", value="7"), "'count': it must be a number, and is '7'"),
        (put("plugins", "callback.0.ema", "mean", gone=True), "KeyError: 'mean'"),
        (one("head.weight"), "'head.weight' is"),
    ],
    ids=["text", "gone", "shape"],
)
def test_so_it_is_where_a_run_is_measured(lie, change, why):
    refused(lie(change, command="evaluate"), "callback.0.ema", why)


@pytest.mark.parametrize(
    ("change", "label"),
    [
        (put("plugins", "trainkit reactions", "plateau", "bad", value="3"), "trainkit reactions"),
        (put("plugins", "trainkit reactions", "plateau", "bad", value=NAN), "trainkit reactions"),
        (put("plugins", "trainkit reactions", "plateau", "cooling", value=[3]), "trainkit reactions"),
        (put("plugins", "trainkit reactions", "plateau", "bad", gone=True), "the reaction plateau"),
        (put("plugins", "trainkit reactions", "plateau", "best", value="low"), "the reaction plateau"),
        (put("plugins", "trainkit reactions", "plateau", value=3), "the reaction plateau"),
        (put("plugins", "trainkit reactions", value=None), "trainkit reactions"),
    ],
    ids=words,
)
def test_a_reaction_is_checked_or_fails_at_its_first_figure(lie, change, label):
    refused(lie(change), label, "")


def test_the_truth_is_believed(lie):
    assert lie(lambda state: None)[0] == 0
