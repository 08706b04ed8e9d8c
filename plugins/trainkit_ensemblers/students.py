"""One student in place of an ensemble: the ensembler's factory. Importing this does not import torch."""

from __future__ import annotations

from typing import Annotated, Any

from trainkit import Component, Ensembler, Fraction, Nested, Positive


def distil(
    *,
    of: Annotated[Any, Nested("ensembler")] = {"use": "seeds"},  # noqa: B006
    model: Annotated[Any, Nested("model", deferred=True)] | None = None,
    temperature: Positive = 2.0,
    weight: Fraction = 0.9,
    control: bool = True,
) -> Ensembler:
    """One model that is trained on what an ensemble gives: its accuracy at the price of a single model.

    The ensemble is made first, and stored in the folder ``teacher``. The student is a run of the recipe, with the
    callback ``distil``, on the same samples and with a seed of its own.

    Args:
        of: the ensemble that teaches.
        model: the student's model, such as a smaller one; unset is that of the recipe.
        temperature: what teacher's and student's outputs are divided by while it learns.
        weight: share of the teacher in the student's loss; the rest is the recipe's own loss.
        control: also train the student's recipe without a teacher, and say which is better on validation: what a
            student gains may come of its seed alone.

    Raises:
        ValueError: if a student is to teach: both would be stored in one folder ``teacher``.

    Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, section 2.
    """
    from trainkit_ensemblers.pupil import Pupil

    if isinstance(of, Pupil):
        raise ValueError(
            'distil cannot learn from distil\n  name the ensemble that teaches, such as of = { use = "seeds" }'
        )
    return Pupil(of, model is not None, temperature, weight, control)


ENSEMBLERS = [Component("ensembler", distil, example={"of": {"use": "seeds", "members": 3}, "temperature": 2.0})]
