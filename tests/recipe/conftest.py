"""Plugins of nothing but fakes, and a recipe on disk from its text."""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import tomli

from trainkit.manager import Plugins
from trainkit.plugin import Plugin
from trainkit.recipe import Recipe, load_recipe

HERE = Path(__file__).parent
Load = Callable[..., Recipe]

BASE = """\
recipe = 1
seed = 17
[run]
duration = "20ep"
[data]
use = "digits"
[model]
use = "resnet"
[loss]
use = "cross_entropy"
[[metric]]
use = "accuracy"
[optimizer]
use = "sgd"
lr = 0.1
momentum = 0.9
[schedule]
use = "cosine"
warmup = "2ep"
"""


def only(*names: str) -> Plugins:
    """Plugins that know the fakes alone, whatever is installed; one that is named ``broken`` fails as if installed."""
    whole = [name for name in names if not name.endswith("broken")]
    plugins = Plugins(modules=[str(HERE / "plugins" / f"{name}.py") for name in whole])
    plugins.plugins = [plugin for plugin in plugins.plugins if plugin.name in names]
    for name in set(names) - set(whole):
        plugins.plugins.append(Plugin(name, name, name.replace("_", "-"), "0.1"))
    return plugins


@pytest.fixture(scope="session")
def fake_plugins() -> Callable[..., Plugins]:
    """Makes plugins that know the named fakes alone."""
    return functools.cache(only)


@pytest.fixture(scope="session")
def plugins(fake_plugins: Callable[..., Plugins]) -> Plugins:
    return fake_plugins("trainkit_fake")


@pytest.fixture
def base() -> str:
    """A recipe with nothing wrong."""
    return BASE


@pytest.fixture(scope="session")
def base_text() -> str:
    """The same, for tests that draw many examples."""
    return BASE


@pytest.fixture
def load(plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load a recipe from its text, with bases beside it given by name."""
    monkeypatch.chdir(tmp_path)

    def load(text: str = BASE, overrides: Sequence[str] = (), **bases: str) -> Recipe:
        for name, base in bases.items():
            Path(f"{name}.toml").write_text(base, encoding="utf-8")
        Path("my.toml").write_text(text, encoding="utf-8")
        return load_recipe("my.toml", overrides, plugins)

    return load


class Work:
    """Counts what a call costs, which no clock tells: each figure is the same on any machine and in any process.

    Attributes:
        lines: the lines of Python that ran; each turn of a loop counts.
        parsed: the characters that the TOML parser was given.
        raised: the error that ended the call, if one did.
    """

    def __init__(self) -> None:
        self.lines = self.parsed = 0
        self.raised: Exception | None = None

    @property
    def total(self) -> int:
        """Both together."""
        return self.lines + self.parsed

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        """What `sys.settrace` calls."""
        self.lines += event == "line"
        return self.trace


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], Work]:
    """Call something and count what it costs."""
    loads = tomli.loads

    def work(called: Callable[[], object]) -> Work:
        counted = Work()

        def counting(text: str, **more: Any) -> dict[str, Any]:
            counted.parsed += len(text)
            return loads(text, **more)

        monkeypatch.setattr(tomli, "loads", counting)
        # What other tests left behind must not be cleared away, with lines of its own, while these are counted.
        before, collects = sys.gettrace(), gc.isenabled()
        gc.disable()
        sys.settrace(counted.trace)
        try:
            called()
        except Exception as error:
            counted.raised = error
        finally:
            sys.settrace(before)
            if collects:
                gc.enable()
            monkeypatch.setattr(tomli, "loads", loads)
        return counted

    return work
