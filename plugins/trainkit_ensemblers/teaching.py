"""Learning from an ensemble: the callback's factory. Importing this does not import torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trainkit import Component, DataSpec, Fraction, Positive

if TYPE_CHECKING:
    from trainkit_ensemblers.lessons import Lessons


def distil(data_spec: DataSpec, /, *, teacher: Path, temperature: Positive = 2.0, weight: Fraction = 0.9) -> Lessons:
    """Train on what an ensemble gives for each sample, beside the targets: one model in place of many.

    The loss is ``weight * T^2 * KL(teacher || student) + (1 - weight) * loss``, both softened by the temperature ``T``;
    the factor ``T^2`` keeps the gradients' size. For regression the first part is the squared distance from what the
    teacher gives. Without augmentations the teacher is asked once for each sample, else for each batch as it is.

    Args:
        teacher: the folder of a finished ensemble, made on the same data.
        temperature: what both outputs are divided by; higher shows more of the classes that the teacher holds for less
            likely.
        weight: share of the teacher in the loss; the rest is the recipe's own loss.

    Raises:
        ValueError: if there is no finished ensemble.

    Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, section 2.
    """
    from trainkit_ensemblers.lessons import Lessons

    return Lessons(data_spec, teacher, temperature, weight)


CALLBACKS = [
    Component(
        "callback",
        distil,
        example={"teacher": "runs/five", "temperature": 2.0},
        capabilities={"lanes": False},
        owns=("loss",),
        exempt={"builds_from_its_example": "it learns from a finished ensemble, which nothing makes in a moment"},
    )
]
