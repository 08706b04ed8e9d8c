"""A first look at TOML text without parsing it: where statements end, how deep brackets and dotted keys go.

It serves two ends: text that would keep a parser busy for minutes is refused before it is parsed, and a value that
spans several lines can be cut after any of them and closed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*(?P<closed>"{3,5})?'
    r"|'''(?:[^']|'(?!''))*(?P<shut>'{3,5})?"
    r'|"(?:[^"\\\n]|\\.)*"?'
    r"|'[^'\n]*'?"
    r"|\#[^\n]*"
    r"|[\[\]{}=,.\n]"
    r"|[^\"'\#\[\]{}=,.\n]+",
    re.DOTALL,
)
_CLOSER = {"[": "]", "{": "}"}


@dataclass(frozen=True)
class Line:
    """What is open at the end of a line.

    Args:
        closers: the brackets that would close what is open.
        in_string: whether the line ends inside a multi-line string.
        deepest: most brackets open at once on the line.
        dots: most dots in one key or number on the line.
    """

    closers: str
    in_string: bool
    deepest: int
    dots: int

    @property
    def complete(self) -> bool:
        """Whether a statement can end here."""
        return not self.closers and not self.in_string


def scan(text: str) -> list[Line]:
    """Describe each line of ``text`` in one pass; wrong TOML gives some answer and never an exception."""
    lines: list[Line] = []
    open_brackets: list[str] = []
    deepest = dots = chain = 0

    def end_line(in_string: bool) -> None:
        nonlocal deepest, dots, chain
        closers = "".join(_CLOSER[bracket] for bracket in reversed(open_brackets))
        lines.append(Line(closers, in_string, max(deepest, len(open_brackets)), dots))
        deepest = dots = chain = 0

    for match in _TOKEN.finditer(text):
        token = match[0]
        if token == "\n":
            end_line(False)
        elif token in "[{":
            open_brackets.append(token)
            deepest = max(deepest, len(open_brackets))
            chain = 0
        elif token in "]}":
            if open_brackets:
                open_brackets.pop()
            chain = 0
        elif token in "=,":
            chain = 0
        elif token == ".":
            chain += 1
            dots = max(dots, chain)
        elif token.startswith(('"""', "'''")):
            for _ in range(token.count("\n")):
                end_line(True)
    end_line(False)
    return lines
