"""The parser of each verb."""

from __future__ import annotations

import os
import sys

from trainkit.arguments import near, usage_error
from trainkit.menu import LOCKABLE, OPTIONS, VERBS

TYPE_CHECKING = False  # as in trainkit/__init__.py: typing is not worth its import for ``--help``
if TYPE_CHECKING:
    import argparse

_SPLITS = ("train", "val", "test")


def make_parser(verb: str) -> argparse.ArgumentParser:
    """Make the parser of one verb; its errors are `UsageError`, never an exit."""
    from argparse import ArgumentParser, HelpFormatter

    class Parser(ArgumentParser):
        def error(self, message: str) -> None:  # type: ignore[override]
            unknown = message.removeprefix("unrecognized arguments: ").split()[0]
            nearby = near(unknown, self._option_string_actions) if message.startswith("unrecognized") else ""
            raise usage_error(f"{verb}: {message}{'; ' + nearby.strip() if nearby else ''}; see trainkit {verb} --help")

    class Formatter(HelpFormatter):
        def __init__(self, prog: str) -> None:
            super().__init__(prog, width=_columns() - 2)  # argparse would import shutil to find out

    takes, says = VERBS[verb]
    parser = Parser(
        formatter_class=Formatter,
        prog=f"trainkit {verb}",
        usage=f"trainkit {verb} {takes} [options]".replace("  ", " "),
        description=says[0].upper() + says[1:] + ".",
        allow_abbrev=False,
    )
    parser.set_defaults(verb=verb)
    if verb in ("run", "validate", "fill", "preview", "pack", "lock", "verify-resume", "bench", "probe", "lr-find"):
        parser.add_argument("words", nargs="*", metavar="RECIPE | key=value", help="recipe, and values to set in it")
    if verb in LOCKABLE:
        parser.add_argument("--locked", action="store_true", help=_help("--locked"))
    if verb == "run":
        parser.add_argument("--run-dir", metavar="DIR", help=_help("--run-dir DIR"))
        parser.add_argument("--seeds", metavar="N", help=_help("--seeds N"))
        parser.add_argument("--folds", metavar="N", help=_help("--folds N"))
        parser.add_argument("--executor", metavar="NAME", help=_help("--executor NAME"))
        parser.add_argument("--on", metavar="ADDRESS", help=_help("--on ADDRESS"))
        parser.add_argument("--resume", action="store_true", help=_help("--resume"))
        parser.add_argument("--fresh", action="store_true", help=_help("--fresh"))
        parser.add_argument("--smoke", action="store_true", help=_help("--smoke"))
        parser.add_argument("--profile", action="store_true", help=_help("--profile"))
    elif verb == "resume":
        parser.add_argument("words", nargs="*", metavar="RUN | key=value", help="run folder, and values to change")
        parser.add_argument("--extend", metavar="TIME", help=_help("--extend TIME"))
        parser.add_argument("--on", metavar="ADDRESS", help=_help("--on ADDRESS"))
        parser.add_argument("--profile", action="store_true", help=_help("--profile"))
    elif verb in ("verify-resume", "bench"):
        if verb == "bench":
            parser.add_argument("--rounds", type=int, default=7, metavar="R", help=_help("--rounds R"))
        parser.add_argument("--updates", type=int, default=0, metavar="N", help=_help("--updates N"))
    elif verb == "probe":
        parser.add_argument("--only", action="append", default=[], metavar="NAME,...", help=_help("--only NAME,..."))
        parser.add_argument("--html", metavar="FILE", help=_help("--html FILE"))
    elif verb == "lr-find":
        parser.add_argument("--setting", default="optimizer.lr", metavar="KEY", help=_help("--setting KEY"))
        parser.add_argument("--from", dest="low", type=float, metavar="LOW", help=_help("--from LOW"))
        parser.add_argument("--to", dest="high", type=float, metavar="HIGH", help=_help("--to HIGH"))
        parser.add_argument("--updates", type=int, default=100, metavar="N", help="updates of the test; default: 100")
        parser.add_argument("--linear", action="store_true", help=_help("--linear"))
        parser.add_argument("--plot", metavar="FILE", help="draw the losses: .png, .svg or .pdf")
        parser.add_argument("--html", metavar="FILE", help=_help("--html FILE"))
        parser.add_argument("--apply", action="store_true", help=_help("--apply"))
        parser.add_argument("--rule", metavar="NAME", help=_help("--rule NAME"))
        parser.add_argument("--out", metavar="FILE", help="with --apply: the new recipe file")
    elif verb == "pack":
        parser.add_argument(
            "--out", metavar="FILE", help="the pack; default: named as the recipe, with the ending .pack"
        )
        parser.add_argument("--no-data", action="store_true", help=_help("--no-data"))
    elif verb == "diff":
        parser.add_argument("words", nargs="*", metavar="A B", help="recipes, packs; run, study or ensemble folders")
        parser.add_argument("--markdown", action="store_true", help=_help("--markdown"))
    elif verb == "runs":
        parser.add_argument("folder", nargs="?", metavar="FOLDER", help="default: TRAINKIT_RUNS, else runs")
        parser.add_argument("--filter", action="append", default=[], metavar="TEXT", help=_help("--filter TEXT"))
        parser.add_argument("--sort", metavar="KEY", help=_help("--sort KEY"))
        parser.add_argument("--reverse", action="store_true", help=_help("--reverse"))
        parser.add_argument("--limit", type=int, metavar="N", help=_help("--limit N"))
        parser.add_argument("--columns", action="append", default=[], metavar="KEYS", help=_help("--columns KEYS"))
        parser.add_argument("--trials", action="store_true", help=_help("--trials"))
        parser.add_argument("--markdown", action="store_true", help=_help("--markdown"))
    elif verb == "compare":
        parser.add_argument("runs", nargs="*", metavar="RUN", help="run, study or ensemble folders")
        parser.add_argument("--by", choices=("epoch", "step", "time"), default="epoch", help=_help("--by AXIS"))
        parser.add_argument("--metric", action="append", default=[], metavar="NAME", help=_help("--metric NAME"))
        parser.add_argument("--require", action="append", default=[], metavar="TEXT", help=_help("--require TEXT"))
        parser.add_argument("--plot", metavar="FILE", help="draw the figure: .png, .svg or .pdf")
        parser.add_argument("--html", metavar="FILE", help=_help("--html FILE"))
        parser.add_argument("--markdown", action="store_true", help=_help("--markdown"))
    elif verb == "preview":
        parser.add_argument("--at", metavar="TIMES", help=_help("--at TIMES"))
        parser.add_argument("--plot", metavar="FILE", help=_help("--plot FILE"))
        parser.add_argument("--metrics", metavar="FILE", help=_help("--metrics FILE"))
    elif verb == "fill":
        parser.add_argument("--origin", action="store_true", help=_help("--origin"))
    elif verb == "list":
        parser.add_argument("kind", nargs="?", help="a kind of component, or 'recipes'")
        parser.add_argument("--plugins", action="store_true", help=_help("--plugins"))
    elif verb == "docs":
        parser.add_argument("words", nargs="*", metavar="PAGE | KIND NAME", help="such as: recipes, or: optimizer sgd")
    elif verb == "describe":
        parser.add_argument("names", nargs="*", metavar="KIND NAME", help="such as: optimizer sgd")
        parser.add_argument("--source", action="store_true", help=_help("--source"))
    elif verb == "hooks":
        parser.add_argument("words", nargs="*", metavar="key=value", help="values to set in the recipe of --trace")
        parser.add_argument("--trace", metavar="RECIPE", help=_help("--trace RECIPE"))
    elif verb == "new-recipe":
        parser.add_argument("--from", dest="source", metavar="RECIPE", required=True, help=_help("--from RECIPE"))
        parser.add_argument("--out", metavar="FILE", help="the new .toml file, or the folder for it; default: print it")
        parser.add_argument("--derive", action="store_true", help=_help("--derive"))
    elif verb == "migrate":
        parser.add_argument("recipe", metavar="RECIPE", help="recipe file, or package:name")
        parser.add_argument("--write", action="store_true", help=_help("--write"))
    elif verb == "report":
        parser.add_argument("run", metavar="RUN", help="run, study or ensemble folder")
        parser.add_argument("--html", metavar="FILE", help=_help("--html FILE"))
        parser.add_argument("--watch", action="store_true", help=_help("--watch"))
        parser.add_argument(
            "--split", choices=_SPLITS, help="of a run: whose predictions are shown; default on a page: val"
        )
        parser.add_argument("--top", type=int, default=10, metavar="N", help=_help("--top N"))
    elif verb == "ensemble":
        parser.add_argument(
            "words", nargs="*", metavar="RUN | key=value", help="run, checkpoint or study folders; settings"
        )
        parser.add_argument("--use", metavar="NAME", default="greedy", help=_help("--use NAME"))
        parser.add_argument("--out", metavar="DIR", help=_help("--out DIR"))
    elif verb in ("evaluate", "predict"):
        parser.add_argument("run", metavar="RUN", help="run or ensemble folder")
        parser.add_argument("--split", choices=_SPLITS, help="which samples; default: test")
    elif verb == "export":
        parser.add_argument("run", metavar="RUN", help="run, study or ensemble folder, or a checkpoint of a run")
        parser.add_argument("--out", metavar="FILE", required=True, help="a .pt2 file (torch.export) or .onnx file")
        parser.add_argument("--batch", metavar="SIZE", default="dynamic", help=_help("--batch SIZE"))
    elif verb == "import-weights":
        parser.add_argument("file", metavar="FILE", help="what torch.save wrote")
        parser.add_argument("--key", metavar="KEY", default="", help=_help("--key KEY"))
        parser.add_argument(
            "--out", metavar="FILE", required=True, help="a new .safetensors file, or the folder for it"
        )
    elif verb == "new-plugin":
        parser.add_argument("name", nargs="?", metavar="NAME", help="of the new package, such as trainkit-triangle")
        parser.add_argument("--kind", metavar="KIND", help=_help("--kind KIND"))
        parser.add_argument("--out", metavar="DIR", help="the folder to make; default: NAME, in the working directory")
        parser.add_argument("--template", action="store_true", help=_help("--template"))
    if verb == "predict":
        parser.add_argument("--prompt", metavar="TEXT", help=_help("--prompt TEXT"))
        parser.add_argument("--tokens", type=int, metavar="N", help=_help("--tokens N"))
        parser.add_argument("--temperature", type=float, metavar="T", help=_help("--temperature T"))
        parser.add_argument("--top-k", type=int, metavar="K", help=_help("--top-k K"))
        parser.add_argument("--seed", type=int, metavar="S", help=_help("--seed S"))
    if verb in ("schema", "predict"):
        parser.add_argument("--out", metavar="FILE", help="file to write")
    if verb in ("run", "resume"):
        parser.add_argument("--accept-drift", action="store_true", help=_help("--accept-drift"))
    parser.add_argument("-p", action="append", default=[], metavar="MODULE", help=_help("-p MODULE"))
    parser.add_argument("--without", action="append", default=[], metavar="PLUGIN", help=_help("--without PLUGIN"))
    parser.add_argument("--json", action="store_true", help=_help("--json"))
    parser.add_argument("-q", "--quiet", action="store_true", help=_help("-q, --quiet"))
    parser.add_argument("-v", "--verbose", action="count", default=0, help=_help("-v, --verbose"))
    parser.add_argument("--traceback", action="store_true", help=_help("--traceback"))
    return parser


def _columns() -> int:
    """The terminal's width, as `shutil.get_terminal_size` finds it."""
    with_columns = os.environ.get("COLUMNS", "")
    if with_columns.isdecimal() and int(with_columns):
        return int(with_columns)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):
        return 80


def _help(option: str) -> str:
    return OPTIONS[option].split(") ", 1)[-1]
