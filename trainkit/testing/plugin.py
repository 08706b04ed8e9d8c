"""The pytest plugin: options, fixtures, and the contracts as tests. Nothing here imports torch when it is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

TYPE_CHECKING = False  # pytest loads this module in every project of an environment
if TYPE_CHECKING:
    from collections.abc import Callable

    from trainkit.component import Component
    from trainkit.manager import Plugins
    from trainkit.testing.tiny import TinyRun

# Not to be collected: the folder of the contracts, seen from here.
CONTRACTS = Path(__file__).parent / "contracts"

pytest.register_assert_rewrite("trainkit.testing.contracts", "trainkit.testing.tiny")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of contracts."""
    group = parser.getgroup("trainkit", "contracts of trainkit's components")
    group.addoption(
        "--trainkit-contracts",
        action="store_true",
        help="also hold the components of a distribution to their contracts",
    )
    group.addoption(
        "--trainkit-dist",
        action="append",
        default=[],
        metavar="NAME",
        help="the distribution whose components are held to them; may be repeated; default: that of the project",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Let the contracts be collected beside the project's own tests."""
    if _wanted(config) and str(CONTRACTS) not in config.args:
        config.args.append(str(CONTRACTS))


def _wanted(config: pytest.Config) -> bool:
    return bool(config.getoption("--trainkit-contracts") or config.getoption("--trainkit-dist"))


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the modules of contracts, whatever the project calls its own test files."""
    if file_path.parent == CONTRACTS and file_path.suffix == ".py" and file_path.name != "__init__.py":
        return pytest.Module.from_parent(parent, path=file_path)
    return None


def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> pytest.Collector | None:
    """Collect contracts in their own modules; where a test module imports one, to derive from it, nothing is."""
    from trainkit.testing.contract import Contract

    if not isinstance(obj, type) or not issubclass(obj, Contract):
        return None
    if collector.path.parent == CONTRACTS and obj.__module__ == f"trainkit.testing.contracts.{collector.path.stem}":
        return pytest.Class.from_parent(collector, name=name, obj=obj)
    return None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each contract its components."""
    from trainkit.testing.contract import Contract, contract_of

    held = metafunc.cls
    if not isinstance(held, type) or not issubclass(held, Contract) or "component" not in metafunc.fixturenames:
        return
    from trainkit.testing.select import selected

    found = [held.component] if held.component is not None else selected(metafunc.config, held.kind)
    name = contract_of(metafunc.function.__name__)
    metafunc.parametrize(
        "component",
        [pytest.param(one, marks=_marks(one, name, held.builds), id=f"{one.kind}-{one.name}") for one in found],
    )


def _marks(component: Component, name: str, builds: bool) -> list[pytest.MarkDecorator]:
    reason = component.exempt.get(name)
    if reason is not None:
        return [pytest.mark.xfail(reason=reason, strict=True)]
    never = component.exempt.get("builds_from_its_example")
    if builds and never is not None:
        return [pytest.mark.skip(reason=f"it cannot be built: {never}")]
    if builds and (missing := component.missing_libraries):
        return [pytest.mark.skip(reason="; ".join(f"needs {library}: {how}" for library, how in missing.items()))]
    return []


# ------------------------------------------------------------ fixtures


@pytest.fixture(scope="session")
def plugin_manager() -> Plugins:
    """The installed plugins, all imported."""
    from trainkit.manager import Plugins

    plugins = Plugins()
    plugins.load()
    return plugins


@pytest.fixture
def tiny_recipe(tmp_path: Path) -> Callable[..., Path]:
    """Write a recipe that trains in a moment: ``tiny_recipe(optimizer={"use": "lion"})`` gives the file.

    Tables that are given take the place of the recipe's own, see `trainkit.testing.tiny.TINY`.
    """
    from trainkit.testing.tiny import write_tiny

    def write(**tables: object) -> Path:
        return write_tiny(tmp_path / "tiny.toml", tables)

    return write


@pytest.fixture
def run_tiny(tmp_path: Path, plugin_manager: Plugins) -> Callable[..., TinyRun]:
    """Train the tiny recipe: ``run_tiny(schedule={"use": "cosine"})`` gives the finished `TinyRun`."""
    from trainkit.testing.tiny import run_tiny

    def run(**tables: object) -> TinyRun:
        return run_tiny(tmp_path, tables, plugin_manager)

    return run
