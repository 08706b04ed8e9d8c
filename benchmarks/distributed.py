"""What several processes are worth: ResNet-20 on 32x32 colour images, one thread each, the same global batch.

    python benchmarks/distributed.py [--quick] [--depth 20] [--processes 2] [--rounds 9]

Every contender has a group of processes of its own, which waits while the others have their turn: turns of a few
updates, A B C A B C ..., all in one run. Lightning joins where it is installed (`benchmarks/peers.py` says how).

The first table is by wall time and needs a machine with as many free cores as processes. The second counts the CPU
seconds of the busiest process, which other programs disturb less: what an update takes where every process has a core
of its own, without the time that one waits for another.

- plain loop: PyTorch as it comes, float32, batches by index_select, fused SGD; one process.
- plain DDP: the same within DistributedDataParallel with its defaults, each process half of the batch.
- plain DDP, tuned: channels last, gradients as views of the buckets, no buffers sent round before each forward pass.
- trainkit: a recipe, with and without `run.processes`, everything on; batch norm by each process's own statistics, as
  DistributedDataParallel has it, and by those of the whole batch.
- Lightning DDP: its Trainer with defaults (bar, logger, checkpoint each epoch), a `DataLoader` in memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from common import interleave, ratios, spread
from distributed_rank import BATCH, WORKS

NAMES = [name for name in WORKS if name not in ("reduce", "wide")]
RANK = Path(__file__).with_name("distributed_rank.py")


@dataclass
class Contender:
    """A group of processes that makes updates when it is told to.

    Args:
        name: its row.
        work: what each process does, a name of `distributed_rank.WORKS`.
        processes: how many there are.
        threads: threads of each.
        more: further words for the work.
        batch: samples in an update, of all processes together.
        cpu: CPU seconds of the busiest process in each turn.
        memory: the most that a process had so far, in MB.
    """

    name: str
    work: str
    processes: int = 1
    threads: int = 1
    more: str = ""
    batch: int = BATCH
    cpu: list[float] = field(default_factory=list)
    memory: float = 0.0

    def start(self, stack: contextlib.ExitStack, depth: int) -> None:
        """Start the processes, and wait until each has made its first update."""
        place = stack.enter_context(tempfile.TemporaryDirectory())
        self.errors = [Path(place) / f"rank{rank}.txt" for rank in range(self.processes)]
        port = free_port()
        self.ranks = [self.rank(rank, port, depth, place) for rank in range(self.processes)]
        stack.callback(self.stop)
        self.turn(0)
        self.cpu.clear()

    def rank(self, rank: int, port: int, depth: int, place: str) -> subprocess.Popen[str]:
        """Start one process, with the environment that torchrun would give it."""
        environ = {**os.environ, "OMP_NUM_THREADS": str(self.threads), "CUDA_VISIBLE_DEVICES": ""}
        environ["BENCH_BATCH"] = str(self.batch)
        if self.processes > 1:
            group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": self.processes, "LOCAL_WORLD_SIZE": self.processes}
            group |= {"GROUP_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": port}
            environ |= {name: str(value) for name, value in group.items()}
        words = [self.work, str(self.processes), str(self.threads), str(depth), place, self.more]
        with self.errors[rank].open("w") as errors:
            return subprocess.Popen(
                [sys.executable, str(RANK), *words],
                env=environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def turn(self, updates: int) -> float:
        """Make updates (none: wait for the first); seconds until the last process has made them."""
        for rank in self.ranks:
            if updates:
                rank.stdin.write(f"{updates}\n")  # type: ignore[union-attr]
                rank.stdin.flush()  # type: ignore[union-attr]
        said = [rank.stdout.readline() for rank in self.ranks]  # type: ignore[union-attr]
        if not all(said):
            texts = [file.read_text()[-2000:] for file in self.errors]
            raise RuntimeError(f"{self.name} has ended:\n" + "\n".join(texts))
        took = [json.loads(line) for line in said]
        wall, cpu, memory = (max(column) for column in zip(*took, strict=True))
        self.cpu.append(cpu)
        self.memory = memory
        return float(wall)

    def stop(self) -> None:
        """End the processes: they end where there is nothing more to read."""
        for rank in self.ranks:
            rank.stdin.close()  # type: ignore[union-attr]
        for rank in self.ranks:
            try:
                rank.wait(20)
            except subprocess.TimeoutExpired:
                rank.kill()
                rank.wait()


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def contenders(processes: int) -> list[Contender]:
    """What is compared."""
    several = f"{processes} processes"
    found = [
        Contender("plain loop, 1 process", "plain"),
        Contender(f"plain DDP, {several}", "ddp", processes),
        Contender(f"plain DDP, tuned, {several}", "ddp", processes, more="tuned"),
        Contender("trainkit, 1 process", "trainkit"),
        Contender(f"trainkit, 1 process, {processes} threads", "trainkit", threads=processes),
        Contender(f"trainkit, {several}", "trainkit", processes, more="local"),
        Contender(f'trainkit, {several}, batchnorm = "sync"', "trainkit", processes, more="sync"),
    ]
    if find_spec("lightning") is not None:
        found.insert(3, Contender(f"Lightning DDP, {several}", "lightning", processes))
    return found


def table(seconds: dict[str, list[float]], updates: int, bases: Sequence[str], clock: str) -> str:
    """A Markdown table: time of an update, and speed relative to some of the rows."""
    heads = " | ".join(f"x {base}" for base in bases)
    lines = [f"| contender | ms an update, median [min to max] | {heads} |", "|---" * (2 + len(bases)) + "|"]
    for name, values in seconds.items():
        cells = " | ".join(spread(ratios(seconds[base], values)) for base in bases)
        lines.append(f"| {name} | {spread([value / updates * 1e3 for value in values], 1)} | {cells} |")
    rounds = len(seconds[bases[0]])
    return "\n".join([*lines, "", f"{rounds} interleaved rounds of {updates} updates each; {clock}."])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of an update of a ResNet-8, few contenders")
    parser.add_argument("--depth", type=int, default=0, help="else 20, with --quick 8")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, help="leave the others out")
    options = parser.parse_args()
    depth = options.depth or (8 if options.quick else 20)
    updates = 1 if options.quick else 8
    rounds = options.rounds or (1 if options.quick else 9)
    several = f"{options.processes} processes"
    few = {f"plain DDP, {several}", "trainkit, 1 process", f"trainkit, {several}", f"Lightning DDP, {several}"}
    with contextlib.ExitStack() as stack:
        groups = []
        for group in contenders(options.processes):
            group.batch = 8 if options.quick else BATCH
            if group.work not in options.only or (options.quick and group.name not in few):
                continue
            try:
                group.start(stack, depth)
            except RuntimeError as error:
                print(f"left out: {error}", file=sys.stderr)
                continue
            groups.append(group)
        turns = {group.name: lambda group=group: group.turn(updates) for group in groups}
        if not options.quick:
            interleave(turns, 1)
        for group in groups:
            group.cpu.clear()
        wall = interleave(turns, rounds)
        cpu = {group.name: list(group.cpu) for group in groups}
    if not wall:
        sys.exit("no contender is left")
    one = next((name for name in wall if name == "trainkit, 1 process"), next(iter(wall)))
    ddp = next((name for name in wall if name.startswith("plain DDP")), one)
    bases = list(dict.fromkeys([one, ddp]))
    print(f"### ResNet-{depth}, batch {8 if options.quick else BATCH} in all\n")
    print(table(wall, updates, bases, f"wall time; load {os.getloadavg()[0]:.1f}") + "\n")
    print(table(cpu, updates, bases, "CPU time of the busiest process"))


if __name__ == "__main__":
    main()
