"""Several views of each image, whose outputs are averaged while the model is measured."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from trainkit import Metrics, Run, hookimpl


class SeveralViews:
    """See `trainkit_callbacks.on_measuring.several_views`."""

    stateless = True

    def __init__(self, flip: bool, shift: int, splits: Collection[str]) -> None:
        self.flip = flip
        self.shift = shift
        self.splits = splits

    def views(self, images: Tensor) -> Iterator[tuple[float, Tensor]]:
        """Each view of images ``(batch, channels, height, width)`` with its weight; the weights make 1."""
        placed = [(1.0, images)]
        if room := self.shift:
            height, width = images.shape[-2:]
            padded = functional.pad(images, (room,) * 4, mode="reflect")
            up_left, down_right = padded[..., :height, :width], padded[..., 2 * room :, 2 * room :]
            placed = [(0.5, images), (0.25, up_left), (0.25, down_right)]
        for weight, view in placed:
            if self.flip:
                yield weight / 2, view
                yield weight / 2, view.flip(-1)
            else:
                yield weight, view

    @hookimpl(wrapper=True)
    def trainkit_evaluate(self, run: Run, split: str) -> Generator[None, Metrics, Metrics]:
        if split not in self.splits:
            return (yield)
        plain = run.forward

        def averaged(inputs: Tensor) -> Tensor:
            parts = [weight * plain(view) for weight, view in self.views(inputs)]
            return torch.stack(parts).sum(0)

        run.forward = averaged
        try:
            return (yield)
        finally:
            run.forward = plain
