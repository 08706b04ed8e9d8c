"""gpt: GPT-2's size and initial weights, torch's own layers as the reference, lanes, and exact continuation."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainkit import DataError, DataSpec, Run, hookimpl
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import recipe_from_text
from trainkit_text.models import gpt
from trainkit_text.transformer import Transformer

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = DataSpec((12,), "tokens", 11)
RECIPE = """\
recipe = 1
seed = 3
logger = []
[run]
duration = "2ep"
device = "cpu"
threads = 1
[data]
use = "synthetic"
task = "tokens"
features = [12]
classes = 5
samples = 120
noise = 0.1
batch_size = 16
[model]
use = "gpt"
layers = 1
heads = 2
width = 16
[loss]
use = "cross_entropy"
[optimizer]
use = "adamw"
lr = 3e-3
[schedule]
use = "wsd"
warmup = "2ba"
"""


def small(**settings: Any) -> Transformer:
    torch.manual_seed(1)
    made = gpt(TEXT, **{"layers": 2, "heads": 2, "width": 16} | settings)
    assert isinstance(made, Transformer)
    return made


def drawn(count: int, positions: int = 12) -> Tensor:
    return torch.randint(11, (count, positions), generator=torch.Generator().manual_seed(2))


def loss_of(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())


def test_it_has_the_parameters_of_gpt_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """124 million with tied weights: Radford et al. 2019, table 2, as counted in the published files."""
    for drawing in (Transformer, nn.Linear, nn.Embedding):  # no numbers are needed, and so none is drawn
        monkeypatch.setattr(drawing, "_start" if drawing is Transformer else "reset_parameters", lambda self: None)
    spec = DataSpec((1024,), "tokens", 50257)
    with torch.device("meta"):
        model = gpt(spec, layers=12, heads=12, width=768)
        apart = gpt(spec, layers=12, heads=12, width=768, tied=False)
    assert sum(p.numel() for p in model.parameters()) == 124_439_808
    assert sum(p.numel() for p in apart.parameters()) == 124_439_808 + 50257 * 768


def test_weights_begin_as_published() -> None:
    spec = DataSpec((64,), "tokens", 300)
    torch.manual_seed(0)
    model = gpt(spec, layers=8, heads=2, width=96)
    spreads = {name: float(p.detach().std()) for name, p in model.named_parameters() if p.dim() > 1}
    for name, spread in spreads.items():
        expected = 0.01 if name == "positions.weight" else 0.02 / 4 if name.endswith("out.weight") else 0.02
        assert spread == pytest.approx(expected, rel=0.05), name
    assert len(spreads) == 2 + 8 * 4
    assert all(not p.any() for name, p in model.named_parameters() if name.endswith(".bias"))


def test_a_new_one_gives_every_token_about_the_same_chance() -> None:
    spec = DataSpec((32,), "tokens", 256)
    torch.manual_seed(0)
    model = gpt(spec)
    inputs = torch.randint(256, (8, 33))
    assert loss_of(model(inputs[:, :-1]), inputs[:, 1:]).item() == pytest.approx(math.log(256), abs=0.05)


@pytest.mark.parametrize("bias", [True, False])
def test_its_blocks_are_those_of_torch(bias: bool) -> None:
    model = small(bias=bias).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    hidden = model.tokens(drawn(3)) + model.positions(torch.arange(12))
    for block in model.blocks:
        layer = nn.TransformerEncoderLayer(
            *(16, 2, 64, 0.0, lambda inputs: functional.gelu(inputs, approximate="tanh")),
            batch_first=True,
            norm_first=True,
            bias=bias,
            dtype=torch.float64,
        )
        own = block.state_dict()
        names = {
            "attention.query_key_value.weight": "self_attn.in_proj_weight",
            "attention.query_key_value.bias": "self_attn.in_proj_bias",
            "attention.out": "self_attn.out_proj",
            "attention_norm": "norm1",
            "hidden": "linear1",
        }
        renamed = {}
        for name, value in own.items():
            module, _, last = name.rpartition(".")
            other = {"out": "linear2", "norm": "norm2"}.get(module) or names.get(module, "")
            renamed[names.get(name) or f"{other}.{last}"] = value
        layer.load_state_dict(renamed)
        hidden = layer(hidden, src_mask=nn.Transformer.generate_square_subsequent_mask(12, dtype=torch.float64))
    expected = functional.linear(model.norm(hidden), model.tokens.weight)
    assert torch.allclose(model(drawn(3)), expected, rtol=1e-10, atol=1e-12)


def test_no_position_sees_what_comes_after() -> None:
    model, inputs = small().double(), drawn(4)
    changed = inputs.clone()
    changed[:, 7:] = (changed[:, 7:] + 1) % 11
    before, after = model(inputs), model(changed)
    assert torch.allclose(before[:, :7], after[:, :7], rtol=0, atol=1e-12)
    assert not torch.allclose(before[:, 7], after[:, 7], atol=1e-4)


@pytest.mark.parametrize("parts", [[1] * 20, [5, 1, 3, 1, 1, 1, 1, 1, 1, 1, 4], [15, 1, 1]])
def test_what_follows_is_what_the_last_position_of_the_context_says(parts: list[int]) -> None:
    """Token by token or several at once, within the context of 12 and beyond it."""
    model, text = small().double().eval(), drawn(2, 20)
    state: Any = None
    end = 0
    for count in parts:
        scores, state = model.following(text[:, end : end + count], state)
        end += count
        assert torch.allclose(scores, model(text[:, max(0, end - 12) : end])[:, -1], rtol=0, atol=1e-12), end


def test_other_data_is_refused() -> None:
    with pytest.raises(DataError, match=r"gpt is for tokens, and the data's task is regression with samples \(6,\)"):
        gpt(DataSpec((6,), "regression", 1))
    with pytest.raises(ValueError, match="width = 30 cannot be divided among heads = 4"):
        gpt(TEXT, width=30)
    model = small()
    for wrong in (torch.zeros(2, 13, dtype=torch.long), torch.zeros(2, 12), torch.zeros(12, dtype=torch.long)):
        with pytest.raises(DataError, match=r"tokens \(batch, 12\) or fewer"):
            model(wrong)


def test_gradients_of_lanes_are_those_of_each_model() -> None:
    """torch's kernel for attention on CPUs has no rule for several models at once; ours is used, without a warning."""
    models = [small().double() for _ in range(3)]
    for factor, model in enumerate(models):
        model.requires_grad_(False)
        for parameter in model.parameters():
            parameter.mul_(1 + 0.1 * factor)
        model.requires_grad_(True)
    names = [name for name, _ in models[0].named_parameters()]
    stacked = [
        torch.stack(own).detach().requires_grad_() for own in zip(*(m.parameters() for m in models), strict=True)
    ]
    skeleton, inputs, targets = copy.deepcopy(models[0]), drawn(4), drawn(4).flip(0)

    def one(*parameters: Tensor) -> Tensor:
        own = dict(zip(names, parameters, strict=True))
        return loss_of(torch.func.functional_call(skeleton, own, (inputs,)), targets)

    losses = torch.vmap(one)(*stacked)
    gradients = torch.autograd.grad(losses, stacked, torch.ones_like(losses))
    transformed = torch.vmap(torch.func.grad(one, argnums=tuple(range(len(names)))))(*stacked)
    for lane, model in enumerate(models):
        loss = loss_of(model(inputs), targets)
        loss.backward()
        assert torch.allclose(losses[lane], loss, rtol=1e-12)
        for ours, rule, (name, parameter) in zip(gradients, transformed, model.named_parameters(), strict=True):
            assert parameter.grad is not None
            assert torch.allclose(ours[lane], parameter.grad, rtol=1e-9, atol=1e-12), name
            assert torch.allclose(rule[lane], parameter.grad, rtol=1e-9, atol=1e-12), name


