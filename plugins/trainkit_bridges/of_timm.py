"""Models of timm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainkit_bridges.fit import image_shape, importing, known_name, refusing

if TYPE_CHECKING:
    from torch import nn

    from trainkit import DataSpec


def make(data_spec: DataSpec, name: str, dropout: float, stochastic_depth: float) -> nn.Module:
    """Build what `trainkit_bridges.timm` describes."""
    with importing("timm"):
        import timm

    channels, height, width = image_shape(data_spec, "timm")
    # A name with a colon would be an address; only listed architectures are built.
    known_name(name, timm.list_models(), "timm")
    more: dict[str, Any] = {"drop_rate": dropout} if dropout else {}
    if stochastic_depth:
        more["drop_path_rate"] = stochastic_depth
    described = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if getattr(described, "fixed_input_size", False):
        more["img_size"] = (height, width)
    with refusing(f"timm's {name}", "timm"):
        model: nn.Module = timm.create_model(
            name, pretrained=False, num_classes=data_spec.outputs, in_chans=channels, **more
        )
    return model
