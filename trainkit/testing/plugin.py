"""The pytest plugin: options, fixtures, and the contracts as tests.

pytest loads this module in every project of an environment: nothing here imports torch, or the rest of trainkit, before
a project uses it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

TYPE_CHECKING = False  # as above
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from typing import Any

    from trainkit.component import Component
    from trainkit.manager import Plugins
    from trainkit.testing.contract import Contract
    from trainkit.testing.tiny import TinyRun

CONTRACTS = Path(__file__).parent / "contracts"

pytest.register_assert_rewrite("trainkit.testing.contracts")


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


def _wanted(config: pytest.Config) -> bool:
    return bool(config.getoption("--trainkit-contracts") or config.getoption("--trainkit-dist"))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Look whether the options select anything, before a test runs."""
    if _wanted(session.config):
        from trainkit.testing.select import selected

        selected(session.config, "")


# ------------------------------------------------------------ collecting


class ContractModule(pytest.Module):
    """A module of contracts. What the project calls its test files, classes and functions does not count in it."""

    def classnamefilter(self, name: str) -> bool:
        """Leave classes to `pytest_pycollect_makeitem`."""
        return False

    def funcnamefilter(self, name: str) -> bool:
        """No function is a test: contracts are methods."""
        return False


class ContractClass(pytest.Class):
    """A class of contracts."""

    def funcnamefilter(self, name: str) -> bool:
        """Each method ``test_...`` is a contract."""
        return name.startswith("test_")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add the contracts to the project's own tests, whatever files were named; ``-k`` and ``-m`` choose among all."""
    if not _wanted(config):
        return
    from trainkit.testing.contract import contract_modules
    from trainkit.testing.select import selected

    for module in contract_modules({component.kind for component in selected(config, "")}):
        name = module.__name__.rpartition(".")[2]
        collector: Any = ContractModule.from_parent(
            session, path=CONTRACTS / f"{name}.py", nodeid=f"contracts/{name}.py"
        )
        collector.obj = module
        items.extend(session.genitems(collector))


def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> pytest.Collector | list[pytest.Item] | None:
    """Collect contracts in their own modules; where a test module imports one, to derive from it, nothing is."""
    if (base := _contract()) is None or not isinstance(obj, type) or not issubclass(obj, base):
        return None
    if isinstance(collector, ContractModule):
        own = obj.__module__ == collector.obj.__name__
        return ContractClass.from_parent(collector, name=name, obj=obj) if own else []
    return [] if obj.__module__.startswith("trainkit.testing.") else None


