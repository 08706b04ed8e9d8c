"""Whether model, loss and metrics take the data at all, and the model its layout in memory: two samples pushed through
before anything is written.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from trainkit.dataset import Dataset
from trainkit.errors import DataError, RecipeError
from trainkit.heads import shown_to
from trainkit.recipe import Recipe, problem_at
from trainkit.recipe.text import shown
from trainkit.returned import defect
from trainkit.run import Run

SAMPLES = 2


def samples_of(dataset: Dataset) -> tuple[Tensor, Tensor]:
    """Inputs, as the model gets them, and targets of the first training samples."""
    split = dataset.splits["train"]
    index = torch.arange(min(SAMPLES, len(split)))
    inputs = split.inputs[index]
    return dataset.prepare(inputs) if dataset.prepare else inputs, split.targets[index]


def use_channels_last(model: nn.Module, inputs: Tensor) -> str:
    """Lay a model out in channels_last, unless that breaks it.

    The inputs go through the model and back in both layouts.

    Returns:
        Why it stays as it was; empty if it is in channels_last.
    """
    plain = _forward_and_back(model, inputs)
    try:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's annotations lack it
        laid_out = inputs.contiguous(memory_format=torch.channels_last) if inputs.dim() == 4 else inputs
        found = _forward_and_back(model, laid_out)
    except RuntimeError as error:  # parameters of five dimensions do not go into this layout
        found = error
    if isinstance(plain, Exception):  # not the layout's fault; `check_fit` says what it is
        return ""
    if isinstance(found, Exception):
        why = f"the model raises {type(found).__name__} in it: {(str(found).splitlines() or ['no message'])[0]}"
    elif found.shape == plain.shape and torch.allclose(
        found.double(), plain.double(), rtol=0.01, atol=0.001, equal_nan=True
    ):
        return ""
    else:
        why = "the model computes something else in it"
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return why


def _forward_and_back(model: nn.Module, inputs: Tensor) -> Tensor | Exception:
    """The outputs for a copy of the inputs, or what was raised on the way there or back.

    Buffers, also those that the model replaces, and random numbers stay as they are.
    """
    held = [
        (module._buffers, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and not is_lazy(buffer)
    ]
    training = model.training
    model.eval()
    try:
        with torch.random.fork_rng(devices=[inputs.device] if inputs.device.type == "cuda" else []):
            outputs: Tensor = model(inputs.clone())
            if outputs.requires_grad:
                weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
                torch.autograd.grad(outputs.double().sum(), weights, allow_unused=True)
            return outputs.detach()
    except Exception as error:
        return error
    finally:
        model.train(training)
        for buffers, name, buffer, values in held:
            buffers[name] = buffer.copy_(values)


def check_fit(run: Run, dataset: Dataset, recipe: Recipe) -> None:
    """Push a few training samples through model, loss and metrics, in evaluation mode and without gradients.

    On the way `Folding` sees what it can fold; a model that does not bear to be watched is run without.

    Raises:
        RecipeError: at the table of whichever refuses, with the shapes.
        PluginDefect: if the loss is no scalar; it names the loss's plugin.
    """
    folding = run.folding
    if folding is None:
        _push_through(run, dataset, recipe)
        return
    try:
        with folding.watch():
            _push_through(run, dataset, recipe)
    except Exception:
        run.folding = None
        _push_through(run, dataset, recipe)
        run.say("evaluations do not fold BatchNorms: the model raises where the results of its layers are watched")


def _push_through(run: Run, dataset: Dataset, recipe: Recipe) -> None:
    inputs, targets = (part.to(run.device) for part in samples_of(dataset))
    data = recipe.components[("data",)].name
    given = f"inputs {_shape(inputs)} of data '{data}'"
    table, name = "model", recipe.components[("model",)].name
    training = run.model.training
    run.model.eval()
    try:
        with torch.no_grad():
            outputs = run.model(inputs)
            table, name = "loss", recipe.components[("loss",)].name
            given = f"outputs {_shape(outputs)} and targets {_shape(targets)} of data '{data}'"
            loss = run.loss(outputs, targets)
            if not isinstance(loss, Tensor) or loss.dim():
                gave = f"a tensor of shape {_shape(loss)}" if isinstance(loss, Tensor) else shown(repr(loss))
                wrong = f"it gave {gave}, not a tensor without dimensions"
                raise defect(recipe.plugins, recipe.components[("loss",)], f"computing [loss] {name}", wrong)
            for number, metric in enumerate(run.metrics.values()):
                table, name = f"metric.{number}", recipe.components[("metric", number)].name
                metric.reset()
                metric.update(shown_to(metric, run.loss, outputs), targets)
                metric.reset()
    except (RuntimeError, ValueError, IndexError, DataError) as error:  # what torch and our own parts say of shapes
        said = (str(error).strip().splitlines() or ["no message"])[0]
        message = f"[{table}] {name} does not take {given}: {type(error).__name__}: {said}"
        cure = f"choose a {table.partition('.')[0]} that fits the data, or change its settings"
        if table == "model" and run.feed.spec.task == "tokens":
            cure = "choose a model that takes numbers of tokens and says something of each position, such as gpt"
        raise RecipeError([problem_at(recipe.tables, table, message, cure)]) from error
    finally:
        run.model.train(training)


def _shape(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
