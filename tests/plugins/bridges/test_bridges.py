"""Models of timm, torchvision and transformers: what libraries are asked for; where they are installed, fine-tuning."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

import trainkit_bridges
from trainkit import DataError, DataSpec, MachineError
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe

GREY = DataSpec(input_shape=(1, 16, 16), task="classification", outputs=4)
COLOUR = DataSpec(input_shape=(3, 16, 16), task="classification", outputs=4)
TOKENS = DataSpec(input_shape=(8,), task="tokens", outputs=11)
LIBRARIES = ("timm", "torchvision", "transformers")


@pytest.fixture
def asked(monkeypatch):
    """Libraries that note what they are asked for; the network of the last call is a linear one."""
    calls = []

    def create(name, **settings):
        calls.append((name, settings))
        if name == "refuses":
            raise ValueError("size 16\nis too small")
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(settings["num_classes"]))

    known = ["resnet18", "vit_tiny", "vit_b_16", "googlenet", "maxvit_t", "refuses"]
    timm = ModuleType("timm")
    timm.list_models, timm.create_model = lambda: known, create
    timm.get_pretrained_cfg = lambda name, allow_unregistered: SimpleNamespace(fixed_input_size="vit" in name)
    models = ModuleType("torchvision.models")
    models.list_models, models.get_model = lambda module: known, create
    torchvision = ModuleType("torchvision")
    torchvision.models = models
    for name, module in (("timm", timm), ("torchvision", torchvision), ("torchvision.models", models)):
        monkeypatch.setitem(sys.modules, name, module)
    return calls


def test_timm_is_asked_for_an_architecture_without_weights(asked):
    trainkit_bridges.timm(GREY, name="resnet18", dropout=0.1, stochastic_depth=0.2)
    trainkit_bridges.timm(COLOUR, name="vit_tiny")
    fits = {"pretrained": False, "num_classes": 4}
    assert asked == [
        ("resnet18", {**fits, "in_chans": 1, "drop_rate": 0.1, "drop_path_rate": 0.2}),
        ("vit_tiny", {**fits, "in_chans": 3, "img_size": (16, 16)}),
    ]


def test_torchvision_is_asked_for_an_architecture_without_weights(asked):
    for name in ("resnet18", "vit_b_16", "maxvit_t", "googlenet"):
        trainkit_bridges.torchvision(COLOUR, name=name)
    fits = {"weights": None, "num_classes": 4}
    assert asked == [
        ("resnet18", fits),
        ("vit_b_16", {**fits, "image_size": 16}),
        ("maxvit_t", {**fits, "input_size": (16, 16)}),
        ("googlenet", {**fits, "aux_logits": False, "init_weights": True}),
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: trainkit_bridges.timm(GREY, name="resnet18.a1_in1k"),
            "named 'resnet18.a1_in1k'\ndid you mean resnet18",
        ),
        (lambda: trainkit_bridges.timm(GREY, name="hf-hub:some/body"), "no model named 'hf-hub:some/body'"),
        (lambda: trainkit_bridges.timm(GREY, name="refuses"), "built for this data: ValueError: size 16 is too small"),
        (lambda: trainkit_bridges.timm(TOKENS, name="resnet18"), "needs images"),
        (lambda: trainkit_bridges.torchvision(GREY, name="resnet18"), "take images of 3 channels, the data has 1"),
        (lambda: trainkit_bridges.torchvision(COLOUR, name="resnet19"), "named 'resnet19'\ndid you mean resnet18"),
    ],
)
def test_what_cannot_be_built_is_said(asked, make, message):
    with pytest.raises(DataError) as caught:
        make()
    assert message in str(caught.value)


def test_a_library_that_is_not_installed_is_named_with_its_command(tmp_path):
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if not missing:
        pytest.skip("all of them are installed")
    recipe = tmp_path / "r.toml"
    recipe.write_text(f'extends = "trainkit:resnet_cosine"\n[model]\nuse = "{missing[0]}"\nname = "x"\n')
    from trainkit import RecipeError

    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, [], Plugins())
    assert f"pip install {missing[0]}" in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_a_library_that_is_broken_is_no_defect_of_ours(tmp_path, monkeypatch, library):
    (tmp_path / library).mkdir()
    (tmp_path / library / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, library, raising=False)
    with pytest.raises(MachineError, match=f"{library} is installed and cannot be imported: RuntimeError: operator"):
        getattr(trainkit_bridges, library)(COLOUR, name="resnet18")


# ---------------------------------------------------------------- with the libraries themselves


def need(name: str) -> ModuleType:
    """The library, where it is installed and works."""
    try:
        return importlib.import_module(name)
    except Exception as error:
        pytest.skip(f"{name} cannot be imported: {error}")


RECIPE = """\
logger = []
[run]
duration = "2ba"
device = "cpu"
[data]
use = "synthetic"
samples = 48
features = {features}
classes = 4
batch_size = 8
[model]
{model}
[loss]
use = "cross_entropy"
[optimizer]
use = "sgd"
lr = 0.01
"""


def tuned(tmp_path: Path, features: list[int], model: str, own: nn.Module, head: str) -> None:
    """Begin a run with weights that the library's own module saved, and see that all but the head are its."""
    from safetensors.torch import save_file

    from trainkit import hookimpl

    save_file({name: tensor.contiguous() for name, tensor in own.state_dict().items()}, tmp_path / "own.safetensors")
    weights = f'weights = "{tmp_path}/own.safetensors"\nhead = ["{head}"]'
    file = tmp_path / "recipe.toml"
    file.write_text(RECIPE.format(features=features, model=f"{model}\n{weights}"))
    begun = {}

    class First:
        @hookimpl
        def trainkit_run_start(self, run) -> None:
            begun.update({name: tensor.clone() for name, tensor in run.model.state_dict().items()})

    given = [f'model.weights="{tmp_path}/own.safetensors"']
    report = launch(load_recipe(file, given, Plugins()), Plugins(), folder=tmp_path / "run", listeners=[First()])
    assert report.status == "finished"
    state = own.state_dict()
    same = [name for name in begun if name in state and torch.equal(begun[name], state[name])]
    assert set(begun) - set(same) == {name for name in begun if name.startswith(head.rstrip("*"))}


