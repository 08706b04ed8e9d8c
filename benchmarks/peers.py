"""Other training frameworks on the work of loop_overhead.py, each as its documentation shows and with its defaults on.

None is needed for anything else. To install them, in an environment of their own and torch first, so that none brings
another one:

    python -m venv peers
    peers/bin/pip install torch==2.13.0
    peers/bin/pip install -c constraints.txt -e ".[standard,bench]"
    peers/bin/python benchmarks/loop_overhead.py --peers

Measured with lightning 2.6.6, accelerate 1.15.0, pytorch-ignite 0.5.5, keras 3.15.1 and transformers 5.23.0.

Every peer trains the MLP 64-128-10 by SGD with momentum on batches of a `DataLoader`, and does what it does by itself:

- Lightning: `self.log` of the loss, progress bar, logger, checkpoint each epoch.
- Fabric, Accelerate: nothing but the training; they leave the rest to the user.
- Ignite: bar, running average of the loss and checkpoint each epoch, as in its tutorials.
- HF Trainer: bar, log and checkpoint each 500 updates, gradients clipped to norm 1.
- Keras: bar, loss and accuracy each update; no checkpoint.

None of them evaluates, which trainkit does each epoch. Building and importing are left out; what they print is thrown
away, but they write it as if to a terminal.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from common import Terminal
from tiled_digits import arrays, tiled
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, TensorDataset

Outputs = Callable[[Tensor], Any]


class Watch:
    """CPU seconds within its block."""

    seconds = 0.0

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Measure the block."""
        begun = time.process_time()
        yield
        self.seconds = time.process_time() - begun


def mlp() -> nn.Sequential:
    """The model."""
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer, as it comes."""
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def lightning(epochs: int, data: TensorDataset, batch: int, folder: Path, watch: Watch) -> Outputs:
    """Trainer with its defaults."""
    import lightning as pl

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = mlp()

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            loss = cross_entropy(self.model(x), y)
            self.log("train_loss", loss, prog_bar=True)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return sgd(self.model)

    module = Module()
    trainer = pl.Trainer(max_epochs=epochs, accelerator="cpu", default_root_dir=folder)
    loader = DataLoader(data, batch_size=batch, shuffle=True)
    with watch():
        trainer.fit(module, loader)
    return module.model


def fabric(epochs: int, data: TensorDataset, batch: int, folder: Path, watch: Watch) -> Outputs:
    """Fabric around a loop of one's own."""
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=1)
    model = mlp()
    module, optimizer = fabric.setup(model, sgd(model))
    loader = fabric.setup_dataloaders(DataLoader(data, batch_size=batch, shuffle=True))
    with watch():
        for _ in range(epochs):
            for x, y in loader:
                optimizer.zero_grad()
                fabric.backward(cross_entropy(module(x), y))
                optimizer.step()
    return model


def accelerate(epochs: int, data: TensorDataset, batch: int, folder: Path, watch: Watch) -> Outputs:
    """Accelerate around a loop of one's own."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model = mlp()
    module, optimizer, loader = accelerator.prepare(model, sgd(model), DataLoader(data, batch_size=batch, shuffle=True))
    with watch():
        for _ in range(epochs):
            for x, y in loader:
                optimizer.zero_grad()
                accelerator.backward(cross_entropy(module(x), y))
                optimizer.step()
    return model


def ignite(epochs: int, data: TensorDataset, batch: int, folder: Path, watch: Watch) -> Outputs:
    """An engine with bar, running average and checkpoint."""
    from ignite.engine import Events, create_supervised_trainer
    from ignite.handlers import ModelCheckpoint, ProgressBar
    from ignite.metrics import RunningAverage

    model = mlp()
    optimizer = sgd(model)
    trainer = create_supervised_trainer(model, optimizer, cross_entropy)
    RunningAverage(output_transform=float).attach(trainer, "loss")
    ProgressBar().attach(trainer, ["loss"])
    saver = ModelCheckpoint(folder, "last", n_saved=1, require_empty=False)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, saver, {"model": model, "optimizer": optimizer})
    with watch():
        trainer.run(DataLoader(data, batch_size=batch, shuffle=True), max_epochs=epochs)
    return model


def hf_trainer(epochs: int, data: TensorDataset, batch: int, folder: Path, watch: Watch) -> Outputs:
    """Trainer with its defaults but for the optimizer and a constant learning rate."""
    from transformers import Trainer, TrainingArguments

    class Rows(Dataset[dict[str, Tensor]]):
        def __len__(self) -> int:
            return len(data)

        def __getitem__(self, number: int) -> dict[str, Tensor]:
            x, y = data[number]
            return {"x": x, "labels": y}

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = mlp()

        def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
            logits = self.model(x)
            return {"loss": cross_entropy(logits, labels), "logits": logits}

    model = Model()
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=epochs,
        per_device_train_batch_size=batch,
        lr_scheduler_type="constant",
        use_cpu=True,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=Rows(), optimizers=(sgd(model), None))
    with watch():
        trainer.train()
    return model.model


def keras(epochs: int, data: TensorDataset, batch: int, folder: Path, watch: Watch) -> Outputs:
    """``fit`` with its defaults, on torch."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    if keras.backend.backend() != "torch":
        raise RuntimeError(f"keras was imported before with {keras.backend.backend()}")
    dense = keras.layers.Dense
    model = keras.Sequential([keras.Input((64,)), dense(128, activation="relu"), dense(10)])
    model.compile(
        optimizer=keras.optimizers.SGD(learning_rate=0.1, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    loader = DataLoader(data, batch_size=batch, shuffle=True)
    with watch():
        model.fit(loader, epochs=epochs)
    return model


PEERS = {
    "Lightning": ("lightning", lightning),
    "Fabric": ("lightning", fabric),
    "Accelerate": ("accelerate", accelerate),
    "Ignite": ("ignite", ignite),
    "HF Trainer": ("transformers", hf_trainer),
    "Keras": ("keras", keras),
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Throw away what is printed, logged and warned of."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    terminal = Terminal()
    try:
        with contextlib.redirect_stdout(terminal), contextlib.redirect_stderr(terminal), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def contender(train: Callable[..., Outputs], epochs: int, updates: int, batch: int) -> Any:
    """One round, and the accuracies that the rounds reach."""
    accuracies: list[float] = []
    _, _, test_x, test_y = arrays()
    data = TensorDataset(*tiled(updates, batch))

    def once() -> float:
        torch.manual_seed(0)
        watch = Watch()
        with tempfile.TemporaryDirectory() as name, quiet():
            model = train(epochs, data, batch, Path(name), watch)
        torch.set_num_threads(1)
        with torch.no_grad():
            accuracies.append(float((model(test_x).argmax(1) == test_y).double().mean()))
        return watch.seconds

    return once, accuracies


def installed(epochs: int, updates: int, batch: int) -> dict[str, tuple[Callable[[], float], list[float]]]:
    """The peers that can be imported and get through a short trial; one that fails is named with its error.

    Args:
        epochs: epochs of a round.
        updates: updates of an epoch.
        batch: samples in a batch.

    Returns:
        For each its round, which gives CPU seconds, and the list that its accuracies join.
    """
    found = {}
    for name, (module, train) in PEERS.items():
        if find_spec(module) is None:
            continue
        try:
            contender(train, 1, 2, batch)[0]()
        except Exception as error:
            text = str(error).strip().partition("\n")[0]
            print(f"{name} is left out: {type(error).__name__}: {text}", file=sys.stderr)
            continue
        found[name] = contender(train, epochs, updates, batch)
    return found
