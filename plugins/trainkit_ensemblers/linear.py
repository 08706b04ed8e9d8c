"""Linear models of a table of numbers: multinomial logistic regression, and ridge regression."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import one_hot

ITERATIONS, SETTLED = 1000, 1e-7
UNSEEN = 1e-6


def fit_classes(table: Tensor, classes: Tensor, count: int, strength: float) -> tuple[Tensor, Tensor]:
    """Multinomial logistic regression: negative log likelihoods times ``strength``, and half the squared weights.

    As scikit-learn's ``LogisticRegression(C=strength)``; likelihoods are added up, and the bias is not penalised.

    Args:
        table: ``(samples, columns)`` float64.
        classes: ``(samples,)`` int64.
        count: how many classes there are.
        strength: C, the inverse of the penalty.

    Returns:
        ``(classes, columns)`` weights and ``(classes,)`` biases. A class that no sample has gets a probability of about
        1e-6: the likeliest bias would be an infinite one.
    """
    present, classes = classes.unique(return_inverse=True)
    weight, bias = _fit_present(table, classes, len(present), strength)
    whole = torch.zeros(count, table.shape[1], dtype=torch.float64)
    others = torch.full((count,), math.log(UNSEEN), dtype=torch.float64)
    whole[present], others[present] = weight, bias
    return whole, others


def _fit_present(table: Tensor, classes: Tensor, count: int, strength: float) -> tuple[Tensor, Tensor]:
    centre = table.mean(0)
    scaled = table - centre
    # Columns are much alike, which makes for many steps. In coordinates in which the curvature at the start is the same
    # in all directions there are few; the penalty stays that of the weights themselves.
    share = strength * len(table)
    values, vectors = torch.linalg.eigh(scaled.T @ scaled / (count * len(table)) + _unit(table) / share)
    into = vectors @ (values.rsqrt()[:, None] * vectors.T)
    turned = scaled @ into
    weight = torch.zeros(count, table.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(count, dtype=torch.float64, requires_grad=True)
    truth = one_hot(classes, count).double()
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=ITERATIONS,
        tolerance_grad=SETTLED,
        tolerance_change=0,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        logs = (turned @ weight.T + bias).log_softmax(1)
        own = weight @ into
        slope = (logs.exp() - truth) / len(table)
        weight.grad = slope.T @ turned + own @ into / share
        bias.grad = slope.sum(0)
        return 0.5 * own.square().sum() / share - (logs * truth).sum() / len(table)

    with torch.no_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
        found = weight @ into
        return found, bias - found @ centre


def _unit(table: Tensor) -> Tensor:
    return torch.eye(table.shape[1], dtype=torch.float64)


def fit_numbers(table: Tensor, targets: Tensor, strength: float) -> tuple[Tensor, Tensor]:
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
    gram = scaled.T @ scaled + _unit(table) / strength
    weight = torch.linalg.solve(gram, scaled.T @ (targets - middle)).T
    return weight, middle - weight @ centre
