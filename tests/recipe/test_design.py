"""The two problems that DESIGN.md shows, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from trainkit.errors import RecipeError
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe

RECIPE = """\
# ResNet on handwritten digits: SGD with a warmed-up cosine.
recipe = 1
seed = 17

[run]
duration = "20ep"            # ep epochs, ba updates, sp samples, tok tokens, dur fraction of the run
device = "auto"              # cuda if there is one, else cpu

[data]
use = "digits"
batch_size = 64

[model]
use = "resnet"

[loss]
use = "cross_entropy"

[[metric]]
use = "accuracy"
[optimizer]
use = "sdg"
lr = 0.1
momentum = 0.9
nesterov = true
weight_decay = 5e-4


[schedule]                   # the learning rate of every group
use = "cosine"
warmpu = "2ep"
"""

SAID = """\
recipes/resnet_cosine.toml:22: no optimizer named 'sdg'
    use = "sdg"
  did you mean 'sgd'?  installed optimizers: adam, adamw, lion, sgd
recipes/resnet_cosine.toml:31: [schedule] cosine has no setting 'warmpu'
    warmpu = "2ep"
  did you mean 'warmup'?  cosine takes: warmup: duration = "0ba"; end: number from 0 to 1 = 0.0
2 problems; nothing was run."""


def test_the_example_of_the_design_is_what_a_user_sees(
    fake_plugins: Callable[..., Plugins], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipes").mkdir()
    Path("recipes/resnet_cosine.toml").write_text(RECIPE, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe("recipes/resnet_cosine.toml", [], fake_plugins("trainkit_paper"))
    assert f"{caught.value}\n{caught.value.summary}" == SAID
