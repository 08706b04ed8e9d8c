"""A composed recipe against the signatures of the components it names: all problems at once, or a filled recipe."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection
from typing import Any

from trainkit.component import Component
from trainkit.errors import Place, Problem, RecipeError
from trainkit.inner_tables import ADDED, GROUP_SETTINGS
from trainkit.manager import Plugins
from trainkit.recipe.asking import ask_plugins
from trainkit.recipe.filled import FilledTables, Recipe
from trainkit.recipe.find import find_component, installed_names
from trainkit.recipe.merge import Composed
from trainkit.recipe.pairs import check_pairs, hook_order
from trainkit.recipe.paths import check_paths
from trainkit.recipe.read import unusable_values
from trainkit.recipe.requires import check_requires
from trainkit.recipe.searching import read_search
from trainkit.recipe.text import Path, did_you_mean, header, nearest, plural, shown, shown_value
from trainkit.recipe.values import Part, Table, check_table, nested_values, plain
from trainkit.settings import Setting
from trainkit.strict import model_of
from trainkit.tables import COMPONENT_TABLES, FORMAT_VERSION, RUN_SETTINGS, TOP_SETTINGS, TableKind

SELECTORS = ("match", "type", "ndim")  # what a group says about the parameters it is for


def check_recipe(composed: Composed, problems: list[Problem], plugins: Plugins) -> Recipe:
    """Check a composed recipe and fill its defaults.

    Args:
        composed: the recipe with its bases and overrides.
        problems: what is already known to be wrong; shown with the rest.
        plugins: the installed plugins.

    Raises:
        RecipeError: with every problem of the recipe.
        PluginDefect: if a plugin's own check fails.
    """
    checker = _Checker(composed, plugins)
    filled = FilledTables(checker.tables(), composed)
    recipe = Recipe(filled, checker.components, [], composed.name, checker.notes, plugins, checker.defaults)
    found = [*problems, *checker.problems]
    if checker.lacking:  # what parts say of each other cannot be known while some are not there
        raise RecipeError(found)
    recipe.order, order_problems = hook_order(recipe)
    found += [*order_problems, *check_pairs(recipe), *check_paths(recipe)]
    if "search" in filled:
        recipe.search, wrong = read_search(recipe)
        found.extend(wrong)
    if not found:  # plugins may rely on tables that passed
        found = ask_plugins(recipe)
    if found:
        raise RecipeError(found)
    return recipe


def check_parts(composed: Composed, names: Collection[str], plugins: Plugins) -> Recipe:
    """Check a few tables of a recipe as if it had no others, so that they can be built where the rest cannot be.

    Args:
        composed: the recipe.
        names: the tables that name components, such as ``model``; the keys at the top, and ``[run]`` where
            it is, are checked in any case.
        plugins: the installed plugins.

    Raises:
        RecipeError: with every problem of these tables.
    """
    kept = {"recipe", "seed", "run", *names}
    tables = {key: value for key, value in composed.tables.items() if key in kept}
    part = Composed(composed.name, tables, composed.marks)
    checker = _Checker(part, plugins)
    filled = FilledTables(checker.tables(names), part)
    recipe = Recipe(filled, checker.components, [], part.name, checker.notes, plugins, checker.defaults)
    if found := [*checker.problems, *check_paths(recipe)]:
        raise RecipeError(found)
    return recipe


def components_named(composed: Composed, plugins: Plugins) -> list[Component]:
    """The components that a recipe names, also one that has problems; those that nobody supplies are left out."""
    checker = _Checker(composed, plugins)
    checker.tables()
    return list(checker.components.values())


@functools.cache
def core_part(table: str) -> Part:
    """The settings of a table that are the core's own: ``run``, ``top``, what a kind's components share, ``also``."""
    settings: tuple[Setting, ...]
    if table in ADDED:
        settings = ADDED[table]
    elif table == "group":
        settings = GROUP_SETTINGS
    elif table == "run":
        settings = RUN_SETTINGS
    else:
        settings = TOP_SETTINGS if table == "top" else COMPONENT_TABLES[table].added
    finer = COMPONENT_TABLES[table].finer if table in COMPONENT_TABLES else ()
    return Part(settings, model_of(table, settings), frozenset(setting.name for setting in finer))


class _Checker:
    def __init__(self, composed: Composed, plugins: Plugins) -> None:
        self.composed = composed
        self.plugins = plugins
        self.components: dict[Path, Component] = {}
        self.defaults: dict[Path, Any] = {}
        self.notes: list[str] = []
        self.problems: list[Problem] = []
        self.faults: set[Path] = set()
        for path, message, cure in unusable_values(composed.tables):
            self.faults.add(path)
            self.problem(composed.place(path), message, cure)
        missing = check_requires(composed)
        self.lacking = any(problem.environment for problem in missing)
        self.problems.extend(missing)

    def problem(self, place: Place, message: str, cure: str = "") -> None:
        self.problems.append(Problem(place, message, cure))

    def tables(self, only: Collection[str] | None = None) -> dict[str, Any]:
        """Check everything, or ``only`` some tables; the filled ones are whole only where no problem was found."""
        written = self.composed.tables
        known = [*(setting.name for setting in TOP_SETTINGS), "run", *COMPONENT_TABLES, "extends", "drop"]
        meant = set()
        for key, value in written.items():
            if key not in known:
                meant.add(nearest(key, known))
                what = "table" if isinstance(value, dict | list) else "key"
                cure = did_you_mean(key, known) + "a recipe takes: " + ", ".join(known)
                self.problem(self.composed.place((key,)), f"no {what} named '{shown(key)}'", cure)
        filled = self.top()
        if "run" in written:
            if isinstance(written["run"], dict):
                self.fill(filled, "run", Table(("run",), "[run]", "[run]", written["run"], [core_part("run")]))
            else:
                self.not_a_table(("run",), written["run"], "")
        elif "run" not in meant and only is None:
            cure = 'write [run] and duration = "20ep", or another time'
            self.problem(Place(self.composed.name), "there is no [run] table", cure)
        for name, table in COMPONENT_TABLES.items():
            if (name not in written and table.optional) or (only is not None and name not in only):
                continue
            if name not in written and table.default is None:
                if name not in meant:
                    cure = f"write [{name}] and use = one of the {self.installed(name)}"
                    self.problem(Place(self.composed.name), f"there is no [{name}] table", cure)
            elif table.many:
                filled[name] = self.many(name, table)
            else:
                value = written.get(name, table.default)
                if table.default is not None and isinstance(value, dict) and "use" not in value:
                    value = {**table.default, **value}
                if (checked := self.component((name,), table.kind, value, core_part(name))) is not None:
                    filled[name] = checked
        return filled

    def top(self) -> dict[str, Any]:
        names = {setting.name for setting in TOP_SETTINGS}
        top = {key: value for key, value in self.composed.tables.items() if key in names}
        version = top.get("recipe")
        if isinstance(version, int) and not isinstance(version, bool) and version > FORMAT_VERSION:
            del top["recipe"]
            message = (
                f"the recipe has format {shown_value(version)}; this trainkit reads formats up to {FORMAT_VERSION}"
            )
            self.problem(self.composed.place(("recipe",)), message, "install a newer trainkit")
        filled, problems = check_table(
            Table((), "the recipe", "the recipe", top, [core_part("top")]), self.composed, self.faults
        )
        self.problems.extend(dataclasses.replace(p, message=p.message.removeprefix("the recipe ")) for p in problems)
        return filled

    def fill(self, tables: dict[str, Any], name: str, table: Table) -> None:
        tables[name], problems = check_table(table, self.composed, self.faults)
        self.problems.extend(problems)
        self.remember_defaults(table)

    def remember_defaults(self, table: Table) -> None:
        for setting in table.settings.values():
            if not setting.required:
                self.defaults[(*table.path, setting.name)] = plain(setting.default)

    def many(self, name: str, table: TableKind) -> list[Any]:
        """Check a list of tables."""
        if name not in self.composed.tables:
            defaults = [item for item in table.default if self.usable_default(name, item)]
            return [self.component((name, n), table.kind, item, core_part(name)) for n, item in enumerate(defaults)]
        items = self.composed.tables[name]
        if not isinstance(items, list):
            cure = f"write [[{name}]], one for each {table.kind}"
            self.problem(self.composed.place((name,)), f"{name} must be a list of tables, got {_kind_of(items)}", cure)
            return []
        checked = [self.component((name, n), table.kind, item, core_part(name)) for n, item in enumerate(items)]
        return [item for item in checked if item is not None]

    def usable_default(self, name: str, item: Any) -> bool:
        """Whether a table that the user did not write can be there; a note says why not."""
        component, problems = find_component(self.plugins, COMPONENT_TABLES[name].kind, item["use"], Place(""))
        if component is not None and not problems:
            return True
        reason = problems[0].cure.removeprefix("install it with: ") if component is not None else "it is not installed"
        self.notes.append(f"{name} '{item['use']}' is left out: {reason}")
        return False

    def component(self, path: Path, kind: str, written: Any, shared: Part | None = None) -> dict[str, Any] | None:
        """Check a table that names a component, and the components inside it."""
        if not isinstance(written, dict):
            self.not_a_table(path, written, kind)
            return None
        label = header(path)
        if "use" not in written:
            cure = f"write use = one of the {self.installed(kind)}"
            near = nearest("use", written)
            if near is not None:
                cure = f"did you mean 'use' where it says '{shown(near)}'?\n{cure}"
            self.problem(self.composed.header(path), f"{label} needs 'use', which is missing", cure)
            return None
        place = self.composed.place((*path, "use"))
        component, problems = find_component(self.plugins, kind, written["use"], place, self.lacking)
        if not any(fault[: len(path) + 1] == (*path, "use") for fault in self.faults):
            self.problems.extend(problems)
        if component is None:
            return None
        self.components[path] = component
        own = {key: value for key, value in written.items() if key != "use"}
        parts = [*([shared] if shared is not None else []), Part(component.settings, lambda: component.model)]
        table = Table(path, f"{label} {component.name}", component.name, own, parts, component.example)
        filled, problems = check_table(table, self.composed, self.faults)
        self.problems.extend(problems)
        self.remember_defaults(table)
        for setting in table.settings.values():
            if setting.nested is not None and setting.name in filled:
                filled[setting.name] = self.nested((*path, setting.name), setting, filled[setting.name])
        if path == ("optimizer",) and isinstance(filled.get("group"), list):
            filled["group"] = self.groups(component, filled["group"])
        return {"use": written["use"], **filled}

    def nested(self, path: Path, setting: Setting, value: Any) -> Any:
        """Check the components inside a setting, and put the filled tables in their place."""
        for inside, nested, table in list(nested_values(setting.annotation, value)):
            checked = self.component(
                (*path, *inside), nested.kind, table, core_part(nested.adds) if nested.adds else None
            )
            if checked is None:
                continue
            if not inside:
                return checked
            holder = value
            for part in inside[:-1]:
                holder = holder[part]
            holder[inside[-1]] = checked
        return value

    def groups(self, component: Component, groups: list[Any]) -> list[Any]:
        """Check ``[[optimizer.group]]``: its own settings, and any of the optimizer's or of ``[optimizer.rest]``."""
        parts = [component, *([rest] if (rest := self.components.get(("optimizer", "rest"))) is not None else [])]
        core = core_part("group")
        names = {setting.name for setting in core.settings}
        allowed: dict[str, Setting] = {}
        for part in parts:
            # Which of the two a group's parameters go to, the model says later.
            for setting in part.settings:
                if setting.nested is None and setting.name not in names:
                    allowed.setdefault(setting.name, dataclasses.replace(setting, default=None))
        title = " and ".join(part.name for part in parts)
        own = Part(tuple(allowed.values()), model_of(f"{title} group", tuple(allowed.values())))
        # A value of both has to be right for both.
        other = [s for s in parts[-1].settings if s.name in allowed and s.annotation != allowed[s.name].annotation]
        twice = Part(tuple(other), model_of(f"{parts[-1].name} group", tuple(other)))
        checked = []
        for number, group in enumerate(groups):
            path: Path = ("optimizer", "group", number)
            table = Table(path, header(path), f"a group of {title}", group, [core, own])
            filled, problems = check_table(table, self.composed, self.faults)
            shared = {key: value for key, value in group.items() if any(key == setting.name for setting in other)}
            again = Table(path, header(path), parts[-1].name, shared, [twice], partial=True)
            problems += check_table(again, self.composed, self.faults)[1] if not problems else []
            if not any(key in group for key in SELECTORS) and not any(nearest(key, SELECTORS) for key in group):
                message = f"{header(path)} does not say which parameters it is for"
                cure = 'write match = a pattern of names, such as "head.*", or type = "Embedding", or ndim = 1'
                problems.append(Problem(self.composed.header(path), message, cure))
            self.problems.extend(problems)
            left_out = [name for name in (*allowed, *SELECTORS) if name not in group]
            checked.append({key: value for key, value in filled.items() if key not in left_out})
            self.defaults[(*path, "lr_scale")] = 1.0
        return checked

    def not_a_table(self, path: Path, value: Any, kind: str) -> None:
        name = header(path)
        if any(fault[: len(path)] == path for fault in self.faults):
            return
        if isinstance(value, list) and not isinstance(path[-1], int):
            message, cure = f"{name} is one table, got a list", f"write {name} once, in single brackets"
        else:
            message = f"{name} must be a table, got {shown_value(value)}"
            cure = f"write {name}" + (f" and use = {shown_value(value)}" if kind and isinstance(value, str) else "")
        self.problem(self.composed.place(path), message, cure)

    def installed(self, kind: str) -> str:
        return f"installed {plural(kind)}: {installed_names(self.plugins, kind)}"


def _kind_of(value: Any) -> str:
    return "one table" if isinstance(value, dict) else shown_value(value)
