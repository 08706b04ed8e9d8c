"""Whether model, loss and metrics take the data at all: two samples pushed through before anything is written."""

from __future__ import annotations

import torch
from torch import Tensor

from trainkit.dataset import Dataset
from trainkit.errors import DataError, RecipeError
from trainkit.recipe import Recipe, problem_at
from trainkit.run import Run

SAMPLES = 2


def check_fit(run: Run, dataset: Dataset, recipe: Recipe) -> None:
    """Push a few training samples through model, loss and metrics, in evaluation mode and without gradients.

    Raises:
        RecipeError: at the table of whichever refuses, with the shapes.
    """
    split = dataset.splits["train"]
    index = torch.arange(min(SAMPLES, len(split)))
    inputs = split.inputs[index]
    inputs = (dataset.prepare(inputs) if dataset.prepare else inputs).to(run.device)
    targets = split.targets[index].to(run.device)
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
            run.loss(outputs, targets)
            for number, metric in enumerate(run.metrics.values()):
                table, name = f"metric.{number}", recipe.components[("metric", number)].name
                metric.reset()
                metric.update(outputs, targets)
                metric.reset()
    except (RuntimeError, ValueError, IndexError, DataError) as error:  # what torch and our own parts say of shapes
        said = (str(error).strip().splitlines() or ["no message"])[0]
        message = f"[{table}] {name} does not take {given}: {type(error).__name__}: {said}"
        cure = f"choose a {table.partition('.')[0]} that fits the data, or change its settings"
        raise RecipeError([problem_at(recipe.tables, table, message, cure)]) from error
    finally:
        run.model.train(training)


def _shape(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
