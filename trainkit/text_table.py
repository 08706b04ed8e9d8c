"""Tables of text as files hold them: cells by row and column, with the lines they come from; no numbers yet."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from trainkit.errors import DataError

_MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?"))


@dataclass
class TextTable:
    """The rows of a file of text, such as a CSV.

    Args:
        path: the file.
        columns: names of the columns.
        rows: the cells, as text without surrounding blanks.
        lines: the line of the file where each row ends.
    """

    path: Path
    columns: list[str]
    rows: list[list[str]]
    lines: list[int]

    def column(self, name: str) -> list[str]:
        """The cells of one column."""
        place = self.columns.index(name)
        return [row[place] for row in self.rows]


def is_missing(cell: str) -> bool:
    """Whether a cell stands for no value: an empty one, ``na``, ``n/a``, ``nan``, ``null``, ``none`` or ``?``."""
    return cell.lower() in _MISSING


def read_text_table(path: Path, delimiter: str = ",") -> TextTable:
    """Read a file whose first line names the columns, such as a CSV.

    Args:
        path: the file, UTF-8.
        delimiter: the character between two values.

    Raises:
        DataError: if it cannot be read as such; the message names the line.
    """
    if len(delimiter) != 1:
        raise DataError(f"delimiter must be one character, got '{delimiter}'")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            columns = [cell.strip() for cell in next(reader, [])]
            if doubled := [name for name, count in Counter(columns).items() if count > 1]:
                raise DataError(f"{path}:1: two columns are named '{doubled[0]}'; rename one")
            table = TextTable(path, columns, [], [])
            for row in reader:
                if not row:
                    continue
                if len(row) != len(columns):
                    raise DataError(
                        f"{path}:{reader.line_num}: {len(row)} values, the first line names {len(columns)} columns"
                    )
                table.rows.append([cell.strip() for cell in row])
                table.lines.append(reader.line_num)
    except FileNotFoundError:
        raise DataError(
            f"there is no file {path}; relative paths start at TRAINKIT_DATA or the current folder"
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text ({error}); save it as UTF-8") from error
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table: {error}") from error
    if not table.rows:
        raise DataError(f"{path} holds no rows; the first line must name the columns")
    return table
