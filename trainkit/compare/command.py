"""What ``trainkit compare`` does: reads, prints, draws, and says whether what was required is so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trainkit.compare.comparison import compare_runs
from trainkit.compare.table import as_dict, markdown, show
from trainkit.console import emit, emit_json
from trainkit.display import Display
from trainkit.errors import Exit, UsageError
from trainkit.manager import Plugins


def compare(words: Sequence[str], args: Any, plugins: Plugins, say: Callable[[str], None], display: Display) -> int:
    """Do the verb.

    Args:
        words: the folders.
        args: its options.
        plugins: know of metrics which way is better.
        say: shows a message.
        display: shows how far reading has come.

    Returns:
        The exit code: 1 where something that was required is not so.
    """
    plot = Path(args.plot) if args.plot else None
    if plot is not None:
        from trainkit.compare.plot import check_plot

        check_plot(plot)
    if args.json and args.markdown:
        raise UsageError("compare writes --json or --markdown, not both")
    notes: list[str] = []
    with display:
        found = compare_runs(words, plugins, notes.append, args.metric, args.require, display.progress)
    for text in notes:
        say(f"note: {text}")
    written = []
    if plot is not None:
        from trainkit.compare.plot import draw

        draw(found, plot, args.by)
        written.append(plot)
    if args.html:
        from trainkit.compare.sections import write_page

        write_page(found, Path(args.html), args.by)
        written.append(Path(args.html))
    if args.json:
        emit_json({**as_dict(found), "written": [str(file) for file in written]})
    elif args.markdown:
        emit(markdown(found))
    else:
        show(found)
    for file in written:
        say(f"  {file}")
    if args.json or args.markdown:  # else it stands below the tables
        for answer in found.answers:
            if not answer.met:
                say(f"not met: {answer.requirement.text}: {answer.words}")
    return Exit.DONE if found.met else Exit.DEFECT
