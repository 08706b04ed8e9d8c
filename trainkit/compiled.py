"""Forward, loss, backward and update as one compiled program, several updates a call (``compile = "step"``)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from trainkit.compilable import hooked, lacking
from trainkit.compilable import obstacle as obstacle_of
from trainkit.compile_cache import CompileCache
from trainkit.dataset import Batch
from trainkit.direct import OPTIONS, Direct, Unfit
from trainkit.run import Run, StepResult
from trainkit.steps import EagerStep, implemented
from trainkit.traced import Traced, layout, one_by_one


class CompiledStep:
    """Makes ``updates_per_call`` updates in one compiled program; what does not fit it is made eagerly.

    Both ways share parameters and optimizer state, so batches of another shape and what is left over at the end of an
    epoch change nothing but speed. The first call of a run is eager: it shows which parameters get a gradient.

    Scheduled values enter as one tensor that is filled in place, so that nothing is compiled again.

    Args:
        run: the run; its optimizer must be an `ElementwiseOptimizer`.
        keep_outputs: whether the results carry outputs for training metrics.
        updates_per_call: updates in one program.
        obstacle: what of the recipe's parts cannot be compiled, as far as the run itself does not show it.
        cache: where the compiler's files go; torch's own place if not given.
    """

    def __init__(
        self,
        run: Run,
        keep_outputs: bool,
        updates_per_call: int,
        obstacle: str = "",
        cache: CompileCache | None = None,
    ) -> None:
        self.run = run
        self.keep_outputs = keep_outputs
        self.updates_per_call = updates_per_call
        self.cache = cache
        self.eager = EagerStep(run, keep_outputs)
        self._batches = updates_per_call * run.clock.accumulate
        self._traced: Traced
        self._program: Direct | None = None
        self._seen: Any = None
        # Who is called after every update may change what the program was traced with at any of them.
        self._watched = implemented(run, "trainkit_step_end") is not None
        self._layout: Any = None
        self._reason = obstacle_of(run) or obstacle or lacking()
        if self._reason:
            self._give_up(self._reason)

    def _give_up(self, reason: str) -> None:
        self._reason = reason
        self._program = None
        self.run.say(f'compile = "step" is not used: {reason}; the run goes on eagerly with the same result')

    def __call__(self, updates: Sequence[Sequence[Batch]]) -> StepResult:
        """Make the updates of one call, as `StepProgram` says."""
        batches = updates[0] if len(updates) == 1 else [batch for update in updates for batch in update]
        if self._layout is None and len(batches[0]) == self.run.feed.batch_size:
            # The first batch of a run is a full one; a continued run may begin with a short one.
            self._layout = layout(batches[0])
        # No update has more batches than it should, so that all of them together are enough where none lacks any.
        if self._reason or not self.run.position or len(batches) != self._batches:
            return self._eagerly(updates)
        for batch in batches:
            if layout(batch) != self._layout:
                return self._eagerly(updates)
        for attempt in range(2):
            try:
                return self._in_one(batches)
            except Exception as error:
                if self._program is not None and self._program.executed:
                    raise
                # Compiling fails before anything is executed, so no update is lost or made twice.
                if attempt or not (_may_be_the_cache(error) and self.cache is not None and self.cache.start_afresh()):
                    said = str(error) if isinstance(error, Unfit) else f"{type(error).__name__}: {_cause(error)}"
                    self._give_up(said)
                    break
                self._program = None
        return self._eagerly(updates)

    def _eagerly(self, updates: Sequence[Sequence[Batch]]) -> StepResult:
        return one_by_one(self.run, self.eager, updates)

    def _in_one(self, batches: Sequence[Batch]) -> StepResult:
        run, count = self.run, self.updates_per_call
        program = self._program
        if program is None:
            # With the C++ wrapper the calls between kernels are compiled too, and compiling is faster.
            cpp = run.device.type == "cpu" and shutil.which("g++") is not None
            self._traced = Traced(run, count, self.keep_outputs)
            program = self._program = Direct(self._traced.function, {"cpp_wrapper": cpp, **OPTIONS}, graphs(run))
        moving = self._traced.moving(batches)
        # Whatever happens between two calls, such as an evaluation or the end of an epoch, changes one of these.
        seen = run.epoch, len(run.history), run.model.training
        if seen == self._seen and program.ready:
            losses, weights, *outputs = program.direct(moving)
        else:
            losses, weights, *outputs = self._guarded(program, moving)
            self._seen = None if self._watched else seen
            if program.unfit:
                self._give_up(program.unfit)
        self._traced.count()
        if not self.keep_outputs:
            return StepResult(losses, weights, updates=count)
        return StepResult(losses, weights, outputs, moving[self._batches : -1], count)

    def _guarded(self, program: Direct, moving: Sequence[Tensor]) -> list[Any]:
        program.executed = False
        if reason := hooked(self.run.model):
            raise Unfit(reason)
        if self.cache is None:
            return program.guarded(moving)
        with self.cache.used():
            results = program.guarded(moving)
        if program.fresh:
            self.cache.publish()
        return results


def graphs(run: Run) -> Callable[[str], None] | None:
    """What lets a run's program be a CUDA graph, as `Direct` takes it; ``None`` where it is to be none."""
    if run.device.type != "cuda" or not run.recipe["run"]["cuda_graphs"]:
        return None
    return lambda why: run.say(f"the compiled step is not recorded as a CUDA graph: {why}; it goes on without")


def _may_be_the_cache(error: Exception) -> bool:
    """Whether another try in an empty cache may help: what the trace itself cannot follow stays so."""
    from torch._dynamo.exc import BackendCompilerFailed, TorchDynamoException

    if isinstance(error, Unfit):
        return False
    return isinstance(error, BackendCompilerFailed) or not isinstance(error, TorchDynamoException)


def _cause(error: Exception) -> str:
    """What the compiler says, in one line; its first line alone often names the back end and not the fault."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].endswith(":"):
        return f"{lines[0]} {lines[1]}"
    return lines[0] if lines else "no message"
