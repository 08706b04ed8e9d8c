"""One model whose weights are a mean of those of several: of runs that began alike, or of one run's checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from trainkit import Cost, Member, UsageError, Validation, Workshop
from trainkit_ensemblers.averaging import averaged_module, check_structure, moving_shares, refuse_strangers, strangers
from trainkit_ensemblers.gathering import train_and_keep
from trainkit_ensemblers.measuring import check_finite, common_rows, figure, lower_is_better, metric_of, rows_for_all

Method = Literal["uniform", "greedy", "interpolate", "ema", "swa", "lawa"]
OF_ONE_RUN = ("ema", "swa", "lawa")
LINE = [number / 10 for number in range(11)]


@dataclasses.dataclass(frozen=True)
class Along:
    """Which checkpoints of one run count, and how much.

    Args:
        every: time between two that a run is to keep, where one is trained.
        decay: of ema.
        ramp: of ema.
        start: of swa, a share of the run.
        last: of lawa.
    """

    every: str = "1ep"
    decay: float = 0.999
    ramp: bool = True
    start: float = 0.75
    last: int = 6


class Average:
    """See `trainkit_ensemblers.of_weights.average`."""

    def __init__(self, method: Method, members: int | None, metric: str | None, along: Along, force: bool) -> None:
        self.method = method
        self.count = members
        self.metric = metric
        self.along = along
        self.force = force
        self.added: list[Member] = []
        self.kept: list[Member] = []
        self.notes: dict[str, Any] = {}

    # ------------------------------------------------------------ members

    def gather(self, workshop: Workshop, /) -> Sequence[Member]:
        """Given runs or trials that began alike, or checkpoints of one run."""
        found = list(self._found(workshop))
        metric_of(self.metric, found[0].spec)  # before anything is measured
        check_structure(found)
        refuse_strangers(found, self.force)
        return found

    def _found(self, workshop: Workshop) -> Sequence[Member]:
        there = workshop.given
        if there is None and workshop.trials is not None:
            there = workshop.trials[: self._most()]
        if there is None:
            return self._of_one(train_and_keep(workshop, {}, every=self.along.every))
        if len(there) == 1:
            checkpoints = workshop.checkpoints(there[0])
            if len(checkpoints) == 1:
                workshop.say(
                    f"{there[0].name} has kept one checkpoint alone, which is its own average; the callback "
                    "keep_checkpoints keeps more"
                )
            return self._of_one(checkpoints)
        if self.method in OF_ONE_RUN:
            other = next((one for one in there if one.folder is None or one.folder != there[0].folder), None)
            if other is not None:
                raise UsageError(
                    f'method = "{self.method}" averages checkpoints of one run, and {other.name} is of another run '
                    f'than {there[0].name}\n  name one run, or write method = "uniform" or "greedy"'
                )
            return self._of_one(sorted(there, key=lambda member: member.step))
        if self.method == "interpolate" and len(there) > 2:
            raise UsageError(
                f'method = "interpolate" goes from one member to another, and there are {len(there)}\n'
                '  name two, or write method = "greedy"'
            )
        return there

    def _most(self) -> int | None:
        """How many of the trials count."""
        if self.method in OF_ONE_RUN:
            return 1
        return 2 if self.method == "interpolate" else self.count

    def _of_one(self, checkpoints: Sequence[Member]) -> Sequence[Member]:
        """Those of one run's checkpoints that count, the oldest first."""
        if self.method == "swa":
            begin = self.along.start * checkpoints[-1].step
            return [one for one in checkpoints if one.step >= begin]
        if self.method == "lawa":
            return checkpoints[-self.along.last :]
        if self.method == "interpolate" and len(checkpoints) > 2:
            return [checkpoints[0], checkpoints[-1]]
        return checkpoints

    def add(self, member: Member, /) -> None:
        """Take in one member."""
        self.added.append(member)

    # ------------------------------------------------------------ the average

    def fit(self, validation: Validation, /) -> None:
        """Average the weights; where there is a choice, by validation samples."""
        check_finite(self.added, validation)
        self.notes = {"method": self.method}
        if len(self.added) == 1:
            self._keep([1.0], self.added[0])
            return
        if self.force and strangers(self.added):
            self._show_barrier(validation)
        if self.method == "greedy":
            shares, made = self._greedily(validation)
        elif self.method == "interpolate":
            shares, made = self._between(validation)
        else:
            shares = [1 / len(self.added)] * len(self.added)
            if self.method == "ema":
                shares = moving_shares(len(self.added), self.along.decay, self.along.ramp)
            made = self._averaged(shares, validation)
        self._keep(shares, made)
        self._compare(validation)

    def _averaged(self, shares: Sequence[float], validation: Validation) -> Member:
        """The member that a mean of weights makes; a mean of one is that one, its statistics included."""
        chosen = [(member, share) for member, share in zip(self.added, shares, strict=True) if share > 0]
        members = [member for member, _ in chosen]
        if len(members) == 1:
            return members[0]
        return dataclasses.replace(
            members[-1],
            name=f"the average of {len(members)} sets of weights",
            module=averaged_module(members, [share for _, share in chosen], validation).eval(),
            figures={},
            ancestors=frozenset.intersection(*(member.ancestors for member in members)),
            cost=_cost(members),
            folder=None,
            step=max(member.step for member in members),
        )

    def _outputs(self, member: Member, validation: Validation) -> Tensor:
        """What a member gives for the samples, ``(samples, outputs)``; what is known of it is not measured again."""
        place = next((number for number, one in enumerate(self.added) if one is member), None)
        return validation.measure(member.module) if place is None else validation.outputs[place]

    def _figure(self, member: Member, validation: Validation, rows: Tensor) -> float:
        """The figure to choose by, such that lower is better."""
        outputs, metric = self._outputs(member, validation), metric_of(self.metric, validation.spec)
        if not bool(outputs.isfinite().all()):
            return float("inf")
        return lower_is_better(metric, figure(outputs[rows], validation, rows, metric))

    def _greedily(self, validation: Validation) -> tuple[list[float], Member]:
        """Members from the best to the worst: each joins the mean unless that makes it worse."""
        rows = rows_for_all(validation, 'method = "greedy"')
        figures = [self._figure(member, validation, rows) for member in self.added]
        order = sorted(range(len(figures)), key=lambda number: (figures[number], number))
        chosen, best, made = [order[0]], figures[order[0]], self.added[order[0]]
        for number in order[1:]:
            more = [*chosen, number]
            tried = self._averaged(self._alike(more), validation)
            if (value := self._figure(tried, validation, rows)) <= best:
                chosen, best, made = more, value, tried
        self.notes["added"] = [self.added[number].name for number in chosen]
        rest = ": the others made it worse" if len(chosen) < len(order) else ""
        validation.say(f"{len(chosen)} of {len(order)} sets of weights are in the average{rest}")
        return self._alike(chosen), made

    def _alike(self, chosen: Sequence[int]) -> list[float]:
        return [1 / len(chosen) if number in chosen else 0.0 for number in range(len(self.added))]

    def _between(self, validation: Validation) -> tuple[list[float], Member]:
        """The best of eleven places from the first member to the second; of equally good ones the first."""
        rows = rows_for_all(validation, 'method = "interpolate"')
        tried = [self._averaged([1 - place, place], validation) for place in LINE]
        figures = [self._figure(member, validation, rows) for member in tried]
        best = min(range(len(LINE)), key=lambda number: (figures[number], number))
        metric = metric_of(self.metric, validation.spec)
        shown = [lower_is_better(metric, value) for value in figures]  # its own inverse
        self.notes |= {"alpha": LINE[best], "metric": metric, "figures": shown}
        validation.say(
            f"alpha = {LINE[best]:g}: {metric} {shown[best]:.4f}, {shown[0]:.4f} at 0 and {shown[-1]:.4f} at 1"
        )
        return [1 - LINE[best], LINE[best]], tried[best]

    # ------------------------------------------------------------ what is said of it

    def _show_barrier(self, validation: Validation) -> None:
        """The loss along the straight line between the first two members, and how high it rises above its ends."""
        rows = rows_for_all(validation, "the loss barrier")
        metric = metric_of(None, validation.spec)
        losses = []
        for place in LINE:
            ends = [1 - place, place] + [0.0] * (len(self.added) - 2)
            outputs = self._outputs(self._averaged(ends, validation), validation)
            losses.append(figure(outputs[rows], validation, rows, metric))
        above = [loss - (1 - place) * losses[0] - place * losses[-1] for place, loss in zip(LINE, losses, strict=True)]
        height, at = max(zip(above, LINE, strict=True))
        between = [member.name for member in self.added[:2]]
        self.notes["barrier"] = {"between": between, "metric": metric, "losses": losses, "height": height}
        line = " ".join(f"{loss:.3g}" for loss in losses)
        validation.say(
            f"{between[0]} and {between[1]} have no common ancestor: from one to the other {metric} on validation is "
            f"{line}; it rises {height:.3g} above the straight line between its ends, at {at:g} of the way"
        )

    def _compare(self, validation: Validation) -> None:
        """Keep the figures of the average and of its best member, and say where it is the worse one.

        Raises:
            UsageError: if it gives what is not finite.
        """
        outputs = self._outputs(self.kept[0], validation)
        if not bool(outputs.isfinite().all()):
            raise UsageError(
                "the average of these weights gives numbers that are not finite\n  leave members out, or average what "
                'they give (use = "seeds")'
            )
        rows, metric = common_rows(validation), metric_of(self.metric, validation.spec)
        if not len(rows):
            return
        own = figure(outputs[rows], validation, rows, metric)
        each = [figure(given[rows], validation, rows, metric) for given in validation.outputs]
        best = min(range(len(each)), key=lambda number: lower_is_better(metric, each[number]))
        self.notes["average"] = {"metric": metric, "value": own, "best_member": each[best]}
        if lower_is_better(metric, own) > lower_is_better(metric, each[best]):
            validation.say(
                f"the average is worse than {self.added[best].name} alone: {metric} {own:.4f} against {each[best]:.4f} "
                "on validation"
            )

    def _keep(self, shares: Sequence[float], made: Member) -> None:
        self.kept = [made]
        names = [member.name for member in self.added]
        self.notes["shares"] = {name: share for name, share in zip(names, shares, strict=True) if share > 0}

    # ------------------------------------------------------------ use

    def predict(self, inputs: Tensor, /) -> Tensor:
        """What the one model gives for a batch."""
        outputs: Tensor = self.kept[0].module(inputs)
        return outputs

    def members(self) -> Sequence[Member]:
        """The one model, which no run has."""
        return self.kept

    def state(self) -> Mapping[str, Any]:
        """What it is the average of."""
        return dict(self.notes)

    def load_state(self, state: Mapping[str, Any], /) -> None:
        """Take back what `state` gave."""
        if len(self.added) != 1:
            raise ValueError(f"an average is one model, and there are {len(self.added)}")
        self.notes, self.kept = dict(state), list(self.added)


def _cost(members: Sequence[Member]) -> Cost:
    """What training has taken: of checkpoints of one run that of the last."""
    runs: dict[Path | str, Cost] = {}
    for member in members:
        key = member.name if member.folder is None else member.folder
        runs[key] = max(runs.get(key, Cost()), member.cost, key=lambda cost: cost.updates)
    costs = runs.values()
    return Cost(
        sum(cost.updates for cost in costs), sum(cost.epochs for cost in costs), sum(cost.seconds for cost in costs)
    )
