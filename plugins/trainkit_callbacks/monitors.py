"""Figures about gradients, weights and updates, for the log lines."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trainkit import Metrics, Run, StepResult, hookimpl, whole_norm


def norm_of(tensors: Sequence[Tensor]) -> Tensor:
    """The common L2 norm of tensors, in float64, from norms in at least 32 bits."""
    wide = [t.float() if t.dtype in (torch.bfloat16, torch.float16) else t for t in tensors]
    return together(torch._foreach_norm(wide))


def together(norms: Sequence[Tensor] | Tensor) -> Tensor:
    """The norm over all parts, from the norms of the parts."""
    stacked = norms if isinstance(norms, Tensor) else torch.stack(list(norms))
    norm: Tensor = torch.linalg.vector_norm(stacked.double())
    return norm


class Norms:
    """See `trainkit_callbacks.norms`."""

    def __init__(self, gradients: bool, weights: bool, groups: bool) -> None:
        self.gradients = gradients
        self.weights = weights
        self.groups = groups
        self.pending: dict[str, Tensor] = {}
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.alone = True

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        self.pending, self.sums, self.counts = {}, {}, {}
        self.alone = len(run.hook.trainkit_gradients.get_hookimpls()) == 1

    @hookimpl(wrapper=True, tryfirst=True)
    def trainkit_gradients(self, run: Run, gradients: Sequence[Tensor]) -> Generator[None, None, None]:
        # Of an update that computes its gradients several times, the first are those at the weights before it.
        measured = self.gradients and not self.pending
        if measured:
            self._measure("gradient_norm", run, gradients)
        yield
        if measured and not self.alone:
            self._measure("gradient_norm_used", run, gradients)

    def _measure(self, name: str, run: Run, gradients: Sequence[Tensor]) -> None:
        left, parts = iter(gradients), {}
        for number, group in enumerate(run.optimizer.param_groups):
            if own := [next(left) for parameter in group["params"] if parameter.grad is not None]:
                parts[number] = norm_of(own)
        if parts:
            norms = whole_norm(run, torch.stack(list(parts.values())))
            self.pending[name] = together(norms)
            if self.groups:
                self.pending |= {f"{name}/{number}": norm for number, norm in zip(parts, norms, strict=True)}

    @hookimpl
    def trainkit_step_end(self, result: StepResult) -> None:
        if result.updates:  # gradients of an update that was left out are not finite
            for name, norm in self.pending.items():
                self.sums[name] = self.sums[name] + norm if name in self.sums else norm.double()
                self.counts[name] = self.counts.get(name, 0) + 1
        self.pending = {}

    @hookimpl
    def trainkit_figures(self, run: Run) -> Metrics:
        figures = {name: float(total) / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        if self.weights:
            parts = [norm_of([p.detach() for p in group["params"]]) for group in run.optimizer.param_groups]
            norms = whole_norm(run, torch.stack(parts))
            figures["weight_norm"] = float(together(norms))
            if self.groups:
                figures |= {f"weight_norm/{number}": float(norm) for number, norm in enumerate(norms)}
        return figures

    @hookimpl
    def trainkit_save(self) -> Mapping[str, Any]:
        return {"sums": self.sums, "counts": self.counts}

    @hookimpl
    def trainkit_restore(self, run: Run, state: Mapping[str, Any]) -> None:
        self.sums = {name: total.to(run.device) for name, total in state["sums"].items()}
        self.counts = dict(state["counts"])


class UpdateRatio:
    """See `trainkit_callbacks.update_ratio`."""

    def __init__(self, every: int, low: float, high: float) -> None:
        self.every = every
        self.low = low
        self.high = high
        self.before: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
        self.due = 0
        self.ratios: dict[int, Tensor] = {}
        self.measured_at = 0
        self.said: list[str] = []
        self.highest: dict[str, float] = {}  # rates, by figure

    def _hold(self, run: Run) -> None:
        """Keep the weights before an update that is to be measured."""
        if (run.step + 1) % self.every or self.due == run.step + 1:
            return
        self.due = run.step + 1
        for number, group in enumerate(run.optimizer.param_groups):
            if own := [p.detach() for p in group["params"] if p.requires_grad]:
                self.before[number] = own, [weights.clone() for weights in own]

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        self.before, self.due, self.ratios, self.said, self.highest = {}, 0, {}, [], {}

    @hookimpl
    def trainkit_epoch_start(self, run: Run) -> None:
        self._hold(run)  # the first update of all, and of a run that is continued

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        if run.step == self.due and self.before:
            pairs = [
                norm_of(tensors)
                for now, before in self.before.values()
                for tensors in (torch._foreach_sub(now, before), before)
            ]
            norms = whole_norm(run, torch.stack(pairs))
            self.ratios = dict(zip(self.before, norms[::2] / norms[1::2], strict=True))
            self.before, self.measured_at = {}, run.step
        self._hold(run)

    @hookimpl
    def trainkit_figures(self, run: Run) -> Metrics:
        ratios = {number: float(ratio) for number, ratio in self.ratios.items()}
        self.ratios = {}
        figures = {}
        for number, ratio in ratios.items():
            if not math.isfinite(ratio):  # weights that were all zero
                continue
            name = f"update_ratio/{number}"
            figures[name] = ratio
            group = run.optimizer.param_groups[number]
            rate = float(group["lr"])
            self.highest[name] = max(rate, self.highest.get(name, 0.0))
            # Updates are small, too, where a schedule has brought the rate down: that is as it should be.
            low = ratio < self.low and rate >= self.highest[name] / 10
            if name not in self.said and (low or ratio > self.high):
                self.said.append(name)
                run.say(self._words(name, ratio, group))
        return figures

    def _words(self, name: str, ratio: float, group: Mapping[str, Any]) -> str:
        of = ", ".join(group["names"][:2]) + (", ..." if len(group["names"]) > 2 else "")
        limit = f"below {self.low:g}" if ratio < self.low else f"above {self.high:g}"
        cure = "raise" if ratio < self.low else "lower"
        return (
            f"{name} ({of}) is {ratio:.3g} at update {self.measured_at}, {limit}: about 1e-3 is usual; "
            f"{cure} the learning rate of this group if it learns badly"
        )

    @hookimpl
    def trainkit_save(self) -> Mapping[str, Any]:
        ratios = {str(number): ratio for number, ratio in self.ratios.items()}
        return {"said": self.said, "highest": self.highest, "ratios": ratios, "measured_at": self.measured_at}

    @hookimpl
    def trainkit_restore(self, run: Run, state: Mapping[str, Any]) -> None:
        self.said, self.highest = list(state["said"]), dict(state["highest"])
        self.measured_at = state["measured_at"]
        self.ratios = {int(number): ratio.to(run.device) for number, ratio in state["ratios"].items()}
