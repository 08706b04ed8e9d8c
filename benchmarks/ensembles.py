"""Ensembles on digits: beside Ensemble-PyTorch, and every kind of trainkit's in one table.

    python benchmarks/ensembles.py [--quick] [--rounds N] [--peers | --kinds] [--write]

All train an MLP 64-128-10 on the same 719 digits and are measured on the same 719 others; 359 more are for choices and
temperature, which the peer has no use for. Each round has another seed; intervals are those of Student's t at 95 %,
over rounds; of a difference, Welch's.

Beside the peer: batch 64, SGD with momentum 0.9, rate 0.1 falling along a cosine (of snapshots and fast geometric
ensembles, as these are defined), as many members and epochs on both sides, one thread, in turns. CPU seconds of the
peer are those of `fit` and `predict` with data in memory. trainkit's are those of training (data order, evaluations,
logs, checkpoints and run folders among it), and of the whole `trainkit run` but imports and the report: also plugins,
recipe, data, choice and temperature, the artefact and its checks. Fusion, members trained together on the mean of their
outputs, has no counterpart: it is held against what costs no more, five snapshots of one run with the epochs of one
member.

`--write` puts the tables into docs/ensembles.md, between their marks. Figures follow from the seeds, CPU seconds do
not.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from common import keep_imports, mean_cell, used
from ensemble_kinds import FAST, FIGURES, ROOT, SPLIT, all_kinds, called, figures_of, table_of_kinds, without_curves

PAGE = ROOT / "docs" / "ensembles.md"
RECIPE = """
recipe = 1
[run]
threads = 1
[data]
use = "digits"
batch_size = 64
[model]
use = "mlp"
widths = [128]
[loss]
use = "cross_entropy"
[[metric]]
use = "accuracy"
[optimizer]
use = "sgd"
lr = 0.1
momentum = 0.9
no_decay = "none"
[schedule]
use = "cosine"
[ensemble]
"""
SHARES = tuple(float(part.partition("=")[2]) for part in SPLIT)
FORMS = {**FIGURES, "training": "{:.2f}", "cpu": "{:.2f}"}
CYCLE = 4  # epochs of a cycle of fast geometric ensembling: the peer's default
FGE = 'cycle = "{cycle}ep"\nstart = "{epochs}ep"\nhigh = 0.5\nlow = 0.001\n'
# The peer's kind, and ours that it is held against; what the table calls ours, its name, and more of its settings.
CHEAP = "`snapshots` of one member's epochs"
PAIRS = {
    "voting": ("`seeds`", "seeds", ""),
    "bagging": ("`bagging`", "bagging", ""),
    "snapshot": ("`snapshots`", "snapshots", ""),
    "fusion": (CHEAP, "snapshots", ""),
    "fast geometric": ("`fge`", "fge", FGE),
}


def by_peer(name: str, members: int, epochs: int, seed: int) -> dict[str, float]:
    """One of the peer's ensembles: its figures, and CPU seconds."""
    import ensemble_peers as peers

    from trainkit.scoring import scores

    keep_imports()
    splits, spec = peers.digits(*SHARES)
    outputs, seconds = peers.train(name, splits, members, epochs * members if name == "snapshot" else epochs, seed)
    found = scores(outputs, splits["test"][1], spec)
    return {**{figure: found[figure] for figure in FIGURES}, "training": seconds, "cpu": seconds}


def by_trainkit(use: str, more: str, members: int, epochs: int, total: int, seed: int) -> dict[str, float]:
    """One of ours, as `trainkit run` makes it; `total` is the length of each run in epochs."""
    import torch

    from trainkit.ensemble import report as reports
    from trainkit.ensemble.training import Training

    torch.set_num_threads(1)
    keep_imports()
    marks: dict[str, float] = {}
    make_report, train = reports.report_of, Training.run

    def report_of(*arguments: Any) -> Any:
        marks["made"] = used()
        return make_report(*arguments)

    def run(self: Training, *arguments: Any) -> None:
        begun = used()
        train(self, *arguments)
        marks["training"] = used() - begun

    count = "cycles" if use == "snapshots" else "members"
    table = f'use = "{use}"\n{count} = {members}\n{more.format(epochs=epochs, cycle=CYCLE)}'
    with tempfile.TemporaryDirectory() as folder, without_curves():
        (Path(folder) / "recipe.toml").write_text(RECIPE + table)
        words = [*SPLIT, *FAST, f"seed={seed}", f"run.duration={total}ep", "--run-dir", str(Path(folder) / "made")]
        reports.report_of, Training.run = report_of, run  # type: ignore[method-assign]
        try:
            begun = used()
            report = called("run", str(Path(folder) / "recipe.toml"), *words)
        finally:
            reports.report_of, Training.run = make_report, train  # type: ignore[method-assign]
    found = report["ensemble"]
    raw = {f"raw {name}": value for name, value in figures_of(found, "raw").items()}
    cost = {"training": marks["training"], "cpu": marks["made"] - begun}
    return {**figures_of(found), **raw, **cost}


