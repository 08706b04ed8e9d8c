"""A function compiled as one graph, and called without torch's look at what cannot have changed since the last call.

``torch.compile`` checks before every call that everything the trace rested on still holds: modules, their numbers, the
modes of autograd. For a small model these guards take longer than the update. `Direct` keeps what the compiler made and
the tensors it was last called with; as long as nothing but such calls happens, the next call needs its own batch alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from trainkit.graphed import Graphed

Moving = Sequence[Tensor]
# Random numbers are drawn as eager operations draw them: dropout leaves out the same units, compiled or not.
OPTIONS = {"fallback_random": True}


class Unfit(Exception):
    """The function cannot be one compiled graph; the message says why."""


def spread_over(graph: Any, examples: Sequence[Tensor]) -> str:
    """Where a traced function works, if on several devices; empty if on one.

    A CUDA graph knows of one. What the processor computes beside it, or holds, would be that of the recording for ever.
    """
    made = [node.meta.get("example_value") for node in graph.graph.nodes if node.target is not torch.tensor]
    parts = [*examples, *(part for value in made for part in tree_leaves(value))]
    devices = sorted({str(part.device) for part in parts if isinstance(part, Tensor)})
    return f"it works on {' and '.join(devices)}" if len(devices) > 1 else ""


class Direct:
    """Compiles a function of tensors, called with guards or without.

    Args:
        function: takes the moving tensors; whatever else it reads is the same tensor at every call. Returns a
            list of tensors and numbers.
        options: inductor's.
        ungraphed: lets what is compiled be recorded as a CUDA graph; told why where it cannot be.
    """

    def __init__(
        self, function: FunctionType, options: dict[str, Any], ungraphed: Callable[[str], None] | None = None
    ) -> None:
        self._options = options
        self._ungraphed = ungraphed
        # torch keeps what it compiled with the code object, eight programs at the most: each has one of its own.
        function = FunctionType(function.__code__.replace(), function.__globals__, closure=function.__closure__)
        self._function = torch.compile(function, fullgraph=True, dynamic=False, backend=self._backend)
        self._effects: Sequence[str] = ()
        self._plain = False  # whether the compiled graph is all that a call does
        self._trained: set[int] | None = None  # the parameters of the first graph that take a gradient
        self._inner: Callable[..., Sequence[Any]] | None = None
        self._graphed: Graphed | None = None  # the same as a CUDA graph
        self._moving: Moving = ()  # while a guarded call is made
        self._arguments: Sequence[Any] = ()
        self._returned: Sequence[Any] = ()
        self._slots: list[tuple[int, int]] = []  # place among the arguments, place among the moving tensors
        self.results: list[int | float] = []  # place among what the graph returns, or the number itself
        self.executed = False  # whether the last guarded call came to where tensors change
        self.fresh = False  # whether the last guarded call compiled
        self.unfit = ""  # why this may be called no more

    @property
    def ready(self) -> bool:
        """Whether `direct` does what `guarded` would, as far as nothing else has happened since."""
        return self._plain

    def guarded(self, moving: Moving) -> list[Any]:
        """Call the function as ``torch.compile`` does, which compiles at the first call and where a guard fails.

        Raises:
            Unfit: if it cannot be one graph; nothing was executed.
            Exception: whatever the compiler raises; ``executed`` says whether it came to executing.
        """
        import torch._dynamo
        from torch._dynamo.convert_frame import get_compiled_code_side_effects, register_bytecode_hook

        def look(code: CodeType, new_code: CodeType) -> None:
            self._effects = get_compiled_code_side_effects(new_code) or ()

        self.executed = self.fresh = False
        first = self._inner is None
        if first:
            # Batches of one chunk share memory. A graph that changes such inputs would have their places burnt in.
            moving = [tensor.clone() for tensor in moving]
        versions = [tensor._version for tensor in moving] if first else []
        self._moving = moving
        hook = register_bytecode_hook(look)
        try:
            # Hooks may be set on modules while the run goes on; unless asked, torch does not look at them again.
            settings = torch._dynamo.config.patch(trace_autograd_ops=True, skip_nnmodule_hook_guards=False)
            with warnings.catch_warnings(), settings:
                if first:  # what cannot be traced is told once, as an exception
                    warnings.simplefilter("ignore")
                results: list[Any] = self._function(moving)
        finally:
            hook.remove()
            self._moving = ()
        if first and versions != [tensor._version for tensor in moving]:
            self.unfit = "the model changes its inputs in place"
        self._plain = not self.unfit
        self._remember(moving, results)
        return results

    def arguments(self, moving: Moving) -> list[Any]:
        """What the compiled graph is called with."""
        arguments = list(self._arguments)
        for place, number in self._slots:
            arguments[place] = moving[number]
        return arguments

    def direct(self, moving: Moving) -> list[Any]:
        """Call the compiled graph alone."""
        assert self._inner is not None
        arguments = self.arguments(moving)
        if self._graphed is None:
            returned = self._inner(*arguments)
        else:
            returned = self._graphed(arguments, [place for place, _ in self._slots], True)
        return [returned[place] if type(place) is int else place for place in self.results]

    def _backend(self, graph: Any, examples: Any) -> Callable[..., Any]:
        from torch._inductor.compile_fx import compile_fx

        self.fresh = True
        compiled: Any = compile_fx(graph, examples, config_patches=self._options)
        # Without the wrapper that keeps the compiler from tracing this call in its turn.
        inner = getattr(compiled, "_torchdynamo_orig_callable", compiled)
        graphed = None
        if self._ungraphed is not None and all(isinstance(example, Tensor) for example in examples):
            if why := spread_over(graph, examples):
                self._ungraphed(why)
            else:
                graphed = Graphed(inner, self._ungraphed)

        def call(*arguments: Any) -> Any:
            if self._effects:
                raise Unfit(f"each pass changes what is no tensor ({', '.join(self._effects)})")
            trained = {id(value) for value in arguments if isinstance(value, nn.Parameter) and value.requires_grad}
            if self._trained is None:
                self._trained = trained
            elif not trained <= self._trained:  # the function names those whose gradients it takes
                raise Unfit("parameters take part that were frozen or left out before")
            self.executed = True
            if graphed is None:
                returned = compiled(*arguments)
            else:
                numbers = {id(tensor) for tensor in self._moving}
                places = [place for place, argument in enumerate(arguments) if id(argument) in numbers]
                returned = graphed(arguments, places, False)
            self._inner, self._graphed, self._arguments, self._returned = inner, graphed, arguments, returned
            return returned

        return call

    def _remember(self, moving: Moving, results: Sequence[Tensor | float]) -> None:
        """Find the moving tensors among the graph's arguments, and the results among what it returned."""
        numbers = {id(tensor): number for number, tensor in enumerate(moving)}
        self._slots = [
            (place, numbers[id(argument)]) for place, argument in enumerate(self._arguments) if id(argument) in numbers
        ]
        places = {id(value): place for place, value in enumerate(self._returned)}
        self.results = []
        for result in results:
            if isinstance(result, Tensor) and id(result) not in places:
                self._plain = False  # made outside the graph, or one of its inputs
                return
            self.results.append(places[id(result)] if isinstance(result, Tensor) else float(result))
        self._arguments = [None if id(argument) in numbers else argument for argument in self._arguments]
        self._returned = ()
