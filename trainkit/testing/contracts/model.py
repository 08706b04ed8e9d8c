"""What every model keeps."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from trainkit.checkpoint import from_safetensors, load_weights, to_safetensors, weights_of
from trainkit.component import Component
from trainkit.seeding import seed_everything
from trainkit.testing.build import made
from trainkit.testing.samples import Case, OnData, on_any_device, refuses_in_words, said

SAMPLES = 8
DRAWS = 12  # batches in which a gradient may reach a parameter: a model may leave out layers by chance


class ModelContract(OnData):
    """A model is a module that fits the data, whose state is its weights."""

    kind = "model"

    def test_refuses_other_data_in_words(self, component: Component) -> None:
        """Data that it is not for is refused with a message: by DataError, or where the first samples come."""
        refuses_in_words(component)

    def test_fits_the_data(self, component: Component, cases: list[Case]) -> None:
        """Outputs are finite, ``(batch, outputs)`` (of tokens with positions between), for a batch of any size."""
        for case, model in built(component, cases):
            outputs = model(case.inputs(SAMPLES))
            wanted = case.output_shape(SAMPLES)
            what = f"model '{component.name}' on {case}"
            shape = "(batch, positions, outputs)" if len(wanted) > 2 else "(batch, outputs)"
            assert outputs.shape == wanted, f"{what}: gives {tuple(outputs.shape)}; give {shape}, {wanted} here"
            assert outputs.isfinite().all(), f"{what}: the outputs of new weights are not finite"
            one = model.eval()(case.inputs(1))
            assert one.shape == case.output_shape(1), f"{what}: gives {tuple(one.shape)} for a single sample"

    def test_same_seed_same_weights(self, component: Component, cases: list[Case]) -> None:
        """The same seed gives the same weights, bit for bit: random numbers come from torch's own generator."""
        for case in cases:
            first, second = (weights_of(new(component, case, seed=3)) for _ in range(2))
            differ = [name for name in first if not torch.equal(first[name], second[name])]
            assert not differ, (
                f"model '{component.name}' on {case}: other weights from the same seed ({', '.join(differ)}); draw "
                "with torch's default generator, or from the seed alone"
            )

    def test_evaluation_looks_at_each_sample_alone(self, component: Component, cases: list[Case]) -> None:
        """In evaluation mode the same sample has the same outputs, always and in whatever batch."""
        for case, model in built(component, cases):
            model.double().eval()
            inputs = in_dtype(case.inputs(SAMPLES), torch.float64)
            with torch.no_grad():
                whole, again = model(inputs), model(inputs)
                parts = torch.cat([model(part) for part in torch.split(inputs.flip(0), [1, 5, 2])]).flip(0)
            what = f"model '{component.name}' on {case}, in evaluation mode"
            assert torch.equal(whole, again), f"{what}: other outputs at the second time; draw nothing in eval()"
            assert torch.allclose(whole, parts, rtol=1e-8, atol=1e-10), (
                f"{what}: the outputs of a sample depend on the others of its batch; use what training has gathered"
            )

    def test_its_state_is_its_weights(self, component: Component, cases: list[Case]) -> None:
        """What parameters and buffers hold, saved without pickle, makes any new model the same, bit for bit."""
        for case in cases:
            model, other = new(component, case, seed=3), new(component, case, seed=4)
            with torch.no_grad():
                for seed in range(3):
                    model(case.inputs(SAMPLES, seed))
            what = f"model '{component.name}' on {case}"
            try:
                load_weights(other, from_safetensors(bytearray(to_safetensors(weights_of(model)))), prefix="")
            except TypeError as error:
                raise AssertionError(f"{what}: {error}") from error
            with torch.no_grad():
                expected, found = (one.eval()(case.inputs(SAMPLES, 9)) for one in (model, other))
            assert torch.equal(expected, found), (
                f"{what}: loaded weights give other outputs; what forward uses or counts must be a parameter, a "
                "buffer (register_buffer), or follow from the settings"
            )

    def test_gradients_reach_every_parameter(self, component: Component, cases: list[Case]) -> None:
        """Every parameter that can be trained gets a gradient that is not zero: none is left over."""
        for case, model in built(component, cases):
            _stir(model)
            for seed in range(DRAWS):
                outputs = model(case.inputs(4 * SAMPLES, seed))
                (outputs * case.outputs(4 * SAMPLES, seed)).sum().backward()
                lacking = [
                    name
                    for name, parameter in model.named_parameters()
                    if parameter.requires_grad and (parameter.grad is None or not bool(parameter.grad.abs().sum() > 0))
                ]
                if not lacking:
                    break
            assert not lacking, (
                f"model '{component.name}' on {case}: no gradient reaches {', '.join(lacking)}; leave them out of the "
                "model, freeze them (requires_grad_(False)), or use them in forward"
            )

    def test_leaves_its_inputs_alone(self, component: Component, cases: list[Case]) -> None:
        """Inputs are not changed: they may be the data itself."""
        for case, model in built(component, cases):
            inputs = case.inputs(SAMPLES)
            before = inputs.clone()
            model(inputs).sum().backward()
            assert torch.equal(inputs, before), (
                f"model '{component.name}' on {case}: changes its inputs; the first layer may not work in place"
            )

    def test_computes_in_the_dtype_it_is_given(self, component: Component, cases: list[Case]) -> None:
        """In float64 its outputs are float64, in bfloat16 they are bfloat16 or wider."""
        for case in cases:
            for dtype in (torch.float64, torch.bfloat16):
                model = new(component, case).to(dtype)
                what = f"model '{component.name}' on {case}, in {dtype}"
                try:
                    found = model(in_dtype(case.inputs(SAMPLES), dtype)).dtype
                except RuntimeError as error:
                    raise AssertionError(f"{what}: {error}; make new tensors of the inputs' dtype") from error
                wide = torch.promote_types(found, dtype)
                assert wide is found, f"{what}: gives {found}; make new tensors of the inputs' dtype"

    def test_moves_to_any_device_whole(self, component: Component, cases: list[Case]) -> None:
        """``model.to(device)`` takes all that forward needs along, and forward waits for no value."""
        for case, model in built(component, cases):
            with on_any_device(f"model '{component.name}' on {case}"):
                outputs = model.to("meta")(case.inputs(SAMPLES).to("meta"))
            assert outputs.device.type == "meta", f"model '{component.name}': outputs are not where the inputs are"

    def test_lanes_equal_one_after_another(self, component: Component, cases: list[Case]) -> None:
        """Several models stacked give the outputs and buffers of each alone; who cannot declares ``lanes: False``."""
        if component.capabilities.get("lanes") is False:
            return
        for case in cases:
            models = [new(component, case, seed=seed).double() for seed in (1, 2)]
            inputs = in_dtype(case.inputs(SAMPLES), torch.float64)
            if _draws(models[0], inputs):  # each lane has random numbers of its own, which the core sees to
                models = [model.eval() for model in models]
            params, buffers = stack_module_state(models)
            skeleton = copy.deepcopy(models[0])
            for parameter in skeleton.parameters():  # not `.to("meta")`, which would untie weights
                parameter.data = parameter.new_empty(0)

            def run(params: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
                outputs: Tensor = functional_call(skeleton, (params, buffers), (inputs,))  # noqa: B023
                return outputs

            what = f"model '{component.name}' on {case}"
            cure = "declare capabilities={'lanes': False}, or mend it"
            try:
                stacked = vmap(run)(params, buffers)
            except (RuntimeError, NotImplementedError) as error:
                raise AssertionError(f"{what}: cannot be stacked: {said(error)}; {cure}") from error
            alone = torch.stack([model(inputs) for model in models])
            assert torch.allclose(stacked, alone, rtol=1e-7, atol=1e-9), f"{what}: other outputs as lanes; {cure}"
            for name, buffer in buffers.items():
                own = torch.stack([dict(model.named_buffers())[name] for model in models])
                assert torch.allclose(buffer, own, rtol=1e-7, atol=1e-9), (
                    f"{what}: other {name} as lanes; change buffers in place (copy_), or {cure}"
                )

    def test_compiles_as_declared(self, component: Component, cases: list[Case]) -> None:
        """One that declares ``compiles`` is traced as one graph, once, and gives the same."""
        if not component.capabilities.get("compiles"):
            return
        model = new(component, cases[0]).eval()
        inputs = cases[0].inputs(SAMPLES)
        torch._dynamo.reset()
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        what = f"model '{component.name}' declares compiles"
        try:
            found = compiled(inputs)
        except Exception as error:  # torch has many, and no common base of them
            raise AssertionError(f"{what}, and cannot be traced as one graph: {said(error)}") from error
        assert torch.allclose(found, model(inputs), rtol=1e-5, atol=1e-6), f"{what}, and gives other outputs compiled"
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        compiled(cases[0].inputs(SAMPLES, 1))
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs, f"{what}, and is traced at every batch"


def new(component: Component, case: Case, seed: int = 3) -> nn.Module:
    """The model for one kind of data, in training mode."""
    seed_everything(seed, "model")
    model: nn.Module = made(component, data_spec=case.spec)
    return model.train()


def in_dtype(inputs: Tensor, dtype: torch.dtype) -> Tensor:
    """Inputs in another dtype, where they are no numbers of tokens."""
    return inputs.to(dtype) if inputs.is_floating_point() else inputs


def built(component: Component, cases: list[Case]) -> list[tuple[Case, nn.Module]]:
    """The model for each kind of data, in training mode."""
    return [(case, new(component, case)) for case in cases]


def _stir(model: nn.Module) -> None:
    """Leave no parameter all zero: heads and gates often begin so, and let nothing through until they have learned."""
    chance = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and not parameter.any():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=chance))


def _draws(model: nn.Module, inputs: Tensor) -> bool:
    """Whether training draws random numbers."""
    with torch.no_grad():
        before = torch.get_rng_state()
        copy.deepcopy(model)(inputs)
        return not torch.equal(before, torch.get_rng_state())