def apart(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """Welch's interval of the difference of two means at 95 %."""
    from scipy.stats import ttest_ind

    found = ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    return float(found.low), float(found.high)


def beside_peer(rounds: int, members: int, epochs: int) -> str:
    """The table of both libraries."""
    import ensemble_peers as peers

    length = {"voting": epochs, "bagging": epochs, "snapshot": epochs * members, "fusion": epochs}
    length["fast geometric"] = epochs + peers.fge_epochs(members, CYCLE)
    found: dict[str, list[dict[str, float]]] = {}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as theirs, ProcessPoolExecutor(1, spawn) as ours:
        for seed in range(rounds + 1):  # the first one imports, and counts nowhere
            for name, (label, use, more) in PAIRS.items():
                one = theirs.submit(by_peer, name, members, epochs, seed).result()
                if seed:
                    found.setdefault(f"torchensemble: {name}", []).append(one)
                two = ours.submit(by_trainkit, use, more, members, epochs, length[name], seed).result()
                if seed:
                    found.setdefault(f"trainkit: {label}", []).append(two)
    return peers_table(found, rounds)


def peers_table(found: Mapping[str, list[dict[str, float]]], rounds: int) -> str:
    """Both libraries, kind by kind, and how far apart they are."""
    lines = [
        "| ensemble | accuracy | NLL | ECE | training, CPU s | whole, CPU s | NLL without temperature |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (label, *_) in PAIRS.items():
        labels = f"torchensemble: {name}", f"trainkit: {label}"
        for one in labels:
            rows, ours = found[one], one == labels[1]
            cells = [mean_cell([row[figure] for row in rows], form) for figure, form in FORMS.items()]
            cells.append(mean_cell([row["raw nll"] for row in rows], "{:.4f}") if ours else "")
            lines.append(f"| {one} | {' | '.join(cells)} |")
        if rounds == 1:
            continue
        differences = []
        for figure, form in FORMS.items():
            theirs, ours_ = ([row[figure] for row in found[one]] for one in labels)
            low, high = apart(ours_, theirs)
            differences.append(f"{signed(form, low)} to {signed(form, high)}")
        lines.append(f"| difference, at 95 % | {' | '.join(differences)} | |")
    return "\n".join([*lines, "", f"{rounds} interleaved rounds; mean [interval of the mean at 95 %]."])


def signed(form: str, value: float) -> str:
    """A number with its sign."""
    return form.replace("{:", "{:+").format(value)


def kinds(rounds: int, jobs: int, quick: bool) -> str:
    """The table of every kind."""
    if quick:
        found = all_kinds([1], 1, ("run.duration=2ep",), (), ("`folds`", "`packed` (a model)"))
    else:
        found = all_kinds(range(1, rounds + 1), jobs)
    return table_of_kinds(found)


def write(name: str, table: str) -> None:
    """Put a table between its marks."""
    text = PAGE.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    PAGE.write_text(f"{before}{begin}\n{table}\n{end}{after}", encoding="utf-8")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few epochs once, to see that it works")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--members", type=int, default=5, help="beside the peer")
    parser.add_argument("--epochs", type=int, default=30, help="of each member, beside the peer")
    parser.add_argument("--jobs", type=int, default=2, help="rounds of the table of kinds at once")
    parser.add_argument("--peers", action="store_true", help="only the table beside the peer")
    parser.add_argument("--kinds", action="store_true", help="only the table of kinds")
    parser.add_argument("--write", action="store_true", help="the tables into docs/ensembles.md")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    if not options.kinds:
        import ensemble_peers

        if ensemble_peers.installed():
            members, epochs = (2, 1) if options.quick else (options.members, options.epochs)
            table = beside_peer(rounds, members, epochs)
            print(table, flush=True)
            if options.write and not options.quick:
                write("table beside Ensemble-PyTorch", table)
        else:
            print("torchensemble is not installed (pip install '.[bench]'): what it gives is left out", flush=True)
        print()
    if not options.peers:
        table = kinds(rounds, options.jobs, options.quick)
        print(table)
        if options.write and not options.quick:
            write("table of kinds", table)


if __name__ == "__main__":
    main()
