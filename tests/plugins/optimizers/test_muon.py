"""Muon: torch's own updates for matrices, and kernels as the matrices that they are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import trainkit_optimizers as ours
from trainkit_optimizers.matrix_rules import orthogonal

SETTINGS = [
    {"lr": 0.02, "weight_decay": 0.1},
    {"lr": 0.02, "weight_decay": 0.0, "nesterov": False, "momentum": 0.8},
    {"lr": 3e-3, "ns_steps": 3, "adjust_lr_fn": "match_rms_adamw", "eps": 1e-4},
]
SHAPES = [(8, 6), (4, 9), (5, 5), (1, 7)]


def groups(parameters: list[torch.Tensor]) -> list[dict[str, Any]]:
    return [{"params": parameters, "names": [f"w{n}" for n, _ in enumerate(parameters)]}]


def start(shapes: list[tuple[int, ...]], seed: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def give(parameters: list[torch.Tensor], seed: int) -> None:
    for parameter, gradient in zip(parameters, start([tuple(p.shape) for p in parameters], seed), strict=True):
        parameter.grad = gradient.detach()


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_it_equals_torchs_muon_bit_for_bit(settings):
    mine, theirs = start(SHAPES), start(SHAPES)
    own, reference = ours.muon(groups(mine), **settings), torch.optim.Muon(groups(theirs), **settings)
    for number in range(12):
        give(mine, number)
        give(theirs, number)
        own.step()
        reference.step()
    for one, other, first in zip(mine, theirs, start(SHAPES), strict=True):
        assert not torch.equal(one, first)
        assert torch.equal(one, other)
        assert torch.equal(own.state[one]["momentum_buffer"], reference.state[other]["momentum_buffer"])


def test_the_defaults_are_torchs():
    expected = torch.optim.Muon(groups(start(SHAPES))).defaults
    assert ours.muon(groups(start(SHAPES))).defaults == {
        key: expected[key] for key in ("lr", "weight_decay", "momentum", "eps")
    }


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_a_kernel_moves_as_the_matrix_of_its_outputs_against_all_else(layout):
    (matrix,) = start([(6, 4 * 3 * 3)])
    kernel = matrix.detach().reshape(6, 4, 3, 3).to(memory_format=layout).requires_grad_()
    flat, whole = (ours.muon(groups([parameter]), lr=0.02) for parameter in (matrix, kernel))
    for number in range(5):
        give([matrix], number)
        kernel.grad = matrix.grad.reshape(6, 4, 3, 3).to(memory_format=layout)
        flat.step()
        whole.step()
    assert torch.equal(kernel.detach().reshape(6, -1), matrix.detach())
    assert kernel.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("shape", [(12, 5), (5, 12), (8, 8)])
def test_the_step_has_singular_values_near_one(shape):
    (matrix,) = start([shape])
    values = torch.linalg.svdvals(orthogonal(matrix.detach() * 1e-3, 5, 1e-7).float())
    assert values.max() < 1.3
    assert values.median() > 0.6


def test_a_gradient_of_zero_leaves_the_matrix_to_its_decay():
    (matrix,) = start([(4, 3)])
    before = matrix.detach().clone()
    matrix.grad = torch.zeros(4, 3)
    ours.muon(groups([matrix]), lr=0.1, weight_decay=0.5).step()
    assert torch.equal(matrix.detach(), before * (1 - 0.1 * 0.5))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_normalised_a_kernel_begins_each_step_at_the_root_of_its_rows(layout):
    """As published for CIFAR-10: the kernel is scaled, whatever its size, and the same step is taken from there."""
    kernel = start([(6, 4, 3, 3)])[0].detach().to(memory_format=layout).requires_grad_()
    scaled = (kernel.detach() * (6**0.5 / kernel.detach().norm())).requires_grad_()
    own = ours.muon(groups([kernel]), lr=0.2, weight_decay=0.0, normalise=True)
    for number in range(3):
        plain = ours.muon(groups([scaled]), lr=0.2, weight_decay=0.0)
        if number:
            held = own.state[kernel]["momentum_buffer"].clone()
            plain.state[scaled] = {"step": number, "momentum_buffer": held}
        give([kernel], number)
        scaled.grad = kernel.grad.clone()
        own.step()
        plain.step()
        torch.testing.assert_close(kernel.detach(), scaled.detach())
        scaled = (kernel.detach() * (6**0.5 / kernel.detach().norm())).requires_grad_()
    (nothing,) = start([(4, 3)])
    nothing.detach().zero_()
    nothing.grad = torch.ones(4, 3)
    ours.muon(groups([nothing]), lr=0.1, normalise=True).step()
    assert nothing.isfinite().all()


def test_what_is_no_matrix_is_refused_by_its_name():
    with pytest.raises(ValueError, match=r"matrices and kernels alone, 'w1' has the shape \(16,\)"):
        ours.muon(groups(start([(4, 4), (16,)])))
    with pytest.raises(ValueError, match="a parameter has the shape"):
        ours.muon([{"params": list(nn.Linear(2, 2).parameters())}])
