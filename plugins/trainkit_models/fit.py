"""Checks that a model fits the data, said in shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainkit import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from trainkit import DataSpec


def image_shape(data_spec: DataSpec, model: str) -> tuple[int, int, int]:
    """Return ``(channels, height, width)`` of the data's images.

    Raises:
        DataError: if the samples are no images.
    """
    if len(data_spec.input_shape) != 3:
        cure = "a model of tokens, such as gpt" if data_spec.task == "tokens" else "model mlp"
        raise DataError(
            f"model {model} needs images (channels, height, width), the data has {data_spec.input_shape}: use {cure}"
        )
    channels, height, width = data_spec.input_shape
    return channels, height, width


def need_numbers(data_spec: DataSpec, model: str) -> None:
    """Refuse data whose features hold numbers of categories, which no weight can be multiplied with.

    Raises:
        DataError: if there are such.
    """
    if count := sum(map(bool, data_spec.categories)):
        raise DataError(
            f"model {model} takes numbers, and {count} of the data's {data_spec.input_shape[0]} columns "
            f"{'holds' if count == 1 else 'hold'} categories by number: use model tabular, or data without embed = true"
        )


def check_sample_shape(inputs: Tensor, expected: tuple[int, ...]) -> None:
    """Refuse inputs ``(batch, ...)`` whose samples do not have the expected shape; layers alone would let some pass.

    Raises:
        DataError: if they do not; a single sample without its batch dimension is refused too.
    """
    if inputs.shape[1:] != expected:
        raise DataError(
            f"the model was built for a batch of samples {expected}, got inputs {tuple(inputs.shape)}: "
            f"give it (batch, {', '.join(str(size) for size in expected)})"
        )
