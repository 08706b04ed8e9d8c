"""What every loss keeps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from trainkit.component import Component
from trainkit.evaluate import loss_weight
from trainkit.heads import details_of, knowing_nothing, predicted
from trainkit.protocols import Loss
from trainkit.testing.build import made
from trainkit.testing.samples import Case, OnData, on_any_device, refuses_in_words, said

SIZES = [1, 7, 4]  # of uneven batches


class LossContract(OnData):
    """A loss is a scalar, the mean over the batch, and differentiable."""

    kind = "loss"

    def test_refuses_other_data_in_words(self, component: Component) -> None:
        """Data that it is not for is refused with a message: by DataError, or where the first samples come."""
        refuses_in_words(component)

    def test_gives_a_scalar(self, component: Component, cases: list[Case]) -> None:
        """The loss of a batch is one finite number, a tensor without dimensions."""
        for case, loss in built(component, cases):
            found = loss(case.outputs(12), case.targets(12))
            what = f"loss '{component.name}' on {case}"
            assert isinstance(found, Tensor), f"{what}: gives {type(found).__name__}; give a tensor"
            assert found.shape == (), f"{what}: gives shape {tuple(found.shape)}; give the mean over the batch"
            assert found.isfinite(), f"{what}: gives {found.item()}"

    def test_is_the_mean_over_samples(self, component: Component, cases: list[Case]) -> None:
        """Means of uneven batches, weighted by ``weight(targets)`` or else by samples, make the mean of the whole."""
        if component.capabilities.get("whole_batches"):
            return
        for case, loss in built(component, cases):
            outputs, targets = case.outputs(sum(SIZES)).double(), case.targets(sum(SIZES))
            pairs = list(zip(torch.split(outputs, SIZES), torch.split(targets, SIZES), strict=True))
            weights = [float(loss_weight(loss, part)) for _, part in pairs]
            parts = sum(float(loss(*pair)) * weight for pair, weight in zip(pairs, weights, strict=True)) / sum(weights)
            whole = float(loss(outputs, targets))
            assert abs(parts - whole) <= 1e-6 * abs(whole) + 1e-12, (
                f"loss '{component.name}' on {case}: {len(SIZES)} batches make {parts:.9g}, together they are "
                f"{whole:.9g}; give the mean over the batch, and where it is one over weights also weight(targets)"
                f"{case.advice}"
            )

    def test_is_differentiable(self, component: Component, cases: list[Case]) -> None:
        """Its gradient is the slope of the loss, and not zero."""
        for case, loss in built(component, cases):
            outputs, targets = case.outputs(12).double().requires_grad_(), case.targets(12)
            what = f"loss '{component.name}' on {case}"
            value = loss(outputs, targets)
            assert value.requires_grad, f"{what}: has no gradient; do not detach outputs, nor go through numpy"
            (gradient,) = torch.autograd.grad(value, outputs, allow_unused=True, materialize_grads=True)
            assert gradient.abs().sum() > 0, f"{what}: its gradient is zero"
            way = case.outputs(12, seed=7).double()
            ahead, back = (float(loss(outputs.detach() + step * way, targets)) for step in (1e-5, -1e-5))
            slope, expected = (ahead - back) / 2e-5, float((gradient * way).sum())
            assert abs(slope - expected) <= 1e-5 * (abs(slope) + abs(expected)) + 1e-8, (
                f"{what}: the gradient says that the loss rises by {expected:.6g}, it rises by {slope:.6g}{case.advice}"
            )

    def test_is_finite_on_extremes(self, component: Component, cases: list[Case]) -> None:
        """Outputs of 0 and of plus and minus 10,000 have a finite loss and finite gradients."""
        for case, loss in built(component, cases):
            for scale in (0.0, 1e4):
                outputs = (scale * case.outputs(12).sign()).requires_grad_()
                value = loss(outputs, case.targets(12))
                (gradient,) = torch.autograd.grad(value, outputs)
                what = f"loss '{component.name}' on {case}, outputs of {scale:g}"
                assert value.isfinite(), (
                    f"{what}: gives {value.item()}; work with logarithms, as log_softmax does{case.advice}"
                )
                assert gradient.isfinite().all(), (
                    f"{what}: its gradient is not finite; mask before, not after, a log{case.advice}"
                )

    def test_remembers_nothing(self, component: Component, cases: list[Case]) -> None:
        """The same batch has the same loss whatever came before, an evaluation in inference mode included."""
        for case, loss in built(component, cases):
            outputs, targets = case.outputs(12), case.targets(12)
            with torch.inference_mode():
                before = float(loss(outputs, targets))
            for seed in (1, 2):
                loss(case.outputs(5, seed), case.targets(5, seed))
            after = loss(outputs.requires_grad_(), targets)
            again = float(after.detach())
            assert again == before, (
                f"loss '{component.name}' on {case}: {before} at first, {again} after other batches; a loss "
                "that changes with time is a callback with trainkit_loss"
            )
            torch.autograd.backward(after)

    def test_leaves_its_arguments_alone(self, component: Component, cases: list[Case]) -> None:
        """Outputs and targets are not changed: metrics see them afterwards."""
        for case, loss in built(component, cases):
            outputs, targets = case.outputs(12), case.targets(12)
            before = outputs.clone(), targets.clone()
            loss(outputs, targets)
            same = torch.equal(outputs, before[0]) and torch.equal(targets, before[1])
            assert same, f"loss '{component.name}' on {case}: changes outputs or targets in place"

    def test_is_computed_in_float32_at_least(self, component: Component, cases: list[Case]) -> None:
        """Outputs in bfloat16 give a float32 loss in the run's precision, outputs in float64 a float64 one."""
        for case, loss in built(component, cases):
            half, targets = case.outputs(12).bfloat16(), case.targets(12)
            what = f"loss '{component.name}' on {case}"
            with torch.autocast("cpu", torch.bfloat16):
                found = loss(half, targets)
            assert found.dtype is torch.float32, (
                f"{what}: {found.dtype} of bfloat16 outputs; begin with outputs.float()"
            )
            exact = float(loss(half.float(), targets))
            assert abs(float(found) - exact) <= 1e-3 * abs(exact), (
                f"{what}: {float(found)} of bfloat16 outputs, {exact} of the same numbers in float32; begin with "
                "outputs.float(), and make products of matrices where torch.autocast(device, enabled=False) holds"
            )
            double = loss(half.double(), targets).dtype
            assert double is torch.float64, f"{what}: {double} of float64 outputs; make tensors of the outputs' dtype"

    def test_each_is_the_loss_of_each_sample(self, component: Component, cases: list[Case]) -> None:
        """Where it has ``each``: ``(batch,)``, whose mean is the loss."""
        for case, loss in built(component, cases):
            if (each := getattr(loss, "each", None)) is None:
                continue
            outputs, targets = case.outputs(12).double(), case.targets(12)
            found = each(outputs, targets)
            alone = torch.stack([loss(outputs[i : i + 1], targets[i : i + 1]) for i in range(12)])
            what = f"loss '{component.name}' on {case}: each"
            assert found.shape == (12,), f"{what} gives shape {tuple(found.shape)} for 12 samples; it must be (batch,)"
            assert torch.allclose(found, alone, rtol=1e-9, atol=1e-12), f"{what} is not the loss of each sample alone"

    def test_sloped_is_the_gradient_of_each(self, component: Component, cases: list[Case]) -> None:
        """Where it has ``sloped``: what ``each`` gives, and the gradient of each sample's loss, also of many lanes."""
        for case, loss in built(component, cases):
            if (sloped := getattr(loss, "sloped", None)) is None or case.spec.task == "tokens":
                continue
            outputs, targets = case.outputs(12).double(), case.targets(12)
            each: Any = loss.each  # type: ignore[attr-defined]  # whoever has the one has the other
            expected = each(outputs.requires_grad_(), targets)
            (gradient,) = torch.autograd.grad(expected.sum(), outputs)
            outputs = outputs.detach()

            def in_lanes(rows: Tensor) -> Tensor:
                return rows.reshape(3, 4, *rows.shape[1:])

            for given, wanted in (
                ((outputs, targets), (expected.detach(), gradient)),
                (
                    (in_lanes(outputs), in_lanes(targets)),
                    (expected.detach().view(3, 4), in_lanes(gradient)),
                ),
            ):
                if (found := sloped(*given)) is None:
                    continue
                what = f"loss '{component.name}' on {case}: sloped, of outputs {tuple(given[0].shape)},"
                assert torch.allclose(found[0], wanted[0], rtol=1e-9), f"{what} gives other losses than each"
                assert torch.allclose(found[1], wanted[1], rtol=1e-9, atol=1e-12), (
                    f"{what} gives other gradients than those of each"
                )

    def test_says_what_outputs_predict(self, component: Component, cases: list[Case]) -> None:
        """Where it has ``outputs`` or ``predictions``: finite numbers as metrics take them, of many lanes too."""
        for case, loss in built(component, cases):
            asks, says = (hasattr(loss, name) for name in ("outputs", "predictions"))
            what = f"loss '{component.name}' on {case}"
            assert says or not asks, f"{what}: has outputs and no predictions: say what so many numbers predict"
            if not says:
                continue
            outputs = torch.stack([case.outputs(12, seed) for seed in range(3)])
            found, alone = (torch.stack([predicted(loss, lane) for lane in outputs]), predicted(loss, outputs))
            plain = replace(case, width=None).output_shape(12)
            for made_so in (found, alone):
                assert made_so.shape == (3, *plain), (
                    f"{what}: predictions {tuple(made_so.shape)} of 3 lanes of outputs {tuple(outputs.shape[1:])}; "
                    f"metrics take {plain} of each"
                )
                assert made_so.isfinite().all(), f"{what}: predictions are not finite"
            assert torch.equal(found, alone), (
                f"{what}: predictions differ for several lanes; look at the last dimension"
            )
            for name, told in details_of(loss, outputs[0]).items():
                assert len(told) == 12, f"{what}: details: '{name}' is {tuple(told.shape)} of 12 samples"

    def test_equal_outputs_know_nothing(self, component: Component, cases: list[Case]) -> None:
        """Where it has ``equal``: the same outputs for all samples, better than drawn ones."""
        for case, loss in built(component, cases):
            targets = case.targets(12)
            if (equal := knowing_nothing(loss, targets)) is None:
                continue
            what = f"loss '{component.name}' on {case}: equal(targets)"
            assert equal.shape == case.output_shape(12), f"{what} is {tuple(equal.shape)}; outputs are needed"
            assert torch.equal(equal, equal[:1].expand_as(equal)), f"{what} differs between samples"
            assert loss(equal, targets) < loss(case.outputs(12), targets), (
                f"{what} has a higher loss than drawn outputs"
            )

    def test_weighs_batches_by_their_targets(self, component: Component, cases: list[Case]) -> None:
        """Where it has ``weight``: a positive scalar, and that of two batches together is the sum of both."""
        for case, loss in built(component, cases):
            if (weight := getattr(loss, "weight", None)) is None:
                continue
            targets = case.targets(12)
            parts = [weight(part) for part in (targets[:5], targets[5:], targets)]
            what = f"loss '{component.name}' on {case}: weight(targets)"
            assert all(isinstance(part, Tensor) and part.shape == () for part in parts), f"{what} is no scalar tensor"
            first, second, whole = map(float, parts)
            assert min(first, second) > 0, f"{what} is {min(first, second)}; it must be above 0"
            assert abs(first + second - whole) <= 1e-5 * whole, (
                f"{what} is {first} and {second} of two batches, and {whole} of both; give the sum of their weights"
            )

    def test_gives_each_lane_its_own_loss(self, component: Component, cases: list[Case]) -> None:
        """Several lanes at once have the losses of one after another; who cannot declares ``lanes: False``."""
        if component.capabilities.get("lanes") is False:
            return
        for case, loss in built(component, cases):
            outputs, targets = torch.stack([case.outputs(12, seed) for seed in range(3)]), case.targets(12)
            alone = torch.stack([loss(lane, targets) for lane in outputs])
            what = f"loss '{component.name}' on {case}"
            try:
                found = vmap(loss, in_dims=(0, None))(outputs, targets)
            except RuntimeError as error:
                raise AssertionError(f"{what}: torch.vmap: {said(error)}; declare lanes: False, or mend it") from error
            assert torch.allclose(found, alone, rtol=1e-5, atol=1e-7), (
                f"{what}: {found.tolist()} as lanes, {alone.tolist()} one after another; declare lanes: "
                "False, or mend it"
            )

    def test_compiles_as_declared(self, component: Component, cases: list[Case]) -> None:
        """One that declares ``compiles`` is traced as one graph, and gives the same."""
        if not component.capabilities.get("compiles"):
            return
        case, loss = next(iter(built(component, cases)))
        outputs, targets = case.outputs(12), case.targets(12)
        torch._dynamo.reset()
        compiled = torch.compile(lambda o, t: loss(o, t), backend="eager", fullgraph=True)
        try:
            found = compiled(outputs, targets)
        except Exception as error:  # torch has many, and no common base of them
            raise AssertionError(
                f"loss '{component.name}' declares compiles, and cannot be traced as one graph: {said(error)}"
            ) from error
        assert torch.allclose(found, loss(outputs, targets)), (
            f"loss '{component.name}': compiled it gives another value"
        )

    def test_runs_on_any_device_without_waiting(self, component: Component, cases: list[Case]) -> None:
        """It works where the outputs are, and never waits for a value."""
        for case, loss in built(component, cases):
            with on_any_device(f"loss '{component.name}' on {case}"):
                found = loss(case.outputs(12).to("meta"), case.targets(12).to("meta"))
            assert found.device.type == "meta", f"loss '{component.name}': the loss is not where the outputs are"


def built(component: Component, cases: list[Case]) -> list[tuple[Case, Loss]]:
    """The loss for each kind of data, of which outputs are those that it asks for."""
    losses = [made(component, data_spec=case.spec) for case in cases]
    return [(case.under(loss), loss) for case, loss in zip(cases, losses, strict=True)]
