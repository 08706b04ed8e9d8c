"""Models of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trainkit import DataError
from trainkit_bridges.fit import image_shape, importing, refusing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainkit import DataSpec

_LONGEST = 4 * 1024**2  # bytes of a configuration
# What names code or other files, or says how weights are stored.
_LEFT_OUT = (
    *("auto_map", "custom_pipelines", "_name_or_path", "quantization_config", "torch_dtype", "dtype"),
    *("_attn_implementation", "id2label", "label2id", "num_labels", "architectures", "transformers_version"),
)


def make(data_spec: DataSpec, path: Path) -> nn.Module:
    """Build what `trainkit_bridges.transformers` describes."""
    with importing("transformers"):
        from transformers import (
            MODEL_FOR_CAUSAL_LM_MAPPING,
            MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
            AutoConfig,
            AutoModelForCausalLM,
            AutoModelForImageClassification,
        )

    settings = _settings(path)
    kind = settings.pop("model_type")
    changed: dict[str, Any]
    if data_spec.task == "tokens":
        auto, given, mapping = AutoModelForCausalLM, "input_ids", MODEL_FOR_CAUSAL_LM_MAPPING
        changed = {"vocab_size": data_spec.outputs, "use_cache": False}
        changed |= dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))  # of another vocabulary
    else:
        channels, height, width = image_shape(data_spec, "transformers")
        auto, given, mapping = AutoModelForImageClassification, "pixel_values", MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
        changed = {"num_labels": data_spec.outputs, "num_channels": channels}
        if "image_size" in settings:
            changed["image_size"] = height if height == width else [height, width]
    with refusing(f"the model of {path}", "transformers"):
        config = AutoConfig.for_model(kind, **{**settings, **changed})
        if type(config) not in mapping:
            raise ValueError(f"'{kind}' is no model for {'tokens' if given == 'input_ids' else 'images'}")
        model: nn.Module = auto.from_config(config, trust_remote_code=False, dtype=torch.float32)
    return _giving_logits(model, given)


def _settings(path: Path) -> dict[str, Any]:
    file = path / "config.json" if path.is_dir() else path
    try:
        if not file.is_file() or file.stat().st_size > _LONGEST:
            raise DataError(f"{file}: there is no such configuration\nname a folder that save_pretrained wrote")
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: it cannot be read: {error}") from error
    if not isinstance(settings, dict) or not isinstance(settings.get("model_type"), str):
        raise DataError(f"{file}: it has no model_type\nname a folder that save_pretrained wrote")
    return {key: value for key, value in settings.items() if key not in _LEFT_OUT}


def _giving_logits(model: nn.Module, given: str) -> nn.Module:
    """Let a model take inputs and give logits; a class around its own, so that names of parameters stay."""
    own: Any = type(model)

    class Logits(own):  # type: ignore[misc]
        def forward(self, inputs: Tensor) -> Tensor:
            """Map inputs ``(batch, ...)`` to logits ``(batch, ..., outputs)``."""
            logits: Tensor = super().forward(**{given: inputs}, return_dict=True).logits
            return logits

    Logits.__name__ = Logits.__qualname__ = own.__name__
    model.__class__ = Logits
    return model
