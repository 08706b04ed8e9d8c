"""What many modules give for one batch: one after another, or as one where that is quicker."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trainkit.ensemble.stacked import CannotStackError, Step, stack, structure

Mode = Literal["measured", "each", "stacked"]
Case = tuple[int, torch.dtype, torch.device]  # batches that are timed once: their size, as a power of two, and kind

MOST = 1024  # samples; on a processor larger batches keep it busy as they are, and stacked ones take memory
_ROUNDS, _SECONDS = 5, 0.05  # how often each way is timed, and how long all that may take before it is cut short
_NEAR = {"cpu": 1e-4}  # of the largest output; elsewhere products may be rounded to fewer digits
_ELSEWHERE = 5e-3

_REPRODUCIBLY: ContextVar[bool] = ContextVar("reproducibly", default=False)


@contextlib.contextmanager
def reproducibly() -> Iterator[None]:
    """For a while, no `Together` goes by what was timed, which may be another way in another process.

    Those that were told how to compute do so; the others call their modules one after another. So what is stored and
    reported of an ensemble is the same to the last digit whenever it is made.
    """
    before = _REPRODUCIBLY.set(True)
    try:
        yield
    finally:
        _REPRODUCIBLY.reset(before)


@dataclass
class _Kept:
    """What is found out and copied; within an object, as what traces a module takes its lists and dicts apart.

    Args:
        why_each: see `Together`.
        quicker: for each case whether stacking is.
        steps: of each group of modules the places, and what computes them as one.
        seen: where the weights lay that were stacked, and how often they had changed.
        memory: these weights as they were seen, so that no others can come to lie there.
        parts: all modules, and those within them.
        held: where these hold their tensors; found once, as most modules hold none.
    """

    why_each: str = ""
    quicker: dict[Case, bool] = field(default_factory=dict)
    steps: list[tuple[list[int], Step]] = field(default_factory=list)
    seen: list[tuple[int, int]] = field(default_factory=list)
    memory: list[Tensor] = field(default_factory=list)
    parts: list[nn.Module] = field(default_factory=list)
    held: list[dict[str, Any]] = field(default_factory=list)


class Together(nn.Module):
    """Several modules that are given the same inputs.

    Modules of one structure can be computed as one, with their weights stacked (see `trainkit.ensemble.stacked`). For
    each size of batch, rounded up to a power of two, both ways are timed when it first comes; from then on the quicker
    one is used. They give the same but for rounding, which is looked at whenever weights are stacked: modules that do
    not are called one after another from then on. So they are while one of them is in training mode, where gradients
    are to reach their weights, in programs that are traced or exported, under `reproducibly` and
    ``torch.use_deterministic_algorithms(True)``, as what is timed is not the same every time.

    The modules' own weights are what counts: stacks are copies, made when they are first needed and made anew when
    weights have changed. Who exchanges layers makes another `Together`.

    Args:
        modules: each gives ``(batch, outputs)``.
        mode: ``measured`` uses the quicker way, ``each`` calls one after another, ``stacked`` computes as one whatever
            it costs, where it is possible.

    Attributes:
        mode: may be set at any time.
    """

    def __init__(self, modules: Sequence[nn.Module], mode: Mode = "measured") -> None:
        super().__init__()
        self.each = nn.ModuleList(modules)
        self.mode: Mode = mode
        self._kept = _Kept()

    def forward(self, inputs: Tensor) -> Tensor:
        """What each gives, ``(modules, batch, outputs)``."""
        if self.mode == "each" or len(self.each) == 1 or self._kept.why_each or not _plain(inputs):
            return self._one_after_another(inputs)
        case = (max(len(inputs) - 1, 0).bit_length(), inputs.dtype, inputs.device)
        if self.mode == "measured":
            if _REPRODUCIBLY.get() or torch.are_deterministic_algorithms_enabled():
                return self._one_after_another(inputs)
            if not self._kept.quicker.get(case, True):
                return self._one_after_another(inputs)
            if len(inputs) > MOST and not inputs.is_cuda:
                return self._one_after_another(inputs)
        if (seen := self._look()) is None:
            return self._one_after_another(inputs)
        if seen != self._kept.seen:
            outputs = self._stack(inputs)
            self._kept.seen = seen
        elif self.mode == "stacked" or case in self._kept.quicker:
            return self._stacked(inputs)
        else:
            outputs = self._one_after_another(inputs)
        if self.mode == "measured" and not self._kept.why_each and case not in self._kept.quicker:
            self._kept.quicker[case] = self._stacking_is_quicker(inputs)
        return outputs

    @property
    def why_each(self) -> str:
        """Why modules can only be called one after another; empty where they can be computed as one."""
        return self._kept.why_each

    @property
    def chosen(self) -> dict[int, Literal["each", "stacked"]]:
        """What was found quicker, for each size of batch (the power of two that it was rounded up to)."""
        return {1 << case[0]: "stacked" if quicker else "each" for case, quicker in self._kept.quicker.items()}

    def _one_after_another(self, inputs: Tensor) -> Tensor:
        return torch.stack([module(inputs) for module in self.each])

    def _stacked(self, inputs: Tensor) -> Tensor:
        """What modules give, computed as one; one after another where that fails."""
        try:
            if len(self._kept.steps) == 1:
                return self._kept.steps[0][1](inputs)
            rows: list[Any] = [None] * len(self.each)
            for places, step in self._kept.steps:
                for place, outputs in zip(places, step(inputs), strict=True):
                    rows[place] = outputs
            return torch.stack(rows)
        except Exception as error:  # whatever it is: who calls shall see what the modules themselves do
            outputs = self._one_after_another(inputs)
            self._give_up(error)
            return outputs

    def _look(self) -> list[tuple[int, int]] | None:
        """Where the weights lie and how often they have changed; ``None`` where a copy of them would not do."""
        if not self._kept.parts:
            self._kept.parts = [part for module in self.each for part in module.modules()]
            self._kept.held = [held for part in self._kept.parts for held in (part._parameters, part._buffers) if held]
            if any(tensor.layout is not torch.strided for tensor in (*self.parameters(), *self.buffers())):
                self._kept.why_each = "a tensor is sparse"
                return None
        if any([part.training for part in self._kept.parts]):
            return None
        graded, seen = torch.is_grad_enabled(), []
        for held in self._kept.held:
            for tensor in held.values():
                if tensor is None:
                    continue
                if graded and tensor.requires_grad:
                    return None
                seen.append((tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version))
        return seen

    def _stack(self, inputs: Tensor) -> Tensor:
        """Stack the weights, and see whether all comes out as one after another, which is returned."""
        expected = self._one_after_another(inputs)
        self._kept.steps = []
        self._kept.memory = [each.detach() for held in self._kept.held for each in held.values() if each is not None]
        try:
            groups: dict[Hashable, list[int]] = {}
            for place, module in enumerate(self.each):
                groups.setdefault(structure(module), []).append(place)
            if len(groups) == len(self.each):
                raise CannotStackError("no two of them have one structure")
            for places in groups.values():
                modules = [self.each[place] for place in places]
                self._kept.steps.append((places, stack(modules, inputs) if len(places) > 1 else _alone(modules[0])))
            with torch.no_grad():
                found = self._stacked(inputs)
            if not self._kept.why_each and not _near(found, expected):
                raise CannotStackError("together they give something else")
        except Exception as error:  # any module may come here, and one after another it does work
            self._give_up(error)
        return expected

    def _give_up(self, error: Exception) -> None:
        self._kept.why_each = f"{error}".partition("\n")[0] or type(error).__name__
        self._kept.steps, self._kept.memory = [], []

    def _stacking_is_quicker(self, inputs: Tensor) -> bool:
        """Time both ways in turns."""
        ways, best = (self._one_after_another, self._stacked), [float("inf"), float("inf")]
        begin = time.perf_counter()
        for number in range(_ROUNDS):
            for way, call in enumerate(ways):
                best[way] = min(best[way], _seconds(call, inputs))
            if number and time.perf_counter() - begin > _SECONDS:
                break
        return best[1] < best[0] and not self._kept.why_each


def _plain(inputs: Tensor) -> bool:
    """Whether a call computes with numbers, and is not there to be traced."""
    return type(inputs) is Tensor and inputs.dim() > 0 and len(inputs) > 0 and not torch.compiler.is_compiling()


def _alone(module: nn.Module) -> Step:
    return lambda inputs: module(inputs)[None]


def _near(found: Tensor, expected: Tensor) -> bool:
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    reals = expected.detach().double()
    size = float(reals.nan_to_num(0.0, 0.0, 0.0).abs().max()) if reals.numel() else 0.0
    digits = max(_NEAR.get(expected.device.type, _ELSEWHERE), 16 * torch.finfo(expected.dtype).eps)
    return torch.allclose(found.double(), reals, rtol=0, atol=digits * size, equal_nan=True)


def _seconds(call: Callable[[Tensor], Tensor], inputs: Tensor) -> float:
    if inputs.is_cuda:
        torch.cuda.synchronize(inputs.device)
    begin = time.perf_counter()
    call(inputs)
    if inputs.is_cuda:
        torch.cuda.synchronize(inputs.device)
    return time.perf_counter() - begin