def _contract() -> type[Contract] | None:
    """The base of contracts; ``None`` where nobody has imported it, so that no class can derive from it."""
    found = sys.modules.get("trainkit.testing.contract")
    return getattr(found, "Contract", None)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each contract its components."""
    held = metafunc.cls
    base = _contract()
    if base is None or not isinstance(held, type) or not issubclass(held, base):
        return
    from trainkit.component import Component
    from trainkit.testing.contract import contract_of

    if "component" not in metafunc.fixturenames:
        return
    found: Sequence[Component]
    if isinstance(held.component, Component):
        if held.kind not in ("", held.component.kind):
            raise pytest.Collector.CollectError(
                f"{held.__name__} is a contract of kind {held.kind}, and its component is {held.component.kind} "
                f"'{held.component.name}'; derive it from the contract of that kind"
            )
        found = [held.component]
    elif isinstance(held.component, type(pytest.fixture(lambda: None))):  # a fixture of the class makes it
        return
    elif held.component is not None:
        raise pytest.Collector.CollectError(
            f"{held.__name__}.component is an object of {type(held.component).__name__}; write component = "
            f"Component('{held.kind or 'KIND'}', FACTORY), or a fixture of that name that returns one"
        )
    else:
        found = _selected(metafunc.config, held)
    name = contract_of(metafunc.function.__name__)
    parameters = _of_plugins(found, name) if held.once else _of_components(found, name, held.builds)
    # Of a class, so that the tests of one component follow each other: they share what is made of it, in one process.
    metafunc.parametrize("component", parameters, scope="class")


def _selected(config: pytest.Config, held: type[Contract]) -> list[Component]:
    """The components that a class which names none is held to: those of the options, or of the project."""
    from trainkit.testing.select import selected

    try:
        return selected(config, held.kind)
    except pytest.UsageError as error:
        raise pytest.Collector.CollectError(
            f"{held.__name__} has no component; write component = Component(...) in the class, or say whose "
            f"components it is for: {error}"
        ) from None


def _of_components(components: Iterable[Component], name: str, builds: bool) -> list[Any]:
    found, never = [], []
    for one in components:
        label = f"{one.kind}-{one.name}"
        reason = one.exempt.get("builds_from_its_example") if builds and name not in one.exempt else None
        if reason is None:
            found.append(pytest.param(one, marks=_marks(one, name, builds), id=label))
        else:
            skip = pytest.mark.skip(reason=f"it cannot be built: {reason}")
            never.append(pytest.param(one, marks=skip, id=label))
    return found or never[:1]  # that one cannot be built is said once, by that contract


def _of_plugins(components: Iterable[Component], name: str) -> list[Any]:
    """The first component of each plugin; what one of them declares counts for the plugin."""
    first: dict[str, Component] = {}
    reasons: dict[str, str] = {}
    for one in components:
        first.setdefault(one.plugin, one)
        if name in one.exempt:
            reasons[one.plugin] = one.exempt[name]
    return [
        pytest.param(one, marks=_expected(reasons[plugin]) if plugin in reasons else (), id=plugin or one.name)
        for plugin, one in first.items()
    ]


def _marks(component: Component, name: str, builds: bool) -> list[pytest.MarkDecorator]:
    if name in component.exempt:
        # Data that cannot be made here may be data that is downloaded elsewhere: no test begins that.
        runs = (component.kind, name) != ("data", "builds_from_its_example")
        return _expected(component.exempt[name], runs)
    if builds and (missing := component.missing_libraries):
        return [pytest.mark.skip(reason="; ".join(f"needs {library}: {how}" for library, how in missing.items()))]
    return []


def _expected(reason: str, runs: bool = True) -> list[pytest.MarkDecorator]:
    """A failure is expected; a test that passes all the same fails, so that the exemption goes."""
    return [pytest.mark.xfail(reason=reason, strict=True, run=runs)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Show of a broken contract what it demands and what is wrong: its code says nothing to the component's author."""
    report: Any = yield
    held, base = getattr(item, "cls", None), _contract()
    if not report.failed or base is None or held is None or not issubclass(held, base):
        return report
    if call.excinfo is None:  # it passes in spite of an exception
        report.longrepr = f"{report.longrepr}\nit keeps the contract now: take the name out of exempt={{...}}"
    else:
        broken = call.excinfo.errisinstance(AssertionError) and _inside(call.excinfo.traceback[-1].path)
        if broken and item.config.getoption("tbstyle", "auto") == "auto" and item.config.getoption("verbose", 0) < 2:
            from trainkit.testing.contract import contract_of, demands

            # What the component raised has its lines; of the contract there is what it says, not what it compared.
            raised = call.excinfo.value.__cause__ is not None
            call.excinfo.value.args = (str(call.excinfo.value).partition("\nassert ")[0],)
            shown = call.excinfo.getrepr(style="short" if raised else "value", chain=raised, tbfilter=_of_the_author)
            name = contract_of(getattr(item, "originalname", item.name))
            shown.addsection(f"contract {name}", demands(held).get(name, ""))
            report.longrepr = shown
    return report


def _of_the_author(raised: pytest.ExceptionInfo[BaseException]) -> Any:
    """The lines of a traceback that are neither pytest's nor ours; the last one in any case."""
    ours = {"_pytest", "pluggy", "contextlib", "trainkit"}
    lines = raised.traceback.filter(lambda line: line.frame.f_globals.get("__name__", "").partition(".")[0] not in ours)
    return lines or raised.traceback[-1:]


def _inside(path: object) -> bool:
    """Whether a line of code is one of the contracts."""
    return CONTRACTS.parent in Path(str(path)).parents


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
