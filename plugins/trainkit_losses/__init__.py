"""Losses: each compares model outputs with targets and gives the mean over the batch.

Shapes must agree; nothing is broadcast. Half-precision outputs are compared in float32. Listing the losses does not
import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainkit import Component, DataSpec, Fraction, NonNegative, Positive, Problem, hookimpl, problem_at
from trainkit_losses.uncertain import gaussian_nll, quantile

if TYPE_CHECKING:
    from trainkit import Loss


def cross_entropy(
    data_spec: DataSpec,
    /,
    *,
    label_smoothing: Fraction = 0.0,
    class_weights: tuple[Positive, ...] | None = None,
    balance: bool = False,
) -> Loss:
    """Cross-entropy of the softmax of the outputs; targets are classes or probabilities of the classes.

    Of tokens it is the mean over all positions, in nats a token.

    With weights the mean is over the samples' weights, for both forms of targets, so that one-hot probabilities give
    what their classes give. (torch divides by the number of samples where targets are probabilities.)

    Args:
        label_smoothing: share of each target that is spread evenly over all classes.
        class_weights: weight of each class, in the order of the data's classes.
        balance: weigh each class by samples / (classes * samples of the class) of the training split.

    Raises:
        DataError: if the data is not a classification, the weights do not match its classes, or ``balance`` meets a
            class without training samples.

    Source: label smoothing of Szegedy et al. 2016, arXiv 1512.00567, section 7.
    """
    from trainkit_losses import classes
    from trainkit_losses.fit import need_task

    need_task(data_spec, "cross_entropy", "classification", "tokens")
    weights = classes.choose_weights(data_spec, class_weights, balance=balance)
    if weights is None:
        return classes.CrossEntropy(label_smoothing)
    return classes.WeightedCrossEntropy(label_smoothing, weights)


def nll(data_spec: DataSpec, /) -> Loss:
    """Negative log-likelihood, for a model whose outputs are log-probabilities already.

    Targets are classes or probabilities of the classes. The models that come with trainkit give logits: they need
    cross_entropy.

    Raises:
        DataError: if the data is not a classification.
    """
    from trainkit_losses import classes
    from trainkit_losses.fit import need_task

    need_task(data_spec, "nll", "classification", "tokens")
    return classes.negative_log_likelihood


def binary(data_spec: DataSpec, /, *, pos_weight: Positive | None = None, balance: bool = False) -> Loss:
    """Binary cross-entropy of one logit a sample; targets are 0, 1 or a probability in between.

    Args:
        pos_weight: factor on the loss of positive samples; the mean stays one over samples.
        balance: the factor that makes both classes count alike: negatives / positives of the training split.

    Raises:
        DataError: if the data is not binary, both settings are given, or ``balance`` meets a class without samples.
    """
    from trainkit_losses import classes
    from trainkit_losses.fit import need_task

    need_task(data_spec, "binary", "binary")
    return classes.Binary(classes.choose_pos_weight(data_spec, pos_weight, balance=balance))


def mse(data_spec: DataSpec, /) -> Loss:
    """Mean squared error over samples and outputs.

    Raises:
        DataError: if the data is not a regression.
    """
    from trainkit_losses import distances
    from trainkit_losses.fit import need_task

    need_task(data_spec, "mse", "regression")
    return distances.mean_squared


def mae(data_spec: DataSpec, /) -> Loss:
    """Mean absolute error over samples and outputs; less moved by outliers than mse.

    Raises:
        DataError: if the data is not a regression.
    """
    from trainkit_losses import distances
    from trainkit_losses.fit import need_task

    need_task(data_spec, "mae", "regression")
    return distances.mean_absolute


def huber(data_spec: DataSpec, /, *, delta: Positive = 1.0) -> Loss:
    """Half the squared error below ``delta``, linear above: mse for small errors, mae for outliers.

    Args:
        delta: error at which it turns linear, in the units of the targets as the model sees them (standardised).

    Raises:
        DataError: if the data is not a regression.

    Source: Huber 1964, "Robust estimation of a location parameter", section 6.
    """
    from trainkit_losses import distances
    from trainkit_losses.fit import need_task

    need_task(data_spec, "huber", "regression")
    return distances.Huber(delta)


def focal(
    data_spec: DataSpec,
    /,
    *,
    gamma: NonNegative = 2.0,
    class_weights: tuple[Positive, ...] | None = None,
    balance: bool = False,
) -> Loss:
    """Cross-entropy in which a sample counts the less the surer the model is of its class: (1 - p)^gamma as much.

    Of several classes or of two: of binary data the model gives one logit. With weights the mean is over the samples'
    weights. Probabilities that it leads to are less sure than those of cross-entropy.

    Args:
        gamma: how much less a sure sample counts; 0 is cross_entropy (or binary). A schedule may change it.
        class_weights: weight of each class, in the order of the data's classes; two for binary data.
        balance: weigh each class by samples / (classes * samples of the class) of the training split.

    Raises:
        DataError: if the data has no classes, the weights do not match them, or ``balance`` meets a class without
            training samples.

    Source: Lin et al. 2017, "Focal loss for dense object detection", arXiv 1708.02002, equations 4 and 5; for several
    classes Mukhoti et al. 2020, arXiv 2002.09437.
    """
    from trainkit_losses import classes
    from trainkit_losses.fit import need_task
    from trainkit_losses.focusing import Focal, WeightedFocal

    need_task(data_spec, "focal", "classification", "binary")
    weights = classes.choose_weights(data_spec, class_weights, balance=balance, loss="focal")
    binary = data_spec.task == "binary"
    return Focal(gamma, binary) if weights is None else WeightedFocal(gamma, binary, weights)


@hookimpl
def trainkit_check_recipe(recipe: Mapping[str, Any]) -> list[Problem] | None:
    """Find classes that are balanced twice."""
    if recipe["data"]["sampling"] != "balanced" or not recipe["loss"].get("balance"):
        return None
    message = '[loss] balance = true weighs rare classes more, and [data] sampling = "balanced" draws them more often'
    return [problem_at(recipe, "loss.balance", message, "each alone makes classes count alike: leave one of them out")]


@hookimpl
def trainkit_components() -> list[Component]:
    """List the losses."""
    able = {"compiles": True}
    return [
        Component("loss", cross_entropy, example={"label_smoothing": 0.1}, capabilities=able | {"lanes": True}),
        Component("loss", nll, capabilities=able),
        Component("loss", binary, example={"pos_weight": 2.0}, capabilities=able),
        Component("loss", focal, example={"gamma": 2.0}, capabilities=able | {"lanes": True}),
        Component("loss", mse, capabilities=able),
        Component("loss", mae, capabilities=able),
        Component("loss", huber, example={"delta": 0.5}, capabilities=able),
        Component("loss", gaussian_nll, capabilities=able),
        Component("loss", quantile, example={"levels": [0.05, 0.5, 0.95]}, capabilities=able),
    ]
