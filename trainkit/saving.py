"""Saving while training goes on: a copy is taken at the step boundary, and a thread writes it.

The thread reads nothing but the copy and runs nothing but `trainkit.store`. Dying inside it is no other than dying
inside a save that training waits for: what lies on the disk is whole or absent. One save is under way at a time, the
next one waits for it, so that checkpoints become durable in order and one copy is enough.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor

from trainkit import store
from trainkit.checkpoint import Layout, state_text
from trainkit.errors import MachineError
from trainkit.forms import STATE, TENSORS
from trainkit.rundir import write_atomically

_SMALL = 1 << 18  # numbers


class Copy:
    """Memory for the tensors of one checkpoint after the other, laid out as the file that they become.

    It is used again as long as it is large enough, and on CUDA pinned, so that the device writes into it by itself.
    """

    def __init__(self) -> None:
        self._key: list[tuple[str, torch.dtype, torch.Size, torch.device]] = []
        self._device: torch.device | None = None
        self._memory = torch.empty(0, dtype=torch.uint8)
        self._places: list[Tensor] = []
        self._names: list[str] = []
        self._file = memoryview(b"")

    def take(self, tensors: Mapping[str, Tensor]) -> memoryview:
        """Copy the tensors; what is returned holds until the next call.

        Raises:
            TypeError: naming a tensor of a type that the format does not know.
        """
        key = [(name, tensor.dtype, tensor.shape, tensor.device) for name, tensor in tensors.items()]
        if key != self._key:
            self._device = next((tensor.device for tensor in tensors.values() if tensor.device.type == "cuda"), None)
            self._lay_out(tensors, self._device is not None)
            self._key = key
        with torch.no_grad():
            sources = [tensors[name] for name in self._names]
            if sources:
                torch._foreach_copy_(self._places, sources, non_blocking=self._device is not None)
        if self._device is not None:
            torch.cuda.synchronize(self._device)
        return self._file

    def _lay_out(self, tensors: Mapping[str, Tensor], pinned: bool) -> None:
        layout = Layout(tensors)
        if self._memory.numel() < layout.length or self._memory.is_pinned() < pinned:
            self._key, self._places, self._file = [], [], memoryview(b"")
            self._memory = torch.empty(0, dtype=torch.uint8)  # freed before the larger one is made
            self._memory = torch.empty(layout.length, dtype=torch.uint8, pin_memory=pinned)
        start = len(layout.header)
        whole = self._memory[: layout.length]
        whole[:start] = torch.frombuffer(bytearray(layout.header), dtype=torch.uint8)
        # The widest types come first and the header's length is a multiple of eight: every place fits its type.
        self._places, self._names = [], []
        for name, (begin, end) in zip(layout.names, layout.spans, strict=True):
            if begin < end:
                place = whole[start + begin : start + end].view(tensors[name].dtype)
                self._places.append(place.view(tensors[name].shape))
                self._names.append(name)
        self._file = whole.numpy().data


@dataclass(frozen=True)
class Job:
    """One checkpoint to write.

    Args:
        step: updates made.
        contents: the bytes of each file.
        durable: called before; makes durable what the checkpoint counts on.
        best: contents of ``best.json`` if this checkpoint is the best so far.
        best_name: the best checkpoint's folder, which is not pruned.
        pinned: whether this one is never pruned.
    """

    step: int
    contents: Mapping[str, Sequence[store.Buffer]]
    durable: Callable[[], None]
    best: str
    best_name: str | None
    pinned: bool = False


class Saver:
    """Writes the checkpoints of a run and removes those that are no longer wanted.

    Args:
        parent: the run's ``checkpoints`` folder.
        keep: newest checkpoints to keep.
        background: whether a thread writes while training goes on.
    """

    def __init__(self, parent: Path, keep: int, background: bool) -> None:
        self.parent = parent
        self._top = os.fspath(parent)
        self.keep = keep
        self.background = background
        self.failed = False  # looked at after every update
        self._resumed: str | None = None
        self._written: set[str] = set()
        self._error: BaseException | None = None
        self._copy = Copy()
        self._idle = threading.Event()
        self._idle.set()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def resumed_from(self, name: str) -> None:
        """Keep this checkpoint until two newer ones verify."""
        self._resumed = name

    def save(
        self,
        step: int,
        tensors: Mapping[str, Tensor],
        state: Mapping[str, Any],
        durable: Callable[[], None] = lambda: None,
        best: str = "",
        best_name: str | None = None,
        last: bool = False,
        pinned: bool = False,
    ) -> None:
        """Save a checkpoint: when this returns tensors and state may change again.

        Where it is the ``last`` one it is written at once, as nothing is left to do meanwhile. A ``pinned`` one stays.

        Raises:
            MachineError: if the disk refuses, or did so for the save before; older checkpoints are untouched.
        """
        self.wait()
        text = state_text(state)
        tensor_parts: Sequence[store.Buffer]
        # What is small is copied in any case: one copy costs less than a hundred views.
        background = self.background and not last
        if background or sum(tensor.numel() for tensor in tensors.values()) < _SMALL:
            tensor_parts = [self._copy.take(tensors)]
        else:
            tensor_parts = Layout(tensors).parts(tensors)
        job = Job(step, {TENSORS: tensor_parts, STATE: [text]}, durable, best, best_name, pinned)
        if not background:
            self._write(job)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="trainkit-saving", daemon=True)
            self._thread.start()
        self._idle.clear()
        self._jobs.put(job)

    def check(self) -> None:
        """Raise what the thread met.

        Raises:
            MachineError: if the disk refused; older checkpoints are untouched.
        """
        if self._error is not None:
            error, self._error, self.failed = self._error, None, False
            raise error

    def wait(self) -> None:
        """Come back when the last save is durable.

        Raises:
            MachineError: if the disk refused it.
        """
        self._idle.wait()
        self.check()

    def close(self) -> None:
        """End the thread, when the save that is under way is over; errors that nobody asked for are dropped."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._write(job)
            except BaseException as error:
                self._error = error
                self.failed = True
            finally:
                self._idle.set()

    def _write(self, job: Job) -> None:
        try:
            self.before(job.step, job.durable, job.pinned)
            store.write(self._top, job.step, job.contents)
            self._written.add(store.folder_name(job.step))
            self.after(job.best, job.best_name)
        except OSError as error:
            raise self.refused(job.step, error) from error

    def before(self, step: int, durable: Callable[[], None], pinned: bool) -> None:
        """What precedes the writing of a checkpoint."""
        durable()
        if pinned:  # before it is there: a process that is killed in between leaves none without its pin
            store.pin(self._top, step)

    def after(self, best: str, best_name: str | None) -> None:
        """What follows when a checkpoint is there: it may be the best, and older ones go."""
        if best:
            write_atomically(self.parent.parent / "best.json", best)
        if self._resumed is not None and store.two_newer(self.parent, self._resumed):
            self._resumed = None
        store.prune(self.parent, self.keep, best_name, self._resumed, written=self._written)

    def refused(self, step: int, error: OSError) -> MachineError:
        """The error where the disk refuses a checkpoint."""
        return MachineError(
            f"{self.parent}: the checkpoint at update {step} could not be written: {error.strerror or error}\n"
            "  older checkpoints are whole; make room and start again"
        )
