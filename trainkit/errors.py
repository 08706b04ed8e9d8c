"""Every error a user can meet: where, what, how to put it right, and the exit code it ends with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the command line; a public contract (docs/command-line.md)."""

    DONE = 0
    DEFECT = 1
    RECIPE = 2
    ENVIRONMENT = 3
    FAILED = 4
    NO_CHECKPOINT = 5
    STOPPED = 75
    INTERRUPTED = 130
    TERMINATED = 143


@dataclass(frozen=True, order=True)
class Place:
    """Where a value was written: a file and line of a recipe, or the command line.

    Args:
        origin: the recipe's path as the user gave it, or ``"command line"``.
        line: line number from 1; 0 where the origin has no lines.
        source: the text of that line, without surrounding blanks.
    """

    origin: str
    line: int = 0
    source: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.origin}:{self.line}" if self.line else self.origin


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a recipe: its place, what is wrong, and the cure.

    Args:
        place: where the value at fault was written.
        message: what is wrong, in the user's words, showing the value.
        cure: how to put it right: the nearest name, what would be accepted.
        environment: whether the recipe is right and this machine lacks something, such as a plugin.
    """

    place: Place
    message: str
    cure: str = ""
    environment: bool = False

    def __str__(self) -> str:
        """Render as ``place: message``, the source line, and the cure, on lines of their own."""
        lines = [f"{self.place}: {self.message}"]
        if self.place.source:
            lines.append(f"    {self.place.source}")
        lines.extend(f"  {line}" for line in self.cure.splitlines())
        return printable("\n".join(lines))


class TrainkitError(Exception):
    """An error that is shown to the user as a message, never as a traceback."""

    exit_code: Exit = Exit.DEFECT


class RecipeError(TrainkitError):
    """The recipe or the command line is wrong; nothing was run."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: (problem.place, problem.message))
        lacking = bool(self.problems) and all(problem.environment for problem in self.problems)
        self.exit_code = Exit.ENVIRONMENT if lacking else Exit.RECIPE
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @property
    def summary(self) -> str:
        """The closing line, such as ``2 problems; nothing was run.``."""
        count = len(self.problems)
        return f"{count} problem{'' if count == 1 else 's'}; nothing was run."


class UsageError(TrainkitError):
    """The command line is wrong; nothing was run."""

    exit_code = Exit.RECIPE


class PluginError(TrainkitError):
    """A plugin is missing, does not import, or raised in a hook; the message names it and its version."""

    exit_code = Exit.ENVIRONMENT


class PluginDefect(TrainkitError):
    """A plugin raised inside a hook or factory; the message names plugin, version, hook, file and line."""

    exit_code = Exit.DEFECT


class MachineError(TrainkitError):
    """The machine lacks something: a device, a file, room on the disk, a free run folder."""

    exit_code = Exit.ENVIRONMENT


class DataError(TrainkitError):
    """The data a recipe names cannot be used: missing, damaged, not finite, too small.

    Raised by data components; the message names the file (and row) and says what to do.
    """

    exit_code = Exit.RECIPE


class RunError(TrainkitError):
    """The run failed while training; the last checkpoint is whole."""

    exit_code = Exit.FAILED


class NotFinite(RunError):
    """A loss, a weight or state of the run is NaN or infinite; the checkpoints hold what was before it."""


class OutOfMemory(RunError):
    """There was not enough memory, here or on the device, to build the run or to train on."""


class CheckpointError(TrainkitError):
    """No usable checkpoint where one was asked for."""

    exit_code = Exit.NO_CHECKPOINT


# C0 and C1 controls, and the characters that reorder text (bidirectional marks): shown to a terminal
# they could hide or fake part of a message, so they are shown as escapes.
UNSAFE = {
    *range(0x00, 0x20),
    *range(0x7F, 0xA0),
    0x061C,
    0x200E,
    0x200F,
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
    0xFEFF,
}
_ESCAPES = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in UNSAFE if code not in (0x09, 0x0A)}


def printable(text: str) -> str:
    """Return ``text`` with terminal escapes and bidirectional marks shown as ``\\x1b`` or ``\\u202e``."""
    # A command line that is not UTF-8 arrives with lone surrogates, which no terminal takes.
    return text.translate(_ESCAPES).encode("utf-8", "backslashreplace").decode("utf-8")
