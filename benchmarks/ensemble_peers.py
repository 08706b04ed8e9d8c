"""Ensemble-PyTorch (torchensemble 0.2.0) on digits, as its documentation shows; what `ensembles.py` compares with.

    pip install '.[bench]'

Its classes are given a model class, not an instance, which it would copy with its weights; they train on the loader
alone, since with a `test_loader` they hold the last ensemble whatever the best one was. Its own saving is left out: it
pickles, and cannot be read back with today's torch. Losses and probabilities are read from its `predict`.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from trainkit import DataSpec

LR, MOMENTUM, BATCH, WIDTH = 0.1, 0.9, 64, 128
CYCLE, LR_1, LR_2 = 4, 5e-2, 1e-4  # of fast geometric ensembling: its own defaults


def installed() -> bool:
    """Whether there is anything to compare with."""
    try:
        import torchensemble  # noqa: F401
    except ImportError:
        return False
    return True


class Net(nn.Module):
    """The MLP that all contenders train."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10))

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits."""
        outputs: Tensor = self.layers(inputs)
        return outputs


@functools.cache
def digits(val: float, test: float) -> tuple[dict[str, tuple[Tensor, Tensor]], DataSpec]:
    """The splits that trainkit's recipes train on and measure, as floats; and what is known of them."""
    from trainkit_data import digits as component

    dataset = component(val=val, test=test)
    everything = {}
    for name, split in dataset.splits.items():
        index = torch.arange(len(split.targets))
        everything[name] = (split.inputs[index].float() / 16, split.targets[index])
    return everything, dataset.spec


def kinds() -> dict[str, type[Any]]:
    """Its kinds that are compared."""
    import torchensemble as te

    return {
        "voting": te.VotingClassifier,
        "bagging": te.BaggingClassifier,
        "snapshot": te.SnapshotEnsembleClassifier,
        "fusion": te.FusionClassifier,
        "fast geometric": te.FastGeometricClassifier,
    }


def fge_epochs(members: int, cycle: int = CYCLE) -> int:
    """Epochs of its second stage: a member in the middle of each cycle."""
    return (members - 1) * cycle + cycle // 2


@contextlib.contextmanager
def _quietly() -> Any:
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.getLogger().setLevel(level)


def train(
    name: str, splits: Mapping[str, tuple[Tensor, Tensor]], members: int, epochs: int, seed: int
) -> tuple[Tensor, float]:
    """Train one of its ensembles.

    Args:
        name: which kind.
        splits: inputs and classes of ``train`` and ``test``.
        members: how many.
        epochs: of each member; of one run for all its snapshots; of the first stage of fast geometric ensembling.
        seed: of the global generator, which everything is drawn from.

    Returns:
        Logarithms of its probabilities for the test samples, and the CPU seconds of training and predicting.
    """
    torch.set_num_threads(1)
    loader = DataLoader(TensorDataset(*splits["train"]), batch_size=BATCH, shuffle=True)
    with _quietly():
        begun = time.process_time()
        torch.manual_seed(seed)
        model = kinds()[name](estimator=Net, n_estimators=members, cuda=False)
        model.set_criterion(nn.CrossEntropyLoss())
        model.set_optimizer("SGD", lr=LR, momentum=MOMENTUM)
        more: dict[str, Any] = {}
        if name == "fast geometric":
            more = {"cycle": CYCLE, "lr_1": LR_1, "lr_2": LR_2}
        if name != "snapshot":  # which sets its own
            model.set_scheduler("CosineAnnealingLR", T_max=epochs)
        fit: Callable[..., Any] = model.fit
        fit(loader, epochs=epochs, save_model=False, **more)
        predicted = model.predict(splits["test"][0])
        return predicted.clamp_min(1e-12).log(), time.process_time() - begun
