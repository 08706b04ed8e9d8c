"""Linear models of a table of numbers: multinomial logistic regression, and ridge regression."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import one_hot

SETTLED = 1e-7  # no slope is steeper where the search for a result ends
ROUGHLY = 1e-5  # the same for what is only compared with other results
UNSEEN = 1e-6  # probability of a class that no sample has
ROUNDS = 25  # changes of coordinates, at most
STEPS = 40  # of L-BFGS, from one change of coordinates to the next
MOST_WORK = 3e8  # multiplications for the curvature of each class by itself; above it, one for all classes
LEAST_CURVATURE = 1e-12  # what is flatter is taken for this: its inverse root would be boundless

Fitted = tuple[Tensor, Tensor]  # weights (classes or outputs, columns), and biases


def fit_classes(
    table: Tensor,
    classes: Tensor,
    count: int,
    strength: float,
    start: Fitted | None = None,
    settled: float = SETTLED,
) -> Fitted:
    """Multinomial logistic regression: negative log likelihoods times ``strength``, and half the squared weights.

    As scikit-learn's ``LogisticRegression(C=strength)``; likelihoods are added up, and the bias is not penalised.

    Args:
        table: ``(samples, columns)`` float64.
        classes: ``(samples,)`` int64.
        count: how many classes there are.
        strength: C, the inverse of the penalty.
        start: what it begins with, such as the result for another penalty; ``None``: with zeros.
        settled: the steepest slope that may be left.

    Returns:
        ``(classes, columns)`` weights and ``(classes,)`` biases. A class that no sample has gets a probability of about
        1e-6: the likeliest bias would be an infinite one.
    """
    present, classes = torch.unique(classes, return_inverse=True)
    begin = None if start is None else (start[0][present], start[1][present])
    weight, bias = _fit_present(table, classes, len(present), strength, begin, settled)
    whole = torch.zeros(count, table.shape[1], dtype=torch.float64)
    others = torch.full((count,), math.log(UNSEEN), dtype=torch.float64)
    whole[present], others[present] = weight, bias
    return whole, others


def _fit_present(
    table: Tensor, classes: Tensor, count: int, strength: float, start: Fitted | None, settled: float
) -> Fitted:
    """L-BFGS, every 40 steps in other coordinates, in which the curvature where it is is near the same everywhere.

    The columns are much alike, so that without these it takes hundreds of steps.
    """
    centre = table.mean(0)
    ones = torch.ones(len(table), 1, dtype=torch.float64)
    scaled = torch.cat([table - centre, ones], dim=1)  # the last weight is the bias
    truth = one_hot(classes, count).double()
    weight = torch.zeros(count, scaled.shape[1], dtype=torch.float64)
    if start is not None:
        weight = torch.cat([start[0], (start[1] + start[0] @ centre)[:, None]], dim=1)
    penalty = torch.full((scaled.shape[1],), 1 / (strength * len(table)), dtype=torch.float64)
    penalty[-1] = 0
    with torch.no_grad():
        for _ in range(ROUNDS):
            weight, slope = _several_steps(weight, _coordinates(weight, scaled, penalty), scaled, truth, penalty)
            if slope < settled:
                break
    return weight[:, :-1], weight[:, -1] - weight[:, :-1] @ centre


def _coordinates(weight: Tensor, scaled: Tensor, penalty: Tensor) -> Tensor:
    """For each class, or for all alike where that would be too much work, the inverse root of the curvature."""
    likely = (scaled @ weight.T).softmax(1)
    bend = likely * (1 - likely)
    if bend.numel() * scaled.shape[1] ** 2 > MOST_WORK:
        bend = bend.mean(1, keepdim=True)
    curvature = torch.stack([(scaled * one[:, None]).T @ scaled for one in bend.T]) / len(scaled) + penalty.diag()
    values, vectors = torch.linalg.eigh(curvature)
    roots = vectors * values.clamp(min=LEAST_CURVATURE).rsqrt()[:, None]
    into: Tensor = roots @ vectors.mT
    return into.expand(len(weight), -1, -1)


def _several_steps(
    weight: Tensor, into: Tensor, scaled: Tensor, truth: Tensor, penalty: Tensor
) -> tuple[Tensor, float]:
    """The weights after 40 steps, and the steepest slope that is left."""
    turned = torch.linalg.solve(into, weight[:, :, None]).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [turned], max_iter=STEPS, tolerance_grad=0, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        own = (into @ turned).squeeze(2)
        logs = (scaled @ own.T).log_softmax(1)
        slope = (logs.exp() - truth).T @ scaled / len(scaled) + penalty * own
        turned.grad = into @ slope[:, :, None]
        value: Tensor = 0.5 * (penalty * own.square()).sum() - (logs * truth).sum() / len(scaled)
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    closure()
    assert turned.grad is not None
    found: Tensor = into @ turned.detach()
    return found.squeeze(2), float(turned.grad.abs().max())


def fit_numbers(table: Tensor, targets: Tensor, strength: float) -> Fitted:
    """Ridge regression: squared errors, and squared weights divided by ``strength``; the bias is not penalised.

    Args:
        table: ``(samples, columns)`` float64.
        targets: ``(samples, outputs)`` float64.
        strength: C, the inverse of the penalty.

    Returns:
        ``(outputs, columns)`` weights and ``(outputs,)`` biases.
    """
    centre, middle = table.mean(0), targets.mean(0)
    scaled = table - centre
    gram = scaled.T @ scaled + torch.eye(table.shape[1], dtype=torch.float64) / strength
    weight = torch.linalg.solve(gram, scaled.T @ (targets - middle)).T
    return weight, middle - weight @ centre
