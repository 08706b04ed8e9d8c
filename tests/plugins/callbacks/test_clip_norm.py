"""clip_norm against torch's own clipping."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainkit_callbacks import clip_norm


def gradients(dtype: torch.dtype = torch.float32, scale: float = 1.0) -> list[nn.Parameter]:
    torch.manual_seed(3)
    parameters = [nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in ((7, 5), (5,), (2, 3, 4), ())]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, dtype=dtype) * scale
    return parameters


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("max_norm", [1e-3, 1.0, 5.0, 1e3])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_it_equals_torchs(dtype, max_norm, scale):
    theirs, ours = gradients(dtype, scale), gradients(dtype, scale)
    torch.nn.utils.clip_grad_norm_(theirs, max_norm, foreach=False)
    clip_norm(max_norm=max_norm).trainkit_gradients([parameter.grad for parameter in ours])
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=4 * torch.finfo(dtype).eps, atol=0)


def test_it_meets_the_reference_value():
    both = [torch.tensor([3.0], dtype=torch.float64), torch.tensor([4.0], dtype=torch.float64)]
    clip_norm(max_norm=1.0).trainkit_gradients(both)
    assert torch.cat(both).tolist() == pytest.approx([0.599999880000024, 0.799999840000032], rel=1e-12)


def test_a_single_gradient_and_a_norm_of_zero():
    one = torch.tensor([3.0, 4.0])
    clip_norm(max_norm=1.0).trainkit_gradients([one])
    torch.testing.assert_close(one, torch.tensor([0.6, 0.8]))
    nothing = torch.zeros(3)
    clip_norm(max_norm=1.0).trainkit_gradients([nothing])
    assert nothing.tolist() == [0.0, 0.0, 0.0]


def test_what_is_below_the_limit_stays_bit_for_bit():
    parameters = gradients()
    before = [parameter.grad.clone() for parameter in parameters]
    clip_norm(max_norm=1e4).trainkit_gradients([parameter.grad for parameter in parameters])
    assert all(torch.equal(a, parameter.grad) for a, parameter in zip(before, parameters, strict=True))