def test_weights_of_timm_are_fine_tuned(tmp_path):
    timm = need("timm")
    own = timm.create_model("resnet10t", num_classes=7, in_chans=1)
    tuned(tmp_path, [1, 16, 16], 'use = "timm"\nname = "resnet10t"', own, "fc.*")


def test_weights_of_torchvision_are_fine_tuned(tmp_path):
    models = need("torchvision").models
    tuned(tmp_path, [3, 32, 32], 'use = "torchvision"\nname = "resnet18"', models.resnet18(num_classes=7), "fc.*")


@pytest.fixture
def vit(tmp_path):
    """A small model that transformers has saved, and its folder."""
    transformers = need("transformers")
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=4,
        num_channels=1,
        num_labels=7,
    )
    torch.manual_seed(0)
    model = transformers.ViTForImageClassification(config)
    (tmp_path / "vit").mkdir()
    (tmp_path / "vit" / "config.json").write_text(config.to_json_string(use_diff=False))
    return model, tmp_path / "vit"


def test_weights_of_transformers_are_fine_tuned(tmp_path, vit, monkeypatch):
    model, _ = vit
    monkeypatch.chdir(tmp_path)
    tuned(tmp_path, [1, 16, 16], 'use = "transformers"\nconfig = "vit"', model, "classifier.*")


def test_logits_are_those_of_the_library_and_the_config_names_no_code(vit):
    model, folder = vit
    file = folder / "config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, "auto_map": {"AutoConfig": "evil.Config"}}))
    mine = trainkit_bridges.transformers(DataSpec((1, 16, 16), "classification", 7), folder.parent, config=Path("vit"))
    mine.load_state_dict(model.state_dict())
    inputs = torch.randn(3, 1, 16, 16)
    assert torch.equal(mine.eval()(inputs), model.eval()(inputs).logits)
    file.write_text(json.dumps({**settings, "model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}))
    with pytest.raises(DataError, match="cannot be built for this data"):
        trainkit_bridges.transformers(GREY, folder.parent, config=Path("vit/config.json"))
    with pytest.raises(DataError, match="there is no such configuration"):
        trainkit_bridges.transformers(GREY, folder.parent, config=Path("nowhere"))


def test_tokens_are_continued_with_the_vocabulary_of_the_data(tmp_path):
    transformers = need("transformers")
    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=99, bos_token_id=0, eos_token_id=0)
    (tmp_path / "config.json").write_text(config.to_json_string(use_diff=False))
    model = trainkit_bridges.transformers(TOKENS, tmp_path, config=Path("config.json"))
    assert model(torch.randint(0, 11, (2, 8))).shape == (2, 8, 11)
