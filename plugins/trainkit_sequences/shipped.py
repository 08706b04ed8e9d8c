"""Sequences at hand: one series that is printed in books, and one made by published formulas."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainkit import Dataset, split_by_fraction
from trainkit_sequences.labelled import sequence_data
from trainkit_sequences.windows import Course, Shape, series_data

# Thousands of international airline passengers, January 1949 to December 1960; Box & Jenkins 1976, series G.
_PASSENGERS = """
112 118 132 129 121 135 148 148 136 119 104 118 115 126 141 135 125 149 170 170 158 133 114 140
145 150 178 163 172 178 199 199 184 162 146 166 171 180 193 181 183 218 230 242 209 191 172 194
196 196 236 235 229 243 264 272 237 211 180 201 204 188 235 227 234 264 302 293 259 229 203 229
242 233 267 269 270 315 364 347 312 274 237 278 284 277 317 313 318 374 413 405 355 306 271 306
315 301 356 348 355 422 465 467 404 347 305 336 340 318 362 348 363 435 491 505 404 359 310 337
360 342 406 396 420 472 548 559 463 407 362 405 417 391 419 461 472 535 622 606 508 461 390 432
"""
CHARTS = ("normal", "cyclic", "increasing", "decreasing", "upward shift", "downward shift")


def passengers() -> list[float]:
    """The 144 months."""
    return [float(word) for word in _PASSENGERS.split()]


def airline_data(shape: Shape, *, val: float, test: float, scale: bool) -> Dataset:
    """Windows of the airline's months; see `trainkit_sequences.data.airline`."""
    values = torch.tensor(passengers(), dtype=torch.float64)[:, None]
    course = Course(values, 1, torch.arange(len(values)), (len(values),), ("passengers",), "airline")
    return series_data(course, shape, val=val, test=test, scale=scale)


def charts_data(
    *, samples: int, steps: int, shortest: int, data_seed: int, val: float, test: float, split_seed: int, scale: bool
) -> Dataset:
    """Control charts; see `trainkit_sequences.data.control_charts`."""
    chance = torch.Generator().manual_seed(data_seed)
    values: list[Tensor] = []
    labels: list[int] = []
    for label in range(len(CHARTS)):
        for _ in range(samples):
            length = int(torch.randint(shortest, steps + 1, (), generator=chance))
            values.append(chart(label, length, chance)[None])
            labels.append(label)
    targets = torch.tensor(labels)
    parts = split_by_fraction(targets, {"val": val, "test": test}, split_seed)
    return sequence_data(values, targets, parts, task="classification", classes=CHARTS, scale=scale)


def chart(label: int, steps: int, chance: torch.Generator) -> Tensor:
    """One chart of a class, ``(steps,)`` float64."""

    def drawn(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=chance, dtype=torch.float64)

    time = torch.arange(1, steps + 1, dtype=torch.float64)
    values = 30 + 2 * drawn(-3, 3, steps)
    if CHARTS[label] == "cyclic":
        return values + drawn(10, 15) * torch.sin(2 * math.pi * time / drawn(10, 15))
    if CHARTS[label] in ("increasing", "decreasing"):
        slope = drawn(0.2, 0.5)
        return values + (slope if CHARTS[label] == "increasing" else -slope) * time
    if CHARTS[label] in ("upward shift", "downward shift"):
        height, since = drawn(7.5, 20), drawn(steps / 3, 2 * steps / 3)
        return values + (height if CHARTS[label] == "upward shift" else -height) * (time >= since)
    return values
