"""Models of other libraries: timm, torchvision, transformers. Listing them imports neither torch nor those.

Nothing is downloaded: a library builds the architecture with new weights, and weights that lie on this machine are what
``[model] weights`` is for. Names of parameters are the library's own, so that files of its weights match.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from trainkit import Between, Component, DataSpec, Resume, hookimpl

if TYPE_CHECKING:
    from torch import nn

DropRate = Annotated[float, Between(0, 1, high_open=True), Resume("changeable")]


def timm(
    data_spec: DataSpec,
    /,
    *,
    name: str,
    dropout: DropRate = 0.0,
    stochastic_depth: DropRate = 0.0,
) -> nn.Module:
    """An image model of the library timm, by its name there, with a head that fits the data.

    Architectures that must know the size of images, such as vision transformers, are made for that of the data.

    Args:
        name: an architecture that ``timm.list_models()`` lists, such as "resnet18"; what stands behind a dot in names
            of published weights is no part of it.
        dropout: share of the features set to zero before the head while training.
        stochastic_depth: share of the samples that skip a block while training, where the architecture has that.

    Raises:
        DataError: if the data has no images, or the library does not know the name or refuses the sizes.
        MachineError: if the library is installed and cannot be imported.

    Source: Wightman 2019, "PyTorch Image Models", github.com/huggingface/pytorch-image-models (Apache-2.0).
    """
    from trainkit_bridges.of_timm import make

    return make(data_spec, name, dropout, stochastic_depth)


def torchvision(data_spec: DataSpec, /, *, name: str) -> nn.Module:
    """An image classifier of the library torchvision, by its name there, with a head that fits the data.

    Architectures that must know the size of images, such as ``vit_b_16``, are made for that of the data.

    Args:
        name: a model that ``torchvision.models.list_models(torchvision.models)`` lists, such as "resnet18".

    Raises:
        DataError: if the images have not three channels, or the library does not know the name or refuses the sizes.
        MachineError: if the library is installed and cannot be imported.

    Source: TorchVision maintainers 2016, github.com/pytorch/vision (BSD-3-Clause).
    """
    from trainkit_bridges.of_torchvision import make

    return make(data_spec, name)


def transformers(data_spec: DataSpec, data_root: Path, /, *, config: Path) -> nn.Module:
    """A model of the library transformers, made as a ``config.json`` says, with a head that fits the data.

    Images are classified, as ``AutoModelForImageClassification`` does it; tokens are continued, as
    ``AutoModelForCausalLM`` does it, with a vocabulary of the data's size. The model gives logits alone. Of the file
    nothing is taken that names code: an architecture that the installed library lacks is refused.

    Args:
        config: the file, or the folder with it, as ``save_pretrained`` writes it.

    Raises:
        DataError: if the file is no configuration of such a model, or the data is of another kind.
        MachineError: if the library is installed and cannot be imported.

    Source: Wolf et al. 2020, "Transformers: State-of-the-Art Natural Language Processing", arXiv 1910.03771
    (Apache-2.0).
    """
    from trainkit_bridges.of_transformers import make

    return make(data_spec, data_root / config.expanduser())


@hookimpl
def trainkit_components() -> list[Component]:
    """List the models."""
    return [
        Component("model", timm, example={"name": "resnet10t"}, libraries={"timm": "pip install timm"}),
        Component(
            "model",
            torchvision,
            example={"name": "squeezenet1_1"},
            libraries={"torchvision": "pip install torchvision"},
        ),
        Component(
            "model",
            transformers,
            example={"config": "vit"},
            libraries={"transformers": "pip install transformers"},
            exempt={"builds_from_its_example": "it reads files of the user's own"},
        ),
    ]
