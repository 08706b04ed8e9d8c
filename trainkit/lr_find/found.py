"""What a range test found: as data, and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from trainkit.lr_find.curve import Sweep, considered, harmless, lowest, steepest, valley
from trainkit.lr_find.setting import Setting
from trainkit.lr_find.sweeping import Curve
from trainkit.lr_find.traces import Traces

DIGITS = 3
LEAST_UPDATES = 10


def rounded(value: float) -> float:
    """A value to as many digits as a range test is worth."""
    return float(f"{value:.{DIGITS}g}")


@dataclass
class Found:
    """A range test.

    Args:
        recipe: its name.
        setting: what was changed.
        sweep: the values that were planned.
        curve: the losses.
        held: of a setting that is no rate: the losses of the same batches with the setting as it was.
        loss: what the loss is, in words.
        traces: what was there before and after.
        notes: what must be known beside it.
    """

    recipe: str
    setting: Setting
    sweep: Sweep
    curve: Curve
    held: Curve | None
    loss: str
    traces: Traces
    notes: list[str] = field(default_factory=list)

    @property
    def suggestions(self) -> dict[str, float | None]:
        """Values by the rule that suggests them; ``None`` where it finds none."""
        smoothed = self.curve.smoothed
        # The last one of a curve that diverged may be no number.
        whole = smoothed[: len(smoothed) - self.curve.diverged]
        if self.held is not None:
            held = self.held.smoothed
            return {"harmless": self._value(harmless(whole, held)), "lowest": self._value(lowest(whole, held))}
        given = whole, self.curve.losses, self.sweep.updates
        return {"steepest": self._value(steepest(*given)), "valley": self._value(valley(*given))}

    def _value(self, place: int | None) -> float | None:
        return None if place is None else rounded(self.curve.values[place])

    @property
    def above(self) -> list[float]:
        """By how much the smoothed loss stands above that with the setting as it was."""
        held = [] if self.held is None else self.held.smoothed
        return [loss - other for loss, other in zip(self.curve.smoothed, held, strict=False)]

    @property
    def least(self) -> tuple[float, float] | None:
        """The value at which the smoothed loss is least, and that loss; ``None`` if no loss was finite."""
        losses = [loss if math.isfinite(loss) else math.inf for loss in self.curve.smoothed]
        begin, end = considered(losses)
        place = end - 1 if end > begin else 0
        if not losses or not math.isfinite(losses[place]):
            return None
        return self.curve.values[place], losses[place]

    def as_dict(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        least = self.least
        return {
            "recipe": self.recipe,
            "setting": self.setting.name,
            "now": self.setting.now,
            "from": self.sweep.low,
            "to": self.sweep.high,
            "updates": self.sweep.updates,
            "scale": "linear" if self.sweep.linear else "exponential",
            "values": self.curve.values,
            "losses": _plain(self.curve.losses),
            "smoothed": _plain(self.curve.smoothed),
            "held": None if self.held is None else _plain(self.held.smoothed),
            "loss": self.loss,
            "diverged": self.curve.diverged,
            "suggestions": self.suggestions,
            "least": None if least is None else {"value": least[0], "loss": least[1]},
            "notes": self.notes,
            "traceless": not self.traces.left,
            "sha256": {
                part: {"before": value, "after": self.traces.after.get(part)}
                for part, value in self.traces.before.items()
            },
        }

    def lines(self) -> list[str]:
        """The same in words."""
        setting, curve, sweep = self.setting, self.curve, self.sweep
        scale = "equal steps" if self.sweep.linear else "equal factors"
        lines = [
            f"{self.recipe}: {setting.name}, {sweep.low:g} to {sweep.high:g} in {sweep.updates} updates by {scale}",
            f"loss: {self.loss}",
            f"ended: {self.end()}",
            "",
        ]
        rows = [(rule, value, _MEANING[rule]) for rule, value in self.suggestions.items()]
        if self.held is None and (least := self.least) is not None:
            rows.append(("least loss", rounded(least[0]), f"the smoothed loss is {least[1]:.4g}, its least"))
        if curve.diverged and curve.values:
            rows.append(("diverged", rounded(curve.values[-1]), "too high"))
        if setting.now is not None:
            rows.append(("recipe", setting.now, "as it is"))
        lines += [f"{rule:<12} {'-' if value is None else f'{value:g}':<12} {said}" for rule, value, said in rows]
        lines += ["", *(f"{note[0].upper()}{note[1:]}." for note in self.notes)]
        parts = ", ".join(self.traces.before)
        if left := self.traces.left:
            lines.append(
                f"TRACES LEFT in {', '.join(left)}: a run of this recipe in this process would begin otherwise."
            )
        else:
            lines.append(f"No trace: the SHA-256 of {parts} is the same before and after.")
        return lines

    def end(self) -> str:
        """How the test ended."""
        curve = self.curve
        at = f"at update {len(curve.values)} of {self.sweep.updates}"
        if curve.diverged:
            last = curve.smoothed[-1] if curve.smoothed else math.nan
            why = "the smoothed loss is above 4 times its least"
            if not math.isfinite(last):
                why = "the loss is not finite"
            elif min(curve.smoothed) <= 0:  # no multiple of it is above it
                why = "the smoothed loss is far above its least"
            return f"diverged {at}, at {rounded(curve.values[-1]):g}: {why}"
        return f"{at}: {curve.ended}" if curve.ended else f"after {len(curve.values)} updates; the loss did not diverge"


_MEANING = {
    "valley": "the middle of the longest fall of the smoothed loss",
    "steepest": "where it falls fastest",
    "harmless": "the highest at which the loss is no higher than with the setting as it is",
    "lowest": "where the loss lies lowest below that with the setting as it is",
}


def _plain(values: Sequence[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]
