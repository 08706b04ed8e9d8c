"""Spaces that searchers are held to their contracts in, and a figure for any point of theirs."""

from __future__ import annotations

import math

from trainkit.space import Dimension, Limit, Point, Space

# One setting of each sort; momentum counts with sgd, and beta2 with the two others.
MIXED = Space(
    (
        Dimension("optimizer.lr", "float", 1e-4, 1.0, "log"),
        Dimension("optimizer.use", "choice", choices=("sgd", "adam", {"use": "lion"})),
        Dimension("optimizer.momentum", "float", 0.0, 0.95, step=0.05, when={"optimizer.use": (0,)}),
        Dimension("optimizer.beta2", "float", 0.9, 0.9999, "logit", when={"optimizer.use": (1, 2)}),
        Dimension("model.width", "int", 8, 512, "log"),
        Dimension("model.depth", "int", 1, 7, step=2),
        Dimension("run.warmup", "float", 0.5, 4.0, unit="ep"),
    )
)
LIMITED = Space(
    (
        Dimension("model.width", "int", 1, 64, "log"),
        Dimension("model.depth", "int", 1, 16),
        Dimension("dropout", "float", 0.0, 0.5),
    ),
    (Limit(("model.width", "model.depth"), "product", "at_most", 64), Limit(("dropout",), "sum", "below", 0.4)),
)
NUMBERS = Space(
    (Dimension("optimizer.lr", "float", 1e-4, 1.0, "log"), Dimension("optimizer.momentum", "float", 0.0, 0.99))
)
# 13 points: 3 depths with adam, 12 with sgd, less the two that are forbidden.
SMALL = Space(
    (
        Dimension("optimizer.use", "choice", choices=("sgd", "adam")),
        Dimension("optimizer.momentum", "float", 0.0, 0.9, step=0.3, when={"optimizer.use": (0,)}),
        Dimension("model.depth", "int", 1, 3),
    ),
    (Limit(("model.depth", "optimizer.momentum"), "sum", "below", 3.5),),
)
# No point of it meets the constraint.
EMPTY = Space(
    (*NUMBERS.dimensions, Dimension("model.dropout", "float", 0.5, 1.0)),
    (Limit(("model.dropout",), "sum", "below", 0.5),),
)
SPACES = {"mixed": MIXED, "limited": LIMITED, "numbers": NUMBERS, "small": SMALL}


def any_figure(point: Point, share: float) -> float:
    """Some figure of a point of any of the spaces after a share of its run: from 0 to about 3, lower is better."""
    terms = []
    for name, one in point.items():
        number = float(str(one).removesuffix("ep")) if not isinstance(one, dict) and str(one)[0].isdigit() else 0.3
        terms.append(abs(math.log(number + 0.01) - len(name) / 10))
    return 0.02 / share + sum(terms) / len(terms) / 2
