"""Programs as CUDA graphs, tried without a device: what records is a stand-in that keeps what a graph keeps to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from trainkit import graphed, hookimpl
from trainkit.direct import spread_over
from trainkit.graphed import MOST_RECORDINGS, Graphed, record


class Recording:
    """As a CUDA graph: made without running anything, it reads and writes the memory that it was recorded with."""

    made = 0

    def __init__(self, function: Any, arguments: Sequence[Tensor]) -> None:
        Recording.made += 1
        self.function, self.arguments = function, [argument.detach() for argument in arguments]
        kept, drawn = [argument.clone() for argument in self.arguments], torch.get_rng_state()
        self.returned = list(function(*arguments))
        torch.set_rng_state(drawn)
        for argument, values in zip(self.arguments, kept, strict=True):
            argument.copy_(values)
        for value in self.returned:
            if isinstance(value, Tensor):
                value.fill_(-1.0)  # nothing was computed

    def replay(self) -> None:
        for into, value in zip(self.returned, self.function(*self.arguments), strict=True):
            if isinstance(into, Tensor):
                into.copy_(value)


@pytest.fixture(autouse=True)
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    def record(function: Any, arguments: Sequence[Tensor]) -> tuple[Recording, Sequence[Any]]:
        made = Recording(function, arguments)
        return made, made.returned

    Recording.made = 0
    monkeypatch.setattr(graphed, "record", record)


def update(weight: Tensor, inputs: Tensor, labels: Tensor, rate: Tensor) -> list[Any]:
    """A step: changes the weight, and gives the loss, the outputs and a number."""
    outputs = inputs @ weight
    loss = (outputs - labels).square().mean()
    weight.sub_(rate * (inputs.T @ (outputs - labels)) / len(labels))
    return [loss, outputs, len(labels)]


def moving(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [*(torch.randn(shape, generator=generator) for shape in ((8, 3), (8,))), torch.tensor(0.1 / (seed + 1))]


def refused(why: str) -> None:
    raise AssertionError(why)


def test_replays_give_what_the_function_gives_and_their_results_are_the_callers_own() -> None:
    plain, weight, graph = torch.ones(3), torch.ones(3), Graphed(update, refused)
    expected = [update(plain, *moving(seed)) for seed in range(6)]
    found = [graph([weight, *moving(seed)], [1, 2, 3], seed > 2) for seed in range(6)]
    assert torch.equal(weight, plain)
    for given, wanted in zip(found, expected, strict=True):  # all are looked at after the last replay
        assert all(torch.equal(a, b) for a, b in zip(given[:2], wanted[:2], strict=True))
        assert given[2] == 8
    assert Recording.made == 1


def test_what_is_changed_in_place_is_seen_to_change() -> None:
    weight, graph = torch.ones(3), Graphed(update, refused)
    versions = []
    for seed in range(4):
        graph([weight, *moving(seed)], [1, 2, 3], False)
        versions.append(weight._version)
    assert versions == sorted(set(versions))


def test_tensors_that_have_moved_are_recorded_anew_and_those_that_move_on_and_on_not_at_all() -> None:
    said: list[str] = []
    graph, weights = Graphed(update, said.append), [torch.ones(3) for _ in range(MOST_RECORDINGS + 2)]
    graph([weights[0], *moving(0)], [1, 2, 3], False)
    for number, weight in enumerate(weights):
        expected = torch.ones(3)
        update(expected, *moving(1))
        graph([weight.fill_(1.0), *moving(1)], [1, 2, 3], False)
        assert torch.equal(weight, expected)
        assert Recording.made == min(number + 1, MOST_RECORDINGS)
    assert said == [f"its tensors have moved in memory {MOST_RECORDINGS} times"]


def test_what_cannot_be_recorded_is_said_once_and_called_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(function: Any, arguments: Sequence[Tensor]) -> tuple[Any, Sequence[Any]]:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(graphed, "record", fail)
    said: list[str] = []
    plain, weight, graph = torch.ones(3), torch.ones(3), Graphed(update, said.append)
    for seed in range(4):
        update(plain, *moving(seed))
        graph([weight, *moving(seed)], [1, 2, 3], False)
    assert torch.equal(weight, plain)
    assert said == ["RuntimeError: operation not permitted when stream is capturing"]


class Torn:
    """As `torch.cuda.graph` where an operation broke the recording: its end raises before it puts the stream back."""

    def __init__(self, graph: object, capture_error_mode: str) -> None:
        self.streams = graph.streams  # type: ignore[attr-defined]

    def __enter__(self) -> None:
        self.streams.append("recording")

    def __exit__(self, *error: object) -> None:
        raise RuntimeError("operation failed due to a previous error during capture")


def test_after_a_recording_that_broke_off_work_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = ["main"]

    @contextlib.contextmanager
    def on(stream: str) -> Iterator[None]:
        before = streams[-1]
        streams.append(stream)
        try:
            yield
        finally:
            streams.append(before)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(streams=streams))
    monkeypatch.setattr(torch.cuda, "graph", Torn)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: streams[-1])
    with pytest.raises(RuntimeError, match="during capture"):
        record(update, [torch.ones(3), *moving(0)])
    assert streams[-1] == "main"
    assert "recording" in streams


@pytest.mark.compiler
def test_what_works_on_the_processor_too_is_not_recorded() -> None:
    """Its numbers would be those of the recording at every replay; constants are what they are."""
    found = []

    def look(graph: Any, examples: Any) -> Any:
        found.append(spread_over(graph, examples))
        return graph.forward

    held, inputs = torch.tensor(2.0), torch.ones(3, device="meta")
    functions = (
        lambda x: x * torch.tensor(0.5),
        lambda x: x * torch.rand(()),
        lambda x: x * held,
    )
    for function in functions:
        torch.compile(function, backend=look, fullgraph=True)(inputs)
    assert found == ["", "it works on cpu and meta", "it works on cpu and meta"]


class Looks:
    """Makes every call one with guards: who is told of updates may change what the program was traced with."""

    @hookimpl
    def trainkit_step_end(self, run: Any) -> None:
        pass


@pytest.mark.compiler
def test_a_run_whose_program_is_replayed_is_the_run(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way: short batches in between, evaluations, epochs that end within a call."""
    changes = "run.duration=3ep", "run.compile=step", "run.updates_per_call=2"
    more = '[[callback]]\nuse = "clip_norm"\nmax_norm = 1.0\n'
    plain = train(*changes, more=more)
    monkeypatch.setattr("trainkit.compiled.graphs", lambda run: refused)
    for number, listeners in enumerate(([], [Looks()])):
        replayed = train(*changes, more=more, listeners=listeners)
        assert Recording.made == number + 1
        assert replayed.report.weights_sha256 == plain.report.weights_sha256
        for given, wanted in zip(replayed.lines, plain.lines, strict=True):
            assert given | {"time": 0} == wanted | {"time": 0}
