"""What is exported: one module of a finished run or ensemble, samples to check it with, and what is known of it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainkit import checkpoint
from trainkit.allocator import keep_pages
from trainkit.dataset import Batch, DataSpec
from trainkit.ensemble.inference import base_of
from trainkit.ensemble.opened import Ensemble, opened
from trainkit.ensemble.verify import read_artefact
from trainkit.errors import TrainkitError
from trainkit.finished import folder_of, open_run
from trainkit.heads import predicted, predicts
from trainkit.manager import Plugins
from trainkit.protocols import Progress
from trainkit.snapshot import measured_weights

SAMPLES = 64  # that a program is checked with


class Exported(nn.Module):
    """A model as a program has it: named outputs, in float32.

    Args:
        model: gives ``(batch, outputs)``; of tokens ``(batch, positions, outputs)``.
        task: what they mean.
        variance: of a regression, gives the variance of what is predicted; ``None`` where it is not known.
        predict: gives what outputs predict, where the loss has asked for other numbers than targets have.
        views: whether it is given several views of each sample; outputs are then ``(batch, views, numbers)`` and
            predict nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        task: str,
        variance: Callable[[Tensor], Tensor] | None = None,
        predict: Callable[[Tensor], Tensor] | None = None,
        views: bool = False,
    ) -> None:
        super().__init__()
        # An ensemble's members are registered once, by their numbers; what combines them finds them there.
        self.model = model.each if isinstance(model, Ensemble) else model
        self._call = [model]  # within a list: not registered again
        self._task = task
        self._variance = variance
        self._predict = predict
        self.names = ("mean", *(["variance"] if variance else [])) if task == "regression" else _CLASSES
        self.names = (*(["outputs"] if views else self.names), *(["raw"] if predict else []))
        self._views = views

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """For classes ``outputs`` and ``probabilities``; for regression ``mean``, and ``variance`` where known.

        With ``predict`` these are of what it makes of the model's outputs, and ``raw`` is what the model gives.
        """
        outputs: Tensor = self._call[0](inputs)
        if self._predict is not None:
            raw = outputs.float()
            return {**self._named(self._predict(raw), inputs), "raw": raw}
        return self._named(outputs, inputs)

    def _named(self, outputs: Tensor, inputs: Tensor) -> dict[str, Tensor]:
        if self._views:
            return {"outputs": outputs.float()}
        if self._task == "tokens":
            return {"outputs": outputs.float(), "probabilities": outputs.float().softmax(-1)}
        outputs = outputs.reshape(outputs.shape[0], -1).float()
        if self._task == "classification":
            return {"outputs": outputs, "probabilities": outputs.softmax(-1)}
        if self._task == "binary":
            return {"outputs": outputs, "probabilities": outputs.sigmoid()}
        found = {"mean": outputs}
        if self._variance is not None:
            found["variance"] = self._variance(inputs).reshape(outputs.shape[0], -1).float()
        return found


_CLASSES = ("outputs", "probabilities")


@dataclass
class Subject:
    """What is exported.

    Args:
        module: the model, on the CPU, in evaluation mode.
        spec: what inputs and outputs mean.
        samples: ``(samples, ...)`` float32, inputs as the model sees them.
        origin: what samples these are, for messages.
        parts: what a failure is looked for in: for each part how messages call it, and its module.
        metadata: what is written beside the program.
    """

    module: Exported
    spec: DataSpec
    samples: Tensor
    origin: str
    parts: Sequence[tuple[str, nn.Module]]
    metadata: dict[str, Any] = field(default_factory=dict)


def run_subject(path: Path, plugins: Plugins, progress: Progress) -> Subject:
    """The model of a run, with the weights that its evaluations measure.

    Args:
        path: the run folder, whose newest good checkpoint counts, or one of its checkpoints.
        plugins: the plugins of this process.
        progress: told about long work.

    Raises:
        UsageError: if it is no run folder.
        CheckpointError: if no checkpoint can be used.
    """
    run = open_run(path, plugins, progress)
    spec = run.feed.spec
    with keep_pages(run.recipe["run"]["keep_pages"]), contextlib.closing(run.feed):
        checkpoint.load_weights(run.model, measured_weights(run), prefix="")
        split = "val" if "val" in spec.sizes else "train"
        samples = first_samples(run.feed.evaluate(split))
    predict = partial(predicted, run.loss) if predicts(run.loss) else None
    views = samples.dim() > len(spec.input_shape) + 1
    model = run.model.cpu().float().eval().requires_grad_(False)
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.contiguous()  # weights of channels_last are another layout
    written = (folder_of(path) / "recipe.toml").read_bytes()
    about = {"kind": "run", "step": run.step, "recipe_sha256": hashlib.sha256(written).hexdigest()}
    return Subject(
        Exported(model, spec.task, predict=predict, views=views),
        spec,
        samples,
        _ORIGINS[split],
        [(f"the model {run.recipe['model']['use']!r}", model)],
        {**about, **_of(spec)},
    )


def ensemble_subject(path: Path, plugins: Plugins, progress: Progress, say: Callable[[str], None]) -> Subject:
    """A finished ensemble whole: members, what combines them, and temperature.

    Where its data is not here it is checked with made-up samples.

    Args:
        path: the ensemble folder.
        plugins: the plugins of this process.
        progress: told about long work.
        say: tells the user something.

    Raises:
        UsageError: if it is no finished ensemble.
        CheckpointError: if a file of it was altered.
    """
    artefact = read_artefact(path)
    ensemble, spec = opened(artefact, plugins, path), artefact.spec
    split = "val" if "val" in spec.sizes else "train"
    try:
        with contextlib.closing(base_of(artefact, plugins, path, progress)) as base:
            samples = first_samples(base.batches(split))
        origin = _ORIGINS[split]
    except TrainkitError as error:
        say(f"note: the program is checked with made-up samples: {str(error).splitlines()[0]}")
        samples = torch.randn(SAMPLES, *spec.input_shape, generator=torch.Generator().manual_seed(0))
        origin = "made-up"
    about = {
        "kind": "ensemble",
        "members": len(ensemble.made_of),
        "temperature": ensemble.temperature,
        "recipe_sha256": artefact.recipe,
        "ensemble_sha256": ensemble.sha256,
    }
    models = [(f"the model {one.recipe['model']['use']!r} of {one.name}", one.module) for one in ensemble.made_of]
    return Subject(
        Exported(ensemble, spec.task, ensemble.variance if ensemble.knows_variance else None),
        spec,
        samples,
        origin,
        [*models, (f"the ensembler {ensemble.settings['use']!r}", ensemble)],
        {**about, **_of(spec)},
    )


_ORIGINS = {"val": "validation", "train": "training"}


def first_samples(batches: Iterator[Batch]) -> Tensor:
    """The first inputs of a split, as the model sees them; at least two, so that a program is not made for one."""
    found: list[Tensor] = []
    for batch in batches:
        found.append(batch.inputs.detach().cpu().contiguous())
        if sum(map(len, found)) >= SAMPLES:
            break
    samples = torch.cat(found)[:SAMPLES]
    samples = samples.float() if samples.is_floating_point() else samples
    return samples if len(samples) > 1 else samples.repeat(2, *[1] * (samples.dim() - 1))


def _of(spec: DataSpec) -> dict[str, Any]:
    names = ("task", "classes", "input_shape", "input_mean", "input_std", "target_mean", "target_std")
    found = {name: getattr(spec, name) for name in names}
    return {"data_sha256": spec.fingerprint} | {key: list(v) if isinstance(v, tuple) else v for key, v in found.items()}
