"""Writing for people and for programs: data to standard output, messages to standard error."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as in trainkit/__init__.py: typing is not worth its import here
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, TextIO

_MOST_BITS = 2048  # of a whole number; the fewest digits that Python can be told to stop at are 640


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person sees ``stream`` on a terminal that can move its cursor."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def prepare_streams() -> None:
    """Let text that the terminal's encoding lacks be shown as escapes instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def emit(text: str) -> None:
    """Write data to standard output, with what could move a terminal's cursor escaped; a reader that has gone away is
    no error.
    """
    if sys.stdout is None:
        return
    text = _printable(text)
    try:
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer would raise again when Python closes the stream.
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, sys.stdout.fileno())
        os.close(sink)


def emit_json(value: Any) -> None:
    """Write one JSON object to standard output; JSON has no NaN and no infinity, they become null.

    Whole numbers of thousands of digits, which Python refuses to write, become text.
    """
    import json

    emit(json.dumps(_plain(value), indent=2, allow_nan=False))


def say(text: str) -> None:
    """Write a message to standard error, with what could move a terminal's cursor escaped; where nobody can read it,
    nothing is lost.
    """
    if sys.stderr is None:
        return
    text = _printable(text)
    try:
        sys.stderr.write(text if text.endswith("\n") else text + "\n")
        sys.stderr.flush()
    except OSError:
        pass


def write_file(name: str, content: str | bytes) -> None:
    """Write a file that the user named.

    Raises:
        MachineError: if it cannot be written.
    """
    try:
        with open(name, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        from trainkit.errors import MachineError

        raise MachineError(f"{name}: cannot be written: {error.strerror}") from error


def emit_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table to standard output: drawn on a terminal, plain aligned text elsewhere."""
    if is_terminal(sys.stdout):
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD)
        for header in headers:
            table.add_column(header)
        for row in rows:
            table.add_row(*(Text(_harmless(cell)) for cell in row))
        with Console(width=None) as console:
            console.print(table)
    else:
        emit("\n".join(aligned([headers, *rows])))


def aligned(rows: Iterable[Sequence[str]], indent: str = "") -> list[str]:
    """Lines with columns of equal width; the last column is not padded."""
    cells = [[_harmless(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        (indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip()
        for row in cells
    ]


def _harmless(text: str) -> str:
    return _printable(text).replace("\n", " ")


def _printable(text: str) -> str:
    if text.isascii() and text.replace("\n", " ").replace("\t", " ").isprintable():
        return text  # ``--help`` need not wait for the table of what is not
    from trainkit.errors import printable

    return printable(text)


def _plain(value: Any) -> Any:
    """Make what JSON can hold of what components hold."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return hex(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return str(value)
