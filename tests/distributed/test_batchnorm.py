"""BatchNorm over the shares of several processes is BatchNorm over the batch; here processes are threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainkit.distributed import Share
from trainkit.distributed.batchnorm import Exchange, synchronise

TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-4, torch.bfloat16: 0.06}
LAYERS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


class Together:
    """What threads sum in, as processes would, all in the same order."""

    def __init__(self, size: int) -> None:
        self.size, self.barrier, self.given = size, Barrier(size), dict[int, Tensor]()

    def of(self, rank: int) -> Any:
        """The group as one of them has it."""
        together, size = self, self.size

        class Group:
            sums = 0

            def __init__(self) -> None:
                self.size = size

            def sum_(self, tensor: Tensor) -> Tensor:
                self.sums += 1
                together.given[rank] = tensor
                together.barrier.wait(20)
                total = torch.stack([together.given[other] for other in range(size)]).sum(0)
                together.barrier.wait(20)
                return tensor.copy_(total)

        return Group()


def layer_of(shape: tuple[int, ...], affine: bool, kind: torch.dtype) -> nn.Module:
    torch.manual_seed(1)
    layer = LAYERS[len(shape)](shape[1], affine=affine).to(kind)
    if affine:
        nn.init.uniform_(layer.weight, 0.5, 2.0)
        nn.init.normal_(layer.bias)
    return layer


@pytest.mark.parametrize("shape", [(7, 3, 5, 4), (7, 3), (9, 3, 8), (5, 3, 2, 2, 2), (1, 3, 4, 4)], ids=str)
@pytest.mark.parametrize(("dtype", "affine"), [(torch.float64, True), (torch.float64, False), (torch.float32, True)])
def test_it_gives_what_one_process_gives_for_the_batch(shape, dtype, affine):
    check(shape, dtype, affine)


def test_half_floats_are_summed_in_wider_ones():
    check((64, 3, 5, 4), torch.bfloat16, True)


def check(shape: tuple[int, ...], dtype: torch.dtype, affine: bool, size: int = 2) -> None:
    kind = torch.float64 if dtype is torch.float64 else torch.float32
    generator = torch.Generator().manual_seed(0)
    batch = (torch.randn(shape, generator=generator, dtype=torch.float64) * 2 + 30).to(dtype)  # far from zero
    gradient = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    whole, layer = batch.clone().double().requires_grad_(), layer_of(shape, affine, torch.float64)
    expected = layer(whole)
    expected.backward(gradient.double())
    together, tolerance = Together(size), TOLERANCE[dtype]
    layers = [layer_of(shape, affine, torch.float64).to(kind) for _ in range(size)]

    def process(rank: int) -> tuple[nn.Module, Any]:
        group, own = together.of(rank), layers[rank]
        synchronise(own, group)
        exchange: Any = own.exchange
        assert isinstance(exchange, Exchange)
        first, end = Share(rank, size).bounds(len(batch))
        exchange.padding = first == end
        first, end = Share(rank, size).taken(len(batch))
        rows = batch[first:end].clone().requires_grad_()
        outputs = own(rows)
        assert outputs.dtype is dtype
        outputs.backward(gradient[first:end] * (not exchange.padding))
        assert rows.grad is not None
        if exchange.padding:
            assert not rows.grad.any()
        else:
            assert (outputs - expected[first:end]).abs().max() < tolerance
            assert (rows.grad - whole.grad[first:end]).abs().max() < tolerance  # type: ignore[index]
        return own, group

    with ThreadPoolExecutor(size) as threads:
        found = list(threads.map(process, range(size)))
    assert [group.sums for _, group in found] == [2, 2]  # one sum in each direction
    (one, _), (other, _) = found
    for name, buffer in one.named_buffers():
        assert torch.equal(buffer, other.get_buffer(name))
        torch.testing.assert_close(buffer.double(), layer.get_buffer(name).double(), rtol=1e-5, atol=1e-5)
    for name, parameter in layer.named_parameters():
        summed = one.get_parameter(name).grad.double() + other.get_parameter(name).grad.double()  # type: ignore[union-attr]
        assert (summed - parameter.grad).abs().max() < tolerance * len(batch)
