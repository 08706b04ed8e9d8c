"""Pictures of forecasts: what a window held, what came, and what was forecast."""

from __future__ import annotations

import itertools
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trainkit import Metrics, Run, hookimpl, predicted, write_picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDE, TALL, EDGE = 320, 140, 6  # pixels of a window, and between them
PAST, CAME, FORECAST, ORIGIN = (150, 150, 150), (20, 20, 20), (214, 96, 20), (220, 220, 220)
PAUSE_S = 10.0  # between two drawings while a run goes on


class Forecasts:
    """See `trainkit_sequences.forecasts`."""

    stateless = True  # every evaluation shows them anew

    def __init__(self, windows: int, columns: int, targets: int) -> None:
        self.windows = windows
        self.columns = columns
        self.targets = targets
        self.shown: Any = None
        self.written = -PAUSE_S

    @hookimpl(wrapper=True, trylast=True)  # within those that exchange the weights
    def trainkit_evaluate(self, run: Run, split: str) -> Generator[None, Metrics, Metrics]:
        figures = yield
        if split == "val" or (split == "train" and "val" not in run.feed.spec.sizes):
            self.shown = self.look(run, split)
        return figures

    @hookimpl
    def trainkit_epoch_end(self, run: Run) -> None:
        # Drawing takes longer than an epoch of a short series does, and nobody sees all of them.
        if time.monotonic() - self.written >= PAUSE_S:
            self._write(run)

    @hookimpl
    def trainkit_run_end(self, run: Run) -> None:
        self._write(run)

    def _write(self, run: Run) -> None:
        if self.shown is not None and run.group.first:
            write_picture(run.folder, "forecasts", self.draw(*self.shown))
            self.written = time.monotonic()
        self.shown = None

    def look(self, run: Run, split: str) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Past, what came and forecast of the first target, each ``(windows, steps)``, with the weights of now."""
        batch = run.feed.spread(split, self.windows)
        training = run.model.training
        run.model.eval()
        try:
            with torch.no_grad(), run.precision.context():
                outputs = predicted(run.loss, run.model(batch.inputs.to(run.device)))
        finally:
            run.model.train(training)
        came, forecast = (
            numbers.float().cpu().reshape(len(batch), self.targets, -1)[:, 0].double().numpy()
            for numbers in (batch.targets, outputs)
        )
        return batch.inputs[:, 0].double().numpy(), came, forecast

    def draw(self, past: NDArray[Any], came: NDArray[Any], forecast: NDArray[Any]) -> NDArray[np.uint8]:
        """Pixels ``(height, width, 3)`` of windows as `look` gives them."""
        panels = [panel(*rows) for rows in zip(past, came, forecast, strict=True)]
        lines = -(-len(panels) // self.columns)
        page = np.full((lines * (TALL + EDGE), min(len(panels), self.columns) * (WIDE + EDGE), 3), 255, np.uint8)
        for number, one in enumerate(panels):
            top, left = number // self.columns * (TALL + EDGE), number % self.columns * (WIDE + EDGE)
            page[top : top + TALL, left : left + WIDE] = one
        return page


def panel(past: NDArray[Any], came: NDArray[Any], forecast: NDArray[Any]) -> NDArray[np.uint8]:
    """One window, ``(height, width, 3)``: the past grey, what came black, the forecast orange from the last step on."""
    pixels = np.full((TALL, WIDE, 3), 255, np.uint8)
    everything = np.concatenate((past, came, forecast[np.isfinite(forecast)]))
    low, high = float(everything.min()), float(everything.max())
    steps = len(past) + len(came)

    def place(step: int, value: float) -> tuple[float, float]:
        down = (high - value) / (high - low) if high > low else 0.5
        return EDGE + (WIDE - 2 * EDGE - 1) * step / max(1, steps - 1), EDGE + (TALL - 2 * EDGE - 1) * down

    across = round(place(len(past) - 1, low)[0])
    pixels[:, across] = ORIGIN
    last = len(past) - 1
    _line(pixels, [place(step, value) for step, value in enumerate(past)], PAST)
    for values, colour in ((came, CAME), (forecast, FORECAST)):
        if np.isfinite(values).all():
            points = [past[-1], *values]
            _line(pixels, [place(last + step, value) for step, value in enumerate(points)], colour)
    return pixels


def _line(pixels: NDArray[np.uint8], points: list[tuple[float, float]], colour: tuple[int, int, int]) -> None:
    """Draw a line two pixels high through points ``(across, down)``."""
    for (left, above), (right, below) in itertools.pairwise(points):
        count = 2 + int(2 * max(abs(right - left), abs(below - above)))
        across = np.linspace(left, right, count).round().astype(int)
        down = np.linspace(above, below, count).round().astype(int)
        for shift in (0, 1):
            pixels[np.clip(down + shift, 0, TALL - 1), np.clip(across, 0, WIDE - 1)] = colour
