"""What a finished ensemble and its members give, and by which samples each may be judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from trainkit.ensemble.base import Base
from trainkit.ensemble.figures import Compared, Folded, Given
from trainkit.ensemble.held_out import asked, held_by, unseen_by_all, validation_of
from trainkit.ensemble.opened import Ensemble
from trainkit.ensemble.temperature import fit_temperature
from trainkit.ensembler import Member


@dataclass(frozen=True)
class Seen:
    """A split, and what was given for it.

    Args:
        name: ``validation`` or ``test``.
        targets: ``(samples, ...)``.
        outputs: ``(members, samples, outputs)``.
        ensemble: ``(samples, outputs)``, before temperature.
        longer: of the longer run; ``None`` where there is none, or it may not be judged by these samples.
        variance: for regression, what the ensemble takes for it.
    """

    name: str
    targets: Tensor
    outputs: Tensor
    ensemble: Tensor
    longer: Tensor | None = None
    variance: Tensor | None = None


class Measured:
    """Outputs of a finished ensemble, its members, and a longer run; the test split is touched where `test` is read.

    Args:
        ensemble: as its folder has it.
        members: those that it was chosen from, as the ensembler was given them.
        base: what all are measured by.
        settings: the filled table ``[ensemble]``.
        seed: of everything random.
        longer: one run for as many updates as all members together.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        members: Sequence[Member],
        base: Base,
        settings: Mapping[str, Any],
        seed: int,
        longer: Member | None = None,
    ) -> None:
        self.ensemble = ensemble
        self.members = list(members)
        self.base = base
        self.spec = base.spec
        self.settings = settings
        self.seed = seed
        self.longer = longer
        self.raw = Raw(ensemble)
        self.given = validation_of(self.members, base, lambda text: None)
        # Where members are folds of the same samples, no sample may be asked of all: each is asked of some.
        self.common = unseen_by_all(self.members, ensemble.made_of, base).nonzero().squeeze(1)
        self.folded = not len(self.common)
        self.temperatures = [self._temperature(number) for number in range(len(self.members))]
        self.ensemble_temperature = self._ensemble_temperature()
        self.longer_temperature = 1.0
        if longer is not None and len(rows := self._unseen_by_longer()):
            outputs, targets = base.outputs(longer.module, "val"), base.targets("val")
            self.longer_temperature = fit_temperature(outputs[rows], targets[rows], self.spec)

    def _temperature(self, number: int) -> float:
        rows = self.rows(number)
        return fit_temperature(self.given.outputs[number, rows], self.given.targets[rows], self.spec)

    def _ensemble_temperature(self) -> float:
        """The ensemble's own temperature; where it was made without, the one that it would have, to be compared by."""
        if self.folded or self.spec.task == "regression" or self.ensemble.temperature != 1.0:
            return self.ensemble.temperature
        rows = self.common
        return fit_temperature(self.whole[rows], self.given.targets[rows], self.spec)

    @cached_property
    def whole(self) -> Tensor:
        """What the ensemble gives for the validation samples, before its temperature."""
        return self.given.measure(self.raw)

    def rows(self, number: int) -> Tensor:
        """The validation samples by which a member is judged: those that nobody, or that it, was not trained on."""
        return self.given.held_out[number].nonzero().squeeze(1) if self.folded else self.common

    def _unseen_by_longer(self) -> Tensor:
        """The samples of the validation split that the longer run was not trained on."""
        if self.longer is None or not self.base.has("val"):
            return torch.empty(0, dtype=torch.int64)
        return held_by(self.longer, self.base)[len(self.base.dataset.splits["train"]) :].nonzero().squeeze(1)

    # ------------------------------------------------------------ splits

    def validation(self) -> Seen | None:
        """The validation samples that no member was trained on; ``None`` where there are none."""
        if self.folded:
            return None
        given, rows = self.given, self.common
        variance = self._variance(given.measure)
        return Seen(
            "validation",
            given.targets[rows],
            given.outputs[:, rows],
            self.whole[rows],
            self._longer_on_validation(),
            None if variance is None else variance[rows],
        )

    def _longer_on_validation(self) -> Tensor | None:
        """What the longer run gives for the same samples, where it was trained on none of them."""
        numbers = asked(self.members, self.base)[1][self.common]
        if self.longer is None or not bool(held_by(self.longer, self.base)[numbers].all()):
            return None
        return self.given.measure(self.longer.module)[self.common]

    def test(self) -> Seen | None:
        """The test samples; ``None`` where there are none, or they are not to be looked at."""
        if not self.settings["test"] or not self.base.has("test"):
            return None
        base = self.base
        return Seen(
            "test",
            base.targets("test"),
            torch.stack([base.outputs(member.module, "test") for member in self.members]),
            base.measure(self.raw, "test"),
            None if self.longer is None else base.outputs(self.longer.module, "test"),
            self._variance(lambda module: base.measure(module, "test")),
        )

    def _variance(self, measure: Any) -> Tensor | None:
        """What the ensemble takes for its variance; ``None`` where it takes none, or it is 0 somewhere."""
        if not self.ensemble.knows_variance:
            return None
        found: Tensor = measure(Variance(self.ensemble))
        return found if bool((found > 0).all()) else None

    def inputs(self, count: int) -> Tensor:
        """Inputs of some samples, as models see them."""
        batch = next(iter(self.base.batches("val" if self.base.has("val") else "train")))
        return batch.inputs[:count].cpu()

    # ------------------------------------------------------------ figures

    def compared(self, seen: Seen) -> Compared:
        """Figures of the members in their order, then of the ensemble, then of the longer run."""
        models = [Given(own, temperature) for own, temperature in zip(seen.outputs, self.temperatures, strict=True)]
        models.append(Given(seen.ensemble, self.ensemble_temperature, seen.variance))
        if seen.longer is not None:
            models.append(Given(seen.longer, self.longer_temperature))
        return self._figures(models, seen.targets)

    def folds(self) -> Folded:
        """Figures of members, each by the samples that it was not trained on."""
        return Folded(
            [
                self._figures(
                    [Given(self.given.outputs[number, rows], self.temperatures[number])], self.given.targets[rows]
                )
                for number, rows in enumerate(map(self.rows, range(len(self.members))))
            ]
        )

    def _figures(self, models: Sequence[Given], targets: Tensor) -> Compared:
        return Compared(models, targets, self.spec, self.settings["bins"], self.settings["bootstrap"], self.seed)


class Raw(nn.Module):
    """What an ensemble gives before its temperature."""

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.ensemble = ensemble

    def forward(self, inputs: Tensor) -> Tensor:
        """What the ensembler gives for a batch."""
        return self.ensemble.ensembler.predict(inputs)


class Variance(nn.Module):
    """The variance that an ensemble gives."""

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.ensemble = ensemble

    def forward(self, inputs: Tensor) -> Tensor:
        """The variance for a batch."""
        found = self.ensemble.variance(inputs)
        assert found is not None
        return found
