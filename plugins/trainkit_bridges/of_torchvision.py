"""Models of torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainkit import DataError
from trainkit_bridges.fit import image_shape, importing, known_name, refusing

if TYPE_CHECKING:
    from torch import nn

    from trainkit import DataSpec

# They have outputs beside the head's unless they are told not to, and warn where nobody says how they begin.
_AUXILIARY = ("googlenet", "inception_v3")


def make(data_spec: DataSpec, name: str) -> nn.Module:
    """Build what `trainkit_bridges.torchvision` describes."""
    with importing("torchvision"):
        from torchvision import models

    channels, height, width = image_shape(data_spec, "torchvision")
    known_name(name, models.list_models(module=models), "torchvision")
    if channels != 3:
        raise DataError(f"torchvision's models take images of 3 channels, the data has {channels}\nuse model timm")
    more: dict[str, Any] = {"aux_logits": False, "init_weights": True} if name in _AUXILIARY else {}
    if name.startswith("vit_"):
        if height != width:
            raise DataError(f"torchvision's {name} needs square images, the data has {height}x{width}")
        more["image_size"] = height
    elif name.startswith("maxvit"):
        more["input_size"] = (height, width)
    with refusing(f"torchvision's {name}", "torchvision"):
        model: nn.Module = models.get_model(name, weights=None, num_classes=data_spec.outputs, **more)
    return model
