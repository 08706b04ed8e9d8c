"""Safe reading: a recipe from a stranger is looked at before it is parsed, and refused with one message."""

from __future__ import annotations

import datetime
import itertools
import math
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import tomli

from trainkit.errors import Place, Problem, RecipeError
from trainkit.recipe.positions import Source
from trainkit.recipe.scan import scan
from trainkit.recipe.text import Path, dotted, shown

if TYPE_CHECKING:
    from trainkit.recipe.packed import Pack

MAX_BYTES = 64 * 1024
MAX_KEYS = 2000
MAX_DEPTH = 16
# A parser's time grows with the square of a dotted key's length.
MAX_DOTS = 16


# How tomli shows a table's name.
_KEYS = re.compile(r"\((?:'[^']*'(?:, )?)+,?\)")


def read_file(file: FilePath, name: str, package: str = "") -> Source:
    """Read a recipe file.

    Args:
        file: where it lies.
        name: what messages call it.
        package: the package that ships it, if any.

    Raises:
        RecipeError: if it is not a readable regular file of a sensible size, or not TOML.
        FileNotFoundError: if there is nothing; the caller knows what may have been meant.
    """
    return parse(read_bytes(file, name), name, file, package)


def read_stdin() -> Source:
    """Read a recipe from standard input.

    Raises:
        RecipeError: if it is too long or not TOML.
    """
    return parse(sys.stdin.buffer.read(MAX_BYTES + 1), "standard input", None)


def read_bytes(file: FilePath, name: str, most: int = MAX_BYTES) -> bytes:
    """Read what a user named as a recipe, if it is a regular file; one byte more than the ``most`` at the most.

    Raises:
        RecipeError: if it cannot be read.
        FileNotFoundError: if there is nothing.
    """
    try:
        # A FIFO or a device must not make the program wait: opened without blocking, then looked at.
        number = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _refused(name, f"cannot be read: {reason}", "name a TOML file") from None
    try:
        mode = os.fstat(number).st_mode
        if stat.S_ISDIR(mode):
            raise _refused(name, "is a folder", "name a TOML file in it")
        if not stat.S_ISREG(mode):
            raise _refused(name, "is not a regular file", "name a TOML file")
        with os.fdopen(number, "rb", closefd=False) as opened:
            return opened.read(most + 1)
    except OSError as error:
        raise _refused(name, f"cannot be read: {error.strerror}", "name a TOML file") from None
    finally:
        os.close(number)


def parse(
    data: bytes, name: str, file: FilePath | None = None, package: str = "", pack: Pack | None = None, within: str = ""
) -> Source:
    """Check and parse the bytes of a recipe; the other arguments are those of a `Source`.

    Raises:
        RecipeError: with one problem, which names the line.
    """
    if len(data) > MAX_BYTES:
        raise _refused(
            name, f"is longer than {MAX_BYTES // 1024} KiB", "a recipe names data and weights, not holds them"
        )
    if b"\0" in data:
        raise _refused(name, "is binary, not text", "name a TOML file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecipeError(
            [Problem(Place(name, line), "is not UTF-8 text", "save the file with the encoding UTF-8")]
        ) from None
    source = Source(name, text.replace("\r\n", "\n"), file, package, pack=pack, within=within)
    if not source.text.strip():
        raise _refused(name, "is empty", "`trainkit list recipes` names those that are installed; copy one to begin")
    source.tables.update(parse_text(source))
    return source


