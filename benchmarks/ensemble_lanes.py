"""Ten members trained as lanes of one model, against one member trained by a plain loop; ratios of CPU seconds.

    python benchmarks/ensemble_lanes.py [--quick] [--case NAME] [--members N] [--rounds N]

The member is an MLP 64-128-10 on digits, batch 64, SGD with momentum. The loop gathers batches by `index_select`, has
torch's fused optimizer, and does nothing else: no evaluation, no log, no file. trainkit makes the whole ensemble, as
`trainkit run` does from a recipe with `[ensemble] use = "seeds"`: data orders and weights of ten seeds, evaluations,
metrics, logs, checkpoints and a run folder for each member, the choice, the artefact and the report (without pictures).

Each contender trains for two lengths, in processes of their own, on one thread, round by round in turn. "Whole" is all
CPU time but imports. "After warm-up" is the longer one less the shorter one: what training costs once all is compiled,
without what an ensemble is made of once. "Updates alone" is the update of all lanes by itself, timed after a hundred
that warm up, on batches that are gathered before.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from common import by_command, in_own_process, interleave, keep_imports, quick, ratios, spread, used, warm_up

HERE = Path(__file__).parent
BATCH = 64
# Updates in an epoch of the loop; the shorter and the longer training in epochs.
CASES = {
    "digits": {"data": 'use = "digits"', "updates": 20, "epochs": (50, 150)},
    "tiled": {"data": 'use = "tiled_digits"\nupdates = 500', "updates": 500, "epochs": (2, 6)},
}
RECIPE = """
recipe = 1
seed = 1
[run]
duration = "{epochs}ep"
threads = 1
{compile}
[data]
{data}
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
lr = 0.05
momentum = 0.9
no_decay = "none"
[ensemble]
use = "seeds"
members = {members}
executor = "lanes"
"""
COMPILED = 'compile = "step"'


def by_hand(case: str, epochs: int) -> float:
    """The plain loop, for one member; CPU seconds."""
    import torch
    from torch import nn
    from torch.nn.functional import cross_entropy

    torch.set_num_threads(1)
    keep_imports()
    inputs, targets = samples(case)
    begun = used()
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, fused=True)
    for _ in range(epochs):
        for index in torch.randperm(len(inputs)).split(BATCH):  # type: ignore[no-untyped-call]
            loss = cross_entropy(model(inputs.index_select(0, index)), targets.index_select(0, index))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
    return used() - begun


def samples(case: str):  # type: ignore[no-untyped-def]
    """Training samples: pixels ``(samples, 64)`` in 0 to 1, and classes."""
    from tiled_digits import tiled

    return tiled(CASES[case]["updates"], BATCH)  # type: ignore[arg-type]


def recipe_of(case: str, epochs: int, members: int, compiled: bool) -> str:
    """The recipe of the ensemble."""
    compile_ = COMPILED if compiled else ""
    return RECIPE.format(data=CASES[case]["data"], epochs=epochs, members=members, compile=compile_)


def by_trainkit(case: str, epochs: int, members: int, compiled: bool) -> float:
    """One ensemble, made as the command line does; CPU seconds, without those of importing torch."""
    return by_command(recipe_of(case, epochs, members, compiled), "-p", str(HERE / "tiled_digits.py"))


@functools.cache
def stacked_update(case: str, members: int, compiled: bool) -> Callable[[], object]:
    """One update of all lanes, on batches that are there."""
    import torch

    from trainkit.build import make_ready, prepare
    from trainkit.lanes.lane import Lane
    from trainkit.lanes.stack import Stack
    from trainkit.manager import Plugins
    from trainkit.protocols import silent
    from trainkit.recipe import load_recipe, trial_recipe

    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp())
    plugins = Plugins([str(HERE / "tiled_digits.py")])
    (folder / "recipe.toml").write_text(recipe_of(case, 1, members, compiled))
    recipe = load_recipe(folder / "recipe.toml", [], plugins)
    lanes = []
    for number in range(members):
        single = trial_recipe(recipe, {}, {"seed": number})
        run = prepare(single, plugins, folder, silent, say=lambda text: None)
        make_ready(run)
        lanes.append(Lane(run, single))
    batches = [[b for b in lane.run.feed.train(0) if len(b) == BATCH] for lane in lanes]
    stack, rows = Stack(lanes), itertools.cycle(list(zip(*batches, strict=True)))
    shutil.rmtree(folder)
    return lambda: stack.update(list(next(rows)))


@functools.cache
def raw_update(case: str) -> Callable[[], object]:
    """One update of the plain loop, on batches that are there."""
    import torch
    from torch import nn
    from torch.nn.functional import cross_entropy

    torch.set_num_threads(1)
    inputs, targets = samples(case)
    pairs = itertools.cycle(list(zip(inputs.split(BATCH), targets.split(BATCH), strict=True))[:-1])
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, fused=True)

    def update() -> None:
        x, y = next(pairs)
        cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return update


def timed(make: Callable[..., Callable[[], object]], updates: int, *arguments: object) -> float:
    """CPU seconds of so many updates, after a hundred that warm up."""
    update = make(*arguments)
    for _ in range(1 if quick() else 100):
        update()
    begun = time.process_time()
    for _ in range(updates):
        update()
    return time.process_time() - begun


COLUMNS = {False: "lanes", True: "lanes, compiled"}


def compare(name: str, members: int, rounds: int, epochs: tuple[int, int], updates: int, modes: Sequence[bool]) -> str:
    """The table of one case; ``modes`` says whether lanes are compiled, not, or both are timed."""
    with contextlib.ExitStack() as stack:
        own = functools.partial(in_own_process, stack)
        contenders: dict[str, Callable[[], float]] = {}
        for length in epochs:
            contenders[f"loop {length}"] = own(by_hand, name, length)
            for compiled in modes:
                contenders[f"lanes {compiled} {length}"] = own(by_trainkit, name, length, members, compiled)
        contenders["loop alone"] = own(timed, raw_update, updates, name)
        for compiled in modes:
            contenders[f"lanes {compiled} alone"] = own(timed, stacked_update, updates, name, members, compiled)
        warm_up(contenders)
        seconds = interleave(contenders, rounds)
    few, many = epochs
    lines = [
        f"### {name}: {members} members, epochs of {CASES[name]['updates']} updates",
        "",
        f"| x one member by the plain loop: median [min to max] | {' | '.join(COLUMNS[mode] for mode in modes)} |",
        f"|---|{'---|' * len(modes)}",
    ]

    def row(label: str, of: Callable[[str], list[float]]) -> str:
        base = of("loop")
        if min(base) <= 0:  # the clock of CPU time has steps of a hundredth of a second
            return f"| {label} |{' too short to tell |' * len(modes)}"
        return f"| {label} | {' | '.join(spread(ratios(of(f'lanes {mode}'), base)) for mode in modes)} |"

    def after(who: str) -> list[float]:
        return [a - b for a, b in zip(seconds[f"{who} {many}"], seconds[f"{who} {few}"], strict=True)]

    lines.append(row(f"whole, {few} epochs", lambda who: seconds[f"{who} {few}"]))
    lines.append(row(f"whole, {many} epochs", lambda who: seconds[f"{who} {many}"]))
    lines.append(row(f"after warm-up, {many - few} epochs", after))
    lines.append(row(f"updates alone, {updates}", lambda who: seconds[f"{who} alone"]))
    raw = statistics.median(after("loop")) / (many - few) / CASES[name]["updates"]  # type: ignore[operator]
    alone = statistics.median(seconds["loop alone"]) / updates
    lines += [
        "",
        f"{rounds} interleaved rounds; CPU time, one thread. An update of the plain loop: {raw * 1e6:.0f} µs,",
    ]
    return "\n".join([*lines, f"{alone * 1e6:.0f} µs without gathering its batch."])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two members once, nothing compiled, to see that it works")
    parser.add_argument("--case", choices=list(CASES), action="append", help="only this one")
    parser.add_argument("--members", type=int, default=0, help="else 10, with --quick 2")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    members = options.members or (2 if options.quick else 10)
    for name in options.case or (["digits"] if options.quick else CASES):
        epochs = CASES[name]["epochs"]
        rounds, length, updates = (1, (1, 2), 20) if options.quick else (options.rounds, epochs, 2000)
        modes = (False,) if options.quick else (False, True)  # compiling takes a minute
        print(compare(name, members, rounds, length, updates, modes), flush=True)  # type: ignore[arg-type]
        print()


if __name__ == "__main__":
    main()
