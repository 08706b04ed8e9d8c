"""A loss that follows a teacher."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from trainkit import Batch, DataSpec, Run, UsageError, hookimpl, load_ensemble, predicted
from trainkit_ensemblers.combining import log_probabilities


class Lessons:
    """See `trainkit_ensemblers.teaching.distil`."""

    stateless = True  # what the teacher gives follows from its folder and the data

    def __init__(self, spec: DataSpec, teacher: Path, temperature: float, weight: float) -> None:
        self.spec = spec
        self.folder = teacher
        self.temperature = temperature
        self.weight = weight
        self.given: Tensor | None = None  # (samples, outputs), by number in the training split
        try:
            self.teacher = load_ensemble(teacher)
        except UsageError as error:
            cure = "name the folder of a finished ensemble; 'trainkit ensemble RUN' makes one of a single run too"
            raise ValueError(f"{error}\n{cure}") from error
        known = self.teacher.spec
        for what, mine, its in (
            ("task", spec.task, known.task),
            ("shape of inputs", spec.input_shape, known.input_shape),
            ("number of outputs", spec.outputs, known.outputs),
            ("classes", spec.classes, known.classes),
            ("data (by SHA-256)", spec.fingerprint, known.fingerprint),
        ):
            if mine != its:
                raise ValueError(
                    f"the teacher {teacher} was made on other data: its {what} is {_short(its)}, here it is "
                    f"{_short(mine)}\ntrain on the data that the teacher's members were trained on"
                )

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        """Ask the teacher about all training samples at once, where they stay as they are."""
        self.teacher.to(run.device)
        if run.recipe["data"]["augment"]:
            return
        rows = torch.empty(run.feed.spec.sizes["train"], self.spec.outputs, device=run.device)
        # In the split's own order and batches, so that a continued run is given the same numbers to the last bit.
        with torch.no_grad():
            for batch in run.feed.evaluate("train"):
                rows[batch.index] = self.teacher(batch.inputs).float()
        self.given = rows

    @hookimpl
    def trainkit_loss(self, run: Run, outputs: Tensor, batch: Batch) -> Tensor:
        """The loss of one batch."""
        if self.given is not None:
            given = self.given[batch.index]
        else:
            with torch.no_grad():
                given = self.teacher(batch.inputs).float()
        followed = self.distance(predicted(run.loss, outputs).float(), given)
        if self.weight == 1:
            return followed
        return self.weight * followed + (1 - self.weight) * run.loss(outputs, batch.targets)

    def distance(self, outputs: Tensor, given: Tensor) -> Tensor:
        """How far outputs ``(batch, outputs)`` are from what the teacher gives: a mean over the batch."""
        if self.spec.task == "regression":
            return mse_loss(outputs.reshape(given.shape), given)
        soft = self.temperature
        own = log_probabilities(outputs.reshape(given.shape) / soft, self.spec.task)
        wanted = log_probabilities(given / soft, self.spec.task)
        return soft**2 * (wanted.exp() * (wanted - own)).sum(-1).mean()


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
