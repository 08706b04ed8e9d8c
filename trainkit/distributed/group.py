"""The processes of one training: which of them this one is, and what they tell each other."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from trainkit.distributed.lifeline import Lifeline
from trainkit.distributed.share import Share
from trainkit.errors import RunError, TrainkitError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
_NEWS_S = 2.0  # within which it is known which process is gone, once one is


class PeerLost(RunError):
    """Another process of the group has ended or is silent; what it says of itself is the cause."""


@dataclass(frozen=True)
class Group:
    """The processes that make one training together.

    Every method that talks to others is collective: all of them call it, in the same order.

    Args:
        rank: which of them this one is, from 0; the first writes the run folder.
        size: how many there are.
        local_rank: which of those on this machine it is.
        local_size: how many of them are on this machine.
        restarts: how often the group was started again.
        lifeline: hears of the ends of the others.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    restarts: int = 0
    lifeline: Lifeline | None = field(default=None, compare=False, repr=False)

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    @property
    def share(self) -> Share:
        """What this process takes of a batch."""
        return Share(self.rank, self.size)

    def sum_(self, tensor: Tensor) -> Tensor:
        """Make of each number the sum over all processes, in place; the same bits everywhere."""
        if self.size > 1:
            import torch.distributed as dist

            with self.together():
                dist.all_reduce(tensor)
        return tensor

    def begin_sum(self, tensor: Tensor) -> Any:
        """Begin `sum_`; what is returned is for `end_sum`, before which nobody looks at the tensor."""
        import torch.distributed as dist

        with self.together():
            return dist.all_reduce(tensor, async_op=True)

    def end_sum(self, begun: Any) -> None:
        """Come back when the sum is there; on CUDA, when what computes next waits for it by itself."""
        with self.together():
            begun.wait()

    def counts(self, *wholes: int) -> list[int]:
        """How many rows each process has of batches of so many."""
        shares = (Share(rank, self.size) for rank in range(self.size))
        return [sum(end - first for first, end in map(share.bounds, wholes)) for share in shares]

    def concatenated(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """The rows of all processes, one after the other in the order of ranks.

        Args:
            rows: ``(own, ...)``, alike in all processes but for their number. There may be none.
            counts: how many each process has.
        """
        if self.size == 1:
            return rows
        import torch
        import torch.distributed as dist

        most = max(counts)
        held = rows.contiguous()
        if len(rows) < most:  # all send as many
            held = rows.new_zeros((most, *rows.shape[1:]))
            held[: len(rows)] = rows
        found = held.new_empty((self.size * most, *rows.shape[1:]))
        # Its name from torch 2.13 on, and the one before.
        gather: Any = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
        with self.together():
            gather(found, held)
        if min(counts) == most:
            return found
        return torch.cat([found[rank * most : rank * most + count] for rank, count in enumerate(counts)])

    def all_of(self, value: T) -> list[T]:
        """What each process gives, in the order of ranks; small plain data."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        given: list[Any] = [None] * self.size
        with self.together():
            dist.all_gather_object(given, value)
        return given

    def from_first(self, value: T) -> T:
        """What the first process gives; small plain data."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        held: list[Any] = [value]
        with self.together():
            dist.broadcast_object_list(held, src=0)
        given: T = held[0]
        return given

    def tensors_from_first(self, tensors: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Tensors of the first process by name, in the processor's memory; the others give ``None``."""
        import torch
        import torch.distributed as dist

        tensors = {} if tensors is None else {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        kinds = self.from_first([(name, tensor.shape, tensor.dtype) for name, tensor in tensors.items()])
        if self.size == 1:
            return dict(tensors)
        given: dict[str, Tensor] = {}
        with self.together():
            for name, shape, dtype in kinds:
                held = tensors[name] if self.first else torch.empty(shape, dtype=dtype)
                if held.numel():
                    dist.broadcast(held.reshape(-1).view(torch.uint8), src=0)
                given[name] = held
        return given

    def any_of(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.size == 1:
            return flag
        import torch

        return bool(self.sum_(torch.tensor([int(flag)], dtype=torch.int32)).item())

    def wait(self) -> None:
        """Come back when all processes have come here."""
        self.any_of(False)

    def wait_long(self) -> None:
        """As `wait`, for work that may take hours, such as a download; one that ends meanwhile is noticed at once."""
        if self.size > 1:
            import torch
            import torch.distributed as dist

            options = dist.AllreduceOptions()
            options.timeout = datetime.timedelta(days=7)
            everyone: Any = dist.group.WORLD
            with self.together():
                everyone.allreduce([torch.zeros(1)], options).wait()

    @contextlib.contextmanager
    def one_after_the_other(self) -> Iterator[None]:
        """Let the first process of each machine do something, such as filling a cache, before the others do it."""
        if self.local_rank == 0:
            yield
            self.wait_long()
        else:
            self.wait_long()
            yield
        self.wait_long()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Within this block, tell a process that is gone from other errors."""
        try:
            yield
        except RuntimeError as error:
            raise self.named(error) from error

    def named(self, error: RuntimeError) -> RunError:
        """What an error of something collective means: another process is gone, and its last words are the cause.

        One that is there and does not answer is no consequence of anything else: that is an error of its own.
        """
        if self.lifeline is not None and (lost := self.lifeline.lost(_NEWS_S)) is not None:
            return PeerLost(lost.told(self.size))
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if "timed out" in said.lower() or "timeout" in said.lower():
            return RunError(  # in the same words in all that waited, so that it is shown once
                "another process of the group has not answered in time; the last checkpoint is whole\n"
                "  where one alone has much to do between two updates, TRAINKIT_GROUP_TIMEOUT sets another number of "
                "seconds; else a component makes processes wait for different things"
            )
        return PeerLost(
            f"another process of the group has ended or says nothing: {said}\n"
            "  what it said itself is the cause; the last checkpoint is whole"
        )

    def blamed(self, error: BaseException) -> BaseException:
        """The error itself, or that another process is gone where it is a consequence of that."""
        if self.lifeline is None or isinstance(error, TrainkitError) or not isinstance(error, RuntimeError):
            return error
        return error if self.lifeline.lost(_NEWS_S) is None else self.named(error)

    def fail(self, error: BaseException) -> None:
        """Leave because of an error: the others hear of it, and end too."""
        if self.lifeline is not None:
            if not isinstance(error, PeerLost):
                self.lifeline.failed((str(error).strip().splitlines() or [type(error).__name__])[0])
            self.lifeline.mute()

    def leave(self) -> None:
        """End the group; nothing is collective afterwards."""
        if self.size > 1:
            import torch.distributed as dist

            if self.lifeline is not None:
                self.lifeline.leave()
            if dist.is_initialized():
                with contextlib.suppress(Exception):
                    dist.destroy_process_group()

    def dissolve(self) -> None:
        """Give back all that the group has used, for a process that lives on; the others are gone."""
        self.leave()
        if self.lifeline is not None:
            self.lifeline.close()


ONE = Group()


def asked_for(environ: Mapping[str, str] | None = None) -> bool:
    """Whether whoever started this process, such as torchrun, wants it to be one of several."""
    environ = os.environ if environ is None else environ
    return environ.get("WORLD_SIZE", "1") != "1" and "RANK" in environ and "MASTER_ADDR" in environ