def parse_text(source: Source) -> dict[str, Any]:
    """Parse the text of ``source`` once it is known to be harmless.

    Raises:
        RecipeError: with one problem, which names the line.
    """
    values = 0
    for number, state in enumerate(scan(source.text)):
        values += state.values
        if values > MAX_KEYS:
            raise _too_many_values(source)
        if state.dots > MAX_DOTS:
            raise _wrong(source, number, f"a key has more than {MAX_DOTS} dots", "write tables instead")
        if state.deepest > MAX_DEPTH:
            raise _wrong(source, number, f"brackets are nested more than {MAX_DEPTH} deep", "a recipe is flatter")
    try:
        tables = tomli.loads(source.text)
    except tomli.TOMLDecodeError as error:
        last = source.text.rstrip("\n").count("\n")
        line = min(error.lineno - 1, last) if isinstance(getattr(error, "lineno", None), int) else last
        said = _KEYS.sub(_as_header, getattr(error, "msg", None) or str(error))
        message = f"not TOML: {said[:1].lower()}{shown(said[1:])}"
        raise _wrong(source, line, message, _hint(source, line, said)) from None
    except ValueError:  # Python's own limit on digits
        raise _wrong(source, _guilty_line(source), "an integer has too many digits", "") from None
    except (RecursionError, MemoryError):
        raise _refused(source.name, "asks too much of the reader", "a recipe is flatter and shorter") from None
    # Dotted keys make more tables than there are statements.
    if any(True for _ in itertools.islice(_leaves(tables), MAX_KEYS, None)):
        raise _too_many_values(source)
    return tables


def unusable_values(tables: dict[str, Any]) -> Iterator[tuple[Path, str, str]]:
    """Find values that TOML allows and a recipe does not: path, message, cure."""
    for path, value in _leaves(tables):
        key = shown(dotted(path))
        if isinstance(value, bool | str):
            continue
        if isinstance(value, int):
            if not -(2**63) <= value < 2**63:
                yield path, f"{key} is beyond the integers that 64 bits hold", ""
        elif isinstance(value, float):
            if not math.isfinite(value):
                yield path, f"{key} must be a finite number, got {value}", "leave the key out if it has no limit"
        elif isinstance(value, datetime.date | datetime.time):
            yield path, f"{key} is a date or time, which no setting takes", "write text in quotes"


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value and every table, with its path."""
    if path:
        yield path, value
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from _leaves(child, (*path, key))


def _as_header(match: re.Match[str]) -> str:
    return "[" + ".".join(re.findall(r"'([^']*)'", match[0])) + "]"


def _hint(source: Source, line: int, said: str) -> str:
    """Name the mistake behind a syntax error where it is a common one."""
    lines = source.text.split("\n")
    if said.lower().startswith(("unclosed", "unterminated", "illegal character '\\n'")):
        if "'\\n'" in said:
            return "a quote is opened on this line and not closed"
        states = itertools.islice(scan(source.text), line)
        start = max((n for n, state in enumerate(states) if state.complete), default=-1) + 1
        return f"what line {start + 1} opens is not closed: {shown(lines[start].strip())}"
    written = lines[line].strip() if line < len(lines) else ""
    key, equals, value = (part.strip() for part in written.partition("="))
    if equals and value and value.split("#")[0].strip().isidentifier():
        return f'text stands in quotes: {shown(key)} = "{shown(value.split("#")[0].strip())}"'
    if ":" in written and not equals:
        return "write key = value"
    return ""


def _guilty_line(source: Source) -> int:
    """The first line of the statement that a parser refuses with something else than a syntax error."""
    start = 0
    lines = source.text.split("\n")
    for end, state in enumerate(scan(source.text)):
        if state.complete:
            try:
                tomli.loads("\n".join(lines[start : end + 1]))
            except tomli.TOMLDecodeError:
                pass
            except (ValueError, RecursionError, MemoryError):
                return start
            start = end + 1
    return 0


def _too_many_values(source: Source) -> RecipeError:
    return _refused(source.name, f"has more than {MAX_KEYS} values, the most that a recipe may have", "")


def _wrong(source: Source, line: int, message: str, cure: str) -> RecipeError:
    return RecipeError([Problem(source.at(line), message, cure)])


def _refused(name: str, message: str, cure: str) -> RecipeError:
    return RecipeError([Problem(Place(name), message, cure)])