@pytest.mark.parametrize(
    ("dropout", "why"), [("dropout = 0.2", ""), ("attention_dropout = 0.2", "in a way of its own")]
)
def test_runs_can_be_lanes_unless_attention_draws(dropout: str, why: str) -> None:
    from trainkit.build import build
    from trainkit.lanes.fit import obstacle
    from trainkit.protocols import silent

    plugins = Plugins()
    recipe = recipe_from_text(RECIPE.replace("width = 16", f"width = 16\n{dropout}"), "r.toml", [], plugins)
    found = obstacle(recipe, build(recipe, plugins, Path("nowhere"), silent).run)
    assert why in found if why else not found


class Stop:
    """Ends the run as a signal would."""

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        if run.step == 5:
            run.stop_reason, run.interrupted = "signal TEST", True


def test_it_goes_on_bit_for_bit_with_muon_and_dropout(tmp_path: Path) -> None:
    text = RECIPE.replace("width = 16", "width = 16\ndropout = 0.2\nattention_dropout = 0.1")
    text = text.replace('"adamw"\nlr = 3e-3', '"muon"\nlr = 0.02\n[optimizer.rest]\nuse = "adamw"\nlr = 3e-3')
    plugins = Plugins(without=["reports"])
    recipe = recipe_from_text(text, "r.toml", [], plugins)
    whole = launch(recipe, plugins, folder=tmp_path / "whole")
    cut = launch(recipe, plugins, folder=tmp_path / "cut", listeners=[Stop()])
    on = launch(recipe, plugins, folder=tmp_path / "cut", resume=True)
    assert (whole.status, cut.status, on.status) == ("finished", "interrupted", "finished")
    assert (cut.steps, on.steps) == (5, whole.steps)
    assert on.weights_sha256 == whole.weights_sha256
    assert on.metrics == whole.metrics
