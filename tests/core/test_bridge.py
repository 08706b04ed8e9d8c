"""check_bridge: what it accepts, what it names, and that it leaves no trace."""

from __future__ import annotations

import contextlib
import inspect
import random
from typing import Any

import numpy
import pytest
import torch

from trainkit import MachineError, check_bridge

NONE = inspect.Parameter.empty


class Sgd(torch.optim.SGD):
    """Stands for a library's optimizer."""

    def __init__(self, params: Any, lr: float = 0.1, *, steps: int) -> None:
        super().__init__(params, lr)


class Closure(Sgd):
    def step(self, closure: Any) -> None:
        closure()
        super().step()


class Still(Sgd):
    def step(self, closure: Any = None) -> None:
        pass


class Infinite(Sgd):
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.fill_(float("inf"))


class Raising(Sgd):
    def step(self, closure: Any = None) -> None:
        raise KeyError("gone")


class Drawing(Sgd):
    def step(self, closure: Any = None) -> None:
        random.random(), numpy.random.rand(), torch.rand(3)
        super().step()


def check(wrapped: Any, defaults: dict[str, Any] | None = None, **more: Any) -> None:
    known = {"lr": 0.1, "steps": NONE} if defaults is None else defaults
    check_bridge("pluggy", "0.0.1", wrapped, known, lambda groups: wrapped(groups, steps=1), **more)


@pytest.mark.parametrize(("wrapped", "more"), [(Sgd, {}), (Closure, {"closure": True}), (Sgd, {"ndims": (4, 2, 1)})])
def test_what_is_as_it_should_be_passes(wrapped, more):
    check(wrapped, **more)


@pytest.mark.parametrize(
    ("wrapped", "defaults", "message"),
    [
        (Sgd, {"momentum": 0.0}, "Sgd has no parameter 'momentum'"),
        (Sgd, {"lr": 0.2}, r"Sgd has lr = 0\.1, the bridge knows 0\.2"),
        (Sgd, {"lr": NONE}, "Sgd has lr"),
        (Still, None, "Still: it left parameters as they were in 12 updates"),
        (Infinite, None, "Infinite: an update was not finite"),
        (Raising, None, "Raising: an update raised KeyError: 'gone'"),
    ],
)
def test_what_is_not_is_named_with_library_and_version(wrapped, defaults, message):
    import pluggy

    with pytest.raises(MachineError, match=message) as caught:
        check(wrapped, defaults)
    assert f"pluggy {pluggy.__version__} is not what" in str(caught.value)
    assert "pip install 'pluggy==0.0.1'" in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("wrapped", [Drawing, Raising])
def test_it_draws_no_number_of_the_run(wrapped):
    def draw() -> tuple[Any, ...]:
        random.seed(1), numpy.random.seed(1), torch.manual_seed(1)
        return random.random(), numpy.random.rand(), torch.rand(2).tolist()

    def after() -> tuple[Any, ...]:
        random.seed(1), numpy.random.seed(1), torch.manual_seed(1)
        with contextlib.suppress(MachineError):
            check(wrapped)
        return random.random(), numpy.random.rand(), torch.rand(2).tolist()

    assert draw() == after()


def test_it_works_where_gradients_are_off():
    with torch.no_grad():
        check(Sgd)
