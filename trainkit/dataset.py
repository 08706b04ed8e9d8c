"""What data is between its component and the model: a data set, its batches, and what must be known of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from trainkit.distributed.share import WHOLE, Share

if TYPE_CHECKING:
    from torch import Tensor

Task = Literal["classification", "binary", "regression", "tokens"]


@dataclass(slots=True)
class Batch:
    """One batch as the model sees it.

    Args:
        inputs: ``(batch, ...)``, as `DataSpec.input_shape` says.
        targets: ``(batch,)`` int64 classes; ``(batch, classes)`` float probabilities where augmentation mixes samples;
            ``(batch,)`` or ``(batch, outputs)`` float for regression and binary targets; ``(batch, positions)`` int64
            classes for tokens.
        index: ``(batch,)`` int64, each sample's number in its split.
        whole: samples of the whole batch, where this is one process's share of it; 0 where it is whole.
        padding: whether its one sample stands for none: this process has no share of so short a batch.
    """

    inputs: Tensor
    targets: Tensor
    index: Tensor
    whole: int = field(default=0, kw_only=True)
    padding: bool = field(default=False, kw_only=True)

    def __iter__(self) -> Iterator[Tensor]:
        """Inputs, targets, index, for unpacking."""
        return iter((self.inputs, self.targets, self.index))

    def __len__(self) -> int:
        """Samples in the batch."""
        return int(self.targets.shape[0])


class Vocabulary(Protocol):
    """What the classes of a text's tokens stand for: how text becomes numbers, and numbers text.

    Encoding what decoding gave need not give the same numbers; decoding what encoding gave gives the same text.
    """

    @property
    def sizes(self) -> Sequence[int]:
        """Bytes (in UTF-8) that each token stands for, by its number: as many as there are tokens."""
        ...

    def encode(self, text: str, /) -> list[int]:
        """The numbers of a text's tokens.

        Raises:
            DataError: if the text holds characters that no token stands for; the message names them.
        """
        ...

    def decode(self, numbers: Sequence[int], /) -> str:
        """The text of tokens; bytes that are no UTF-8 become the replacement character."""
        ...


@dataclass(frozen=True)
class DataSpec:
    """What models, losses and metrics need to know of the data.

    Args:
        input_shape: shape of one sample as the model sees it: ``(features,)`` or ``(channels, height, width)``;
            ``(positions,)`` of token numbers (int64).
        task: ``classification`` (one class of several), ``binary`` (one logit), ``regression``, ``tokens`` (one class
            at each of several positions: the model gives ``(batch, positions, outputs)``, a loss is the mean over all
            positions, and ``outputs`` is the number of classes).
        outputs: numbers the model gives for a sample: classes, 1 for binary, targets for regression; for tokens those
            of one position.
        classes: names of the classes in order; empty for regression, and for tokens where a vocabulary names them.
        class_counts: samples of each class in the training split; empty for regression; for tokens, positions.
        sizes: samples in each split.
        fingerprint: SHA-256 over the data's arrays, so that runs on different data can be told apart.
        tokens_per_sample: tokens in one sample, for data that counts tokens.
        target_mean: per output, what was subtracted from regression targets; empty where nothing was.
        target_std: per output, what regression targets were divided by; empty where nothing was.
        targets: names of a regression's targets, in the order of the outputs; empty where nobody named them.
        categories: per feature, how many categories it has, whose number (0, 1, ...) it holds as a float; 0 for a
            feature that is a number. Empty where all are numbers.
        input_mean: per feature or channel (the first dimension of a sample), what was subtracted from inputs; empty
            where nothing was.
        input_std: per feature or channel, what inputs were then divided by; empty where nothing was. Runs on data that
            differs in these numbers alone can be members of one ensemble.
        masked: whether samples ``(channels, steps)`` are of uneven lengths: the last channel is 1 where a sample has a
            step and 0 behind its end, where all other channels are 0 too.
        naive_error: per output, the mean absolute error, in the targets' own units, of what would be said of training
            samples without a model, such as a series' value a season before; empty where nothing is.
        vocabulary: of tokens that are text, what they stand for; no part of what tells two specs apart.
    """

    input_shape: tuple[int, ...]
    task: Task
    outputs: int
    classes: tuple[str, ...] = ()
    class_counts: tuple[int, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    fingerprint: str = ""
    tokens_per_sample: int | None = None
    target_mean: tuple[float, ...] = ()
    target_std: tuple[float, ...] = ()
    input_mean: tuple[float, ...] = ()
    input_std: tuple[float, ...] = ()
    targets: tuple[str, ...] = ()
    categories: tuple[int, ...] = ()
    masked: bool = False
    naive_error: tuple[float, ...] = ()
    vocabulary: Vocabulary | None = field(default=None, compare=False)


class Gatherable(Protocol):
    """Anything that yields samples by number: a tensor, or an object that reads them from a file.

    ``gatherable[index]`` with an int64 tensor ``(batch,)`` gives a tensor ``(batch, ...)``.
    """

    def __len__(self) -> int: ...
    def __getitem__(self, index: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class Split:
    """The samples of one split, stored as they are kept; `Dataset.prepare` makes model inputs of them.

    Args:
        inputs: ``(samples, ...)``, often uint8 for images.
        targets: ``(samples,)`` int64 classes, or float for regression and binary targets; ``(samples, positions)``
            int64 for tokens.
    """

    inputs: Gatherable
    targets: Tensor

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class Dataset:
    """What a data component returns.

    Args:
        spec: what models need to know.
        splits: ``train`` always; ``val`` and ``test`` where there are such samples.
        prepare: turns gathered inputs ``(batch, ...)`` into what the model sees, for example uint8 pixels into
            standardised floats; ``None`` where they are stored ready. It must be picklable (streamed loading
            sends it to worker processes) and must treat every sample by itself.
        groups: by split, ``(samples,)`` int64: samples with the same number belong together, and no fold parts them.
            ``train`` and ``val`` or none.
        recut: makes the data set anew with other samples for training and validation, so that all that is fitted on
            training samples is fitted on these. Given ``(samples,)`` int64 by split (``train`` and, but for a run
            without validation, ``val``): numbers counted through the training split and on through the validation
            split. Without it samples are exchanged as they are, and what was fitted stays.
        moments: by split, ``(samples, 2)`` int64: the first and the last moment that each sample's target is of, on
            one clock. Folds of such data validate on later moments than they train on. ``train`` and ``val`` or none.
    """

    spec: DataSpec
    splits: Mapping[str, Split]
    prepare: Callable[[Tensor], Tensor] | None = None
    groups: Mapping[str, Tensor] = field(default_factory=dict)
    recut: Callable[[Mapping[str, Tensor]], Dataset] | None = None
    moments: Mapping[str, Tensor] = field(default_factory=dict)


class Feed(Protocol):
    """Batches of a data set in the order that seed and epoch say."""

    batches_per_epoch: int
    batch_size: int
    spec: DataSpec

    @property
    def batch_sizes(self) -> tuple[int, int]:
        """The smallest and the largest size of a training batch; they differ where a schedule sets it."""
        ...

    def batches_in(self, epoch: int) -> int:
        """Training batches in that epoch: ``batches_per_epoch``, unless a schedule sets the batch size."""
        ...

    def samples_before(self, epoch: int, batch: int) -> int:
        """How many samples of that epoch come before a batch."""
        ...

    def train(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, from batch ``start`` on; of each this process's share where there are several."""
        ...

    def evaluate(self, split: str, share: Share = WHOLE) -> Iterator[Batch]:
        """The batches of a split, in its own order; of each one process's share where several measure together."""
        ...

    def spread(self, split: str, count: int) -> Batch:
        """Up to ``count`` samples at equal distances over a split, in the processor's memory, without augmentation.

        The same in every process, whatever their number: for what is worked out from samples before a run begins.
        """
        ...

    def close(self) -> None:
        """Give back what batches are made with, such as processes; it comes again when it is needed."""
        ...
