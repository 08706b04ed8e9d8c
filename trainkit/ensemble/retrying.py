"""What an ensembler would have made of fewer members, or of other samples to choose by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trainkit.ensemble.costs import multiplications
from trainkit.ensemble.curve import Figures, curve, draws_for
from trainkit.ensemble.figures import CALIBRATED, RAW
from trainkit.ensemble.measured import Measured, Seen
from trainkit.ensemble.replay import Again, FromModules, FromOutputs, Refit, agrees, anew
from trainkit.ensemble.temperature import apply_temperature, fit_temperature
from trainkit.ensemble.unchosen import FOLDS, LEAST, parts
from trainkit.ensembler import Ensembler
from trainkit.instantiate import Builder
from trainkit.protocols import silent
from trainkit.scoring import score, scores

if TYPE_CHECKING:
    from trainkit.ensemble.making import Making

WORK = 1e12  # multiplications that may be made for the curve where outputs do not do


class Retrying:
    """Fits an ensembler anew.

    Args:
        measured: the finished ensemble.
        making: whose recipe says what the ensembler is.
        test: what was given for the test samples; ``None`` where they were not looked at.
    """

    def __init__(self, measured: Measured, making: Making, test: Seen | None) -> None:
        self._measured = measured
        self._making = making
        self._test = test
        self._seen = measured.given
        self._spec = measured.spec
        self._count = len(measured.members)
        self._bins: int = measured.settings["bins"]
        self.reason = ""
        self.refit: Refit | None = None
        self.most = 0
        if self._count < 2:
            self.reason = "there is one member"
        else:
            self._find()

    def _find(self) -> None:
        """Find out how it can be fitted anew: so that it gives for all members what it gave."""
        measured, seen, members = self._measured, self._seen, self._measured.members
        # Remembered outputs of members that are folds are out of fold, those of the ensemble are not: on test samples
        # they are the same.
        by_test = measured.folded and self._test is not None
        before = self._test.ensemble if by_test and self._test is not None else measured.whole
        test = None if self._test is None else self._test.outputs
        self.most = draws_for(seen.outputs.numel() + (0 if test is None else test.numel()), self._count)
        if not self.most:
            self.reason = "there are too many members and samples for that"
            return
        outputs = FromOutputs(self._fresh, members, seen, test)
        if self._gives(outputs, before, by_test):
            self.refit = outputs
            return
        if self._work() > WORK:
            self.reason = "the ensembler needs more of members than their outputs, which would take too long"
            return
        base = measured.base
        measure = None if test is None else lambda module: base.measure(module, "test")
        modules = FromModules(self._fresh, members, seen, measure)
        self.most = 1
        if self._gives(modules, before, by_test):
            self.refit = modules
        else:
            self.reason = "the ensembler, fitted anew to all of them, gives something else"

    def _fresh(self) -> Ensembler:
        builder = Builder(self._making.recipe, self._making.plugins, silent)
        return anew(self._measured.ensemble.ensembler, lambda: builder.make("ensemble"))()

    def _gives(self, refit: Refit, before: Tensor, by_test: bool) -> bool:
        """Whether it can be fitted anew this way, and gives what it gave."""
        try:
            again = refit(range(self._count))
            given = again.test if by_test else again.validation
            return given is not None and agrees(given, before)
        except Exception:  # a plugin's ensembler may need anything; that ends no report
            return False

    def _work(self) -> float:
        """Multiplications that the curve would take by the members themselves."""
        macs = multiplications(self._measured.members[0].module, self._measured.inputs(1)) or 0
        return float(macs) * sum(self._spec.sizes.values()) * self._count * (self._count + FOLDS)

    # ------------------------------------------------------------ what is found

    def curve(self) -> dict[str, Any]:
        """Figures against the number of members, on test samples where these are measured, else on validation."""
        if self.refit is None:
            return {"reason": self.reason}
        if self._test is None and self._measured.folded:
            return {"reason": "no sample is there that all members may be asked for"}
        try:
            points = curve(self.refit, self._figures, self._count, self.most, self._measured.seed)
        except Exception as error:
            return {"reason": f"the ensembler cannot be fitted to fewer members: {_first_line(error)}"}
        split = "validation" if self._test is None else "test"
        return {"split": split, "sets": "first" if self.most == 1 else "drawn", "points": points}

    def _figures(self, members: Sequence[int], again: Again) -> dict[str, Figures]:
        rows = self._measured.common  # for any number of members the same: fewer of them may have seen fewer samples
        outputs, targets = again.validation[rows], self._seen.targets[rows]
        if len(members) == self._count:
            temperature = self._measured.ensemble_temperature
        else:
            temperature = fit_temperature(outputs, targets, self._spec)
        if again.test is not None and self._test is not None:
            outputs, targets = again.test, self._test.targets
        found = {RAW: scores(outputs, targets, self._spec, self._bins)}
        if self._spec.task != "regression":
            calibrated = apply_temperature(outputs, temperature, self._spec)
            found[CALIBRATED] = scores(calibrated, targets, self._spec, self._bins)
        return found

    def reselection(self, kind: str, chosen_by: str) -> dict[str, Any]:
        """Figures of validation samples by ensembles, and best members, that were chosen by the other ones.

        Args:
            kind: ``raw`` or ``calibrated``: what the best member is chosen by.
            chosen_by: the figure.
        """
        rows = self._measured.common
        if self.refit is None:
            return {"reason": self.reason}
        if len(rows) < LEAST:
            return {"reason": f"{len(rows)} validation samples that no member was trained on are too few"}
        seen, spec, seed = self._seen, self._spec, self._measured.seed
        pooled: dict[str, dict[str, Tensor]] = {
            name: {one: torch.empty(seen.outputs.shape[1:]) for one in (RAW, CALIBRATED)}
            for name in ("ensemble", "best_member")
        }
        whole = torch.empty(seen.outputs.shape[1:])
        for held, others in parts(rows, seed):
            try:
                whole[held] = self.refit(range(self._count), others).validation[held].float()
            except Exception as error:
                return {"reason": f"the ensembler cannot be fitted to fewer samples: {_first_line(error)}"}
        for held, others in parts(rows, seed):
            targets = seen.targets[others]
            temperature = fit_temperature(whole[others], targets, spec)
            _put(pooled["ensemble"], held, whole, apply_temperature(whole, temperature, spec))
            each = []
            for own in seen.outputs:
                calibrated = apply_temperature(own, fit_temperature(own[others], targets, spec), spec)
                judged = own if kind == RAW else calibrated
                each.append((score(chosen_by, judged[others], targets, spec), own, calibrated))
            _, own, calibrated = min(each, key=lambda one: one[0])
            _put(pooled["best_member"], held, own, calibrated)
        kinds = (RAW,) if spec.task == "regression" else (RAW, CALIBRATED)
        targets = seen.targets[rows]
        return {
            "folds": FOLDS,
            **{
                name: {one: scores(outputs[one][rows], targets, spec, self._bins) for one in kinds}
                for name, outputs in pooled.items()
            },
        }


def _put(pooled: dict[str, Tensor], rows: Tensor, raw: Tensor, calibrated: Tensor) -> None:
    pooled[RAW][rows] = raw[rows].float()
    pooled[CALIBRATED][rows] = calibrated[rows].float()


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
