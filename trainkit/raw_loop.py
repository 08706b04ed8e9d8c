"""The plain PyTorch loop that a recipe is compared with: the same model, data, loss and optimizer, and nothing else.

It is what one writes who wants speed and takes no more than PyTorch's own parts: batches by ``index_select`` from
tensors in memory, ``torch.optim`` with its fused update, no log, no evaluation, no checkpoint.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from trainkit.build import Built
from trainkit.recipe import Recipe
from trainkit.steps import Closure

MOST_BYTES = 2 << 30  # of prepared samples that are held in memory for it


class RawLoop:
    """Trains the parts of a recipe in a plain loop.

    Args:
        recipe: the recipe, its means of speed switched off.
        built: the run that was built of it, of which model, data, loss and number format are taken.
    """

    def __init__(self, recipe: Recipe, built: Built) -> None:
        self.run = built.run
        self.notes: list[str] = []
        self.optimizer: Any = torch_optimizer(recipe, self.run.optimizer.param_groups)
        self.needs_closure = any(part.capabilities.get("needs_closure") for _, part in recipe.making_updates())
        if self.optimizer is None:
            use = recipe.tables["optimizer"]["use"]
            self.notes.append(
                f"torch.optim has no optimizer with the settings of '{use}': the raw loop uses trainkit's"
            )
            self.optimizer = self.run.optimizer
        self._batches = self._held(recipe)
        left_out = [
            f"schedule ({recipe.tables['schedule']['use']})",
            *(f"callback ({table['use']})" for table in recipe.tables["callback"]),
            *(f"metric ({table['use']})" for table in recipe.tables["metric"]),
        ]
        self.notes.append(f"the raw loop has no {', '.join(left_out)}, no log, evaluation or checkpoint")

    def _held(self, recipe: Recipe) -> Callable[[int], Iterator[tuple[Tensor, Tensor]]]:
        """What gives the batches of an epoch: slices of an order over tensors, where that is the same work."""
        run, tables = self.run, recipe.tables["data"]
        smallest, largest = run.feed.batch_sizes
        reason = "they are augmented" if tables["augment"] else "a schedule sets their size" * (smallest != largest)
        size = 0
        parts: list[tuple[Tensor, Tensor]] = []
        for batch in run.feed.train(0) if not reason else ():
            size += batch.inputs.nbytes + batch.targets.nbytes
            if tables["loading"] == "streamed" or size > MOST_BYTES:
                reason = "the data does not stay in memory"
                break
            parts.append((batch.inputs, batch.targets))
        if reason:
            self.notes.append(f"the raw loop is given trainkit's batches: {reason}")
            return lambda epoch: ((batch.inputs, batch.targets) for batch in run.feed.train(epoch))
        inputs, targets = (torch.cat(tensors) for tensors in zip(*parts, strict=True))

        def train(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
            order = torch.randperm(len(inputs), device=inputs.device)
            for index in order.split(run.feed.batch_size):  # type: ignore[no-untyped-call]
                yield inputs.index_select(0, index), targets.index_select(0, index)

        return train

    def train(self, warm: int, updates: int, mark: Callable[[], None]) -> None:
        """Make updates, and call ``mark`` after the first ``warm`` of them and at the end."""
        batches = self._updates()
        for _ in range(warm):
            self._update(next(batches))
        mark()
        for _ in range(updates):
            self._update(next(batches))
        mark()

    def _updates(self) -> Iterator[list[tuple[Tensor, Tensor]]]:
        epoch, accumulate = 0, self.run.clock.accumulate
        while True:
            held = []
            for batch in self._batches(epoch):
                held.append(batch)
                if len(held) == accumulate:
                    yield held
                    held = []
            if held:
                yield held
            epoch += 1

    def _update(self, batches: list[tuple[Tensor, Tensor]]) -> None:
        run, optimizer = self.run, self.optimizer
        model, loss_of, scaler = run.model, run.loss, run.precision.scaler

        def gradients() -> Tensor:
            optimizer.zero_grad()
            total: Any = 0.0
            for inputs, targets in batches:
                with run.precision.context():
                    loss = loss_of(model(inputs), targets) / len(batches)
                scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
                total = total + loss.detach()
            return torch.as_tensor(total)

        if self.needs_closure:
            optimizer.step(Closure(gradients, lambda: None))
        elif scaler.is_enabled() or len(batches) > 1:
            gradients()
            scaler.step(optimizer)
            scaler.update()
        else:  # as tight as it gets
            ((inputs, targets),) = batches
            with run.precision.context():
                loss = loss_of(model(inputs), targets)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()


def torch_optimizer(recipe: Recipe, groups: list[dict[str, Any]]) -> torch.optim.Optimizer | None:
    """The optimizer of ``torch.optim`` that has the name and all settings of the recipe's; ``None`` if there is none.

    Args:
        recipe: the recipe.
        groups: the parameter groups as they begin.
    """
    table, component = recipe.tables["optimizer"], recipe.components[("optimizer",)]
    classes = {name.lower(): kind for name, kind in vars(torch.optim).items() if inspect.isclass(kind)}
    kind: Any = classes.get(component.name)
    if kind is None or table["wrap"] or table["rest"] is not None:
        return None
    takes = inspect.signature(kind).parameters
    own = [setting.name for setting in component.settings]
    if not set(own) <= set(takes):
        return None
    settings = {name: _plain(table[name]) for name in own}
    parts = [{"params": g["params"], **{key: _plain(g[key]) for key in own if key in g}} for g in groups]
    for fused in ({"fused": True}, {}):
        try:
            made: torch.optim.Optimizer = kind(parts, **settings, **fused)
        except (RuntimeError, TypeError, ValueError):  # not fused here, or other values than ours
            continue
        return made
    return None


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
