"""Pictures of what an autoencoder makes of images."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trainkit import Metrics, Run, as_pixels, hookimpl, predicted, write_picture
from trainkit_unsupervised.evidence import evaluating
from trainkit_unsupervised.variational import Vae

if TYPE_CHECKING:
    from trainkit import DataSpec

TILE = 32  # pixels that the shorter side of a small image is enlarged to, by a whole factor, at most
WALKS = 6  # rows of a walk
EDGE = 0.05  # of the prior's probability on each side that a map leaves out


class Drawing:
    """See `trainkit_unsupervised.pictures`."""

    stateless = True  # every evaluation draws them anew

    def __init__(self, data_spec: DataSpec, columns: int, split: str, seed: int) -> None:
        self.spec = data_spec
        self.columns = columns
        self.split = split
        self.seed = seed
        self.trains = False

    @hookimpl
    def trainkit_run_start(self) -> None:
        self.trains = True  # where a finished run is measured, its folder stays as it is

    @hookimpl(wrapper=True, trylast=True)  # within those that exchange the weights
    def trainkit_evaluate(self, run: Run, split: str) -> Generator[None, Metrics, Metrics]:
        figures = yield
        if self.trains and split == ("val" if run.feed.spec.sizes.get("val") else "test"):
            self._write(run)
        return figures

    def _write(self, run: Run) -> None:
        if run.group.first:
            for name, pixels in self.draw(run).items():
                write_picture(run.folder, name, pixels)

    def draw(self, run: Run) -> dict[str, Any]:
        """Pixels of each picture by name, with the weights that the model has now."""
        model: Any = run.model
        split = self.split if run.feed.spec.sizes.get(self.split) else "train"
        shown = run.feed.spread(split, 2 * self.columns).inputs.to(run.device)
        with evaluating(run):
            codes = model.encode(shown)
            sets = {"walk": self._walk(codes)} if len(codes) > 1 else {}  # there is somewhere to go
            if isinstance(model, Vae):
                sets |= {"map": self._map()} if model.latent == 2 else {"samples": self._prior(model.latent)}
            made = {name: self._images(run, model.decode(part.to(codes))) for name, part in sets.items()}
            back = self._images(run, model.decode(codes))
        shown = shown.float().cpu()
        pairs = [
            row
            for first in range(0, len(shown), self.columns)
            for row in (shown[first : first + self.columns], back[first : first + self.columns])
        ]
        low, high = shown.amin((0, 2, 3), keepdim=True), shown.amax((0, 2, 3), keepdim=True)
        rows = {"reconstructions": pairs} | {name: list(torch.split(part, self.columns)) for name, part in made.items()}
        # What leaves the range of the images would leave no contrast to the rest.
        return {
            name: self._page([torch.minimum(torch.maximum(row, low), high) for row in part], low, high)
            for name, part in rows.items()
        }

    def _images(self, run: Run, rows: Tensor) -> Tensor:
        """Images ``(count, channels, height, width)`` of what the decoder gives."""
        return predicted(run.loss, rows).float().cpu().reshape(-1, *self.spec.input_shape)

    def _walk(self, codes: Tensor) -> Tensor:
        """Codes on the way from each of the first images to the one that comes so many columns later."""
        steps = torch.linspace(0, 1, self.columns, device=codes.device)[:, None]
        count = min(WALKS, len(codes) // 2)
        ends = zip(codes[:count], codes[len(codes) // 2 :], strict=False)
        return torch.cat([torch.lerp(first, last, steps.to(codes.dtype)) for first, last in ends])

    def _prior(self, latent: int) -> Tensor:
        chance = torch.Generator().manual_seed(self.seed)
        return torch.randn(self.columns**2, latent, generator=chance)

    def _map(self) -> Tensor:
        """Codes at equal shares of the prior's probability, along both latent numbers."""
        places = torch.special.ndtri(torch.linspace(EDGE, 1 - EDGE, self.columns))
        return torch.cartesian_prod(places.flip(0), places).flip(1)

    def _page(self, rows: list[Tensor], low: Tensor, high: Tensor) -> Any:
        """One picture of rows of images, with a line between them."""
        import numpy

        limits = [end.expand(1, *self.spec.input_shape)[0] for end in (low, high)]  # so that all pages have one scale
        flat = [image for row in rows for image in row]
        pixels = as_pixels([*flat, *limits], self.spec)[: len(flat)]
        side = pixels[0].shape
        factor = max(1, TILE // min(side[:2]))
        white = 255
        tall, wide = side[0] * factor + 2, side[1] * factor + 2
        page = numpy.full((tall * len(rows), wide * self.columns, *side[2:]), white, numpy.uint8)
        place = iter(pixels)
        for number, row in enumerate(rows):
            for column in range(len(row)):
                tile = next(place).repeat(factor, axis=0).repeat(factor, axis=1)
                top, left = number * tall + 1, column * wide + 1
                page[top : top + tall - 2, left : left + wide - 2] = tile
        return page
