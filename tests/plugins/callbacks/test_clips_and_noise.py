"""clip_value, agc and gradient_noise: their numbers, their order, and that they can be compiled or say that not."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from trainkit import RecipeError, hookimpl
from trainkit_callbacks import agc, clip_value, gradient_noise

NOTE = 'compile = "step" is not used'
CPU = torch.device("cpu")


def filled(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    torch.manual_seed(3)
    parameters = [nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in ((7, 5), (5,), (2, 3, 4, 4), ())]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, dtype=dtype)
    return parameters


def adaptive(parameters, names, **settings):
    """An agc that has begun a run with these parameters."""
    callback = agc(**settings)
    group = {"params": parameters, "names": names}
    callback.trainkit_run_start(SimpleNamespace(sharded=None, optimizer=SimpleNamespace(param_groups=[group])))
    return callback


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("limit", [1e-3, 0.5, 100.0])
def test_clip_value_equals_torchs(dtype, limit):
    theirs, ours = filled(dtype), filled(dtype)
    torch.nn.utils.clip_grad_value_(theirs, limit)
    clip_value(max_value=limit).trainkit_gradients([parameter.grad for parameter in ours])
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a.grad, b.grad)


def test_agc_meets_the_reference_value():
    weight = nn.Parameter(torch.tensor([[3.0, 4.0]], dtype=torch.float64))
    weight.grad = torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    adaptive([weight], ["body.weight"], clipping=0.01, eps=1e-3, skip=()).trainkit_gradients([weight.grad])
    torch.testing.assert_close(weight.grad, torch.tensor([[0.03, 0.04]], dtype=torch.float64), rtol=1e-12, atol=0)


def test_agc_takes_each_unit_by_itself():
    matrix = nn.Parameter(torch.tensor([[3.0, 4.0], [0.0, 0.0], [30.0, 40.0]]))
    matrix.grad = torch.tensor([[6.0, 8.0], [0.6, 0.8], [0.3, 0.4]])
    bias = nn.Parameter(torch.tensor([3.0, 4.0]))
    bias.grad = torch.tensor([0.6, 0.8])
    small = matrix.grad[2].clone()
    adaptive([matrix, bias], ["a.weight", "a.bias"], clipping=0.1, eps=1e-2, skip=()).trainkit_gradients(
        [matrix.grad, bias.grad]
    )
    torch.testing.assert_close(matrix.grad[0], torch.tensor([0.3, 0.4]))
    torch.testing.assert_close(matrix.grad[1], torch.tensor([6e-4, 8e-4]), msg="weights of zero count with eps")
    assert torch.equal(matrix.grad[2], small), "what is below the limit stays bit for bit"
    torch.testing.assert_close(bias.grad, torch.tensor([0.3, 0.4]), msg="a vector is one unit")


def test_agc_takes_a_filter_as_a_unit_and_a_number_as_one():
    filters, number = nn.Parameter(torch.ones(2, 3, 2, 2)), nn.Parameter(torch.tensor(2.0))
    filters.grad, number.grad = torch.ones(2, 3, 2, 2), torch.tensor(-5.0)
    filters.grad[1] *= 0.01
    adaptive([filters, number], ["a", "b"], clipping=0.1, skip=()).trainkit_gradients([filters.grad, number.grad])
    torch.testing.assert_close(filters.grad[0], torch.full((3, 2, 2), 0.1))
    torch.testing.assert_close(filters.grad[1], torch.full((3, 2, 2), 0.01))
    assert float(number.grad) == pytest.approx(-0.2)


def test_agc_knows_whose_gradient_it_sees_where_some_have_none_and_leaves_the_head_alone():
    first, without, head = (nn.Parameter(torch.tensor([1.0, 0.0]) * scale) for scale in (1.0, 100.0, 1.0))
    first.grad, head.grad = torch.tensor([4.0, 0.0]), torch.tensor([4.0, 0.0])
    callback = adaptive([first, without, head], ["body.bias", "other.bias", "head.bias"], clipping=0.5)
    callback.trainkit_gradients([first.grad, head.grad])
    assert first.grad.tolist() == [0.5, 0.0]
    assert head.grad.tolist() == [4.0, 0.0]


def test_agc_takes_a_gradient_of_zero():
    weight = nn.Parameter(torch.zeros(2, 2))
    weight.grad = torch.zeros(2, 2)
    adaptive([weight], ["a"], skip=()).trainkit_gradients([weight.grad])
    assert weight.grad.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_agc_refuses_a_pattern_that_matches_nothing_and_names_the_nearest(train):
    more = '[[callback]]\nuse = "clip_norm"\nmax_norm = 1.0\n[[callback]]\nuse = "agc"\nskip = ["haed.*"]\n'
    with pytest.raises(RecipeError) as raised:
        train(more=more)
    text = str(raised.value)
    assert '[[callback]] agc: skip: "haed.*" matches no parameter' in text
    assert "head.weight" in text
    assert raised.value.problems[0].place.source == 'skip = ["haed.*"]'


def noise_at(step: int, seed: int = 5, **settings) -> torch.Tensor:
    gradients = [torch.zeros(4000), torch.zeros(30, 40)]
    run = SimpleNamespace(step=step, device=CPU)
    gradient_noise(seed, **settings).trainkit_gradients(run, gradients)
    return torch.cat([gradient.flatten() for gradient in gradients])


def test_noise_is_a_function_of_seed_and_update_alone():
    state = torch.get_rng_state()
    assert torch.equal(noise_at(7), noise_at(7))
    assert torch.equal(state, torch.get_rng_state()), "the run's own random numbers are not touched"
    assert not torch.equal(noise_at(7), noise_at(8) * float(noise_at(7)[0] / noise_at(8)[0]))
    assert not torch.equal(noise_at(7), noise_at(7, seed=6))
    alone = noise_at(7)
    assert not torch.equal(alone[:1200], alone[4000:]), "each gradient has its own"


@pytest.mark.parametrize("step", [0, 1, 99])
@pytest.mark.parametrize(("eta", "gamma"), [(0.3, 0.55), (1.0, 0.0)])
def test_noise_has_the_variance_of_the_paper(step, eta, gamma):
    noise = noise_at(step, eta=eta, gamma=gamma)
    expected = eta / (1 + step) ** gamma
    count = noise.numel()
    assert float(noise.square().mean()) == pytest.approx(expected, rel=5 * math.sqrt(2 / count))
    assert abs(float(noise.mean())) < 5 * math.sqrt(expected / count)


def test_noise_of_nothing_changes_nothing(train):
    plain = train()
    assert train(more='[[callback]]\nuse = "gradient_noise"\neta = 0\n').report.weights_sha256 == (
        plain.report.weights_sha256
    )
    first, second = (train(more='[[callback]]\nuse = "gradient_noise"\n').report.weights_sha256 for _ in range(2))
    assert first == second != plain.report.weights_sha256


@pytest.mark.parametrize("first", ['use = "clip_value"\nmax_value = 0.01\n', 'use = "agc"\nclipping = 1e-4\n'])
def test_values_and_units_are_clipped_before_the_norm_wherever_they_stand(train, first):
    norm = '[[callback]]\nuse = "clip_norm"\nmax_norm = 0.001\n'
    one, other = f"[[callback]]\n{first}{norm}", f"{norm}[[callback]]\n{first}"
    assert train(more=one).report.weights_sha256 == train(more=other).report.weights_sha256
    order = []

    class See:
        @hookimpl
        def trainkit_run_start(self, run):
            impls = reversed(run.hook.trainkit_gradients.get_hookimpls())
            order.extend(impl.plugin_name.rpartition(".")[2] for impl in impls)

    train("run.duration=1ba", more=other, listeners=[See()])
    assert order == [first.split('"')[1], "clip_norm"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('use = "clip_value"\nmax_value = 0', "max_value"),
        ('use = "clip_value"', "max_value"),
        ('use = "agc"\nclipping = -0.1', "clipping"),
        ('use = "agc"\neps = 0', "eps"),
        ('use = "agc"\nskip = "head.*"', "skip"),
        ('use = "gradient_noise"\neta = -1', "eta"),
        ('use = "gradient_noise"\ngamma = -0.5', "gamma"),
    ],
)
def test_what_is_out_of_range_is_a_problem(load, text, said):
    with pytest.raises(RecipeError, match=said):
        load(more=f"[[callback]]\n{text}\n")


@pytest.mark.parametrize("name", ["agc", "gradient_noise"])
def test_the_same_twice_is_a_problem(load, name):
    with pytest.raises(RecipeError, match="cannot be in one recipe with"):
        load(more=f'[[callback]]\nuse = "{name}"\n' * 2)


@pytest.mark.slow
@pytest.mark.compiler
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # the compiler's own modules use it
def test_compiled_they_are_the_eager_run_up_to_rounding_and_go_on_bit_for_bit(train, halves, capfd):
    """Continued, a run begins with a compiled step: no eager one has shown which parameters have gradients."""
    clip, agc = '[[callback]]\nuse = "clip_value"\nmax_value = 0.02\n', '[[callback]]\nuse = "agc"\nclipping = 0.02\n'
    changes, step = ["run.duration=2ep", "optimizer.lr=0.5"], ["run.compile=step", "run.updates_per_call=1"]
    torch._dynamo.reset()
    eager, compiled = train(*changes, more=clip + agc), train(*changes, *step, more=clip + agc)
    for name, weights in compiled.weights.items():
        torch.testing.assert_close(weights, eager.weights[name], rtol=1e-5, atol=1e-6)
    for one in clip, agc:  # each of them takes part
        other = train(*changes, more=one)
        assert any(not torch.allclose(weights, other.weights[name]) for name, weights in eager.weights.items())
    torch._dynamo.reset()
    assert halves(4, *changes, *step, more=clip + agc).report.weights_sha256 == compiled.report.weights_sha256
    assert NOTE not in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.compiler
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_noise_is_never_compiled_in(train, capfd):
    more = '[[callback]]\nuse = "gradient_noise"\neta = 0.1\n'
    eager = train(more=more)
    torch._dynamo.reset()
    compiled = train("run.compile=step", "run.updates_per_call=2", more=more)
    assert NOTE in capfd.readouterr().err
    assert compiled.report.weights_sha256 == eager.report.weights_sha256
