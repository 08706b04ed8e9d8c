"""``compile = "auto"``: eager updates, and compiled ones from when another process has them ready, where that pays.

The process that compiles shares nothing with the run but a folder, so that training goes on meanwhile. When its
library is there, one call is made both ways on the same batches; only a library that does what the eager updates do
takes over.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from trainkit.artefact import Artefact, Library, digest_of, labels, shape_of
from trainkit.compilable import burnt_in
from trainkit.compile_cache import is_published
from trainkit.compiler import Compiler
from trainkit.dataset import Batch
from trainkit.protocols import StepProgram
from trainkit.run import Run, StepResult
from trainkit.steps import implemented
from trainkit.traced import Traced, layout, one_by_one

WARM, MEASURED = 20, 50  # updates before and in the measurement
LOOK_EVERY = 32  # updates between two looks at the other process
# Measured, see docs/performance.md: what dispatching one operation eagerly costs beside the compiled program, and what
# compiling costs, with an empty cache and with a full one. One operation stands for a forward or backward call.
SAVED_US = 2.2
COLD, COLD_PER_OPERATION = 11.5, 0.05
WARM_START, WARM_PER_OPERATION = 5.5, 0.0025
# Saved and spent seconds are both estimates; where they come near each other, eager updates risk nothing.
MARGIN = 1.5
# Two programs round differently. What is compared is the change that a call makes to a weight.
TOLERANCE = 0.05


class AutoStep:
    """Makes updates eagerly, and in compiled calls as soon as another process has compiled them, where that pays.

    Args:
        run: the run.
        eager: makes one update a call.
        keep_outputs: whether results carry outputs for training metrics.
        updates_per_call: updates in one compiled call.
        order: what the other process is told, beside what is known here.
        key: the kind of program, as the compiler's cache names it.
    """

    def __init__(
        self, run: Run, eager: StepProgram, keep_outputs: bool, updates_per_call: int, order: dict[str, Any], key: str
    ) -> None:
        self.run = run
        self.eager = eager
        self.updates_per_call = 1
        self._keep_outputs = keep_outputs
        self._wanted = updates_per_call
        self._order = order | {"updates": updates_per_call, "keep_outputs": keep_outputs, "key": key}
        self._batches = updates_per_call * run.clock.accumulate
        self._calls = 0
        self._spent: list[float] = []
        self._operations = 0
        self._compiler: Compiler | None = None
        self._artefact: Artefact | None = None
        self._library: Library | None = None
        self._traced: Traced
        self._arguments: list[Any] = []
        self._changing: list[Tensor] = []
        self._slots: list[tuple[int, int]] = []
        self._layout: Any = None
        self._seen: Any = None
        self._watched = implemented(run, "trainkit_step_end") is not None
        self._over = False  # nothing is left to decide: eager to the end

    def __call__(self, updates: Sequence[Sequence[Batch]]) -> StepResult:
        """Make the updates of one call, as `StepProgram` says."""
        if self._library is not None and self._fits(updates) and self._holds():
            return self._compiled([batch for update in updates for batch in update])
        if self._artefact is not None and self._library is None and self._fits(updates):
            return self._both(updates)
        if not self._over:
            return self._watch(updates)
        return self._eagerly(updates)

    def _eagerly(self, updates: Sequence[Sequence[Batch]]) -> StepResult:
        return self.eager(updates) if len(updates) == 1 else one_by_one(self.run, self.eager, updates)

    def _watch(self, updates: Sequence[Sequence[Batch]]) -> StepResult:
        """An eager call, with an eye on what it costs, and then on the other process."""
        self._calls += 1
        if self._calls <= WARM or self._library is not None:
            return self._eagerly(updates)
        if self._compiler is not None:
            if self._artefact is None and self._calls % LOOK_EVERY == 0:
                self._look()
            return self._eagerly(updates)
        if self._calls == WARM + 1:
            with _Counting(self.run.model) as counting:
                result = self._eagerly(updates)
            self._operations = counting.operations
            return result
        begun = time.perf_counter()
        result = self._eagerly(updates)
        self._spent.append(time.perf_counter() - begun)
        if len(self._spent) == MEASURED:
            self._decide()
        return result

    def _decide(self) -> None:
        """Say what compiling would gain and cost, and begin it where it pays."""
        run = self.run
        left = run.total_updates - run.position
        eager = statistics.median(self._spent)
        saved = min(SAVED_US * 1e-6 * self._operations, 0.6 * eager)
        warm = is_published(self._order["key"])
        size = self._operations * self._wanted
        cost = WARM_START + WARM_PER_OPERATION * size if warm else COLD + COLD_PER_OPERATION * size
        gain = saved * max(0.0, left - cost / eager)  # what is made while the other process compiles gains nothing
        pays = gain > MARGIN * cost
        run.say(
            f'compile = "auto": an update takes {eager * 1e6:.0f} us, {saved * 1e6:.0f} us less if compiled; with '
            f"{left} updates left that is {gain:.0f} s to gain, and about {cost:.0f} s to compile"
            f"{' (programs like it are cached)' if warm else ''}: "
            + ("it is compiled in the background" if pays else "the run stays eager")
        )
        if not pays:
            self._over = True
            return
        try:
            self._compiler = Compiler(self._order)
        except OSError as error:
            self._give_up(f"no other process could be started: {error}")

    def _look(self) -> None:
        """See whether the other process is done."""
        assert self._compiler is not None
        try:
            found = self._compiler.result()
            if found is None:
                return
            self._artefact = Artefact(**found)
            if digest_of(self._artefact.library) != self._artefact.digest:
                raise ValueError("the library is not the one that was written")
            self._take_over(self._artefact)
        except Exception as error:  # whatever is wrong with it, there is an eager way
            self._artefact = None
            self._give_up(f"{error}")

    def _take_over(self, artefact: Artefact) -> None:
        """Find the tensors that the library names.

        Raises:
            ValueError: if this run's are others.
        """
        run = self.run
        self._traced = Traced(run, self._wanted, self._keep_outputs)
        named = labels(run.model, run.loss, run.optimizer)
        self._arguments, self._slots = [], []
        # How the parts of each batch lie in memory.
        inputs: set[tuple[object, ...]] = set()
        targets: set[tuple[object, ...]] = set()
        for place, (label, *shape) in enumerate(artefact.arguments):
            if label.startswith("moving "):
                number = int(label.removeprefix("moving "))
                self._slots.append((place, number))
                size, stride, dtype = artefact.arguments[place][1:]
                laid_out = torch.Size(size), tuple(stride), getattr(torch, dtype.removeprefix("torch."))
                if number < 2 * self._batches:
                    (inputs if number < self._batches else targets).add(laid_out)
                self._arguments.append(None)
                continue
            if label not in named or list(shape_of(named[label])) != shape:
                raise ValueError(f"the run has no {label} as the program needs it")
            self._arguments.append(named[label])
        if len(inputs) != 1 or len(targets) != 1:
            raise ValueError("the program takes batches of several kinds, or does not look at them")
        self._layout = inputs.pop() + targets.pop()
        if burnt_in(run) != artefact.fingerprint:
            raise ValueError("the model's Python values have changed since the run began")
        self._changing = [tensor for tensor in self._arguments if tensor is not None]
        self.updates_per_call = self._wanted

    def _give_up(self, reason: str) -> None:
        self._over, self._library, self._artefact, self.updates_per_call = True, None, None, 1
        if self._compiler is not None:
            self._compiler.close()
        self.run.say(f'compile = "auto": {reason}; the run goes on eagerly with the same result')

    def _fits(self, updates: Sequence[Sequence[Batch]]) -> bool:
        """Whether these are whole batches, as many as the library takes."""
        if len(updates) != self._wanted:
            return False
        batches = [batch for update in updates for batch in update]
        return len(batches) == self._batches and all(layout(batch) == self._layout for batch in batches)

    def _holds(self) -> bool:
        """Whether the model's Python values are what they were; looked at where something may have changed them."""
        run = self.run
        seen = run.epoch, len(run.history), run.model.training
        if seen == self._seen:
            return True
        assert self._artefact is not None
        if not run.model.training or burnt_in(run) != self._artefact.fingerprint:
            self._give_up("the model's Python values have changed, which a compiled program does not see")
            return False
        self._seen = None if self._watched else seen
        return True

    def _given(self, batches: Sequence[Batch]) -> list[Tensor]:
        moving = self._traced.moving(batches)
        arguments = list(self._arguments)
        for place, number in self._slots:
            arguments[place] = moving[number]
        return arguments

    def _compiled(self, batches: Sequence[Batch]) -> StepResult:
        assert self._library is not None
        assert self._artefact is not None
        returned = self._library(self._given(batches))
        # The library writes to memory behind torch's back; who keeps something by a tensor's version has to see it.
        increment_version(self._changing)
        self._traced.count()
        results: list[Any] = [returned[place] if type(place) is int else place for place in self._artefact.results]
        losses, weights, *outputs = results
        targets = [batch.targets for batch in batches] if self._keep_outputs else []
        return StepResult(losses, weights, outputs, targets, self._wanted)

    def _both(self, updates: Sequence[Sequence[Batch]]) -> StepResult:
        """Make one call eagerly, and on copies with the library; take the library over where both change the same."""
        assert self._artefact is not None
        try:
            library = Library(self._artefact.library, self._artefact.module)
            assert self._compiler is not None
            self._compiler.close()
            given = self._given([batch for update in updates for batch in update])
            before = [tensor.detach().clone(memory_format=torch.preserve_format) for tensor in given]
            copies = [tensor.detach().clone(memory_format=torch.preserve_format) for tensor in given]
            drawn = torch.get_rng_state()
            try:
                library(copies)
            finally:
                torch.set_rng_state(drawn)
        except Exception as error:
            self._give_up(f"the compiled program cannot be loaded: {error}")
            return self._eagerly(updates)
        result = self._eagerly(updates)
        for (label, *_), old, ours, theirs in zip(self._artefact.arguments, before, copies, given, strict=True):
            if not label.startswith("moving ") and not _alike(old, ours, theirs.detach()):
                self._give_up(f"the compiled program changes {label} in another way than eager updates")
                return result
        self._library = library
        self.run.say(f'compile = "auto": compiled updates from update {self.run.step + self._wanted} on')
        return result


def _alike(before: Tensor, ours: Tensor, theirs: Tensor) -> bool:
    """Whether two changes of one tensor are the same but for rounding."""
    if not before.is_floating_point():
        return torch.equal(ours, theirs)
    change, gap = (theirs - before).double().norm(), (ours - theirs).double().norm()
    least = 1e-6 * (1 + theirs.double().norm())  # below it, rounding is all there is
    return bool(gap <= TOLERANCE * change + least)


class _Counting:
    """Estimates how many operations an update has, from the graph that one forward pass leaves for the backward pass.

    torch's own way to look at operations imports the compiler, a second that a run which stays eager would lose.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.operations = 0

    def __enter__(self) -> _Counting:
        self._handle = self._model.register_forward_hook(self._look)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _look(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        waiting = [outputs.grad_fn] if isinstance(outputs, Tensor) and outputs.grad_fn is not None else []
        seen = set(waiting)
        while waiting:
            for node, _ in waiting.pop().next_functions:
                if node is not None and node not in seen:
                    seen.add(node)
                    waiting.append(node)
        # Each node was an operation and will be one; a third is its part in the loss and in the optimizer's update.
        self.operations = 3 * (len(seen) + 2)
