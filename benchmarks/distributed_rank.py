"""One process of a contender of distributed.py: makes as many updates as each line of standard input says.

    python benchmarks/distributed_rank.py WORK PROCESSES THREADS DEPTH FOLDER MORE

It answers each line with the wall and CPU seconds that the updates took and the most memory so far in MB, and ends
where there is nothing to read.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))

BATCH = int(os.environ.get("BENCH_BATCH", "128"))  # of all processes together
EPOCH = 64  # updates
RECIPE = """
recipe = 1
[run]
duration = "10000ep"
threads = {threads}
device = "cpu"
{more}
[data]
use = "random_images"
updates = {updates}
batch_size = {batch}
[model]
use = "resnet"
depth = {depth}
[loss]
use = "cross_entropy"
[optimizer]
use = "sgd"
lr = 0.01
momentum = 0.9
"""


WIDE = """
recipe = 1
[run]
duration = "10000ep"
threads = 1
device = "cpu"
save_every = "1dur"
processes = {processes}
strategy = "{more}"
[data]
use = "synthetic"
samples = 3200
features = [64]
batch_size = 32
[model]
use = "mlp"
widths = [{width}, {width}, {width}, {width}]
[loss]
use = "cross_entropy"
[optimizer]
use = "adamw"
"""


class Turns:
    """Lets as many updates pass as it is told to, then waits; both ways by the process's standard streams."""

    def __init__(self) -> None:
        self.answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what is printed otherwise is no answer
        self.left = 1
        self.begun = time.perf_counter(), time.process_time()

    def pass_on(self) -> None:
        """An update was made."""
        self.left -= 1
        if self.left:
            return
        wall, cpu = time.perf_counter() - self.begun[0], time.process_time() - self.begun[1]
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps([wall, cpu, most]), file=self.answers, flush=True)
        line = sys.stdin.readline()
        if not line:
            os._exit(0)
        self.left = int(line)
        self.begun = time.perf_counter(), time.process_time()


def model(depth: int) -> nn.Module:
    """The same for all."""
    import torch

    from trainkit import DataSpec
    from trainkit_models.residual import ResNet

    torch.manual_seed(0)
    spec = DataSpec((3, 32, 32), "classification", 10, tuple("0123456789"))
    return ResNet(spec, depth=depth, width=1.0, shortcut="auto", stem="auto", zero_init_residual=False)


def batches(rank: int, processes: int) -> Iterator[tuple[Tensor, Tensor]]:
    """This process's share of each batch, for ever."""
    import torch
    from random_images import images

    pixels, classes = images(EPOCH * BATCH)
    generator = torch.Generator().manual_seed(0)
    while True:
        for index in torch.randperm(len(pixels), generator=generator).split(BATCH):
            own = index.chunk(processes)[rank]
            yield pixels.index_select(0, own), classes.index_select(0, own)


def plain(turns: Turns, processes: int, threads: int, depth: int, folder: Path, more: str) -> None:
    """A loop by hand, within DistributedDataParallel where there are several processes."""
    import torch
    import torch.distributed as dist
    from torch.nn.functional import cross_entropy
    from torch.nn.parallel import DistributedDataParallel

    net = model(depth)
    tuned = more == "tuned"
    layout: Any = torch.channels_last if tuned else torch.contiguous_format
    net = net.to(memory_format=layout)
    rank = 0
    if processes > 1:
        dist.init_process_group("gloo")
        rank = dist.get_rank()
        given: dict[str, bool] = {"gradient_as_bucket_view": True, "forward_sync_buffers": False} if tuned else {}
        net = DistributedDataParallel(net, **given)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, fused=True)
    for pixels, classes in batches(rank, processes):
        optimizer.zero_grad()
        cross_entropy(net(pixels.to(memory_format=layout)), classes).backward()
        optimizer.step()
        turns.pass_on()


def lightning(turns: Turns, processes: int, threads: int, depth: int, folder: Path, more: str) -> None:
    """Trainer with its defaults, as its documentation shows it."""
    import lightning as pl
    import torch
    from random_images import images
    from torch.nn.functional import cross_entropy
    from torch.utils.data import DataLoader, TensorDataset

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model(depth)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            loss = cross_entropy(self.model(x), y)
            self.log("train_loss", loss, prog_bar=True)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)

    class Pass(pl.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            turns.pass_on()

    trainer = pl.Trainer(
        max_epochs=10000,
        accelerator="cpu",
        devices=processes,
        strategy="ddp",
        default_root_dir=folder,
        callbacks=[Pass()],
    )
    data = TensorDataset(*images(EPOCH * BATCH))
    trainer.fit(Module(), DataLoader(data, batch_size=BATCH // processes, shuffle=True))


def trainkit(turns: Turns, processes: int, threads: int, depth: int, folder: Path, more: str) -> None:
    """A recipe with everything on."""
    rank = os.environ.get("RANK", "0")
    lines = f'processes = {processes}\nbatchnorm = "{more}"' if processes > 1 else ""
    recipe = folder / f"recipe{rank}.toml"
    recipe.write_text(RECIPE.format(threads=threads, more=lines, updates=EPOCH, batch=BATCH, depth=depth))
    trained(turns, recipe)


def wide(turns: Turns, processes: int, threads: int, depth: int, folder: Path, more: str) -> None:
    """An MLP with four hidden layers as wide as the depth says, by the strategy that ``more`` names."""
    recipe = folder / f"recipe{os.environ.get('RANK', '0')}.toml"
    recipe.write_text(WIDE.format(processes=processes, more=more, width=depth))
    trained(turns, recipe)


def trained(turns: Turns, recipe: Path) -> None:
    """Train a recipe, as one of the processes that the environment names."""
    from trainkit import hookimpl
    from trainkit.distributed.joining import join
    from trainkit.launch import launch
    from trainkit.manager import Plugins
    from trainkit.recipe import load_recipe

    class Pass:
        @hookimpl(trylast=True)
        def trainkit_step_end(self, run: Any) -> None:
            turns.pass_on()

    plugins = Plugins([str(Path(__file__).parent / "random_images.py")])
    given = load_recipe(recipe, ["logger=[]"], plugins)
    launch(given, plugins, folder=recipe.parent / "run", listeners=[Pass()], group=join())


def reduce(turns: Turns, processes: int, threads: int, depth: int, folder: Path, more: str) -> None:
    """Sums over all processes alone, of as many bytes as ``more`` says: each counts as an update."""
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    numbers = torch.zeros(int(more) // 4)
    while True:
        dist.all_reduce(numbers)
        turns.pass_on()


Work = Callable[[Turns, int, int, int, Path, str], None]
WORKS: dict[str, Work] = {
    "plain": plain,
    "ddp": plain,
    "lightning": lightning,
    "trainkit": trainkit,
    "wide": wide,
    "reduce": reduce,
}


def main() -> None:
    """Do the work that the command line names."""
    work, processes, threads, depth, folder, more = sys.argv[1:]
    turns = Turns()
    import torch

    torch.set_num_threads(int(threads))
    with contextlib.suppress(KeyboardInterrupt):
        WORKS[work](turns, int(processes), int(threads), int(depth), Path(folder), more)


if __name__ == "__main__":
    main()
