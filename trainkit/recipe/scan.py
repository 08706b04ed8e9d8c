"""A first look at TOML text without parsing it: where statements end, how deep brackets and dotted keys go.

It serves two ends: text that would keep a parser busy for minutes is refused before it is parsed, and statements are
told apart, so that each can be looked at alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

TOKEN = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*(?P<closed>"{3,5})?'
    r"|'''(?:[^']|'(?!''))*(?P<shut>'{3,5})?"
    r'|"(?:[^"\\\n]|\\.)*"?'
    r"|'[^'\n]*'?"
    r"|\#[^\n]*"
    r"|[\[\]{}=,.\n]"
    r"|[^\"'\#\[\]{}=,.\n]+",
    re.DOTALL,
)


class Line(NamedTuple):
    """What is open at the end of a line.

    Args:
        depth: how many brackets are open.
        in_string: whether the line ends inside a multi-line string.
        deepest: most brackets open at once on the line.
        dots: most dots in one key or number on the line.
        values: how many values and tables the line has at least, if the text is TOML: one for each header, each equals
            sign, and each comma between the items of a list.
    """

    depth: int
    in_string: bool
    deepest: int
    dots: int
    values: int

    @property
    def complete(self) -> bool:
        """Whether a statement can end here."""
        return not self.depth and not self.in_string


def scan(text: str) -> Iterator[Line]:
    """Describe each line of ``text`` in one pass; wrong TOML gives some answer and never an exception."""
    brackets: list[str] = []
    deepest = dots = chain = values = 0
    assigned = False
    for match in TOKEN.finditer(text):
        token = match[0]
        if token == "\n":
            yield Line(len(brackets), False, deepest, dots, values)
            deepest, dots, chain, values, assigned = len(brackets), 0, 0, 0, False
        elif token in "[{":
            # Where no value is open, a bracket that no equals sign leads to opens a header.
            values += not brackets and not assigned
            brackets.append(token)
            deepest = max(deepest, len(brackets))
            chain = 0
        elif token in "]}":
            if brackets:
                brackets.pop()
            chain = 0
        elif token in "=,":
            values += token == "=" or brackets[-1:] == ["["]
            assigned = True
            chain = 0
        elif token == ".":
            chain += 1
            dots = max(dots, chain)
        elif token.startswith(('"""', "'''")):
            for _ in range(token.count("\n")):
                yield Line(len(brackets), True, deepest, dots, values)
                deepest, dots, chain, values, assigned = len(brackets), 0, 0, 0, False
    yield Line(len(brackets), False, deepest, dots, values)
