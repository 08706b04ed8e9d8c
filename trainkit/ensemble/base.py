"""The base of an ensemble: its own data, loss and metrics, and what any module gives for the samples."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from trainkit import checkpoint
from trainkit.build_data import cutting, feed_settings, whole_dataset
from trainkit.dataset import Batch, Dataset, DataSpec
from trainkit.datasets import Datasets
from trainkit.device import Precision, choose_device
from trainkit.ensemble.together import reproducibly
from trainkit.errors import UsageError
from trainkit.evaluate import Meter
from trainkit.feed import make_feed
from trainkit.feed.folds import parts_of
from trainkit.feed.pipeline import gather
from trainkit.heads import predicts
from trainkit.instantiate import Builder
from trainkit.manager import Plugins
from trainkit.protocols import Progress, silent
from trainkit.recipe import Recipe
from trainkit.weights import renew_statistics

if TYPE_CHECKING:
    from trainkit.run import Metrics


def refuse_tokens(spec: DataSpec, name: str) -> None:
    """Refuse data whose samples have several outputs each, which nobody combines.

    Args:
        spec: what is known of the data.
        name: how the message calls it.

    Raises:
        UsageError: if the data is of tokens.
    """
    if spec.task == "tokens":
        raise UsageError(
            f"{name}: an ensemble combines one output of each sample, and these have one for every token\n"
            '  a mean of the weights of one run is to be had while it trains: [[callback]] use = "ema" or "swa"'
        )


class Base:
    """What all members of an ensemble are given and measured by, in float32.

    The data is that of a recipe, with the splits that its component gives it: without folds, bootstrap draws, and
    ``train_on``. It is read once.

    Args:
        recipe: the recipe; of its tables ``data``, ``loss``, ``metric`` and ``run.device`` count.
        plugins: the plugins of this process.
        name: how messages call it: the run or recipe it is of.
        progress: told about long work.
        say: tells the user something, once.
        datasets: keeps data sets from one run of this process to the next; members that are opened with the same one
            read the data no second time.

    Raises:
        UsageError: if the data is of tokens.
    """

    def __init__(
        self,
        recipe: Recipe,
        plugins: Plugins,
        *,
        name: str = "the recipe",
        progress: Progress = silent,
        say: Callable[[str], None] = print,
        datasets: Datasets | None = None,
    ) -> None:
        self.recipe = recipe
        self.plugins = plugins
        self.name = name
        self.progress = progress
        self.say = say
        self.datasets = datasets or Datasets()
        builder = Builder(recipe, plugins, progress)
        self.device = choose_device(recipe.tables["run"]["device"])
        self.precision = Precision.choose("float32", self.device)
        self.dataset: Dataset = whole_dataset(builder, self.datasets)
        self.spec: DataSpec = self.dataset.spec
        refuse_tokens(self.spec, name)
        self.feed = make_feed(
            self.dataset,
            **feed_settings(builder, self.spec, self.precision),
            seed=recipe.tables["seed"],
            device=self.device,
            say=say,
            known=self.datasets.known(self.dataset),
        )
        self.datasets.found_fit(self.dataset)
        self.loss = builder.make("loss", data_spec=self.spec)
        if isinstance(self.loss, nn.Module):
            self.loss.to(self.device)
        made = {
            recipe.components[("metric", i)].name: builder.make("metric", i, data_spec=self.spec, loss=self.loss)
            for i in range(len(recipe.tables["metric"]))
        }
        # Members give what their outputs predict: what is measured of the outputs themselves is not to be had.
        self.metrics = {name: metric for name, metric in made.items() if not getattr(metric, "of_outputs", False)}
        self._outputs: WeakKeyDictionary[nn.Module, dict[tuple[str, str], Tensor]] = WeakKeyDictionary()

    # ------------------------------------------------------------ samples

    def has(self, split: str) -> bool:
        """Whether the data has such a split."""
        return split in self.spec.sizes

    def batches(self, split: str) -> Iterator[Batch]:
        """The batches of a split, in its own order, without augmentation."""
        return self.feed.evaluate(split)

    def samples(self, count: int) -> Tensor:
        """The inputs of the first few training samples, on the CPU."""
        split = self.dataset.splits["train"]
        inputs = gather(split.inputs, torch.arange(min(count, len(split))))
        return (self.dataset.prepare(inputs) if self.dataset.prepare is not None else inputs).cpu()

    def targets(self, split: str) -> Tensor:
        """The targets of a split, ``(samples, ...)`` on the CPU."""
        return self.dataset.splits[split].targets.detach().cpu()

    def parts(self, tables: Mapping[str, Any]) -> dict[str, Tensor]:
        """Which samples a run of this data, by its filled recipe, trains on, and which validate it.

        Returns:
            As `trainkit.feed.folds.parts_of`.
        """
        return parts_of(self.dataset, **cutting(tables), say=lambda text: None)

    # ------------------------------------------------------------ outputs

    def measure(
        self, module: nn.Module, split: str, ask: Callable[[Tensor], Tensor] | None = None, quick: bool = False
    ) -> Tensor:
        """What a module gives for a split: ``(samples, outputs)`` float32 on the CPU, in the split's order.

        Args:
            module: the module.
            split: the split.
            ask: gives something else of the module for inputs, of the same shape.
            quick: whether members may be computed in the way that is found quickest, which may change the last digit
                from one process to the next.
        """
        given, forward = [], ask or module
        with self._evaluating(module), torch.no_grad(), contextlib.nullcontext() if quick else reproducibly():
            for batch in self.batches(split):
                outputs: Tensor = forward(batch.inputs)
                given.append(outputs.float().reshape(len(batch), -1).cpu())
        return torch.cat(given)

    def outputs(self, module: nn.Module, split: str) -> Tensor:
        """As `measure`; what the module gave before with these very weights is not computed again."""
        key, kept = (checkpoint.weights_sha256(module), split), self._outputs.setdefault(module, {})
        if key not in kept:
            kept[key] = self.measure(module, split)
        return kept[key]

    @contextlib.contextmanager
    def _evaluating(self, module: nn.Module) -> Iterator[None]:
        """A module in evaluation mode, on the device; then as it was."""
        training = {part: part.training for part in module.modules()}
        first = next(iter(module.state_dict().values()), None)
        home = None if first is None else first.device
        module.eval().to(self.device)
        try:
            yield
        finally:
            for part, mode in training.items():
                part.training = mode
            if home is not None:
                module.to(home)

    def figures(self, outputs: Tensor, split: str) -> Metrics:
        """The recipe's loss and metrics of outputs for a split, as an evaluation of a run gives them.

        There is no loss where it is one of other numbers than predictions, which are all that members give.
        """
        bare = predicts(self.loss)
        # In place of a loss that would take outputs for more than predictions: any other.
        meter = Meter(copy.deepcopy(self.metrics), nn.functional.mse_loss if bare else self.loss)
        targets = self.targets(split).to(self.device)
        size, outputs = max(1, self.feed.batch_size), outputs.to(self.device)
        with torch.no_grad():
            for start in range(0, len(outputs), size):
                part, wanted = outputs[start : start + size], targets[start : start + size]
                if bare:
                    meter.update_metrics(part, wanted)
                else:
                    meter.add(part, wanted, self.loss(part, wanted))
        return meter.compute()

    def renew(self, module: nn.Module) -> bool:
        """Measure the statistics of a module's BatchNorm layers again, in place, over all training samples.

        Returns:
            Whether there are such layers.
        """
        with self._evaluating(module):
            return renew_statistics(module, (batch.inputs for batch in self.batches("train")))

    def close(self) -> None:
        """Give back what batches are made with."""
        self.feed.close()
