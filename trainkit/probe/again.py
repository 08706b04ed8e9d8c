"""Whether the same seed gives the same run: data, weights and updates, bit for bit."""

from __future__ import annotations

import hashlib

from torch import Tensor

from trainkit.checkpoint import raw_bytes, weights_sha256
from trainkit.datasets import Datasets
from trainkit.probe.finding import Finding
from trainkit.probe.subject import Subject, drive

UPDATES = 10


def same_seed(subject: Subject) -> Finding:
    """Build the run twice, data included, make a few updates of each, and compare."""
    expected = f"the same data, weights and losses, bit for bit, in {UPDATES} updates"
    (one, device), (other, _) = (_trace(subject) for _ in range(2))
    made = sum(name.startswith("loss") for name in one)
    differs = next((name for name in one if one[name] != other.get(name)), None)
    if differs is None:
        return Finding("good", expected, f"equal: data, weights, and {made} losses")
    where = f"{differs} differ{'s' * (differs[-1] != 's')} first"
    figures = {"first": differs}
    if device != "cpu" and differs.startswith("loss"):
        cure = "torch.use_deterministic_algorithms, or a model without scatter and atomic additions"
        return Finding("doubtful", expected, where, cure, figures)
    cures = {
        "initial weights": "draw weights from torch's global generator, which is seeded before the model is built",
        "batch": "draw in the data component from the seed that it is given, and in augmentations from `draw`",
        "loss": "draw from torch's, NumPy's or Python's global generator, which are seeded; no other, and no clock",
    }
    cure = next(
        (text for name, text in cures.items() if differs.startswith(name)), "look for what draws without a seed"
    )
    return Finding("bad", expected, where, cure, figures)


def _trace(subject: Subject) -> tuple[dict[str, str], str]:
    """What a run is at its start and at each of its first updates, in the order in which one follows from the other."""
    built = subject.build(datasets=Datasets())
    run = built.run
    # The first batch has its place before the weights, which its data may shape.
    held = {"batch 0": "", "initial weights": weights_sha256(run.model)}
    for number, (batches, result) in enumerate(drive(built, UPDATES)):
        held[f"batch {number}"] = _hash(*(part for batch in batches for part in batch))
        held[f"loss {number}"] = _hash(result.losses)
    return {**held, "last weights": weights_sha256(run.model)}, run.device.type


def _hash(*tensors: Tensor) -> str:
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(raw_bytes(tensor.detach().cpu()))
    return found.hexdigest()
