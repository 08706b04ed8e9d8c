"""What the command line does with a range test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trainkit.console import emit, emit_json, write_file
from trainkit.errors import Exit, MachineError, RunError, UsageError
from trainkit.lr_find.applying import Applied, Target
from trainkit.lr_find.finding import CHANGES as CHANGES
from trainkit.lr_find.finding import RangeTest
from trainkit.lr_find.found import Found
from trainkit.recipe import fill_toml

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from trainkit.protocols import Progress
    from trainkit.recipe import Recipe

RULES = ("steepest", "valley", "harmless", "lowest")


def check_options(args: argparse.Namespace) -> None:
    """Refuse what cannot be, before anything is read.

    Raises:
        UsageError: if options contradict each other, or name no file that could be written.
        MachineError: if a folder is not there, or matplotlib is not installed and a picture is wanted.
    """
    if not args.apply and (args.out or args.rule):
        raise UsageError(f"{'--out' if args.out else '--rule'} is about the value that is written: add --apply")
    if args.rule and args.rule not in RULES:
        raise UsageError(f"--rule {args.rule}: there are {', '.join(RULES)}")
    if args.plot:
        from trainkit.preview_plot import check_plot

        check_plot(Path(args.plot))
        if not Path(args.plot).parent.is_dir():
            raise MachineError(f"--plot {args.plot}: there is no folder {Path(args.plot).parent}")


def lr_find(
    args: argparse.Namespace,
    recipe: Recipe,
    progress: Progress,
    show: Callable[[str], None],
) -> Callable[[], int]:
    """Make the test; gives what tells the user, writes the value, the picture and the page, and says the exit code.

    Args:
        args: the options.
        recipe: the checked recipe, changed by `trainkit.lr_find.finding.CHANGES`.
        progress: told about the updates.
        show: tells the user what was written.

    Raises:
        UsageError: if the options do not fit the recipe.
        TrainkitError: whatever keeps the recipe from training, or a file from being written.
    """
    test = RangeTest(recipe, args.setting, args.low, args.high, args.updates, args.linear)
    rule = args.rule or ("steepest" if test.setting.is_rate else "harmless")
    if (rule in RULES[:2]) is not test.setting.is_rate:
        possible = RULES[:2] if test.setting.is_rate else RULES[2:]
        raise UsageError(f"--rule {rule}: of {test.setting.name} there are {' and '.join(possible)}")
    target = Target(test.recipe, test.setting, test.keys, args.out) if args.apply else None
    found = test.find(progress)

    def tell() -> int:
        if not args.json:
            emit("\n".join(found.lines()))
        try:
            applied = None if target is None else _apply(found, target, rule)
            if args.json:
                emit_json({**found.as_dict(), "applied": None if applied is None else applied.as_dict(rule)})
            elif applied is not None:
                _tell_applied(applied, target, rule, args, show)
        finally:  # what was found is told whether or not these can be written, and they are written whatever is told
            for what, file in _drawn(args, test, found):
                if not args.json:
                    show(f"{what} written to {file}")
        return Exit.DEFECT if found.traces.left else Exit.DONE

    return tell


def _tell_applied(
    applied: Applied, target: Target | None, rule: str, args: argparse.Namespace, show: Callable[[str], None]
) -> None:
    emit(f"\n{applied.diff}" if applied.diff else "\nThe recipe has that value: there is nothing to change.")
    show(f"the value '{rule}' was written to {applied.file}")
    if target is not None and target.searched:
        show(f"note: trials have their own values of {', '.join(target.searched)}: see [search.space]")
    if given := [word for word in args.words if "=" in word]:
        show(f"note: the test was made with {' '.join(given)}, which was not written")


def _drawn(args: argparse.Namespace, test: RangeTest, found: Found) -> Iterator[tuple[str, str]]:
    """Write the picture and the page that are asked for; what each is, and its file."""
    if args.plot:
        from trainkit.lr_find.picture import draw

        draw(found, Path(args.plot))
        yield "picture", args.plot
    if args.html:
        from trainkit.lr_find.sections import sections
        from trainkit.page import render

        title = f"{test.setting.name} of {Path(found.recipe).stem}"
        write_file(args.html, render(title, sections(found, fill_toml(test.recipe)), found.end()))
        yield "page", args.html


def _apply(found: Found, target: Target, rule: str) -> Applied:
    value = found.suggestions[rule]
    if found.traces.left:
        raise RunError(f"--apply: the test left traces in {', '.join(found.traces.left)}, and nothing was written")
    if value is None:
        raise RunError(f"--apply: the test has no value '{rule}' to suggest, and nothing was written")
    return target.write(value)
