"""A text as samples: read, cut into parts in time, made tokens of, and cut into windows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from trainkit import DataError, Dataset, DataSpec, MachineError, Split, fingerprint
from trainkit_text.vocabularies import Bytes, Characters, vocabulary_of

if TYPE_CHECKING:
    from torch import Tensor

    from trainkit import Progress, Vocabulary

_CUTS = {"train": "give a longer text", "val": "set val = 0", "test": "set test = 0"}


def read_text(path: Path | None, limit: int | None) -> str:
    """Read a file in UTF-8, or put together the topics of Python's ``help()``.

    Args:
        path: the file; ``None`` for the topics.
        limit: how many characters from the beginning; ``None`` for all.

    Raises:
        DataError: if the file cannot be read as text; the message names the byte.
        MachineError: if this Python came without its topics.
    """
    if path is None:
        return _python_topics()[:limit]
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"there is no file {path}; relative paths start at TRAINKIT_DATA or the current folder"
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}; name a file of text") from error
    try:
        # Its mark of the byte order is taken off afterwards, so that a wrong byte is told by its place in the file.
        return found.decode().removeprefix("\ufeff")[:limit]
    except UnicodeDecodeError as error:
        line = found[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}:{line}: byte {error.start} (0x{found[error.start]:02x}) is not UTF-8; write the file in it, for "
            "example: iconv -f LATIN1 -t UTF-8"
        ) from None


def _python_topics() -> str:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise MachineError(
            "this Python came without the topics of its help(), which are the text where [data] path is unset; name a "
            "file of text with path"
        ) from None
    return "\n\n".join(topics[name] for name in sorted(topics))


def as_samples(
    text: str,
    *,
    tokens: str,
    vocabulary_size: int,
    context: int,
    stride: int,
    shares: Mapping[str, float],
    cache_root: Path | None,
    progress: Progress,
) -> Dataset:
    """Make samples of a text.

    Args:
        text: the text.
        tokens: what a token is: ``bytes``, ``characters`` or ``bpe``.
        vocabulary_size: how many tokens bpe learns.
        context: tokens in a sample.
        stride: tokens between the beginnings of two training samples.
        shares: of the text, for ``val`` and ``test``.
        cache_root: folder of all caches, for byte pairs; ``None`` for none.
        progress: told while byte pairs are learned and looked for.

    Raises:
        DataError: if a part is too short for one sample.
    """
    parts = cut_in_time(text, shares)
    slow = tokens == "bpe"
    if slow:
        progress(0, 1 + len(parts), "learning byte pairs")
    vocabulary = vocabulary_of(tokens, vocabulary_size, text, parts["train"], cache_root)
    numbers: dict[str, Tensor] = {}
    for place, (name, part) in enumerate(parts.items()):
        if slow:
            progress(1 + place, 1 + len(parts), "looking for byte pairs")
        numbers[name] = _as_numbers(part, vocabulary)
    if slow:
        progress(1 + len(parts), 1 + len(parts), "")
    _check_lengths({name: len(row) for name, row in numbers.items()}, context, shares)
    splits = {name: _windows(row, context, stride if name == "train" else context) for name, row in numbers.items()}
    known = {f"tokens {name}": row for name, row in numbers.items()}
    known |= {"sizes": torch.tensor(vocabulary.sizes), "windows": torch.tensor([context, stride])}
    known["text"] = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)  # not empty: its parts are not
    spec = DataSpec(
        input_shape=(context,),
        task="tokens",
        outputs=len(vocabulary.sizes),
        sizes={name: len(split) for name, split in splits.items()},
        fingerprint=fingerprint(known),
        tokens_per_sample=context,
        vocabulary=vocabulary,
    )
    held = {name: _moments(len(splits[name]), stride if name == "train" else context, context) for name in splits}
    if "val" in held:
        held["val"] += len(numbers["train"])
    return Dataset(spec, splits, moments={name: held[name] for name in ("train", "val") if name in held})


def cut_in_time(text: str, shares: Mapping[str, float]) -> dict[str, str]:
    """The parts of a text, one after the other: ``train``, then those that have a share.

    Raises:
        DataError: if nothing is left for training.
    """
    wanted = {name: share for name, share in shares.items() if share > 0}
    if sum(wanted.values()) >= 1:
        said = ", ".join(f"{name} = {share:g}" for name, share in wanted.items())
        raise DataError(f"{said} leave nothing of the text for training; make them add up to less than 1")
    ends = [len(text)]
    for share in reversed(wanted.values()):
        ends.insert(0, ends[0] - round(share * len(text)))
    starts = [0, *ends[:-1]]
    return {name: text[start:end] for name, start, end in zip(["train", *wanted], starts, ends, strict=True)}


def _as_numbers(text: str, vocabulary: Vocabulary) -> Tensor:
    # A list of a long text would take eight times its memory, and a while.
    if not text:
        return torch.empty(0, dtype=torch.int64)
    if isinstance(vocabulary, Bytes):
        return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).long()
    if isinstance(vocabulary, Characters):  # of this very text, in the order of their code points
        known = torch.tensor(list(map(ord, vocabulary.characters)), dtype=torch.int32)
        return torch.searchsorted(known, torch.frombuffer(bytearray(text.encode("utf-32-le")), dtype=torch.int32))
    return torch.tensor(vocabulary.encode(text), dtype=torch.int64)


def _windows(row: Tensor, context: int, stride: int) -> Split:
    """Samples of a row of tokens; views of it, that take no memory of their own."""
    windows = row.unfold(0, context + 1, stride)
    return Split(windows[:, :-1], windows[:, 1:])


def _moments(samples: int, stride: int, context: int) -> Tensor:
    """The first and the last token of each sample's targets, ``(samples, 2)``."""
    first = 1 + stride * torch.arange(samples)
    return torch.stack([first, first + context - 1], 1)


def _check_lengths(lengths: Mapping[str, int], context: int, shares: Mapping[str, float]) -> None:
    name = next((name for name, length in lengths.items() if length <= context), None)
    if name is None:
        return
    share, length = f" ({name} = {shares[name]:g} of the text)" if name in shares else "", lengths[name]
    cures = [_CUTS[name]]
    if (least := min(lengths.values())) > 1:
        cures.append(f"set context = {least - 1} or less")
    raise DataError(
        f"the {name} part{share} has {length} token{'' if length == 1 else 's'}; a sample of context = {context} "
        f"tokens and the one that comes after needs {context + 1}: {', or '.join(cures)}"
    )
