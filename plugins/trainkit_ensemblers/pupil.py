"""The ensembler that trains one model to give what an ensemble gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from trainkit import Ensembler, Member, Validation, Workshop, load_ensemble, score
from trainkit_ensemblers.gathering import seeded
from trainkit_ensemblers.measuring import metric_of

SEED_APART = 1000  # the student's seed is that of no member


class Pupil:
    """See `trainkit_ensemblers.students.distil`."""

    def __init__(self, of: Ensembler, other_model: bool, temperature: float, weight: float, control: bool) -> None:
        self.of = of
        self.other_model = other_model
        self.temperature = temperature
        self.weight = weight
        self.control = control
        self.workshop: Workshop | None = None
        self.student: Member | None = None
        self.stored: list[Member] = []
        self.found: dict[str, float] = {}

    def gather(self, workshop: Workshop, /) -> Sequence[Member]:
        """Get the members of the ensemble that teaches."""
        self.workshop = workshop
        return self.of.gather(workshop)

    def add(self, member: Member, /) -> None:
        """Take in a member of the teacher; of a stored ensemble the student."""
        self.stored.append(member)

    def fit(self, validation: Validation, /) -> None:
        """Make the teacher, and train the student."""
        workshop = self.workshop
        assert workshop is not None
        for member in self.stored:
            self.of.add(member)
        self.of.fit(validation)
        teacher = workshop.store(self.of, "of")
        lesson = {
            "use": "distil",
            "teacher": str(teacher),
            "temperature": self.temperature,
            "weight": self.weight,
        }
        plain = seeded(workshop, SEED_APART)
        if self.other_model:
            plain = {**plain, "model": workshop.settings["model"]}
        callbacks = list(workshop.recipe["callback"])
        taught = {**plain, "callback": [*callbacks, lesson]}
        student, *others = workshop.train([taught, plain] if self.control else [taught])
        # The folder of the teacher is not needed any more, nor is it there where the ensemble is opened elsewhere.
        recipe = {**student.recipe, "callback": callbacks}
        self.student = dataclasses.replace(student, name="the student", recipe=recipe)
        metric = metric_of(None, validation.spec)
        rows = _unlearnt(validation)
        if not len(rows):
            return

        def measured(outputs: Tensor) -> float:
            return score(metric, outputs[rows], validation.targets[rows], validation.spec)

        self.found = {"student": measured(validation.measure(student.module))}
        said = f"on validation the student has {metric} {self.found['student']:.4g}"
        if bool(validation.held_out[:, rows].all()):  # else the teacher may have learnt what it is judged by
            self.found["teacher"] = measured(validation.measure(load_ensemble(teacher)))
            said += f", its teacher {self.found['teacher']:.4g}"
        for other in others:
            self.found["control"] = measured(validation.measure(other.module))
            said += f", the same run without a teacher {self.found['control']:.4g}"
            if self.found["control"] <= self.found["student"]:
                said += ": the teacher has not helped"
        validation.say(said)

    def predict(self, inputs: Tensor, /) -> Tensor:
        """What the student gives, ``(batch, outputs)``."""
        outputs: Tensor = self.members()[0].module(inputs)
        return outputs

    def members(self) -> Sequence[Member]:
        """The student."""
        return self.stored[:1] if self.student is None else [self.student]

    def state(self) -> Mapping[str, Any]:
        """What student, teacher and control had on validation."""
        return {"found": self.found}

    def load_state(self, state: Mapping[str, Any], /) -> None:
        """Take back what `state` gave; the stored member is the student."""
        self.found = dict(state["found"])


def _unlearnt(validation: Validation) -> Tensor:
    """The rows of the samples of the validation split.

    A teacher of folds or draws is asked for those of the training split too, which a student learns.
    """
    sizes, index = validation.spec.sizes, validation.index
    through_training = int(index.max()) >= sizes.get("val", 0)
    return (index >= (sizes.get("train", 0) if through_training else 0)).nonzero().squeeze(1)
