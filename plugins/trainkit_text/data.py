"""Text as data. Importing this is cheap."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from trainkit import Between, Component, Dataset, Fraction, PositiveInt

if TYPE_CHECKING:
    from trainkit import Progress

# Fewer than the 256 bytes there cannot be, since any text is to have tokens; more would not fit any model.
VocabularySize = Annotated[int, Between(257, 1_000_000)]


def text(
    data_root: Path,
    cache_root: Path,
    progress: Progress,
    /,
    *,
    path: Path | None = None,
    tokens: Literal["bytes", "characters", "bpe"] = "bytes",
    vocabulary_size: VocabularySize = 1024,
    context: PositiveInt = 128,
    stride: PositiveInt | None = None,
    val: Fraction = 0.1,
    test: Fraction = 0.1,
    limit: PositiveInt | None = None,
) -> Dataset:
    """Text whose next token is to be predicted at each position: a file in UTF-8, or documentation of Python.

    The first part of the text trains, what follows validates, and the end is the test: no part knows what comes after.
    A sample is ``context`` tokens; its targets are the same ones moved by one. Samples of validation and test do not
    overlap, so that each token counts once; what is left over at a part's end is left out.

    Args:
        path: the file; unset: the topics of Python's own ``help()``, which come with Python (half a megabyte of
            English that differs a little between versions of Python).
        tokens: ``bytes`` of UTF-8 (256 of them, and any text has some), ``characters`` that occur in the text, or
            ``bpe``: pairs of bytes joined as often as ``vocabulary_size`` allows, learned from the training part.
        vocabulary_size: how many tokens bpe learns, the 256 bytes among them; without effect for the others.
        context: tokens in a sample.
        stride: tokens between the beginnings of two training samples; unset: ``context``, so that they do not overlap.
            Less makes more samples of the same text.
        val: share of the text for validation.
        test: share of the text for the test.
        limit: characters to take from the beginning of the text; unset: all.

    Raises:
        DataError: if there is no such file, it is not in UTF-8, or a part is shorter than a sample; the message says
            what would do.
        MachineError: if ``bpe`` lacks its library.

    Source: byte pairs of Sennrich et al. 2016, arXiv 1508.07909, over bytes as Radford et al. 2019, "Language Models
    are Unsupervised Multitask Learners", section 2.2.
    """
    from trainkit_text.reading import as_samples, read_text

    return as_samples(
        read_text(None if path is None else data_root / path.expanduser(), limit),
        tokens=tokens,
        vocabulary_size=vocabulary_size,
        context=context,
        stride=stride or context,
        shares={"val": val, "test": test},
        cache_root=cache_root,
        progress=progress,
    )


def data() -> list[Component]:
    """The data of this plugin."""
    return [Component("data", text, example={"context": 16, "limit": 20000})]
