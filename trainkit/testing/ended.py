"""A run that has ended, as it lay on the disk and as it was seen while it went on; and in what another one differs."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from trainkit import checkpoint
from trainkit.hookspecs import hookimpl
from trainkit.run import Metrics, Report, Run
from trainkit.stateful import mute

ASKED = "the contract asked for it"


@dataclass(frozen=True)
class Whole:
    """A run that has ended, as it lay on the disk.

    Args:
        report: how it ended.
        lines: its lines of ``metrics.jsonl``, without their times.
        tensors: those of its last checkpoint.
        state: the rest of it, without times.
        best: ``best.json``.
        seen: what was seen while it went on.
        printed: what was written to standard output.
    """

    report: Report
    lines: list[dict[str, Any]]
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]
    best: str
    seen: Seen
    printed: str

    def difference(self, other: Whole) -> str:
        """The first thing in which another run differs; ``""`` where nothing does."""
        return next(self._differences(other), "")

    def _differences(self, other: Whole) -> Iterator[str]:
        for number, (line, theirs) in enumerate(zip(self.lines, other.lines, strict=False), 1):
            for key in {**line, **theirs}:
                if line.get(key) != theirs.get(key):
                    at = f"line {number} of metrics.jsonl (update {line['step']}, {line['split']})"
                    yield f"{key} of {at} is {line.get(key)}, then {theirs.get(key)}"
        if len(self.lines) != len(other.lines):
            yield f"metrics.jsonl has {len(self.lines)} lines, then {len(other.lines)}"
        yield from _first_difference("the checkpoint", dict(self.state), dict(other.state))
        for name in {**self.tensors, **other.tensors}:
            if name not in self.tensors or name not in other.tensors:
                yield f"'{name}' is in one checkpoint alone"
            elif not identical(self.tensors[name], other.tensors[name]):
                yield f"'{name}' of the checkpoint is another one"
        for what in ("status", "reason", "steps", "metrics", "best", "weights_sha256"):
            if getattr(self.report, what) != getattr(other.report, what):
                yield f"{what} is {getattr(self.report, what)}, then {getattr(other.report, what)}"
        if self.best != other.best:
            yield f"best.json is {self.best.strip()}, then {other.best.strip()}"


def _first_difference(at: str, one: Any, other: Any) -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from _first_difference(f"{at}: {key}", one[key], other[key])
    elif one != other:
        yield f"{at} is {one}, then {other}"


def identical(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have one type and the same bytes; what is not a number is itself."""
    same = one.dtype == other.dtype and one.shape == other.shape
    return same and checkpoint.raw_bytes(one) == checkpoint.raw_bytes(other)


class Seen:
    """What was seen of a run while it went on; it may end the run after an update.

    Args:
        stop: the update.
    """

    stateless = True

    def __init__(self, stop: int | None = None) -> None:
        self.stop = stop
        self.mute: list[str] = []  # who keeps something, and neither saves it nor says that there is nothing
        self.moved = ""  # a tensor of the model that an evaluation left as another one

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        """Look for objects that may lose their state."""
        self.mute = mute(run)

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        """End the run."""
        if run.step == self.stop:
            run.stop_reason = ASKED

    @hookimpl(wrapper=True, tryfirst=True)  # around all others
    def trainkit_evaluate(self, run: Run) -> Generator[None, Metrics, Metrics]:
        """Compare weights and buffers before and after."""
        before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
        metrics = yield
        for name, tensor in run.model.state_dict().items():
            if not identical(tensor, before[name]):
                self.moved = self.moved or f"'{name}' at update {run.step}"
        return metrics
