"""Which way of summing the gradients of several processes costs least: a ResNet-20, one thread each, gloo.

    python benchmarks/gradient_sums.py [--quick] [--batch 2]

It is one of two processes, and starts the other; with torchrun there are as many as that says.

Few samples for each process let what is not computing show. All ways take turns of five updates in one group. The first
process prints wall and CPU milliseconds of an update, least and median.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
import torch.distributed as dist
from distributed import free_port
from distributed_rank import model
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from trainkit.distributed import Group
from trainkit.distributed.buckets import Bucket, Overlapped

UPDATES = 5  # in a turn; with --quick 1
Sum = Callable[[], None]


def flattened(parameters: Sequence[Tensor]) -> Sum:
    """One sum of new memory, copied back into the gradients."""

    def add_up() -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients]).div_(dist.get_world_size())
        dist.all_reduce(flat)
        torch._foreach_copy_(gradients, views(flat, gradients))

    return add_up


def exchanged(parameters: Sequence[Tensor]) -> Sum:
    """One sum of memory kept for it, whose views become the gradients."""
    flat = torch.empty(sum(parameter.numel() for parameter in parameters))
    places = views(flat, parameters)

    def add_up() -> None:
        torch._foreach_copy_(places, [parameter.grad for parameter in parameters])
        dist.all_reduce(flat.div_(dist.get_world_size()))
        for parameter, place in zip(parameters, places, strict=True):
            parameter.grad = place

    return add_up


def bucket(parameters: Sequence[Tensor], group: Group) -> Sum:
    """As trainkit does it on a processor: new memory each time, whose views become the gradients."""

    def add_up() -> None:
        held = Bucket(parameters)
        held.gather()
        group.sum_(held.flat)
        for parameter, view in zip(parameters, held.views, strict=True):
            parameter.grad = view

    return add_up


def views(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Pieces of the memory with the shapes of some tensors."""
    pieces = flat.split([tensor.numel() for tensor in like])
    return [piece.view_as(tensor) for piece, tensor in zip(pieces, like, strict=True)]


def update(
    forward: nn.Module, parameters: Sequence[Tensor], batch: tuple[Tensor, Tensor], add_up: Sum, pieces: Any = None
) -> Callable[[], None]:
    """An update whose gradients are summed after its backward pass, or within it by pieces."""
    optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9, fused=True)

    def once() -> None:
        optimizer.zero_grad()
        loss = cross_entropy(forward(batch[0]), batch[1])
        if pieces is None:
            loss.backward()
        else:
            with pieces.last():
                loss.backward()
        add_up()
        optimizer.step()

    return once


def ways(batch: tuple[Tensor, Tensor], depth: int) -> dict[str, Callable[[], None]]:
    """An update by each way of summing."""

    def nothing() -> None:
        pass

    group = Group(dist.get_rank(), dist.get_world_size())
    found = {}
    after: dict[str, Callable[[Sequence[Tensor]], Sum]] = {
        "not summed": lambda parameters: nothing,
        "one sum, copied back": flattened,
        "one sum, views of kept memory": exchanged,
        "one sum, views of new memory (trainkit)": partial(bucket, group=group),
    }
    for name, way in after.items():
        net = model(depth)
        own = list(net.parameters())
        found[name] = update(net, own, batch, way(own))
    for name, settings in {
        "DistributedDataParallel": {},
        "DistributedDataParallel, gradient_as_bucket_view": {"gradient_as_bucket_view": True},
        "DistributedDataParallel, static_graph": {"static_graph": True},
        "DistributedDataParallel, buckets of 250 kB": {"bucket_cap_mb": 0.25},
    }.items():
        net = DistributedDataParallel(model(depth), forward_sync_buffers=False, **settings)  # type: ignore[arg-type]
        found[name] = update(net, list(net.parameters()), batch, nothing)
    for count in (2, 4):
        net = model(depth)
        own = list(net.parameters())
        most = sum(parameter.numel() * 4 for parameter in own) // count
        pieces = Overlapped(own, group, most)
        found[f"{count} pieces from hooks, while the rest computes"] = update(net, own, batch, pieces.finish, pieces)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round, to see that it works")
    parser.add_argument("--batch", type=int, default=2, help="samples of each process")
    options = parser.parse_args()
    other = None
    if "RANK" not in os.environ:
        place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        os.environ |= {"OMP_NUM_THREADS": "1", "RANK": "0", **place}
        other = subprocess.Popen([sys.executable, *sys.argv], env={**os.environ, "RANK": "1"})
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    data = torch.randn(options.batch, 3, 32, 32), torch.randint(0, 10, (options.batch,))
    updates = 1 if options.quick else UPDATES
    found = ways(data, 8 if options.quick else 20)
    wall: dict[str, list[float]] = {name: [] for name in found}
    cpu: dict[str, list[float]] = {name: [] for name in found}
    for number in range(2 if options.quick else 41):
        for name, once in found.items():
            dist.barrier()
            begun = time.perf_counter(), time.process_time()
            for _ in range(updates):
                once()
            if number:  # the first is a warm-up
                wall[name].append((time.perf_counter() - begun[0]) / updates * 1e3)
                cpu[name].append((time.process_time() - begun[1]) / updates * 1e3)
    if dist.get_rank() == 0:
        print("| gradients | wall ms: least, median | CPU ms: least, median |\n|---|---|---|")
        for name in found:
            cells = (f"{min(of[name]):.1f}, {statistics.median(of[name]):.1f}" for of in (wall, cpu))
            print(f"| {name} | " + " | ".join(cells) + " |")
    dist.destroy_process_group()
    if other is not None:
        sys.exit(other.wait())


if __name__ == "__main__":
    main()
