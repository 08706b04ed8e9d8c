"""Figures of language models. Importing this is cheap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainkit import Component, DataError, DataSpec

if TYPE_CHECKING:
    from trainkit import Metric


def perplexity(data_spec: DataSpec, /) -> Metric:
    """exp of the mean negative log-likelihood of the targets: of how many equally likely tokens it is a choice.

    It is that of the softmax of the outputs, whatever the loss adds to it (label smoothing), over all positions.

    Raises:
        DataError: if the data has no classes or tokens; on computing, if there was no sample.

    Source: Jelinek et al. 1977, "Perplexity - a measure of the difficulty of speech recognition tasks".
    """
    from trainkit_text.counting import Perplexity

    if data_spec.task not in ("classification", "tokens"):
        raise DataError(
            "metric perplexity needs tokens or classes (task tokens or classification), the data's task is "
            f"{data_spec.task}: use a metric of that task"
        )
    return Perplexity()


def bits_per_byte(data_spec: DataSpec, /) -> Metric:
    """Bits that the model needs for a byte of the text (UTF-8): comparable whatever a token is.

    The negative log-likelihood of all targets in bits, of the softmax of the outputs, over the bytes that these tokens
    stand for. A byte without a model takes 8.

    Raises:
        DataError: if the data is no text; on computing, if there was no sample.

    Source: Gao et al. 2020, "The Pile", arXiv 2101.00027, section 3.1.
    """
    from trainkit_text.counting import BitsPerByte

    if data_spec.task != "tokens" or data_spec.vocabulary is None:
        raise DataError(
            "metric bits_per_byte needs text, whose tokens have bytes (task tokens, with a vocabulary); the data's "
            f"task is {data_spec.task}"
            + (": use metric perplexity" if data_spec.task in ("classification", "tokens") else "")
        )
    return BitsPerByte(data_spec.vocabulary.sizes)


def figures() -> list[Component]:
    """The metrics of this plugin."""
    return [
        Component("metric", perplexity, capabilities={"higher_is_better": False}),
        Component("metric", bits_per_byte, capabilities={"higher_is_better": False}),
    ]
