"""The words of the command line: verbs, options, and what each verb takes."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as in trainkit/__init__.py: typing is not worth its import for ``--help``
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable
    from pathlib import Path

# In the order of a user's day; `--help` and docs/command-line.md show the same.
VERBS = {
    "run": (
        "RECIPE [key=value ...] [--seeds N] [--folds N]",
        "train, search or make an ensemble as the recipe says; a bare recipe means run",
    ),
    "validate": ("RECIPE ... [key=value ...]", "find every problem of recipes, run nothing"),
    "fill": ("RECIPE [key=value ...]", "print the recipe with all defaults, as TOML"),
    "preview": (
        "RECIPE [key=value ...] [--at TIMES] [--plot FILE] [--metrics FILE]",
        "show every scheduled value over the run, and what looks wrong with it",
    ),
    "pack": (
        "RECIPE [key=value ...] [--out FILE] [--no-data]",
        "put a recipe and all that it extends into one file, which runs elsewhere as a recipe does",
    ),
    "resume": ("RUN [key=value ...]", "continue a run from its newest checkpoint, a search or ensemble, bit for bit"),
    "verify-resume": (
        "RECIPE [key=value ...] [--updates N]",
        "kill and continue a short run of the recipe, and say whether it ends alike",
    ),
    "bench": (
        "RECIPE [key=value ...] [--updates N] [--rounds R]",
        "time a recipe beside a plain PyTorch loop, and without each of its means of speed",
    ),
    "probe": (
        "RECIPE [key=value ...] [--only NAME,...] [--html FILE]",
        "make the checks that a careful practitioner makes before a long run; nothing is written",
    ),
    "lr-find": (
        "RECIPE [key=value ...] [--setting KEY] [--from LOW] [--to HIGH] [--plot FILE] [--apply]",
        "raise the learning rate, or another number, update by update on a copy, and say which values are good",
    ),
    "list": ("[KIND | recipes] [--plugins]", "list components, packaged recipes, or the plugins"),
    "describe": ("KIND NAME [--source]", "show a component: settings, types, defaults, an example; or its code"),
    "docs": ("[PAGE | KIND NAME]", "say where a page of the documentation lies, or the page of a component"),
    "hooks": (
        "[--trace RECIPE [key=value ...]]",
        "list the hooks that a plugin can implement, or those that a short run calls",
    ),
    "plugins": ("", "list the installed plugins and their state"),
    "new-recipe": (
        "--from RECIPE [--out FILE] [--derive]",
        "copy a packaged recipe, so that it runs where it is put; or begin one that extends it",
    ),
    "lock": ("RECIPE [key=value ...]", "write down the SHA-256 of a recipe's bases and its versions, for --locked"),
    "migrate": ("RECIPE [--write]", "show what the newest format changes in an older recipe, or write it so"),
    "schema": ("[--out FILE]", "write a JSON Schema of recipes, for editors"),
    "diff": ("A B [--markdown]", "what differs between two recipes, packs, runs, studies or ensembles"),
    "compare": (
        "RUN ... [--plot FILE] [--html FILE] [--require TEXT]",
        "runs beside each other: tables, a figure, a page, and whether differences are real",
    ),
    "runs": (
        "[FOLDER] [--filter 'KEY=VALUE'] [--sort KEY] [--limit N] [--columns KEYS]",
        "find runs among thousands: those below a folder as a table, by their settings and results",
    ),
    "report": (
        "RUN [--html FILE] [--watch]",
        "show what a run, search or ensemble has come to, in words or as a page; also while it goes on",
    ),
    "ensemble": (
        "RUN ... [--use NAME] [key=value ...] [--out DIR]",
        "make one model of finished runs, of checkpoints, or of the trials of a search",
    ),
    "evaluate": ("RUN [--split SPLIT]", "measure a finished run or ensemble on a split"),
    "predict": ("RUN [--split SPLIT] [--out FILE]", "write what a finished run or ensemble predicts for a split"),
    "export": ("RUN --out FILE [--batch SIZE]", "write a finished run or ensemble as one program: .pt2 or .onnx"),
    "import-weights": ("FILE --out FILE [--key KEY]", "make safetensors of another program's .pt, .pth or .bin file"),
    "new-plugin": (
        "NAME --kind KIND [--out DIR]",
        "make a project that holds a plugin: a component, a recipe, tests that pass",
    ),
    "doctor": ("", "check versions, devices, plugins and folders of this machine"),
}
OPTIONS = {
    "--run-dir DIR": "(run) the run folder; default: a new one under TRAINKIT_RUNS, else under runs",
    "--seeds N": "(run) the same with N seeds, counted on from the recipe's, or with those of a list: 3,7,11",
    "--folds N": "(run) the same N times, each time with another part of the samples held out; with --seeds every pair",
    "--executor NAME": "(run) where the runs of --seeds and --folds are trained; default: as if each were made alone",
    "--resume": "(run) continue the run in --run-dir; where there is none, begin it",
    "--fresh": "(run) begin anew in --run-dir; the run that it holds is kept aside, in .old-1",
    "--extend TIME": "(resume) make the run longer by 20ep, or 0.5dur: half as long again; schedules keep their plan",
    "--accept-drift": "(run, resume) go on although versions, device or a pack's data have changed, or state is lost",
    "--smoke": "(run) two updates, one evaluation, one save and load, in seconds",
    "--profile": "(run, resume) show afterwards where the time of an update went",
    "--at TIMES": "(preview) times to show, such as 0,137,2ep,0.5dur; a bare number counts updates",
    "--plot FILE": "(preview, compare, lr-find) draw the values over the whole run: .png, .svg or .pdf",
    "--metrics FILE": "(preview) play the figures of a metrics.jsonl, or of JSON, through the reactions",
    "--updates N": "(verify-resume, bench, lr-find) length of trial, round or test; default: a dozen, a second, 100",
    "--rounds R": "(bench) how often each contender is timed; default: 7",
    "--use NAME": "(ensemble) the ensembler; default: greedy; key=value are its settings",
    "--out DIR": "(ensemble) the ensemble folder; default: a new one under TRAINKIT_RUNS, else under runs",
    "--html FILE": "(report, compare, probe, lr-find) write a page that opens in any browser, without a network",
    "--only NAME,...": "(probe) the checks to make, such as initial-loss,overfit; default: all",
    "--watch": "(report) make the page anew while the run goes on; without --html it is report.html in its folder",
    "--top N": "(report) how many of the best trials, or members, are listed; default: 10",
    "--plugins": "(list) the installed plugins, their kinds of component, and their state, as `plugins` does",
    "--source": "(describe) print the code of the factory instead",
    "--trace RECIPE": "(hooks) train a few updates, and show each call of a hook: arguments, who answered, what",
    "--setting KEY": "(lr-find) the number to raise, such as optimizer.weight_decay; default: optimizer.lr",
    "--from LOW": "(lr-find) the first value; default: 1e-7 for a learning rate",
    "--to HIGH": "(lr-find) the last value; default: 10 for a learning rate",
    "--linear": "(lr-find) raise it by equal steps; default: by equal factors",
    "--apply": "(lr-find) write the value into the recipe, or with --out FILE into a copy; comments stay",
    "--rule NAME": "(lr-find) the suggestion that --apply writes: steepest (default), valley; harmless, lowest",
    "--locked": "(with a recipe) hold bases and distributions to the lock file beside it: `trainkit lock RECIPE`",
    "--from RECIPE": "(new-recipe) the recipe to begin with: package:name, or a file",
    "--derive": "(new-recipe) write a short recipe that extends it, instead of a copy",
    "--write": "(migrate) write the file in the newest format; comments stay",
    "--origin": "(fill) show where each value comes from instead",
    "--no-data": "(pack) do not look at the data: nobody is told later that it is other data",
    "--by AXIS": "(compare) what curves are drawn against: epoch (the default), step or time",
    "--metric NAME": "(compare) a figure to show, such as val.accuracy; may be repeated; default: those of validation",
    "--require TEXT": '(compare) such as "val.accuracy>=0.98": else the exit code is 1; may be repeated',
    "--filter TEXT": "(runs) such as 'optimizer.use=adamw' or 'val.accuracy>=0.9'; may be repeated: all must hold",
    "--sort KEY": "(runs) by a setting or figure, the best first; default: by time, the newest first",
    "--reverse": "(runs) in the opposite order",
    "--limit N": "(runs) how many are shown; default: 30, with --json all; 0: all",
    "--columns KEYS": "(runs) what to show of each, with commas between; default: what differs, and its figures",
    "--trials": "(runs) also the runs within studies, ensembles and repeats",
    "--markdown": "(diff, compare, runs) write the tables as Markdown",
    "--batch SIZE": "(export) samples of each call; default: dynamic, any number",
    "--key KEY": "(import-weights) the table of weights in the file, such as state_dict; default: the only one",
    "--kind KIND": "(new-plugin) what its component is, such as schedule; `trainkit list` shows every kind",
    "--template": "(new-plugin) print where the template lies, for Copier",
    "-p MODULE": "also use the plugin in this module or file; may be repeated",
    "--without PLUGIN": "leave an installed plugin out; may be repeated",
    "--json": "write one JSON object to standard output",
    "-q, --quiet": "show errors only",
    "-v, --verbose": "show notes and timings too",
    "--traceback": "show Python's traceback of an error",
    "--version": "show the version",
    "-h, --help": "show this text, or with a verb what it takes",
}
_TAKES_VALUE = (
    *("--setting", "--to", "--rule"),
    *("--by", "--metric", "--only", "--require"),
    *("--filter", "--sort", "--limit", "--columns"),
    *("--seeds", "--folds", "--executor"),
    *("-p", "--without", "--run-dir", "--extend", "--updates", "--rounds", "--top"),
    *(
        "--trace",
        "--at",
        "--plot",
        "--metrics",
        "--split",
        "--out",
        "--html",
        "--key",
        "--use",
        "--batch",
        "--kind",
        "--from",
    ),
)
LOCKABLE = ("run", "validate", "fill", "preview", "verify-resume", "bench", "probe", "lr-find")
_SPLITS = ("train", "val", "test")
STUDY_LOG = "study.jsonl"  # the folder that has it holds a study
STUDY_ENSEMBLE = "ensemble"  # in a study: the folder of the ensemble of its trials
ENSEMBLE = "ensemble.json"  # the folder that has it holds an ensemble that predicts
REPEATS = "repeats.json"  # the folder that has it holds runs of one recipe: {"over": "seed", "runs": ["seed-17", ...]}


def help_text() -> str:
    """What ``trainkit --help`` prints."""
    lines = ["usage: trainkit RECIPE [key=value ...] [options]", "       trainkit VERB ... [options]", "", "verbs:"]
    lines += [f"  {verb:<15} {says}" for verb, (_, says) in VERBS.items()]
    lines += ["", "trainkit VERB --help shows what a verb takes."]
    lines += ["", "options:", *(f"  {option:<18} {says}" for option, says in OPTIONS.items())]
    lines += ["", "A recipe is a TOML file, or package:name for a packaged one (`trainkit list recipes`).", ""]
    lines += ["Exit codes: 0 done, 1 defect, 2 wrong recipe or command line, 3 machine or plugin, 4 run failed,"]
    lines += ["            5 no checkpoint, 75 stopped early and saved, 130 or 143 stopped at once."]
    return "\n".join(lines)


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
        parser.add_argument("--resume", action="store_true", help=_help("--resume"))
        parser.add_argument("--fresh", action="store_true", help=_help("--fresh"))
        parser.add_argument("--smoke", action="store_true", help=_help("--smoke"))
        parser.add_argument("--profile", action="store_true", help=_help("--profile"))
    elif verb == "resume":
        parser.add_argument("words", nargs="*", metavar="RUN | key=value", help="run folder, and values to change")
        parser.add_argument("--extend", metavar="TIME", help=_help("--extend TIME"))
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
        parser.add_argument("--split", choices=_SPLITS, default="test", help="which samples; default: test")
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


def first_positional(words: list[str]) -> int | None:
    """Find the first word that is neither an option nor an option's value."""
    place = 0
    while place < len(words):
        word = words[place]
        if word == "--":
            return place + 1 if place + 1 < len(words) else None
        if word == "-" or not word.startswith("-"):
            return place
        place += 2 if word in _TAKES_VALUE else 1
    return None


