"""Gradients of all processes summed in pieces that are sent while the rest of the backward pass still computes.

On CUDA a large model's gradients take as long to travel as to compute, and both can go on at once. On a processor,
where both are done by the same cores, one piece is the fastest.

Source: Li et al. 2020, "PyTorch Distributed: Experiences on Accelerating Data Parallel Training", arXiv:2006.15704,
sections 3.2 and 4.2, for pieces in the reverse order of parameters, which is about the order of their gradients.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from trainkit.distributed.group import Group
from trainkit.errors import RunError

BYTES = 25 << 20  # of a piece


class Bucket:
    """Some parameters of one number format and device, and the memory that their gradients travel in.

    Args:
        parameters: whose gradients.
        extra: numbers that travel along behind them.
    """

    def __init__(self, parameters: Sequence[Tensor], extra: int = 0) -> None:
        self.parameters = list(parameters)
        self._sizes = [parameter.numel() for parameter in self.parameters]
        self._strides = [torch.empty_like(parameter, device="meta").stride() for parameter in self.parameters]
        self._extra = extra
        self._sent: Any = None
        self.missing = len(self.parameters)  # gradients that are still to come in this backward pass
        self.flat = torch.empty(0)
        self.views: list[Tensor] = []

    def gather(self) -> list[bool]:
        """Take the gradients as they are, zeros for those that are not there; which were there."""
        first = self.parameters[0]
        gradients: list[Tensor | None] = [parameter.grad for parameter in self.parameters]
        there = [gradient is not None for gradient in gradients]
        # New memory each time: a plugin may keep the gradients of an update.
        self.flat = torch.empty(sum(self._sizes) + self._extra, dtype=first.dtype, device=first.device)
        pieces = torch.split_with_sizes(self.flat, [*self._sizes, self._extra])[:-1]
        self.views = [
            piece.as_strided(parameter.shape, stride)
            for piece, parameter, stride in zip(pieces, self.parameters, self._strides, strict=True)
        ]
        if any(there):
            torch._foreach_copy_(
                [view for view, has in zip(self.views, there, strict=True) if has],
                [gradient for gradient in gradients if gradient is not None],
            )
        for view, has in zip(self.views, there, strict=True):
            if not has:
                view.zero_()
        return there

    @property
    def rest(self) -> Tensor:
        """The numbers that travel along."""
        return self.flat[self.flat.numel() - self._extra :]

    def send(self, group: Group) -> None:
        """Begin to sum."""
        self._sent = group.begin_sum(self.flat)

    def receive(self, group: Group) -> None:
        """Come back when the sums are there, or, on CUDA, when whatever computes next waits for them."""
        group.end_sum(self._sent)
        self._sent = None


class Overlapped:
    """Sends each piece as soon as all of its gradients are there, in the same order in every process.

    Which parameters have gradients in some process is agreed on at the first update, as asking at each would wait for
    the device. A process that has none where another one has sends zeros.

    Args:
        parameters: all that may have gradients.
        group: the processes.
        most: bytes of a piece.
    """

    def __init__(self, parameters: Sequence[Tensor], group: Group, most: int = BYTES) -> None:
        self.group = group
        self.buckets: list[Bucket] = []
        self._begun = 0  # buckets that were sent in this update
        self._armed = False
        kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for parameter in reversed(parameters):
            kinds.setdefault((parameter.dtype, parameter.device), []).append(parameter)
        for members in kinds.values():
            held, size = list[Tensor](), 0
            for parameter in members:
                held.append(parameter)
                size += parameter.numel() * parameter.itemsize
                if size >= most:
                    self.buckets.append(Bucket(held))
                    held, size = [], 0
            if held:
                self.buckets.append(Bucket(held))
        where = {id(parameter): bucket for bucket in self.buckets for parameter in bucket.parameters}
        self._handles = [
            p.register_post_accumulate_grad_hook(self._arrived(where[id(p)]))  # type: ignore[no-untyped-call]
            for p in parameters
        ]
        self._agreed: set[int] | None = None

    def close(self) -> None:
        """Take the hooks off the parameters."""
        for handle in self._handles:
            handle.remove()

    def _arrived(self, bucket: Bucket) -> Any:
        def arrived(parameter: Tensor) -> None:
            if self._armed:
                bucket.missing -= 1
                while self._begun < len(self.buckets) and self.buckets[self._begun].missing <= 0:
                    self._send(self.buckets[self._begun])

        return arrived

    def _send(self, bucket: Bucket) -> None:
        bucket.gather()
        bucket.send(self.group)
        self._begun += 1

    @contextlib.contextmanager
    def last(self) -> Iterator[None]:
        """What the last backward pass of an update runs in: the gradients that come in it are complete.

        At its end all pieces are sent, also those that lack gradients here: another process may have sent them within
        its backward pass, and whatever is collective comes in the same order in all.
        """
        self._begun = 0
        for bucket in self.buckets:
            bucket.missing = len(bucket.parameters)
        self._armed = True
        try:
            yield
        finally:
            self._armed = False
        for bucket in self.buckets[self._begun :]:
            self._send(bucket)

    def finish(self) -> None:
        """Put the sums in the place of the gradients.

        Raises:
            RunError: if a parameter has its first gradient after the first update.
        """
        there = {id(p) for bucket in self.buckets for p in bucket.parameters if p.grad is not None}
        if self._agreed is None:
            places = {id(p): number for number, p in enumerate(p for b in self.buckets for p in b.parameters)}
            found = self.group.all_of(sorted(places[own] for own in there))
            anywhere = set().union(*map(set, found))
            self._agreed = {own for own, place in places.items() if place in anywhere}
        elif not there <= self._agreed:
            raise RunError(
                "a parameter has a gradient that had none in any process when gradients were first summed, and the "
                "others do not know of it\n"
                '  let the loss depend on all parameters at every update, freeze those that it does not ("freeze"), '
                "or train in one process"
            )
        for bucket in self.buckets:
            bucket.receive(self.group)
            for parameter, view in zip(bucket.parameters, bucket.views, strict=True):
                parameter.grad = view if id(parameter) in self._agreed else None
