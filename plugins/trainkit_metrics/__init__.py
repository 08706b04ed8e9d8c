"""Metrics: each is a figure over a whole split, the same whatever the batches.

What can be counted is counted on the device as batches come, without waiting for it and without a library; auroc keeps
outputs and targets, and leaves the figure to scikit-learn, which is exact where torchmetrics rounds to float32. Outputs
that are not finite give a figure that is not finite, where it is made of distances or probabilities. Listing the
metrics does not import torch.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from trainkit import Component, DataSpec, PositiveInt, hookimpl
from trainkit_metrics.uncertain import coverage, density_nll, interval_width, pinball

if TYPE_CHECKING:
    from trainkit import Metric


def accuracy(data_spec: DataSpec, /) -> Metric:
    """Share of samples whose most likely class is the target's; a probability target counts as its likeliest class.

    Of tokens it is the share of all positions.

    Raises:
        DataError: if the data has no classes; on computing, if there was no sample.
    """
    from trainkit_metrics.counting import Share, right
    from trainkit_metrics.fit import need_classes

    return Share("accuracy", True, partial(right, classes=need_classes(data_spec, "accuracy")))


def error(data_spec: DataSpec, /) -> Metric:
    """Share of samples whose most likely class is not the target's: 1 - accuracy.

    Raises:
        DataError: if the data has no classes; on computing, if there was no sample.
    """
    from trainkit_metrics.counting import Share, wrong
    from trainkit_metrics.fit import need_classes

    return Share("error", False, partial(wrong, classes=need_classes(data_spec, "error")))


def top_k(data_spec: DataSpec, /, *, k: PositiveInt = 5) -> Metric:
    """Share of samples whose target class is among the ``k`` most likely.

    Args:
        k: how many classes may be named; below the number of classes.

    Raises:
        DataError: if the data is not a classification of more than ``k`` classes; on computing, if there was no sample.
    """
    from trainkit_metrics.counting import Share, among_likeliest
    from trainkit_metrics.fit import need_more_classes

    return Share("top_k", True, partial(among_likeliest, classes=need_more_classes(data_spec, k), k=k), False)


def f1(data_spec: DataSpec, /) -> Metric:
    """Macro F1: the plain mean of each class's F1, over the classes that occur as target or prediction.

    Binary data counts as two classes.

    Raises:
        DataError: if the data has no classes; on computing, if there was no sample.

    Source: Opitz & Burst 2019, "Macro F1 and Macro F1", arXiv 1911.03347, section 2 (averaged F1).
    """
    from trainkit_metrics.counting import MacroF1
    from trainkit_metrics.fit import need_classes

    return MacroF1(need_classes(data_spec, "f1"))


def balanced_accuracy(data_spec: DataSpec, /) -> Metric:
    """Plain mean of each class's recall, over the classes that occur: accuracy if all classes were equally frequent.

    Binary data counts as two classes.

    Raises:
        DataError: if the data has no classes; on computing, if there was no sample.

    Source: Brodersen et al. 2010, "The balanced accuracy and its posterior distribution".
    """
    from trainkit_metrics.counting import MeanRecall
    from trainkit_metrics.fit import need_classes

    return MeanRecall(need_classes(data_spec, "balanced_accuracy"))


def average_precision(data_spec: DataSpec, /) -> Metric:
    """Precision averaged over the recall of all thresholds: the area under the precision-recall curve.

    Of binary data and of two classes it is that of the second class; of several classes the plain mean of each class
    against the others. Without any skill it is the share of the class. Keeps outputs and targets of the whole split.

    Raises:
        DataError: if the data has no classes; on computing, if no sample is of the class.

    Source: scikit-learn's average_precision_score; Davis & Goadrich 2006, "The relationship between precision-recall
    and ROC curves".
    """
    from trainkit_metrics.fit import need_classes
    from trainkit_metrics.ranking import AveragePrecision

    return AveragePrecision(need_classes(data_spec, "average_precision", tokens=False))


def ece(data_spec: DataSpec, /, *, bins: PositiveInt = 15) -> Metric:
    """Expected calibration error: how far confidence is from accuracy, over bins of equal width.

    Confidence is the probability of the predicted class, also for binary data.

    Args:
        bins: number of bins over the confidences from 0 to 1.

    Raises:
        DataError: if the data has no classes; on computing, if there was no sample.

    Source: Guo et al. 2017, "On calibration of modern neural networks", arXiv 1706.04599, eq. 3.
    """
    from trainkit_metrics.counting import CalibrationError
    from trainkit_metrics.fit import need_classes

    return CalibrationError(need_classes(data_spec, "ece"), bins)


def auroc(data_spec: DataSpec, /) -> Metric:
    """Area under the ROC curve, exact; with several classes the plain mean of each class against the others.

    Keeps outputs and targets of the whole split on the device. Classes without a sample in the split are left out of
    the mean.

    Raises:
        DataError: if the data has no classes, or they are of tokens; on computing, if fewer than two classes occur.

    Source: Fawcett 2006, "An introduction to ROC analysis", section 7; multi-class after Provost & Domingos 2000,
    unweighted.
    """
    from trainkit_metrics.fit import need_classes
    from trainkit_metrics.ranking import Auroc

    return Auroc(need_classes(data_spec, "auroc", tokens=False))


def mae(data_spec: DataSpec, /, *, each: bool = False) -> Metric:
    """Mean absolute error over samples and outputs, in the units of the original targets.

    Args:
        each: also give the figure of each target by its name (or number), as ``mae.price``; ``mae.all`` is of all.

    Raises:
        DataError: if the data is not a regression; on computing, if there was no sample.
    """
    from trainkit_metrics.distances import MeanError
    from trainkit_metrics.fit import names_of, need_numbers

    return MeanError("mae", 1, need_numbers(data_spec, "mae"), names_of(data_spec) if each else ())


def rmse(data_spec: DataSpec, /, *, each: bool = False) -> Metric:
    """Root of the mean squared error over samples and outputs, in the units of the original targets.

    Args:
        each: also give the figure of each target by its name (or number), as ``rmse.price``; ``rmse.all`` is of all.

    Raises:
        DataError: if the data is not a regression; on computing, if there was no sample.
    """
    from trainkit_metrics.distances import MeanError
    from trainkit_metrics.fit import names_of, need_numbers

    return MeanError("rmse", 2, need_numbers(data_spec, "rmse"), names_of(data_spec) if each else ())


def r2(data_spec: DataSpec, /, *, each: bool = False) -> Metric:
    """Share of the targets' variance that the outputs explain, plain mean over the outputs; at most 1.

    An output whose targets are all equal has no variance to explain: it counts 1 if every one is met, else 0, as in
    scikit-learn.

    Args:
        each: also give the figure of each target by its name (or number), as ``r2.price``; ``r2.all`` is of all.

    Raises:
        DataError: if the data is not a regression; on computing, if there was no sample.
    """
    from trainkit_metrics.distances import Determination
    from trainkit_metrics.fit import names_of, need_numbers

    need_numbers(data_spec, "r2")
    return Determination(names_of(data_spec) if each else ())


@hookimpl
def trainkit_components() -> list[Component]:
    """List the metrics."""
    # As the figures say themselves once they are built; a search has to know before.
    higher, lower = {"higher_is_better": True}, {"higher_is_better": False}
    sklearn = {"sklearn": "pip install 'trainkit[standard]'"}
    return [
        Component("metric", accuracy, capabilities=higher),
        Component("metric", error, capabilities=lower),
        Component("metric", top_k, example={"k": 2}, capabilities=higher),
        Component("metric", f1, capabilities=higher),
        Component("metric", balanced_accuracy, capabilities=higher),
        Component("metric", average_precision, libraries=sklearn, capabilities=higher),
        Component("metric", ece, example={"bins": 10}, capabilities=lower),
        Component("metric", auroc, libraries=sklearn, capabilities=higher),
        Component("metric", mae, capabilities=lower),
        Component("metric", rmse, capabilities=lower),
        Component("metric", r2, capabilities=higher),
        Component("metric", coverage, example={"level": 0.9}, capabilities=higher),
        Component("metric", interval_width, example={"level": 0.9}, capabilities=lower),
        Component("metric", pinball, example={"levels": [0.1, 0.5, 0.9]}, capabilities=lower),
        Component("metric", density_nll, capabilities=lower),
    ]
