"""Which runs are shown, in which order, and what of them."""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainkit.arguments import near
from trainkit.errors import UsageError
from trainkit.runs.entry import ITSELF, Entry

_CONDITION = re.compile(r"\s*(.+?)\s*(!=|<=|>=|=|<|>)\s*(.*?)\s*", re.DOTALL)
_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_LOOSE = str.maketrans("'", '"', " ")  # lists are alike however they are written
# The metrics that come with trainkit of which less is better; any other name is sorted the largest first.
LESS_IS_BETTER = ("loss", "error", "ece", "mae", "rmse", "mse", "nll", "brier", "perplexity", "seconds")
MOST_SETTINGS, MOST_FIGURES = 5, 3  # columns that nobody asked for
_FIRST_TABLES = ("model", "optimizer", "schedule", "data", "loss", "callback", "seed")
_PLAIN_RESULTS = ("steps", "epochs", "seconds")


@dataclass(frozen=True)
class Condition:
    """What a run is to fulfil, such as ``optimizer.lr<0.1``.

    Args:
        key: the name of a value.
        sign: ``=``, ``!=``, ``<``, ``<=``, ``>`` or ``>=``.
        wanted: what the value is compared with, as it was written.
    """

    key: str
    sign: str
    wanted: str

    @classmethod
    def read(cls, text: str) -> Condition:
        """Read one as it stands on the command line.

        Raises:
            UsageError: if it is none.
        """
        found = _CONDITION.fullmatch(text)
        if found is None:
            raise UsageError(
                f"--filter {text}: write a name, = != < <= > or >=, and a value, in quotes: "
                "--filter 'optimizer.use=adamw' --filter 'val.accuracy>=0.9'"
            )
        return cls(*found.groups())

    def holds(self, entry: Entry) -> bool:
        """Whether a run fulfils it. One that lacks the value has another one than any: it fulfils ``!=`` alone."""
        value = entry.value(self.key)
        if self.sign in ("=", "!="):
            values = [value, *value] if isinstance(value, list) else [value]
            return any(_same(one, self.wanted) for one in values) is (self.sign == "=")
        number = _number(self.wanted)
        if isinstance(value, bool) or value is None:
            return False
        if isinstance(value, int | float):
            return number is not None and _ORDERS[self.sign](value, number)
        return isinstance(value, str) and _ORDERS[self.sign](value, self.wanted)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _same(value: Any, wanted: str) -> bool:
    if isinstance(value, bool):
        return str(value).lower() == wanted.lower()
    if isinstance(value, int | float):
        return _number(wanted) == value
    if isinstance(value, str):
        text = wanted[1:-1] if len(wanted) > 1 and wanted[0] == wanted[-1] == '"' else wanted
        return fnmatch.fnmatchcase(value, text) if "*" in text else value == text
    if isinstance(value, list):
        return str(value).translate(_LOOSE) == wanted.translate(_LOOSE)
    return False


def check_keys(keys: Iterable[str], found: Sequence[Entry]) -> None:
    """Hold that each name is that of a value of some run.

    Raises:
        UsageError: naming the nearest one.
    """
    if not found:
        return
    known: set[str] = set(ITSELF)
    for entry in found:
        known |= entry.keys()
    for key in keys:
        if key not in known:
            raise UsageError(f"'{key}': no run here has such a value; {near(key, known)}".rstrip("; "))


def in_order(found: Sequence[Entry], key: str | None, backwards: bool) -> list[Entry]:
    """Runs with the best first; without a key, with the newest. Those that lack the value come last, either way."""
    if key is None:
        return sorted(found, key=lambda entry: entry.modified, reverse=not backwards)
    having = [entry for entry in found if _order(entry.value(key)) is not None]
    # Numbers stand before words where both come up.
    words = [entry for entry in having if isinstance(entry.value(key), str)]
    numbers = [entry for entry in having if not isinstance(entry.value(key), str)]
    falling = key.rpartition(".")[2] not in LESS_IS_BETTER
    numbers.sort(key=lambda entry: _order(entry.value(key)), reverse=falling is not backwards)
    words.sort(key=lambda entry: _order(entry.value(key)), reverse=backwards)
    return [*numbers, *words, *(entry for entry in found if _order(entry.value(key)) is None)]


def _order(value: Any) -> Any:
    if isinstance(value, list):
        return str(value)
    return value if isinstance(value, int | float | str) and value == value else None


def columns_of(shown: Sequence[Entry], asked: Iterable[str]) -> list[str]:
    """The columns of a table of runs: what was asked about, figures that most have, and settings that differ.

    Args:
        shown: the runs.
        asked: names that came up in filters and the order.
    """
    columns = ["name", "status"]
    if len({entry.kind for entry in shown}) > 1:
        columns.insert(1, "kind")
    columns += [key for key in asked if key not in columns]
    figures: dict[str, int] = {}
    for entry in shown:
        for key in entry.results:
            if key.startswith(("val.", "test.")):
                figures[key] = figures.get(key, 0) + 1
    best = sorted(figures, key=lambda key: (-figures[key], key.startswith("test."), key.endswith(".loss"), key))
    columns += [key for key in best[:MOST_FIGURES] if key not in columns]
    columns += [key for key in _differing(shown)[:MOST_SETTINGS] if key not in columns]
    return [*columns, "changed"] if "changed" not in columns else columns


def _differing(shown: Sequence[Entry]) -> list[str]:
    """The keys of recipes that are not the same in all, those first that matter to most people."""
    values: dict[str, set[str]] = {}
    counts: dict[str, int] = {}
    for entry in shown:
        for key, value in entry.recipe.items():
            values.setdefault(key, set()).add(str(value))
            counts[key] = counts.get(key, 0) + 1
    differing = [key for key, found in values.items() if len(found) > 1 or counts[key] < len(shown)]

    def rank(key: str) -> tuple[int, int, int]:
        table = re.split(r"[.\[]", key, maxsplit=1)[0]
        place = _FIRST_TABLES.index(table) if table in _FIRST_TABLES else len(_FIRST_TABLES)
        return (place == len(_FIRST_TABLES), -counts[key], place)

    return sorted(differing, key=rank)
