from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from trainkit.ensemble import together
from trainkit.ensemble.aligned import Aligned
from trainkit.ensemble.together import MOST, Together

Make = Callable[[], nn.Module]


class Rows(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1)


class Residual(nn.Module):
    """Control flow of its own, BatchNorms behind convolutions, and one that stands alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        held = torch.relu(self.norm(self.first(inputs)))
        held = self.last(held + self.second(held))
        return self.head(held.mean((2, 3)))


def mlp(norm: Make | None = None, bias: bool = True) -> nn.Module:
    layers: list[nn.Module] = [nn.Linear(18, 7, bias=bias)]
    layers += [norm()] if norm else []
    layers += [nn.GELU(), nn.Dropout(0.5), nn.Linear(7, 3)]
    return nn.Sequential(OrderedDict(rows=Rows(), body=nn.Sequential(*layers)))


def images() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3))


def odd() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Tanh(), nn.BatchNorm1d(18), nn.Linear(18, 3, bias=False))


def sequences() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(2), nn.Linear(9, 4), nn.LayerNorm(4, bias=False), nn.SiLU(), nn.Flatten(), nn.Linear(8, 3)
    )


def aligned() -> nn.Module:
    scales = torch.rand(2, 2, 1, 1) + 0.5
    return Aligned(mlp(), scales[0], scales[1], torch.rand(3) + 0.5, torch.randn(3))


MAKES: dict[str, Make] = {
    "mlp": mlp,
    "mlp, no bias": lambda: mlp(bias=False),
    "mlp, batch norm": lambda: mlp(lambda: nn.BatchNorm1d(7)),
    "mlp, batch norm without weights": lambda: mlp(lambda: nn.BatchNorm1d(7, affine=False)),
    "mlp, layer norm": lambda: mlp(lambda: nn.LayerNorm(7)),
    "norm at the inputs": odd,
    "sequences": sequences,
    "images": images,
    "residual": Residual,
    "aligned": aligned,
}


def made(make: Make, count: int = 4) -> list[nn.Module]:
    """Modules whose statistics are not those of a beginning, without gradients."""
    torch.manual_seed(3)
    modules = [make().eval().requires_grad_(False) for _ in range(count)]
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) + 0.1 if tensor.dim() == 1 else torch.randn_like(tensor))
    return modules


def batch(size: int = 5) -> Tensor:
    return torch.randn(size, 2, 3, 3, generator=torch.Generator().manual_seed(size))


def one_by_one(modules: list[nn.Module], inputs: Tensor) -> Tensor:
    return torch.stack([module(inputs) for module in modules])


class Counted(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that each way takes: one after another, stacked."""
    seconds = [1.0, 2.0]
    monkeypatch.setattr(together, "_seconds", lambda call, inputs: seconds[call.__name__ == "_stacked"])
    return seconds


@pytest.mark.parametrize("make", MAKES.values(), ids=list(MAKES))
def test_stacked_modules_give_what_each_gives(make: Make) -> None:
    modules = made(make)
    both = Together(modules, mode="stacked")
    for size in (5, 1, 8):
        expected = one_by_one(modules, batch(size))
        torch.testing.assert_close(both(batch(size)), expected, rtol=1e-5, atol=1e-5)
    assert both.why_each == ""


@pytest.mark.parametrize("make", [mlp, lambda: mlp(lambda: nn.BatchNorm1d(7)), Residual])
def test_a_stack_takes_no_more_operations_than_a_module_or_two(make: Make) -> None:
    modules, inputs = made(make, 10), batch()
    both = Together(modules, mode="stacked")
    both(inputs)
    with Counted() as stacked:
        both(inputs)
    with Counted() as one:
        modules[0](inputs)
    assert len(stacked.names) <= (2 if make is not Residual else 5) * len(one.names)
    assert "native_batch_norm" not in stacked.names or make is Residual
    assert stacked.names.count("convolution") == one.names.count("convolution")


def test_a_batch_norm_behind_a_convolution_is_folded_and_one_of_a_sum_is_not() -> None:
    both = Together(made(Residual), mode="stacked")
    both(batch())
    with Counted() as counted:
        both(batch())
    assert sum("batch_norm" in name for name in counted.names) == 1