def may_be_recipe(word: str) -> bool:
    """Whether a word that is no verb can stand for a recipe, or for a value to set in one."""
    return word == "-" or any(mark in word for mark in "./:=\\") or os.path.exists(word)


def split_words(words: list[str]) -> tuple[list[str], list[str]]:
    """Tell recipes from ``key=value``; a file whose name holds an equals sign is a recipe."""
    overrides = [word for word in words if "=" in word and not os.path.exists(word)]
    return [word for word in words if word not in overrides], overrides


def near(word: str, known: Iterable[str]) -> str:
    """The question ``did you mean 'x'?  ``, or nothing where no known word is near."""
    import difflib

    found = difflib.get_close_matches(word, list(known), 1, cutoff=0.5)
    return f"did you mean '{found[0]}'?  " if found else ""


def run_folder(text: str) -> Path:
    """The run folder that a word names, which must exist."""
    from pathlib import Path

    path = Path(text)
    if not path.is_dir():
        parent = path.parent if path.parent.is_dir() else Path()
        nearby = near(path.name, [entry.name for entry in parent.iterdir() if entry.is_dir()])
        raise usage_error(f"{text}: no such run folder; {nearby}".rstrip("; "))
    return path


def holds_ensemble(folder: Path) -> bool:
    """Whether a folder holds an ensemble, whole or on the way; of a study, its ensemble has a folder of its own."""
    if (folder / ENSEMBLE).is_file():
        return True
    if (folder / STUDY_LOG).is_file():
        return False
    try:
        with open(folder / "recipe.toml", encoding="utf-8", errors="replace") as file:
            return "[ensemble]" in map(str.strip, file.read(1 << 20).splitlines())  # no recipe of a single run has it
    except OSError:
        return False


def usage_error(message: str) -> Exception:
    """The error of a wrong command line."""
    from trainkit.errors import UsageError

    return UsageError(message)
