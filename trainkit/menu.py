"""The verbs and options of the command line, and its help."""

from __future__ import annotations

# In the order of a user's day; `--help` and docs/command-line.md show the same.
VERBS = {
    "run": (
        "RECIPE [key=value ...] [--seeds N] [--folds N] [--on ADDRESS]",
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
    "predict": (
        "RUN [--split SPLIT | --prompt TEXT] [--out FILE]",
        "write what a finished run or ensemble predicts for a split, or how a text goes on",
    ),
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
    "--on ADDRESS": "(run, resume) train on a cluster, such as ray://HOST:10001; auto: the one this machine is part of",
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
    "--prompt TEXT": "(predict) a text, which the model writes on",
    "--tokens N": "(predict) with --prompt: how many tokens it writes; default: 200",
    "--temperature T": "(predict) with --prompt: 0 takes the likeliest token always, 1 (default) all by their chances",
    "--top-k K": "(predict) with --prompt: draw from the K likeliest tokens alone",
    "--seed S": "(predict) with --prompt: what is drawn follows from it; default: the recipe's",
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
    *("--seeds", "--folds", "--executor", "--on"),
    *("--prompt", "--tokens", "--temperature", "--top-k", "--seed"),
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