def test_a_batch_norm_that_is_given_other_inputs_too_is_not_folded() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.Linear(18, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.head(self.norm(self.norm(self.conv(inputs)) * 2).flatten(1))

    modules = made(Twice)
    both = Together(modules, mode="stacked")
    both(batch())
    torch.testing.assert_close(both(batch()), one_by_one(modules, batch()), rtol=1e-5, atol=1e-5)
    assert both.why_each == ""


def test_modules_of_several_structures_keep_their_order() -> None:
    small, large = made(mlp, 2), made(lambda: mlp(lambda: nn.LayerNorm(7)), 2)
    modules = [small[0], large[0], made(images, 1)[0], small[1], large[1]]
    both = Together(modules, mode="stacked")
    for _ in range(2):
        torch.testing.assert_close(both(batch()), one_by_one(modules, batch()), rtol=1e-5, atol=1e-6)
    assert both.why_each == ""


def test_modules_that_differ_in_a_number_are_not_stacked() -> None:
    modules = [nn.Sequential(nn.Flatten(), nn.Linear(18, 3), nn.LeakyReLU(slope)).eval() for slope in (0.1, 0.5)]
    both = Together(modules, mode="stacked").requires_grad_(False)
    assert both(batch()).equal(one_by_one(modules, batch()))
    assert both.why_each == "no two of them have one structure"


def test_tied_weights_stay_tied() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(18, 18), nn.Linear(18, 18)
            self.other.weight = self.one.weight

        def forward(self, inputs: Tensor) -> Tensor:
            return self.other(torch.relu(self.one(inputs.flatten(1))))

    modules = made(Tied)
    both = Together(modules, mode="stacked")
    both(batch())
    torch.testing.assert_close(both(batch()), one_by_one(modules, batch()), rtol=1e-5, atol=1e-4)
    assert both.why_each == ""


def test_changed_weights_count_at_once() -> None:
    modules = made(mlp)
    both = Together(modules, mode="stacked")
    both(batch())
    with torch.no_grad():
        modules[1].body[0].weight.mul_(-2.0)  # type: ignore[union-attr, index, operator]
    torch.testing.assert_close(both(batch()), one_by_one(modules, batch()), rtol=1e-5, atol=1e-6)
    modules[2].body[0].bias.data = torch.randn(7)  # type: ignore[union-attr, index]
    torch.testing.assert_close(both(batch()), one_by_one(modules, batch()), rtol=1e-5, atol=1e-6)
    both.double()
    assert both(batch().double()).dtype is torch.float64


def test_weights_that_come_to_lie_where_others_were_count_too() -> None:
    for _ in range(30):
        modules = made(mlp, 2)
        both = Together(modules, mode="stacked")
        both(batch())
        for _ in range(2):  # the second time often in the memory that the first has set free
            modules[1].body[0].weight.data = torch.randn(7, 18)  # type: ignore[union-attr, index]
        torch.testing.assert_close(both(batch()), one_by_one(modules, batch()), rtol=1e-5, atol=1e-5)


def test_only_the_modules_are_its_state() -> None:
    both = Together(made(mlp), mode="stacked")
    names = list(both.state_dict())
    both(batch())
    assert list(both.state_dict()) == names
    assert names[0] == "each.0.body.0.weight"


def test_in_training_mode_each_draws_its_own_dropout() -> None:
    modules = made(mlp)
    both = Together(modules, mode="stacked")
    both(batch())
    both.train()
    torch.manual_seed(0)
    given = both(batch())
    torch.manual_seed(0)
    assert given.equal(one_by_one(modules, batch()))


def test_gradients_reach_the_weights_of_each() -> None:
    modules = made(mlp)
    for module in modules:
        module.requires_grad_(True)
    both = Together(modules, mode="stacked")
    both(batch()).sum().backward()
    assert all(parameter.grad is not None for parameter in both.parameters())
    with torch.no_grad(), Counted() as counted:
        both(batch())
        both(batch())
    assert "baddbmm" in counted.names


def test_gradients_reach_the_inputs_through_a_stack() -> None:
    modules, inputs = made(mlp), batch().requires_grad_()
    both = Together(modules, mode="stacked")
    both(inputs)
    (found,) = torch.autograd.grad(both(inputs).square().sum(), inputs)
    (expected,) = torch.autograd.grad(one_by_one(modules, inputs).square().sum(), inputs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [mlp, Residual])
def test_gradients_reach_the_inputs_through_a_stack_made_in_inference_mode(make: Make) -> None:
    both, inputs = Together(made(make), mode="stacked"), batch().requires_grad_()
    with torch.inference_mode():
        both(batch())
        both(batch() * 1)
    torch.autograd.grad(both(inputs).square().sum(), inputs)
    assert both.why_each == ""


@pytest.mark.parametrize("reason", ["value", "hook", "forward"])
def test_what_cannot_be_stacked_is_called_one_after_another(reason: str) -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(18, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            outputs: Tensor = self.head(inputs.flatten(1))
            return outputs if reason == "value" and float(outputs[0, 0]) > 0 else -outputs

    modules = made(Branching)
    if reason == "hook":
        for module in modules:
            module.head.register_forward_hook(lambda module, given, outputs: outputs + 1)  # type: ignore[union-attr]
    elif reason == "forward":
        for module in modules:
            module.head.forward = module.head.forward  # type: ignore[union-attr, assignment]
    both = Together(modules, mode="stacked")
    for _ in range(2):
        assert both(batch()).equal(one_by_one(modules, batch()))
    assert both.why_each


def test_a_hook_on_one_of_the_modules_is_called_each_time() -> None:
    modules, seen = made(mlp), []
    modules[2].body[0].register_forward_hook(lambda *given: seen.append(1))  # type: ignore[union-attr, index, operator]
    both = Together(modules, mode="stacked")
    for _ in range(3):
        both(batch())
    assert len(seen) == 3


def test_modules_with_a_sparse_tensor_are_called_one_after_another() -> None:
    class Mixing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(18, 3)
            self.register_buffer("mix", torch.eye(3).to_sparse(), persistent=False)

        def forward(self, inputs: Tensor) -> Tensor:
            return torch.sparse.mm(self.mix, self.head(inputs.flatten(1)).T).T

    modules: list[nn.Module] = [Mixing().eval().requires_grad_(False) for _ in range(2)]
    both = Together(modules, mode="stacked")
    for _ in range(2):
        assert both(batch()).equal(one_by_one(modules, batch()))
    assert both.why_each == "a tensor is sparse"


def test_an_error_of_a_module_is_its_own() -> None:
    both = Together(made(mlp), mode="stacked")
    both(batch())
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        both(torch.randn(5, 17))
    assert both(batch()).shape == (4, 5, 3)


def test_one_module_is_itself() -> None:
    (module,) = made(mlp, 1)
    assert Together([module])(batch()).equal(module(batch())[None])


def test_the_quicker_way_is_used_for_each_size_of_batch(clock: list[float]) -> None:
    modules = made(mlp)
    both = Together(modules)
    clock[:] = 2.0, 1.0
    both(batch(5))
    clock[:] = 1.0, 2.0
    both(batch(16))
    assert both.chosen == {8: "stacked", 16: "each"}
    for size, name in ((7, "baddbmm"), (9, "addmm")):
        with Counted() as counted:
            both(batch(size))
        assert name in counted.names
    clock[:] = 2.0, 1.0
    both(batch(16))
    assert both.chosen[16] == "each"  # what was found stays


def test_large_batches_and_deterministic_programs_are_not_measured(clock: list[float]) -> None:
    clock[:] = 2.0, 1.0
    both = Together(made(mlp))
    both(batch(MOST + 1))
    assert both.chosen == {}
    torch.use_deterministic_algorithms(True)
    try:
        assert both(batch(4)).equal(one_by_one(list(both.each), batch(4)))
    finally:
        torch.use_deterministic_algorithms(False)
    assert both.chosen == {}


def test_what_is_stored_and_reported_does_not_go_by_what_was_timed(clock: list[float]) -> None:
    clock[:] = 2.0, 1.0
    modules = made(images)
    both, stacked = Together(modules), Together(modules, mode="stacked")
    both(batch(4))
    stacked(batch(4))
    with together.reproducibly():
        with Counted() as counted:
            assert both(batch(4)).equal(one_by_one(modules, batch(4)))
        assert counted.names.count("convolution") == 2 * len(modules)
        with Counted() as counted:
            stacked(batch(4))
        assert counted.names.count("convolution") == 1
    with Counted() as counted:
        both(batch(4))
    assert counted.names.count("convolution") == 1


def test_the_first_call_gives_what_one_after_another_gives(clock: list[float]) -> None:
    clock[:] = 2.0, 1.0
    modules = made(images)
    assert Together(modules)(batch(4)).equal(one_by_one(modules, batch(4)))


def test_a_mode_can_be_asked_for() -> None:
    modules = made(images)
    assert Together(modules, mode="each")(batch(4)).equal(one_by_one(modules, batch(4)))
    both = Together(modules, mode="each")
    both(batch(4))
    assert both.chosen == {}


def test_it_exports_as_its_modules_one_after_another() -> None:
    both = Together(made(mlp)).eval()
    both(batch(4))
    program = torch.export.export(both, (batch(4),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.testing.assert_close(program.module()(batch(3)), one_by_one(list(both.each), batch(3)), rtol=1e-6, atol=1e-6)
    assert set(program.state_dict) == set(both.state_dict())


def test_a_copy_has_weights_of_its_own() -> None:
    both = Together(made(mlp), mode="stacked")
    both(batch())
    other = copy.deepcopy(both)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5)
    torch.testing.assert_close(other(batch()), one_by_one(list(other.each), batch()), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(both(batch()), one_by_one(list(both.each), batch()), rtol=1e-5, atol=1e-6)
