"""What a model made of a split, as parts of a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from trainkit.evidence import wilson
from trainkit.page import (
    Bars,
    Block,
    Curves,
    Facts,
    Heatmap,
    Image,
    Line,
    Pictures,
    Point,
    Scatter,
    Section,
    Table,
    Text,
)
from trainkit.report.look import Bin, Layer, Look
from trainkit.report.look_levels import level_blocks
from trainkit.report.look_token_blocks import token_blocks, token_texts
from trainkit.report.samples import Sample

MOST_CLASSES = 40  # of a matrix, beyond which nothing in it can be read
MOST_PAIRS = 20
MOST_POINTS = 1500
MOST_OUTPUTS = 4
RESIDUAL_BINS = 21
_WORDS = {
    "nll": "negative log likelihood (nats)",
    "bits_per_byte": "bits per byte",
    "brier": "Brier score",
    "ece": "calibration error (ECE)",
    "mse": "mean squared error",
    "mae": "mean absolute error",
    "r2": "explained share (r2)",
}


def look_sections(look: Look) -> list[Section]:
    """Predictions, mistakes and first weights."""
    made = [_predictions(look)]
    if look.tokens is not None and look.tokens.texts:
        made.append(token_texts(look.tokens.texts))
    elif look.worst or look.sure:
        made.append(_mistakes(look))
    if look.layer is not None:
        made.append(_first_layer(look.layer))
    return made


def _predictions(look: Look) -> Section:
    blocks: list[Block] = [Text(text, "note") for text in look.notes]
    if look.figures:
        rows = [("samples", look.samples), *((_WORDS.get(name, name), value) for name, value in look.figures.items())]
        blocks.append(Facts(rows, f"on the {look.split} split"))
    if look.confusion is not None:
        blocks += _confusion(look)
    if look.tokens is not None:
        blocks += token_blocks(look.tokens)
    if look.bins:
        blocks += _calibration(look.bins, look.figures.get("ece"))
    if look.truth is not None:
        blocks += _errors(look)
    return Section(f"Predictions on {look.split}", blocks)


def _confusion(look: Look) -> list[Block]:
    names, counts = look.classes, look.confusion
    blocks: list[Block] = []
    if len(names) <= MOST_CLASSES:
        blocks.append(Heatmap("confusion matrix: samples", names, names, counts.tolist(), x="taken for", y="class"))
    wrong = counts.copy()
    for place in range(len(names)):
        wrong[place, place] = 0
    order = wrong.reshape(-1).argsort(kind="stable")[::-1][:MOST_PAIRS]
    pairs = [divmod(int(place), len(names)) for place in order if wrong.reshape(-1)[place]]
    if pairs:
        rows = [
            (names[true], names[taken], int(wrong[true, taken]), float(wrong[true, taken] / counts[true].sum()))
            for true, taken in pairs
        ]
        blocks.append(Table(("class", "taken for", "samples", "share of the class"), rows, "most frequent confusions"))
    right = counts.diagonal()
    every = [
        (name, int(own), _share(right[i], own), _share(right[i], counts[:, i].sum()))
        for i, (name, own) in enumerate(zip(names, counts.sum(1), strict=True))
        if own
    ]
    blocks.append(
        Table(("class", "samples", "of these found (recall)", "right where it is named (precision)"), every, "by class")
    )
    return blocks


def _share(part: Any, whole: Any) -> float | None:
    return float(part / whole) if whole else None


def _calibration(bins: Sequence[Bin], error: float | None) -> list[Block]:
    sure = [one.confidence for one in bins]
    ends = [wilson(one.accuracy, one.samples) for one in bins]
    lines = [
        Line("perfectly calibrated", {"confidence": (0.0, 1.0)}, (0.0, 1.0), style="dashed"),
        Line(
            *("model", {"confidence": sure}, [one.accuracy for one in bins]),
            low=[low for low, _ in ends],
            high=[high for _, high in ends],
            style="dots",
        ),
    ]
    title = "calibration" + ("" if error is None else f": calibration error {error:.4f}")
    return [
        Curves(title, lines, unit="share that is right", smooth=False),
        Bars(
            "samples by confidence", [f"{one.low:.2f} to {one.high:.2f}" for one in bins], [one.samples for one in bins]
        ),
        Text(
            "A point for each of 15 equal ranges of the likeliest class's probability that holds samples; the band is "
            "the 95 % interval of its share (Wilson). Below the dashed line the model is surer than it is right."
        ),
    ]


def _errors(look: Look) -> list[Block]:
    blocks: list[Block] = []
    outputs = look.truth.shape[1]
    for number in range(min(outputs, MOST_OUTPUTS)):
        named = f"'{look.targets[number]}'" if look.targets else f"output {number}"
        of = f" of {named}" if outputs > 1 else ""
        truth, predicted = look.truth[:, number], look.predicted[:, number]
        step = -(-len(truth) // MOST_POINTS)
        places = [i for i in range(0, len(truth), step) if math.isfinite(predicted[i])]
        both = [*truth[places].tolist(), *predicted[places].tolist()]
        if not both:
            blocks.append(Text(f"No prediction{of} is finite.", "bad"))
            continue
        low, high = min(both), max(both)
        points = [Point(float(truth[i]), float(predicted[i]), f"sample {i}", "samples") for i in places]
        ideal = [Point(end, end, "as it should be", "as it should be") for end in (low, high)]
        blocks.append(
            Scatter(f"predicted{of} against true", [*points, *ideal], "true", "predicted", path="as it should be")
        )
        residuals = (predicted - truth)[places]
        zero = [Point(end, 0.0, "no error", "no error") for end in (low, high)]
        left = [
            Point(float(predicted[i]), float(error), f"sample {i}", "samples")
            for i, error in zip(places, residuals, strict=True)
        ]
        blocks.append(Scatter(f"residuals{of}", [*left, *zero], "predicted", "predicted - true", path="no error"))
        blocks.append(_histogram(f"distribution of residuals{of}", residuals.tolist()))
    if outputs > MOST_OUTPUTS:
        blocks.append(Text(f"The first {MOST_OUTPUTS} of {outputs} outputs are shown."))
    if len(look.truth) > MOST_POINTS:
        blocks.append(Text(f"Points: every {-(-len(look.truth) // MOST_POINTS)}th sample."))
    return [*blocks, *level_blocks(look.levels)]


def _histogram(title: str, values: Sequence[float]) -> Bars:
    reach = max(map(abs, values)) or 1.0
    counts = [0] * RESIDUAL_BINS
    for value in values:
        counts[min(RESIDUAL_BINS - 1, int((value / reach + 1) / 2 * RESIDUAL_BINS))] += 1
    middles = [(2 * (i + 0.5) / RESIDUAL_BINS - 1) * reach for i in range(RESIDUAL_BINS)]
    return Bars(title, [f"{middle:.3g}" for middle in middles], counts, unit="samples")


def _mistakes(look: Look) -> Section:
    blocks: list[Block] = []
    what = "highest loss" if look.task != "regression" else "largest errors"
    blocks += _shown(what, look.worst, look)
    if look.sure:
        blocks += _shown("mistakes it is surest of", look.sure, look)
    elif look.task != "regression":
        blocks.append(Text(f"No sample of {look.split} is taken for another class.", "good"))
    return Section("Worst samples", blocks)


def _shown(title: str, samples: Sequence[Sample], look: Look) -> list[Block]:
    if all(sample.pixels is not None for sample in samples):
        images = [Image(sample.pixels, _words(sample, look)) for sample in samples]
        return [Pictures(title, images)]
    heads = {"truth": "true", "taken": "taken for", "confidence": "confidence", "loss": "loss"}
    if look.task == "regression":
        heads = {"output": "output", "truth": "true", "taken": "predicted", "error": "error"}
        if look.truth.shape[1] == 1:
            del heads["output"]
    rows = [(sample.index, *(_name(look, sample, key) for key in heads)) for sample in samples]
    return [Table(("sample", *heads.values()), rows, title)]


def _name(look: Look, sample: Sample, key: str) -> str | float:
    """What is known of a sample, as a person reads it."""
    value = sample.told[key]
    if key in ("truth", "taken") and look.classes:
        return look.classes[int(value)]
    if key == "output" and look.targets:
        return look.targets[int(value)]
    return int(value) if key == "output" else value


def _words(sample: Sample, look: Look) -> str:
    truth, taken = (_name(look, sample, key) for key in ("truth", "taken"))
    if not look.classes:
        return f"#{sample.index}: true {truth:.4g}, predicted {taken:.4g}"
    sure = f"{sample.told['confidence']:.0%}"
    if truth == taken:
        return f"#{sample.index}: {truth}, at {sure} only"
    return f"#{sample.index}: {truth}, taken for {taken} at {sure}"


def _first_layer(layer: Layer) -> Section:
    shape = " x ".join(map(str, layer.shape))
    if layer.pictures is not None:
        images = [Image(pixels, str(number)) for number, pixels in enumerate(layer.pictures)]
        shown = f"the first {len(images)} of " if len(images) < layer.shape[0] else ""
        told = f"{layer.name}, {shape}: {shown}{layer.shape[0]} units; each by its own largest weight, grey is nought."
        return Section("First weights", [Text(told), Pictures(layer.name, images, size=64)])
    rows, columns = layer.matrix.shape
    heat = Heatmap(
        f"{layer.name}, {shape}",
        [str(i) for i in range(rows)],
        [str(i) for i in range(columns)],
        layer.matrix.tolist(),
        x="input",
        y="unit",
    )
    return Section("First weights", [heat])
